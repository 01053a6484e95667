# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as a playbook sees it: its arguments, its documentation, what it refuses; and with a unit of systemd, on a rig."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.args import BALANCER_ARGS, CONFIG_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.reload import UnitOrder
from tests.integration.haproxy.lab import Client
from tests.integration.haproxy.test_module import needs_root, play
from tests.integration.haproxy_config.conftest import Shop, snapshot


@needs_root
def test_a_playbook_is_refused_and_told_what_is_there(shop: Shop) -> None:
    """No unit of systemd runs the lab's HAProxy: the last thing that is looked at before the configuration is checked."""
    given = {
        "service": "shop", "owner": "test/shop", "folder": str(shop.conf), "socket": shop.lab.admin, "scope": "haproxy-config-test",
        "frontends": [shop.frontend()], "backend": shop.backend(), "servers": shop.params()["servers"], "reload": "osops-none.service",
    }  # fmt: skip
    before = snapshot(shop.conf), shop.lab.worker()
    unit, line, nothing, arguments, absent = (
        {"osops.lifecycle.haproxy_config": task}
        for task in (
            given,
            {**given, "frontends": [shop.frontend(options=["backend evil"])]},
            {"service": "shop", "owner": "test/shop", "socket": "/nowhere.sock", "state": "absent"},
            {"service": "shop", "owner": "test/shop"},
            {**given, "state": "absent"},
        )
    )
    refused, line, nothing, arguments, absent = play(shop.lab, [unit, line, nothing, arguments, absent])
    Path("/var/lib/osops/fence/haproxy-config-test").unlink(missing_ok=True)
    assert refused["verdict"]["code"] in ("haproxy.other_unit", "systemd.unreachable")
    assert "osops-none.service" in refused["msg"]
    assert (refused["failed"], refused["changed"], refused["reloads"]) == (True, False, 0)
    assert (refused["before"]["file"], refused["before"]["loaded"]) == ("missing", False)
    assert line["msg"].startswith("frontend shop, options: 'backend evil' begins another section.")
    assert nothing["verdict"]["code"] == "haproxy.socket_missing"
    assert "missing" in arguments["msg"] or "required" in arguments["msg"]
    assert all(name in arguments["msg"] for name in ("frontends", "backend", "servers"))
    assert (absent["changed"], absent["verdict"]["code"]) == (False, "haproxy.config_absent")
    assert (snapshot(shop.conf), shop.lab.worker()) == before


def test_a_unit_that_is_none() -> None:
    with pytest.raises(BadInputError, match="not the name of a service unit"):
        UnitOrder("haproxy.service; reboot")


def test_the_documented_playbook(shop: Shop, repository: Path) -> None:
    """The arguments of the page's playbook, with the lab's ports: there, announced, back, and gone."""
    text = (repository / "docs" / "haproxy_config.md").read_text()
    found, remove = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.S))
    given = found[0]["tasks"][0]["osops.lifecycle.haproxy_config"]
    assert given.pop("answer") == "{{ outage | default(omit) }}"
    owner = {"service": given["service"], "owner": given["owner"]}
    given["frontends"][0]["bind"] = ["127.0.0.1:%d" % shop.port]
    given["backend"].update(server_options="check inter 100 fall 2 rise 2")
    for entry, web in zip(given["servers"], shop.web.values(), strict=True):
        entry["address"] = web.address
    for more, answer in (({}, "a1 a2"), ({"answer": {"status": 503, "retry_after": 120}}, "503"), ({}, "a1 a2")):
        told = shop.act(**given, **more)
        assert told.verdict.passed, told.verdict
        assert Client(shop.port).get() in answer.split()
    assert remove[0]["osops.lifecycle.haproxy_config"] == {"state": "absent", **owner}
    gone = shop.act(state="absent", **owner)
    assert gone.verdict.passed, gone.verdict
    assert shop.names() == []


def options(shown: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {
        name: {
            **{key: option.get(key) for key in ("type", "default", "choices", "elements")},
            "required": bool(option.get("required")),
            "options": options(option.get("suboptions") or option.get("options") or {}),
        }
        for name, option in shown.items()
    }


def test_documented_options_are_the_options() -> None:
    shown = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-doc")), "-t", "module", "-j", "osops.lifecycle.haproxy_config"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    documented = json.loads(shown.stdout)["osops.lifecycle.haproxy_config"]["doc"]["options"]
    assert options(documented) == options({**DRIVER_ARGS, **BALANCER_ARGS, **CONFIG_ARGS})

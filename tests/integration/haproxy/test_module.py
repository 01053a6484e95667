# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules as a playbook of anyone's sees them: arguments, check mode, diff, what a failure returns, and the fence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
import uuid
from pathlib import Path

import pytest

from tests.integration.haproxy.lab import Lab, until

ROOT = Path("/var/lib/osops/fence")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the fence lies below /var/lib/osops, which needs root")


def play(lab: Lab, tasks: list[dict[str, t.Any]], *options: str) -> list[dict[str, t.Any]]:
    """Run tasks on localhost, each whatever the ones before did, and return their results (with ``diff``)."""
    results = lab.folder / "results.json"
    steps = [
        dict(task, name="task %d" % number, register="r%d" % number, ignore_errors=True) for number, task in enumerate(tasks)
    ]
    listed = ", ".join("r%d" % number for number in range(len(tasks)))
    copy = {
        "ansible.builtin.copy": {"content": "{{ [%s] | to_json }}" % listed, "dest": str(results)},
        "check_mode": False,
        "no_log": True,
    }
    book = lab.folder / "play.yml"
    book.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [*steps, copy]}]))
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local",
        "-e", "ansible_python_interpreter=/usr/bin/python3", *options, str(book),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "ANSIBLE_PIPELINING": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return t.cast("list[dict[str, t.Any]]", json.loads(results.read_text()))


@needs_root
def test_a_playbook(lab: Lab) -> None:
    scope = "test-%s" % uuid.uuid4()
    server, other = lab.web["s1"].address, lab.web["s2"].address

    def task(**given: t.Any) -> dict[str, t.Any]:
        return {"osops.lifecycle.haproxy_server": {"socket": lab.admin, "scope": scope, "deadline": 5, **given}}

    try:
        drained, again, refused, stale, restored, info, user, bad_user = play(
            lab,
            [
                task(state="drain", servers=[server], token=7),
                task(state="drain", servers=[server], token=7, expect={"be/s1": {"admin": 8, "weight": 1}}),
                task(state="drain", servers=[other], token=7),
                task(state="ready", servers=[server], token=6),
                task(state="ready", servers=[server], token=7, restore={"be/s1": {"admin": 0, "weight": 1}}),
                {"osops.lifecycle.haproxy_info": {"socket": lab.admin}},
                {"osops.lifecycle.haproxy_info": {"socket": "%s/user.sock" % lab.folder}},
                task(state="drain", servers=[server], socket="%s/user.sock" % lab.folder),
            ],
        )
    finally:
        (ROOT / scope).unlink(missing_ok=True)
    assert drained["changed"]
    assert drained["before"] == {"be/s1": {"admin": 0, "weight": 1}}
    assert drained["after"] == {"be/s1": {"admin": 8, "weight": 1}}
    assert drained["diff"] == {"before": drained["before"], "after": drained["after"]}
    assert drained["verdict"]["code"] == "drain.done"
    assert drained["servers"][0]["address"] == server
    assert (again["failed"], again["changed"]) == (False, False)
    assert refused["failed"]
    assert refused["verdict"]["code"] == "drain.floor"
    assert refused["msg"].startswith("Too few healthy servers would be left: be would have 0, and min_available is 1.")
    assert refused["before"] == refused["after"] == {"be/s2": {"admin": 0, "weight": 1}}
    assert not refused["changed"]
    assert stale["verdict"]["code"] == "fence.stale_token"
    assert restored["after"] == {"be/s1": {"admin": 0, "weight": 1}}
    assert (info["level"], user["level"]) == ("admin", "user")
    assert info["backends"] == {"be": {"servers": 2, "healthy": 2, "available": 2, "sessions": 0}}
    assert info["old_workers"] == {"seen_by": "master_socket", "pids": [], "unknown": ""}
    assert [row["server"] for row in user["servers"]] == ["be/s1", "be/s2"]
    assert bad_user["verdict"]["code"] == "haproxy.level"
    assert "mode 660 level admin" in bad_user["msg"]
    assert lab.mask("be/s1") == 0


def test_check_mode_predicts_and_changes_nothing(lab: Lab) -> None:
    """No root, no lock, no change: check mode is how a planner looks at a balancer."""
    server, other = lab.web["s1"].address, lab.web["s2"].address
    lab.raw("set server be/s2 state drain")
    drain, ready, unchanged, floor, missing, arguments = play(
        lab,
        [
            {"osops.lifecycle.haproxy_server": {"socket": lab.admin, "state": "drain", "servers": [server], "min_available": 0}},
            {"osops.lifecycle.haproxy_server": {"socket": lab.admin, "state": "ready", "servers": [other]}},
            {"osops.lifecycle.haproxy_server": {"socket": lab.admin, "state": "ready", "servers": [server]}},
            {"osops.lifecycle.haproxy_server": {"socket": lab.admin, "state": "drain", "servers": [server]}},
            {"osops.lifecycle.haproxy_server": {"socket": "/nowhere.sock", "state": "drain", "servers": [server]}},
            {"osops.lifecycle.haproxy_server": {}},
        ],
        "--check",
        "--diff",
    )
    assert drain["changed"]
    assert (drain["before"]["be/s1"]["admin"], drain["after"]["be/s1"]["admin"]) == (0, 8)
    assert drain["verdict"]["code"] == "drain.possible"
    assert ready["changed"]
    assert ready["diff"]["after"] == {"be/s2": {"admin": 0, "weight": 1}}
    assert not unchanged["changed"]
    assert floor["verdict"]["code"] == "drain.floor"
    assert missing["verdict"]["code"] == "haproxy.socket_missing"
    assert missing["msg"].startswith("There is no socket /nowhere.sock. Does HAProxy run on this host?")
    assert "servers" in arguments["msg"]
    assert "state" in arguments["msg"]
    assert (lab.mask("be/s1"), lab.mask("be/s2")) == (0, 8)


def test_info_says_what_it_cannot_know(make_lab: t.Callable[..., Lab]) -> None:
    """Whoever may use the socket, but not look into HAProxy's processes, is told so."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy import processes
    from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.balancer import Balancer
    from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.inspect import inspect

    lab = make_lab(master=False)
    lab.config()
    lab.start()
    tunnel = lab.websocket_on("s1")
    lab.reload()
    until(lab.all_checked)
    seen = inspect(Balancer(lab.admin))
    assert seen["old_workers"]["unknown"] == ""
    assert [row["old_worker_sessions"] for row in seen["servers"]] == [1, 0]
    tunnel.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "processes", list)
        hidden = inspect(Balancer(lab.admin))
    assert "with become" in hidden["old_workers"]["unknown"]
    assert [row["server"] for row in hidden["servers"]] == ["be/s1", "be/s2"]


@pytest.mark.parametrize("module", ["haproxy_server", "haproxy_info"])
def test_documented_options_are_the_options(module: str, collection: Path) -> None:
    """What ansible-doc shows (with the shared fragments) is what the module takes."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS
    from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.args import BALANCER_ARGS, TRAFFIC_ARGS

    shown = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-doc")), "-t", "module", "-j", "osops.lifecycle." + module],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    options = json.loads(shown.stdout)["osops.lifecycle." + module]["doc"]["options"]
    taken = dict(BALANCER_ARGS, backends=TRAFFIC_ARGS["backends"])
    if module == "haproxy_server":
        taken = {**DRIVER_ARGS, **BALANCER_ARGS, **TRAFFIC_ARGS, "state_file": {"type": "path"}}
    assert set(options) == set(taken)
    for name, spec in taken.items():
        for key in ("type", "default", "choices", "elements", "required"):
            assert options[name].get(key) == spec.get(key) or (key == "required" and not options[name].get(key)), (name, key)

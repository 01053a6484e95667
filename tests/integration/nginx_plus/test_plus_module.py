# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as a playbook of anyone's sees it: arguments, check mode, diff, what a failure returns, the fence, and no secret anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
import uuid
from pathlib import Path

import pytest

from tests.integration.nginx_plus.fake import basic
from tests.integration.nginx_plus.lab import Lab

PASSWORD = "s3cret-Of-plus"  # noqa: S105
ROOT = Path("/var/lib/osops/fence")
MODULE = "osops.lifecycle.nginx_plus_server"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the fence lies below /var/lib/osops, which needs root")


def play(folder: Path, tasks: list[dict[str, t.Any]], *options: str) -> tuple[list[dict[str, t.Any]], str]:
    """Run tasks on localhost, each whatever the ones before did; return their results (with ``diff``) and all that was printed."""
    results = folder / "results.json"
    steps = [
        dict(task, name="task %d" % number, register="r%d" % number, ignore_errors=True) for number, task in enumerate(tasks)
    ]
    listed = ", ".join("r%d" % number for number in range(len(tasks)))
    copy = {
        "ansible.builtin.copy": {"content": "{{ [%s] | to_json }}" % listed, "dest": str(results)},
        "check_mode": False,
        "no_log": True,
    }
    book = folder / "play.yml"
    book.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [*steps, copy]}]))
    secret = folder / "secret.json"
    secret.write_text(json.dumps({"nginx_api_password": PASSWORD}))
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local", "-vvv", "-e", "@%s" % secret,
        "-e", "ansible_python_interpreter=/usr/bin/python3", *options, str(book),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "ANSIBLE_PIPELINING": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return t.cast("list[dict[str, t.Any]]", json.loads(results.read_text())), done.stdout + done.stderr


@needs_root
def test_a_playbook(lab: Lab, tmp_path: Path) -> None:
    scope = "test-%s" % uuid.uuid4()
    lab.plus.credentials = basic("osops", PASSWORD)
    one, other = lab.address("s1"), lab.address("s2")
    key = lab.key("s1")

    def task(**given: t.Any) -> dict[str, t.Any]:
        spoken = {"url": lab.plus.url, "username": "osops", "secrets": {"password": "{{ nginx_api_password }}"}}
        return {MODULE: {**spoken, "scope": scope, "deadline": 5, **given}}

    try:
        (drained, again, refused, stale, restored, unknown, policy), said = play(
            tmp_path,
            [
                task(state="drain", servers=[one], token=7),
                task(state="drain", servers=[one], token=7, expect={key: {"admin": 8, "weight": 1}}),
                task(state="drain", servers=[other], token=7),
                task(state="ready", servers=[one], token=6),
                task(state="ready", servers=[one], token=7, restore={key: {"admin": 0, "weight": 1}}),
                task(state="drain", servers=[one], secrets={"password": "not-this-one"}),
                task(state="drain", servers=[one], policy="shutdown"),
            ],
            "--diff",
        )
    finally:
        (ROOT / scope).unlink(missing_ok=True)
    assert drained["changed"]
    assert drained["before"] == {key: {"admin": 0, "weight": 1}}
    assert drained["after"] == {key: {"admin": 8, "weight": 1}}
    assert drained["diff"] == {"before": drained["before"], "after": drained["after"]}
    assert drained["verdict"]["code"] == "drain.done"
    assert drained["servers"][0]["address"] == one
    assert drained["servers"][0]["server"] == key
    assert drained["version"] == "nginx-plus-r27 (1.21.6)"
    assert (again["failed"], again["changed"]) == (False, False)
    assert refused["verdict"]["code"] == "drain.floor"
    assert refused["msg"].startswith("Too few healthy servers would be left: be would have 0, and min_available is 1.")
    assert refused["before"] == refused["after"] == {lab.key("s2"): {"admin": 0, "weight": 1}}
    assert stale["verdict"]["code"] == "fence.stale_token"
    assert restored["after"] == {key: {"admin": 0, "weight": 1}}
    assert unknown["verdict"]["code"] == "nginx_plus.unauthorized"
    assert policy["verdict"]["code"] == "nginx_plus.no_shutdown"
    assert lab.flags() == {(False, False)}
    shown = said + json.dumps([drained, again, refused, stale, restored, unknown, policy])
    assert "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" in shown  # the password was among what was shown, and is not
    for secret in (PASSWORD, "not-this-one", basic("osops", PASSWORD).partition(" ")[2]):
        assert secret not in shown


def test_check_mode_predicts_and_only_asks(lab: Lab, tmp_path: Path) -> None:
    """No root, no lock, no change: check mode is how a planner looks at a balancer."""
    lab.server("s2").drain = True
    base = {"url": lab.plus.url}
    (drain, ready, unchanged, floor, gone, arguments), _said = play(
        tmp_path,
        [
            {MODULE: {**base, "state": "drain", "servers": [lab.address("s1")], "min_available": 0}},
            {MODULE: {**base, "state": "ready", "servers": [lab.address("s2")]}},
            {MODULE: {**base, "state": "ready", "servers": [lab.address("s1")]}},
            {MODULE: {**base, "state": "drain", "servers": [lab.address("s1")]}},
            {MODULE: {"url": "http://127.0.0.1:1/api", "state": "drain", "servers": [lab.address("s1")]}},
            {MODULE: {}},
        ],
        "--check",
        "--diff",
    )
    assert drain["changed"]
    assert drain["verdict"]["code"] == "drain.possible"
    assert drain["diff"] == {
        "before": {lab.key("s1"): {"admin": 0, "weight": 1}},
        "after": {lab.key("s1"): {"admin": 8, "weight": 1}},
    }
    assert ready["changed"]
    assert ready["diff"]["after"] == {lab.key("s2"): {"admin": 0, "weight": 1}}
    assert not unchanged["changed"]
    assert floor["verdict"]["code"] == "drain.floor"
    assert gone["verdict"]["code"] == "nginx_plus.refused"
    assert gone["msg"].startswith("The API of NGINX Plus gave no answer: 127.0.0.1:1 refused the connection.")
    for option in ("servers", "state", "url"):
        assert option in arguments["msg"]
    assert set(lab.plus.asked) == {"GET"}
    assert (lab.server("s1").drain, lab.server("s2").drain) == (False, True)


@needs_root
def test_the_password_is_in_no_command_line_while_it_waits(lab: Lab, collections: Path) -> None:
    from tests.integration.nginx_plus.test_plus_reload import start

    lab.plus.credentials = basic("osops", PASSWORD)
    lab.server("s1").active = 1
    seen: list[str] = []

    def read(method: str, path: str) -> None:
        if method == "PATCH" and not seen:
            seen.append(Path("/proc/%d/cmdline" % process.pid).read_text() + Path("/proc/%d/environ" % process.pid).read_text())

    lab.plus.before_answer = read
    process = start(
        lab, collections, state="drain", deadline=2, username="osops", secrets={"password": PASSWORD}, scope="test-nginx-plus"
    )
    out, err = process.communicate(timeout=30)
    (ROOT / "test-nginx-plus").unlink(missing_ok=True)
    answer = json.loads(out)
    assert answer["verdict"]["code"] == "drain.sessions_left"
    assert seen
    assert "nginx_plus_server" in seen[0]
    assert PASSWORD not in seen[0] + err
    answer.pop("invocation")
    assert PASSWORD not in json.dumps(answer)


def test_documented_options_are_the_options(collection: Path) -> None:
    """What ansible-doc shows (with the shared fragment) is what the module takes."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS
    from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.args import TRAFFIC_ARGS
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.args import API_ARGS

    shown = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-doc")), "-t", "module", "-j", MODULE],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    options = json.loads(shown.stdout)[MODULE]["doc"]["options"]
    taken = {**DRIVER_ARGS, **TRAFFIC_ARGS, **API_ARGS}
    assert set(options) == set(taken)
    for name, spec in taken.items():
        for key in ("type", "default", "choices", "elements", "required"):
            assert options[name].get(key) == spec.get(key) or (key == "required" and not options[name].get(key)), (name, key)

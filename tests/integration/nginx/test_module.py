# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as a playbook of anyone's sees it: arguments, check mode, diff, what a failure returns, the fence, and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import typing as t
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.haproxy.lab import until
from tests.integration.haproxy.test_module import play
from tests.integration.nginx.lab import NGINX, Lab

ROOT = Path("/var/lib/osops")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the fence lies below /var/lib/osops, which needs root")


@pytest.fixture
def scope(lab: Lab) -> Iterator[str]:
    """A fence of this test's own; it and the notes about the lab are removed afterwards."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.files import Notes

    name = "test-%s" % uuid.uuid4()
    yield name
    (ROOT / "fence" / name).unlink(missing_ok=True)
    for ending in (".json", ".lock"):
        Path(Notes(str(lab.config)).path).with_suffix(ending).unlink(missing_ok=True)


def task(lab: Lab, **given: t.Any) -> dict[str, t.Any]:
    return {"osops.lifecycle.nginx_upstream": {"config": str(lab.config), "program": NGINX, "deadline": 8, **given}}


@needs_root
def test_a_playbook(lab: Lab, scope: str) -> None:
    server, other = lab.web["s1"].address, lab.web["s2"].address
    name, text = "be/" + server, lab.be()

    def fenced(**given: t.Any) -> dict[str, t.Any]:
        return task(lab, scope=scope, **given)

    # The tasks of this playbook come one right after the other: what they changed must not look like somebody else's change.
    drained, again, refused, stale, foreign, restored = play(
        lab,  # type: ignore[arg-type]
        [
            fenced(state="drain", servers=[server], token=7),
            fenced(state="drain", servers=[server], token=7, expect={name: {"admin": 1, "weight": 1}}),
            fenced(state="drain", servers=[other], token=7),
            fenced(state="ready", servers=[server], token=6),
            fenced(
                state="ready", servers=[server], token=7, expect={name: {"admin": 0, "weight": 1}}, restore={name: {"admin": 1}}
            ),
            fenced(state="ready", servers=[server], token=7, restore={name: {"admin": 0, "weight": 1}}),
        ],
        "--diff",
    )
    assert drained["changed"]
    assert drained["before"] == {name: {"admin": 0, "weight": 1}}
    assert drained["after"] == {name: {"admin": 1, "weight": 1}}
    assert drained["diff"]["before"] == drained["before"]
    lines = drained["diff"]["prepared"].splitlines()
    assert [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")] == [
        "-server %s;" % server,
        "+server %s down;" % server,
    ]
    assert len(lines) == 5  # the two lines, and no others: there may be secrets beside them
    assert drained["verdict"]["code"] == "drain.done"
    (row,) = drained["servers"]
    assert (row["server"], row["address"], row["health"], row["admin"], row["connections"]) == (name, server, "up", 1, 0)
    assert row["lines"] == ["%s:2" % (lab.upstreams / "be.conf")]
    assert drained["version"].startswith("1.")
    assert drained["master"] == lab.master
    assert (again["failed"], again["changed"]) == (False, False)
    assert refused["failed"]
    assert refused["verdict"]["code"] == "drain.floor"
    assert refused["msg"].startswith(
        "Too few servers that take connections would be left: be would have 0, and min_available is 1."
    )
    assert refused["before"] == refused["after"] == {"be/" + other: {"admin": 0, "weight": 1}}
    assert not refused["changed"]
    assert stale["verdict"]["code"] == "fence.stale_token"
    assert not foreign["failed"]  # what restore wants is there already
    assert restored["after"] == {name: {"admin": 0, "weight": 1}}
    assert lab.be() == text


def test_check_mode_predicts_and_changes_nothing(lab: Lab) -> None:
    """No lock, no note, no reload: check mode is how a planner looks at a balancer."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.files import Notes

    (lab.upstreams / "be.conf").write_text(lab.be().replace(lab.web["s2"].address, lab.web["s2"].address + " down"))
    lab.reload()
    server, other = lab.web["s1"].address, lab.web["s2"].address
    texts, workers = lab.texts(), lab.workers()
    drain, ready, unchanged, floor, missing, arguments = play(
        lab,  # type: ignore[arg-type]
        [
            task(lab, state="drain", servers=[server], min_available=0),
            task(lab, state="ready", servers=[server, other]),
            task(lab, state="ready", servers=[server]),
            task(lab, state="drain", servers=[server]),
            task(lab, state="drain", servers=[server], config="/nowhere.conf"),
            {"osops.lifecycle.nginx_upstream": {}},
        ],
        "--check",
        "--diff",
    )
    assert drain["changed"]
    assert (drain["before"]["be/" + server]["admin"], drain["after"]["be/" + server]["admin"]) == (0, 1)
    assert drain["verdict"]["code"] == "drain.possible"
    assert "+server %s down;" % server in drain["diff"]["prepared"]
    assert ready["changed"]
    assert ready["diff"]["after"]["be/" + other] == {"admin": 0, "weight": 1}
    assert [(row["address"], row["health"]) for row in ready["servers"]] == [(server, "up"), (other, "up")]
    assert not unchanged["changed"]
    assert floor["verdict"]["code"] == "drain.floor"
    assert missing["verdict"]["code"] == "nginx.unreadable"
    assert "servers" in arguments["msg"]
    assert "state" in arguments["msg"]
    ours = {name: text for name, text in lab.texts().items() if name not in ("play.yml", "results.json")}
    assert ours == {name: text for name, text in texts.items() if name not in ("play.yml", "results.json")}
    assert lab.workers() == workers
    assert not Path(Notes(str(lab.config)).path).exists()


def start(lab: Lab, scope: str, collection: Path, **given: object) -> subprocess.Popen[bytes]:
    arguments = {"config": str(lab.config), "scope": scope, "servers": [lab.web["s1"].address], "deadline": 30, **given}
    heard = ["env", "--default-signal=HUP,INT,TERM"]
    process = subprocess.Popen(
        [*heard, sys.executable, "-m", "ansible_collections.osops.lifecycle.plugins.modules.nginx_upstream"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(collection), "PATH": "%s:%s" % (Path(str(NGINX)).parent, os.environ["PATH"])},
    )
    assert process.stdin
    process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
    process.stdin.close()
    process.stdin = None
    return process


@needs_root
@pytest.mark.parametrize("ending", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_drain_that_is_ended_puts_back_what_it_drained(lab: Lab, scope: str, collections: Path, ending: signal.Signals) -> None:
    tunnel, text = lab.websocket_on("s1"), lab.be()
    process = start(lab, scope, collections, state="drain")
    try:
        until(lambda: lab.old_workers() or process.poll() is not None, what="it is drained")
        assert process.poll() is None, process.communicate()
        assert lab.down("s1")
        time.sleep(0.3)  # into the wait for the connection
        process.send_signal(ending)
        process.send_signal(ending)  # the second one must not cut what the first one begins
        said = process.communicate(timeout=15)[0]
    finally:
        process.kill()
    assert process.returncode == 143, said
    assert lab.be() == text
    assert lab.answers() == {"s1", "s2"}
    assert tunnel.echoes()


def test_documented_options_are_the_options(collection: Path) -> None:
    """What ansible-doc shows (with the shared fragments) is what the module takes."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.args import NGINX_ARGS

    shown = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-doc")), "-t", "module", "-j", "osops.lifecycle.nginx_upstream"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    options = json.loads(shown.stdout)["osops.lifecycle.nginx_upstream"]["doc"]["options"]
    taken = {**DRIVER_ARGS, **NGINX_ARGS}
    assert set(options) == set(taken)
    for name, spec in taken.items():
        for key in ("type", "default", "choices", "elements", "required"):
            assert options[name].get(key) == spec.get(key) or (key == "required" and not options[name].get(key)), (name, key)

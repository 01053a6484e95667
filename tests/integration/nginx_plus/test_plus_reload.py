# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reloads and deaths in the middle: ids change, drains are forgotten, a process is killed; and it converges all the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

from tests.integration.nginx_plus.fake import FakeServer
from tests.integration.nginx_plus.lab import Lab, act, params, until

MODULE = "ansible_collections.osops.lifecycle.plugins.modules.nginx_plus_server"


def test_a_drain_that_a_reload_undoes_is_set_again_on_the_same_server(lab: Lab) -> None:
    lab.server("s1").active = 1
    lab.later(0.7, lab.plus.reload)
    drained = act(lab, "drain")
    assert drained.verdict.code == "drain.done"
    assert drained.more["mended"] == [lab.key("s1")]
    assert drained.more["reloads"] == 1
    assert "reloaded meanwhile" in drained.verdict.reason
    assert (lab.server("s1").drain, lab.server("s2").drain) == (True, False)  # though the ids have changed


def test_a_drain_that_a_reload_undoes_is_not_set_again_below_the_floor(lab: Lab) -> None:
    lab.server("s1").active = 1

    def both() -> None:
        with lab.plus.lock:
            lab.plus.reload()
            lab.server("s2").passed = False

    lab.later(0.7, both)
    failed = act(lab, "drain", deadline=20)
    assert failed.verdict.code == "drain.floor"
    assert lab.patches() == [{"drain": True}]
    assert lab.flags() == {(False, False)}


def test_with_a_state_file_nothing_has_to_be_mended(lab: Lab) -> None:
    lab.plus.upstreams["http"]["be"].keeps = True
    lab.server("s1").active = 1
    lab.later(0.7, lab.plus.reload)
    drained = act(lab, "drain")
    assert (drained.verdict.code, drained.more["mended"], drained.more["reloads"]) == ("drain.done", [], 1)
    assert lab.patches() == [{"drain": True}]


def test_a_reload_between_two_calls_is_nobodys_change(lab: Lab) -> None:
    first = act(lab, "drain")
    lab.plus.reload()
    again = act(lab, "drain", expect=first.after)
    assert again.verdict.code == "drain.done"
    assert again.changed
    assert again.more["mended"] == [lab.key("s1")]
    assert lab.server("s1").drain


def test_a_reload_between_drain_and_ready(lab: Lab) -> None:
    drained = act(lab, "drain")
    lab.plus.reload()
    ready = act(lab, "ready", restore=drained.before, expect=drained.after)
    assert ready.verdict.code == "ready.done"
    assert ready.after == drained.before


def test_a_reload_gives_traffic_to_a_dead_server_and_ready_takes_it_away(lab: Lab) -> None:
    drained = act(lab, "drain")
    lab.backends["s1"].die()
    lab.plus.reload()
    lab.server("s1").passed = None
    failed = act(lab, "ready", restore=drained.before, expect=drained.after, deadline=1)
    assert failed.verdict.code == "ready.unhealthy"
    assert failed.more["mended"] == [lab.key("s1")]
    assert lab.server("s1").drain  # no failure gives traffic
    lab.backends["s1"].revive()
    assert act(lab, "ready", restore=drained.before, expect=drained.after).verdict.passed


def test_a_reload_between_question_and_change_hits_another_server_which_is_put_back(lab: Lab) -> None:
    lab.server("s2").weight = 4
    done: list[int] = []

    def reload_first(method: str, path: str) -> None:
        if method == "PATCH" and not done:
            done.append(1)
            lab.plus.reload()

    lab.plus.before_answer = reload_first
    failed = act(lab, "drain")
    assert failed.verdict.code == "nginx_plus.replaced"
    assert "became %s instead of %s" % (lab.address("s2"), lab.key("s1").split("/")[1]) in failed.verdict.reason
    assert lab.flags() == {(False, False)}
    assert lab.server("s2").weight == 4
    assert act(lab, "drain").verdict.code == "drain.done"
    assert (lab.server("s1").drain, lab.server("s2").drain) == (True, False)


def test_the_same_while_it_waits_is_waited_through(lab: Lab) -> None:
    """The first reload undoes the drain; when it is set again, a second reload comes right before the request."""
    lab.server("s1").active = 1
    state = {"patches": 0}

    def disturb(method: str, path: str) -> None:
        if method == "PATCH":
            state["patches"] += 1
            if state["patches"] == 2:
                lab.plus.reload()

    lab.plus.before_answer = disturb
    lab.later(0.7, lab.plus.reload)
    drained = act(lab, "drain", deadline=8)
    assert drained.verdict.code == "drain.done"
    assert drained.more["mended"] == [lab.key("s1")]
    assert (lab.server("s1").drain, lab.server("s2").drain) == (True, False)


def test_the_server_vanishes_between_question_and_change(lab: Lab) -> None:
    lab.plus.add("http", "be", *(FakeServer(lab.address(name)) for name in ("s2", "s1")))

    def shrink(method: str, path: str) -> None:
        if method == "PATCH":
            lab.plus.upstreams["http"]["be"].servers[1:] = []

    lab.plus.before_answer = shrink
    failed = act(lab, "drain", deadline=3)
    assert failed.verdict.code == "drain.not_put_back"
    assert lab.key("s1") in failed.verdict.hint
    assert lab.flags() == {(False, False)}


def test_status_and_configuration_of_two_generations_are_not_mixed(lab: Lab) -> None:
    def reload_between(method: str, path: str) -> None:
        if path.endswith("/servers/") and lab.plus.generation == 1:
            lab.plus.reload()

    lab.plus.before_answer = reload_between
    refused = act(lab, "drain")
    assert refused.verdict.code == "nginx_plus.replaced"
    assert lab.patches() == []
    assert act(lab, "drain").verdict.passed


def test_nginx_stops_during_the_drain_and_comes_back(lab: Lab) -> None:
    lab.server("s1").active = 1
    begun = time.monotonic()

    def gone(method: str, path: str) -> bytes | None:
        return b"" if 0.5 < time.monotonic() - begun < 1.5 else None

    lab.plus.before_answer = gone
    lab.later(1.0, lambda: setattr(lab.server("s1"), "active", 0))
    assert act(lab, "drain").verdict.code == "drain.done"


def test_nginx_stops_during_the_drain_for_good(lab: Lab) -> None:
    lab.server("s1").active = 1
    begun = time.monotonic()
    lab.plus.before_answer = lambda method, path: b"" if time.monotonic() - begun > 0.5 else None
    failed = act(lab, "drain", deadline=2)
    assert failed.verdict.code == "drain.not_put_back"
    assert lab.key("s1") in failed.verdict.hint
    assert failed.after[lab.key("s1")]["admin"] == 8


def test_a_change_whose_answer_is_lost_is_put_back(lab: Lab) -> None:
    """Whether it was carried out is not known, so it is looked at."""
    lost: list[int] = []
    real = lab.plus.answer

    def cut(method: str, path: str) -> bytes | None:
        if method == "PATCH" and not lost:
            lost.append(1)
            real(method, path, {}, b'{"drain": true}')
            return b""
        return None

    lab.plus.before_answer = cut
    failed = act(lab, "drain")
    assert failed.verdict.code == "nginx_plus.reset"
    assert lost
    assert lab.flags() == {(False, False)}
    assert not failed.changed


def start(lab: Lab, collections: Path, names: t.Sequence[str] = ("s1",), **given: t.Any) -> subprocess.Popen[str]:
    """The module as a process of its own."""
    wanted = {**params(lab, names), "scope": "test-nginx-plus", **given}
    # Whoever started these tests may ignore signals (nohup does), and what is ignored stays ignored.
    heard = ["env", "--default-signal=HUP,INT,TERM"]
    process = subprocess.Popen(
        [*heard, sys.executable, "-m", MODULE],
        env={**os.environ, "PYTHONPATH": str(collections)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": {"_ansible_remote_tmp": "/tmp", **wanted}}))
    process.stdin.close()
    process.stdin = None
    return process


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the fence lies below /var/lib/osops, which needs root")


@pytest.fixture
def _no_fence() -> t.Iterator[None]:
    yield
    Path("/var/lib/osops/fence/test-nginx-plus").unlink(missing_ok=True)


@needs_root
@pytest.mark.usefixtures("_no_fence")
def test_killed_between_two_changes_and_called_again_with_resume(lab: Lab, collections: Path) -> None:
    lab.plus.add("http", "be", *(FakeServer(lab.address(name)) for name in ("s1", "s2")), FakeServer("127.0.0.1:2"))
    expect = {lab.key(name): {"admin": 0, "weight": 1} for name in ("s1", "s2")}
    process: list[subprocess.Popen[str]] = []

    def kill(method: str, path: str) -> bytes | None:
        if lab.plus.asked["PATCH"] == 2:
            process[0].kill()
            process[0].wait()
            lab.plus.before_answer = lambda method, path: None
            return b""
        return None

    lab.plus.before_answer = kill
    process.append(start(lab, collections, ["s1", "s2"], state="drain", expect=expect, token=3))
    process[0].communicate(timeout=30)
    assert process[0].returncode == -signal.SIGKILL
    assert {lab.server("s1").drain, lab.server("s2").drain} == {True, False}
    refused = act(lab, "drain", ["s1", "s2"], expect=expect)
    assert refused.verdict.code == "expect.foreign"
    resumed = act(lab, "drain", ["s1", "s2"], expect=expect, resume=True)
    assert resumed.verdict.code == "drain.done"
    assert lab.server("s1").drain
    assert lab.server("s2").drain
    back = act(lab, "ready", ["s1", "s2"], restore=expect, expect=resumed.after)
    assert back.after == expect


@needs_root
@pytest.mark.usefixtures("_no_fence")
def test_an_api_that_falls_silent_does_not_hold_it_past_its_deadline(lab: Lab, collections: Path) -> None:
    lab.server("s1").active = 1
    begun = time.monotonic()

    def silent(method: str, path: str) -> bytes | None:
        if lab.server("s1").drain and lab.plus.asked["GET"] > 12:
            time.sleep(30)
        return None

    lab.plus.before_answer = silent
    process = start(lab, collections, state="drain", deadline=4, timeout=60)
    out, _err = process.communicate(timeout=30)
    assert json.loads(out)["verdict"]["code"] == "drain.not_put_back"
    assert time.monotonic() - begun < 4 + 10  # the rest is for putting back


@needs_root
@pytest.mark.usefixtures("_no_fence")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_puts_back_what_was_drained(lab: Lab, collections: Path, number: int) -> None:
    lab.server("s1").active = 1
    process = start(lab, collections, state="drain", deadline=60)
    until(lambda: lab.server("s1").drain, what="it is drained")
    process.send_signal(number)
    process.communicate(timeout=30)
    assert lab.flags() == {(False, False)}

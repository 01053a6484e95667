# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ready puts back, and what it never does."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import typing as t

from tests.integration.haproxy.conftest import act
from tests.integration.haproxy.lab import Lab, Web, until
from tests.ports import free_port

MakeLab = t.Callable[..., Lab]


def _die(lab: Lab, name: str) -> int:
    """Let a server die and wait until HAProxy has noticed."""
    port = lab.web[name].port
    lab.web[name].die()
    until(lambda: lab.status("be/" + name).startswith("DOWN"), what="HAProxy sees %s dead" % name)
    return port


def test_dead_server_stays_drained(lab: Lab) -> None:
    before = act(lab, "drain").before
    _die(lab, "s1")
    ready = act(lab, "ready", restore=before, deadline=1)
    assert ready.verdict.code == "ready.unhealthy"
    assert "be/s1 is DOWN" in ready.verdict.reason
    assert lab.mask("be/s1") == 8
    assert not ready.changed
    assert {lab.client().get() for _ in range(4)} == {"s2"}


def test_dead_server_that_haproxy_still_calls_up_stays_drained(make_lab: MakeLab) -> None:
    """A service that was stopped a moment ago: the last health check is older than that."""
    lab = make_lab()
    lab.config(default="check inter 6s rise 1 fall 3")
    lab.start()  # HAProxy spreads its checks: that of s2 has just been, that of s1 was and will be 3 s away
    before = act(lab, "drain").before
    port = lab.web["s1"].port
    lab.web["s1"].die()
    assert _health(lab) == "up"
    ready = act(lab, "ready", restore=before, deadline=1)
    assert ready.verdict.code == "ready.unhealthy"
    assert "be/s1 is DRAIN for HAProxy, but takes no connection (Connection refused)" in ready.verdict.reason
    assert (lab.mask("be/s1"), ready.changed) == (8, False)
    assert {lab.client().get() for _ in range(4)} == {"s2"}
    threading.Timer(1.0, lambda: lab.web.update(s1=Web("s1", port))).start()
    assert act(lab, "ready", restore=before, deadline=20).verdict.passed
    assert {lab.client().get() for _ in range(4)} == {"s1", "s2"}


def _health(lab: Lab) -> str:
    from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.balancer import Balancer
    from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.inspect import inspect

    return str(inspect(Balancer(lab.admin))["servers"][0]["health"])


def test_dead_server_without_health_check_stays_drained(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.config(default="weight 1")
    lab.start()
    before = act(lab, "drain").before
    lab.web["s1"].die()
    assert act(lab, "ready", restore=before, deadline=1).verdict.code == "ready.unhealthy"
    assert lab.mask("be/s1") == 8


def test_who_takes_connections() -> None:
    """One listens, one refuses, one has a full queue and answers nothing: all are tried at once."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.reach import refusals

    with contextlib.ExitStack() as held:
        good = held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()
        deaf = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0)).getsockname()
        for _ in range(3):
            other = held.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(deaf)
        refused = ("127.0.0.1", free_port())
        started = time.monotonic()
        found = refusals([good, refused, deaf], 0.3)
    assert found == {refused: "Connection refused", deaf: "no answer in 0.3 s"}
    assert time.monotonic() - started < 1


def test_server_that_comes_up_in_time_gets_traffic_only_when_fully_up(lab: Lab) -> None:
    before = act(lab, "drain").before
    port = _die(lab, "s1")
    answers: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            answers.append(lab.client().get())
            time.sleep(0.01)

    def revive() -> None:
        lab.web["s1"] = Web("s1", port)

    thread = threading.Thread(target=load)
    thread.start()
    threading.Timer(0.7, revive).start()
    ready = act(lab, "ready", restore=before)
    until(lambda: answers[-1] == "s1")
    stop.set()
    thread.join()
    assert ready.verdict.code == "ready.done"
    assert ready.more["servers"][0]["health"] == "up"
    assert set(answers) == {"s1", "s2"}


def test_one_dead_server_does_not_keep_the_others_out(make_lab: MakeLab) -> None:
    lab = make_lab(("s1", "s2", "s3"))
    lab.config()
    lab.start()
    before = act(lab, "drain", ["s1", "s2"]).before
    _die(lab, "s1")
    ready = act(lab, "ready", ["s1", "s2"], restore=before, deadline=1)
    assert ready.verdict.code == "ready.unhealthy"
    assert (lab.mask("be/s1"), lab.mask("be/s2")) == (8, 0)
    assert ready.after["be/s2"]["admin"] == 0
    assert ready.changed


def test_maintenance_of_an_operator_is_left_and_put_back(lab: Lab) -> None:
    lab.raw("set server be/s1 state maint")
    drained = act(lab, "drain")
    assert drained.verdict.passed
    assert not drained.changed
    assert drained.before == {"be/s1": {"admin": 1, "weight": 1}}
    assert drained.verdict.reason.endswith(" Out of traffic before this call: be/s1 (in maintenance).")
    ready = act(lab, "ready", restore=drained.before)
    assert ready.verdict.reason.endswith(" be/s1 stays in maintenance, as restore says.")
    assert ready.verdict.passed
    assert not ready.changed
    assert lab.mask("be/s1") == 1


def test_drain_and_weight_of_an_operator_are_put_back(lab: Lab) -> None:
    lab.raw("set server be/s1 state drain")
    drained = act(lab, "drain")
    assert not drained.changed
    ready = act(lab, "ready", restore={"be/s1": {"admin": 8, "weight": 0}})
    assert ready.verdict.passed
    assert (lab.mask("be/s1"), lab.weight("be/s1")) == (8, 0)
    lab.raw("set server be/s1 weight 0")
    act(lab, "ready", restore={"be/s1": {"admin": 0, "weight": 1}})
    assert (lab.mask("be/s1"), lab.weight("be/s1")) == (0, 1)


def test_ready_without_restore_means_ready_with_the_configured_weight(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.config(default="check inter 100 rise 2 fall 3 weight 7")
    lab.start()
    lab.raw("set server be/s1 weight 3")
    lab.raw("set server be/s1 state maint")
    ready = act(lab, "ready")
    assert ready.verdict.passed
    assert ready.after == {"be/s1": {"admin": 0, "weight": 7}}


def test_from_maintenance_a_dead_server_is_checked_first_and_goes_back_there(lab: Lab) -> None:
    lab.raw("set server be/s1 state maint")
    lab.web["s1"].die()
    answers: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            answers.append(lab.client().get())
            time.sleep(0.01)

    thread = threading.Thread(target=load)
    thread.start()
    ready = act(lab, "ready", deadline=2)
    stop.set()
    thread.join()
    assert ready.verdict.code == "ready.unhealthy"
    assert lab.mask("be/s1") == 1
    assert not ready.changed
    assert set(answers) == {"s2"}


def test_server_that_follows_another_one(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.config(
        "backend tracking\n  server t1 127.0.0.1:%d no-check track be/s1\n  server t2 127.0.0.1:%d no-check track be/s2\n"
        % (lab.web["s1"].port, lab.web["s2"].port)
    )
    lab.start()
    drained = act(lab, "drain")
    assert lab.mask("tracking/t1") == 0x18  # ours, and inherited
    assert drained.after["tracking/t1"] == {"admin": 8, "weight": 1}
    assert act(lab, "ready", restore=drained.before).verdict.passed
    assert lab.mask("tracking/t1") == 0
    lab.raw("set server be/s1 state maint")
    inherited = act(lab, "ready", backends=["tracking"], deadline=30)
    assert inherited.verdict.code == "ready.inherited"
    assert "tracking/t1 follows be/s1, which is in maintenance" in inherited.verdict.reason
    as_found = act(lab, "ready", backends=["tracking"], restore={"tracking/t1": {"admin": 0, "weight": 1}})
    assert as_found.verdict.passed
    assert "follows be/s1" in as_found.verdict.reason


def test_draining_a_tracked_server_counts_its_followers_against_their_floor(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.config("backend tracking\n  server elsewhere 127.0.0.1:%d no-check track be/s1\n" % lab.web["s2"].port)
    lab.start()
    refused = act(lab, "drain")
    assert refused.verdict.code == "drain.floor"
    assert refused.verdict.evidence["left"] == {"tracking": 0}
    assert lab.mask("be/s1") == 0


def test_server_without_health_check_is_put_back_and_said_so(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.config(default="weight 1")
    lab.start()
    drained = act(lab, "drain")
    assert drained.more["servers"][0]["health"] == "unchecked"
    ready = act(lab, "ready", restore=drained.before)
    assert ready.verdict.passed
    assert ready.verdict.evidence == {"unchecked": ["be/s1"]}


def test_maintenance_that_somebody_set_meanwhile_is_foreign(lab: Lab) -> None:
    drained = act(lab, "drain")
    lab.raw("set server be/s1 state maint")
    for kind in ("drain", "ready"):
        foreign = act(lab, kind, expect=drained.after)
        assert foreign.verdict.code == "expect.foreign"
        assert "be/s1.admin" in foreign.verdict.reason
        assert lab.mask("be/s1") == 1


def test_maintenance_that_somebody_sets_during_the_drain_is_foreign_and_stays(lab: Lab) -> None:
    lab.websocket_on("s1")
    threading.Timer(0.7, lab.raw, ["set server be/s1 state maint"]).start()
    drained = act(lab, "drain", deadline=10)
    assert drained.verdict.code == "expect.foreign"
    assert lab.mask("be/s1") == 1


def test_static_algorithm(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.config("  balance source\n")
    lab.start()
    drained = act(lab, "drain")
    assert drained.verdict.passed
    assert {lab.client().get() for _ in range(4)} == {"s2"}
    assert act(lab, "ready", restore=drained.before).after == drained.before


def test_a_drain_cut_in_the_middle_is_ours_only_when_we_say_that_we_resume(make_lab: MakeLab) -> None:
    lab = make_lab(("s1", "s2", "s3"))
    lab.config()
    lab.start()
    planned = {"be/s1": {"admin": 0, "weight": 1}, "be/s2": {"admin": 0, "weight": 1}}
    lab.raw("set server be/s1 state drain")
    refused = act(lab, "drain", ["s1", "s2"], expect=planned)
    assert refused.verdict.code == "expect.foreign"
    assert lab.mask("be/s2") == 0
    assert act(lab, "drain", ["s1", "s2"], expect=planned, resume=True).verdict.passed
    assert act(lab, "ready", ["s1", "s2"], restore=planned).after == planned

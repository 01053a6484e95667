# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What drain does, by the specification of the API: set, proven, put back, and never below the floor."""

from __future__ import annotations

import threading
import time
import typing as t

import pytest

from tests.integration.nginx_plus.fake import FakeServer
from tests.integration.nginx_plus.lab import Backend, Lab, act


def test_drain_and_ready_put_back_exactly_what_was_there(lab: Lab) -> None:
    lab.server("s1").weight = 5
    key = lab.key("s1")
    drained = act(lab, "drain")
    assert drained.verdict.code == "drain.done", drained
    assert (drained.before, drained.after) == ({key: {"admin": 0, "weight": 5}}, {key: {"admin": 8, "weight": 5}})
    assert drained.changed
    assert (lab.server("s1").drain, lab.server("s2").drain) == (True, False)
    ready = act(lab, "ready", restore=drained.before, expect=drained.after)
    assert ready.verdict.code == "ready.done", ready.verdict
    assert ready.changed
    assert ready.after == drained.before
    assert not lab.server("s1").drain
    assert lab.patches() == [{"drain": True}, {"drain": False}]  # raw JSON: false is sent, and nothing else is touched


def test_a_second_drain_and_a_second_ready_change_nothing(lab: Lab) -> None:
    first = act(lab, "drain")
    again = act(lab, "drain", expect=first.after)
    assert again.verdict.passed
    assert not again.changed
    assert act(lab, "ready").changed
    assert not act(lab, "ready").changed
    assert lab.plus.asked["PATCH"] == 2
    assert set(lab.plus.asked) == {"GET", "PATCH"}


@pytest.mark.parametrize("kind", ["drain", "ready"])
def test_check_mode_predicts_and_only_asks(lab: Lab, kind: str) -> None:
    lab.server("s1").drain = kind == "ready"
    predicted = act(lab, kind, check_mode=True)
    assert predicted.verdict.code == kind + ".possible"
    assert predicted.changed
    assert predicted.after == {lab.key("s1"): {"admin": 8 if kind == "drain" else 0, "weight": 1}}
    assert set(lab.plus.asked) == {"GET"}
    assert lab.server("s1").drain == (kind == "ready")
    assert act(lab, kind).after == predicted.after


def test_sessions_are_waited_for(lab: Lab) -> None:
    lab.server("s1").active = 2
    lab.later(1.0, lambda: setattr(lab.server("s1"), "active", 0))
    started = time.monotonic()
    drained = act(lab, "drain")
    assert drained.verdict.code == "drain.done"
    assert 0.9 < time.monotonic() - started < 3
    assert drained.more["servers"][0]["sessions"] == 0


def test_wait_gives_up_at_the_deadline_names_the_sessions_and_puts_back(lab: Lab) -> None:
    lab.server("s1").active = 2
    drained = act(lab, "drain", deadline=2)
    assert drained.verdict.code == "drain.sessions_left"
    assert "%s has 2 sessions" % lab.key("s1") in drained.verdict.reason
    assert "websocket" in drained.verdict.hint
    assert drained.after == drained.before
    assert not drained.changed
    assert lab.patches() == [{"drain": True}, {"drain": False}]
    assert lab.flags() == {(False, False)}


def test_zombies_may_be_ours_and_are_waited_for(lab: Lab) -> None:
    lab.plus.upstreams["http"]["be"].zombies = 1
    failed = act(lab, "drain", deadline=2)
    assert failed.verdict.code == "drain.sessions_left"
    assert "1 server is removed from be, and which is not shown" in failed.verdict.reason
    assert failed.verdict.evidence["zombies"] == {"be": 1}
    assert lab.flags() == {(False, False)}
    lab.later(0.5, lambda: setattr(lab.plus.upstreams["http"]["be"], "zombies", 0))
    assert act(lab, "drain").verdict.code == "drain.done"


def test_fail_does_not_wait(lab: Lab) -> None:
    lab.server("s1").active = 1
    started = time.monotonic()
    drained = act(lab, "drain", policy="fail", deadline=30)
    assert drained.verdict.code == "drain.sessions_left"
    assert time.monotonic() - started < 2
    assert lab.flags() == {(False, False)}
    lab.server("s1").active = 0
    assert act(lab, "drain", policy="fail").verdict.code == "drain.done"


def test_bound_clients_still_come_and_wait_does_not_call_that_drained(lab: Lab) -> None:
    stop = threading.Event()

    def come_back() -> None:
        while not stop.wait(0.3):
            lab.server("s1").total += 1

    thread = threading.Thread(target=come_back)
    thread.start()
    try:
        drained = act(lab, "drain", deadline=4)
    finally:
        stop.set()
        thread.join()
    assert drained.verdict.code == "drain.sessions_left"
    assert "bound" in drained.verdict.reason
    assert drained.verdict.evidence["returned"][lab.key("s1")] > 3
    assert "sticky" in drained.verdict.hint
    assert lab.flags() == {(False, False)}
    started = time.monotonic()
    assert act(lab, "drain").verdict.code == "drain.done"
    assert time.monotonic() - started >= 1.0


def test_drained_in_every_upstream_that_holds_the_address(lab: Lab) -> None:
    lab.plus.add("http", "other", FakeServer("127.0.0.1:1"), FakeServer(lab.address("s1")), FakeServer(lab.address("s2")))
    lab.plus.add("http", "third", FakeServer(lab.address("s2")))
    drained = act(lab, "drain")
    assert sorted(drained.after) == sorted([lab.key("s1"), lab.key("s1", "other")])
    assert lab.server("s1", "other").drain
    assert not lab.server("s2", "third").drain
    assert act(lab, "ready", restore=drained.before).after == drained.before
    only = act(lab, "drain", backends=["other"])
    assert list(only.after) == [lab.key("s1", "other")]
    assert not lab.server("s1").drain


def test_server_at_ipv6_and_server_by_name(lab: Lab) -> None:
    six = lab.backends["six"] = Backend("::1")
    named = FakeServer(lab.address("s1"), name="ctl1.example:%d" % lab.backends["s1"].port)
    lab.plus.add("http", "six", FakeServer("[0:0:0:0:0:0:0:1]:%d" % six.port), named)
    assert list(act(lab, "drain", ["six"]).after) == ["six/" + six.address]
    act(lab, "ready", ["six"])
    by_name = act(lab, "drain", ["CTL1.example:%d" % lab.backends["s1"].port])
    assert list(by_name.after) == [lab.key("s1", "six")]
    assert sorted(act(lab, "drain", ["localhost:%d" % lab.backends["s2"].port], min_available=0).after) == [lab.key("s2")]


def test_a_server_of_a_stream_upstream_is_set_down(lab: Lab) -> None:
    lab.plus.add("stream", "tcp", *(FakeServer(lab.address(name)) for name in ("s1", "s2")))
    lab.plus.upstreams["http"].clear()
    lab.server("s1", "tcp", "stream").active = 1
    lab.later(0.5, lambda: setattr(lab.server("s1", "tcp", "stream"), "active", 0))
    drained = act(lab, "drain")
    key = lab.key("s1", "tcp")
    assert drained.verdict.code == "drain.done"
    assert (drained.before[key]["admin"], drained.after[key]["admin"]) == (0, 1)
    assert drained.more["servers"][0]["kind"] == "stream"
    assert lab.patches() == [{"down": True}]
    assert act(lab, "drain", expect=drained.after).changed is False
    assert act(lab, "ready", restore=drained.before, expect=drained.after).after == drained.before
    assert lab.patches() == [{"down": True}, {"down": False}]


def test_an_operators_down_stays_through_drain_and_ready(lab: Lab) -> None:
    lab.server("s1").down = True
    drained = act(lab, "drain")
    assert drained.verdict.code == "drain.done"
    assert not drained.changed
    assert "(down)" in drained.verdict.reason
    ready = act(lab, "ready", restore=drained.before)
    assert ready.verdict.passed
    assert "stays down, as restore says" in ready.verdict.reason
    assert lab.patches() == []


def test_check_mode_knows_that_an_operators_down_stays(lab: Lab) -> None:
    lab.server("s1").down = True
    predicted = act(lab, "drain", check_mode=True)
    assert predicted.verdict.passed
    assert not predicted.changed
    assert predicted.after == {lab.key("s1"): {"admin": 1, "weight": 1}}
    assert act(lab, "drain", expect={lab.key("s1"): {"admin": 0}}).verdict.code == "expect.foreign"


def test_both_flags_are_put_back(lab: Lab) -> None:
    lab.server("s1").down = lab.server("s1").drain = True
    before = act(lab, "drain").before
    assert before[lab.key("s1")]["admin"] == 9
    lab.server("s1").down = False
    assert act(lab, "ready", restore=before).after == before
    assert lab.patches() == [{"down": True}]


def _three(lab: Lab, *more: FakeServer) -> None:
    lab.plus.add("http", "be", FakeServer(lab.address("s1")), FakeServer(lab.address("s2")), *more)


def test_floor_counts_only_servers_that_carry_traffic(lab: Lab) -> None:
    _three(
        lab,
        FakeServer("127.0.0.1:2", down=True),
        FakeServer("127.0.0.1:3", drain=True),
        FakeServer("127.0.0.1:4", passed=False),
        FakeServer("127.0.0.1:5", state="unavail", passed=None),
        FakeServer("127.0.0.1:6", state="checking"),
        FakeServer("127.0.0.1:7", backup=True),
    )
    refused = act(lab, "drain", min_available=2, deadline=3)
    assert refused.verdict.code == "drain.floor"
    assert refused.verdict.evidence == {"left": {"be": 1}, "min_available": 2}
    assert not refused.changed
    assert lab.patches() == []
    assert act(lab, "drain", min_available=1).verdict.passed


def test_backup_servers_count_when_no_other_is_left(lab: Lab) -> None:
    lab.plus.add(
        "http",
        "be",
        FakeServer(lab.address("s1")),
        FakeServer("127.0.0.1:2", backup=True),
        FakeServer("127.0.0.1:3", backup=True),
    )
    assert act(lab, "drain", min_available=3).verdict.evidence["left"] == {"be": 2}
    assert act(lab, "drain", min_available=2).verdict.passed


def test_one_whose_last_check_failed_does_not_count(lab: Lab) -> None:
    lab.server("s2").passed, lab.server("s2").state = False, "up"  # on its way down
    refused = act(lab, "drain", deadline=2)
    assert refused.verdict.code == "drain.floor"
    assert lab.patches() == []


def test_all_servers_drained_needs_an_explicit_zero(lab: Lab) -> None:
    assert act(lab, "drain", ["s1", "s2"], check_mode=True).verdict.code == "drain.floor"
    refused = act(lab, "drain", ["s1", "s2"])
    assert refused.verdict.reason == "Too few healthy servers would be left: be would have 0, and min_available is 1."
    assert lab.patches() == []
    assert act(lab, "drain", ["s1", "s2"], min_available=0).verdict.passed
    assert lab.flags() == {(False, True)}


def test_after_a_reload_the_floor_waits_for_the_first_check(lab: Lab) -> None:
    lab.server("s2").state = "checking"
    lab.later(0.6, lambda: setattr(lab.server("s2"), "state", ""))
    assert act(lab, "drain", deadline=9).verdict.code == "drain.done"


def test_another_server_dies_during_the_wait_and_the_drained_one_goes_back(lab: Lab) -> None:
    lab.server("s1").active = 1
    lab.later(0.5, lambda: setattr(lab.server("s2"), "passed", False))
    started = time.monotonic()
    drained = act(lab, "drain", deadline=20)
    assert drained.verdict.code == "drain.floor"
    assert "Another server failed during the drain" in drained.verdict.reason
    assert time.monotonic() - started < 3
    assert lab.flags() == {(False, False)}


def test_another_server_dies_after_the_drain_and_the_second_call_says_so(lab: Lab) -> None:
    first = act(lab, "drain")
    lab.server("s2").passed = False
    assert act(lab, "drain", expect=first.after).verdict.code == "drain.floor"
    assert lab.server("s1").drain  # this call drained nothing, so it puts nothing back


def test_somebody_sets_it_down_during_the_wait(lab: Lab) -> None:
    lab.server("s1").active = 1
    lab.later(0.5, lambda: setattr(lab.server("s1"), "down", True))
    drained = act(lab, "drain", deadline=20)
    assert drained.verdict.code == "expect.foreign"
    assert drained.after == {lab.key("s1"): {"admin": 1, "weight": 1}}
    assert (lab.server("s1").down, lab.server("s1").drain) == (True, False)  # theirs stays, ours goes


@pytest.mark.parametrize("expect", [{"admin": 0, "weight": 1}, {"admin": 1}, {"admin": 8, "weight": 1}])
def test_nothing_is_done_where_something_else_is_than_expected(lab: Lab, expect: dict[str, int]) -> None:
    lab.server("s1").weight = 3
    found = act(lab, "drain", expect={lab.key("s1"): expect})
    assert found.verdict.code == "expect.foreign"
    assert found.verdict.evidence["seen"] == {lab.key("s1"): {"admin": 0, "weight": 3}}
    assert lab.patches() == []


def test_it_says_drained_and_is_not(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the answer to a PATCH is: drained is what a fresh look says."""
    real = lab.plus._patch

    def deaf(kind: str, upstream: t.Any, number: str, shape: t.Any, body: bytes) -> t.Any:
        return real(kind, upstream, number, shape, b"{}")

    monkeypatch.setattr(lab.plus, "_patch", deaf)
    failed = act(lab, "drain")
    assert failed.verdict.code == "drain.not_drained"
    assert not failed.changed

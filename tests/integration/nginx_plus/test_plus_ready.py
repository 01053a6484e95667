# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ready does: each server back to what it was, and no traffic for one that is not healthy."""

from __future__ import annotations

import pytest

from tests.integration.nginx_plus.fake import FakeServer
from tests.integration.nginx_plus.lab import Lab, act


def _stream(lab: Lab) -> None:
    lab.plus.upstreams["http"].clear()
    lab.plus.add("stream", "tcp", *(FakeServer(lab.address(name)) for name in ("s1", "s2")))


def test_one_whose_last_check_failed_stays_drained(lab: Lab) -> None:
    lab.server("s1").drain, lab.server("s1").passed = True, False
    failed = act(lab, "ready", deadline=1)
    assert failed.verdict.code == "ready.unhealthy"
    assert "%s is draining (its last health check failed)" % lab.key("s1") in failed.verdict.reason
    assert not failed.changed
    assert lab.patches() == []


def test_it_goes_back_as_soon_as_it_is_healthy(lab: Lab) -> None:
    lab.server("s1").drain, lab.server("s1").passed = True, False
    lab.later(0.7, lambda: setattr(lab.server("s1"), "passed", True))
    assert act(lab, "ready").verdict.code == "ready.done"
    assert lab.patches() == [{"drain": False}]


@pytest.mark.parametrize("passed", [True, None])
def test_one_that_takes_no_connection_stays_drained_whatever_nginx_says(lab: Lab, passed: bool | None) -> None:
    lab.server("s1").drain, lab.server("s1").passed = True, passed
    lab.backends["s1"].die()
    failed = act(lab, "ready", deadline=1)
    assert failed.verdict.code == "ready.unhealthy"
    assert "takes no connection (Connection refused)" in failed.verdict.reason
    assert lab.patches() == []
    lab.backends["s1"].revive()
    assert act(lab, "ready").verdict.evidence.get("unchecked") == (None if passed else [lab.key("s1")])


def test_nginx_must_find_it_up_or_it_is_drained_again(lab: Lab) -> None:
    """Its last check is fine, but for requests nginx has set it aside."""
    lab.server("s1").drain, lab.server("s1").state = True, "unavail"
    failed = act(lab, "ready", deadline=1)
    assert failed.verdict.code == "ready.unhealthy"
    assert "is unavail" in failed.verdict.reason
    assert lab.patches() == [{"drain": False}, {"drain": True}]
    assert failed.after == failed.before


def test_down_is_checked_in_a_drain_before_it_gets_traffic(lab: Lab) -> None:
    lab.server("s1").down, lab.server("s1").passed = True, False
    failed = act(lab, "ready", deadline=1)
    assert failed.verdict.code == "ready.unhealthy"
    assert lab.patches() == [{"down": False, "drain": True}, {"down": True, "drain": False}]
    assert failed.after == failed.before == {lab.key("s1"): {"admin": 1, "weight": 1}}
    lab.later(0.5, lambda: setattr(lab.server("s1"), "passed", True))
    assert act(lab, "ready").after == {lab.key("s1"): {"admin": 0, "weight": 1}}
    assert lab.patches()[2:] == [{"down": False, "drain": True}, {"drain": False}]


def test_stream_stays_down_while_it_takes_no_connection(lab: Lab) -> None:
    _stream(lab)
    lab.server("s1", "tcp", "stream").down = True
    lab.backends["s1"].die()
    assert act(lab, "ready", deadline=1).verdict.code == "ready.unhealthy"
    assert lab.patches() == []


def test_stream_that_nginx_does_not_find_up_is_set_down_again(lab: Lab) -> None:
    _stream(lab)
    lab.server("s1", "tcp", "stream").down, lab.server("s1", "tcp", "stream").passed = True, False
    failed = act(lab, "ready", deadline=1)
    assert failed.verdict.code == "ready.unhealthy"
    assert lab.patches() == [{"down": False}, {"down": True}]
    assert failed.after == failed.before
    lab.later(0.5, lambda: setattr(lab.server("s1", "tcp", "stream"), "passed", True))
    assert act(lab, "ready").verdict.code == "ready.done"
    assert not lab.server("s1", "tcp", "stream").down


@pytest.mark.parametrize(("admin", "down", "drain"), [(1, True, False), (8, False, True), (9, True, True)])
def test_restore_that_wants_it_out_is_put_back_without_health(lab: Lab, admin: int, down: bool, drain: bool) -> None:
    lab.server("s1").drain, lab.server("s1").passed = True, False
    restored = act(lab, "ready", restore={lab.key("s1"): {"admin": admin, "weight": 7}})
    assert restored.verdict.code == "ready.done"
    assert (lab.server("s1").down, lab.server("s1").drain, lab.server("s1").weight) == (down, drain, 7)
    assert len(lab.patches()) == 1  # one request sets all


def test_weight_goes_back_with_the_traffic_and_is_left_alone_otherwise(lab: Lab) -> None:
    lab.server("s1").drain, lab.server("s1").weight = True, 3
    assert act(lab, "ready").after == {lab.key("s1"): {"admin": 0, "weight": 3}}
    lab.server("s1").drain = True
    act(lab, "ready", restore={lab.key("s1"): {"admin": 0, "weight": 9}})
    assert lab.patches() == [{"drain": False}, {"weight": 9, "drain": False}]
    lab.plus.upstreams["http"]["be"].servers[0].weight = 2
    assert act(lab, "ready", restore={lab.key("s1"): {"admin": 0, "weight": 9}}).changed
    assert lab.patches()[2:] == [{"weight": 9}]


def test_one_healthy_and_one_dead(lab: Lab) -> None:
    lab.server("s1").drain = lab.server("s2").drain = True
    lab.backends["s2"].die()
    failed = act(lab, "ready", ["s1", "s2"], deadline=1)
    assert failed.verdict.code == "ready.unhealthy"
    assert list(failed.verdict.evidence["waiting"]) == [lab.key("s2")]
    assert (lab.server("s1").drain, lab.server("s2").drain) == (False, True)
    assert failed.changed


def test_somebody_sets_it_down_while_it_waits(lab: Lab) -> None:
    lab.server("s1").drain, lab.server("s1").passed = True, False
    lab.later(0.5, lambda: setattr(lab.server("s1"), "down", True))
    failed = act(lab, "ready", deadline=20)
    assert failed.verdict.code == "expect.foreign"
    assert "Somebody else has set %s down" % lab.key("s1") in failed.verdict.reason
    assert lab.patches() == []


def test_somebody_sets_it_down_when_it_has_its_traffic_back(lab: Lab) -> None:
    lab.server("s1").drain, lab.server("s1").state = True, "unavail"
    lab.later(0.6, lambda: setattr(lab.server("s1"), "down", True))
    failed = act(lab, "ready", deadline=20)
    assert failed.verdict.code == "expect.foreign"
    assert lab.patches() == [{"drain": False}]
    assert (lab.server("s1").down, lab.server("s1").drain) == (True, False)  # left as they set it


def test_a_drain_cannot_be_restored_in_a_stream_upstream(lab: Lab) -> None:
    _stream(lab)
    refused = act(lab, "ready", restore={lab.key("s1", "tcp"): {"admin": 8}})
    assert refused.verdict.code == "input"
    assert "can only be down" in refused.verdict.reason
    assert lab.patches() == []

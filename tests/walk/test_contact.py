# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts and load balancers that are lost: before a run, before an act, and after the act but before its answer."""

from __future__ import annotations

import pytest

from tests.walk.conftest import Worlds
from tests.walk.told import calls, ended, order, refused


def test_host_already_gone_at_the_look(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl2"].stop()
    refused(world, world.run("upgrade"), "echo-api@ctl2: The host cannot be reached", "Nothing was changed.")
    assert (world.versions(), world.masks()) == (["1.0", "1.0"], [0, 0])


def test_balancer_already_gone_at_the_look(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=2)
    world.hosts["lb2"].stop()
    refused(world, world.run("upgrade"), "share/echo@lb2: The host cannot be reached", "Nothing was changed.")
    assert (world.versions(), world.masks()) == (["1.0", "1.0"], [0, 0, 0, 0])


def test_host_lost_while_artifacts_arrive(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl2"].behave("app/present", {"lose": "before"})
    told = ended(world, world.run("upgrade"), 2, "refused", "echo-api@ctl2/fetch failed: The host cannot be reached")
    assert told.kinds() == {"echo-api@ctl1/fetch": "done", "echo-api@ctl2/fetch": "unknown"}
    assert calls(world) == {"ctl1 app/present": 1}
    assert (world.versions(), world.masks()) == (["1.0", "1.0"], [0, 0])


@pytest.mark.parametrize(("lost", "when"), [("ctl1", "before"), ("ctl2", "after"), ("ctl3", "after")])
def test_host_lost_at_the_switch(worlds: Worlds, lost: str, when: str) -> None:
    """In the first, a middle and the last batch: the others go back, the lost one stays out of traffic, and the next run repairs it."""
    world = worlds(apps=3, balancers=1)
    world.hosts[lost].behave("app/active", {"lose": when})
    result = world.run("upgrade")
    told = ended(world, result, 2, "frozen", "echo-api@%s/change failed: The host cannot be reached" % lost)
    assert "not taken back: echo-api@%s/revert (The host cannot be reached" % lost in told.run.reason
    assert told.kinds()["echo-api@%s/change" % lost] == "unknown"
    place = int(lost[-1])
    standing = dict(zip(world.apps, ["1.0", "1.0", "1.0"], strict=True), **({lost: "2.0"} if when == "after" else {}))
    assert world.versions() == list(standing.values())
    assert [calls(world)["%s app/active" % name] for name in world.apps] == [
        (when == "after") if name == lost else 2 * (int(name[-1]) < place) for name in world.apps
    ]
    # Out of traffic on every balancer, and nobody else is.
    assert world.masks() == [8 if name == lost else 0 for name in world.apps]
    says = {"echo-api@%s: %s" % (name, "unknown" if name == lost else "1.0") for name in world.apps}
    assert says <= set(result.lines)
    assert "out of traffic: echo-api/%s on lb1" % lost in result.lines
    assert (
        result.lines[-1] == "next: mend what is named above, then the same playbook with -e osops_accept_frozen=%s" % told.run.id
    )

    world.hosts[lost].start()
    if lost == "ctl1":
        held = world.run("upgrade")
        assert held.rc == 2
        assert "The run %s is frozen" % told.run.id in held.out
        assert world.masks() == [8, 0, 0]
    if lost == "ctl2":
        # A run in between that was refused: what the frozen one left out of traffic is not forgotten.
        world.hosts["ctl2"].behave("app/present", {"fail": "No room for it."})
        accepted = world.run("upgrade", "-e", "osops_accept_frozen=%s" % told.run.id)
        ended(world, accepted, 2, "refused", "echo-api@ctl2/fetch failed: No room for it.")
        assert world.masks() == [0, 8, 0]
        world.want("2.0", floor=2)  # only with ctl2 back first can the other two leave
        begin = len(order(world, "balancer/ready"))
        ended(world, world.run("upgrade"), 0, "succeeded")
        assert [line.split()[2][2:-2] for line in order(world, "balancer/ready")[begin:]] == [
            "%s:5000" % world.hosts[name].address for name in ("ctl2", "ctl1", "ctl3")
        ]
        assert (world.versions(), world.masks()) == (["2.0", "2.0", "2.0"], [0, 0, 0])


def test_host_lost_between_drain_and_switch(worlds: Worlds) -> None:
    """Nothing of it was changed, so there is nothing to prove: its traffic comes back, and the one before it goes back."""
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl2"].behave("probe/baseline", {"lose": "before"})
    result = world.run("upgrade")
    told = ended(world, result, 2, "rolled_back", "echo-api@ctl2/confirm failed: The host cannot be reached")
    assert "echo-api@ctl2/change" not in told.kinds()
    assert calls(world)["ctl2 app/active"] == 0
    assert calls(world)["ctl1 app/active"] == 2
    assert (world.versions(), world.masks()) == (["1.0", "1.0"], [0, 0])
    assert {"echo-api@ctl1: 1.0", "echo-api@ctl2: 1.0"} <= set(result.lines)


def test_balancer_lost_before_the_first_drain(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=2)
    world.hosts["lb2"].behave("balancer/drain", {"lose": "before"})
    result = world.run("upgrade")
    told = ended(world, result, 2, "frozen", "echo#2@lb2/drain failed: The host cannot be reached")
    assert "not taken back: echo#2@lb2/admit (The host cannot be reached" in told.run.reason
    # No instance was begun, and the balancer that answers sends traffic as before.
    assert [calls(world)["%s app/active" % name] for name in world.apps] == [0, 0]
    assert (world.versions(), world.masks()) == (["1.0", "1.0"], [0, 0, 0, 0])
    assert calls(world)["lb2 balancer/drain"] == 0
    assert calls(world)["lb1 balancer/ready"] == 1
    assert "out of traffic: echo-api/ctl1 on lb2" in result.lines


def test_balancer_lost_between_drains(worlds: Worlds) -> None:
    """It did the drain and is gone: the instance that it would have proven drained is not touched; what was done before stays proven."""
    world = worlds(apps=2, balancers=2)
    world.hosts["lb2"].behave("balancer/drain", {}, {}, {"lose": "after"})
    result = world.run("upgrade")
    told = ended(world, result, 2, "frozen", "echo#3@lb2/drain failed: The host cannot be reached")
    assert "echo-api@ctl2/change" not in told.kinds()
    # The first instance cannot be taken back without its drain on lb2: it stays on the release that was proven, in traffic.
    assert "echo-api@ctl1/revert" not in told.kinds("back")
    assert world.versions() == ["2.0", "1.0"]
    assert world.masks() == [0, 0, 0, 8]
    assert {"echo-api@ctl1: 2.0", "echo-api@ctl2: 1.0"} <= set(result.lines)
    assert calls(world)["ctl1 app/active"] == 1

    world.hosts["lb2"].start()
    ended(world, world.run("upgrade", "-e", "osops_accept_frozen=%s" % told.run.id), 0, "succeeded")
    assert (world.versions(), world.masks()) == (["2.0", "2.0"], [0, 0, 0, 0])


def test_balancer_lost_after_the_last_drain(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=2)
    world.hosts["lb2"].behave("balancer/ready", {}, {"lose": "before"})
    result = world.run("upgrade")
    told = ended(world, result, 2, "frozen", "echo#3@lb2/admit failed: The host cannot be reached")
    # Nothing can be taken back without lb2, and every instance runs the release that was proven on it.
    assert [name for name in told.kinds("back") if name.endswith("/revert")] == []
    assert world.versions() == ["2.0", "2.0"]
    assert world.masks() == [0, 0, 0, 8]
    assert [calls(world)["%s app/active" % name] for name in world.apps] == [1, 1]
    # Nobody can ask lb2, and it was told to drain both: ctl2 on the way out, ctl1 on the way back.
    assert "out of traffic: echo-api/ctl1 on lb2, echo-api/ctl2 on lb2" in result.lines

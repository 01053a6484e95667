# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs whose control process ends in the middle of an act, and the same playbook after it."""

from __future__ import annotations

import pytest

from tests.walk.conftest import Worlds
from tests.walk.told import Told, ended, order
from tests.walk.world import World, kill_tree

ACTS = {
    "drain": ("lb1", "balancer/drain", "echo#2@lb1/drain"),
    "switch": ("ctl1", "app/active", "echo-api@ctl1/change"),
    "schema": ("ctl1", "data/expand", "echo.data/change"),
}


def acts(world: World, host: str, act: str) -> list[tuple[bool, bool]]:
    """(resumed, changed) of each call, in the order of time."""
    module, state = act.split("/")
    return [
        (call["resume"], call["changed"])
        for call in world.hosts[host].calls
        if (call["module"], call["state"]) == (module, state)
    ]


def stands_at_the_end(world: World) -> None:
    """Where the undisturbed run ends, with each change made once."""
    assert (world.versions(), world.masks()) == (["2.0", "2.0"], [0, 0])
    assert [sum(changed for _resume, changed in acts(world, name, "app/active")) for name in world.apps] == [1, 1]
    assert sum(changed for _resume, changed in acts(world, "ctl1", "data/expand")) == 1
    switches = [line.split()[:2] for line in order(world, "balancer/drain", "app/active", "probe/verify", "balancer/ready")]
    assert (
        switches.index(["ctl1", "probe/verify"])
        < switches.index(["lb1", "balancer/ready"])
        < switches.index(["ctl2", "app/active"])
    )


@pytest.mark.parametrize("act", ACTS)
def test_the_main_process_alone(worlds: Worlds, act: str) -> None:
    """Its worker lives on, finishes the act and journals it; the same command waits for that and does it no second time."""
    world = worlds(apps=2, balancers=1)
    host, what, step = ACTS[act]
    world.hosts[host].behave(what, {"hold": True})
    process = world.start("upgrade")
    world.hosts[host].reached()
    process.kill()
    assert process.wait() == -9
    before = Told(world)
    assert (before.run.state, before.kinds()[step]) == ("running", "intent")
    begin = world.written()
    again = world.start("upgrade")
    world.hosts[host].release()
    told = ended(world, world.finish(again, begin), 0, "succeeded")
    assert told.run.id == before.run.id
    assert told.run.token > before.run.token
    assert [(entry.attempt, entry.kind) for entry in told.entries if entry.step == step] == [(1, "intent"), (1, "done")]
    assert acts(world, host, what)[0] == (False, True)
    stands_at_the_end(world)


@pytest.mark.parametrize("act", ACTS)
def test_everything_on_the_control_node(worlds: Worlds, act: str) -> None:
    """What it left on the host goes on there, under the host's lock; the same command acts behind it and finds it done."""
    world = worlds(apps=2, balancers=1)
    host, what, step = ACTS[act]
    world.hosts[host].behave(what, {"hold": True})
    process = world.start("upgrade")
    world.hosts[host].reached()
    kill_tree(process)
    before = Told(world)
    assert (before.run.state, before.kinds()[step]) == ("running", "intent")
    begin = world.written()
    again = world.start("upgrade")
    world.hosts[host].release()
    told = ended(world, world.finish(again, begin), 0, "succeeded")
    assert told.run.id == before.run.id
    assert [(entry.attempt, entry.kind) for entry in told.entries if entry.step == step] == [
        (1, "intent"),
        (2, "intent"),
        (2, "done"),
    ]
    assert acts(world, host, what)[:2] == [(False, True), (True, False)]
    stands_at_the_end(world)


def test_sigterm(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl2"].behave("app/active", {"hold": True})
    process = world.start("upgrade")
    world.hosts["ctl2"].reached()
    process.terminate()
    assert process.wait(60) != 0
    world.hosts["ctl2"].release()
    told = ended(world, world.run("upgrade"), 0, "succeeded")
    assert len([entry for entry in told.entries if entry.step == "echo-api@ctl2/change" and entry.kind == "done"]) == 1
    stands_at_the_end(world)


def test_killed_on_the_way_back(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl1"].behave("app/active", {}, {"hold": True})
    world.hosts["ctl2"].behave("app/active", {"fail": "No room for it."})
    process = world.start("upgrade")
    world.hosts["ctl1"].reached()
    kill_tree(process)
    world.hosts["ctl1"].release()
    assert Told(world).run.state == "rolling_back"
    result = world.run("upgrade")
    told = ended(world, result, 2, "rolled_back", "echo-api@ctl2/change failed: No room for it.")
    assert (world.versions(), world.masks()) == (["1.0", "1.0"], [0, 0])
    assert [entry.attempt for entry in told.entries if entry.step == "echo-api@ctl1/revert" and entry.kind == "intent"] == [1, 2]
    assert {"echo-api@ctl1: 1.0", "echo-api@ctl2: 1.0"} <= set(result.lines)


def test_rollback_of_an_upgrade_that_was_killed_half_done(worlds: Worlds) -> None:
    world = worlds(apps=3, balancers=1)
    world.hosts["ctl2"].behave("app/active", {"hold": True})
    process = world.start("upgrade")
    world.hosts["ctl2"].reached()
    kill_tree(process)
    world.hosts["ctl2"].release()
    half = Told(world)
    result = world.run("rollback")
    told = ended(world, result, 0, "rolled_back", "a rollback was asked for")
    assert told.run.id == half.run.id
    assert (world.versions(), world.masks()) == (["1.0", "1.0", "1.0"], [0, 0, 0])
    assert [name for name in told.begun("back") if name.endswith("/revert")] == ["echo-api@ctl2/revert", "echo-api@ctl1/revert"]
    assert acts(world, "ctl3", "app/active") == []
    assert sum(line.split()[1] == "data/expand" for line in order(world)) == 1
    assert {"echo-api@%s: 1.0" % name for name in world.apps} <= set(result.lines)

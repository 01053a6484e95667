# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""People who steer runs: twice at once, pause, cancel, and the switches of ansible-playbook that a run cannot have."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store
from tests.walk.conftest import Worlds
from tests.walk.told import Told, calls, ended
from tests.walk.world import kill_tree


def test_the_same_service_twice_at_once(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl1"].behave("app/active", {"hold": True})
    begin = world.written()
    first = world.start("upgrade")
    world.hosts["ctl1"].reached()
    run = Told(world).run
    for verb in ("upgrade", "rollback"):
        second = world.run(verb)
        assert second.rc == 2
        assert "The run %s (upgrade of echo) is going on" % run.id in second.out
        assert "process %d on" % first.pid in second.out
    world.want("3.0")
    other = world.run("upgrade")
    assert other.rc == 2
    assert "The upgrade run %s of echo is running, and it has another goal than this call." % run.id in " ".join(
        other.out.split()
    )
    world.hosts["ctl1"].release()
    result = world.finish(first, begin)
    told = Told(world)
    assert (result.rc, told.run.id, told.run.state) == (0, run.id, "succeeded")
    assert [calls(world)["%s app/active" % name] for name in world.apps] == [1, 1]
    assert (world.versions(), world.masks()) == (["2.0", "2.0"], [0, 0])


def test_pause_between_batches_and_going_on(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl1"].behave("app/active", {"hold": True})
    begin = world.written()
    process = world.start("upgrade")
    world.hosts["ctl1"].reached()
    wish = world.run("pause")
    assert wish.rc == 0
    assert "run %s will be paused before its next batch" % Told(world).run.id in wish.out
    world.hosts["ctl1"].release()
    result = world.finish(process, begin)
    told = ended(world, result, 0, "paused", "a pause was asked for")
    # The batch in hand came to its end: nothing waits out of traffic.
    assert (world.versions(), world.masks()) == (["2.0", "1.0"], [0, 0])
    assert result.lines[-1] == "next: the same playbook again goes on"
    assert {"echo-api@ctl1: 2.0", "echo-api@ctl2: 1.0"} <= set(result.lines)

    assert ended(world, world.run("upgrade"), 0, "succeeded").run.id == told.run.id
    assert [calls(world)["%s app/active" % name] for name in world.apps] == [1, 1]
    assert calls(world)["ctl1 data/expand"] == 1
    assert (world.versions(), world.masks()) == (["2.0", "2.0"], [0, 0])


def test_pause_of_a_run_that_was_cut_in_the_middle_of_a_batch(worlds: Worlds) -> None:
    """The batch that was cut ends first: a pause never leaves an instance drained. A paused run can be cancelled."""
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl1"].behave("app/active", {"hold": True})
    process = world.start("upgrade")
    world.hosts["ctl1"].reached()
    kill_tree(process)
    world.hosts["ctl1"].release()
    cut = Told(world).run
    assert "run %s seems to have nobody who works on it, so it waits already" % cut.id in world.run("pause", "--check").out
    assert (
        "run %s will be cancelled when its playbook runs again: nobody works on it (not asked" % cut.id
        in world.run("cancel", "--check").out
    )
    assert Told(world).run.asked == ""
    begin = world.written()
    process = world.start("upgrade")
    store = Store(world.store)
    while store.run(cut.id).token == cut.token:
        assert process.poll() is None, "it ended before it took the run over"
    store.ask(cut.id, "pause")  # before its first gate, which is that of the batch that was cut
    ended(world, world.finish(process, begin), 0, "paused", "a pause was asked for")
    assert (world.versions(), world.masks()) == (["2.0", "1.0"], [0, 0])
    wish = world.run("cancel")
    assert wish.rc == 0
    assert "run %s is cancelled" % cut.id in wish.out
    told = Told(world)
    assert (told.run.state, told.run.reason) == ("cancelled", "it was cancelled; what is done stays as it is")
    assert ended(world, world.run("upgrade"), 0, "succeeded").run.id != cut.id


def test_cancel(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl1"].behave("app/active", {"hold": True})
    begin = world.written()
    process = world.start("upgrade")
    world.hosts["ctl1"].reached()
    assert world.run("cancel").rc == 0
    world.hosts["ctl1"].release()
    result = world.finish(process, begin)
    cancelled = ended(world, result, 2, "cancelled", "it was cancelled; what is done stays as it is")
    assert (world.versions(), world.masks()) == (["2.0", "1.0"], [0, 0])
    # A new plan, from what is there.
    told = ended(world, world.run("upgrade"), 0, "succeeded")
    assert told.run.id != cancelled.run.id
    assert [calls(world)["%s app/active" % name] for name in world.apps] == [1, 1]
    assert (world.versions(), world.masks()) == (["2.0", "2.0"], [0, 0])
    nobody = world.run("cancel")
    assert nobody.rc == 2
    assert "No run of this cloud is going on that could be cancelled." in nobody.out


@pytest.mark.parametrize(
    "switch",
    [
        ("--limit", "ctl1"), ("--limit", "apps:!ctl2"), ("--tags", "drain"), ("--skip-tags", "drain"),
        ("--skip-tags", "always"), ("--skip-tags", "all"), ("--skip-tags", "tagged"),
    ],
    ids="=".join,
)  # fmt: skip
def test_switches_that_leave_out_parts_are_refused(worlds: Worlds, switch: tuple[str, str]) -> None:
    world = worlds(apps=1, balancers=1)
    result = world.run("upgrade", *switch)
    assert result.rc == 2, result.out[-3000:]
    assert "%s cannot be used with the playbooks of this collection" % switch[0] in result.out
    assert calls(world) == {}
    assert not pathlib.Path(world.folder / "store.db").exists(), "a refusal writes nothing"


@pytest.mark.parametrize("verb", ["rollback", "pause", "cancel", "status", "plan"])
def test_a_limit_never_makes_a_verb_do_nothing_quietly(worlds: Worlds, verb: str) -> None:
    result = worlds(apps=1, balancers=0).run(verb, "--limit", "ctl1")
    assert result.rc == 2, result.out[-3000:]
    assert "--limit cannot be used" in result.out


@pytest.mark.parametrize("task", ["Open the run", "Ask the gate", "Derive the way back", "Close the run"])
def test_starting_in_the_middle_does_nothing(worlds: Worlds, task: str) -> None:
    """Whatever is left out, no target is named without an open run, so no step runs."""
    world = worlds(apps=1, balancers=1)
    result = world.run("upgrade", "--start-at-task", task)
    # A task of a play that has no hosts is one that Ansible does not find: it says so itself, and exits with 0.
    assert result.rc == (0 if task == "Ask the gate" else 2), result.out[-3000:]
    assert ('No matching task "Ask the gate" found' in result.out) == (result.rc == 0)
    assert calls(world) == {}
    assert world.versions() == ["1.0"]


def test_check_mode_shows_the_plan_and_touches_nothing(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    result = world.run("upgrade", "--check", "--diff")
    assert result.rc == 0, result.out[-3000:]
    assert "batch 3: echo#3@lb1, echo-api@ctl2" in result.out
    assert "echo-api@ctl1: 1.0 -> 2.0" in result.out
    assert calls(world) == {}
    assert (world.versions(), world.masks()) == (["1.0", "1.0"], [0, 0])
    assert not pathlib.Path(world.folder / "store.db").exists()
    world.want("2.0", floor=2)
    below = world.run("upgrade", "--check")
    assert below.rc == 2
    assert "would have 1 healthy servers, the floor is 2" in " ".join(below.out.split())

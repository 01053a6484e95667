# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run told: its exit code, last lines, store and journal, held against what the hosts themselves wrote down."""

from __future__ import annotations

import collections
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import model
from ansible_collections.osops.lifecycle.plugins.plugin_utils.journaled import last_kinds
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store
from tests.walk.world import Result, World


class Told:
    """One run as the store has it; ``number`` 0 is the newest of the world's cloud."""

    def __init__(self, world: World, number: int = 0) -> None:
        store = Store(world.store)
        runs = store.runs(world.cloud)
        assert len(runs) > number, "no such run in the store"
        self.run = runs[number]
        self.entries = store.entries(self.run.id)
        self.plans = {model.OUT: store.plan(self.run.id), model.BACK: store.back(self.run.id)}

    def step(self, way: str, name: str) -> model.Step:
        plan = self.plans[way]
        assert plan is not None
        return next(step for step in plan.steps if step.id == name)

    def kinds(self, way: str = model.OUT) -> dict[str, str]:
        """Step -> its newest kind, of those that were begun."""
        return last_kinds(self.entries, way)

    def begun(self, way: str) -> list[str]:
        """The steps of one way, in the order in which they were begun."""
        return [entry.step for entry in self.entries if entry.way == way and entry.kind == "intent"]

    def unexplained(self) -> list[str]:
        """Intents of a run that is over without an end, without a later attempt, and without a way back for their target."""
        if self.run.state in model.OPEN_STATES:
            return []
        returned = {entry.step.rpartition("/")[0] for entry in self.entries if entry.way == model.BACK}
        last = {(entry.way, entry.step): entry for entry in self.entries}
        open_ones = [entry for entry in last.values() if entry.kind == "intent"]
        return [entry.step for entry in open_ones if entry.way == model.BACK or entry.step.rpartition("/")[0] not in returned]


def ended(world: World, result: Result, rc: int, state: str, why: str = "") -> Told:
    """Exit code, state and reason say the same thing, in the store and in the last lines."""
    told = Told(world)
    assert (result.rc, told.run.state) == (rc, state), result.out[-6000:]
    assert why in told.run.reason
    assert bool(told.run.reason) == bool(why)
    assert result.lines[0] == "run %s, %s of %s on %s: %s" % (
        told.run.id, told.run.verb, ", ".join(told.run.services), world.cloud, state.upper(),
    )  # fmt: skip
    assert ("why: %s" % told.run.reason in result.lines) == bool(why)
    return told


def refused(world: World, result: Result, *words: str) -> None:
    """A run that was never opened: one sentence, exit code 2, nothing in the store, nothing called."""
    assert result.rc == 2, result.out[-6000:]
    text = " ".join(result.out.split())
    assert [word for word in words if word not in text] == [], result.out[-6000:]
    assert Store(world.store).runs(world.cloud) == []
    assert calls(world) == {}


def calls(world: World) -> collections.Counter[str]:
    """HOST MODULE/STATE -> how often the driver really ran there."""
    return collections.Counter(
        "%s %s/%s" % (name, call["module"], call["state"]) for name, host in world.hosts.items() for call in host.calls
    )


def order(world: World, *acts: str) -> list[str]:
    """HOST MODULE/STATE WHAT of the calls, over all hosts, in the order of time; ``acts`` are the MODULE/STATE wanted."""
    found = [
        (call["at"], "%s %s/%s %s" % (name, call["module"], call["state"], call["what"]), call)
        for name, host in world.hosts.items()
        for call in host.calls
    ]
    return [text for _at, text, call in sorted(found) if not acts or "%s/%s" % (call["module"], call["state"]) in acts]


def audit(world: World) -> None:
    """Journal and hosts agree: nothing ran without an intent, nothing is called done that did not run, every intent has its end."""
    done: collections.Counter[str] = collections.Counter()
    meant: collections.Counter[str] = collections.Counter()
    for number in range(len(Store(world.store).runs(world.cloud))):
        told = Told(world, number)
        assert told.unexplained() == []
        attempts: dict[tuple[str, str], list[t.Any]] = {}
        for entry in told.entries:
            attempts.setdefault((entry.way, entry.step), []).append(entry)
            row = told.step(entry.way, entry.step)
            key = "%s %s/%s" % (row.host, row.module.rpartition(".")[2], row.args["state"])
            meant[key] += entry.kind == "intent"
            done[key] += entry.kind == "done"
        for (_way, name), entries in attempts.items():
            intents = [entry for entry in entries if entry.kind == "intent"]
            assert [entry.attempt for entry in intents] == list(range(1, len(intents) + 1)), name
            ends = [entry.attempt for entry in entries if entry.kind != "intent"]
            assert len(ends) == len(set(ends)), name
            assert set(ends) <= {entry.attempt for entry in intents}, name
            assert entries[0].kind == "intent"
    ran = calls(world)
    assert done - ran == {}, "called done, but did not run"
    assert ran - meant == {}, "ran without an intent"

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a run is, from its plan and its journal: batches, steps, what is in hand, and what is left. Pure."""

from __future__ import annotations

import dataclasses
import statistics
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import control
from ansible_collections.osops.lifecycle.plugins.plugin_utils.journaled import last_kinds
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import BACK, OUT, Entry, Plan, Run

WORKING = ("running", "rolling_back")


@dataclasses.dataclass(frozen=True)
class Batch:
    """One batch of a plan, as the journal has it. Fetching is not counted: it is done for all batches at once."""

    number: int
    of: int
    way: str
    targets: tuple[str, ...]
    done: bool
    began: float
    """0.0 while nothing of it has begun"""
    seconds: float
    """from its first intent to its last end"""

    @property
    def kind(self) -> frozenset[str]:
        """The components of its instances, none for a service's data: batches of one kind take about as long as each other."""
        return frozenset(target.partition("@")[0] for target in self.targets if "@" in target and "#" not in target)


@dataclasses.dataclass(frozen=True)
class InHand:
    """A step that was begun and has no end."""

    step: str
    way: str
    seconds: float
    deadline_s: float


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is on the way that it is on."""

    run: Run
    way: str
    batches: tuple[Batch, ...]
    done: int
    total: int
    seconds: float
    """since the run began, up to its last entry when nobody works on it"""
    in_hand: tuple[InHand, ...]

    @property
    def batch(self) -> int:
        """Number of the first batch that is not done, or of the last one."""
        return next((batch.number for batch in self.batches if not batch.done), len(self.batches))

    @property
    def finished(self) -> tuple[Batch, ...]:
        return tuple(batch for batch in self.batches if batch.done)


def progress(run: Run, plan: Plan, back: Plan | None, entries: t.Sequence[Entry], now: float, held: bool = True) -> Progress:
    """``held`` is whether somebody works on the run; only then the time goes on."""
    way, made = (BACK, back) if back is not None and back.batches else (OUT, plan)
    kinds = last_kinds(entries, way)
    working = run.state in WORKING
    until = now if working and held else max((entry.at for entry in entries), default=run.created)
    begun = control.open_intents(entries) if working else []
    return Progress(
        run=run,
        way=way,
        batches=_batches(made, entries, way),
        done=sum(kinds.get(step.id) == "done" for step in made.steps),
        total=len(made.steps),
        seconds=max(until - run.created, 0.0),
        in_hand=tuple(InHand(e.step, e.way, max(now - e.at, 0.0), max(e.deadline_at - e.at, 0.0)) for e in begun),
    )


def _batches(plan: Plan, entries: t.Sequence[Entry], way: str) -> tuple[Batch, ...]:
    kinds = last_kinds(entries, way)
    steps: dict[str, list[str]] = {}
    for step in plan.steps:
        if step.do != "fetch":
            steps.setdefault(step.target, []).append(step.id)
    times: dict[str, list[float]] = {}
    for entry in entries:
        if entry.way == way:
            times.setdefault(entry.step, []).append(entry.at)
    found = []
    for number, targets in enumerate(plan.batches, 1):
        ours = [step for target in targets for step in steps.get(target, ())]
        when = [at for step in ours for at in times.get(step, ())]
        done = all(kinds.get(step) == "done" for step in ours)
        began, seconds = (min(when), max(when) - min(when)) if when else (0.0, 0.0)
        found.append(Batch(number, len(plan.batches), way, targets, done, began, seconds))
    return tuple(found)


def rest(seen: Progress, now: float) -> float | None:
    """Seconds that the batches left may take, an estimate from those of this run that are finished; None while there are none."""
    finished = [batch for batch in seen.finished if batch.kind]
    if not finished or seen.run.state not in WORKING:
        return None
    total = 0.0
    for batch in seen.batches:
        if not batch.done:
            alike = [other.seconds for other in finished if other.kind == batch.kind] or [other.seconds for other in finished]
            total += max(statistics.median(alike) - (now - batch.began if batch.began else 0.0), 0.0)
    return total


# -- texts ---------------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """One line without control characters: reasons hold what hosts have answered."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def steps_text(seen: Progress) -> str:
    where = "of the way back" if seen.way == BACK else ""
    return " ".join(("%d of %d steps" % (seen.done, seen.total), where)).strip()


def first_line(seen: Progress, plan: Plan) -> str:
    """What a run is going to do, or to go on with."""
    run = seen.run
    goes_on = ", goes on at %s" % steps_text(seen) if seen.done else ""
    return "run %s: %s of %s on %s, %d batches, %d steps%s" % (
        run.id, run.verb, ", ".join(run.services) or "nothing", run.cloud, len(plan.batches), len(plan.steps), goes_on,
    )  # fmt: skip


def batch_line(batch: Batch, seen: Progress, now: float) -> str:
    """One finished batch."""
    left = rest(seen, now)
    estimate = ", about %.0f s left (estimate)" % left if left else ""
    name = "batch %d of %d%s" % (batch.number, batch.of, " of the way back" if batch.way == BACK else "")
    told = "run %s: %s done in %.0f s: %s; %s%s"
    return told % (seen.run.id, name, batch.seconds, " ".join(batch.targets), steps_text(seen), estimate)


def end_line(seen: Progress) -> str:
    """How a run ended, or how it was left."""
    why = ", why: %s" % plain(seen.run.reason) if seen.run.reason else ""
    return "run %s: %s after %.0f s, %s%s" % (seen.run.id, seen.run.state.upper(), seen.seconds, steps_text(seen), why)


def live_lines(seen: Progress, flying: t.Mapping[tuple[str, str], float], read_s: float, now: float) -> list[str]:
    """The box on a terminal: three lines. ``flying`` is (target, step word) -> seconds; ``read_s`` is the age of ``seen``."""
    run = seen.run
    head = "run %s: %s of %s on %s, %.0f s" % (run.id, run.verb, ", ".join(run.services), run.cloud, seen.seconds + read_s)
    if run.state != "running":
        head += ", %s" % run.state.upper()
    left = rest(seen, now)
    where = "way back, batch" if seen.way == BACK else "batch"
    body = "%s %d of %d, %s" % (where, seen.batch, len(seen.batches), steps_text(seen))
    if left is not None:
        body += ", about %.0f s left (estimate)" % left
    acts = ["%s %s %.0f s" % (target, do, seconds) for (target, do), seconds in flying.items()]
    return [plain(head), body, plain("in flight: %s" % ("; ".join(acts) or "nothing"))]

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run control as pure functions: may a run go on, who holds it, where does it end."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.plugin_utils.journaled import last_kinds
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import BACK, CHANGING, OPEN_STATES, OUT, Entry, Plan, Run

ROLLBACK_ASKED = "a rollback was asked for"
"""The reason of a run that nothing turned but a person."""
TAKES_BACK = {"rollback": "upgrade", "remove": "deploy"}
"""Verb -> the verb whose open run it takes back."""
CANCELLED = "it was cancelled; what is done stays as it is"


@dataclasses.dataclass(frozen=True)
class Gate:
    """The answer at the head of a batch: go, or the state that the run takes instead."""

    go: bool
    state: str = ""
    reason: str = ""


def gate(run: Run, token: int, way: str) -> Gate:
    """The one door for what people and policies want of a run between two batches."""
    if token < run.token:
        return Gate(False, reason="another process has taken this run over")
    if way == OUT and run.state == "running" and run.asked == "pause":
        return Gate(False, "paused", "a pause was asked for")
    if way == OUT and run.state == "running" and run.asked == "cancel":
        return Gate(False, "cancelled", CANCELLED)
    wanted = "running" if way == OUT else "rolling_back"
    return Gate(True) if run.state == wanted else Gate(False, reason="the run is %s" % run.state)


def going_on(runs: t.Sequence[Run], verb: str, wanted: str, accept_frozen: bool) -> Run | None:
    """The open run that this call goes on with, None for a new one. ``runs`` are those of the services, newest first.

    Raises BadInputError where neither is right.
    """
    for run in runs:
        if run.state in OPEN_STATES:
            if TAKES_BACK.get(verb) == run.verb:
                return run
            if run.verb == verb and (run.plan_hash == wanted or run.state == "rolling_back"):
                return run
            raise BadInputError(
                "The %s run %s of %s is %s, and it has another goal than this call."
                % (run.verb, run.id, ", ".join(run.services), run.state),
                "run.other_goal",
                "Finish it with the record that it began with%s."
                % "".join(
                    ", or take it back with the playbook %s" % name for name, taken in TAKES_BACK.items() if taken == run.verb
                ),
                {"run": run.id},
            )
    if runs and runs[0].state == "frozen" and not accept_frozen:
        raise BadInputError(
            "The run %s is frozen: %s." % (runs[0].id, runs[0].reason.rstrip(".")),
            "run.frozen",
            "Mend what it names (playbook status shows it); then -e osops_accept_frozen=%s plans anew from what is there."
            % runs[0].id,
            {"run": runs[0].id},
        )
    return None


def unfinished(plan: Plan, entries: t.Sequence[Entry], way: str) -> list[tuple[str, ...]]:
    """The batches of a plan without the targets whose steps are all done: what becomes hosts when a run goes on."""
    kinds = last_kinds(entries, way)
    undone = {step.target for step in plan.steps if kinds.get(step.id) != "done"}
    batches = [tuple(target for target in batch if target in undone) for batch in plan.batches]
    return [batch for batch in batches if batch]


def open_intents(entries: t.Sequence[Entry]) -> list[Entry]:
    """Intents without an end: somebody may still be acting on them."""
    last = {(entry.way, entry.step): entry for entry in entries}
    return [entry for entry in last.values() if entry.kind == "intent"]


def lost(run: Run, entries: t.Sequence[Entry]) -> str:
    """Why a run must turn although no step said so: a step that this holder began has no end, and nobody is acting any more.

    Asked where nothing can be acting: between two batches, and before the way back.
    """
    for entry in open_intents(entries):
        if run.state == "running" and entry.way == OUT and entry.token == run.token:
            return "%s was begun, and its end could not be written" % entry.step
    return ""


@dataclasses.dataclass(frozen=True)
class End:
    """Where a run stands when its playbook ends."""

    state: str
    reason: str
    ok: bool


def ending(run: Run, plan: Plan, way_back: Plan | None, entries: t.Sequence[Entry]) -> End:
    """The state in which a run is left. Only a run whose every step is done has succeeded."""
    if run.state == "running":
        left = _left(plan, last_kinds(entries, OUT))
        if not left:
            return End("succeeded", "", True)
        return End("running", "the playbook ended before %s; the same command goes on" % left[0], False)
    if run.state != "rolling_back":
        return End(run.state, run.reason, run.state in ("succeeded", "paused"))
    if way_back is None:
        return End("rolling_back", run.reason, False)
    left = _left(way_back, last_kinds(entries, BACK))
    if left:
        where = "%s; and not taken back: %s" % (run.reason.rstrip("."), _because(left, entries))
        return End("frozen", where, False)
    changed = {step.id for step in plan.steps if step.undo is not None or step.do in CHANGING}
    if run.reason != ROLLBACK_ASKED and not any(entry.step in changed and entry.way == OUT for entry in entries):
        return End("refused", run.reason, False)
    return End(run.ending or "rolled_back", run.reason, False)


def _left(plan: Plan, kinds: t.Mapping[str, str]) -> list[str]:
    """Steps that are not done, in the order of the batches."""
    place = {target: number for number, target in enumerate(target for batch in plan.batches for target in batch)}
    return sorted(
        (step.id for step in plan.steps if kinds.get(step.id) != "done"), key=lambda name: place[name.rpartition("/")[0]]
    )


def _because(left: list[str], entries: t.Sequence[Entry]) -> str:
    """The steps of the way back that failed, with their reasons; those that only waited for them go without saying."""
    last = {entry.step: entry for entry in entries if entry.way == BACK and entry.kind in ("failed", "unknown")}
    failed = ["%s (%s)" % (name, last[name].verdict.get("reason") or last[name].kind) for name in left if name in last]
    return "; ".join(failed) or ", ".join(left)

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way back of an outage (strategy offline, restore): the former release starts again, is proven, and serves. Pure.

After a restore has been begun there is nothing to go back to: what is proven on the restored data serves, all else stays out of traffic.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils.journaled import FREEZING, acted, lost
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import OUT, Entry, Plan, Step
from ansible_collections.osops.lifecycle.plugins.plugin_utils.steps import AFRESH, former_files, former_proof, proofs


def back(plan: Plan, entries: t.Sequence[Entry], ending: str) -> Plan:
    """Steps that take an outage back: all in one batch, as it began. ``ending`` frozen: what is proven and serves is left as it is."""
    out = [entry for entry in entries if entry.way == OUT]
    begun, done = acted(entries, OUT), {entry.step for entry in out if entry.kind == "done"}
    drains = [step for step in plan.steps if step.do == "drain" and step.id in begun]
    if lost(plan, entries):
        steps, notes = _restored(plan, drains, done)
    elif ending == "frozen" and drains and all(_proven(plan, key, done) for drain in drains for key in _instances(plan, drain)):
        steps, notes = _left(drains, {entry.step: entry for entry in out})
    else:
        steps, notes = _undone(plan, drains, begun, done), []
    batch = tuple(sorted(dict.fromkeys(step.target for step in steps), key=lambda target: "#" not in target))
    return dataclasses.replace(plan, batches=(batch,) if batch else (), steps=tuple(steps), refusals=(), notes=tuple(notes))


def _left(drains: list[Step], last: t.Mapping[str, Entry]) -> tuple[list[Step], list[str]]:
    """The change is proven, and something else froze the run: requests for what has none yet, but not against somebody's word."""
    steps, notes = [], []
    for drain in drains:
        admitted = last.get(drain.target + "/admit")
        if admitted is not None and admitted.verdict.get("code") in FREEZING:
            notes.append("%s stays as somebody else has left it" % drain.target)
        elif admitted is None or admitted.kind != "done":
            steps.append(_admit(drain, ()))
    return steps, notes


def _proven(plan: Plan, key: str, done: t.Collection[str]) -> bool:
    tests = proofs(plan.steps, key)
    return bool(tests) and all(test.id in done for test in tests)


def _restored(plan: Plan, drains: list[Step], done: set[str]) -> tuple[list[Step], list[str]]:
    """Traffic for what is proven, and a sentence for what is not."""
    steps, notes = [], []
    for drain in drains:
        mine = _instances(plan, drain)
        unproven = [key for key in mine if not ({step.id for step in proofs(plan.steps, key)} or {key + "/revert"}) <= done]
        if unproven:
            notes.append("%s stays out of traffic: %s is not proven on the restored data" % (drain.target, ", ".join(unproven)))
        elif drain.target + "/admit" not in done:
            steps.append(_admit(drain, ()))
    return steps, notes


def _undone(plan: Plan, drains: list[Step], begun: set[str], done: set[str]) -> list[Step]:
    """The former release on every instance that was halted, and the traffic of all."""
    halts = [step for step in plan.steps if step.do == "halt" and step.id in begun and step.undo is not None]
    # What did not run before and was not started has nothing to come back.
    halts = [step for step in halts if (step.expect or {}).get("running", True) or _start(plan, step.target) in begun]
    served = any(step.do == "admit" and step.id in begun for step in plan.steps)
    # Where something serves already, it is taken out of traffic before it stops once more.
    steps = [
        dataclasses.replace(step, **{**AFRESH, "needs": (drain.target + "/drain",) if step.do == "confirm" else ()})
        for drain in drains
        for step in plan.steps
        if served and halts and step.target == drain.target and step.do in ("drain", "confirm")
    ]
    quiet = tuple(step.id for step in steps if step.do == "confirm")
    proven: dict[str, tuple[str, ...]] = {}
    touching: dict[str, tuple[str, ...]] = {}
    answers: dict[str, tuple[str, ...]] = {}
    for halt in halts:
        files = former_files(plan.steps, halt.target, begun, quiet)
        again = {**AFRESH, "needs": quiet}
        if files:
            again.update(needs=(*quiet, files[-1].id), expect_from=(files[0].id,))
        revert = dataclasses.replace(halt, **again, id=halt.target + "/revert", do="revert", args=halt.undo or {})
        steps += [*files, revert]
        if "instance" not in halt.args:  # what a balancer answered meanwhile
            answers[halt.host] = (revert.id,)
            continue
        tests = [former_proof(test, halt.expect, revert) for test in proofs(plan.steps, halt.target)]
        steps += tests
        proven[halt.target] = tuple(test.id for test in tests) or (revert.id,)
        touching[halt.target] = (*(step.id for step in files), revert.id)
    for drain in drains:
        keys = _instances(plan, drain)
        needs = tuple(name for key in keys for name in proven.get(key, ())) + answers.get(drain.host, ())
        # Where another balancer cannot be drained, nothing is reverted: what was proven on the way out gets its traffic back.
        untouched = tuple(name for key in keys for name in touching.get(key, ()))
        spared = all(_proven(plan, key, done) for key in keys)
        steps.append(_admit(drain, needs, untouched if spared and drain.host not in answers else ()))
    return steps


def _start(plan: Plan, key: str) -> str:
    """The step that starts the wanted release on an instance, by its id."""
    return next((step.id for step in plan.steps if step.target == key and step.do in ("change", "revert")), "")


def _admit(drain: Step, needs: tuple[str, ...], unless_begun: tuple[str, ...] = ()) -> Step:
    more = {**AFRESH, "needs": needs, "unless_begun": unless_begun}
    return dataclasses.replace(
        drain, **more, id=drain.target + "/admit", do="admit", phase="traffic_rollout", args=drain.undo or {}
    )


def _instances(plan: Plan, drain: Step) -> list[str]:
    """The instances whose servers a share has."""
    halts = [step for step in plan.steps if step.do == "halt" and "instance" in step.args]
    return [step.target for step in halts if step.args["instance"].get("listen") in drain.servers.values()]

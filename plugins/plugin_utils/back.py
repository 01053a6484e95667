# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way back: a pure function of the plan and the journal. What was begun goes back in reverse, each to what it was before."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import restarted
from ansible_collections.osops.lifecycle.plugins.plugin_utils.journaled import FREEZING, acted
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import BACK, OUT, Entry, Json, Plan, Step
from ansible_collections.osops.lifecycle.plugins.plugin_utils.steps import AFRESH, ShareSteps, former_files, former_proof, proofs

CHANGES = ("change", "repair", "revert")


def back(plan: Plan, entries: t.Sequence[Entry], ending: str) -> Plan:
    """Steps that take a run back. ``ending`` frozen: nothing is reverted, only proven or untouched servers get traffic again.

    Every instance goes back alone, even when it went forward with others: a server returns as soon as its own proof is there.
    """
    if plan.verb in ("deploy", "remove"):
        return _away(plan, entries) if plan.verb == "deploy" else _stay(plan, entries)
    way = _Way(plan, entries, ending)
    for place, batch in reversed(list(enumerate(plan.batches))):
        if place in plan.outages:
            steps = tuple(step for step in plan.steps if step.target in batch)
            way.add(restarted.back(dataclasses.replace(plan, batches=(batch,), steps=steps), entries, ending))
        else:
            way.batch(batch)
    return dataclasses.replace(plan, batches=tuple(way.batches), steps=tuple(way.steps), refusals=(), notes=tuple(way.notes))


def _away(plan: Plan, entries: t.Sequence[Entry]) -> Plan:
    """A deployment that turned bad is removed: what was begun goes, traffic first, then data and process, then software; never more."""
    begun = acted(entries, OUT)
    rows = {(step.target, step.do): step for step in plan.steps}
    steps: list[Step] = []
    for target in dict.fromkeys(step.target for batch in reversed(plan.batches) for step in plan.steps if step.target in batch):
        mine = {do: step for (name, do), step in rows.items() if name == target and step.id in begun and step.undo is not None}
        for do, word, phase in (("drain", "drain", "traffic_drain"), ("admit", "drain", "traffic_drain"), ("install", "purge", "delete"),
                                ("change", "remove", "delete"), ("fetch", "remove", "delete")):  # fmt: skip
            if do not in mine or any(step.target == target and step.do == word for step in steps):
                continue
            if do == "drain":
                # Servers of the balancer's owner: out of traffic again, whatever had been admitted.
                steps.append(dataclasses.replace(mine[do], way=BACK, expect=None, needs=(), undo=None))
                continue
            steps.append(
                dataclasses.replace(
                    mine[do],
                    **AFRESH,
                    id="%s/%s" % (target, word),
                    do=word,
                    phase=phase,
                    args=mine[do].undo or {},
                    way_back="deploy",
                )
            )
    batch = tuple(sorted(dict.fromkeys(step.target for step in steps), key=lambda target: "#" not in target))
    # No instance is taken from under a balancer that still sends it requests.
    drained = tuple(step.id for step in steps if step.do == "drain")
    purged = {step.target: (step.id,) for step in steps if step.do == "purge"}
    steps = [dataclasses.replace(step, needs=drained) if step.do == "purge" else step for step in steps]
    steps = [dataclasses.replace(step, needs=purged.get(step.target, drained)) if step.do == "remove" else step for step in steps]
    return dataclasses.replace(plan, batches=(batch,) if batch else (), steps=tuple(steps), refusals=(), notes=())


def _stay(plan: Plan, entries: t.Sequence[Entry]) -> Plan:
    """A removal that failed: as long as nothing was taken away its requests come back; after that there is nothing to go back to."""
    begun = acted(entries, OUT)
    gone = [step.id for step in plan.steps if step.do in ("purge", "remove") and step.id in begun]
    drains = [] if gone else [step for step in plan.steps if step.do == "drain" and step.id in begun]
    steps = [
        dataclasses.replace(step, **AFRESH, id=step.target + "/admit", do="admit", phase="traffic_rollout", args=step.undo or {})
        for step in drains
    ]
    notes = ("%s was begun, and what is taken away does not come back by itself" % gone[0],) if gone else ()
    batch = tuple(step.target for step in steps)
    return dataclasses.replace(plan, batches=(batch,) if batch else (), steps=tuple(steps), refusals=(), notes=notes)


class _Way:
    def __init__(self, plan: Plan, entries: t.Sequence[Entry], ending: str) -> None:
        self.rows = {(step.target, step.do): step for step in plan.steps}
        self.begun = acted(entries, OUT)
        self.last = {entry.step: entry for entry in entries if entry.way == OUT}
        self.done = {entry.step: entry for entry in entries if entry.way == OUT and entry.kind == "done"}
        self.frozen = ending == "frozen"
        self.batches: list[tuple[str, ...]] = []
        self.steps: list[Step] = []
        self.notes: list[str] = []

    def add(self, part: Plan) -> None:
        """A part of the way back that was made elsewhere."""
        self.batches += part.batches
        self.steps += part.steps
        self.notes += part.notes

    def batch(self, batch: tuple[str, ...]) -> None:
        drains = [self.rows[target, "drain"] for target in batch if (target, "drain") in self.rows]
        drains = [step for step in drains if step.id in self.begun]
        changes = [step for target in batch for do in CHANGES if (step := self.rows.get((target, do)))]
        changes = [step for step in changes if step.undo is not None or drains]
        # Halted is touched too: before its repair began there is nothing but the start to take back.
        touched = [step for step in changes if step.id in self.begun or step.target + "/halt" in self.begun]
        if self.frozen or not any(step.undo is not None for step in touched):
            self._admit(drains, changes, [step for step in touched if not self._proven(step)])
            return
        for number, change in enumerate(reversed(changes)):
            shares = [self._share(drain, change, number if len(changes) > 1 else -1) for drain in drains]
            if change in touched and change.undo is None:
                self.notes += ["%s stays out of traffic: it had no former release" % share.target for share in shares]
            elif change in touched:
                self._revert(change, shares)
            elif shares:
                self._put([share.admit(()) for share in shares])

    def _admit(self, drains: list[Step], changes: list[Step], unproven: list[Step]) -> None:
        """Give servers their traffic back where nothing was changed, or what was changed has been proven."""
        open_drains = [step for step in drains if step.target + "/admit" not in self.done]
        if open_drains and not unproven:
            self._put([self._plain(drain).admit(()) for drain in open_drains])
            return
        for number, change in enumerate(reversed(changes)):
            shares = [self._share(drain, change, number if len(changes) > 1 else -1) for drain in open_drains]
            if change in unproven and self._only_halted(change):
                self._revert(change, shares)
            elif change in unproven:
                self.notes += ["%s stays out of traffic: %s is not proven" % (share.target, change.target) for share in shares]
            elif shares:
                self._put([share.admit(()) for share in shares])

    def _revert(self, change: Step, shares: list[ShareSteps]) -> None:
        after = self.done[change.id].after if change.id in self.done else None
        confirmed = tuple(share.id("confirm") for share in shares)
        revert = Step(
            id=change.target + "/revert", target=change.target, host=change.host, phase="rollback", do="revert",
            module=change.module, args=change.undo or {}, expect=after, needs=confirmed, resume=True, deadline_s=change.deadline_s, way=BACK,
        )  # fmt: skip
        files = former_files(self.rows.values(), change.target, self.begun, confirmed)
        if files:
            # What ran before starts on the configuration that it had; how it was left is what its halt tells.
            revert = dataclasses.replace(revert, expect=None, expect_from=(files[0].id,), needs=(*confirmed, files[-1].id))
        steps = [
            *files,
            revert,
            *(former_proof(test, change.expect, revert) for test in proofs(self.rows.values(), change.target)),
        ]
        proof = tuple(step.id for step in steps[1:]) or (revert.id,)
        # Where a balancer cannot be drained, the revert never begins; what was proven on the way out gets its traffic back.
        untouched = (*(step.id for step in files), revert.id) if self._proven(change) else ()
        for share in shares:
            if not self._proven(change):
                # It serves nobody and must not: to take it back can only add to what serves, however little that is just now.
                share = dataclasses.replace(share, args={**share.args, "min_available": 0})
            steps += [share.drain(), share.confirm(), share.admit(proof, untouched)]
        self._put(steps)

    def _only_halted(self, change: Step) -> bool:
        """Whether an instance was stopped and nothing else was done to it: then starting it again is no change."""
        halt = self.rows.get((change.target, "halt"))
        more = [self.rows.get((change.target, do)) for do in ("install", "restore")]
        changed = any(step is not None and step.id in self.begun for step in [change, *more])
        return halt is not None and halt.id in self.begun and not changed and change.undo is not None

    def _proven(self, change: Step) -> bool:
        tests = proofs(self.rows.values(), change.target)
        return bool(tests) and all(step.id in self.done for step in tests)

    def _share(self, drain: Step, change: Step, number: int) -> ShareSteps:
        share = self._plain(drain)
        if number < 0:
            return share
        name, _at, balancer = share.target.rpartition("@")
        listen = change.args["instance"]["listen"]
        servers = {server: address for server, address in share.servers.items() if address == listen}
        before = share.before and {server: state for server, state in share.before.items() if server in servers}
        return dataclasses.replace(
            share,
            target="%s.%d@%s" % (name, number + 1, balancer),
            args={**share.args, "servers": [listen]},
            before=before,
            restore={server: state for server, state in share.restore.items() if server in servers},
            servers=servers,
        )

    def _put(self, steps: list[Step]) -> None:
        self.steps += steps
        # The balancers before the instance, as on the way out.
        targets = sorted(dict.fromkeys(step.target for step in steps), key=lambda target: "#" not in target)
        self.batches.append(tuple(targets))

    def _plain(self, drain: Step) -> ShareSteps:
        args: dict[str, Json] = {name: value for name, value in drain.args.items() if name not in ("state", "restore")}
        restore: dict[str, Json] = drain.args["restore"]
        before = self._left(drain)
        return ShareSteps(drain.target, drain.host, drain.module, args, before, restore, drain.servers, "rollback", BACK)

    def _left(self, drain: Step) -> dict[str, Json] | None:
        """How the way out left the servers of a share, as its newest answer says; None after an act without an answer.

        What a driver refused to touch, because somebody else had, is not how we left it: then the answer before that counts.
        """
        for do in ("admit", "confirm", "drain"):
            entry = self.last.get("%s/%s" % (drain.target, do))
            if entry is not None and entry.step in self.begun and entry.verdict.get("code") not in FREEZING:
                return entry.after or None
        return drain.expect

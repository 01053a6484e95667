# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person reads: the last lines of a run, a plan on paper. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import knowledge
from ansible_collections.osops.lifecycle.plugins.plugin_utils.control import ROLLBACK_ASKED, open_intents
from ansible_collections.osops.lifecycle.plugins.plugin_utils.journaled import acted, last_kinds
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import BACK, OUT, Entry, Plan, Run

NEXT = {
    "succeeded": "nothing to do; the way back is the playbook rollback with -e osops_prior=true, or after the record names the former version",
    "paused": "the same playbook again goes on",
    "running": "the same playbook again goes on",
    "rolling_back": "the same playbook again goes on with the way back",
    "rolled_back": "mend what failed, then the same playbook again",
    "refused": "mend what is named above, then the same playbook again; nothing was changed",
    "frozen": "mend what is named above, then the same playbook with -e osops_accept_frozen=%s",
    "cancelled": "the same playbook plans anew from what is there",
    "aborted": "mend what failed, then the same playbook plans anew from what is there",
}


WELL = "all is well: processes, versions, files, schema and balancers are as the record says"

SUCCEEDED = {
    "deploy": "nothing to do; the playbook remove takes it away again",
    "remove": "nothing to do; the playbook deploy makes it anew",
    "finalize": "nothing to do; from now on the only way back is a restore, which loses what was written since the backup",
    "backup": "nothing to do",
    "operational": "nothing to do",
    "clean": "nothing to do",
    "rollback": "nothing to do; the playbook upgrade goes forward again, after the record names the newer version",
}
"""The next command after a verb that succeeded, where it is not that of ``NEXT``."""


def what_next(run: Run) -> str:
    """The next command after a run as it is; ``%s`` in it stands for the run's id."""
    if run.state == "succeeded":
        return SUCCEEDED.get(run.verb, NEXT["succeeded"])
    if run.state == "rolled_back" and run.reason == ROLLBACK_ASKED:
        return "nothing to do; the playbook %s begins anew" % run.verb
    return NEXT.get(run.state, "")


def where_it_stands(plan: Plan, entries: t.Sequence[Entry]) -> dict[str, str]:
    """Instance -> version that the journal proves; ``unknown`` where an act was begun and not proven since, ``stopped`` where it was halted."""
    out, back = last_kinds(entries, OUT), last_kinds(entries, BACK)
    halted = acted(entries, OUT)
    tested = {step.target for step in plan.steps if step.do == "test"}
    stands = {}
    for key, (old, new) in plan.moves.items():
        changed = next((out[key + "/" + do] for do in ("change", "repair", "revert", "purge") if key + "/" + do in out), "")
        reverted, removed = back.get(key + "/revert", ""), back.get(key + "/remove", "")
        proven = {way: kinds.get(key + "/test") == "done" or key not in tested for way, kinds in ((OUT, out), (BACK, back))}
        if reverted or removed:
            stands[key] = old if removed == "done" or (reverted == "done" and proven[BACK]) else "unknown"
        elif key + "/halt" in back:
            stands[key] = "stopped" if back[key + "/halt"] == "done" else "unknown"
        elif not changed:
            stands[key] = "stopped" if key + "/halt" in halted else old
        else:
            stands[key] = new if changed == "done" and proven[OUT] else "unknown"
    return stands


def last_lines(run: Run, plan: Plan, back: Plan | None, entries: t.Sequence[Entry]) -> list[str]:
    """What failed, what was done, where the cloud stands, the next command."""
    done = sum(kind == "done" for kind in last_kinds(entries, OUT).values())
    lines = [
        "run %s, %s of %s on %s: %s" % (run.id, run.verb, ", ".join(run.services) or "nothing", run.cloud, run.state.upper())
    ]
    if run.reason:
        lines.append("why: %s" % run.reason)
    lines.append("done: %d of %d steps" % (done, len(plan.steps)))
    if back is not None:
        returned = sum(kind == "done" for kind in last_kinds(entries, BACK).values())
        lines[-1] += ", then %d of %d steps of the way back" % (returned, len(back.steps))
        lines += ["note: %s" % note for note in back.notes]
    lines += ["DRIFT: %s" % drift for drift in plan.drift]
    restores = {step.id for step in plan.steps if step.loses}
    lines += ["lost: %s" % entry.verdict.get("reason") for entry in entries if entry.step in restores and entry.kind == "done"]
    lines += [check_line(row) for row in checks(plan, back, entries)]
    stands = where_it_stands(plan, entries)
    lines += ["%s: %s" % (key, version) for key, version in sorted(stands.items())]
    out = left_out(plan, back, entries)
    if out:
        lines.append("out of traffic: %s" % ", ".join(out))
    lines += ["handoff: %s" % line for line in plan.handoff if run.state == "succeeded"]
    hint = what_next(run)
    return [*lines, "next: %s" % (hint % run.id if "%s" in hint else hint)]


def checks(plan: Plan, back: Plan | None, entries: t.Sequence[Entry], held: bool = False) -> list[dict[str, t.Any]]:
    """What the consumers' checks said: one row for each check, way and outcome, with the instances that it asked.

    In a run that is ``held``, one without an answer is still being asked, and left out.
    """
    found: dict[tuple[str, str, str], list[str]] = {}
    for way, made in ((OUT, plan), (BACK, back)):
        last = {entry.step: entry for entry in entries if entry.way == way}
        for step in made.steps if made else ():
            if step.of and step.id in last and not (held and last[step.id].kind == "intent"):
                entry = last[step.id]
                code = "" if entry.kind == "done" else entry.verdict.get("code") or "no answer"
                found.setdefault((step.target[len(step.of) + 1 :], way, code), []).append(step.of)
    return [{"check": name, "way": way, "code": code, "instances": asked} for (name, way, code), asked in found.items()]


def check_line(row: t.Mapping[str, t.Any]) -> str:
    """One row of ``checks`` as a sentence."""
    when = " on the way back" if row["way"] == BACK else ""
    said = "FAILED (%s)" % row["code"] if row["code"] else "passed"
    return "check %s%s: %s for %s" % (row["check"], when, said, ", ".join(row["instances"]))


def left_out(plan: Plan, back: Plan | None, entries: t.Sequence[Entry]) -> list[str]:
    """Servers (BACKEND/SERVER on BALANCER) whose drain was begun and not taken back."""
    found: dict[str, bool] = {}
    for way, made in ((OUT, plan), (BACK, back)):
        kinds, begun = last_kinds(entries, way), acted(entries, way)
        for step in made.steps if made else ():
            if step.do == "drain" and step.id in begun:
                found.update({"%s on %s" % (name, step.host): True for name in step.servers})
            elif step.do in ("admit", "remove") and kinds.get(step.id) == "done":
                found.update({"%s on %s" % (name, step.host): False for name in step.servers})
    return sorted(name for name, out in found.items() if out)


def halfway(plan: Plan, entries: t.Sequence[Entry]) -> bool:
    """Whether something waits for the end of its batch: cut in a step, stopped, changed and not yet proven, or out of traffic.

    What the plan itself leaves out of traffic, as a removal does on a balancer of somebody else, waits for nothing.
    """
    if any(entry.way == OUT for entry in open_intents(entries)):
        return True
    if {"stopped", "unknown"} & set(where_it_stands(plan, entries).values()):
        return True
    comes_back = {
        "%s on %s" % (name, step.host) for step in plan.steps if step.do in ("admit", "remove") for name in step.servers
    }
    return not comes_back.isdisjoint(left_out(plan, None, entries))


def on_paper(plan: Plan) -> list[str]:
    """A plan as text: refusals, moves, batches, steps, and the way back after each."""
    lines = ["%s of %s on %s" % (plan.verb, ", ".join(plan.services), plan.cloud)]
    lines += ["REFUSED: %s" % refusal for refusal in plan.refusals]
    lines += ["note: %s" % note for note in plan.notes]
    lines += ["DRIFT: %s" % drift for drift in plan.drift]
    lines += ["%s: %s -> %s" % (key, old, new) for key, (old, new) in sorted(plan.moves.items())]
    if not plan.batches and not plan.refusals and not plan.drift:
        well = "nothing to do: all that the record names runs already"
        lines.append({"operational": WELL, "upgrade": well, "rollback": well, "deploy": well}.get(plan.verb, "nothing to do"))
    rows = {(step.target, step.do): step for step in plan.steps}
    words = list(knowledge.lifecycle()["steps"])
    for step in plan.steps:
        if step.do == "fetch":
            lines.append("fetch    %s" % step.target)
    for number, batch in enumerate(plan.batches, 1):
        lines.append("batch %d: %s" % (number, ", ".join(batch)))
        for do in words[1:]:
            for target in batch:
                if row := rows.get((target, do)):
                    lines.append("  %-8s %s (at most %d s; way back: %s)" % (do, target, row.deadline_s, row.way_back))
    return lines

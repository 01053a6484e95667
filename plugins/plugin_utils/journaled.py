# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The only place that executes an act: write what is meant, do it, write what was seen.

``perform`` has four named points at which a process can die; tests/walk kills it at each of them, for every step of a plan.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict
from ansible_collections.osops.lifecycle.plugins.plugin_utils import holder, model
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store

FREEZING = frozenset({"expect.foreign", "fence.stale_token"})
"""Verdicts after which neither forward nor back is known to be right. Drivers give them before they do anything."""
UNANSWERED = frozenset({"unreachable", "deadline", "unknown_answer"})
"""Verdicts that leave open whether the act was done."""
POINTS = ("before_intent", "after_intent", "after_act", "after_end")

Act = t.Callable[[model.Step, t.Mapping[str, t.Any]], t.Mapping[str, t.Any]]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one ``step`` line: skipped, refused, done, failed or unknown."""

    kind: str
    message: str
    changed: bool = False
    verdict: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    diff: dict[str, t.Any] = dataclasses.field(default_factory=dict)


def perform(store: Store, run: str, token: int, way: str, target: str, do: str, act: Act) -> Outcome:
    """Carry out one step of a run. ``act`` runs the driver and returns its answer, or raises LifecycleError.

    Never raises for a failed act: the journal gets it, the run is turned, and the outcome says so.
    """
    step = store.step(run, way, target, do)
    if step is None:
        return Outcome("skipped", "%s has no step %s" % (target, do))
    _point("before_intent", step)
    with store.beginning(step, run) as beginning:
        why_not = _why_not(step, beginning.run, beginning.entries, token)
        if why_not:
            return Outcome("done" if why_not == _DONE else "refused", "%s: %s" % (step.id, why_not))
        begun = [entry for entry in beginning.entries if _is(entry, step) and entry.kind == "intent"]
        intent = beginning.intent(step, len(begun) + 1, holder.current())
        arguments = _arguments(step, beginning.run, beginning.entries, resume=bool(begun) or step.resume)
    _point("after_intent", step)
    try:
        answer = act(step, arguments)
        verdict = Verdict.from_dict(answer.get("verdict") or {})
        if answer.get("failed") and verdict.passed:
            verdict = Verdict("error", "unknown_answer", "the driver failed, yet its verdict is a pass")
    except LifecycleError as exc:
        answer, verdict = {}, Verdict.from_error(exc)
    except Exception as exc:
        # Whatever it was: without an end in the journal the run would go on, and the next batch with it. Its text may hold a secret.
        answer, verdict = {}, Verdict("error", "unknown_answer", "the step broke off with %s" % type(exc).__name__)
    _point("after_act", step)
    kind = "done" if verdict.passed else "unknown" if verdict.code in UNANSWERED else "failed"
    seen = {**answer, "verdict": verdict.to_dict()}
    untouched = kind == "failed" and _untouched(step, intent.attempt, bool(answer.get("changed")), answer.get("before") or {})
    turn = None if verdict.passed or way == model.BACK else _turn(step, verdict, beginning.run.verb, untouched)
    store.end(intent, kind, seen, turn)
    _point("after_end", step)
    says = "%s: %s" % (step.id, verdict.reason or verdict.code)
    return Outcome(kind, says, bool(answer.get("changed")), verdict.to_dict(), answer.get("diff") or {})


_DONE = "was done before"


def _why_not(step: model.Step, run: model.Run, entries: t.Sequence[model.Entry], token: int) -> str:
    """Why a step must not begin; empty when it may. Pure."""
    if token < run.token:
        return "not begun: another process has taken this run over"
    kinds = last_kinds(entries, step.way)
    if kinds.get(step.id) == "done":
        return _DONE
    wanted = "rolling_back" if step.way == model.BACK else "running"
    if run.state != wanted:
        return "not begun: the run is %s (%s)" % (run.state, run.reason or "asked for")
    if not step.unless_begun or any(name in kinds for name in step.unless_begun):
        missing = [name for name in step.needs if kinds.get(name) != "done"]
        if missing:
            return "not begun: %s not done" % ", ".join(missing)
    return ""


def last_kinds(entries: t.Iterable[model.Entry], way: str) -> dict[str, str]:
    """Step -> kind of its newest entry, on one way."""
    return {entry.step: entry.kind for entry in entries if entry.way == way}


def acted(entries: t.Sequence[model.Entry], way: str) -> set[str]:
    """Steps whose act may have changed something: begun, and not refused by the driver's own comparison before it did anything."""
    on_way = [entry for entry in entries if entry.way == way]
    refused = {(e.step, e.attempt) for e in on_way if e.kind == "failed" and e.verdict.get("code") in FREEZING}
    return {e.step for e in on_way if e.kind == "intent" and (e.step, e.attempt) not in refused}


def lost(plan: model.Plan, entries: t.Sequence[model.Entry]) -> bool:
    """Whether a restore of a plan may have touched its database: begun, and its newest attempt does not say that it stands as planned."""
    restores = {step.id: step for step in plan.steps if step.loses}
    newest = {entry.step: entry for entry in entries if entry.way == model.OUT and entry.step in restores}
    return any(e.kind != "failed" or not _untouched(restores[e.step], e.attempt, e.changed, e.before) for e in newest.values())


def _untouched(step: model.Step, attempt: int, changed: bool, before: t.Mapping[str, t.Any]) -> bool:
    """Whether a failed act left things as the plan saw them. An attempt before it that was cut may have changed what it did not."""
    planned = step.expect
    return not changed and (attempt == 1 or (planned is not None and all(before.get(name) == planned[name] for name in planned)))


def _arguments(step: model.Step, run: model.Run, entries: t.Sequence[model.Entry], resume: bool) -> dict[str, t.Any]:
    expect: dict[str, t.Any] | None = step.expect
    for entry in entries:
        if entry.step in step.expect_from and entry.way == step.way and entry.kind == "done":
            expect = entry.after
    more = {"resume": resume, "token": run.token, "scope": run.cloud, "deadline": step.deadline_s}
    return {**step.args, **more, **({} if expect is None else {"expect": expect})}


def _turn(step: model.Step, verdict: Verdict, verb: str, untouched: bool) -> dict[str, str]:
    """A failed upgrade goes back. Where there is nothing to go back to, the run freezes: a failed rollback, what was taken away, contract.

    A restore that says it changed nothing (``untouched``) has lost nothing. Old releases that are gone are no state to go back from.
    """
    lost = step.do in ("purge", "remove") or step.way_back in ("restore", "none")
    undone = step.way_back == model.UNDONE or (step.loses and untouched)
    frozen = (lost or verb == "rollback") and not undone
    ending = "frozen" if verdict.code in FREEZING or frozen else "rolled_back"
    if verb == "clean":
        ending = "aborted"
    reason = "%s failed: %s" % (step.id, " ".join(part for part in (verdict.reason, verdict.hint) if part) or verdict.code)
    return {"state": "rolling_back", "reason": reason, "ending": ending}


def _is(entry: model.Entry, step: model.Step) -> bool:
    return entry.step == step.id and entry.way == step.way


def _point(name: str, step: model.Step) -> None:
    """The crash seam: die here, with the whole playbook, when a test asks for it by POINT:STEP in the environment."""
    if os.environ.get("OSOPS_TEST_DIE_AT") == "%s:%s:%s" % (name, step.way, step.id):
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

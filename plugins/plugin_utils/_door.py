# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The side of the doors that faces Ansible: task variables in, task results out, and modules called with a hard deadline."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import typing as t

from ansible.errors import AnsibleConnectionFailure, AnsibleError

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, DeadlineError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import control, doors, model, status
from ansible_collections.osops.lifecycle.plugins.plugin_utils import record as record_file
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store

Result = dict[str, t.Any]


def told(result: Result, playbook: int) -> Result:
    """Hand a result to the playbook with process number ``playbook``, or end here when it has been killed meanwhile.

    A worker of ansible-core outlives a SIGKILL of its playbook, and then waits for ever to write its result into a pipe that nobody
    reads. What it did stands in the journal.
    """
    if os.getppid() != playbook:
        os._exit(1)
    return result


def failure(exc: LifecycleError) -> Result:
    return {
        "failed": True,
        "msg": " ".join(part for part in (exc.msg, exc.hint) if part),
        "code": exc.code,
        "hint": exc.hint,
        "evidence": exc.evidence,
    }


def guard(task_vars: t.Any) -> Result:
    """Refuse the switches of ansible-playbook that would leave out parts of a run without saying so."""
    tags = [tag for tag in task_vars.get("ansible_run_tags") or ["all"] if tag != "all"]
    given = {"--limit": task_vars.get("ansible_limit"), "--tags": tags, "--skip-tags": task_vars.get("ansible_skip_tags")}
    for switch, value in given.items():
        if value:
            raise BadInputError(
                "%s cannot be used with the playbooks of this collection: it would leave out parts of a run silently." % switch,
                "input.switch",
                "To change some hosts only, use -e osops_limit=HOST,HOST; services are named with -e osops_services=NAME.",
            )
    return {"changed": False}


def given(task_vars: t.Any) -> tuple[t.Any, t.Any, t.Callable[[str], str]]:
    """What Call.make wants: variables, groups, and the address of a host."""

    def address(host: str) -> str:
        found = task_vars["hostvars"][host]
        return str(found.get("osops_address") or found.get("ansible_host") or host)

    return task_vars, task_vars["groups"], address


def questions(task_vars: t.Any) -> list[Result]:
    """What this host is asked: from the registered answer of the plan door, without templating it again."""
    asked = task_vars["hostvars"].raw_get("localhost")["osops_asked"]
    return t.cast("list[Result]", asked["questions"][task_vars["inventory_hostname"]])


def answers(task_vars: t.Any) -> dict[str, Result]:
    """Every answer of every host that was asked; a host that has none could not be looked at."""
    found: dict[str, Result] = {}
    for host, asked in task_vars["hostvars"].raw_get("localhost")["osops_asked"]["questions"].items():
        seen = task_vars["hostvars"].raw_get(host).get("osops_seen") or {}
        for question in asked:
            silent = {"failed": True, "msg": "the host %s gave no answer: %s" % (host, seen.get("msg", "unknown"))}
            found[question["key"]] = (seen.get("answers") or {}).get(question["key"], silent)
    return found


def summary(made: model.Plan) -> Result:
    """A plan for programs, without the arguments of the steps."""
    steps = [
        {"id": step.id, "host": step.host, "phase": step.phase, "needs": list(step.needs), "way_back": step.way_back}
        for step in made.steps
    ]
    return {
        "verb": made.verb, "cloud": made.cloud, "services": list(made.services), "hash": made.hash,
        "refusals": list(made.refusals), "notes": list(made.notes), "batches": [list(batch) for batch in made.batches], "steps": steps,
        "moves": {name: {"from": move[0], "to": move[1]} for name, move in made.moves.items()},
    }  # fmt: skip


def group(made: model.Plan) -> str:
    """Whose targets those of a plan are: the group of the play that walks it. An upgrade that halts anything has a play of its own."""
    halts = made.verb == "upgrade" and any(step.do == "halt" for step in made.steps)
    return "osops_halting" if halts else "osops_targets"


def opened(verb: str, task_vars: t.Any, check_mode: bool) -> Result:
    """Open a run, or, in check mode, only say what it would do."""
    call = doors.Call.make(verb, *given(task_vars))
    seen = answers(task_vars)
    if check_mode:
        made = call.plan(seen)
        refused = {"failed": True, "msg": " ".join(made.refusals)} if made.refusals else {}
        lines = status.on_paper(made)
        return {"changed": bool(made.batches), "run": "", "token": 0, "targets": [], "serial": [1], "lines": lines, **refused}
    run, made = call.open(seen)
    store = Store(call.settings.store)
    more: Result = {"targets": [], "serial": [1]}
    if run.state == "running":
        more = doors.targets(run, made, store, model.OUT)
    fetching = {step.target for step in made.steps if step.do == "fetch"}
    hosts = [target for target in more["targets"] if target["name"] in fetching]
    told = {"lines": status.on_paper(made), "group": group(made), "fetch": hosts}
    return {"changed": False, "run": run.id, "token": run.token, **told, **more}


def steered(state: str, task_vars: t.Any, check_mode: bool) -> Result:
    """Pause or cancel the open run of the services, or, in check mode, only say what would become of it."""
    settings = doors.Settings.read(task_vars)
    if not doors.store_exists(settings.store):
        return {"changed": False, "runs": [], "lines": ["no run has been made with this store"]}
    store = Store(settings.store)
    runs = store.runs(record_file.cloud_of(settings.record), settings.services)
    going = [run for run in runs if run.state == "running" or (run.state, state) == ("paused", "cancelled")]
    if not going:
        raise BadInputError("No run of this cloud is going on that could be %s." % state, "run.none")
    lines, asked = [], []
    for run in going:
        unattended = not doors.alive(run, store.clock())
        when = "when its playbook runs again: nobody works on it" if unattended else "before its next batch"
        says = "is cancelled" if run.state == "paused" else "will be %s %s" % (state, when)
        if state == "paused" and unattended:
            says = "seems to have nobody who works on it, so it waits already; the same playbook goes on with it"
        if check_mode:
            says += " (not asked for: this is check mode)"
        elif run.state == "paused":  # nobody is at its gate
            store.end_run(run.id, run.token, state, control.CANCELLED)
        else:
            store.ask(run.id, {"paused": "pause", "cancelled": "cancel"}[state])
        asked.append(run.id)
        lines.append("run %s %s" % (run.id, says))
    return {"changed": bool(asked), "runs": asked, "lines": lines}


def nothing_opened() -> Result:
    return {
        "changed": False,
        "failed": True,
        "state": "none",
        "msg": "No run was opened.",
        "lines": ["no run was opened; nothing was changed"],
    }


def closed(run: model.Run, lines: list[str], drift: t.Sequence[str], verb: str) -> Result:
    """The end of a run; not a failure where it is what ``verb`` asked for and no ``drift`` is left that only a person puts right."""
    ok = run.state in ("succeeded", "paused") or (run.state == "rolled_back" and control.TAKES_BACK.get(verb) == run.verb)
    ok = ok and not drift
    told = {} if ok else {"failed": True, "msg": "; ".join(lines)}
    return {"changed": False, "state": run.state, "reason": run.reason, "run": run.id, "lines": lines, "ok": ok, **told}


def secrets_are_set(questions: t.Mapping[str, t.Sequence[Result]], record: model.Record, task_vars: t.Any) -> None:
    """Find a secret that is missing or cannot be read before anything has begun; the values are not kept."""
    for host, asked in questions.items():
        for question in asked:
            with_secrets(question["args"], host, task_vars)
    for service in record.services.values():
        for name, variable in (service.probe.get("secrets") or {}).items():
            for host in sorted({host for component in service.components if component.port for host in component.hosts}):
                _secret(variable, name, host, task_vars)


def _secret(variable: str, name: str, host: str, task_vars: t.Any) -> t.Any:
    """The value of a variable of a host. Raises BadInputError without the error's own text, which may hold a part of it."""
    try:
        found = task_vars["hostvars"][host]
        if variable in found:
            return found[variable]
    except AnsibleError as exc:
        raise BadInputError(
            "The variable %s, which holds the secret %s, cannot be read for %s." % (variable, name, host),
            "input.secret",
            "Look at the vault password and at what the variable refers to.",
        ) from exc
    raise BadInputError("The variable %s, which holds the secret %s, is not set for %s." % (variable, name, host), "input.secret")


def with_secrets(arguments: t.Mapping[str, t.Any], host: str, task_vars: t.Any) -> dict[str, t.Any]:
    """Put the values of secrets where the plan has their names, from the variables of the real host."""
    secrets = arguments.get("secrets")
    if not secrets:
        return dict(arguments)
    values = {name: _secret(where["secret"], name, host, task_vars) for name, where in secrets.items()}
    return {**arguments, "secrets": values}


def call(action: t.Any, module: str, arguments: t.Mapping[str, t.Any], task_vars: t.Any, deadline_s: float) -> Result:
    """Run a module on the action's host. Raises LifecycleError: unreachable, deadline, unknown_answer."""
    try:
        with _alarm(deadline_s):
            answer = dict(_driver(action, module, dict(arguments), task_vars))
    except AnsibleConnectionFailure as exc:
        raise LifecycleError(
            "The host cannot be reached: %s" % _short(exc.message), "unreachable", "Mend the way to it, then run again."
        ) from exc
    except AnsibleError as exc:
        raise BadInputError("The driver %s cannot be run: %s" % (module, _short(exc.message)), "driver.unusable") from exc
    if answer.get("unreachable"):
        raise LifecycleError(
            "The host cannot be reached: %s" % _short(answer.get("msg", "")), "unreachable", "Mend the way to it, then run again."
        )
    if not isinstance(answer.get("verdict"), dict):
        if answer.get("failed") and "module_stdout" not in answer:
            raise BadInputError("The driver %s refused: %s" % (module, _short(answer.get("msg", ""))), "driver.refused")
        raise LifecycleError(
            "The driver %s answered what is not understood." % module,
            "unknown_answer",
            "Look at the host before anything else is done.",
        )
    return answer


def _driver(action: t.Any, name: str, arguments: Result, task_vars: t.Any) -> Result:
    """Run a driver: a module, or the action that stands before the module of its name, as a task of a playbook would."""
    actions = action._shared_loader_obj.action_loader
    if not actions.has_plugin(name):
        return t.cast("Result", action._execute_module(module_name=name, module_args=arguments, task_vars=task_vars))
    task = action._task.copy()
    task.action, task.args = name, arguments
    driver = actions.get(
        name, task=task, connection=action._connection, play_context=action._play_context, loader=action._loader,
        templar=action._templar, shared_loader_obj=action._shared_loader_obj,
    )  # fmt: skip
    return t.cast("Result", driver.run(task_vars=task_vars))


def _short(text: t.Any) -> str:
    return " ".join(str(text).split())[:300]


@contextlib.contextmanager
def _alarm(deadline_s: float) -> t.Iterator[None]:
    """End a call that hangs, together with the processes it started: a module's own deadline cannot end a dead connection."""

    def ring(_number: int, _frame: t.Any) -> None:
        for path in pathlib.Path("/proc/self/task").glob("*/children"):
            for child in path.read_text(encoding="ascii").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(child), signal.SIGKILL)
        raise DeadlineError("The host gave no answer in %.0f s; what it did is not known." % deadline_s, "deadline")

    former = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, deadline_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host of a dummy: state in JSON files, a log of every call, and misbehaviour on request."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS, answer
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._fence import fence
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict

ROOT = os.environ.get("OSOPS_DUMMY_ROOT", "")
State = dict[str, t.Any]


def read(name: str) -> State:
    try:
        with open(os.path.join(ROOT, name), encoding="utf-8") as handle:
            return json.load(handle)
    except FileNotFoundError:
        return {}


def write(name: str, state: State) -> None:
    path = os.path.join(ROOT, name)
    with open(path + ".new", "w", encoding="utf-8") as handle:
        json.dump(state, handle)
    os.replace(path + ".new", path)


def run(name: str, spec: State, states: list[str], look: t.Callable[[State], State], wanted: t.Callable[[State, State], State],
        act: t.Callable[[State, State], None], more: t.Callable[[State], State] = lambda args: {}) -> None:  # fmt: skip
    """A whole driver: ``look`` gives the state, ``wanted`` what it should be, ``act`` makes it so."""
    module = AnsibleModule(dict(DRIVER_ARGS, state={"choices": states, "required": True}, **spec), supports_check_mode=True)
    args = module.params
    before: State = {}
    try:
        if module.check_mode:
            _say(_behave("look", name))
            before = look(args)
            goal = wanted(args, before)
            changed = settle(before, goal, args["expect"], args["resume"])
            answer(module, before, goal, Verdict("pass", "dummy." + args["state"]), changed, **more(args))
        with fence(args["scope"], args["token"], args["deadline"], root=ROOT):
            behaviour = _behave(name, args["state"])
            before = look(args)
            goal = wanted(args, before)
            changed = settle(before, goal, args["expect"], args["resume"])
            if changed and behaviour.get("tear"):
                answer(
                    module, before, {}, LifecycleError(behaviour["tear"], "dummy.asked_to_tear", "Repair it."), True, **more(args)
                )
            if changed:
                act(args, goal)
            _log(name, args, changed)
            after = look(args)
            if behaviour.get("lose") == "after":
                _lose_contact()
            _say(behaviour)
        answer(
            module,
            before,
            after,
            Verdict("pass", "dummy." + args["state"], "%s is %s" % (name, args["state"])),
            changed,
            **more(args),
        )
    except LifecycleError as exc:
        answer(module, before, before, exc, False, **more(args))


def _log(name: str, args: State, changed: bool) -> None:
    line = {"module": name, "state": args["state"], "resume": args["resume"], "changed": changed, "token": args["token"]}
    line["at"] = time.monotonic_ns()  # one clock for all hosts, as they are all on this machine
    line["what"] = args.get("servers") or (args.get("instance") or {}).get("component") or args.get("service")
    with open(os.path.join(ROOT, "calls.log"), "a", encoding="utf-8") as handle:
        handle.write(json.dumps(line) + "\n")


def _behave(name: str, state: str) -> State:
    """Take the first entry of behave.json for NAME/STATE (look/NAME in check mode), and do what it says before the act."""
    todo = read("behave.json")
    key = "%s/%s" % (name, state)
    queue = todo.get(key) or []
    if not queue:
        return {}
    behaviour = queue.pop(0)
    write("behave.json", todo)
    if behaviour.get("lose") == "before":
        _lose_contact()
    if behaviour.get("mark") or behaviour.get("hold"):
        _touch("reached")
    if behaviour.get("hold"):
        _hold()
    time.sleep(behaviour.get("hang", 0))
    if behaviour.get("fail"):
        raise LifecycleError(behaviour["fail"], "dummy.asked_to_fail", "Ask for something else.")
    return behaviour


def _touch(name: str) -> None:
    open(os.path.join(ROOT, name), "w", encoding="utf-8").close()


def _hold() -> None:
    """Wait until the test lets go, or has ended."""
    released = os.path.join(ROOT, "released")
    while os.path.isdir(ROOT) and not os.path.exists(released):
        time.sleep(0.02)
    os.unlink(released)


def _say(behaviour: State) -> None:
    """Answer with what was asked for, and nothing else."""
    if "says" in behaviour:
        sys.stdout.write(behaviour["says"])
        sys.stdout.flush()
        os._exit(0)


def _lose_contact() -> t.NoReturn:
    """End this host's sshd with all its sessions, and what runs in them: from now on the host is unreachable."""
    with open(os.path.join(ROOT, "sshd.pid"), encoding="ascii") as handle:
        listener = int(handle.read())
    os.kill(listener, signal.SIGKILL)
    pid = os.getppid()
    while pid > 1:
        with open("/proc/%d/stat" % pid, encoding="utf-8") as handle:
            comm, _sep, rest = handle.read().partition("(")[2].rpartition(")")
        if comm.startswith("sshd"):
            os.kill(pid, signal.SIGKILL)
            break
        pid = int(rest.split()[1])
    os._exit(1)

"""Walks a plan without Ansible: the order of the plays, the real mind and the real store, and a cloud that is a dictionary.

A process that dies is an exception that nobody below catches; the next ``walk`` is the same playbook again. The order of the step
words is read from the roles and playbooks themselves, so that this walk cannot drift from the one that users run.
"""

from __future__ import annotations

import copy
import dataclasses
import pathlib
import typing as t

import yaml

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import ForeignChangeError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict
from ansible_collections.osops.lifecycle.plugins.plugin_utils import control, doors, holder, journaled, model, observed
from ansible_collections.osops.lifecycle.plugins.plugin_utils.plan import plan
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store

ROOT = pathlib.Path(__file__).resolve().parents[2]


class DiedError(BaseException):
    """The process is gone: nothing may catch this but the walk's owner."""


def role_words(role: str) -> list[str]:
    """The step words of a role, in order."""
    tasks = yaml.safe_load((ROOT / "roles" / role / "tasks" / "main.yml").read_text(encoding="utf-8"))
    return [task["osops.lifecycle.step"]["do"] for task in tasks]


def play_words(playbook: str) -> list[str]:
    """The step words of the last play of a shared part, in order."""
    tasks = yaml.safe_load((ROOT / "playbooks" / playbook).read_text(encoding="utf-8"))[-1]["tasks"]
    roles = [task["ansible.builtin.import_role"]["name"] for block in tasks for task in block.get("block", [])]
    return [word for role in roles for word in role_words(role.rpartition(".")[2])]


@dataclasses.dataclass
class Cloud:
    """Apps, servers and schemas of a dictionary cloud, and the acts that were carried out on it."""

    apps: dict[str, dict[str, t.Any]]
    balancers: dict[str, dict[str, dict[str, t.Any]]]
    schemas: dict[str, str] = dataclasses.field(default_factory=dict)
    acts: list[str] = dataclasses.field(default_factory=list)
    fails: dict[str, LifecycleError] = dataclasses.field(default_factory=dict)
    """WAY:STEP -> what its act raises, every time"""

    def state(self) -> t.Any:
        return copy.deepcopy((self.apps, self.balancers, self.schemas))

    def act(self, step: model.Step, args: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any]:
        """What a driver does, in the order of docs/drivers.md."""
        name = "%s:%s" % (step.way, step.id)
        if name in self.fails:
            self.acts.append(name + " (fails)")
            raise self.fails[name]
        before = self._look(step, args)
        goal = self._goal(step, args, before)
        changed = settle(before, goal, args.get("expect"), args["resume"])
        if changed:
            self.acts.append(name)
            self._set(step, goal, args)
            self._floor(args)
        return {"changed": changed, "before": before, "after": goal, "verdict": Verdict("pass", "ok").to_dict()}

    def _look(self, step: model.Step, args: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        if "servers" in args:
            servers = self.balancers[step.host]
            return {
                n: {"admin": s["admin"], "weight": s["weight"]} for n, s in servers.items() if s["address"] in args["servers"]
            }
        if args["state"] in ("preflight", "expand"):
            return {"schema": self.schemas.get(args["service"], "old")}
        app = self.apps[observed.instance_key(args["instance"]["component"], step.host)]
        if args["state"] == "verify" and (app["version"] != args["version"] or not app["running"]):
            raise LifecycleError("%s runs, not %s" % (app["version"], args["version"]), "probe.version")
        return dict(app) if args["state"] == "active" else {}

    def _goal(self, step: model.Step, args: t.Mapping[str, t.Any], before: dict[str, t.Any]) -> dict[str, t.Any]:
        if "servers" in args:
            drained = {name: {"admin": 8, "weight": server["weight"]} for name, server in before.items()}
            return drained if args["state"] == "drain" else {name: args["restore"][name] for name in before}
        if args["state"] == "active":
            wanted = args["release"].get("id") or args["release"]["version"]
            return {"release": wanted, "version": wanted, "running": True}
        return {"schema": "new"} if args["state"] == "expand" else before

    def _set(self, step: model.Step, goal: dict[str, t.Any], args: t.Mapping[str, t.Any]) -> None:
        if step.do in ("drain", "confirm", "admit") and "#" in step.target:
            for name, state in goal.items():
                self.balancers[step.host][name].update(state)
        elif "schema" in goal:
            self.schemas[args["service"]] = goal["schema"]
        else:
            self.apps[step.target].update(goal)

    def _floor(self, args: t.Mapping[str, t.Any]) -> None:
        """Promise 2, looked at from outside after every single act."""
        for host, servers in self.balancers.items():
            for backend in {name.split("/")[0] for name in servers}:
                left = [s for n, s in servers.items() if n.startswith(backend + "/") and not s["admin"]]
                assert len(left) >= args.get("min_available", 1), "%s on %s is below its floor" % (backend, host)


@dataclasses.dataclass
class Walk:
    """A record, a cloud and a store: walked as often as one likes."""

    record: model.Record
    recipes: dict[str, model.Recipe]
    cloud: Cloud
    store: Store
    verb: str = "upgrade"

    def look(self) -> dict[str, model.Seen]:
        found = {}
        for question in observed.looks(self.record, self.recipes):
            if "servers" in question.args:
                servers = self.cloud.balancers[question.host]
                before = {name: {"admin": server["admin"], "weight": server["weight"]} for name, server in servers.items()}
                found[question.key] = model.Seen(before, {"servers": {n: {**s, "health": "up"} for n, s in servers.items()}})
            else:
                app = self.cloud.apps[question.key]
                found[question.key] = model.Seen(dict(app), would_change=app["version"] != question.args["release"]["version"])
        return found

    def plan(self) -> model.Plan:
        return plan(self.record, self.recipes, self.look(), self.verb)

    def playbook(self, die_at: str = "") -> model.Run:
        """Open, fetch, forward, back, close. ``die_at`` is POINT:WAY:STEP."""
        runs = self.store.runs(self.record.cloud)
        run = next((run for run in runs if run.state in model.OPEN_STATES), None)
        if run is None:
            made = self.plan()
            assert not made.refusals, made.refusals
            run = self.store.open(made, "run-%d" % (len(runs) + 1), holder.current(), "somebody")
        else:
            run = self.store.take_over(run, holder.current())
            made = self.store.plan(run.id)
        former = journaled._point
        journaled._point = _dying(die_at)
        try:
            if run.state == "running":
                for word in play_words("_fetch.yml"):
                    self._all(run, model.OUT, word, [target for batch in made.batches for target in batch])
                self._play(run, made, model.OUT, "_forward.yml" if self.verb == "upgrade" else "_reverting.yml")
            doors.go_back(self.store, run.id, run.token)
            way_back = self.store.back(run.id)
            if way_back is not None:
                self._play(run, way_back, model.BACK, "_reverting.yml")
        finally:
            journaled._point = former
        return doors.close(self.store, run.id, run.token)[0]

    def _play(self, run: model.Run, made: model.Plan, way: str, playbook: str) -> None:
        for batch in control.unfinished(made, self.store.entries(run.id), way):
            if not control.gate(self.store.run(run.id), run.token, way).go:
                return
            for word in play_words(playbook):
                self._all(run, way, word, list(batch))

    def _all(self, run: model.Run, way: str, word: str, targets: list[str]) -> None:
        for target in targets:
            journaled.perform(self.store, run.id, run.token, way, target, word, self.cloud.act)

    def story(self) -> list[str]:
        """Plan and journal as text, without times, ids and tokens: what a golden walk keeps."""
        lines = []
        for run in reversed(self.store.runs(self.record.cloud)):
            lines.append(
                "run %s of %s: %s%s" % (run.verb, ", ".join(run.services), run.state, run.reason and " (%s)" % run.reason)
            )
            for batch in self.store.plan(run.id).batches:
                lines.append("  batch " + ", ".join(batch))
            for entry in self.store.entries(run.id):
                verdict = entry.verdict.get("code", "")
                what = "%s %s" % (model.canonical(entry.before), model.canonical(entry.after)) if entry.changed else verdict
                lines.append(("    %-4s %-6s %-28s %s" % (entry.way, entry.kind, entry.step, what)).rstrip())
        return lines


def _dying(die_at: str) -> t.Callable[[str, model.Step], None]:
    def point(name: str, step: model.Step) -> None:
        if die_at == "%s:%s:%s" % (name, step.way, step.id):
            raise DiedError(die_at)

    return point


def services(
    *components: str, hosts: int = 3, balancers: int = 2, version: str = "2.0", batches: tuple[int, ...] = (1,)
) -> tuple[model.Record, Cloud]:
    """One service ``echo`` with components on the same hosts; the one whose name ends in api is behind the balancers."""
    names = tuple("ctl%d" % (number + 1) for number in range(hosts))
    parts = tuple(model.Component(name, names, port=5000 if name.endswith("api") else 0) for name in components)
    lbs = tuple("lb%d" % (number + 1) for number in range(balancers))
    traffic = model.Traffic("some.traffic.driver", lbs)
    service = model.Service("echo", "some.artifact.driver", {"version": version}, parts, traffic, batches=batches)
    apps = {"%s@%s" % (c, n): {"release": "1.0", "version": "1.0", "running": True} for c in components for n in names}
    api = [name for name in components if name.endswith("api")]
    servers = {"%s/%s" % (a, n): {"address": n + ":5000", "admin": 0, "weight": 100} for a in api for n in names}
    record = model.Record("dummy", {"echo": service}, {name: name for name in names})
    return record, Cloud(apps, {name: copy.deepcopy(servers) for name in lbs})


__all__ = ["Cloud", "DiedError", "ForeignChangeError", "Walk", "play_words", "role_words", "services"]

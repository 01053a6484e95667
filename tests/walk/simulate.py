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


KINDS = ("service_files", "mariadb_database", "mariadb_backup", "haproxy_config")


class DiedError(BaseException):
    """The process is gone: nothing may catch this but the walk's owner."""


def role_words(role: str) -> list[str]:
    """The step words of a role, in order."""
    tasks = yaml.safe_load((ROOT / "roles" / role / "tasks" / "main.yml").read_text(encoding="utf-8"))
    return [task["osops.lifecycle.step"]["do"] for task in tasks]


def play_words(playbook: str, phase: str = "upgrade") -> list[str]:
    """The step words of the last play of a shared part, in order; ``phase`` is the role in the middle of a walk."""
    tasks = yaml.safe_load((ROOT / "playbooks" / playbook).read_text(encoding="utf-8"))[-1]["tasks"]
    roles = [task["ansible.builtin.import_role"]["name"] for block in tasks for task in block.get("block", [])]
    return [word for role in roles for word in role_words(phase if "{{" in role else role.rpartition(".")[2])]


def phases(verb: str) -> tuple[str, str]:
    """The middle roles of a verb's walk and of its way back, as its playbook gives them."""
    plays = yaml.safe_load((ROOT / "playbooks" / (verb + ".yml")).read_text(encoding="utf-8"))
    walks = [play.get("vars") or {} for play in plays if play["ansible.builtin.import_playbook"] == "_walk.yml"]
    assert [walk.get("osops_group") for walk in walks] == [None, "osops_returning"]
    return walks[0].get("osops_phase", "upgrade"), walks[1].get("osops_phase", "upgrade")


@dataclasses.dataclass
class Cloud:
    """Apps, servers and schemas of a dictionary cloud, and the acts that were carried out on it."""

    apps: dict[str, dict[str, t.Any]]
    balancers: dict[str, dict[str, dict[str, t.Any]]]
    schemas: dict[str, str] = dataclasses.field(default_factory=dict)
    files: dict[str, str | None] = dataclasses.field(default_factory=dict)
    """instance -> revision of the files that deploy made there"""
    databases: dict[str, dict[str, t.Any]] = dataclasses.field(default_factory=dict)
    backups: dict[str, int] = dataclasses.field(default_factory=dict)
    places: dict[str, bool] = dataclasses.field(default_factory=dict)
    """balancer -> whether our own file is in its configuration"""
    acts: list[str] = dataclasses.field(default_factory=list)
    floor: int = 1
    """servers that must be left after acts that do not say so themselves"""
    fails: dict[str, LifecycleError] = dataclasses.field(default_factory=dict)
    """WAY:STEP -> what its act raises, every time"""

    def state(self) -> t.Any:
        return copy.deepcopy((self.apps, self.balancers, self.schemas, self.files, self.databases, self.places))

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
        kind = step.module.rpartition(".")[2]
        if kind in KINDS:
            return self.look(kind, step.host, args)
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
        return dict(app) if args["state"] in ("active", "absent") else {}

    def look(self, kind: str, host: str, args: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """What the modules of a life see: service_files, mariadb_database, mariadb_backup, haproxy_config."""
        if kind == "service_files":
            revision = self.files.get("%s@%s" % (args["name"], host))
            return {"revision": revision, "unit": "enabled" if revision else "missing"}
        if kind == "mariadb_database":
            return dict(self.databases.get(args["database"]["name"], {"database": False, "tables": 0}))
        if kind == "mariadb_backup":
            return {"backups": self.backups.get(args["database"], 0)}
        return {"file": "ours" if self.places.get(host) else "missing"}

    def _goal(self, step: model.Step, args: t.Mapping[str, t.Any], before: dict[str, t.Any]) -> dict[str, t.Any]:
        kind = step.module.rpartition(".")[2]
        there = args["state"] == "present"
        if kind == "service_files":
            return {"revision": "r1", "unit": "enabled"} if there else {"revision": None, "unit": "missing"}
        if kind == "mariadb_database":
            return {**before, "database": True} if there else {"database": False, "tables": 0}
        if kind == "mariadb_backup":
            return {"backups": before["backups"] or 1}
        if kind == "haproxy_config":
            return {"file": "ours" if there else "missing"}
        if "servers" in args:
            drained = {name: {"admin": 8, "weight": server["weight"]} for name, server in before.items()}
            return drained if args["state"] == "drain" else {name: args["restore"][name] for name in before}
        if args["state"] == "active":
            wanted = args["release"].get("id") or args["release"]["version"]
            return {"release": wanted, "version": wanted, "running": True}
        if args["state"] == "absent":
            return {"release": None, "version": None, "running": False}
        return {"schema": args["act"]["accept"][0]} if args["state"] == "expand" else before

    def _set(self, step: model.Step, goal: dict[str, t.Any], args: t.Mapping[str, t.Any]) -> None:
        kind = step.module.rpartition(".")[2]
        if kind == "service_files":
            key = "%s@%s" % (args["name"], step.host)
            self.files[key] = goal["revision"]
            if goal["revision"] is None:
                self.apps[key]["running"] = False
        elif kind == "mariadb_database":
            self.databases[args["database"]["name"]] = goal
            if not goal["database"]:
                self.schemas.clear()
        elif kind == "mariadb_backup":
            self.backups[args["database"]] = goal["backups"]
        elif kind == "haproxy_config":
            self.places[step.host] = goal["file"] == "ours"
        elif step.do in ("drain", "confirm", "admit") and "#" in step.target:
            for name, state in goal.items():
                self.balancers[step.host][name].update(state)
        elif "schema" in goal:
            self.schemas[args["service"]] = goal["schema"]
            if step.do == "init":
                self.databases[args["service"]]["tables"] = 9
        else:
            self.apps[step.target].update(goal)

    def _floor(self, args: t.Mapping[str, t.Any]) -> None:
        """Promise 2, looked at from outside after every single act."""
        for host, servers in self.balancers.items():
            for backend in {name.split("/")[0] for name in servers}:
                left = [s for n, s in servers.items() if n.startswith(backend + "/") and not s["admin"]]
                assert len(left) >= args.get("min_available", self.floor), "%s on %s is below its floor" % (backend, host)


@dataclasses.dataclass
class Walk:
    """A record, a cloud and a store: walked as often as one likes."""

    record: model.Record
    recipes: dict[str, model.Recipe]
    cloud: Cloud
    store: Store
    verb: str = "upgrade"
    consents: tuple[str, ...] = ()

    def look(self) -> dict[str, model.Seen]:
        found = {}
        for question in observed.looks(self.record, self.recipes, self.verb):
            kind = question.module.rpartition(".")[2]
            if kind in KINDS:
                found[question.key] = model.Seen(self.cloud.look(kind, question.host, question.args))
            elif "servers" in question.args:
                servers = self.cloud.balancers[question.host]
                before = {name: {"admin": server["admin"], "weight": server["weight"]} for name, server in servers.items()}
                found[question.key] = model.Seen(before, {"servers": {n: {**s, "health": "up"} for n, s in servers.items()}})
            elif question.args["state"] == "expand":
                schema = self.cloud.schemas.get(question.args["service"], "old")
                found[question.key] = model.Seen({"schema": schema}, would_change=schema in question.args["act"]["when"])
            else:
                app = self.cloud.apps[question.key]
                found[question.key] = model.Seen(dict(app), would_change=app["version"] != question.args["release"]["version"])
        return found

    def plan(self) -> model.Plan:
        made = plan(self.record, self.recipes, self.look(), self.verb, consents=self.consents)
        side_by_side(made)
        return made

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
        forward, backward = phases(self.verb)
        former = journaled._point
        journaled._point = _dying(die_at)
        try:
            if run.state == "running":
                for word in play_words("_fetch.yml"):
                    self._all(run, model.OUT, word, [target for batch in made.batches for target in batch])
                self._play(run, made, model.OUT, forward)
            doors.go_back(self.store, run.id, run.token)
            way_back = self.store.back(run.id)
            if way_back is not None:
                side_by_side(way_back)
                self._play(run, way_back, model.BACK, backward)
        finally:
            journaled._point = former
        return doors.close(self.store, run.id, run.token)[0]

    def _play(self, run: model.Run, made: model.Plan, way: str, phase: str) -> None:
        for batch in control.unfinished(made, self.store.entries(run.id), way):
            if not control.gate(self.store.run(run.id), run.token, way).go:
                return
            for word in play_words("_walk.yml", phase):
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


def side_by_side(made: model.Plan) -> None:
    """The targets of a batch take a word at the same time: none may wait for another one's same word."""
    words = {step.id: step.do for step in made.steps}
    places = {target: number for number, batch in enumerate(made.batches) for target in batch}
    for step in made.steps:
        for need in step.needs:
            same = places[need.rpartition("/")[0]] == places[step.target]
            assert not (same and words.get(need) == step.do), "%s waits for %s, which runs at the same time" % (step.id, need)


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


def life(
    hosts: int = 2, balancers: int = 1, version: str = "24.1.0", runs: str = "", managed: bool = True
) -> tuple[model.Record, Cloud]:
    """One Keystone that this collection makes: database, files and its place in the balancers; ``runs`` is the version that is there."""
    names = tuple("ctl%d" % (number + 1) for number in range(hosts))
    lbs = tuple("lb%d" % (number + 1) for number in range(balancers))
    part = model.Component("keystone-api", names, "keystone-api.service", 5000, {"path": "/opt/osops/keystone"})
    traffic = model.Traffic("osops.lifecycle.haproxy_server", lbs, ("keystone",), {}, {} if managed else None)
    secrets = {"db_password": "v_db", "admin_password": "v_admin", "key_secret": "v_key"}
    service = model.Service(
        "keystone", "osops.lifecycle.artifact_source", {"version": version}, (part,), traffic, {"secrets": {"admin_password": "v_admin"}},
        secrets=secrets, database=model.Database("db1", "keystone", "keystone"), soak_s=0,
    )  # fmt: skip
    there = {"release": runs or None, "version": runs or None, "running": bool(runs)}
    keys = ["keystone-api@%s" % name for name in names]
    cloud = Cloud({key: dict(there) for key in keys}, {name: {} for name in lbs}, floor=0)
    if not managed or runs:
        servers = {"keystone/%s" % name: {"address": name + ":5000", "admin": 0, "weight": 100} for name in names}
        cloud.balancers = {name: copy.deepcopy(servers) for name in lbs}
    cloud.schemas["keystone"] = "current" if runs else "expand"
    if runs:
        cloud.files = dict.fromkeys(keys, "r1")
        cloud.databases["keystone"] = {"database": True, "tables": 9}
        cloud.places = dict.fromkeys(lbs, managed)
    record = model.Record("dummy", {"keystone": service}, {name: name for name in (*names, *lbs, "db1")})
    return record, cloud


__all__ = ["Cloud", "DiedError", "ForeignChangeError", "Walk", "life", "phases", "play_words", "role_words", "services"]

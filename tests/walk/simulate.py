"""Walks a plan without Ansible: the order of the plays, the real mind and the real store, and a cloud that is a dictionary.

A process that dies is an exception that nobody below catches; the next ``walk`` is the same playbook again. The order of the step
words is read from the roles and playbooks themselves, so that this walk cannot drift from the one that users run.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import pathlib
import typing as t

import yaml

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import ForeignChangeError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict
from ansible_collections.osops.lifecycle.plugins.plugin_utils import (
    _door,
    control,
    doors,
    holder,
    journaled,
    knowledge,
    model,
    observed,
    past,
    restoring,
)
from ansible_collections.osops.lifecycle.plugins.plugin_utils.draft import History
from ansible_collections.osops.lifecycle.plugins.plugin_utils.plan import plan
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store

ROOT = pathlib.Path(__file__).resolve().parents[2]


KINDS = ("service_files", "mariadb_database", "mariadb_backup", "haproxy_config", "consumer_check")


def backup_id(args: t.Mapping[str, t.Any]) -> str:
    """Of service and token, as the module makes it."""
    return args.get("id") or "%s-%s" % (args["service"], args.get("token"))


class DiedError(BaseException):
    """The process is gone: nothing may catch this but the walk's owner."""


@functools.cache
def role_words(role: str) -> list[str]:
    """The step words of a role, in order."""
    tasks = yaml.safe_load((ROOT / "roles" / role / "tasks" / "main.yml").read_text(encoding="utf-8"))
    return [task["osops.lifecycle.step"]["do"] for task in tasks]


@functools.cache
def play_words(playbook: str, phase: str = "upgrade") -> list[str]:
    """The step words of the last play of a shared part, in order; ``phase`` is the role in the middle of a walk."""
    tasks = yaml.safe_load((ROOT / "playbooks" / playbook).read_text(encoding="utf-8"))[-1]["tasks"]
    roles = [task["ansible.builtin.import_role"]["name"] for block in tasks for task in block.get("block", [])]
    return [word for role in roles for word in role_words(phase if "{{" in role else role.rpartition(".")[2])]


@functools.cache
def phases(verb: str) -> dict[str, str]:
    """Group of targets -> the middle role of the walk that a verb's playbook has for it, in their order."""
    plays = yaml.safe_load((ROOT / "playbooks" / (verb + ".yml")).read_text(encoding="utf-8"))
    walks = [play.get("vars") or {} for play in plays if play["ansible.builtin.import_playbook"] == "_walk.yml"]
    roles = {walk.get("osops_group", "osops_targets"): walk.get("osops_phase", "upgrade") for walk in walks}
    assert list(roles) == ["osops_targets", *(["osops_halting"] if verb == "upgrade" else []), "osops_returning"]
    return roles


@dataclasses.dataclass
class Cloud:
    """Apps, servers and schemas of a dictionary cloud, and the acts that were carried out on it."""

    apps: dict[str, dict[str, t.Any]]
    balancers: dict[str, dict[str, dict[str, t.Any]]]
    schemas: dict[str, str] = dataclasses.field(default_factory=dict)
    files: dict[str, str | None] = dataclasses.field(default_factory=dict)
    """instance -> revision of the files that deploy made there; any other than r1 is not what the record says"""
    releases: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """instance -> the releases on its disk, oldest first"""
    databases: dict[str, dict[str, t.Any]] = dataclasses.field(default_factory=dict)
    backups: dict[str, dict[str, tuple[str, str]]] = dataclasses.field(default_factory=dict)
    """database -> id of a backup -> contents and schema that it has"""
    contents: dict[str, str] = dataclasses.field(default_factory=dict)
    """database -> what is written in it, as one text"""
    torn: set[str] = dataclasses.field(default_factory=set)
    """databases whose restore was cut"""
    places: dict[str, bool] = dataclasses.field(default_factory=dict)
    """balancer -> whether our own file is in its configuration"""
    answers: set[str] = dataclasses.field(default_factory=set)
    """balancers that answer for a service that is stopped"""
    acts: list[str] = dataclasses.field(default_factory=list)
    floor: int = 1
    """servers that must be left after acts that do not say so themselves"""
    fails: dict[str, LifecycleError] = dataclasses.field(default_factory=dict)
    """WAY:STEP -> what its act raises, every time"""
    tears: tuple[str, ...] = ()
    """WAY:STEP of restores that fail after they have begun to change the database"""

    def state(self) -> t.Any:
        there = (self.apps, self.balancers, self.schemas, self.files, self.databases, self.places, self.contents, self.releases)
        return copy.deepcopy((*there, self.answers))

    def copy(self) -> Cloud:
        """The cloud as it is, for another walk; what fails fails there too."""
        return copy.deepcopy(self, {id(self.fails): self.fails})

    def act(self, step: model.Step, args: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any]:
        """What a driver does, in the order of docs/drivers.md."""
        name = "%s:%s" % (step.way, step.id)
        if name in self.fails:
            self.acts.append(name + " (fails)")
            if step.do == "restore":
                torn, before = name in self.tears, self._look(step, args)
                self.torn |= {args["database"]} if torn else set()
                return {
                    "changed": torn,
                    "failed": True,
                    "before": before,
                    "verdict": Verdict.from_error(self.fails[name]).to_dict(),
                }
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
        key = observed.instance_key(args["instance"]["component"], step.host)
        if "keep" in args:
            return {"releases": list(self.releases.get(key, ()))}
        app = self.apps[key]
        if args["state"] == "verify" and (args["version"] not in (None, app["version"]) or not app["running"]):
            raise LifecycleError("%s runs, not %s" % (app["version"], args["version"]), "probe.version")
        return dict(app) if args["state"] in ("active", "absent", "halted") else {}

    def look(self, kind: str, host: str, args: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """What the modules of a life see, and whether a consumer's check finds what it is told to find."""
        if kind == "consumer_check":
            return {}
        if kind == "service_files":
            revision = self.files.get("%s@%s" % (args["name"], host))
            words = {"files": {"/etc/it.conf": "edited"}} if revision == "edited" else {}
            return {"revision": revision, "unit": "enabled" if revision else "missing", **words}
        if kind == "mariadb_database":
            return dict(self.databases.get(args["database"]["name"], {"database": False, "tables": 0}))
        if kind == "mariadb_backup":
            base, there = args["database"], self.backups.get(args["database"], {})
            if args["state"] == "restored":
                same = there.get(args["id"]) == (self.contents.get(base, ""), self.schemas.get(args["service"], "old"))
                return {"database": True, "restored": args["id"] if same else None, "torn": base in self.torn}
            name = backup_id(args)
            return {"backup": name if name in there else None}
        answering = {"answering": host in self.answers} if host in self.answers or "answer" in args else {}
        return {"file": "ours" if self.places.get(host) else "missing", **answering}

    def _goal(self, step: model.Step, args: t.Mapping[str, t.Any], before: dict[str, t.Any]) -> dict[str, t.Any]:
        kind = step.module.rpartition(".")[2]
        there = args["state"] == "present"
        if kind == "service_files":
            return (
                {"revision": args.get("revision") or "r1", "unit": "enabled"} if there else {"revision": None, "unit": "missing"}
            )
        if kind == "mariadb_database":
            return {**before, "database": True} if there else {"database": False, "tables": 0}
        if kind == "mariadb_backup":
            restored = {"database": True, "restored": args.get("id")}
            return restored if args["state"] == "restored" else {"backup": backup_id(args)}
        if kind == "haproxy_config":
            answering = {"answering": "answer" in args} if "answering" in before else {}
            return {"file": "ours" if there else "missing", **answering}
        if kind == "consumer_check":
            app = self.apps[observed.instance_key(args["component"], args["host"])]
            if app["version"] != args["version"]:
                raise LifecycleError("%s runs, not %s" % (app["version"], args["version"]), "check.failed")
            return before
        if "servers" in args:
            drained = {name: {"admin": 8, "weight": server["weight"]} for name, server in before.items()}
            return drained if args["state"] == "drain" else {name: args["restore"][name] for name in before}
        if args["state"] == "active":
            wanted = args["release"].get("id") or args["release"]["version"]
            return {"release": wanted, "version": wanted, "running": True}
        if "keep" in args:
            return {"releases": before["releases"][-args["keep"] :]}
        if args["state"] == "absent":
            return {"release": None, "version": None, "running": False}
        if args["state"] == "halted":
            return {**before, "version": None, "running": False}
        return {"schema": args["act"]["accept"][0]} if args["state"] == "expand" else before

    def _set(self, step: model.Step, goal: dict[str, t.Any], args: t.Mapping[str, t.Any]) -> None:
        if step.module.rpartition(".")[2] in KINDS:
            self._set_life(step, goal, args)
        elif step.do in ("drain", "confirm", "admit") and "#" in step.target:
            for name, state in goal.items():
                self.balancers[step.host][name].update(state)
        elif "keep" in args:
            self.releases[step.target] = goal["releases"]
        elif "schema" in goal:
            self.schemas[args["service"]] = goal["schema"]
            if step.do == "init":
                mine = [app for key, app in self.apps.items() if key.startswith(args["service"])]
                assert not [app for app in mine if app["running"]], "somebody still works with the database"
                self.databases[args["service"]]["tables"] = 9
        else:
            self.apps[step.target].update(goal)

    def _set_life(self, step: model.Step, goal: dict[str, t.Any], args: t.Mapping[str, t.Any]) -> None:
        kind = step.module.rpartition(".")[2]
        if kind == "service_files":
            key = "%s@%s" % (args["name"], step.host)
            assert goal["revision"] is None or not self.apps[key]["running"], "nothing runs on files that change under it"
            self.files[key] = goal["revision"]
            if goal["revision"] is None:
                self.apps[key]["running"] = False
        elif kind == "mariadb_database":
            self.databases[args["database"]["name"]] = goal
            if not goal["database"]:
                self.schemas.clear()
        elif kind == "mariadb_backup" and "restored" in goal:
            assert not [key for key, app in self.apps.items() if app["running"]], "somebody still works with the database"
            self.contents[args["database"]], self.schemas[args["service"]] = self.backups[args["database"]][args["id"]]
            self.torn.discard(args["database"])
        elif kind == "mariadb_backup":
            now = (self.contents.get(args["database"], ""), self.schemas.get(args["service"], "old"))
            self.backups.setdefault(args["database"], {})[goal["backup"]] = now
        elif kind == "haproxy_config":
            self.places[step.host] = goal["file"] == "ours"
            (self.answers.add if goal.get("answering") else self.answers.discard)(step.host)

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
    restore: str = ""

    def history(self) -> History:
        """What the runs of the store say, as the doors read it."""
        runs = self.store.runs(self.record.cloud)
        return past.history(((run, self.store.plan(run.id), self.store.entries(run.id)) for run in runs), self.store.clock())

    def look(self) -> dict[str, model.Seen]:
        found = {}
        restores = restoring.chosen(self.record, self.verb, self.history(), self.consents, self.restore)
        for question in observed.looks(self.record, self.recipes, self.verb, restores):
            kind = question.module.rpartition(".")[2]
            if kind in KINDS:
                before = self.cloud.look(kind, question.host, question.args)
                edited = kind == "service_files" and before["revision"] not in (None, "r1")
                found[question.key] = model.Seen(before, would_change=edited)
            elif "servers" in question.args:
                servers = self.cloud.balancers[question.host]
                before = {name: {"admin": server["admin"], "weight": server["weight"]} for name, server in servers.items()}
                found[question.key] = model.Seen(before, {"servers": {n: {**s, "health": "up"} for n, s in servers.items()}})
            elif question.args["state"] == "expand":
                schema = self.cloud.schemas.get(question.args["service"], "old")
                found[question.key] = model.Seen({"schema": schema}, would_change=schema in question.args["act"]["when"])
            elif question.args["state"] == "absent":
                there = self.cloud.releases.get(question.key.partition("/")[2], [])
                found[question.key] = model.Seen({"releases": list(there)}, would_change=len(there) > question.args["keep"])
            else:
                app = self.cloud.apps[question.key]
                found[question.key] = model.Seen(dict(app), would_change=app["version"] != question.args["release"]["version"])
        return found

    def plan(self) -> model.Plan:
        made = plan(
            self.record, self.recipes, self.look(), self.verb, consents=self.consents, history=self.history(),
            restore=self.restore, stamp="run-%d" % (len(self.store.runs(self.record.cloud)) + 1),
        )  # fmt: skip
        side_by_side(made)
        return made

    def playbook(self, die_at: str = "", at: t.Callable[[str], None] | None = None) -> model.Run:
        """Open, fetch, forward, back, close. ``die_at`` is POINT:WAY:STEP; ``at`` is called with every such point."""
        runs = self.store.runs(self.record.cloud)
        run = next((run for run in runs if run.state in model.OPEN_STATES), None)
        if run is None:
            made = self.plan()
            assert not made.refusals, made.refusals
            run = self.store.open(made, "run-%d" % (len(runs) + 1), holder.current(), "somebody")
        else:
            run = self.store.take_over(run, holder.current())
            made = self.store.plan(run.id)
        roles = phases(self.verb)
        former = journaled._point
        journaled._point = _passing(at or _dying(die_at))
        try:
            if run.state == "running":
                for word in play_words("_fetch.yml"):
                    self._all(run, model.OUT, word, [target for batch in made.batches for target in batch], rows(made))
                self._play(run, made, model.OUT, roles[_door.group(made)])
            doors.go_back(self.store, run.id, run.token)
            way_back = self.store.back(run.id)
            if way_back is not None:
                side_by_side(way_back)
                self._play(run, way_back, model.BACK, roles["osops_returning"])
        finally:
            journaled._point = former
        return doors.close(self.store, run.id, run.token)[0]

    def _play(self, run: model.Run, made: model.Plan, way: str, phase: str) -> None:
        mine = rows(made)
        for batch in control.unfinished(made, self.store.entries(run.id), way):
            if not doors.gate(self.store, run.id, run.token, way).go:
                return
            for word in play_words("_walk.yml", phase):
                self._all(run, way, word, list(batch), mine)

    def _all(self, run: model.Run, way: str, word: str, targets: list[str], mine: t.Collection[tuple[str, str]]) -> None:
        # What a target has no step for is skipped by the first look at the store; here that look is spared, thousands of times.
        for target in (name for name in targets if (name, word) in mine):
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


def rows(made: model.Plan) -> set[tuple[str, str]]:
    return {(step.target, step.do) for step in made.steps}


def side_by_side(made: model.Plan) -> None:
    """The targets of a batch take a word at the same time: none may wait for another one's same word."""
    names = [target for batch in made.batches for target in batch]
    assert len(names) == len(set(names)), "a host is in a play once"
    words = {step.id: step.do for step in made.steps}
    places = {target: number for number, batch in enumerate(made.batches) for target in batch}
    for step in made.steps:
        for need in step.needs:
            same = places[need.rpartition("/")[0]] == places[step.target]
            assert not (same and words.get(need) == step.do), "%s waits for %s, which runs at the same time" % (step.id, need)


def _passing(at: t.Callable[[str], None]) -> t.Callable[[str, model.Step], None]:
    return lambda name, step: at("%s:%s:%s" % (name, step.way, step.id))


def _dying(die_at: str) -> t.Callable[[str], None]:
    def point(name: str) -> None:
        if name == die_at:
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


@functools.cache
def keystone() -> model.Recipe:
    """The recipe of Keystone, read once: thousands of walks are made of it."""
    return knowledge.recipe("keystone")


def finalized(folder: pathlib.Path) -> Walk:
    """A Keystone of two instances whose schema has just been contracted, after a backup, and which has written since."""
    record, cloud = life(runs="24.1.0")
    cloud.schemas["keystone"], cloud.contents["keystone"] = "contract", "then"
    walk = Walk(record, {"keystone": keystone()}, cloud, Store("sqlite:///%s" % (folder / "store.db")), "finalize")
    assert walk.playbook().state == "succeeded"
    cloud.contents["keystone"] = "now"
    return walk


__all__ = [
    "Cloud",
    "DiedError",
    "ForeignChangeError",
    "Walk",
    "finalized",
    "life",
    "phases",
    "play_words",
    "role_words",
    "services",
]

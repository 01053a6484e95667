# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which steps a target has, and what each of them needs: the one place where step rows are made."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import needs
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import (
    BACK,
    Component,
    Json,
    Recipe,
    Record,
    Seen,
    Service,
    Step,
    canonical,
)

FETCH_S = 900
CHANGE_S = 180
PROBE_S = 120
TRAFFIC_S = 120
BACKUP_S = 3600
FILES_S = 120
AFRESH: dict[str, Json] = {
    "expect": None,
    "expect_from": (),
    "needs": (),
    "unless_begun": (),
    "undo": None,
    "resume": True,
    "way": BACK,
}
"""What a step of the way back does not have in common with the step that it takes back."""


def data_key(service: str) -> str:
    """The target of a service's data. Not the service's bare name: inventories often have a group of that name."""
    return service + ".data"


def database_target(service: str) -> str:
    """The target of a service's database, on the database's own host."""
    return service + ".database"


@dataclasses.dataclass(frozen=True)
class ShareSteps:
    """One load balancer's part of a batch: out of traffic, still out, and back as it was."""

    target: str
    host: str
    module: str
    args: dict[str, Json]
    before: dict[str, Json] | None
    """What its servers are known to be, None where nobody can know."""
    restore: dict[str, Json]
    servers: dict[str, str]
    phase: str = "upgrade"
    way: str = "out"

    def id(self, do: str) -> str:
        return "%s/%s" % (self.target, do)

    def steps(self, tested: tuple[str, ...], unless_begun: tuple[str, ...] = ()) -> list[Step]:
        """``tested`` are the proofs without which no request comes back, unless nothing of ``unless_begun`` was begun."""
        return [self.drain(), self.confirm(), self.admit(tested, unless_begun)]

    def drain(self) -> Step:
        undo = {**self.args, "state": "ready", "restore": self.restore}
        return self._step("drain", "traffic_drain", "drain", self.before, undo=undo)

    def confirm(self) -> Step:
        # What the drain left, or, where somebody's reload lost the drain, what was there before it: the driver mends that.
        return self._step("confirm", self.phase, "drain", None, needs=(self.id("drain"),), expect_from=(self.id("drain"),))

    def admit(self, tested: tuple[str, ...], unless_begun: tuple[str, ...] = ()) -> Step:
        came_from = (self.id("drain"), self.id("confirm"))
        expect = self.before if self.way == "back" else None  # on the way back there may be no drain to come from
        step = self._step("admit", "traffic_rollout", "ready", expect, needs=tested, expect_from=came_from)
        return dataclasses.replace(step, unless_begun=unless_begun)

    def _step(
        self,
        do: str,
        phase: str,
        state: str,
        expect: dict[str, Json] | None,
        needs: tuple[str, ...] = (),
        expect_from: tuple[str, ...] = (),
        undo: dict[str, Json] | None = None,
    ) -> Step:
        args = {**self.args, "state": state, "restore": self.restore}
        deadline = int(self.args.get("deadline", TRAFFIC_S))
        return Step(
            id=self.id(do), target=self.target, host=self.host, phase=phase, do=do, module=self.module, args=args, expect=expect,
            expect_from=expect_from, needs=needs, undo=undo, servers=self.servers, deadline_s=deadline, way=self.way,
        )  # fmt: skip


def instance_steps(
    verb: str,
    key: str,
    host: str,
    args: dict[str, Json],
    where: dict[str, Json],
    recipe: Recipe,
    service: Service,
    seen: Seen,
    ready: tuple[str, ...],
    drained: tuple[str, ...],
    peers: list[str],
) -> list[Step]:
    """Fetch, prove that the old one works, switch, and prove that the new one works: one instance."""
    deadline = CHANGE_S + recipe.stop_s(where["component"])
    before = seen.before
    change, phase = {"rollback": ("revert", "rollback"), "operational": ("repair", "operational")}.get(
        verb, ("change", "upgrade")
    )
    undo = {**needs.any_release(args, "active")}
    undo["release"] = {**undo["release"], "id": before.get("release")}
    steps = [
        Step(key + "/fetch", key, host, "planning", "fetch", service.driver, {**args, "state": "present"}, deadline_s=FETCH_S),
        Step(
            key + "/" + change, key, host, phase, change, service.driver, {**args, "state": "active"}, expect=before,
            needs=(key + "/fetch", *ready), undo=undo if before.get("release") else None, deadline_s=deadline,
        ),
    ]  # fmt: skip
    probe = probe_steps(
        key,
        host,
        where,
        recipe,
        service,
        service.release["version"],
        phase,
        change,
        peers=peers,
        installed_by=seen.more.get("installed_by"),
    )
    if not probe:
        return steps
    baseline, verify = probe
    # Without a running release there is nothing to prove before the change.
    if before.get("running"):
        steps.insert(1, dataclasses.replace(baseline, needs=drained))
        steps[2] = dataclasses.replace(steps[2], needs=(*steps[2].needs, baseline.id))
    return [*steps, verify]


def halt_step(
    key: str,
    host: str,
    args: dict[str, Json],
    recipe: Recipe,
    service: Service,
    before: dict[str, Json],
    ready: tuple[str, ...],
    phase: str,
) -> Step:
    """The process of one instance ends, whichever release it runs; ``args`` are those of its artifact driver."""
    return Step(
        key + "/halt", key, host, phase, "halt", service.driver, needs.any_release(args, "halted"), expect=before, needs=ready,
        deadline_s=CHANGE_S + recipe.stop_s(args["instance"]["component"]),
    )  # fmt: skip


def files_step(
    key: str, host: str, do: str, phase: str, args: dict[str, Json], recipe: Recipe, before: dict[str, Json], halt: str
) -> Step:
    """The configuration of one instance after the step ``halt``: as the record says, and with the revision that was there to go back to.

    ``args`` are those of the module ``files``, ``before`` is what it saw.
    """
    # Keys are rotated by whoever looks after them, also between the look and the act.
    once = {row["path"] for row in args.get("files") or [] if row.get("once")}
    files = {path: word for path, word in (before.get("files") or {}).items() if path not in once}
    before = {**before, "files": files} if "files" in before else before
    former = {"name": args["name"], "owner": args["owner"], "state": "present", "revision": before.get("revision")}
    return Step(
        key + "/" + do, key, host, phase, do, recipe.module("files"), {**args, "state": "present"}, expect=before, needs=(halt,),
        undo=former if before.get("revision") else None, deadline_s=FILES_S,
    )  # fmt: skip


def former_files(steps: t.Iterable[Step], key: str, begun: t.Collection[str], ready: tuple[str, ...]) -> list[Step]:
    """Halted once more after ``ready``, and the configuration that an instance had; empty where none was begun to be written."""
    mine = {step.do: step for step in steps if step.target == key}
    written = mine.get("install") or mine.get("restore")
    if written is None or written.undo is None or written.id not in begun:
        return []
    halted = dataclasses.replace(mine["halt"], **{**AFRESH, "needs": ready}, phase="rollback")
    more = {**AFRESH, "needs": (halted.id,)}
    return [halted, dataclasses.replace(written, **more, id=key + "/restore", do="restore", phase="rollback", args=written.undo)]


def proofs(steps: t.Iterable[Step], key: str) -> list[Step]:
    """What must have passed before an instance serves: its own test, and what its consumers ask of it."""
    return [step for step in steps if step.do == "test" and key in (step.target, step.of)]


def former_proof(test: Step, former: dict[str, Json] | None, after: Step) -> Step:
    """The same proof of what ran before (``former``, as the plan saw it) once ``after`` has started it again: it is asked what it can answer now."""
    test = without_past(test)
    args = {**test.args, "version": (former or {}).get("version")}
    return dataclasses.replace(test, args=args, needs=(after.id,), way=BACK)


def without_past(test: Step) -> Step:
    """A proof that asks for no token of the past: there was nothing before, or it may be long gone."""
    if "requests" not in test.args:  # a consumer's check knows nothing of our past
        return test
    asked = [request for request in test.args["requests"] or [] if "{baseline." not in canonical(request)]
    return dataclasses.replace(test, args={**test.args, "requests": asked})


def probe_steps(
    key: str,
    host: str,
    where: dict[str, Json],
    recipe: Recipe,
    service: Service,
    version: str,
    phase: str,
    change: str,
    way: str = "out",
    peers: list[str] | None = None,
    installed_by: str | None = None,
) -> list[Step]:
    """Baseline and verify of one instance; empty where the recipe has no probe for it. ``installed_by`` is what its driver says of itself."""
    probe = recipe.body.get("probe")
    if not probe or not where.get("listen"):
        return []
    secrets = {name: {"secret": variable} for name, variable in (service.probe.get("secrets") or {}).items()}
    instance = {**needs.only(where, "component", "listen"), **(service.probe.get("instance") or {})}
    common = {
        "instance": instance,
        "vars": {"peers": peers or [], **(probe.get("vars") or {}), **(service.probe.get("vars") or {})},
        "secrets": secrets,
    }
    module = recipe.module("probe")
    baseline = {**common, "state": "baseline", "requests": probe["baseline"]}
    verify = {**common, "state": "verify", "requests": probe["verify"], "version": version}
    verify["package"] = service.release.get("package", recipe.package)
    if installed_by:
        verify["installed_by"] = installed_by
    return [
        Step(key + "/confirm", key, host, phase, "confirm", module, baseline, deadline_s=PROBE_S, way=way),
        Step(key + "/test", key, host, "test", "test", module, verify, needs=(key + "/" + change,), deadline_s=PROBE_S, way=way),
    ]


def check_steps(
    record: Record, recipe: Recipe, service: Service, component: Component, host: str, change: Step, together: int = 1
) -> list[Step]:
    """What the service's consumers ask of one instance after ``change``, each a target of its own on the host of its check.

    One check asks one instance after the other, so each may wait for the ``together`` instances of its batch.
    """
    found = []
    for check in service.checks if component.port else ():
        key = "%s.%s" % (change.target, check.name)
        args = needs.check_args(record, service, check, component, host)
        found.append(
            Step(key + "/test", key, check.host, "test", "test", recipe.module("check"), args, needs=(change.id,),
                 deadline_s=PROBE_S + together * check.timeout_s, of=change.target)
        )  # fmt: skip
    return found


def schema_steps(
    record: Record,
    recipe: Recipe,
    service: Service,
    component: Component,
    host: str,
    fetched: tuple[str, ...],
    kept: tuple[str, ...] = (),
) -> list[Step]:
    """Pre-flight with the new release's own tools, then expand: the data of one service. ``kept`` proves that there is a backup."""
    key, module, body = data_key(service.name), recipe.module("schema"), recipe.body
    expand = body["schema"]["expand"]
    common = needs.schema_args(record, recipe, service, component, host)
    check = {**common, "state": "preflight"}
    act = {**common, "state": "expand", "act": expand}
    deadline = int(expand.get("deadline", 1800))
    return [
        Step(key + "/confirm", key, host, "upgrade", "confirm", module, check, needs=fetched, deadline_s=300),
        Step(
            key + "/change", key, host, "upgrade", "change", module, act, needs=(key + "/confirm", *kept), deadline_s=deadline,
            way_back=str(body.get("way_back", {}).get("until", "")) and "code_only until %s" % body["way_back"]["until"],
        ),
    ]  # fmt: skip


def backed_up(service: Service) -> bool:
    """Whether a proven backup stands before what cannot be taken back by code."""
    return service.database is not None and service.database.backup.get("kind") != "none"


def backup_steps(recipe: Recipe, service: Service, phase: str, after: tuple[str, ...], stamp: str) -> list[Step]:
    """Take a backup of the service's data and prove it; nothing where there is none to take.

    With ``stamp``, the id of the run, it has its name from the plan: whoever takes the run over finds the one that was begun.
    """
    if service.database is None or not backed_up(service):
        return []
    key = database_target(service.name)
    args = {**needs.backup_args(service, service.database), "state": "present"}
    if stamp and service.database.backup.get("kind", "dump") == "dump":
        args["id"] = "%s-%s" % (service.name, stamp)
    deadline = int(service.database.backup.get("deadline", BACKUP_S))
    host = service.database.host
    return [Step(key + "/confirm", key, host, phase, "confirm", recipe.module("backup"), args, needs=after, deadline_s=deadline)]

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which steps a target has, and what each of them needs: the one place where step rows are made."""

from __future__ import annotations

import dataclasses

from ansible_collections.osops.lifecycle.plugins.plugin_utils import needs
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import (
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
    change, phase = ("revert", "rollback") if verb == "rollback" else ("change", "upgrade")
    undo = {**args, "state": "active", "release": {"id": before.get("release"), "package": recipe.package}}
    steps = [
        Step(key + "/fetch", key, host, "planning", "fetch", service.driver, {**args, "state": "present"}, deadline_s=FETCH_S),
        Step(
            key + "/" + change, key, host, phase, change, service.driver, {**args, "state": "active"}, expect=before,
            needs=(key + "/fetch", *ready), undo=undo if before.get("release") else None, deadline_s=deadline,
        ),
    ]  # fmt: skip
    probe = probe_steps(key, host, where, recipe, service, service.release["version"], phase, change, peers=peers)
    if not probe:
        return steps
    baseline, verify = probe
    # Without a running release there is nothing to prove before the change.
    if before.get("running"):
        steps.insert(1, dataclasses.replace(baseline, needs=drained))
        steps[2] = dataclasses.replace(steps[2], needs=(*steps[2].needs, baseline.id))
    return [*steps, verify]


def without_past(test: Step) -> Step:
    """A proof that asks for no token of the past: there was nothing before, or it may be long gone."""
    asked = [request for request in test.args.get("requests") or [] if "{baseline." not in canonical(request)]
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
) -> list[Step]:
    """Baseline and verify of one instance; empty where the recipe has no probe for it."""
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
    verify = {**common, "state": "verify", "requests": probe["verify"], "package": recipe.package, "version": version}
    return [
        Step(key + "/confirm", key, host, phase, "confirm", module, baseline, deadline_s=PROBE_S, way=way),
        Step(key + "/test", key, host, "test", "test", module, verify, needs=(key + "/" + change,), deadline_s=PROBE_S, way=way),
    ]


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


def backup_steps(recipe: Recipe, service: Service, phase: str, after: tuple[str, ...]) -> list[Step]:
    """Take a backup of the service's data and prove it; nothing where there is none to take."""
    if service.database is None or not backed_up(service):
        return []
    key = database_target(service.name)
    args = {**needs.backup_args(service, service.database), "state": "present"}
    deadline = int(service.database.backup.get("deadline", BACKUP_S))
    host = service.database.host
    return [Step(key + "/confirm", key, host, phase, "confirm", recipe.module("backup"), args, needs=after, deadline_s=deadline)]

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From record, recipes and what was seen to a plan, or to refusals: pure, and the one place that decides what a run does."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import hops, knowledge
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import (
    Component,
    LeftOut,
    Plan,
    Recipe,
    Record,
    Seen,
    Service,
    Step,
    digest,
)
from ansible_collections.osops.lifecycle.plugins.plugin_utils.observed import (
    Observed,
    artifact_args,
    instance,
    instance_key,
    share_key,
    traffic_args,
)
from ansible_collections.osops.lifecycle.plugins.plugin_utils.steps import ShareSteps, data_key, instance_steps, schema_steps

Leftovers = t.Mapping[str, t.Mapping[str, LeftOut]]
"""share key -> BACKEND/SERVER -> what a former run left out of traffic"""


def wanted_hash(record: Record, recipes: t.Mapping[str, Recipe], verb: str, limit: t.Sequence[str] = ()) -> str:
    """Hash over what is wanted (record, recipes, policy), never over what was found: the same goal gives the same hash."""
    return digest({"record": record, "recipes": recipes, "verb": verb, "limit": sorted(limit)})


def plan(
    record: Record,
    recipes: t.Mapping[str, Recipe],
    observed: Observed,
    verb: str = "upgrade",
    leftovers: Leftovers | None = None,
    limit: t.Sequence[str] = (),
) -> Plan:
    """The whole plan of a run. With refusals in it, nothing may be written or done."""
    maker = _Maker(record, recipes, observed, verb, leftovers or {}, frozenset(limit))
    known: list[str] = knowledge.lifecycle()["service_order"]
    for name in sorted(record.services, key=lambda name: (known.index(name) if name in known else len(known), name)):
        maker.service(record.services[name])
    return Plan(
        cloud=record.cloud,
        verb=verb,
        services=tuple(record.services),
        hash=wanted_hash(record, recipes, verb, limit),
        batches=tuple(maker.batches),
        steps=tuple(maker.steps),
        refusals=tuple(maker.refusals),
        notes=tuple(maker.notes),
        moves=maker.moves,
    )


@dataclasses.dataclass
class _Maker:
    record: Record
    recipes: t.Mapping[str, Recipe]
    observed: Observed
    verb: str
    leftovers: Leftovers
    limit: t.Collection[str]
    batches: list[tuple[str, ...]] = dataclasses.field(default_factory=list)
    steps: list[Step] = dataclasses.field(default_factory=list)
    refusals: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    moves: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    returned: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    """share key -> servers that the batches so far have given their traffic back"""

    def service(self, service: Service) -> None:
        recipe = self.recipes[service.name]
        unknown = self._unknown(service)
        self.refusals += unknown
        missing = [name for name in recipe.order if name not in {component.name for component in service.components}]
        extra = [component.name for component in service.components if component.name not in recipe.order]
        self.notes += ["%s: the recipe knows %s, the record has none" % (service.name, name) for name in missing]
        self.refusals += ["%s: the recipe does not know the component %s." % (service.name, name) for name in extra]
        components = [service.component(name) for name in recipe.order if name not in missing]
        moving = {}
        for component in components:
            hosts = [host for host in component.hosts if self._moves(service, component, host)]
            # What is out of traffic already comes first: until it is back, the others may not leave.
            moving[component.name] = sorted(hosts, key=lambda host: not self._left_out(service, component, host))
        if not any(moving.values()) or unknown or extra:
            return
        self.refusals += hops.refusals(service, recipe, self.verb, self._versions(service))
        fetched = tuple(
            instance_key(component.name, host) + "/fetch" for component in components for host in moving[component.name]
        )
        data: tuple[str, ...] = ()
        if self.verb == "upgrade" and recipe.body.get("schema", {}).get("expand"):
            first = next(component for component in components if moving[component.name])
            host = moving[first.name][0]
            made = schema_steps(self.record, recipe, service, first, host, fetched)
            self.batches.append((data_key(service.name),))
            self.steps += made
            data = (made[-1].id,)
        for component in components:
            self._component(service, recipe, component, moving[component.name], data)

    def _component(self, service: Service, recipe: Recipe, component: Component, hosts: list[str], data: tuple[str, ...]) -> None:
        sizes = list(service.batches)
        while hosts:
            batch, hosts = hosts[: sizes[0]], hosts[sizes[0] :]
            sizes = sizes[1:] or sizes
            number = len(self.batches) + 1
            shares = self._shares(service, component, batch, number)
            steps: list[Step] = []
            for host in batch:
                key = instance_key(component.name, host)
                ready = tuple(share.id("confirm") for share in shares) + data
                drained = tuple(share.id("drain") for share in shares)
                args = artifact_args(self.record, recipe, service, component, host)
                where = instance(self.record, recipe, component, host)
                steps += instance_steps(self.verb, key, host, args, where, recipe, service, self.observed[key], ready, drained)
            tested = tuple(step.id for step in steps if step.do == "test")
            for share in shares:
                self.steps += share.steps(tested)
            self.steps += steps
            self.batches.append(
                tuple(share.target for share in shares) + tuple(instance_key(component.name, host) for host in batch)
            )

    def _shares(self, service: Service, component: Component, batch: list[str], number: int) -> list[ShareSteps]:
        if service.traffic is None or not component.port:
            return []
        shares = []
        addresses = [self.record.listen(component, host) for host in batch]
        for host in service.traffic.hosts:
            key = share_key(service.name, host)
            seen = self.observed[key]
            everywhere = seen.more.get("servers", {})
            ours = {name: server["address"] for name, server in everywhere.items() if server.get("address") in addresses}
            before = {name: state for name, state in seen.before.items() if name in ours}
            former = self.leftovers.get(key, {})
            restore = {name: former[name].before(state) if name in former else state for name, state in before.items()}
            back_by_then = self.returned.setdefault(key, set())
            self.refusals += _below_floor(service, seen, ours, back_by_then, host, batch)
            back_by_then.update(name for name, state in restore.items() if not state.get("admin"))
            args = traffic_args(service.traffic, service.min_available, addresses)
            phase = "rollback" if self.verb == "rollback" else "upgrade"
            target = "%s#%d@%s" % (service.name, number, host)
            shares.append(ShareSteps(target, host, service.traffic.driver, args, before, restore, ours, phase))
        return shares

    def _moves(self, service: Service, component: Component, host: str) -> bool:
        """Whether an instance is part of the run: another release runs, or a former run left it out of traffic."""
        key = instance_key(component.name, host)
        seen = self.observed.get(key)
        if seen is None or seen.unknown or (self.limit and host not in self.limit):
            return False
        if not seen.would_change and not seen.refused and not self._left_out(service, component, host):
            return False
        self.moves[key] = (str(seen.before.get("version") or seen.before.get("release") or "nothing"), service.release["version"])
        return True

    def _left_out(self, service: Service, component: Component, host: str) -> bool:
        address = self.record.listen(component, host)
        for balancer in service.traffic.hosts if service.traffic and component.port else ():
            key = share_key(service.name, balancer)
            servers = self.observed[key].more.get("servers", {}) if key in self.observed else {}
            for name, former in self.leftovers.get(key, {}).items():
                state = self.observed[key].before.get(name) if key in self.observed else None
                if state is not None and servers.get(name, {}).get("address") == address and former.before(state) != state:
                    return True
        return False

    def _unknown(self, service: Service) -> list[str]:
        keys = [instance_key(component.name, host) for component in service.components for host in component.hosts]
        keys += [share_key(service.name, host) for host in (service.traffic.hosts if service.traffic else ())]
        found = []
        for key in keys:
            seen = self.observed.get(key, Seen(unknown="nobody looked"))
            if seen.unknown or seen.refused:
                found.append("%s: %s" % (key, seen.unknown or seen.refused))
        return found

    def _versions(self, service: Service) -> dict[str, str]:
        names = {component.name for component in service.components}
        return {key: move[0] for key, move in self.moves.items() if key.split("@")[0] in names}


def _below_floor(
    service: Service, seen: Seen, ours: t.Collection[str], back_by_then: t.Collection[str], host: str, batch: list[str]
) -> list[str]:
    """A batch may not take a backend below the floor: counted on what was seen, and again by the driver when it drains.

    ``back_by_then`` are servers that have their traffic back from an earlier batch of this plan, whatever was seen.
    """
    found = []
    if not ours:
        return ["%s: no server of it has the address of %s." % (host, ", ".join(batch))]
    for backend in sorted({name.split("/")[0] for name in ours}):
        others = [
            name for name, server in seen.more["servers"].items() if re.match(re.escape(backend) + "/", name) and name not in ours
        ]
        healthy = [name for name in others if seen.more["servers"][name].get("health") in ("up", "unchecked")]
        left = [name for name in healthy if name in back_by_then or not seen.before.get(name, {}).get("admin")]
        if len(left) < service.min_available:
            found.append(
                "%s: with %s out of traffic, the backend %s would have %d healthy servers, the floor is %d. "
                "Repair the others, make the batches smaller, or lower min_available."
                % (host, ", ".join(batch), backend, len(left), service.min_available)
            )
    return found

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Strategy rolling: instances change batch by batch, each out of traffic while it does, never below the floor. Pure."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import configuration, hops, needs, offline, restoring
from ansible_collections.osops.lifecycle.plugins.plugin_utils.draft import Draft, instances
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import NOTHING, Component, Recipe, Seen, Service, Step
from ansible_collections.osops.lifecycle.plugins.plugin_utils.observed import (
    backup_key,
    check_key,
    files_key,
    instance_key,
    share_key,
)
from ansible_collections.osops.lifecycle.plugins.plugin_utils.steps import (
    ShareSteps,
    backed_up,
    backup_steps,
    check_steps,
    data_key,
    files_step,
    halt_step,
    instance_steps,
    schema_steps,
)


def change(draft: Draft, service: Service) -> None:
    """Add what brings every instance to the wanted release, forward or back."""
    misplaced = draft.misplaced(service)
    if misplaced:
        draft.refusals.append(misplaced)
        return
    draft.refusals += draft.crowded(service)
    if service.hold and draft.verb == "upgrade":
        draft.notes.append("%s is held: %s; it stays as it is" % (service.name, service.hold))
        return
    if service.name in draft.restores:
        restoring.restore(draft, service)
        return
    if service.strategy == "offline" and draft.verb == "rollback":
        draft.notes.append(
            "%s: its strategy is offline, yet a rollback is rolling: for a while both releases run side by side" % service.name
        )
    changes = any(draft.seen(key).would_change for key in instances(service))
    if service.strategy == "offline" and draft.verb == "upgrade" and changes:
        offline.change(draft, service)
        return
    _Rolling(draft).service(service)


def repair(draft: Draft, service: Service, kinds: t.Mapping[str, t.Collection[str]]) -> None:
    """Add what puts instances right that differ from the record, each out of traffic while it happens; ``kinds``: instance -> what differs."""
    _Rolling(draft, kinds).service(service)


class _Rolling:
    def __init__(self, draft: Draft, kinds: t.Mapping[str, t.Collection[str]] | None = None) -> None:
        self.draft = draft
        self.kinds = kinds
        self.returned: dict[str, set[str]] = {}
        """share key -> servers that the batches so far have given their traffic back"""

    def service(self, service: Service) -> None:
        recipe = self.draft.recipes[service.name]
        keys = [share_key(service.name, host) for host in (service.traffic.hosts if service.traffic else ())]
        keys += [backup_key(service.name)] if backed_up(service) and self.draft.verb == "upgrade" else []
        keys += [check_key(service.name, check.name) for check in service.checks]
        unknown = self.draft.silent([*instances(service), *keys]) + (
            configuration.problems(self.draft, service) if self.kinds is None else []
        )
        self.draft.refusals += unknown
        missing = [name for name in recipe.order if name not in {component.name for component in service.components}]
        extra = self.draft.strangers(service)
        self.draft.notes += ["%s: the recipe knows %s, the record has none" % (service.name, name) for name in missing]
        self.draft.refusals += extra
        components = [service.component(name) for name in recipe.order if name not in missing]
        moving = {}
        for component in components:
            hosts = [host for host in component.hosts if self._moves(service, component, host)]
            # What is out of traffic already comes first: until it is back, the others may not leave.
            moving[component.name] = sorted(hosts, key=lambda host: not self._out_already(service, component, host))
        if not any(moving.values()) or unknown or extra:
            return
        self.draft.refusals += hops.refusals(service, recipe, self.draft.verb, self._versions(service))
        fetched = tuple(
            instance_key(component.name, host) + "/fetch" for component in components for host in moving[component.name]
        )
        data: tuple[str, ...] = ()
        if self.draft.verb == "upgrade" and recipe.body.get("schema", {}).get("expand"):
            first = next(component for component in components if moving[component.name])
            host = moving[first.name][0]
            kept = backup_steps(recipe, service, "upgrade", fetched, self.draft.stamp)
            made = schema_steps(self.draft.record, recipe, service, first, host, fetched, tuple(step.id for step in kept))
            self.draft.batches.append(tuple(step.target for step in kept) + (data_key(service.name),))
            self.draft.steps += [*kept, *made]
            data = (made[-1].id,)
            if service.database is not None and not kept:
                self.draft.notes.append(
                    "%s: no backup is made (database.backup.kind none): the way back past contract is none" % service.name
                )
        for component in components:
            self._component(service, recipe, component, moving[component.name], data)

    def _component(self, service: Service, recipe: Recipe, component: Component, hosts: list[str], data: tuple[str, ...]) -> None:
        sizes = list(service.batches)
        while hosts:
            batch, hosts = hosts[: sizes[0]], hosts[sizes[0] :]
            sizes = sizes[1:] or sizes
            number = len(self.draft.batches) + 1
            shares = self._shares(service, component, batch, number)
            steps: list[Step] = []
            for host in batch:
                key = instance_key(component.name, host)
                ready = tuple(share.id("confirm") for share in shares) + data
                drained = tuple(share.id("drain") for share in shares)
                args = needs.artifact_args(self.draft.record, recipe, service, component, host)
                where = needs.instance(self.draft.record, recipe, component, host)
                peers = needs.peers(self.draft.record, component, service)
                mine = instance_steps(
                    self.draft.verb, key, host, args, where, recipe, service, self.draft.observed[key], ready, drained, peers
                )
                if "files" in self.kinds[key] if self.kinds is not None else configuration.moves(self.draft, key):
                    mine = self._with_files(recipe, service, component, host, mine, ready)
                change = next(step for step in mine if step.do in ("change", "repair", "revert"))
                steps += [*mine, *check_steps(self.draft.record, recipe, service, component, host, change, len(batch))]
            tested = tuple(step.id for step in steps if step.do == "test")
            for share in shares:
                self.draft.steps += share.steps(tested)
            self.draft.steps += steps
            targets = [share.target for share in shares] + [instance_key(component.name, host) for host in batch]
            self.draft.batches.append(tuple(dict.fromkeys([*targets, *(step.target for step in steps)])))

    def _with_files(
        self, recipe: Recipe, service: Service, component: Component, host: str, steps: list[Step], ready: tuple[str, ...]
    ) -> list[Step]:
        """The process ends, its files are made as the record says, and it starts on them.

        What is put right is not taken back; what changes together with a release is, to the revision that was there before.
        """
        key = instance_key(component.name, host)
        seen = self.draft.observed[key].before
        args = needs.artifact_args(self.draft.record, recipe, service, component, host)
        files = needs.files_args(self.draft.record, recipe, service, component, host)
        baseline = tuple(step.id for step in steps if step.do == "confirm")
        at = next(number for number, step in enumerate(steps) if step.do in ("change", "repair", "revert"))
        phase = steps[at].phase
        halt = halt_step(key, host, args, recipe, service, seen, (*ready, *baseline), phase)
        do = "restore" if phase == "rollback" else "install"
        install = files_step(key, host, do, phase, files, recipe, self.draft.seen(files_key(key)).before, halt.id)
        if self.kinds is not None:
            install = dataclasses.replace(install, undo=None)
        start = dataclasses.replace(steps[at], expect_from=(halt.id,), needs=(*steps[at].needs, install.id))
        return [*steps[:at], halt, install, start, *steps[at + 1 :]]

    def _shares(self, service: Service, component: Component, batch: list[str], number: int) -> list[ShareSteps]:
        if service.traffic is None or not component.port:
            return []
        shares = []
        addresses = [self.draft.record.listen(component, host) for host in batch]
        for host in service.traffic.hosts:
            key = share_key(service.name, host)
            seen = self.draft.observed[key]
            everywhere = seen.more.get("servers", {})
            ours = {name: server["address"] for name, server in everywhere.items() if server.get("address") in addresses}
            before = {name: state for name, state in seen.before.items() if name in ours}
            former = self.draft.leftovers.get(key, {})
            restore = {name: former[name].before(state) if name in former else state for name, state in before.items()}
            wanted_in = [self.draft.record.listen(component, member) for member in batch
                         if "traffic" in (self.kinds or {}).get(instance_key(component.name, member), ())]  # fmt: skip
            restore = {name: {**state, "admin": 0} if ours[name] in wanted_in else state for name, state in restore.items()}
            back_by_then = self.returned.setdefault(key, set())
            self.draft.refusals += _below_floor(service, seen, ours, back_by_then, host, batch)
            back_by_then.update(name for name, state in restore.items() if not state.get("admin"))
            args = needs.traffic_args(service.traffic, service.min_available, addresses)
            phase = self.draft.verb if self.draft.verb in ("rollback", "operational") else "upgrade"
            target = "%s#%d@%s" % (service.name, number, host)
            shares.append(ShareSteps(target, host, service.traffic.driver, args, before, restore, ours, phase))
        return shares

    def _moves(self, service: Service, component: Component, host: str) -> bool:
        """Whether an instance is part of the run: another release runs, or a former run left it out of traffic."""
        key = instance_key(component.name, host)
        seen = self.draft.observed.get(key)
        if seen is None or seen.unknown or (self.draft.limit and host not in self.draft.limit):
            return False
        if self.kinds is not None and key not in self.kinds:
            return False
        if self.kinds is None and not seen.would_change and not seen.refused and not self._left_out(service, component, host):
            return False
        self.draft.moves[key] = (
            str(seen.before.get("version") or seen.before.get("release") or NOTHING),
            service.release["version"],
        )
        return True

    def _out_already(self, service: Service, component: Component, host: str) -> bool:
        drained = "traffic" in (self.kinds or {}).get(instance_key(component.name, host), ())
        return drained or self._left_out(service, component, host)

    def _left_out(self, service: Service, component: Component, host: str) -> bool:
        address = self.draft.record.listen(component, host)
        for balancer in service.traffic.hosts if service.traffic and component.port else ():
            key = share_key(service.name, balancer)
            servers = self.draft.observed[key].more.get("servers", {}) if key in self.draft.observed else {}
            for name, former in self.draft.leftovers.get(key, {}).items():
                state = self.draft.observed[key].before.get(name) if key in self.draft.observed else None
                if state is not None and servers.get(name, {}).get("address") == address and former.before(state) != state:
                    return True
        return False

    def _versions(self, service: Service) -> dict[str, str]:
        names = {component.name for component in service.components}
        return {key: move[0] for key, move in self.draft.moves.items() if key.split("@")[0] in names}


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

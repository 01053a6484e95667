# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service that this collection brings into being, and takes away again: the plans of deploy and remove. Pure."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import needs
from ansible_collections.osops.lifecycle.plugins.plugin_utils.draft import Draft, instances, ordered
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import Component, Json, Recipe, Service, Step, Traffic
from ansible_collections.osops.lifecycle.plugins.plugin_utils.observed import (
    backup_key,
    balancer,
    balancer_key,
    database_key,
    files_key,
    instance_key,
    share_key,
)
from ansible_collections.osops.lifecycle.plugins.plugin_utils.steps import (
    CHANGE_S,
    FETCH_S,
    TRAFFIC_S,
    ShareSteps,
    backed_up,
    backup_steps,
    data_key,
    database_target,
    probe_steps,
    without_past,
)

Places = list[tuple[Component, str]]
FILES_S = 120
DATABASE_S = 300
PURGE_DATA = "purge_data"
"""The consent without which remove leaves the database where it is."""


def deploy(draft: Draft, service: Service) -> None:
    """Add every instance that is not there yet: data first, then software, a test out of traffic, and traffic last."""
    recipe = draft.recipes[service.name]
    problems = [*needs.missing(recipe, service), *draft.silent(instances(service), refusing=False)]
    draft.refusals += problems
    if problems:
        return
    places = [(component, host) for component in ordered(recipe, service) for host in component.hosts]
    new = [place for place in places if not _there(draft, _key(place)) and (not draft.limit or place[1] in draft.limit)]
    for place in places:
        seen = draft.seen(_key(place))
        if _there(draft, _key(place)) and seen.before.get("version") not in (None, service.release["version"]):
            draft.refusals.append(
                "%s runs %s, and the record wants %s: deploy only adds what is missing; use the playbook upgrade or rollback."
                % (_key(place), seen.before["version"], service.release["version"])
            )
        elif seen.before.get("running") and not seen.before.get("release"):
            draft.refusals.append(
                "%s: another program listens on %s (%s). Stop it, or give the component another port."
                % (_key(place), draft.record.listen(*place), "; ".join(seen.more.get("notes") or ["unknown"]).rstrip("."))
            )
    if not new:
        return
    draft.refusals += draft.silent([files_key(_key(place)) for place in new])
    draft.refusals += draft.silent([database_key(service.name)] if service.database else [])
    if service.traffic is not None:
        ask = balancer_key if service.traffic.managed is not None else share_key
        draft.refusals += draft.silent([ask(service.name, host) for host in service.traffic.hosts])
    if not draft.refusals:
        _Deploy(draft, service, recipe, new).add()


def remove(draft: Draft, service: Service) -> None:
    """Add what takes away everything that this collection made of a service, in the order drain, data, software."""
    recipe = draft.recipes[service.name]
    draft.refusals += draft.silent(instances(service), refusing=False)
    if "deploy" not in recipe.body:
        draft.refusals.append("%s: remove takes away only what deploy made, and its recipe knows no deploy." % service.name)
        return
    places = [(component, host) for component in ordered(recipe, service) for host in component.hosts]
    ours = [place for place in places if _ours(draft, _key(place))]
    foreign = [_key(place) for place in places if place not in ours and _there(draft, _key(place))]
    draft.refusals += [
        "%s was not made by this collection, which takes away only what it made. Let the tool remove it that made it." % key
        for key in foreign
    ]
    keys = [files_key(_key(place)) for place in ours] + ([database_key(service.name)] if service.database else [])
    if service.traffic is not None and service.traffic.managed is not None:
        keys += [balancer_key(service.name, host) for host in service.traffic.hosts]
    draft.refusals += draft.silent(keys)
    if ours and not draft.refusals:
        _Remove(draft, service, recipe, ours).add()


def _key(place: tuple[Component, str]) -> str:
    return instance_key(place[0].name, place[1])


def _ours(draft: Draft, key: str) -> bool:
    """What deploy made, or what a removal that was cut has left of it: releases of our driver without a unit."""
    files = draft.seen(files_key(key)).before
    left = not draft.seen(key).before.get("running") and files.get("unit") == "missing" and draft.seen(key).more.get("releases")
    return bool(files.get("revision") or left)


def _there(draft: Draft, key: str) -> bool:
    state = draft.seen(key).before
    return bool(state.get("release") or state.get("running"))


@dataclasses.dataclass
class _Deploy:
    draft: Draft
    service: Service
    recipe: Recipe
    new: Places

    def add(self) -> None:
        draft, service = self.draft, self.service
        fetched = tuple(_key(place) + "/fetch" for place in self.new)
        data = self._data(fetched)
        begun = tuple(step.id for step in data)
        found = list(data)
        for component, host in self.new:
            found += self._instance(component, host, begun)
        tested = tuple(
            step.id for step in found if step.do == ("test" if self.recipe.body.get("probe") else "change") and "@" in step.target
        )
        shares = self._shares(tested)
        draft.steps += [dataclasses.replace(step, way_back="removal") for step in [*shares, *found]]
        draft.batches.append(tuple(dict.fromkeys(step.target for step in [*shares, *found])))
        for place in self.new:
            draft.moves[_key(place)] = ("nothing", service.release["version"])

    def _data(self, fetched: tuple[str, ...]) -> list[Step]:
        """Database and accounts; then schema and first administrator, where the database is new."""
        service, create = self.service, self.recipe.body.get("schema", {}).get("create")
        if service.database is None:
            return []
        seen = self.draft.seen(database_key(service.name)).before
        key = database_target(service.name)
        args = {**needs.database_args(self.draft.record, self.recipe, service, service.database), "state": "present"}
        # Only what was not there before is this run's to take away again.
        undo = None if seen.get("database") else {**args, "state": "absent"}
        found = [
            Step(
                key + "/install", key, service.database.host, "install", "install", self.recipe.module("database"), args, expect=seen,
                needs=fetched, undo=undo, deadline_s=DATABASE_S,
            )
        ]  # fmt: skip
        if create is not None and not seen.get("tables"):
            component, host = self.new[0]
            key = data_key(service.name)
            common = needs.schema_args(self.draft.record, self.recipe, service, component, host)
            secrets = needs.secrets(self.recipe, service)
            args = {
                **common,
                "state": "expand",
                "act": create,
                "secrets": {name: secrets[name] for name in create.get("secrets") or []},
            }
            before = (found[0].id, instance_key(component.name, host) + "/install")
            found.append(
                Step(key + "/init", key, host, "install", "init", self.recipe.module("schema"), args, needs=before,
                     deadline_s=int(create.get("deadline", 1800)))
            )  # fmt: skip
        return found

    def _instance(self, component: Component, host: str, data: tuple[str, ...]) -> list[Step]:
        draft, recipe, service = self.draft, self.recipe, self.service
        key = instance_key(component.name, host)
        args = needs.artifact_args(draft.record, recipe, service, component, host)
        where = needs.instance(draft.record, recipe, component, host)
        files = {**needs.files_args(draft.record, recipe, service, component, host), "state": "present"}
        seen = draft.seen(files_key(key)).before
        change_s = CHANGE_S + recipe.stop_s(component.name)
        found = [
            Step(key + "/fetch", key, host, "planning", "fetch", service.driver, {**args, "state": "present"}, deadline_s=FETCH_S,
                 undo=gone(args)),
            Step(key + "/install", key, host, "install", "install", recipe.module("files"), files, expect=seen, needs=(key + "/fetch",),
                 undo=_away(files), deadline_s=FILES_S),
            Step(key + "/change", key, host, "install", "change", service.driver, {**args, "state": "active"},
                 expect=draft.seen(key).before, needs=(key + "/install", *data), undo=gone(args), deadline_s=change_s),
        ]  # fmt: skip
        probe = probe_steps(key, host, where, recipe, service, service.release["version"], "install", "change")
        return [*found, *(without_past(step) for step in probe[1:])]

    def _shares(self, tested: tuple[str, ...]) -> list[Step]:
        service, found = self.service, list[Step]()
        traffic = service.traffic
        if traffic is None:
            return found
        number = len(self.draft.batches) + 1
        addresses = [self.draft.record.listen(component, host) for component, host in self.new if component.port]
        for host in traffic.hosts:
            target = "%s#%d@%s" % (service.name, number, host)
            if traffic.managed is not None:
                args = {
                    **needs.balancer_args(self.draft.record, self.recipe, service, traffic, host),
                    "state": "present",
                    "min_up": len(addresses),
                }
                expect = self.draft.seen(balancer_key(service.name, host)).before
                found.append(
                    Step(target + "/admit", target, host, "traffic_rollout", "admit", balancer(self.recipe, traffic), args,
                         expect={name: expect[name] for name in ("file",) if name in expect}, needs=tested, undo={**args, "state": "absent"},
                         deadline_s=TRAFFIC_S)
                )  # fmt: skip
                continue
            share = _share(self.draft, service, traffic, addresses, target, host)
            if share.servers:
                found += [share.drain(), share.admit(tested)]
            else:
                lines = ", ".join(
                    "server %s %s check" % (name, self.draft.record.listen(part, name)) for part, name in self.new if part.port
                )
                self.draft.refusals.append(
                    "%s: its balancer has no server for %s. Add to the backend of %s: %s; or let the record manage it (traffic.managed)."
                    % (host, ", ".join(addresses), service.name, lines)
                )
        return found


@dataclasses.dataclass
class _Remove:
    draft: Draft
    service: Service
    recipe: Recipe
    ours: Places

    def add(self) -> None:
        draft = self.draft
        shares, found = self._shares()
        # Targets of a batch take one word side by side: a backup can wait for the drains, and not for what confirms them.
        kept = self._kept(tuple(step.id for step in shares if step.do == "drain"))
        ready = tuple(step.id for step in [*shares, *kept] if step.do == "confirm")
        data = self._data(ready)
        for component, host in self.ours:
            found += self._instance(component, host, ready)
        steps = [*shares, *kept, *data, *found]
        draft.steps += steps
        draft.batches.append(tuple(dict.fromkeys(step.target for step in steps)))
        for place in self.ours:
            draft.moves[_key(place)] = (str(draft.seen(_key(place)).before.get("version") or "stopped"), "nothing")

    def _shares(self) -> tuple[list[Step], list[Step]]:
        """Steps that take the traffic away, and steps that take our place in the balancers away."""
        traffic = self.service.traffic
        steps: list[Step] = []
        last: list[Step] = []
        addresses = [self.draft.record.listen(component, host) for component, host in self.ours if component.port]
        if traffic is None or not addresses:
            return steps, last
        for host in traffic.hosts:
            target = "%s#%d@%s" % (self.service.name, len(self.draft.batches) + 1, host)
            share = _share(self.draft, self.service, traffic, addresses, target, host)
            if share.servers:
                steps += [
                    dataclasses.replace(step, phase="delete") if step.do == "confirm" else step
                    for step in (share.drain(), share.confirm())
                ]
            if traffic.managed is not None:
                args = {**needs.balancer_args(self.draft.record, self.recipe, self.service, traffic, host), "state": "absent"}
                step = Step(
                    target + "/remove",
                    target,
                    host,
                    "delete",
                    "remove",
                    balancer(self.recipe, traffic),
                    args,
                    servers=share.servers,
                    deadline_s=TRAFFIC_S,
                )
                last.append(step)
            elif share.servers:
                self.draft.notes.append(
                    "%s: take %s out of the balancer's configuration; it stays drained until then"
                    % (host, ", ".join(share.servers))
                )
        purged = tuple(_key(place) + "/purge" for place in self.ours)
        return steps, [dataclasses.replace(step, needs=purged) for step in last]

    def _kept(self, drained: tuple[str, ...]) -> list[Step]:
        """A last backup, unless the database is not there any more."""
        if not backed_up(self.service) or not self.draft.seen(database_key(self.service.name)).before.get("database"):
            return []
        self.draft.refusals += self.draft.silent([backup_key(self.service.name)])
        return backup_steps(self.recipe, self.service, "delete", drained)

    def _data(self, ready: tuple[str, ...]) -> list[Step]:
        base = self.service.database
        if base is None or not self.draft.seen(database_key(self.service.name)).before.get("database"):
            return []
        if PURGE_DATA not in self.draft.consents:
            self.draft.notes.append(
                "the database %s stays on %s; with -e osops_consent=%s it goes too" % (base.name, base.host, PURGE_DATA)
            )
            return []
        key = database_target(self.service.name)
        args = {**needs.database_args(self.draft.record, self.recipe, self.service, base), "state": "absent"}
        step = Step(key + "/purge", key, base.host, "delete", "purge", self.recipe.module("database"), args, needs=ready, deadline_s=DATABASE_S,
                    way_back="restore" if backed_up(self.service) else "none")  # fmt: skip
        return [step]

    def _instance(self, component: Component, host: str, ready: tuple[str, ...]) -> list[Step]:
        key = instance_key(component.name, host)
        files = needs.files_args(self.draft.record, self.recipe, self.service, component, host)
        args = needs.artifact_args(self.draft.record, self.recipe, self.service, component, host)
        stop = FILES_S + self.recipe.stop_s(component.name)
        return [
            Step(key + "/purge", key, host, "delete", "purge", self.recipe.module("files"), _away(files), needs=ready, deadline_s=stop,
                 way_back="deploy"),
            Step(key + "/remove", key, host, "delete", "remove", self.service.driver, gone(args), needs=(key + "/purge",),
                 deadline_s=CHANGE_S, way_back="deploy"),
        ]  # fmt: skip


def _share(draft: Draft, service: Service, traffic: Traffic, addresses: t.Sequence[str], target: str, host: str) -> ShareSteps:
    """The servers of some instances on one balancer, with no floor: there is nothing else to keep in service."""
    seen = draft.seen(share_key(service.name, host))
    everywhere: dict[str, Json] = seen.more.get("servers", {})
    servers = {name: server["address"] for name, server in everywhere.items() if server.get("address") in addresses}
    before = {name: state for name, state in seen.before.items() if name in servers}
    args = {**needs.traffic_args(traffic, 0, list(addresses))}
    return ShareSteps(target, host, traffic.driver, args, before, before, servers)


def gone(args: dict[str, Json]) -> dict[str, Json]:
    """Arguments of an artifact driver that leave nothing of it: absent, without a release, is all releases of the instance."""
    return {**args, "state": "absent", "release": {"package": args["release"]["package"]}}


def _away(files: dict[str, Json]) -> dict[str, Json]:
    """Arguments of the module ``files`` that take away what it made: it knows what that is, contents and secrets are not needed."""
    return {**{name: files[name] for name in ("name", "owner", "unit")}, "state": "absent"}

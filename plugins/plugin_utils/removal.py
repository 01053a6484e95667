# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service that deploy made, and that is taken away: drain, data, software; nothing that somebody else made. Pure."""

from __future__ import annotations

import dataclasses

from ansible_collections.osops.lifecycle.plugins.plugin_utils import needs
from ansible_collections.osops.lifecycle.plugins.plugin_utils.draft import Draft, instances, ordered
from ansible_collections.osops.lifecycle.plugins.plugin_utils.greenfield import (
    DATABASE_S,
    Places,
    away,
    gone,
    key_of,
    not_served,
    share_of,
)
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import NOTHING, Component, Recipe, Service, Step
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
    FILES_S,
    TRAFFIC_S,
    backed_up,
    backup_steps,
    database_target,
)

PURGE_DATA = "purge_data"
"""The consent without which remove leaves the database where it is."""


def remove(draft: Draft, service: Service) -> None:
    """Add what takes away everything that this collection made of a service, in the order drain, data, software."""
    recipe = draft.recipes[service.name]
    draft.refusals += draft.silent(instances(service), refusing=False)
    if "deploy" not in recipe.body:
        draft.refusals.append("%s: remove takes away only what deploy made, and its recipe knows no deploy." % service.name)
        return
    places = [(component, host) for component in ordered(recipe, service) for host in component.hosts]
    ours = [place for place in places if _ours(draft, key_of(place))]
    foreign = [key_of(place) for place in places if place not in ours and draft.there(key_of(place))]
    draft.refusals += [
        "%s was not made by this collection, which takes away only what it made. Let the tool remove it that made it." % key
        for key in foreign
    ]
    keys = [files_key(key_of(place)) for place in ours] + ([database_key(service.name)] if service.database else [])
    traffic = service.traffic
    left = False
    for host in traffic.hosts if traffic is not None else ():
        placed = traffic is not None and traffic.managed is not None
        keys += [balancer_key(service.name, host)] if placed else []
        left = left or (placed and draft.seen(balancer_key(service.name, host)).before.get("file") == "ours")
        if placed and draft.seen(balancer_key(service.name, host)).before.get("file") == "missing":
            continue
        strange = [key_of(place) for place in not_served(draft, service, ours, host)]
        if strange:
            draft.refusals.append(
                "%s: its balancer could not say which server is %s, so its requests cannot be drained. %s"
                % (host, ", ".join(strange), draft.seen(share_key(service.name, host)).unknown)
            )
    draft.refusals += draft.silent(keys)
    if draft.limit:
        draft.refusals.append("%s: remove takes a whole service away; osops_limit cannot be used with it." % service.name)
    data = PURGE_DATA in draft.consents and draft.seen(database_key(service.name)).before.get("database")
    if not draft.refusals and (ours or left or data):
        _Remove(draft, service, recipe, ours).add()
    elif not draft.refusals:
        draft.notes.append("%s: there is nothing that deploy made" % service.name)


def _ours(draft: Draft, key: str) -> bool:
    """What deploy made, or what a removal that was cut has left of it: releases of our driver without any unit."""
    seen = draft.seen(key)
    bare = seen.more.get("unit") is not None and not seen.more["unit"].get("exists")
    left = bare and not seen.before.get("running") and seen.more.get("releases")
    return bool(draft.seen(files_key(key)).before.get("revision") or left)


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
            draft.moves[key_of(place)] = (str(draft.seen(key_of(place)).before.get("version") or "stopped"), NOTHING)

    def _shares(self) -> tuple[list[Step], list[Step]]:
        """Steps that take the traffic away, and steps that take our place in the balancers away."""
        traffic = self.service.traffic
        steps: list[Step] = []
        last: list[Step] = []
        addresses = [self.draft.record.listen(component, host) for component, host in self.ours if component.port]
        if traffic is None:
            return steps, last
        for host in traffic.hosts:
            target = "%s#%d@%s" % (self.service.name, len(self.draft.batches) + 1, host)
            share = share_of(self.draft, self.service, traffic, addresses, target, host)
            if share.servers:
                steps += [
                    dataclasses.replace(step, phase="delete") if step.do == "confirm" else step
                    for step in (share.drain(), share.confirm())
                ]
            if (
                traffic.managed is not None
                and self.draft.seen(balancer_key(self.service.name, host)).before.get("file") != "missing"
            ):
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
            elif share.servers and traffic.managed is None:
                self.draft.notes.append(
                    "%s: take %s out of the balancer's configuration; it stays drained until then"
                    % (host, ", ".join(share.servers))
                )
        purged = tuple(key_of(place) + "/purge" for place in self.ours)
        return steps, [dataclasses.replace(step, needs=purged) for step in last]

    def _kept(self, drained: tuple[str, ...]) -> list[Step]:
        """A last backup, unless the database is not there any more."""
        if not backed_up(self.service) or not self.draft.seen(database_key(self.service.name)).before.get("database"):
            return []
        self.draft.refusals += self.draft.silent([backup_key(self.service.name)])
        return backup_steps(self.recipe, self.service, "delete", drained, self.draft.stamp)

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
        files = away(needs.files_args(self.draft.record, self.recipe, self.service, component, host))
        # Data that stays can only be read with today's keys, and what the record does not name stays.
        if PURGE_DATA in self.draft.consents and self.service.database is not None:
            files["rotated"] = True
        args = needs.artifact_args(self.draft.record, self.recipe, self.service, component, host)
        stop = FILES_S + self.recipe.stop_s(component.name)
        return [
            Step(key + "/purge", key, host, "delete", "purge", self.recipe.module("files"), files, needs=ready, deadline_s=stop,
                 way_back="deploy"),
            Step(key + "/remove", key, host, "delete", "remove", self.service.driver, gone(args), needs=(key + "/purge",),
                 deadline_s=CHANGE_S, way_back="deploy"),
        ]  # fmt: skip

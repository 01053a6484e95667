# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service that this collection brings into being: the plan of deploy. Pure."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import needs
from ansible_collections.osops.lifecycle.plugins.plugin_utils.draft import Draft, instances, ordered
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import (
    NOTHING,
    Component,
    Json,
    Recipe,
    Service,
    Step,
    Traffic,
)
from ansible_collections.osops.lifecycle.plugins.plugin_utils.observed import (
    balancer,
    balancer_key,
    check_key,
    database_key,
    files_key,
    instance_key,
    share_key,
)
from ansible_collections.osops.lifecycle.plugins.plugin_utils.steps import (
    CHANGE_S,
    FETCH_S,
    FILES_S,
    TRAFFIC_S,
    ShareSteps,
    check_steps,
    data_key,
    database_target,
    probe_steps,
    without_past,
)

Places = list[tuple[Component, str]]
DATABASE_S = 300


def deploy(draft: Draft, service: Service) -> None:
    """Add every instance that is not there yet: data first, then software, a test out of traffic, and traffic last."""
    recipe = draft.recipes[service.name]
    problems = [*needs.missing(recipe, service), *draft.silent(instances(service), refusing=False)]
    draft.refusals += problems
    if problems:
        return
    places = [(component, host) for component in ordered(recipe, service) for host in component.hosts]
    new = [place for place in places if not draft.there(key_of(place)) and (not draft.limit or place[1] in draft.limit)]
    for place in places:
        seen = draft.seen(key_of(place))
        if draft.there(key_of(place)) and seen.before.get("version") not in (None, service.release["version"]):
            draft.refusals.append(
                "%s runs %s, and the record wants %s: deploy only adds what is missing; use the playbook upgrade or rollback."
                % (key_of(place), seen.before["version"], service.release["version"])
            )
        elif seen.before.get("release") and not seen.before.get("running"):
            draft.refusals.append(
                "%s is installed, and does not run on %s. The playbook upgrade starts it; another port or address needs a removal first."
                % (key_of(place), draft.record.listen(*place) or "this host")
            )
        elif seen.before.get("running") and not seen.before.get("release"):
            draft.refusals.append(
                "%s: another program listens on %s (%s). Stop it, or give the component another port."
                % (key_of(place), draft.record.listen(*place), "; ".join(seen.more.get("notes") or ["unknown"]).rstrip("."))
            )
    if not new:
        return
    draft.refusals += draft.silent([files_key(key_of(place)) for place in new])
    draft.refusals += draft.silent([database_key(service.name)] if service.database else [])
    draft.refusals += draft.silent([check_key(service.name, check.name) for check in service.checks])
    twice = sorted({host for component, host in new if any(other != component and host == there for other, there in new)})
    if twice:
        draft.refusals.append(
            "%s: two new components would share the files of %s; deploy can make one component a host."
            % (service.name, ", ".join(twice))
        )
    if service.traffic is not None:
        draft.refusals += _places_are_free(draft, service, service.traffic, new)
    if not draft.refusals:
        _Deploy(draft, service, recipe, new).add()


def _places_are_free(draft: Draft, service: Service, traffic: Traffic, new: Places) -> list[str]:
    """Why the balancers cannot take the new instances, one sentence each."""
    found = []
    for host in traffic.hosts:
        if traffic.managed is not None:
            seen = draft.seen(balancer_key(service.name, host))
            names = {name for component in service.components if component.port for name in component.hosts}
            strangers = sorted(name for name in seen.before.get("servers") or {} if name.rpartition("/")[2] not in names)
            if strangers:
                found.append(
                    "%s: our file there has %s, which the record does not name any more. Name it again, or remove the service first."
                    % (host, ", ".join(strangers))
                )
            found += draft.silent([balancer_key(service.name, host)])
            continue
        missing = not_served(draft, service, new, host)
        if missing:
            lines = ", ".join("server %s %s check" % (name, draft.record.listen(part, name)) for part, name in missing)
            found.append(
                "%s: add to the backend of %s: %s; or let the record manage it (traffic.managed). %s"
                % (host, service.name, lines, draft.seen(share_key(service.name, host)).unknown)
            )
    return found


def not_served(draft: Draft, service: Service, places: Places, host: str) -> Places:
    """The instances that no server of a balancer has the address of, as far as it could be asked."""
    servers = draft.seen(share_key(service.name, host)).more.get("servers", {}).values()
    known = {server.get("address") for server in servers}
    return [place for place in places if place[0].port and draft.record.listen(*place) not in known]


def key_of(place: tuple[Component, str]) -> str:
    return instance_key(place[0].name, place[1])


@dataclasses.dataclass
class _Deploy:
    draft: Draft
    service: Service
    recipe: Recipe
    new: Places

    def add(self) -> None:
        draft, service = self.draft, self.service
        fetched = tuple(key_of(place) + "/fetch" for place in self.new)
        data = self._data(fetched)
        begun = tuple(step.id for step in data)
        found = list(data)
        for component, host in self.new:
            found += self._instance(component, host, begun)
        proofs = ("test",) if self.recipe.body.get("probe") else ("test", "change")
        tested = tuple(step.id for step in found if step.do in proofs and "@" in step.target)
        shares = self._shares(tested)
        draft.steps += [dataclasses.replace(step, way_back="removal") for step in [*shares, *found]]
        draft.batches.append(tuple(dict.fromkeys(step.target for step in [*shares, *found])))
        for place in self.new:
            draft.moves[key_of(place)] = (NOTHING, service.release["version"])

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
        # Also on a database that stayed from a former life: its schema is brought up, or is refused as a newer one's.
        if create is not None and self.draft.phase(service) == "planning":
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
                 undo=away(files), deadline_s=FILES_S),
            Step(key + "/change", key, host, "install", "change", service.driver, {**args, "state": "active"},
                 expect=draft.seen(key).before, needs=(key + "/install", *data), undo=gone(args), deadline_s=change_s),
        ]  # fmt: skip
        peers = needs.peers(draft.record, component, service)
        probe = probe_steps(key, host, where, recipe, service, service.release["version"], "install", "change", peers=peers)
        checks = check_steps(draft.record, recipe, service, component, host, found[-1], len(self.new))
        return [*found, *(without_past(step) for step in probe[1:]), *checks]

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
                # Where others of the service serve already, the way back leaves them their place.
                stay = [server for server in args["servers"] if server["address"] not in addresses]
                undo = (
                    {**args, "servers": stay, "min_up": 0}
                    if expect.get("file") == "ours" and stay
                    else {**args, "state": "absent"}
                )
                found.append(
                    Step(target + "/admit", target, host, "traffic_rollout", "admit", balancer(self.recipe, traffic), args,
                         expect={name: expect[name] for name in ("file",) if name in expect}, needs=tested, undo=undo, deadline_s=TRAFFIC_S)
                )  # fmt: skip
                continue
            share = share_of(self.draft, service, traffic, addresses, target, host)
            # A former failure or removal may have left them drained: what is new and proven serves.
            share = dataclasses.replace(share, restore={name: {**state, "admin": 0} for name, state in share.restore.items()})
            found += [share.drain(), share.admit(tested)]
        return found


def share_of(draft: Draft, service: Service, traffic: Traffic, addresses: t.Sequence[str], target: str, host: str) -> ShareSteps:
    """The servers of some instances on one balancer, with no floor: there is nothing else to keep in service."""
    seen = draft.seen(share_key(service.name, host))
    everywhere: dict[str, Json] = seen.more.get("servers", {})
    servers = {name: server["address"] for name, server in everywhere.items() if server.get("address") in addresses}
    before = {name: state for name, state in seen.before.items() if name in servers}
    args = {**needs.traffic_args(traffic, 0, list(addresses))}
    return ShareSteps(target, host, traffic.driver, args, before, before, servers)


def gone(args: dict[str, Json]) -> dict[str, Json]:
    """Arguments of an artifact driver that leave nothing of it: absent, without a release, is all releases of the instance."""
    return needs.any_release(args, "absent")


def away(files: dict[str, Json]) -> dict[str, Json]:
    """Arguments of the module ``files`` that take away what it made: it knows what that is, contents and secrets are not needed."""
    return {**{name: files[name] for name in ("name", "owner", "unit")}, "state": "absent"}

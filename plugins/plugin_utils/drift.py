# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service in operation held against its record: what differs, what of it is put right by policy, and what a person has to do. Pure."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import configuration, rolling
from ansible_collections.osops.lifecycle.plugins.plugin_utils.draft import Draft, instances
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import Service
from ansible_collections.osops.lifecycle.plugins.plugin_utils.observed import (
    backup_key,
    balancer_key,
    files_key,
    instance_key,
    schema_key,
    share_key,
)
from ansible_collections.osops.lifecycle.plugins.plugin_utils.steps import backed_up, backup_steps

REPAIRABLE = ("process", "files", "traffic", "version")
"""Kinds of drift that a policy (``operational.repair`` in the record) may let a run put right."""


@dataclasses.dataclass(frozen=True)
class Drift:
    """One thing that is not as the record says. ``key`` is the instance that a repair would take through drain, start and test."""

    kind: str
    says: str
    key: str = ""


def operational(draft: Draft, service: Service) -> None:
    """Add what puts a service right as far as its policy allows, and a backup where one is due; tell the rest."""
    problems = [why for why in [draft.misplaced(service)] if why] or draft.silent(instances(service), refusing=False)
    hosts = service.traffic.hosts if service.traffic is not None else ()
    problems = problems or draft.silent([share_key(service.name, host) for host in hosts])
    draft.refusals += problems
    if problems:
        return
    found = drifts(draft, service)
    mended = [drift for drift in found if drift.kind in service.repair and drift.key and _reached(draft, drift.key)]
    kinds: dict[str, set[str]] = {}
    for drift in mended:
        kinds.setdefault(drift.key, set()).add(drift.kind)
    # What a repair of the same instance would start on is not for the policy to overlook.
    for drift in found:
        if drift not in mended and drift.kind in REPAIRABLE and drift.key in kinds:
            kinds.pop(drift.key)
    draft.drift += [drift.says for drift in found if drift not in mended or drift.key not in kinds]
    draft.notes += ["put right: %s" % drift.says for drift in mended if drift.key in kinds]
    if kinds:
        rolling.repair(draft, service, kinds)
    _backup(draft, service)


def _reached(draft: Draft, key: str) -> bool:
    """Whether a run that is limited to some hosts may touch an instance."""
    return not draft.limit or key.rpartition("@")[2] in draft.limit


def drifts(draft: Draft, service: Service) -> list[Drift]:
    """Everything that differs, in the order process, version, files, traffic, schema."""
    found: list[Drift] = []
    for key in instances(service):
        found += _instance(draft, service, key)
    for key in instances(service):
        found += _files(draft, key)
    for host in service.traffic.hosts if service.traffic is not None else ():
        found += _share(draft, service, host)
    schema = draft.seen(schema_key(service.name))
    if schema_key(service.name) in draft.observed and not any(drift.kind in ("version", "missing") for drift in found):
        if schema.unknown or schema.refused:
            found.append(
                Drift("schema", "the schema of %s cannot be judged: %s" % (service.name, schema.unknown or schema.refused))
            )
        elif schema.would_change:
            found.append(
                Drift("schema", "the schema of %s is older than its code; the playbook upgrade brings it up" % service.name)
            )
    return found


def _instance(draft: Draft, service: Service, key: str) -> list[Drift]:
    seen, wanted = draft.seen(key), service.release["version"]
    state = seen.before
    if not draft.there(key):
        return [Drift("missing", "%s: nothing of it is there; the playbook deploy makes it" % key)]
    if state.get("running") and state.get("version") not in (None, wanted):
        return [Drift("version", "%s runs %s, the record wants %s" % (key, state["version"], wanted), key)]
    if not state.get("running"):
        return [Drift("process", "%s does not run" % key, key)]
    if seen.refused:
        return [Drift("layout", "%s: %s" % (key, seen.refused))]
    if seen.would_change:
        return [
            Drift("version", "%s runs %s, but not the build that the record names" % (key, state.get("release") or wanted), key)
        ]
    return []


def _files(draft: Draft, key: str) -> list[Drift]:
    """Files that this collection made and that are not as the record says; those of others are not looked at."""
    seen = draft.seen(files_key(key))
    if files_key(key) not in draft.observed or not (seen.before.get("revision") or seen.unknown):
        return []
    if seen.unknown or seen.refused:
        return [Drift("files", "the files of %s cannot be judged: %s" % (key, seen.unknown or seen.refused))]
    if not seen.would_change:
        return []
    words = ", ".join(configuration.differing(seen)) or "other contents"
    return [Drift("files", "the files of %s are not as the record says: %s" % (key, words), key)]


def _share(draft: Draft, service: Service, host: str) -> list[Drift]:
    seen = draft.seen(share_key(service.name, host))
    servers, found = seen.more.get("servers") or {}, []
    for component in service.components if service.traffic is not None else ():
        for member in component.hosts if component.port else ():
            key, address = instance_key(component.name, member), draft.record.listen(component, member)
            mine = sorted(name for name, server in servers.items() if server.get("address") == address)
            if not mine:
                found.append(Drift("balancer", "%s: no server of it has the address of %s" % (host, key)))
            for name in mine:
                if seen.before.get(name, {}).get("admin"):
                    found.append(Drift("traffic", "%s: %s is out of traffic" % (host, name), key))
                elif servers[name].get("health") == "down" and draft.seen(key).before.get("running"):
                    found.append(Drift("health", "%s: %s fails its health check, although it runs" % (host, name)))
    file = draft.seen(balancer_key(service.name, host))
    if balancer_key(service.name, host) in draft.observed and (file.unknown or file.refused or file.would_change):
        why = file.unknown or file.refused or "it is not as the record says"
        found.append(Drift("balancer", "%s: our file in the balancer's configuration: %s" % (host, why)))
    return found


def _backup(draft: Draft, service: Service) -> None:
    """A backup that is due by the record's schedule is taken, and proven."""
    if not service.backup_every_s or not backed_up(service):
        return
    key = backup_key(service.name)
    problems = draft.silent([key])
    draft.drift += ["no backup can be taken: %s" % problem for problem in problems]
    newest = draft.seen(key).more.get("newest") or {}
    age = t.cast("float | None", newest.get("age_s"))
    if problems or (age is not None and age < service.backup_every_s):
        return
    steps = backup_steps(draft.recipes[service.name], service, "operational", (), draft.stamp)
    draft.steps += steps
    draft.batches.append(tuple(step.target for step in steps))
    draft.notes.append("%s: a backup is due (the newest is %s)" % (service.name, "%d s old" % age if age is not None else "none"))

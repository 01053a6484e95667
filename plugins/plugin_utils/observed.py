# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked of the hosts before anything is decided, and what their answers are."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import needs
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import (
    Json,
    Look,
    Recipe,
    Record,
    Seen,
    Service,
    Traffic,
)

Observed = t.Mapping[str, Seen]


def instance_key(component: str, host: str) -> str:
    return "%s@%s" % (component, host)


def share_key(service: str, host: str) -> str:
    return "share/%s@%s" % (service, host)


def files_key(key: str) -> str:
    return "files/" + key


def database_key(service: str) -> str:
    return "database/" + service


def backup_key(service: str) -> str:
    return "backup/" + service


def clean_key(key: str) -> str:
    return "clean/" + key


def restore_key(service: str) -> str:
    return "restore/" + service


def check_key(service: str, name: str) -> str:
    return "check/%s.%s" % (service, name)


def schema_key(service: str) -> str:
    return "schema/" + service


def contract_key(service: str) -> str:
    return "contract/" + service


def balancer_key(service: str, host: str) -> str:
    return "balancer/%s@%s" % (service, host)


def looks(
    record: Record, recipes: t.Mapping[str, Recipe], verb: str = "upgrade", restores: t.Mapping[str, str] | None = None
) -> list[Look]:
    """The questions of a verb: every instance, and what else the verb would touch. Pure.

    ``restores``: service -> the backup that its data would go back to; empty where none is known.
    """
    found = []
    for service in record.services.values():
        recipe = recipes[service.name]
        found += _instances(record, recipe, service)
        found += _traffic(record, service, verb)
        if verb in ("upgrade", "rollback", "deploy", "operational"):
            found += _checks(record, recipe, service)
        found += _backups(recipe, service, verb, (restores or {}).get(service.name, ""))
        if verb in ("finalize", "operational"):
            found += _schema(record, recipe, service, verb)
        if verb == "clean":
            found += _old(record, recipe, service)
        if verb in ("deploy", "remove") and "deploy" in recipe.body:
            found += _made(record, recipe, service, "present" if verb == "deploy" else "absent")
        if verb in ("upgrade", "rollback", "operational") and not needs.missing(recipe, service):
            made = _made(record, recipe, service, "present")
            balancers = verb == "operational" or (verb == "upgrade" and service.strategy == "offline")
            kinds = ("files/", "balancer/") if balancers else ("files/",)
            found += [look for look in made if look.key.startswith(kinds)]
    # What a hand keeps on a host is kept by cloud: a look without it would find nothing.
    return [dataclasses.replace(look, args={**look.args, "scope": record.cloud}) for look in found]


def _traffic(record: Record, service: Service, verb: str) -> list[Look]:
    owned = service.traffic is not None and service.traffic.managed is None
    asked = verb in ("upgrade", "rollback", "remove", "operational") or (verb == "deploy" and owned)
    if service.traffic is None or not asked:
        return []
    return _shares(record, service, service.traffic, 0 if verb in ("deploy", "remove") else service.min_available)


def _backups(recipe: Recipe, service: Service, verb: str, restored: str) -> list[Look]:
    """Whether a backup can be taken, and what going back to the one called ``restored`` would lose."""
    base, found = service.database, []
    if base is None or base.backup.get("kind") == "none":
        return []
    if verb in ("upgrade", "remove", "finalize", "backup", "operational") or restored:
        args = {"state": "present", **needs.backup_args(service, base)}
        found.append(Look(backup_key(service.name), base.host, recipe.module("backup"), args))
    if restored and base.backup.get("kind", "dump") == "dump":
        args = needs.restore_args(service, base, restored)
        found.append(Look(restore_key(service.name), base.host, recipe.module("backup"), args))
    return found


def _old(record: Record, recipe: Recipe, service: Service) -> list[Look]:
    places = [(component, host) for component in service.components for host in component.hosts]
    return [
        Look(clean_key(instance_key(component.name, host)), host, service.driver,
             needs.clean_args(record, recipe, service, component, host))
        for component, host in places
    ]  # fmt: skip


def _instances(record: Record, recipe: Recipe, service: Service) -> list[Look]:
    found = []
    for component in service.components:
        for host in component.hosts:
            args = {"state": "active", **needs.artifact_args(record, recipe, service, component, host)}
            found.append(Look(instance_key(component.name, host), host, service.driver, args))
    return found


def _shares(record: Record, service: Service, traffic: Traffic, floor: int) -> list[Look]:
    servers = [record.listen(part, member) for part in service.components if part.port for member in part.hosts]
    args = {"state": "ready", **needs.traffic_args(traffic, floor, servers)}
    return [Look(share_key(service.name, host), host, traffic.driver, args) for host in traffic.hosts]


def _checks(record: Record, recipe: Recipe, service: Service) -> list[Look]:
    """Whether the checks of consumers could be run, each with the first instance of the service as an example."""
    if not service.checks:
        return []
    component = next(part for part in service.components if part.port)
    found = []
    for check in service.checks:
        args = needs.check_args(record, service, check, component, component.hosts[0])
        found.append(Look(check_key(service.name, check.name), check.host, recipe.module("check"), args))
    return found


def _schema(record: Record, recipe: Recipe, service: Service, verb: str) -> list[Look]:
    """Whether there is something to contract (finalize), or still something to expand (operational)."""
    act, key = ("contract", contract_key(service.name)) if verb == "finalize" else ("expand", schema_key(service.name))
    if act not in recipe.body.get("schema", {}):
        return []
    component = next(part for name in recipe.order for part in service.components if part.name == name)
    host = component.hosts[0]
    args = {**needs.schema_args(record, recipe, service, component, host), "state": "expand", "act": recipe.body["schema"][act]}
    return [Look(key, host, recipe.module("schema"), args)]


def _made(record: Record, recipe: Recipe, service: Service, state: str) -> list[Look]:
    """What deploy makes and remove takes away: files, the database, and our own place in the load balancers."""
    found = []
    for component in service.components:
        for host in component.hosts:
            args = {"state": state, **needs.files_args(record, recipe, service, component, host)}
            found.append(Look(files_key(instance_key(component.name, host)), host, recipe.module("files"), args))
    if service.database is not None:
        args = {"state": state, **needs.database_args(record, recipe, service, service.database)}
        found.append(Look(database_key(service.name), service.database.host, recipe.module("database"), args))
    if service.traffic is not None and service.traffic.managed is not None:
        for host in service.traffic.hosts:
            args = {"state": state, **needs.balancer_args(record, recipe, service, service.traffic, host)}
            found.append(Look(balancer_key(service.name, host), host, balancer(recipe, service.traffic), args))
    return found


def balancer(recipe: Recipe, traffic: Traffic) -> str:
    """The driver that keeps our own file in a load balancer's configuration."""
    return str((traffic.managed or {}).get("driver") or recipe.module("balancer"))


def seen(answer: t.Mapping[str, Json]) -> Seen:
    """Read one answer of a driver in check mode. What cannot be read is unknown, with the reason."""
    verdict = answer.get("verdict") or {}
    before = answer.get("before")
    if not isinstance(before, dict) or (answer.get("failed") and not before):
        return Seen(unknown=str(answer.get("msg") or verdict.get("reason") or "the driver answered nothing usable"))
    refused = str(answer.get("msg") or verdict.get("reason") or "refused") if answer.get("failed") else ""
    more = {
        name: answer[name]
        for name in ("releases", "process", "notes", "link", "unit", "lost", "newest", "removed", "installed_by", "grain")
        if name in answer
    }
    if isinstance(answer.get("servers"), list):
        more["servers"] = {server["server"]: server for server in answer["servers"]}
    return Seen(before, more, refused=refused, would_change=bool(answer.get("changed")))

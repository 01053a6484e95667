# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked of the hosts before anything is decided, and what their answers are."""

from __future__ import annotations

import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import (
    Component,
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


def looks(record: Record, recipes: t.Mapping[str, Recipe]) -> list[Look]:
    """The questions: every instance, and on every load balancer the servers of every service. Pure."""
    found = []
    for service in record.services.values():
        recipe = recipes[service.name]
        for component in service.components:
            for host in component.hosts:
                args = {"state": "active", **artifact_args(record, recipe, service, component, host)}
                found.append(Look(instance_key(component.name, host), host, service.driver, args))
        if service.traffic is not None:
            for host in service.traffic.hosts:
                servers = [record.listen(part, member) for part in service.components if part.port for member in part.hosts]
                args = {"state": "ready", **traffic_args(service.traffic, service.min_available, servers)}
                found.append(Look(share_key(service.name, host), host, service.traffic.driver, args))
    return found


def artifact_args(record: Record, recipe: Recipe, service: Service, component: Component, host: str) -> dict[str, Json]:
    """Arguments of the artifact driver for one instance and the wanted release."""
    return {
        "release": {"package": recipe.package, **service.release},
        "instance": instance(record, recipe, component, host),
    }


def instance(record: Record, recipe: Recipe, component: Component, host: str) -> dict[str, Json]:
    """How a driver or a probe finds one instance on its host."""
    where = {"component": component.name, "unit": component.unit, "stop": recipe.stop_s(component.name), **component.options}
    listen = record.listen(component, host)
    return {**where, "listen": listen} if listen else where


def traffic_args(traffic: Traffic, min_available: int, servers: t.Sequence[str]) -> dict[str, Json]:
    """Arguments of the traffic driver for some servers of a service on one load balancer."""
    return {"servers": list(servers), "backends": list(traffic.backends), "min_available": min_available, **traffic.options}


def seen(answer: t.Mapping[str, Json]) -> Seen:
    """Read one answer of a driver in check mode. What cannot be read is unknown, with the reason."""
    verdict = answer.get("verdict") or {}
    before = answer.get("before")
    if not isinstance(before, dict) or (answer.get("failed") and not before):
        return Seen(unknown=str(answer.get("msg") or verdict.get("reason") or "the driver answered nothing usable"))
    refused = str(answer.get("msg") or verdict.get("reason") or "refused") if answer.get("failed") else ""
    more = {name: answer[name] for name in ("releases", "process", "notes", "link") if name in answer}
    if isinstance(answer.get("servers"), list):
        more["servers"] = {server["server"]: server for server in answer["servers"]}
    return Seen(before, more, refused=refused, would_change=bool(answer.get("changed")))

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the hands are told about a service that this collection makes, keeps and takes away: arguments from record and recipe. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import (
    Check,
    Component,
    Database,
    Json,
    Recipe,
    Record,
    Service,
    Traffic,
)

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def owner(record: Record, service: Service, component: str = "") -> str:
    """Who made a thing: it stands in every mark that a hand leaves, and only that owner removes it."""
    return "/".join(part for part in (record.cloud, service.name, component) if part)


def values(
    record: Record, recipe: Recipe, service: Service, component: Component | None = None, host: str = ""
) -> dict[str, Json]:
    """What the places of a recipe's files and commands are filled with; secrets are not among them."""
    deploy = recipe.body.get("deploy") or {}
    found: dict[str, Json] = {"cloud": record.cloud, "service": service.name}
    if service.database is not None:
        found.update(
            database_host=_bracketed(service.database.address or record.addresses.get(service.database.host, service.database.host)),
            database_name=service.database.name, database_user=service.database.user,
        )  # fmt: skip
    part = component or next((each for each in service.components if each.port), None)
    if part is not None:
        behind = service.traffic.hosts[0] if service.traffic else part.hosts[0]
        found.update(component=part.name, unit=part.unit, port=part.port, path=part.options.get("path", ""))
        found["endpoint"] = "http://%s:%d" % (_bracketed(record.addresses.get(behind, behind)), part.port)
        if component is not None and host:
            found.update(host=host, address=_bracketed(record.addresses.get(host, host)), listen=record.listen(component, host))
    return {**found, **(deploy.get("values") or {}), **service.config.get("values", {})}


def filled(value: Json, known: t.Mapping[str, Json], at: str) -> Json:
    """``value`` with every ``{name}`` replaced; a name that nobody gave is an error of the record, and ``{config}`` is left to the hand."""
    if isinstance(value, str):

        def put(place: re.Match[str]) -> str:
            if place[1] == "config":
                return place[0]
            if place[1] not in known:
                raise BadInputError("In the recipe, at %s: nobody says what {%s} is." % (at, place[1]), "input.value",
                                    "Give it in the record, in config.values.")  # fmt: skip
            return str(known[place[1]])

        return _PLACE.sub(put, value)
    if isinstance(value, dict):
        return {name: filled(item, known, at) for name, item in value.items()}
    return [filled(item, known, at) for item in value] if isinstance(value, list) else value


def artifact_args(record: Record, recipe: Recipe, service: Service, component: Component, host: str) -> dict[str, Json]:
    """Arguments of the artifact driver for one instance and the wanted release."""
    return {
        "release": {"package": recipe.package, **service.release},
        "instance": instance(record, recipe, component, host),
    }


def clean_args(record: Record, recipe: Recipe, service: Service, component: Component, host: str) -> dict[str, Json]:
    """Arguments of the artifact driver that leave an instance its newest releases, what runs, and the way back."""
    args = artifact_args(record, recipe, service, component, host)
    return {**any_release(args, "absent"), "keep": service.keep_releases}


def any_release(args: dict[str, Json], state: str) -> dict[str, Json]:
    """Arguments of the artifact driver for an instance whichever of its releases is there: the host knows."""
    return {**args, "state": state, "release": {"package": args["release"]["package"]}}


def instance(record: Record, recipe: Recipe, component: Component, host: str) -> dict[str, Json]:
    """How a driver or a probe finds one instance on its host."""
    where = {"component": component.name, "unit": component.unit, "stop": recipe.stop_s(component.name), **component.options}
    listen = record.listen(component, host)
    return {**where, "listen": listen} if listen else where


def traffic_args(traffic: Traffic, min_available: int, servers: t.Sequence[str]) -> dict[str, Json]:
    """Arguments of the traffic driver for some servers of a service on one load balancer."""
    return {"servers": list(servers), "backends": list(traffic.backends), "min_available": min_available, **traffic.options}


def check_args(record: Record, service: Service, check: Check, component: Component, host: str) -> dict[str, Json]:
    """Arguments of the module ``check``, for what one consumer asks of one instance: the instance itself, past the balancers."""
    speaks = service.probe.get("instance") or {}
    endpoint = "%s://%s" % (speaks.get("scheme", "http"), record.listen(component, host))
    asked: dict[str, Json] = {"command": list(check.command), "user": check.user}
    if check.url:
        # How the instance's own certificate is verified is known; anybody else's is, with the host's authorities.
        trust = only(speaks, "ca_file", "server_name") if check.url.startswith("{endpoint}") else {}
        asked = {"url": check.url.replace("{endpoint}", endpoint), "status": check.status, **trust}
    return {
        "state": "verify", "name": check.name, "timeout": check.timeout_s, "endpoint": endpoint, "service": service.name,
        "component": component.name, "host": host, "version": service.release["version"], **asked,
        "secrets": {name: {"secret": variable} for name, variable in check.secrets.items()},
    }  # fmt: skip


def schema_args(record: Record, recipe: Recipe, service: Service, component: Component, host: str) -> dict[str, Json]:
    """What the module ``schema`` is told in each of its states."""
    return {
        "service": service.name,
        # What else may move is the artifact driver's business.
        "release": {"package": recipe.package, **{name: value for name, value in service.release.items() if name != "packages"}},
        "instance": only(instance(record, recipe, component, host), "component", "unit", "path", "user"),
        "config": recipe.body.get("config") or {},
        "commands": _filled_commands(record, recipe, service),
        "checks": recipe.body.get("preflight") or [],
    }


def _filled_commands(record: Record, recipe: Recipe, service: Service) -> dict[str, Json]:
    commands: dict[str, Json] = recipe.body.get("commands") or {}
    placed = [name for name, row in commands.items() if any("{" in word and word != "{config}" for word in row.get("argv") or [])]
    if not placed:
        return commands
    known = values(record, recipe, service)
    return {**commands, **{name: filled(commands[name], known, "commands." + name) for name in placed}}


def only(values: dict[str, Json], *names: str) -> dict[str, Json]:
    return {name: values[name] for name in names if values.get(name)}


def files_args(record: Record, recipe: Recipe, service: Service, component: Component, host: str) -> dict[str, Json]:
    """Arguments of the module ``files`` for one instance. The record's settings lie over those of the file that says ``settings``."""
    deploy, known = recipe.body["deploy"], values(record, recipe, service, component, host)
    files = []
    for row in deploy["files"]:
        row = {**row, "path": filled(row["path"], known, "deploy.files.path")}
        if row.pop("settings", False):
            ini = {name: dict(options) for name, options in row["ini"].items()}
            for section, options in service.config.get("settings", {}).items():
                ini.setdefault(section, {}).update(options)
            row["ini"] = ini
        files.append(row)
    return {
        "name": component.name, "owner": owner(record, service, component.name), "user": deploy.get("user"),
        "folders": deploy.get("folders") or [], "files": files, "unit": component.unit,
        "values": known, "secrets": secrets(recipe, service),
    }  # fmt: skip


def database_args(record: Record, recipe: Recipe, service: Service, base: Database) -> dict[str, Json]:
    """Arguments of the module ``database``."""
    password = secrets(recipe, service).get("db_password")
    return {
        "database": {"name": base.name, "user": base.user, "from": list(base.clients)}, "owner": owner(record, service),
        **({"server": {"socket": base.socket}} if base.socket else {}), "secrets": {"password": password} if password else {},
    }  # fmt: skip


def backup_args(service: Service, base: Database) -> dict[str, Json]:
    """Arguments of the module ``backup``."""
    policy = base.backup
    names = {"kind": "kind", "place": "place", "keep": "keep", "command": "command", "max_age": "max_age_s"}
    return {
        "database": base.name, "service": service.name, **({"server": {"socket": base.socket}} if base.socket else {}),
        **{option: policy[name] for name, option in names.items() if name in policy},
    }  # fmt: skip


def restore_args(service: Service, base: Database, backup: str) -> dict[str, Json]:
    """Arguments of the module ``backup`` for a database that goes back to one of its backups."""
    args = backup_args(service, base)
    return {
        **{name: args[name] for name in args if name in ("database", "service", "server", "place")},
        "state": "restored",
        "id": backup,
    }


def balancer_args(record: Record, recipe: Recipe, service: Service, traffic: Traffic, host: str) -> dict[str, Json]:
    """Arguments of the module ``balancer``, for the load balancer on ``host``: every instance of the record is a server."""
    deploy, managed = recipe.body["deploy"].get("balancer") or {}, traffic.managed or {}
    backend = traffic.backends[0] if traffic.backends else service.name
    address = _bracketed(record.addresses.get(host, host))
    api = [component for component in service.components if component.port]
    binds = managed.get("bind") or ["{address}:%d" % api[0].port]
    servers = [{"name": name, "address": record.listen(part, name)} for part in api for name in part.hosts]
    more = {name: traffic.options[name] for name in ("socket",) if name in traffic.options}
    return {
        "service": service.name, "owner": owner(record, service), "servers": servers,
        "frontends": [{"name": backend + "_front", "bind": [bind.replace("{address}", address) for bind in binds],
                       "options": [*(deploy.get("frontend") or []), *(managed.get("frontend") or [])]}],
        "backend": {"name": backend, **{name: deploy[name] for name in ("balance", "check", "server_options", "options") if name in deploy}},
        **more, **(managed.get("options") or {}),
    }  # fmt: skip


def peers(record: Record, component: Component, service: Service) -> list[str]:
    """Where the other instances of a component answer: a token of theirs proves that all have the same keys."""
    scheme = (service.probe.get("instance") or {}).get("scheme", "http")
    return ["%s://%s" % (scheme, record.listen(component, host)) for host in component.hosts] if component.port else []


def secrets(recipe: Recipe, service: Service) -> dict[str, Json]:
    """The recipe's secrets by name, each as the name of the variable that holds it."""
    named = (recipe.body.get("deploy") or {}).get("secrets") or []
    return {name: {"secret": service.secrets[name]} for name in named if name in service.secrets}


def missing(recipe: Recipe, service: Service) -> list[str]:
    """What the record must say before this service can be deployed, one sentence each."""
    deploy = recipe.body.get("deploy")
    if deploy is None:
        return ["%s: the recipe does not say how it is deployed (deploy)." % service.name]
    found = ["%s: the record does not say which variable holds the secret %s (secrets)." % (service.name, name)
             for name in deploy.get("secrets") or [] if name not in service.secrets]  # fmt: skip
    if "create" in recipe.body.get("schema", {}) and service.database is None:
        found.append("%s: the record does not say where its database is (database)." % service.name)
    return found


def _bracketed(address: str) -> str:
    return "[%s]" % address if ":" in address else address

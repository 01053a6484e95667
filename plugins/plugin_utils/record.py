# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The deployment record: from YAML to a Record whose groups are hosts and whose files are read."""

from __future__ import annotations

import hashlib
import pathlib
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import knowledge
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import (
    Check,
    Component,
    Database,
    Json,
    Record,
    Service,
    Traffic,
)

Groups = t.Mapping[str, t.Sequence[str]]
_LOCKED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s\\;]+)", re.MULTILINE)


def load(path: str, groups: Groups, address: t.Callable[[str], str], only: t.Sequence[str] = ()) -> Record:
    """Read a record. ``groups`` are the inventory's, ``address`` gives a host's; ``only`` names the services that are wanted.

    Raises BadInputError with the path of the key that is wrong.
    """
    place = pathlib.Path(path)
    document = knowledge.load_yaml(place, "record")
    knowledge.validate(document, "record", "record %s" % path)
    names = list(only) or list(document["services"])
    for name in names:
        if name not in document["services"]:
            raise BadInputError(
                "The record %s has no service %s." % (path, name),
                "input.unknown_service",
                "It has: %s." % ", ".join(sorted(document["services"])),
            )
    services = {name: _service(name, document["services"][name], place, groups) for name in names}
    members = {host for service in services.values() for host in _hosts(service)}
    return Record(document["cloud"], services, {host: address(host) for host in sorted(members)})


def _hosts(service: Service) -> set[str]:
    found = {host for component in service.components for host in component.hosts}
    found.update(service.traffic.hosts if service.traffic else ())
    return found | ({service.database.host} if service.database else set())


def cloud_of(path: str) -> str:
    """The name of the cloud, from a record that need not be right otherwise: a run must be held even while the record is edited."""
    document = knowledge.load_yaml(pathlib.Path(path), "record")
    cloud = document.get("cloud") if isinstance(document, dict) else None
    if not isinstance(cloud, str):
        raise BadInputError("The record %s does not name its cloud." % path, "input.schema")
    return cloud


def _service(name: str, body: dict[str, Json], place: pathlib.Path, groups: Groups) -> Service:
    at = "services.%s" % name
    release = dict(body["release"])
    driver = release.pop("driver")
    if "lock" in release:
        release["lock"] = _lock(release, place, "%s.release" % at)
    components = []
    for component, part in body["components"].items():
        members = _members(part["hosts"], groups, "%s.components.%s.hosts" % (at, component))
        options = dict(part.get("options") or {})
        components.append(Component(component, members, part.get("unit", ""), part.get("port", 0), options))
    traffic = None
    if "traffic" in body:
        part = body["traffic"]
        members = _members(part["hosts"], groups, "%s.traffic.hosts" % at)
        backends = tuple(part.get("backends") or ())
        traffic = Traffic(part["driver"], members, backends, dict(part.get("options") or {}), part.get("managed"))
        if not any(component.port for component in components):
            raise BadInputError("%s.traffic is set, but no component has a port." % at, "input.record", "Add port to the API.")
    return Service(
        name=name,
        driver=driver,
        release=release,
        components=tuple(components),
        traffic=traffic,
        probe=dict(body.get("probe") or {}),
        min_available=body.get("min_available", 1),
        batches=tuple(body.get("batches") or (1,)),
        strategy=body.get("strategy", "rolling"),
        secrets={**(body.get("probe") or {}).get("secrets", {}), **(body.get("secrets") or {})},
        database=_database(name, body.get("database"), groups, at),
        config=dict(body.get("config") or {}),
        soak_s=body.get("soak", 86400),
        hold=body.get("hold", ""),
        deployer=body.get("deployer", ""),
        repair=tuple((body.get("operational") or {}).get("repair") or ()),
        keep_releases=int((body.get("operational") or {}).get("keep_releases") or 2),
        backup_every_s=int((body.get("operational") or {}).get("backup_every") or 0),
        checks=_checks(body.get("checks") or [], components, groups, at),
    )


def _checks(rows: list[dict[str, Json]], components: list[Component], groups: Groups, at: str) -> tuple[Check, ...]:
    """The checks of consumers. Raises BadInputError for one that could not be run as it stands here."""
    if rows and not any(component.port for component in components):
        raise BadInputError("%s.checks is set, but no component has a port." % at, "input.record", "Add port to the API.")
    hosts = {host for component in components for host in component.hosts}
    found: list[Check] = []
    for number, row in enumerate(rows):
        here = "%s.checks.%d" % (at, number)
        wrong = _wrong_check(row, {check.name for check in found}, hosts)
        if wrong:
            raise BadInputError(
                "In the record, at %s: %s." % (here, wrong), "input.check", "docs/consumer_checks.md has examples."
            )
        (host,) = _members([row["host"]], groups, here + ".host")
        given = {key: row[key] for key in ("url", "status", "user", "secrets") if key in row}
        found.append(Check(row["name"], host, tuple(row.get("command") or ()), timeout_s=row.get("timeout", 60), **given))
    return tuple(found)


def _wrong_check(row: dict[str, Json], names: t.Collection[str], hosts: t.Collection[str]) -> str:
    """What no schema says of a check; ``names`` are those of the checks before it, ``hosts`` those of the service."""
    name = row["name"]
    if name in names:
        return "there are two checks with the name %s" % name
    if ("command" in row) == ("url" in row):
        return "the check %s needs exactly one of command and url" % name
    if "command" in row and not row["command"][0].startswith("/"):
        return "the program %s of the check %s is not named by its whole path" % (row["command"][0], name)
    stray = [key for key in (("status",) if "command" in row else ("user", "secrets")) if key in row]
    if stray:
        return "%s means nothing to the check %s" % (stray[0], name)
    # The target of a check is INSTANCE.NAME; it must not be that of another instance.
    taken = sorted({"%s.%s" % (host, name) for host in hosts} & set(hosts))
    return "the check %s cannot have this name, because there is a host %s" % (name, taken[0]) if taken else ""


def _database(service: str, body: Json, groups: Groups, at: str) -> Database | None:
    if body is None:
        return None
    hosts = _members(body["hosts"], groups, "%s.database.hosts" % at)
    backup = dict(body.get("backup") or {})
    if backup.get("kind") == "external" and not ("command" in backup and "max_age" in backup):
        raise BadInputError(
            "In the record, at %s.database.backup: external needs command and max_age." % at, "input.record",
            "The command prints when the newest good backup was made; max_age says in seconds how old it may be.",
        )  # fmt: skip
    return Database(
        hosts[0], body.get("name", service), body.get("user", service), tuple(body.get("from") or ("%",)), body.get("address", ""),
        body.get("socket", ""), backup,
    )  # fmt: skip


def _members(value: Json, groups: Groups, at: str) -> tuple[str, ...]:
    if isinstance(value, str):
        if value not in groups:
            raise BadInputError("In the record, at %s: the inventory has no group %s." % (at, value), "input.group")
        value = groups[value]
    for host in value:
        if host not in groups["all"]:
            raise BadInputError("In the record, at %s: the inventory has no host %s." % (at, host), "input.host")
    if not value:
        raise BadInputError("In the record, at %s: there is no host in it." % at, "input.host")
    return tuple(value)


def _lock(release: dict[str, t.Any], place: pathlib.Path, at: str) -> str:
    """The text of the lock file, after its digest and its version have been held against the record."""
    path: pathlib.Path = place.parent / release["lock"]
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise BadInputError(
            "In the record, at %s.lock: %s cannot be read: %s." % (at, path, exc.strerror),
            "input.lock",
            "The path starts at the record.",
        ) from exc
    wanted, found = release.get("digest"), "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    if wanted and wanted != found:
        raise BadInputError("In the record, at %s.digest: %s has %s." % (at, release["lock"], found), "input.digest")
    package = release.get("package")
    pins: dict[str, str] = {match["name"].lower(): match["version"] for match in _LOCKED.finditer(text)}
    if package and pins.get(package.lower(), release["version"]) != release["version"]:
        raise BadInputError(
            "In the record, at %s.version: %s is wanted, but the lock pins %s %s."
            % (at, release["version"], package, pins[package.lower()]),
            "input.version",
            "Make version and lock agree.",
        )
    return text

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
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import Component, Json, Record, Service, Traffic

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
    members = {host for service in services.values() for component in service.components for host in component.hosts}
    return Record(document["cloud"], services, {host: address(host) for host in sorted(members)})


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
        traffic = Traffic(part["driver"], members, tuple(part.get("backends") or ()), dict(part.get("options") or {}))
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
    )


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

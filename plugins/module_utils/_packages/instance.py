# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""One instance whose software is Debian packages: what is there, and the looks that all states of the driver share."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _environment, _instance, _process, _systemd
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Report
from ansible_collections.osops.lifecycle.plugins.module_utils._packages import dpkg, kept, proof

# It stands in a sources.list and in an apt.conf.
_PLAIN = re.compile(r"[A-Za-z0-9/._+-]+\Z")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What the arguments of the module say. ``version`` is empty where whichever is there is meant; ``also`` may move with it."""

    package: str
    version: str
    path: str
    component: str
    also: tuple[str, ...] = ()

    @classmethod
    def from_args(cls, params: t.Mapping[str, t.Any]) -> Wanted:
        """Check the options ``release`` and ``instance``. Raises BadInputError with one sentence."""
        release, instance = params["release"], params["instance"]
        if not release.get("package"):
            raise BadInputError("release.package is needed: the Debian package that the service is.", "artifact.release")
        version, name = release.get("version") or "", release.get("id") or ""
        if version and name and version != name:
            raise BadInputError(
                "release.id is %s and release.version is %s; they are the same thing here." % (name, version), "artifact.id"
            )
        version = version or name
        also = tuple(dpkg.check_name(each) for each in release.get("packages") or ())
        component = _instance.check_component(instance["component"])
        path = _environment.check_path(instance["path"])
        if not _PLAIN.match(path):
            raise BadInputError(
                "instance.path %r holds signs that apt's own files would read as something else." % (path,),
                "input.path",
                "It looks like /var/lib/osops/packages/keystone.",
            )
        return cls(dpkg.check_name(release["package"]), version and dpkg.check_version(version), path, component, also)


@dataclasses.dataclass(frozen=True)
class Look:
    """What was seen of an instance. ``rows`` are the packages that move together, that of the service first."""

    state: dict[str, t.Any]
    rows: tuple[dpkg.Package, ...]
    known: t.Mapping[str, dpkg.Package]
    running: _process.Running
    unit: _systemd.Unit
    refusal: LifecycleError | None

    @property
    def main(self) -> dpkg.Package:
        return self.rows[0]

    def has(self, versions: t.Mapping[str, str]) -> bool:
        """Whether every one of these packages is installed, whole, in its version."""
        return bool(versions) and all(
            name in self.known and self.known[name].installed and self.known[name].version == version
            for name, version in versions.items()
        )


def look(wanted: Wanted, instance: _instance.Instance, report: Report) -> Look:
    """See what is installed and what runs now, and tell it. Changes nothing."""
    known = dpkg.packages()
    main = known.get(wanted.package)
    rows: tuple[dpkg.Package, ...] = ()
    if main is not None and main.status not in ("not-installed", "config-files"):
        rows = (main, *(row for row in dpkg.moving_together(main.name, known) if row.name != main.name))
    running = proof.running(instance.listen, rows)
    unit = _systemd.show(instance.unit)
    whole = bool(rows) and all(row.installed for row in rows) and len({row.source_version for row in rows}) == 1
    state = {"release": rows[0].version if whole else None, "version": running.version, "running": running.listening}
    notes = [running.problem] if running.problem else []
    if unit.exists and unit.stop_timeout_s < instance.stop_s:
        notes.append(
            "systemd kills %s %.0f s after a stop was asked for (TimeoutStopSec), but it may need %d s."
            % (instance.unit, unit.stop_timeout_s, instance.stop_s)
        )
    report.after = dict(state)
    report.more.update(
        releases=kept.versions(wanted.path),
        packages={row.name: row.version for row in rows},
        process=running.facts(),
        unit=unit.facts(),
        notes=notes,
        grain="host",
        installed_by="dpkg",
    )
    return Look(state, rows, known, running, unit, _refusal(wanted, instance, rows, unit))


def _refusal(
    wanted: Wanted, instance: _instance.Instance, rows: t.Sequence[dpkg.Package], unit: _systemd.Unit
) -> LifecycleError | None:
    if not rows:
        return BadInputError(
            "The package %s is not installed on this host, and this driver changes only what is." % wanted.package,
            "package.not_installed",
            "Install it first, or correct release.package.",
        )
    if not unit.exists:
        return BadInputError(
            "The unit %s does not exist on this host." % instance.unit,
            "artifact.unit_unknown",
            "Name the unit that starts it in the record (components.%s.unit)." % instance.component,
        )
    return None

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host told of one instance, and whether a driver of this collection can change it. Pure."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import Json

_OURS = re.compile(r"^(?P<path>/.+)/releases/[A-Za-z0-9][A-Za-z0-9.+!_]*-(?P<lock>[0-9a-f]{12})$")


@dataclasses.dataclass(frozen=True)
class Instance:
    """One instance as its host told it."""

    component: str
    host: str
    row: dict[str, Json]

    @property
    def key(self) -> str:
        return "%s@%s" % (self.component, self.host)

    @property
    def unit(self) -> dict[str, Json]:
        return self.row["unit"] or {}

    @property
    def path(self) -> str:
        """The folder of our releases and links, where it is laid out as artifact_source does it."""
        ours = _OURS.match(self.row["prefix"])
        return ours["path"] if ours else ""

    @property
    def lock(self) -> str:
        """The first digits of the SHA-256 of the lock that its release was made from, where it is laid out as artifact_source does it."""
        ours = _OURS.match(self.row["prefix"])
        return ours["lock"] if ours else ""

    @property
    def home(self) -> str:
        """Where its software lies: the folder of our releases, or somebody else's environment as its unit names it."""
        return self.path + "/releases" if self.path else str(self.unit["starts_from"])


def unable(one: Instance) -> str:
    """Why no driver of this collection can change an instance; empty when one can."""
    row, where = one.row, "it runs %s " % (one.row["version"] or "a version that is not proven")
    if row["container"]:
        return where + "in a container (%s)" % row["container"]
    if row["package"]:
        return where + "from the Debian package %s" % row["package"]
    if row["behind"]:
        return where + "behind %s, whose unit may serve others as well" % row["behind"]
    if row["version"] is not None and not row["virtual"]:
        return where + "from %s, which is no virtual environment" % row["prefix"]
    if not one.unit:
        return where + "and no systemd unit has started it (process %d)" % row["pids"][0]
    if one.unit["problem"]:
        return where + "in %s: %s" % (one.unit["name"], one.unit["problem"])
    if row["version"] is not None and not one.home:
        return where + "from %s, which %s does not name (ExecStart)" % (row["prefix"], one.unit["name"])
    return ""


def process(host: str, row: t.Mapping[str, Json]) -> str:
    return "%s: process %d (%s) listens on %s" % (host, row["pids"][0], row["program"], " ".join(row["listen"]))


def by(found: t.Iterable[Instance], what: t.Callable[[Instance], str]) -> dict[str, list[str]]:
    same: dict[str, list[str]] = {}
    for one in found:
        same.setdefault(what(one), []).append(one.host)
    return same


def said(same: t.Mapping[str, t.Sequence[str]]) -> str:
    return "; ".join("%s on %s" % (what, ", ".join(hosts)) for what, hosts in same.items())

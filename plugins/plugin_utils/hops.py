# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which release may follow which: order of versions, and the jumps that upstream supports."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import knowledge
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import NOTHING, Recipe, Service

_PARTS = re.compile(r"\d+|[A-Za-z]+")
# Of a Debian revision, sign by sign: a tilde sorts before the end, the end before numbers, these before letters, and letters before
# other signs (deb-version(7), where a number ends the word before it).
_REVISION = re.compile(r"\d+|.")
_END = (0, 0, "")


def order(version: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts version texts: numbers as numbers, and after them words (``29.0.0rc1`` before ``29.0.0``).

    Of a Debian version (``2:22.0.2-0+deb12u6``) the epoch is left out, so that it can be held against an upstream one.
    """
    upstream, _dash, revision = version.rpartition(":")[2].partition("-")
    parts = [(1, int(part), "") if part.isdigit() else (-1, 0, part) for part in _PARTS.findall(upstream)]
    return (*parts, _END, *map(_rank, _REVISION.findall(revision)), _END)


def newer(one: str, other: str) -> bool:
    """Whether ``one`` comes after ``other``: as dpkg has it where both are Debian versions, by ``order`` otherwise."""
    debian = all(":" in version or "-" in version for version in (one, other))
    key = _debian if debian else order
    return key(one) > key(other)


def _debian(version: str) -> tuple[tuple[int, int, str], ...]:
    epoch, _colon, rest = version.rpartition(":")
    upstream, dash, revision = rest.rpartition("-")
    parts = [_REVISION.findall(text) for text in ((upstream, revision) if dash else (rest, ""))]
    return ((0, int(epoch or 0), ""), *map(_rank, parts[0]), _END, *map(_rank, parts[1]), _END)


def _rank(part: str) -> tuple[int, int, str]:
    if part.isdigit():
        return (1, int(part), "")
    return (-1, 0, "") if part == "~" else (2, 0, part) if part.isalpha() else (3, 0, part)


def refusals(service: Service, recipe: Recipe, verb: str, running: t.Mapping[str, str]) -> list[str]:
    """Why this jump must not be made, one sentence each; ``running`` is instance -> version."""
    wanted = service.release["version"]
    found = []
    for key, version in sorted(running.items()):
        if version == NOTHING:
            continue
        if verb == "upgrade" and newer(version, wanted):
            found.append(
                "%s runs %s, the record wants the older %s: that is a rollback, use the playbook rollback."
                % (key, version, wanted)
            )
        elif verb == "rollback" and newer(wanted, version):
            found.append(
                "%s runs %s, the record wants the newer %s: that is an upgrade, use the playbook upgrade."
                % (key, version, wanted)
            )
        elif "hops" in recipe.body:
            low, high = sorted((version, wanted), key=order)
            found += ["%s: %s" % (key, why) for why in _too_far(service.name, low, high)]
    return found


def _too_far(service: str, low: str, high: str) -> list[str]:
    """One series at a time, or from one SLURP series to the next; unknown versions are refused by name."""
    series = knowledge.releases()["series"]
    places = []
    for version in (low, high):
        major = int(order(version)[0][1])
        place = next((number for number, entry in enumerate(series) if entry["majors"].get(service) == major), None)
        if place is None:
            return ["no release of %s is known with the version %s (data/releases.yml)." % (service, version)]
        places.append(place)
    first, last = places
    slurps = [number for number in range(first, last + 1) if series[number].get("slurp")]
    if last - first <= 1 or (slurps == [first, last]):
        return []
    legal = [entry for number, entry in enumerate(series) if number == first + 1 or (number > first and entry.get("slurp"))]
    names = " or ".join("%s (%s.x)" % (entry["name"], entry["majors"].get(service)) for entry in legal[:2])
    return ["%s to %s leaves out a release that upstream does not let be left out; go to %s first." % (low, high, names)]

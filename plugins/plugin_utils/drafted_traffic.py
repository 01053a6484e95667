# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who sends requests to what was found: the load balancers' part of the draft of a record. Pure."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import Json

DRIVER = "osops.lifecycle.haproxy_server"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an instance is reached: address:port as HAProxy writes it."""

    key: str
    host: str
    listen: str


class Told(t.Protocol):
    """The part of a draft that is written here."""

    notes: list[str]
    refusals: list[str]


class Asked(t.Protocol):
    """The part of a wish that is read here."""

    @property
    def balancers(self) -> tuple[str, ...]:
        """Inventory hosts."""

    @property
    def socket(self) -> str:
        """Theirs, where it is not the driver's default."""


def balancer_key(host: str) -> str:
    return "export/balancer@%s" % host


def traffic(
    made: Told,
    wish: Asked,
    places: t.Sequence[Place],
    answers: t.Mapping[str, t.Mapping[str, Json]],
    searched: t.Mapping[str, bool],
) -> dict[str, Json]:
    """The record's ``traffic``, empty where a balancer does not agree with what was found; the reason is then told.

    ``searched``: address of a host that was searched -> whether it has answered.
    """
    backends: dict[str, tuple[str, ...]] = {}
    good = True
    for host in wish.balancers:
        answer = answers.get(balancer_key(host))
        if answer is None:
            good = False
            continue
        here = _backends(made, host, places, answer["servers"], searched)
        good = good and bool(here)
        backends[host] = here
        if answer.get("level") != "admin":
            made.notes.append("%s: its socket is of level %s, and an upgrade needs admin" % (host, answer.get("level")))
    if not good:
        return {}
    found: dict[str, Json] = {"driver": DRIVER, "hosts": list(wish.balancers)}
    if len(set(backends.values())) == 1:
        found["backends"] = list(backends[wish.balancers[0]])
    else:
        seen = "; ".join("%s on %s" % (", ".join(names), host) for host, names in backends.items())
        made.notes.append(
            "the backends are not the same on every balancer (%s), so the draft takes all that hold an instance" % seen
        )
    return {**found, "options": {"socket": wish.socket}} if wish.socket else found


def _backends(
    made: Told, host: str, places: t.Sequence[Place], servers: t.Sequence[Json], searched: t.Mapping[str, bool]
) -> tuple[str, ...]:
    """The backends of one balancer that hold the instances; none where an instance is missing, or where somebody else's serves beside."""
    ours = {place.listen for place in places}
    mine = [server for server in servers if server["address"] in ours]
    there = {server["address"] for server in mine}
    missing = ["%s (%s)" % (place.key, place.listen) for place in places if place.listen not in there]
    if missing:
        made.refusals.append("%s: no server of it has the address of %s." % (host, ", ".join(missing)))
    backends = tuple(sorted({server["server"].partition("/")[0] for server in mine}))
    strange = [server for server in servers if server["server"].partition("/")[0] in backends and server["address"] not in ours]
    serving = [server for server in strange if server["health"] != "down" and not server["backup"]]
    for server in strange:
        where = "%s: the server %s (%s)" % (host, server["server"], server["address"])
        heard = searched.get(server["address"].rpartition(":")[0].strip("[]"))
        if server not in serving:
            what = "a backup" if server["backup"] else "down"
            made.notes.append(where + " is in the backend as well, is %s, and no instance was found there" % what)
        elif heard is None:
            made.refusals.append(where + " serves beside them, and its host was not searched (osops_export_hosts).")
        elif heard:
            made.refusals.append(where + " serves beside them, and no instance was found there.")
    return () if missing or serving else backends

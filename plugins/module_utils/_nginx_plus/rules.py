# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What follows from what was seen: which servers are meant, how healthy they are, what an upstream can still carry. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.address import Endpoint, Resolve, is_at
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.model import (
    DOWN,
    DRAIN,
    FLAGS,
    HTTP,
    SETTABLE,
    Group,
    Peer,
    Seen,
    Server,
)

# Health, as far as nginx knows it. UNCHECKED: it makes no health checks of it, so nginx takes it for good. UNDECIDED: it gets
# traffic though its last check failed, or its first check is under way.
UP, UNCHECKED, UNDECIDED, DEAD = "up", "unchecked", "undecided", "down"
HEALTHY = (UP, UNCHECKED)
# While waiting, a single failed check of another server is no reason to give up; a server that is down is.
SERVING = (*HEALTHY, UNDECIDED)

# What is between the names of a key must be told again from it, and names stand in the path of a request.
NAME = re.compile(r"[A-Za-z0-9_.:-]{1,200}\Z")

Stable = dict[str, dict[str, int]]


def check_name(name: str) -> str:
    """Raises BadInputError for what cannot be the name of an upstream."""
    if not NAME.match(name):
        raise BadInputError("The name of the upstream %r holds characters that are not allowed." % (name,), "nginx_plus.name")
    return name


def select(
    groups: t.Sequence[Group], endpoints: t.Sequence[Endpoint], backends: t.Collection[str], resolve: Resolve
) -> list[tuple[Group, Peer]]:
    """Find every server at one of the endpoints, in all upstreams or in those named. What does not exist is an error naming it."""
    inside = [group for group in groups if not backends or group.name in backends]
    found: dict[tuple[str, str, int], tuple[Group, Peer]] = {}
    missing = []
    for endpoint in endpoints:
        here = [(group, peer) for group in inside for peer in group.peers if is_at(peer.address, peer.name, endpoint, resolve)]
        if not here:
            missing.append(endpoint.text)
        found.update(((group.kind, group.name, peer.id), (group, peer)) for group, peer in here)
    if missing:
        raise BadInputError(
            "NGINX Plus has no server %s%s."
            % (", ".join(missing), " in upstream " + ", ".join(sorted(backends)) if backends else ""),
            "nginx_plus.unknown_server",
            "It has: %s. An upstream without `zone` cannot be seen."
            % _some(sorted({peer.address for group in inside for peer in group.peers})),
        )
    _refuse_what_cannot_be_told_apart(list(found.values()))
    return list(found.values())


def _refuse_what_cannot_be_told_apart(found: t.Sequence[tuple[Group, Peer]]) -> None:
    keys: dict[tuple[str, str], Group] = {}
    for group, peer in found:
        check_name(group.name)
        other = keys.setdefault((group.name, peer.address), group)
        if other is not group:
            raise BadInputError(
                "The upstream %s exists in http and in stream, and both hold %s." % (group.name, peer.address),
                "nginx_plus.ambiguous",
                "Rename one of them: results could not say which one is meant.",
            )
    for group in {id(group): group for group, _peer in found}.values():
        addresses = [peer.address for holder, peer in found if holder is group]
        twice = sorted({address for address in addresses if addresses.count(address) > 1})
        if twice:
            raise BadInputError(
                "The upstream %s holds %s more than once." % (group.label, ", ".join(twice)),
                "nginx_plus.ambiguous",
                "Remove the repetition from its configuration (a higher `weight` does the same).",
            )


def servers_are(count: int) -> str:
    """Begin a sentence: `1 server is`, `3 servers are`."""
    return "%d %s" % (count, "server is" if count == 1 else "servers are")


def word(admin: int) -> str:
    """Say what a mask means."""
    return {0: "ready", DOWN: "down", DRAIN: "draining", SETTABLE: "down and draining"}[admin]


def _some(words: t.Sequence[str], most: int = 8) -> str:
    return ", ".join(words[:most]) + (" and %d more" % (len(words) - most) if len(words) > most else "") if words else "none"


def health(server: Server) -> str:
    """As nginx sees the server itself, whatever somebody has set: of one that is out of traffic, the last check is what is known."""
    state, passed = server.peer.state, server.peer.passed
    if state == "checking":
        return UNDECIDED
    if state in ("unavail", "unhealthy"):
        return DEAD
    if passed is None:
        return UNCHECKED
    if passed:
        return UP
    return UNDECIDED if state == "up" else DEAD


def carries(server: Server, good: t.Collection[str]) -> bool:
    """Whether a server takes new sessions and is healthy enough."""
    in_traffic = server.peer.state == "up" or (server.peer.state == "checking" and UNDECIDED in good)
    return in_traffic and not server.admin and health(server) in good


def capacity(servers: t.Iterable[Server], without: t.Collection[str], good: t.Collection[str] = HEALTHY) -> int:
    """Count the servers of one upstream that carry traffic when ``without`` (keys) is out. Backup servers only when no other is left."""
    left = [server for server in servers if server.key not in without and carries(server, good)]
    return sum(not server.peer.backup for server in left) or len(left)


def shortages(seen: Seen, keys: t.Collection[str], floor: int, good: t.Collection[str] = HEALTHY) -> dict[str, int]:
    """Return the upstreams that would have fewer than ``floor`` servers left, with what they would have."""
    found = {group.label: capacity(servers, keys, good) for group, servers in seen.groups}
    return {label: count for label, count in sorted(found.items()) if count < floor}


def patch(server: Server, wanted: t.Mapping[str, int]) -> dict[str, t.Any]:
    """Return the fields that bring a server to ``wanted`` (admin and weight), in one request; empty when it is so."""
    found: dict[str, t.Any] = {}
    if "weight" in wanted and wanted["weight"] != server.conf.weight:
        found["weight"] = wanted["weight"]
    if "admin" in wanted:
        for name, bit in FLAGS:
            if (wanted["admin"] ^ server.admin) & bit:
                found[name] = bool(wanted["admin"] & bit)
    return found


def excuse(seen: t.Iterable[Server], expect: Stable | None) -> tuple[Stable | None, list[str]]:
    """Return the expectation with what a reload explains put in its place, and the servers that lost our drain to one.

    A reload of nginx forgets what was set through the API, where the upstream has no `state` file: that is nobody's decision.
    Another weight is one, because what the configuration says is not known here.
    """
    if expect is None:
        return None, []
    excused, lost = dict(expect), []
    for server in seen:
        want = expect.get(server.key, {})
        if want.get("admin", 0) == server.leave and not server.admin:
            lost.append(server.key)
            excused[server.key] = {**want, "admin": 0}
    return excused, lost


def check_kind(servers: t.Iterable[Server], given: Stable, option: str) -> None:
    """Raises BadInputError where ``given`` wants of a server what its kind does not know."""
    for server in servers:
        if given.get(server.key, {}).get("admin", 0) & DRAIN and server.kind != HTTP:
            raise BadInputError(
                "%s wants %s to be draining, but a server of a stream upstream can only be down." % (option, server.key), "input"
            )

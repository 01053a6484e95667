# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What follows from what was seen: which servers are meant, how healthy they are, what a backend can still carry. Pure."""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import FORCED_DRAIN, FORCED_MAINT, OP_RUNNING, Server

CHECK_IN_PROGRESS = 0x01
CHECK_CONFIGURED = 0x02
CHECK_PASSED = 3
_PASSED_WORDS = ("L4OK", "L6OK", "L7OK", "PROCOK")

# Health, as far as HAProxy knows it. UNCHECKED: it has no check, so HAProxy takes it for good. UNDECIDED: it gets traffic, but
# its last check failed, or none has ended yet (HAProxy calls servers up before the first check).
UP, UNCHECKED, UNDECIDED, DOWN = "up", "unchecked", "undecided", "down"
HEALTHY = (UP, UNCHECKED)

Resolve = t.Callable[[str], t.Collection[str]]


class Endpoint(t.NamedTuple):
    """An address:port as the user wrote it; ``host`` is a normalised address or a lower-case name."""

    text: str
    host: str
    port: int
    is_address: bool


def _address(text: str) -> str | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)


def parse_endpoint(text: str) -> Endpoint:
    """Read ``10.0.0.1:5000``, ``[fd00::1]:5000`` or ``ctl1.example:5000``. Raises BadInputError."""
    host, _colon, port = text.strip().rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    address = _address(bare)
    named = not address and re.fullmatch(r"[A-Za-z0-9._-]+", bare)
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536 or not (address or named):
        raise BadInputError(
            "%r is not address:port." % (text,),
            "haproxy.bad_address",
            "Write it like 10.0.0.1:5000, [fd00::1]:5000 or ctl1.example:5000.",
        )
    return Endpoint(text, address or bare.lower(), int(port), bool(address))


def _is_at(server: Server, endpoint: Endpoint, resolve: Resolve) -> bool:
    if server.state.port != endpoint.port:
        return False
    address = _address(server.state.address)
    if endpoint.is_address:
        return address == endpoint.host
    return server.state.fqdn.lower() == endpoint.host or (address is not None and address in resolve(endpoint.host))


def select(
    servers: t.Sequence[Server], endpoints: t.Sequence[Endpoint], backends: t.Collection[str], resolve: Resolve
) -> list[Server]:
    """Find every server at one of the endpoints, in all backends or in those named. What does not exist is an error naming it."""
    known = {server.state.backend for server in servers}
    for backend in sorted(set(backends) - known):
        raise BadInputError(
            "HAProxy has no backend %s." % backend,
            "haproxy.unknown_backend",
            "It has: %s." % (", ".join(sorted(known)) or "none with servers"),
        )
    inside = [server for server in servers if not backends or server.state.backend in backends]
    found: dict[str, Server] = {}
    missing = []
    for endpoint in endpoints:
        here = [server for server in inside if _is_at(server, endpoint, resolve)]
        if not here:
            missing.append(endpoint.text)
        found.update((server.key, server) for server in here)
    if missing:
        raise BadInputError(
            "HAProxy has no server %s%s."
            % (", ".join(missing), " in backend " + ", ".join(sorted(backends)) if backends else ""),
            "haproxy.unknown_server",
            "It has: %s." % _some(sorted({"%s:%d" % server.endpoint for server in inside})),
        )
    return list(found.values())


def servers_are(count: int) -> str:
    """Begin a sentence: `1 server is`, `3 servers are`."""
    return "%d %s" % (count, "server is" if count == 1 else "servers are")


def word(admin: int) -> str:
    """Say what a settable mask means."""
    return {0: "ready", FORCED_MAINT: "in maintenance", FORCED_DRAIN: "drained"}[admin]


def _some(words: t.Sequence[str], most: int = 8) -> str:
    return ", ".join(words[:most]) + (" and %d more" % (len(words) - most) if len(words) > most else "") if words else "none"


def health(server: Server, by_key: t.Mapping[str, Server]) -> str:
    """Say UP only for a server that passed its last check with full health (rise + fall - 1), and so is not on its way down.

    A server that tracks another one is as healthy as that one.
    """
    state, stat = server.state, server.stat
    if state.op_state not in (1, OP_RUNNING):
        return DOWN
    if stat.tracked:
        tracked = by_key.get(stat.tracked)
        return health(tracked, by_key) if tracked is not None and state.op_state == OP_RUNNING else UNDECIDED
    if state.op_state != OP_RUNNING:
        return UNDECIDED
    if not state.check_state & CHECK_CONFIGURED:
        return UNCHECKED
    # While a check is under way its result reads 0 (unknown); the status word still is that of the check before.
    passed = state.check_result == CHECK_PASSED or (
        state.check_result == 0 and bool(state.check_state & CHECK_IN_PROGRESS) and stat.check_status in _PASSED_WORDS
    )
    return UP if passed and state.check_health == stat.full_health else UNDECIDED


def followers(servers: t.Iterable[Server], keys: t.Collection[str]) -> set[str]:
    """Return ``keys`` and all servers that track one of them: they inherit a drain."""
    servers = list(servers)
    reached = set(keys)
    while True:
        more = {server.key for server in servers if server.stat.tracked in reached} - reached
        if not more:
            return reached
        reached |= more


def capacity(servers: t.Sequence[Server], without: t.Collection[str], good: t.Collection[str] = HEALTHY) -> dict[str, int]:
    """Count, for every backend, the servers that carry traffic when ``without`` (keys) and what follows them is drained.

    Backup servers carry traffic only when no other server does, and then only the first one (``option allbackups`` is not
    visible from here).
    """
    by_key = {server.key: server for server in servers}
    gone = followers(servers, without)
    active: dict[str, int] = {server.state.backend: 0 for server in servers}
    backup: dict[str, int] = {}
    for server in servers:
        if server.key in gone or server.out or server.state.weight == 0 or health(server, by_key) not in good:
            continue
        group = backup if server.stat.backup else active
        group[server.state.backend] = group.get(server.state.backend, 0) + 1
    return {backend: count or min(1, backup.get(backend, 0)) for backend, count in active.items()}


def touched(servers: t.Iterable[Server], keys: t.Collection[str]) -> set[str]:
    """Return the backends that lose a server when ``keys`` are drained."""
    servers = list(servers)
    gone = followers(servers, keys)
    return {server.state.backend for server in servers if server.key in gone}


def shortages(
    servers: t.Sequence[Server], keys: t.Collection[str], floor: int, good: t.Collection[str] = HEALTHY
) -> dict[str, int]:
    """Return the backends that would have fewer than ``floor`` servers left, with what they would have."""
    left = capacity(servers, keys, good)
    return {backend: left[backend] for backend in sorted(touched(servers, keys)) if left[backend] < floor}


def commands(server: Server, wanted: t.Mapping[str, int]) -> list[str]:
    """Return what brings a server to ``wanted`` (admin and weight). The weight first: it must hold when traffic comes back."""
    words = {0: "ready", 0x01: "maint", 0x08: "drain"}
    found = []
    if "weight" in wanted and wanted["weight"] != server.state.weight:
        found.append("set server %s weight %d" % (server.key, wanted["weight"]))
    if "admin" in wanted and wanted["admin"] != server.forced:
        found.append("set server %s state %s" % (server.key, words[wanted["admin"]]))
    return found

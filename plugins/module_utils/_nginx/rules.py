# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What follows from what was seen: which servers are meant, and what an upstream can still carry. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy import rules as shared
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.rules import Endpoint
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.upstreams import Address, Direct, Server

Resolve = t.Callable[[str], t.Collection[str]]


def parse_endpoint(text: str) -> Endpoint:
    """Read ``10.0.0.1:5000``, ``[fd00::1]:5000`` or ``ctl1.example:5000``. Raises BadInputError."""
    try:
        return shared.parse_endpoint(text)
    except BadInputError as exc:
        raise BadInputError(exc.msg, "nginx.bad_address", exc.hint) from None


def is_at(address: Address, endpoint: Endpoint, resolve: Resolve) -> bool:
    """Whether requests to ``address`` reach ``endpoint``, as far as names are known here."""
    if address.is_unix or address.port != endpoint.port:
        return False
    if address.host == endpoint.host:
        return True
    if endpoint.is_address:
        return not address.is_ip and endpoint.host in resolve(address.host)
    return address.is_ip and address.host in resolve(endpoint.host)


def select(
    servers: t.Sequence[Server],
    upstreams: t.Collection[str],
    endpoints: t.Sequence[Endpoint],
    backends: t.Collection[str],
    resolve: Resolve,
) -> list[Server]:
    """Find every server at one of the endpoints, in all upstreams or in those named. What cannot be told apart is an error."""
    for backend in sorted(set(backends) - set(upstreams)):
        raise BadInputError(
            "nginx has no upstream %s." % backend, "nginx.unknown_upstream", "It has: %s." % _some(sorted(upstreams))
        )
    inside = [server for server in servers if not backends or server.first.upstream in backends]
    found: dict[tuple[str, str], Server] = {}
    missing = []
    for endpoint in endpoints:
        here = [server for server in inside if is_at(server.address, endpoint, resolve)]
        for server in here:
            _require_one_address(server, endpoint, resolve)
        if not here:
            missing.append(endpoint.text)
        found.update(((server.first.kind, server.key), server) for server in here)
    if missing:
        raise BadInputError(
            "nginx has no server %s in %s."
            % (", ".join(missing), "upstream " + ", ".join(sorted(backends)) if backends else "any upstream"),
            "nginx.unknown_server",
            "It has: %s. What a proxy_pass names without an upstream cannot be taken out of traffic."
            % _some(sorted({server.address.text for server in inside})),
        )
    chosen = list(found.values())
    _require_clear(chosen, servers)
    return chosen


def _require_one_address(server: Server, endpoint: Endpoint, resolve: Resolve) -> None:
    count = len(resolve(server.address.host)) if endpoint.is_address and not server.address.is_ip else 1
    if count > 1:
        raise BadInputError(
            "%s: the server line %s stands for %d addresses; taking out %s would take out all of them."
            % (server.first.place.where, server.address.text, count, endpoint.text),
            "nginx.many_addresses",
            "Write one server line for each address, or give %s to take out all of them." % server.address.text,
        )


def _require_clear(chosen: t.Sequence[Server], servers: t.Sequence[Server]) -> None:
    """Refuse servers whose state cannot be said with one word, and lines that belong to others too."""
    for server in chosen:
        twins = [other for other in chosen if other.key == server.key]
        if len(twins) > 1:
            raise BadInputError(
                "The upstream %s is in http and in stream, both with %s; they cannot be told apart here."
                % (server.first.upstream, server.address.text),
                "nginx.ambiguous",
                "Give the two upstreams different names.",
            )
        if len({entry.out for entry in server.entries}) > 1:
            raise BadInputError(
                "The upstream %s holds %s more than once, in traffic and out of it (%s)."
                % (server.first.upstream, server.address.text, ", ".join(entry.place.where for entry in server.entries)),
                "nginx.ambiguous",
                "Make these lines say the same.",
            )
    lines = {entry.line for server in chosen for entry in server.entries}
    keys = {(server.first.kind, server.key) for server in chosen}
    for other in servers:
        shared_lines = [entry for entry in other.entries if entry.line in lines and (other.first.kind, other.key) not in keys]
        if shared_lines:
            raise BadInputError(
                "%s: this line belongs to the upstream %s too, by an include, and backends leaves that one out."
                % (shared_lines[0].place.where, other.first.upstream),
                "nginx.shared_line",
                "Name all of its upstreams in backends, or none.",
            )


def beside(
    chosen: t.Collection[Server], servers: t.Iterable[Server], ways: t.Iterable[Direct], resolve: Resolve
) -> tuple[list[Server], list[Direct]]:
    """What else sends requests to the addresses of ``chosen``: servers of other upstreams, and ways past all upstreams."""
    endpoints = [parse_endpoint(server.address.text) for server in chosen]
    mine = {(server.first.kind, server.key) for server in chosen}
    others = [
        server
        for server in servers
        if (server.first.kind, server.key) not in mine and any(is_at(server.address, end, resolve) for end in endpoints)
    ]
    direct = [way for way in ways if way.address and any(is_at(way.address, end, resolve) for end in endpoints)]
    return others, direct


def touched(chosen: t.Iterable[Server]) -> set[tuple[str, str]]:
    """The upstreams (kind and name) that ``chosen`` are in."""
    return {(server.first.kind, server.first.upstream) for server in chosen}


def shortages(servers: t.Sequence[Server], chosen: t.Sequence[Server], floor: int, dead: t.Collection[str]) -> dict[str, int]:
    """Upstreams that would have fewer than ``floor`` servers without ``chosen``, and what they would have.

    A server counts when it is in traffic and not among the ``dead`` (keys). Backup servers count only when no other is left.
    """
    gone = {(server.first.kind, server.key) for server in chosen}
    short = {}
    for kind, upstream in sorted(touched(chosen)):
        left = [
            server
            for server in servers
            if (server.first.kind, server.first.upstream) == (kind, upstream)
            and (kind, server.key) not in gone
            and not server.out
            and server.key not in dead
        ]
        count = sum(not server.backup for server in left) or len(left)
        if count < floor:
            short[upstream] = count
    return short


def servers_are(count: int) -> str:
    """Begin a sentence: `1 server is`, `3 servers are`."""
    return shared.servers_are(count)


def _some(words: t.Sequence[str], most: int = 8) -> str:
    return ", ".join(words[:most]) + (" and %d more" % (len(words) - most) if len(words) > most else "") if words else "none"

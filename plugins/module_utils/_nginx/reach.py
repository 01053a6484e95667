# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Ask servers themselves whether they take connections: open-source nginx has no health checks to ask."""

from __future__ import annotations

import socket
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.reach import CONNECT_S, Endpoint, refusals
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.upstreams import Address, Server


class Names:
    """Addresses of host names as this host knows them; each name is looked up once."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}

    def resolve(self, name: str) -> set[str]:
        """A name that is not known has none: select() names what it cannot find."""
        if name not in self._known:
            try:
                found = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
            except (OSError, UnicodeError):
                found = []
            self._known[name] = {str(entry[4][0]) for entry in found}
        return self._known[name]

    def endpoints(self, address: Address) -> list[Endpoint]:
        """What to connect to, empty for a unix socket and for a name without address."""
        if address.is_unix:
            return []
        hosts = [address.host] if address.is_ip else sorted(self.resolve(address.host))
        return [(host, address.port) for host in hosts]


def dead(servers: t.Iterable[Server], names: Names) -> dict[str, str]:
    """Keys of servers that take no connection, each with why. A name counts as alive when one of its addresses is."""
    servers = list(servers)
    ends = {server.key: names.endpoints(server.address) for server in servers}
    refused = refusals({end for listed in ends.values() for end in listed})
    found = {}
    for server in servers:
        if server.address.is_unix:
            why = _knock(server.address.host)
        elif ends[server.key]:
            why = "" if any(end not in refused for end in ends[server.key]) else refused[ends[server.key][0]]
        else:
            why = "the name has no address here"
        if why:
            found[server.key] = why
    return found


def _knock(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(CONNECT_S)
        try:
            sock.connect(path)
        except OSError as exc:
            return exc.strerror or str(exc)
    return ""

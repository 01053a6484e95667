# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What HAProxy knows of its servers, sessions and processes, as frozen data."""

from __future__ import annotations

import dataclasses
import typing as t

# Bits of srv_admin_state. FORCED_* are what an administrator sets, the others follow from configuration, tracking or DNS.
FORCED_MAINT = 0x01
INHERITED_MAINT = 0x02
CONFIG_MAINT = 0x04
FORCED_DRAIN = 0x08
INHERITED_DRAIN = 0x10
DNS_MAINT = 0x20
MAINT = FORCED_MAINT | INHERITED_MAINT | DNS_MAINT
DRAIN = FORCED_DRAIN | INHERITED_DRAIN
# The part of the mask that "set server" sets and that can therefore be put back. HAProxy never has both bits at once.
SETTABLE = FORCED_MAINT | FORCED_DRAIN

OP_RUNNING = 2


@dataclasses.dataclass(frozen=True)
class ServerState:
    """One line of ``show servers state``."""

    backend: str
    name: str
    address: str
    port: int
    fqdn: str
    op_state: int
    admin: int
    weight: int
    initial_weight: int
    check_result: int
    check_health: int
    check_state: int


@dataclasses.dataclass(frozen=True)
class ServerStat:
    """One server of ``show stat``: counts of this worker process only."""

    backend: str
    name: str
    status: str
    sessions: int
    queued: int
    sessions_total: int
    backup: bool
    tracked: str
    check_status: str
    full_health: int | None
    cookie: str
    idle_connections: int


@dataclasses.dataclass(frozen=True)
class Server:
    """A server as one worker sees it: its state and its counts."""

    state: ServerState
    stat: ServerStat

    @property
    def key(self) -> str:
        """``backend/server``, as the commands of HAProxy name it."""
        return "%s/%s" % (self.state.backend, self.state.name)

    @property
    def endpoint(self) -> tuple[str, int]:
        return (self.state.address, self.state.port)

    @property
    def forced(self) -> int:
        """The settable part of the admin mask."""
        return self.state.admin & SETTABLE

    @property
    def configured(self) -> int:
        """The settable part of the admin mask that the configuration gives: what a reload makes of it."""
        return FORCED_MAINT if self.state.admin & CONFIG_MAINT else 0

    @property
    def drained(self) -> bool:
        """True when an administrator (we) set drain. The status word cannot tell: a drained server may show DOWN."""
        return bool(self.state.admin & FORCED_DRAIN)

    @property
    def out(self) -> bool:
        """True when the server takes no new traffic, for whatever administrative reason."""
        return bool(self.state.admin & (MAINT | DRAIN))

    @property
    def stable(self) -> dict[str, int]:
        """What changes only because somebody changes it."""
        return {"admin": self.forced, "weight": self.state.weight}


@dataclasses.dataclass(frozen=True)
class Worker:
    """The worker process that answers on the socket."""

    version: str
    pid: int
    uptime_s: int
    processes: int
    servers: tuple[Server, ...]

    @property
    def by_key(self) -> dict[str, Server]:
        return {server.key: server for server in self.servers}


@dataclasses.dataclass(frozen=True)
class Process:
    """One line of ``show proc`` on the master socket."""

    pid: int
    kind: str
    old: bool


@dataclasses.dataclass(frozen=True)
class Session:
    """One stream of ``show sess`` that has a server. ``tunnel``: HAProxy only passes bytes and cannot know when it ends."""

    id: str
    backend: str
    server: str
    age: str
    tunnel: bool

    @property
    def key(self) -> str:
        return "%s/%s" % (self.backend, self.server)


class Scope(t.NamedTuple):
    """Which servers an old worker is asked about: it may have had other names for them, so they are told by address."""

    endpoints: frozenset[tuple[str, int]]
    backends: tuple[str, ...] = ()

    def holds(self, server: Server) -> bool:
        return server.endpoint in self.endpoints and (not self.backends or server.state.backend in self.backends)


class Old(t.NamedTuple):
    """What one old worker (left over from a reload) still does for the servers that we ask about."""

    pid: int
    sessions: dict[tuple[str, int], int]

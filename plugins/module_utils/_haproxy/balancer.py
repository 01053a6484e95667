# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""One HAProxy: where its sockets are, and how to look at it."""

from __future__ import annotations

import re
import socket
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import LEVEL_HINT, Conversation
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import Old, Scope, Server, Worker
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.old import OldWorkers, find_old_workers
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.parse import parse_worker
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.rules import Endpoint, health, select

OLDEST = (2, 0)
LEVELS = ("user", "operator", "admin")


class Balancer:
    """Everything that is asked of HAProxy goes through here. ``timeout_s`` is for one answer of a socket."""

    def __init__(self, socket_path: str, master_socket: str | None = None, timeout_s: float = 10.0) -> None:
        self.socket_path = socket_path
        self._master_socket = master_socket
        self._timeout_s = timeout_s
        self._names: dict[str, set[str]] = {}
        self.old_workers: OldWorkers | None = None

    def open(self) -> Conversation:
        return Conversation(self.socket_path, self._timeout_s)

    def look(self, talk: Conversation) -> Worker:
        """See all servers of the worker behind ``talk``. Raises BadInputError for a HAProxy that cannot be driven safely."""
        worker = parse_worker(talk.ask("show info"), talk.ask("show servers state"), talk.ask("show stat -1 4 -1"))
        numbers = tuple(int(number) for number in re.findall(r"\d+", worker.version)[:2])
        if numbers < OLDEST:
            raise BadInputError("HAProxy %s is too old: %d.%d or newer is needed." % (worker.version, *OLDEST), "haproxy.too_old")
        if worker.processes > 1:
            raise BadInputError(
                "This HAProxy runs %d worker processes (nbproc), and a socket reaches one of them." % worker.processes,
                "haproxy.several_workers",
                "Use nbthread instead of nbproc.",
            )
        return worker

    def level(self, talk: Conversation) -> str:
        """Return what the socket may do: user, operator or admin."""
        level = talk.ask("show cli level").strip()
        if level not in LEVELS:
            raise BadInputError("The level of the socket %s is not known: %r." % (self.socket_path, level[:80]), "haproxy.level")
        return level

    def require_admin(self, talk: Conversation) -> None:
        level = self.level(talk)
        if level != "admin":
            raise BadInputError(
                "The socket %s has the level %s; changing a server needs admin." % (self.socket_path, level),
                "haproxy.level",
                LEVEL_HINT % self.socket_path,
            )

    def has_tables(self, talk: Conversation) -> bool:
        """True when there is any stick table. Which backends stick by which table cannot be asked: it may be another's."""
        return "# table:" in talk.ask("show table")

    def select(self, worker: Worker, endpoints: t.Sequence[Endpoint], backends: t.Collection[str]) -> list[Server]:
        return select(worker.servers, endpoints, backends, self._resolve)

    def _resolve(self, name: str) -> set[str]:
        """Return the addresses of a host name as this host knows them; looked up once."""
        if name not in self._names:
            try:
                found = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
            except (
                socket.gaierror
            ):  # Not an error here: HAProxy may know the name itself, and select() names what it cannot find.
                found = []
            self._names[name] = {str(entry[4][0]) for entry in found}
        return self._names[name]

    def find_old_workers(self, talk: Conversation, worker: Worker) -> OldWorkers:
        """Choose once how old workers are seen."""
        if self.old_workers is None:
            self.old_workers = find_old_workers(self._master_socket, worker, talk.peer_pid, self._timeout_s)
        return self.old_workers

    def old(self, talk: Conversation, worker: Worker, scope: Scope) -> list[Old]:
        """Count what old workers still do for the servers in scope."""
        return self.find_old_workers(talk, worker).look(worker, talk.peer_pid, scope)


def describe(servers: t.Iterable[Server], worker: Worker, old: t.Sequence[Old] = ()) -> list[dict[str, t.Any]]:
    """Show servers as a result: what is stable, and the live figures."""
    by_key = worker.by_key
    return [
        {
            "server": server.key,
            "address": "%s:%d" % server.endpoint if ":" not in server.state.address else "[%s]:%d" % server.endpoint,
            "status": server.stat.status,
            "health": health(server, by_key),
            "admin": server.state.admin,
            "weight": server.state.weight,
            "initial_weight": server.state.initial_weight,
            "backup": server.stat.backup,
            "follows": server.stat.tracked,
            "sessions": server.stat.sessions,
            "queued": server.stat.queued,
            "idle_connections": server.stat.idle_connections,
            "old_worker_sessions": sum(worker_left.sessions.get(server.endpoint, 0) for worker_left in old),
        }
        for server in servers
    ]

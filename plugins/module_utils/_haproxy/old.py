# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Sessions on old workers: after a reload, the former worker lives until its last session ends, and the new one cannot see it.

Two strategies: HAProxy's master socket, or the processes' connections where there is none.
"""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy import processes
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import ask_master
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import Old, Process, Scope, Server, Session, Worker
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.parse import (
    join,
    parse_proc,
    parse_servers_state,
    parse_sessions,
    parse_stat,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

_GONE = "Can't find the target PID"
_RELOAD_S = 5.0


class OldWorkers(t.Protocol):
    """How to see, and perhaps to end, what old workers still do."""

    kind: str

    def look(self, worker: Worker, peer_pid: int, scope: Scope) -> list[Old]:
        """Count the sessions of every old worker to each address in scope."""

    def sessions(self, pid: int, scope: Scope) -> list[Session]:
        """List those sessions, as far as they can be told apart."""

    def end(self, pid: int, scope: Scope) -> bool:
        """End those sessions; False when this strategy cannot."""


class MasterSocket:
    """Old workers answer through the master's socket, addressed by their process number."""

    kind = "master_socket"

    def __init__(self, path: str, timeout_s: float) -> None:
        self.path = path
        self._timeout_s = timeout_s

    def look(self, worker: Worker, peer_pid: int, scope: Scope) -> list[Old]:
        # During a reload the master executes itself anew: its socket is refused for a moment, or it knows another current worker.
        seen = wait(
            self._processes,
            lambda found: any(process.pid == worker.pid for process in found),
            _RELOAD_S,
            describe=lambda found: "it names the workers %s" % ", ".join(str(p.pid) for p in found if p.kind == "worker"),
        )
        if not seen.last:
            raise LifecycleError("HAProxy's master socket %s is refused; is it being reloaded?" % self.path, "haproxy.master")
        if not seen.reached:
            raise LifecycleError(
                "The master socket %s does not know the worker %d, which answers on the other socket: %s."
                % (self.path, worker.pid, seen.reason),
                "haproxy.other_instance",
                "Give the options socket and master_socket of the same HAProxy.",
            )
        workers = [process for process in seen.last if process.kind == "worker"]
        # When all are old, the master is waiting after a reload that failed, and the worker that answers is in charge.
        if any(not process.old for process in workers) and any(process.old for process in workers if process.pid == worker.pid):
            raise _replaced(worker)
        found = []
        for process in workers:
            if process.old and process.pid != worker.pid:
                servers = self._servers(process.pid)
                counts = {
                    endpoint: sum(s.stat.sessions + s.stat.queued for s in servers if s.endpoint == endpoint and scope.holds(s))
                    for endpoint in scope.endpoints
                }
                found.append(Old(process.pid, counts))
        return found

    def _processes(self) -> list[Process]:
        try:
            return parse_proc(ask_master(self.path, ["show proc"], self._timeout_s))
        except LifecycleError as exc:
            if exc.code != "haproxy.refused":
                raise
            return []

    def _servers(self, pid: int) -> tuple[Server, ...]:
        text = ask_master(self.path, ["@!%d show servers state" % pid, "@!%d show stat -1 4 -1" % pid], self._timeout_s)
        if _GONE in text:
            return ()
        states, mark, stats = text.partition("# pxname,")
        return join(parse_servers_state(states), parse_stat(mark + stats))

    def sessions(self, pid: int, scope: Scope) -> list[Session]:
        keys = {server.key for server in self._servers(pid) if scope.holds(server)}
        return [
            session
            for session in parse_sessions(ask_master(self.path, ["@!%d show sess" % pid], self._timeout_s))
            if session.key in keys
        ]

    def end(self, pid: int, scope: Scope) -> bool:
        # "shutdown sessions server" is refused by an old worker ("Proxy is disabled."); single sessions can be shut down.
        doomed = ["@!%d shutdown session %s" % (pid, session.id) for session in self.sessions(pid, scope)]
        if doomed:
            answer = ask_master(self.path, doomed, self._timeout_s)
            refused = [
                line
                for line in answer.splitlines()
                if line.strip() and not re.match(r"No such session|Can't find the target PID", line)
            ]
            if refused:
                raise LifecycleError(
                    "HAProxy's old worker %d did not end its sessions: %s" % (pid, refused[0]), "haproxy.refused_command"
                )
        return True


class ProcessTable:
    """Old workers are processes; what they hold are TCP connections. They cannot be talked to."""

    kind = "processes"

    def look(self, worker: Worker, peer_pid: int, scope: Scope) -> list[Old]:
        known = processes.processes()
        current = processes.current_worker(known, worker.pid, peer_pid)
        old = processes.old_workers(known, current)
        if any(processes.started(process.pid) > processes.started(current.pid) for process in old):
            raise _replaced(worker)
        return [Old(process.pid, processes.connections(process.pid, scope.endpoints)) for process in old]

    def sessions(self, pid: int, scope: Scope) -> list[Session]:
        return []

    def end(self, pid: int, scope: Scope) -> bool:
        return False


def _replaced(worker: Worker) -> LifecycleError:
    """What an old worker says of its servers is true of nothing: new traffic does not come to it."""
    return LifecycleError(
        "The worker %d, which answered, was replaced by a reload meanwhile; what the new one does is not known yet." % worker.pid,
        "haproxy.replaced",
        "Look again.",
    )


def find_old_workers(master_socket: str | None, worker: Worker, peer_pid: int, timeout_s: float) -> OldWorkers:
    """Choose: the master socket that was given, the one on HAProxy's command line (-S), or the processes."""
    if master_socket:
        return MasterSocket(master_socket, timeout_s)
    current = processes.current_worker(processes.processes(), worker.pid, peer_pid)
    # A path that is not there is one inside a container, or relative to a folder that is not ours.
    if current.master_socket and os.path.exists(current.master_socket):
        return MasterSocket(current.master_socket, timeout_s)
    return ProcessTable()

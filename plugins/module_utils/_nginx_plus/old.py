# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Workers that a reload of nginx has left behind: its API does not know them. On the balancer's own host their processes are seen.

Which nginx it is, is told by the numbers that the API gives of its worker and its master, and by an address of the API that is this
host's. Where no process, or more than one, fits to that, nothing is known of old workers. An old worker closes idle connections at
once, so the connections that it holds are sessions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import typing as t
import urllib.parse

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.processes import parse_connections
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.model import Info

_PROGRAM = "nginx"
_OLD = "nginx: worker process is shutting down"

Place = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Proc:
    """One process of an nginx. ``inner`` is the number that it gives itself inside its container, ``title`` what it calls itself."""

    pid: int
    parent: int
    inner: int
    title: str


def processes(proc: str = "/proc") -> list[Proc]:
    """Return every process of this host (as far as visible) that is an nginx."""
    found = []
    for name in os.listdir(proc):
        here = os.path.join(proc, name)
        if not name.isdigit():
            continue
        try:
            with open(os.path.join(here, "comm"), encoding="utf-8", errors="replace") as handle:
                if handle.read().strip() != _PROGRAM:
                    continue
            with open(os.path.join(here, "status"), encoding="utf-8", errors="replace") as handle:
                status = dict(line.rstrip("\n").split(":", 1) for line in handle if ":" in line)
            with open(os.path.join(here, "cmdline"), "rb") as handle:
                title = handle.read().decode("utf-8", "replace").replace("\0", " ").strip()
        except (FileNotFoundError, ProcessLookupError):  # It ended while we looked.
            continue
        found.append(Proc(int(name), int(status["PPid"]), int(status.get("NSpid", name).split()[-1]), title))
    return found


def old_workers(known: t.Sequence[Proc], pid: int, ppid: int) -> list[Proc] | None:
    """Return the workers of the nginx that the API speaks for which only end their sessions; None when it is not found here."""
    by_pid = {process.pid: process for process in known}
    masters = {
        process.parent
        for process in known
        if process.inner == pid and process.parent in by_pid and by_pid[process.parent].inner == ppid
    }
    if len(masters) != 1:
        return None
    return [process for process in known if process.parent in masters and process.title.startswith(_OLD)]


def is_here(url: str) -> bool:
    """Whether the address of the API is one of this host: only then can a socket be bound to it."""
    try:
        found = socket.getaddrinfo(urllib.parse.urlsplit(url).hostname, None, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    return bool(found) and all(_binds(family, address[0]) for family, _type, _proto, _name, address in found)


def _binds(family: int, address: t.Any) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as trial:
            trial.bind((address, 0))
    except OSError:
        return False
    return True


def sessions(url: str, info: Info, places: t.Collection[Place]) -> dict[int, int] | None:
    """Count the connections of old workers to ``places``, by process; None when old workers cannot be seen from here."""
    known = old_workers(processes(), info.pid, info.ppid) if is_here(url) else None
    if known is None:
        return None
    return {process.pid: connections(process.pid, places) for process in known}


def connections(pid: int, places: t.Collection[Place], proc: str = "/proc") -> int:
    """Count the connections that a process holds to ``places``, in its own network namespace. Raises LifecycleError."""
    here = os.path.join(proc, str(pid))
    remote: dict[str, Place] = {}
    try:
        held = {_link(os.path.join(here, "fd", name)) for name in os.listdir(os.path.join(here, "fd"))}
        for name in ("tcp", "tcp6"):
            # There may be no IPv6 in this kernel.
            with contextlib.suppress(FileNotFoundError), open(os.path.join(here, "net", name), encoding="ascii") as handle:
                remote.update(parse_connections(handle.read()))
    except (FileNotFoundError, ProcessLookupError):  # it has ended, and its sessions with it
        return 0
    except PermissionError:
        raise LifecycleError(
            "A worker that a reload has left behind (process %d) may have sessions, and its connections cannot be read." % pid,
            "nginx_plus.workers_unseen",
            "Run the task with become.",
        ) from None
    return sum(place in places for inode, place in remote.items() if "socket:[%s]" % inode in held)


def _link(path: str) -> str:
    """What an open file is. One that may not be read is an error of the caller's, not an empty answer."""
    try:
        return os.readlink(path)
    except FileNotFoundError:  # closed while we looked
        return ""

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""HAProxy's processes and their connections, from /proc: for balancers that have no master socket (Kolla's shape).

Processes are one HAProxy when they share network namespace, mount namespace and configuration files: that holds for the
workers of a reload with and without a master, and keeps two balancers on one host apart. Old workers keep idle connections to
servers in a pool, which look like sessions here. HAProxy closes half of them every `pool-purge-delay` (5 s), also those of a
drained server and of an old worker, so they delay a drain but cannot hold it up for ever.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import struct
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError

Endpoint = tuple[str, int]
_PROGRAM = "haproxy"


@dataclasses.dataclass(frozen=True)
class Proc:
    """One process of HAProxy. ``inner_pid`` is what it calls itself inside its container."""

    pid: int
    parent: int
    inner_pid: int
    family: tuple[str, str, tuple[str, ...]]
    master_socket: str


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # Another user's process: unreadable without root, and then unreadable for all of them alike.
        return ""


def _options(args: t.Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return the configuration files (-f, and what follows --) and the master's socket (-S) of a command line."""
    files = [value for flag, value in zip(args, args[1:]) if flag == "-f"]
    if "--" in args:
        files += args[args.index("--") + 1 :]
    sockets = [value.split(",")[0] for flag, value in zip(args, args[1:]) if flag == "-S"]
    path = sockets[-1] if sockets else ""
    return tuple(files), path[len("unix@") :] if path.startswith("unix@") else path


def processes(proc: str = "/proc") -> list[Proc]:
    """Return every process of this host (as far as visible) that is a HAProxy."""
    found = []
    for name in os.listdir(proc):
        here = os.path.join(proc, name)
        if not name.isdigit():
            continue
        try:
            with open(os.path.join(here, "comm"), encoding="utf-8", errors="replace") as handle:
                if not handle.read().startswith(_PROGRAM):
                    continue
            with open(os.path.join(here, "status"), encoding="utf-8", errors="replace") as handle:
                status = dict(line.rstrip("\n").split(":", 1) for line in handle if ":" in line)
            with open(os.path.join(here, "cmdline"), "rb") as handle:
                args = handle.read().decode("utf-8", "replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):  # It ended while we looked.
            continue
        files, master = _options(args)
        inner = int(status.get("NSpid", name).split()[-1])
        family = (_link(os.path.join(here, "ns", "net")), _link(os.path.join(here, "ns", "mnt")), files)
        found.append(Proc(int(name), int(status["PPid"]), inner, family, master))
    return found


def current_worker(known: t.Sequence[Proc], inner_pid: int, peer_pid: int) -> Proc:
    """Find the worker that answers on the socket: by the number it gives itself and by who listens there.

    Raises LifecycleError when no process, or more than one, can be it.
    """
    by_pid = {process.pid: process for process in known}
    peer = by_pid.get(peer_pid)
    matching = [process for process in known if process.inner_pid == inner_pid]
    near = [process for process in matching if peer is not None and process.family == peer.family]
    same = [process for process in matching if process.pid == inner_pid]
    for candidates in (near, matching, same):
        if len(candidates) == 1:
            return candidates[0]
    raise LifecycleError(
        "HAProxy's own process (%d) cannot be told among the processes of this host, so sessions on workers that a reload left behind "
        "cannot be counted." % inner_pid,
        "haproxy.workers_unseen",
        "Run the task on the balancer's host (not in another container) with become, or give the option master_socket.",
    )


def old_workers(known: t.Sequence[Proc], current: Proc) -> list[Proc]:
    """Return the workers of the same HAProxy that are neither the current one nor its master."""
    return [process for process in known if process.family == current.family and process.pid not in (current.pid, current.parent)]


def started(pid: int, proc: str = "/proc") -> int:
    """When a process was started, in ticks since the boot; 0 when it has ended. A master that reloads stays the same process."""
    try:
        with open(os.path.join(proc, str(pid), "stat"), encoding="utf-8", errors="replace") as handle:
            return int(handle.read().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _endpoint(text: str) -> Endpoint:
    """Read an address of /proc/net/tcp{,6}: words of the host's byte order, in hexadecimal, and a port."""
    address, port = text.split(":")
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    packed = struct.pack("=%dI" % len(words), *words)
    found = ipaddress.ip_address(packed)
    return str(getattr(found, "ipv4_mapped", None) or found), int(port, 16)


def parse_connections(text: str) -> dict[str, Endpoint]:
    """Read /proc/net/tcp or tcp6: socket inode to the remote end. Listening and ended (inode 0) sockets are left out."""
    found = {}
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 9 and words[9] != "0" and words[3] != "0A":
            found[words[9]] = _endpoint(words[2])
    return found


def connections(pid: int, endpoints: t.Collection[Endpoint], proc: str = "/proc") -> dict[Endpoint, int]:
    """Count the connections that a process holds to each of ``endpoints``, in its own network namespace."""
    wanted = set(endpoints)
    here = os.path.join(proc, str(pid))
    counts = dict.fromkeys(wanted, 0)
    try:
        inodes = {_link(os.path.join(here, "fd", name)) for name in os.listdir(os.path.join(here, "fd"))}
        remote: dict[str, Endpoint] = {}
        for name in ("tcp", "tcp6"):
            try:
                with open(os.path.join(here, "net", name), encoding="ascii") as handle:
                    remote.update(parse_connections(handle.read()))
            except FileNotFoundError:  # No IPv6 in this kernel; a process that ended has no fd folder either.
                continue
    except (FileNotFoundError, ProcessLookupError):
        return counts
    except PermissionError as exc:
        raise LifecycleError(
            "A worker that a reload left behind (process %d) may hold sessions, and its connections cannot be read." % pid,
            "haproxy.workers_unseen",
            "Run the task with become, or give the option master_socket.",
        ) from exc
    for inode, endpoint in remote.items():
        if endpoint in wanted and "socket:[%s]" % inode in inodes:
            counts[endpoint] += 1
    return counts

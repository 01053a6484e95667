# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""nginx's processes and their connections, from /proc: a master, its workers, and workers that a reload has left behind."""

from __future__ import annotations

import dataclasses
import os
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.processes import parse_connections, started

_MASTER = "nginx: master process"
_WORKER = "nginx: worker process"
_TABLES = ("tcp", "tcp6", "udp", "udp6")
_FLAGS = ("-c", "-p", "-g", "-e")

Endpoint = tuple[str, int]


class Proc(t.NamedTuple):
    """One process of an nginx. ``started`` is in ticks since the boot: with the number, it is one process for ever."""

    pid: int
    parent: int
    started: int
    title: str

    @property
    def id(self) -> tuple[int, int]:
        return (self.pid, self.started)

    @property
    def leaving(self) -> bool:
        """True for a worker that takes no new connections (`worker process is shutting down`)."""
        return self.title.startswith(_WORKER + " is")


def processes(proc: str = "/proc") -> list[Proc]:
    """Every master and worker of any nginx on this host, as far as visible."""
    found = []
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        try:
            with open(os.path.join(proc, name, "cmdline"), "rb") as handle:
                title = handle.read().replace(b"\0", b" ").decode("utf-8", "surrogateescape").strip()
            if not title.startswith((_MASTER, _WORKER)):
                continue
            with open(os.path.join(proc, name, "stat"), encoding="utf-8", errors="replace") as handle:
                words = handle.read().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # It ended while we looked.
            continue
        found.append(Proc(int(name), int(words[1]), int(words[19]), title))
    return found


@dataclasses.dataclass(frozen=True)
class Family:
    """A master and its workers, at one moment."""

    master: Proc
    workers: tuple[Proc, ...]

    @property
    def current(self) -> tuple[Proc, ...]:
        return tuple(worker for worker in self.workers if not worker.leaving)

    @property
    def leaving(self) -> tuple[Proc, ...]:
        return tuple(worker for worker in self.workers if worker.leaving)


def family(pid: int, known: t.Sequence[Proc]) -> Family | None:
    """The master with this number and its workers; None when there is no such master."""
    masters = {process.pid: process for process in known if process.title.startswith(_MASTER)}
    if pid not in masters:
        return None
    return Family(masters[pid], tuple(one for one in known if one.parent == pid and one.title.startswith(_WORKER)))


def require_one_master(mine: Family, known: t.Sequence[Proc]) -> None:
    """Refuse an nginx whose program is being replaced, and one beside workers that nobody leads. Raises LifecycleError."""
    masters = {process.pid: process for process in known if process.title.startswith(_MASTER)}
    other = [one for one in masters.values() if one.parent == mine.master.pid or one.pid == mine.master.parent]
    if other:
        raise LifecycleError(
            "nginx is being replaced by another program file: the masters %d and %d run side by side."
            % (mine.master.pid, other[0].pid),
            "nginx.upgrading",
            "End the upgrade first (QUIT to the old master), then run this again.",
        )
    here = _namespaces(mine.master.pid)
    orphans = [
        one.pid for one in known if one.title.startswith(_WORKER) and one.parent not in masters and _namespaces(one.pid) == here
    ]
    if orphans:
        raise LifecycleError(
            "The worker process %d serves, but its master has died: no reload reaches it." % orphans[0],
            "nginx.orphans",
            "End it (kill -QUIT %d), or restart nginx, then run this again." % orphans[0],
        )


def _namespaces(pid: int) -> tuple[str, str]:
    links = []
    for name in ("net", "pid"):
        try:
            links.append(os.readlink("/proc/%d/ns/%s" % (pid, name)))
        except OSError:  # It ended, or belongs to somebody else.
            links.append("")
    return (links[0], links[1])


def alive(process: Proc) -> bool:
    """Whether it is still that process, and not a later one with its number."""
    return started(process.pid) == process.started


def ticks_now() -> int:
    """This moment as process start times count: ticks since the boot."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def wall_time(ticks: int) -> float:
    """When that was, on the wall clock that files are stamped with."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


def arguments(title: str) -> dict[str, str]:
    """What a master was started with, from its title. It joins arguments with blanks, so a value reaches up to the next option."""
    words = title[len(_MASTER) :].split(" ")[1:]
    found: dict[str, list[str]] = {}
    flag = ""
    for word in words[1:]:
        if word in _FLAGS:
            flag = word
            found[flag] = []
        elif word[:2] in _FLAGS and len(word) > 2:
            flag = word[:2]
            found[flag] = [word[2:]]
        elif flag:
            found[flag].append(word)
    return {name: " ".join(values) for name, values in found.items()}


def connections(mine: Family, endpoints: t.Collection[Endpoint], proc: str = "/proc") -> dict[int, dict[Endpoint, int]]:
    """Count what each worker holds open to each of ``endpoints``; workers that hold nothing are left out. TCP, and UDP with a peer.

    The tables are those of nginx's own network namespace.
    """
    wanted = set(endpoints)
    owner = _owners(mine, proc)
    remotes: list[tuple[str, Endpoint]] = []
    for table in _TABLES:
        try:
            with open(os.path.join(proc, str(mine.master.pid), "net", table), encoding="ascii") as handle:
                remote = parse_connections(handle.read())
        except (FileNotFoundError, ProcessLookupError):  # No IPv6 in this kernel, or nginx has ended: then nothing is held.
            continue
        remotes += [("socket:[%s]" % inode, endpoint) for inode, endpoint in remote.items() if endpoint in wanted]
    if any(name not in owner for name, _endpoint in remotes):  # opened meanwhile, or somebody else's
        owner = {**owner, **_owners(mine, proc)}
    found: dict[int, dict[Endpoint, int]] = {}
    for name, endpoint in remotes:
        if name in owner:
            counts = found.setdefault(owner[name], {})
            counts[endpoint] = counts.get(endpoint, 0) + 1
    return found


def _owners(mine: Family, proc: str) -> dict[str, int]:
    """What each worker holds open, by the name of its link."""
    owner: dict[str, int] = {}
    for worker in mine.workers:
        folder = os.path.join(proc, str(worker.pid), "fd")
        try:
            owner.update((_link(os.path.join(folder, name)), worker.pid) for name in os.listdir(folder))
        except (FileNotFoundError, ProcessLookupError):
            continue
        except PermissionError as exc:
            raise LifecycleError(
                "The connections of nginx's worker process %d cannot be read." % worker.pid,
                "nginx.workers_unseen",
                "Run the task with become.",
            ) from exc
    return owner


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # closed meanwhile
        return ""

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""HAProxy's master process: which files it reads, what it would say to others, and what a reload would bring besides ours."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import tempfile
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _process
from ansible_collections.osops.lifecycle.plugins.module_utils._command import run
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy import processes
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import Conversation
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.config_text import overlap, place
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import Worker
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import scrub, tail

# What belongs to one process and not to a check: process ids to replace, files that it would write, sockets that it would open.
_DROP_WITH_VALUE = ("-p", "-S", "-x")
_DROP = ("-D", "-q", "-V", "-d", "-c")
_WITH_VALUE = ("-f", "-C", "-L", "-n", "-N", "-m")
_CHECK_S = 30.0
# A worker is started after its files were read; clocks of processes tick every 10 ms.
_TICK_S = 0.02


def _bytes(path: str) -> str:
    with open(path, "rb") as handle:
        return handle.read().decode("utf-8", "surrogateescape")


@dataclasses.dataclass(frozen=True)
class Master:
    """The running HAProxy: ``args`` without the program's name and without what a reload adds."""

    pid: int
    worker: int
    args: tuple[str, ...]
    cwd: str

    @classmethod
    def find(cls, talk: Conversation, worker: Worker) -> Master:
        """Find the master of the worker that answers. Raises LifecycleError when there is none."""
        known = processes.processes()
        current = processes.current_worker(known, worker.pid, talk.peer_pid)
        if not any(process.pid == current.parent and process.family == current.family for process in known):
            raise BadInputError(
                "HAProxy (process %d) has no master process, so it cannot be reloaded without cutting connections." % current.pid,
                "haproxy.no_master",
                "Start it with -W or -Ws, as the distributions' units do.",
            )
        try:
            words = _bytes("/proc/%d/cmdline" % current.parent).rstrip("\0").split("\0")[1:]
            cwd = os.readlink("/proc/%d/cwd" % current.parent)
        except OSError as exc:
            raise LifecycleError(
                "HAProxy's command line cannot be read: %s." % exc.strerror, "haproxy.workers_unseen", "Run the task with become."
            ) from exc
        return cls(current.parent, current.pid, tuple(own_args(words)), cwd)

    def path(self, value: str) -> str:
        return os.path.normpath(os.path.join(self.cwd, value))

    @property
    def sources(self) -> list[str]:
        """The configuration files and folders that it reads, in their order."""
        found = [value for flag, value in zip(self.args, self.args[1:]) if flag == "-f"]
        if "--" in self.args:
            found += self.args[self.args.index("--") + 1 :]
        return [self.path(value) for value in found]

    def require(self, folder: str) -> None:
        """Refuse a folder that this HAProxy does not read, or reads from somewhere else."""
        here = os.path.realpath(folder)
        if not os.path.isdir(here) or here not in (os.path.realpath(source) for source in self.sources):
            raise BadInputError(
                "HAProxy (process %d) does not read the folder %s; it reads %s."
                % (self.pid, folder, " and ".join(self.sources) or "nothing that is known"),
                "haproxy.folder_not_read",
                self._advice(folder),
            )
        for source in self.sources:
            try:
                same = os.path.samestat(os.stat("/proc/%d/root%s" % (self.pid, source)), os.stat(source))
            except OSError:
                same = False
            if not same:
                raise BadInputError(
                    "HAProxy (process %d) has another %s than this host, so it runs in a container." % (self.pid, source),
                    "haproxy.other_files",
                    "This module works where HAProxy and the task see the same files.",
                )

    def _advice(self, folder: str) -> str:
        """The line for Debian's unit, with what stands in EXTRAOPTS now."""
        extra, words = [], list(self.args)
        seen = False
        while words:
            word = words.pop(0)
            if word in ("-W", "-Ws", "-p"):
                words = words[1:] if word == "-p" else words
            elif word == "-f" and not seen:
                seen, words = True, words[1:]
            else:
                extra.append(word)
        return (
            "Make the folder, set EXTRAOPTS=%s in /etc/default/haproxy, and restart HAProxy once. A restart cuts connections, and a "
            "reload does not take that line over, so choose the hour." % shlex.quote(" ".join([*extra, "-f", folder]))
        )

    def pending(self, own: str) -> list[str]:
        """Files of others that were changed after this worker was started: a reload would bring that change too."""
        started = time.time() - (_process.boot_clock() - _process.started_at(self.worker))
        return [
            path
            for path in self._files()
            if os.path.realpath(path) != os.path.realpath(own) and _changed(path) > started + _TICK_S
        ]

    def _files(self) -> t.Iterator[str]:
        for source in self.sources:
            if os.path.isdir(source):
                yield from (os.path.join(source, name) for name in loaded_names(source))
            else:
                yield source

    def listeners(self) -> list[tuple[tuple[str, int], str]]:
        """Every address and port that is listened at in HAProxy's network namespace, with the socket's inode."""
        found = []
        for table in ("tcp", "tcp6"):
            try:
                rows = _bytes("/proc/%d/net/%s" % (self.worker, table)).splitlines()[1:]
            except FileNotFoundError:  # no IPv6 in this kernel
                continue
            for row in rows:
                fields = row.split()
                if len(fields) > 9 and fields[3] == "0A":
                    found.append((_process.decode_address(fields[1]), fields[9]))
        return found

    def taken(self, binds: t.Iterable[str], own: t.Iterable[str] = ()) -> dict[str, str]:
        """Return those of ``binds`` where somebody listens, and who. What listens exactly at one of ``own`` does not count."""
        found = {}
        ours = {place(bind) for bind in own}
        listeners = [(at, inode) for at, inode in self.listeners() if at not in ours]
        for bind in binds:
            inodes = {inode for at, inode in listeners if overlap(at, place(bind))}
            if inodes:
                found[bind] = ", ".join("%s (process %d)" % (_name(pid), pid) for pid in _process.holders(inodes)) or "a process"
        return found

    def check(self, binary: str, own: str, text: str | None, timeout_s: float) -> list[str]:
        """Let HAProxy check what it would read, with ``text`` in place of our file. Returns its warnings; raises LifecycleError."""
        rc, words = self._judge(binary, own, text, timeout_s)
        if rc == 0:
            return words
        former = _bytes(own) if os.path.isfile(own) else None
        was, _words = self._judge(binary, own, former, timeout_s)
        if was != 0:
            raise LifecycleError(
                "HAProxy refuses its configuration as it is now, without this change: %s" % " ".join(words[:3]),
                "haproxy.config_broken",
                "Nothing was changed. Mend the configuration first: HAProxy would not start with it.",
                {"words": words},
            )
        raise LifecycleError(
            "HAProxy refuses the configuration: %s" % " ".join(words[:3]),
            "haproxy.config_refused",
            "Nothing was changed. evidence.words has all that it said.",
            {"words": words},
        )

    def _judge(self, binary: str, own: str, text: str | None, timeout_s: float) -> tuple[int, list[str]]:
        folder = os.path.realpath(os.path.dirname(own))
        with tempfile.TemporaryDirectory(prefix="osops-") as copy:
            for name in loaded_names(folder):
                if name != os.path.basename(own):
                    shutil.copyfile(os.path.join(folder, name), os.path.join(copy, name))
            if text is not None:
                with open(os.path.join(copy, os.path.basename(own)), "w", encoding="utf-8", errors="surrogateescape") as out:
                    out.write(text)
            argv, words = [binary], list(self.args)
            while words:
                word = words.pop(0)
                argv.append(word)
                if word == "-f" and words:
                    value = self.path(words.pop(0))
                    argv.append(copy if os.path.realpath(value) == folder else value)
            done = run([*argv[:1], "-c", *argv[1:]], min(timeout_s, _CHECK_S), env=self._environment())
            said = scrub((done.out + done.err).replace(copy, folder))
        lines = [re.sub(r"^\[(\w+)\]\s*\(\d+\) : ", r"\1: ", line) for line in tail(said, 40)]
        return done.rc, [line for line in lines if line.startswith(("ALERT", "WARNING"))]

    def _environment(self) -> dict[str, str]:
        """The master's, which its configuration may name; without what HAProxy tells its own processes."""
        pairs = (entry.partition("=") for entry in _bytes("/proc/%d/environ" % self.pid).split("\0") if "=" in entry)
        return {name: value for name, _sign, value in pairs if not name.startswith(("HAPROXY_", "NOTIFY_", "LC_", "LANG"))}


def own_args(words: t.Sequence[str]) -> list[str]:
    """The arguments that a check needs too."""
    found, left = [], list(words)
    while left:
        word = left.pop(0)
        if word in ("-sf", "-st"):
            while left and left[0].isdigit():
                left.pop(0)
        elif word in _DROP_WITH_VALUE:
            if word == "-S":
                found += [word, *left[:1]]
            left = left[1:]
        elif word in _WITH_VALUE:
            found += [word, *left[:1]]
            left = left[1:]
        elif word not in _DROP:
            found.append(word)
    return found


def loaded_names(folder: str) -> list[str]:
    """The files that HAProxy reads in a folder: plain, not hidden, and named .cfg."""
    return sorted(
        name
        for name in os.listdir(folder)
        if name.endswith(".cfg") and not name.startswith(".") and os.path.isfile(os.path.join(folder, name))
    )


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def _name(pid: int) -> str:
    try:
        return _bytes("/proc/%d/comm" % pid).strip()
    except OSError:
        return "a process"

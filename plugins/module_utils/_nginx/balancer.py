# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""One nginx: its configuration on disk, its processes, and whether the one is what the others have loaded."""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.files import NOTES, Note, Notes, moved
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.lex import GrammarError
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.processes import (
    Family,
    arguments,
    family,
    processes,
    require_one_master,
    wall_time,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.program import Build, Tester, build
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.tree import Tree, read_tree
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.upstreams import Server, entries, group
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

# A reload of somebody's that is under way is waited for; one that hangs is not.
SETTLE_S = 2.0
# For a moment after its birth a worker still has its master's title, and so looks like a second master.
PASSING = ("nginx.upgrading", "nginx.orphans")
# Start times of processes count in steps of 10 ms. A change that came less than this after the workers is not seen.
SLACK_S = 0.02


@dataclasses.dataclass(frozen=True)
class Seen:
    """One look. ``unloaded``: an act of ours was cut before its reload was confirmed, so what nginx has loaded is not known.

    ``drained``: what servers were before a drain of ours that was loaded and has not ended: it waits, or was cut in its wait.
    """

    tree: Tree
    servers: tuple[Server, ...]
    family: Family
    note: Note
    build: Build
    tester: Tester
    started_with: t.Mapping[str, str]
    suspicious: tuple[str, ...]
    unloaded: bool
    drained: t.Mapping[str, int]

    @property
    def upstreams(self) -> set[str]:
        """All names, also of upstreams without servers."""
        blocks = [place.directive for place in self.tree.places if place.directive.name == "upstream" and len(place.inside) == 1]
        return {block.values[0] for block in blocks if block.values}

    @property
    def prefix(self) -> str:
        return self.started_with.get("-p", self.build.prefix)

    @property
    def error_logs(self) -> list[str]:
        """The files that the master writes its errors to."""
        named = [place.directive.values[0] for place in self.tree.main("error_log") if place.directive.values]
        named = named or [self.started_with.get("-e", self.build.error_log)]
        return [
            os.path.join(self.prefix, name) for name in named if name != "stderr" and not name.startswith(("syslog:", "memory:"))
        ]


class Balancer:
    """Everything that is asked of nginx goes through here. ``notes`` is the folder of our notes."""

    def __init__(self, config: str, program: str = "nginx", pid_file: str | None = None, notes: str = NOTES) -> None:
        self.config = os.path.abspath(config)
        self.program = program
        self.notes = Notes(self.config, notes)
        self._pid_file = pid_file
        self._builds: dict[tuple[int, int], Build] = {}

    def look(self) -> Seen:
        """See configuration and processes, and make sure that they belong together. Raises LifecycleError."""
        looked = wait(
            self._try,
            lambda seen: isinstance(seen, Seen) and bool(seen.family.current) and not seen.suspicious,
            SETTLE_S,
            poll_s=0.1,
        )
        seen = looked.last
        if isinstance(seen, LifecycleError):
            raise seen
        if not seen.family.current:
            raise LifecycleError(
                "nginx (process %d) has no worker that takes requests." % seen.family.master.pid,
                "nginx.no_workers",
                "Is it being stopped? See its error log.",
            )
        if not looked.reached:
            raise LifecycleError(
                "The configuration was changed and not loaded: %s. A reload for this act would activate that, too."
                % _some(seen.suspicious),
                "nginx.pending_change",
                "Nothing was done. Find out who did it, then reload nginx (`nginx -t && systemctl reload nginx`) or take it back, and run this again.",
                {"changed": list(seen.suspicious)},
            )
        seen.tester.require_same(seen.tree)
        return seen

    def _try(self) -> Seen | LifecycleError:
        try:
            return self._look()
        except LifecycleError as exc:
            if exc.code not in PASSING:
                raise
            return exc

    def _look(self) -> Seen:
        built = self._build((0, 0), self.program)
        try:
            tree = read_tree(self.config)
        except GrammarError as exc:
            raise Tester(self.program).refusal(self.config) or exc from exc
        pid, path = self._pid(tree, built)
        known = processes()
        mine = family(pid, known) if pid else None
        if mine is None:
            raise LifecycleError(
                "nginx does not run: the file %s %s."
                % (path, "names no process of an nginx master" if pid else "holds no number"),
                "nginx.not_running",
                "Start it, or give the option pid_file.",
            )
        require_one_master(mine, known)
        started_with = arguments(mine.master.title)
        own = "/proc/%d/exe" % mine.master.pid
        try:
            running = self._build(mine.master.id, own)
        except LifecycleError as exc:
            raise LifecycleError(
                "The program of the running nginx (process %d) cannot be asked: %s" % (mine.master.pid, exc.msg),
                "nginx.program",
                "Run the task with become.",
            ) from exc
        self._require_its_config(mine, started_with, running)
        note = self.notes.read()
        options = [word for flag in ("-p", "-e", "-g") if flag in started_with for word in (flag, started_with[flag])]
        unloaded = _is_cut(note, tree)
        return Seen(
            tree,
            tuple(group(entries(tree))),
            mine,
            note,
            running,
            Tester(own, tuple(options)),
            started_with,
            tuple(self._suspicious(tree, mine, note)),
            unloaded,
            _unended(note, tree),
        )

    def _build(self, key: tuple[int, int], program: str) -> Build:
        if key not in self._builds:
            self._builds[key] = build(program)
        return self._builds[key]

    def _pid(self, tree: Tree, built: Build) -> tuple[int, str]:
        """The number in the pid file, and which file that is."""
        named = [place.directive.values[0] for place in tree.main("pid") if place.directive.values]
        path = self._pid_file or os.path.join(built.prefix, named[-1] if named else built.pid_file)
        try:
            with open(path, encoding="ascii", errors="replace") as handle:
                text = handle.read(64).strip()
        except FileNotFoundError:
            raise LifecycleError(
                "nginx does not run: there is no file %s." % path, "nginx.not_running", "Start it, or give the option pid_file."
            ) from None
        except OSError as exc:
            raise LifecycleError(
                "The file %s cannot be read: %s." % (path, exc.strerror), "nginx.unreadable", "Run the task with become."
            ) from exc
        return (int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0), path

    def _require_its_config(self, mine: Family, started_with: t.Mapping[str, str], running: Build) -> None:
        """The running master reads ``config``, and sees the file that we see. Raises LifecycleError."""
        pid = mine.master.pid
        prefix = started_with.get("-p", running.prefix)
        its = os.path.join(prefix, started_with.get("-c", running.config))
        if (os.path.realpath(os.path.dirname(its)), os.path.basename(its)) != (
            os.path.realpath(os.path.dirname(self.config)),
            os.path.basename(self.config),
        ):
            raise BadInputError(
                "The running nginx (process %d) reads %s, and not %s." % (pid, its, self.config),
                "nginx.other_config",
                "Give the option config as nginx was started with it, or the option pid_file of the right nginx.",
            )
        try:
            there, here = os.stat("/proc/%d/root%s" % (pid, self.config)), os.stat(self.config)
        except OSError as exc:
            raise LifecycleError(
                "What nginx (process %d) sees as %s cannot be looked at: %s." % (pid, self.config, exc.strerror),
                "nginx.elsewhere",
                "Run the task with become, on the host (or in the container) that nginx runs in.",
            ) from exc
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            raise LifecycleError(
                "nginx (process %d) runs in a container or chroot: its %s is another file than the one here."
                % (pid, self.config),
                "nginx.elsewhere",
                "Run the task inside of it.",
            )

    def _suspicious(self, tree: Tree, mine: Family, note: Note) -> list[str]:
        """Files and folders that are not what nginx has loaded, as far as that can be known; our own cut act apart."""
        ours = {path for path, source in tree.by_path.items() if source.digest in note.texts.get(source.real, ())}
        if {worker.id for worker in mine.current} & set(note.workers):
            return [path for path in moved(tree.digests, note.loaded) if path not in ours]
        if not mine.current:
            return []
        # A worker that crashed was started anew, without a reload: the oldest one tells best when the configuration was read.
        since = min(wall_time(worker.started) for worker in mine.current) + SLACK_S
        late = [
            source.path for source in tree.sources if source.path not in ours and _changed(source.path, source.stamp[4]) > since
        ]
        if not ours:
            late += [folder for folder in tree.folders if os.stat(folder).st_mtime_ns / 1e9 > since]
        return late


def _changed(path: str, changed_ns: int) -> float:
    """When a file, or the symbolic link that leads to it, was last changed. Unlike the time of its contents, nobody can set this."""
    return max(changed_ns, os.lstat(path).st_ctime_ns) / 1e9


def _is_cut(note: Note, tree: Tree) -> bool:
    """Whether the note's act was cut: its files hold the text before it or after it, and nothing that somebody else wrote."""
    held = {source.real: source.digest for source in tree.sources}
    return bool(note.texts) and all(held.get(real) in pair for real, pair in note.texts.items())


def _unended(note: Note, tree: Tree) -> dict[str, int]:
    """The note's drains that have not ended, when the files are as they left them, or as an act after them that was cut."""
    pairs = {source.path: note.texts.get(source.real, ()) for source in tree.sources}
    held = tree.digests

    def ours(path: str, left: str) -> bool:
        return held.get(path) == left or (left in pairs.get(path, ()) and held[path] in pairs[path])

    return dict(note.drained) if all(ours(path, left) for path, left in note.files.items()) else {}


def _some(names: t.Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (" and %d more" % (len(names) - most) if len(names) > most else "")

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Change lines of the configuration and let nginx load them, with proof; or leave the files as they were.

Order: try the new text on copies, note what is about to be written, replace the files, let nginx read the result once more, HUP to the
master, and wait for workers that were started after it. nginx answers a HUP with nothing at all: an `[emerg]` in its error log or the new
workers are the only signs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import stat
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.balancer import Balancer, Seen
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.files import Note, check_replaceable, digest, replace
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.processes import (
    Family,
    Proc,
    alive,
    family,
    processes,
    ticks_now,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.tree import Edit, Source, Tree, edited, read_tree, stamp
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.upstreams import Server, entries, group
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import scrub
from ansible_collections.osops.lifecycle.plugins.module_utils._signals import held_back
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

UNCONFIRMED, REFUSED = "nginx.reload_unconfirmed", "nginx.reload_refused"
# Files hold what nginx was not told of, because they could not be put back.
HALF_DONE = "nginx.half_done"


def texts(tree: Tree, edits: t.Collection[Edit]) -> dict[str, tuple[bytes, bytes]]:
    """Real path to the text before and after, for the files that change."""
    held = {source.real: source.data for source in tree.sources}
    found = {real: (held[real], edited(held[real], [e for e in edits if e.real == real])) for real in {e.real for e in edits}}
    return {real: pair for real, pair in sorted(found.items()) if pair[0] != pair[1]}


def shown(servers: t.Iterable[Server], edits: t.Collection[Edit]) -> str:
    """The changed server lines as a diff, and nothing beside them: there may be secrets, on the same line even."""
    places = {entry.line: entry.place for server in servers for entry in server.entries}
    parts, headed = [], ""
    for (real, start), place in sorted(places.items()):
        mine = [edit for edit in edits if edit.real == real and start <= edit.start < place.directive.end]
        if not mine:
            continue
        old = place.source.data[start : place.directive.end]
        new = edited(old, [edit._replace(start=edit.start - start, end=edit.end - start) for edit in mine])
        parts += ["--- %s" % real, "+++ %s" % real] if real != headed else []
        parts.append("@@ -%d +%d @@" % (place.directive.line, place.directive.line))
        headed = real
        for sign, text in (("-", old), ("+", new)):
            parts += [sign + line for line in text.decode("utf-8", "replace").splitlines()]
    return "".join(part + "\n" for part in parts)


def apply(
    balancer: Balancer, seen: Seen, edits: t.Collection[Edit], was: t.Mapping[str, int], seconds: float, ends: bool = True
) -> Seen:
    """Make the edits and a reload (also without edits, when the note says that one is missing). Returns what is there after it.

    ``was`` is what the servers were before; without ``ends`` it stays noted until the drain has passed. Raises LifecycleError; unless its code
    is UNCONFIRMED or HALF_DONE, the files are as they were then.
    """
    with balancer.notes.held(seconds):
        return _apply(balancer, seen, edits, was, seconds, ends)


def _apply(
    balancer: Balancer, seen: Seen, edits: t.Collection[Edit], was: t.Mapping[str, int], seconds: float, ends: bool
) -> Seen:
    _require_untouched(seen.tree.sources)
    changes = texts(seen.tree, edits)
    for real in changes:
        check_replaceable(real)
    if changes:
        seen.tester.try_out(seen.tree, edits, balancer.notes.folder)
        _require_untouched(seen.tree.sources)  # nginx may take long over it
    wanted = {real: (digest(before), digest(after)) for real, (before, after) in changes.items()}
    # What is on disk now is what the workers have loaded, or look() would have refused it: known for good, whatever becomes of file times.
    known = dataclasses.replace(
        _unended(seen.servers, seen.drained), loaded=seen.tree.digests, workers=[worker.id for worker in seen.family.current]
    )
    former = seen.note if seen.unloaded else known
    told = False
    try:
        balancer.notes.write(dataclasses.replace(former, texts={**former.texts, **wanted}, was=dict(was)))
        for real, (_before, after) in changes.items():
            _require_untouched(source for source in seen.tree.sources if source.real == real)
            replace(real, after)
        tree = read_tree(balancer.config)
        expected = {source.path: wanted.get(source.real, ("", source.digest))[1] for source in seen.tree.sources}
        if tree.digests != expected:  # what somebody else has just written would be loaded with ours
            raise _disturbed()
        seen.tester.require_same(tree)
        told = True
        found = _reload(seen, seconds)
    except BaseException as exc:
        if not told or (isinstance(exc, LifecycleError) and exc.code == REFUSED):
            with held_back():
                _put_back(balancer, former, changes, exc)
        raise
    servers = tuple(group(entries(tree)))
    drained = {key: admin for key, admin in seen.drained.items() if key not in was}
    drained.update({} if ends else was)
    note = _remember(balancer, tree, found, _unended(servers, drained))
    return dataclasses.replace(seen, tree=tree, servers=servers, family=found, note=note, unloaded=False, drained=drained)


def _require_untouched(sources: t.Iterable[Source]) -> None:
    """Our text was made from what these files held: whatever came since would be overwritten. Raises LifecycleError."""
    if not all(_is_untouched(source) for source in sources):
        raise _disturbed()


def _disturbed() -> LifecycleError:
    return LifecycleError(
        "Somebody else is changing the configuration at this moment.", "nginx.unlike", "Nothing was done. Run it again."
    )


def _put_back(balancer: Balancer, former: Note, changes: t.Mapping[str, tuple[bytes, bytes]], cause: BaseException) -> None:
    """Give back the former texts where ours are, and forget the act. nginx has not loaded ours, so it need not be told.

    One file that cannot be put back does not keep the others from it. Raises LifecycleError (HALF_DONE); then the note stays.
    """
    failed: dict[str, str] = {}
    for real, (before, after) in changes.items():
        try:
            with open(real, "rb") as handle:
                ours = handle.read() == after
            if ours:
                replace(real, before)
        except (LifecycleError, OSError) as exc:
            failed[real] = str(exc)
    if failed:
        raise LifecycleError(
            "%s Nor could what was written be taken back: %s" % (cause, " ".join(failed.values())),
            HALF_DONE,
            "nginx goes on with what it had, but these files hold changed lines: %s. Run this again, or take the change back."
            % ", ".join(failed),
            {"files": failed},
        ) from cause
    with contextlib.suppress(OSError):  # a note that stays costs the next act a reload, and nothing else
        balancer.notes.write(former)


def _unended(servers: t.Iterable[Server], drained: t.Mapping[str, int]) -> Note:
    """What a note says of drains that have not ended."""
    sources = [entry.place.source for server in servers if server.key in drained for entry in server.entries]
    return Note(drained=dict(drained), files={source.path: source.digest for source in sources})


def _remember(balancer: Balancer, tree: Tree, found: Family, unended: Note) -> Note:
    """Note what these workers have surely loaded: files that are still those that nginx read. Else the act is only ended."""
    note = unended
    if all(_is_untouched(source) for source in tree.sources):
        note = dataclasses.replace(unended, loaded=tree.digests, workers=[worker.id for worker in found.current])
    balancer.notes.write(note)
    return note


def _is_untouched(source: Source) -> bool:
    try:
        return stamp(source.path) == source.stamp
    except OSError:
        return False


@dataclasses.dataclass(frozen=True)
class _Look:
    """The processes after the HUP, and what the error log has got since."""

    family: Family | None
    complaint: str
    confirmed: bool


def _reload(seen: Seen, seconds: float) -> Family:
    """HUP, and wait for the workers that it starts."""
    master = seen.family.master
    now = family(master.pid, processes())
    if now is None or now.master.id != master.id:
        raise _gone(master)
    former = {worker.id for worker in now.workers}
    logs = [_Log(path, master.pid) for path in seen.error_logs]
    since = ticks_now()
    try:
        os.kill(master.pid, signal.SIGHUP)
    except PermissionError as exc:
        raise LifecycleError(
            "nginx (process %d) cannot be told to reload." % master.pid, REFUSED, "Run the task with become."
        ) from exc
    deadline = time.monotonic() + seconds
    since = max(since, _taken(master, seconds))

    def look() -> _Look:
        found = family(master.pid, processes()) if alive(master) else None
        current = found.current if found else ()
        fresh = [worker for worker in current if worker.id not in former and worker.started >= since]
        return _Look(
            found,
            "; ".join(line for log in logs for line in log.complaints())[:400],
            bool(fresh) and len(fresh) == len(current),
        )

    waited = wait(
        look,
        lambda one: one.confirmed and not one.complaint,
        max(deadline - time.monotonic(), 1.0),
        lambda one: "refused" if one.complaint else ("" if one.family else "gone"),
        poll_s=0.05,
    )
    if waited.reached and waited.last.family is not None:
        return waited.last.family
    if waited.last.complaint:
        raise LifecycleError(
            "nginx has refused the reload and goes on with what it had: %s." % waited.last.complaint.rstrip("."),
            REFUSED,
            "The files are as they were. See its error log.",
        )
    if waited.last.family is None:
        raise _gone(master)
    raise LifecycleError(
        "nginx was told to reload, and after %.0f s it has not started new workers." % waited.elapsed_s,
        UNCONFIRMED,
        "See its error log: %s." % (", ".join(seen.error_logs) or "it goes to syslog or standard error"),
    )


def _gone(master: Proc) -> LifecycleError:
    return LifecycleError(
        "nginx's master (process %d) has ended or was started anew during this act." % master.pid,
        UNCONFIRMED,
        "Run this again when nginx runs.",
    )


def _taken(master: Proc, seconds: float) -> int:
    """Wait until the master has taken the HUP, and return the last moment (in ticks) at which it had not.

    It takes signals only between two acts. A reload that somebody else began before our text was there may still be going on: the
    workers that it starts are not ours.
    """
    last = 0

    def pending() -> bool:
        nonlocal last
        now = ticks_now()
        try:
            with open("/proc/%d/status" % master.pid, encoding="utf-8", errors="replace") as handle:
                masks = [line.split()[1] for line in handle if line.startswith("ShdPnd:")]
        except (FileNotFoundError, ProcessLookupError):
            return False
        waiting = bool(int(masks[0], 16) & (1 << (signal.SIGHUP - 1))) if masks else False
        last = now if waiting else last
        return waiting

    wait(pending, lambda waiting: not waiting, seconds, poll_s=0.005)
    return last


class _Log:
    """What is appended to an error log from now on."""

    def __init__(self, path: str, pid: int) -> None:
        self.path = path
        self._sign = "[emerg] %d#" % pid
        self._mark = self._where()

    def _where(self) -> tuple[int, int]:
        try:
            found = os.stat(self.path)
        except OSError:
            return (0, 0)
        return (found.st_ino, found.st_size) if stat.S_ISREG(found.st_mode) else (-1, 0)

    def complaints(self) -> list[str]:
        inode, size = self._where()
        if inode <= 0:
            return []
        try:
            with open(self.path, "rb") as handle:
                handle.seek(self._mark[1] if inode == self._mark[0] and size >= self._mark[1] else 0)
                text = handle.read(1 << 20).decode("utf-8", "replace")
        except OSError:
            return []
        return [scrub(line.partition(self._sign)[2].partition(": ")[2]) for line in text.splitlines() if self._sign in line]

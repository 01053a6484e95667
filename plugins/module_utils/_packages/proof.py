# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Which version of a Debian package runs: proven from the process that listens, never from what dpkg has on the disk alone.

Listening socket -> processes -> the files they were loaded from -> the package that owns them -> its version, if the process was
started after dpkg put that version there.
"""

from __future__ import annotations

import os
import re
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _process
from ansible_collections.osops.lifecycle.plugins.module_utils._packages import dpkg

# Python reads its modules and closes them again, so they are not mapped: the metadata of the project speaks for them.
_METADATA = re.compile(r"^(?P<site>/usr/lib/python3(?:\.\d+)?/dist-packages)/[^/]+\.(?:egg|dist)-info")
_FROM_FILE = re.compile(r"(?m)^[0-9a-f]+-[0-9a-f]+ \S+ [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ [1-9]\d* +(/.*?)(?: \(deleted\))?$")


def running(listen: str, rows: t.Sequence[dpkg.Package]) -> _process.Running:
    """What listens on ``listen``, with the version proven when all of it was loaded from the packages ``rows``.

    ``rows`` are of one source; the version is that of the first of them.
    """
    inodes = _process.listening_inodes(listen)
    if not inodes:
        return _process.Running()
    pids = _process.holders(inodes)
    if not pids:
        return _process.Running(problem="%s is held by a process that cannot be seen from here" % listen)
    files = set().union(*(dpkg.files_of(row) for row in rows)) if rows else set()
    sites = {found["site"] for found in map(_METADATA.match, files) if found}
    loaded = [pid for pid in pids if _is_loaded(pid, files, sites)]
    # A web server that hands requests on to children: they are loaded from the package, it is not.
    loaded = loaded or [pid for pid in _process.children(pids) if _is_loaded(pid, files, sites)]
    started = min(map(_process.started_at, [*pids, *loaded]))
    if not loaded:
        name = rows[0].name if rows else "a package"
        return _process.Running(
            tuple(pids), None, "", started, "process %d was not loaded from the files of %s" % (pids[0], name)
        )
    if len({row.source_version for row in rows}) > 1:
        seen = ", ".join("%s %s" % (row.name, row.version) for row in rows)
        return _process.Running(tuple(pids), None, "/usr", started, "packages of different versions are mixed: %s" % seen)
    for row in rows:
        if dpkg.unpacked_at(row) - time.time() + _process.boot_clock() > min(map(_process.started_at, loaded)) + 0.05:
            problem = "%s was replaced after process %d was started, so what runs is an older one" % (row.name, loaded[0])
            return _process.Running(tuple(pids), None, "/usr", started, problem)
    return _process.Running(tuple(pids), rows[0].version, "/usr", started)


def of_package(listen: str, name: str) -> _process.Running:
    """The same for the package of this name and what was built together with it."""
    known = dpkg.packages()
    if dpkg.check_name(name) not in known:
        return _process.Running(problem="the package %s is not installed" % name)
    others = [row for row in dpkg.moving_together(name, known) if row.name != name]
    return running(listen, [known[name], *others])


def users(rows: t.Iterable[dpkg.Package]) -> list[int]:
    """Processes of this host that have mapped a file of these packages. Python's modules are not mapped, and so not seen."""
    files = set().union(*(dpkg.files_of(row) for row in rows))
    return sorted(int(name) for name in os.listdir(_process.PROC) if name.isdigit() and _is_loaded(int(name), files, ()))


def _is_loaded(pid: int, files: t.Collection[str], sites: t.Collection[str]) -> bool:
    """True when a process of this host (not of a container) was loaded from one of ``files``, or from a Python project among them."""
    try:
        if not os.path.samefile("%s/%d/root" % (_process.PROC, pid), "/"):
            return False
        with open("%s/%d/maps" % (_process.PROC, pid), encoding="utf-8", errors="surrogateescape") as handle:
            mapped = set(_FROM_FILE.findall(handle.read()))
    except OSError:  # it ended meanwhile
        return False
    return bool(mapped.intersection(files)) or bool(sites and set(_process.site_folders(pid)).intersection(sites))

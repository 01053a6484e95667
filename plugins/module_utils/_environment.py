# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Releases on a host: one Python environment each below PATH/releases, complete only with its marker."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _job, _pip
from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._release import Release
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import scrub

MARKER = ".osops-complete"
BUILDER = ".osops-job"
MADE = ".osops-made"
# Below this nothing is begun: an environment of an OpenStack service takes 100 to 350 MiB.
MIN_FREE_BYTES = 400 * 1024 * 1024


def releases_folder(path: str) -> str:
    return os.path.join(path, "releases")


def check_path(path: str) -> str:
    """PATH itself, absolute and plain, or BadInputError."""
    if not path.startswith("/") or os.path.normpath(path) != path or path == "/":
        raise BadInputError(
            "instance.path %r is not a plain absolute path." % (path,), "input.path", "It looks like /opt/osops/keystone."
        )
    return path


def make_place(path: str) -> None:
    """Make PATH/releases. A folder above PATH that was not there gets a mark, so that it goes again with the last that is in it."""
    missing = []
    above = os.path.dirname(path)
    while not os.path.isdir(above):
        missing.append(above)
        above = os.path.dirname(above)
    for folder in reversed(missing):
        # Another service of this host may be making the same one.
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o755)
            _write(os.path.join(folder, MADE), "")
    os.makedirs(releases_folder(path), mode=0o755, exist_ok=True)


def remove_place(path: str) -> None:
    """Remove PATH when it is empty, and the folders above it that we made when nothing else is in them."""
    for empty in (releases_folder(path), path):
        with contextlib.suppress(OSError):
            os.rmdir(empty)
    above = os.path.dirname(path)
    with contextlib.suppress(OSError):
        while os.listdir(above) == [MADE]:
            os.unlink(os.path.join(above, MADE))
            os.rmdir(above)
            above = os.path.dirname(above)


def is_complete(path: str, identifier: str) -> bool:
    """True when the environment was installed to its end: its marker, the last thing written, is there.

    An environment that somebody else made has no marker, and no sign of ours that it was begun: it is taken as it is.
    """
    folder = os.path.join(releases_folder(path), identifier)
    begun = os.path.isfile(os.path.join(folder, BUILDER))
    return os.path.isfile(os.path.join(folder, MARKER)) or (os.path.isfile(os.path.join(folder, "pyvenv.cfg")) and not begun)


def complete_releases(path: str) -> list[str]:
    """Ids of the complete releases on this host, sorted."""
    folder = releases_folder(path)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(name for name in names if not name.startswith(".") and is_complete(path, name))


def our_releases(path: str) -> list[str]:
    """Ids of the releases that this driver installed, or has begun to; what somebody else put there is not among them."""
    folder = releases_folder(path)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    marks = (MARKER, BUILDER)
    names = [name for name in names if not name.startswith(".")]
    return sorted(name for name in names if any(os.path.isfile(os.path.join(folder, name, mark)) for mark in marks))


def linked_release(path: str, component: str) -> str | None:
    """The release that PATH/component points to, or None when it points elsewhere or is not there."""
    try:
        target = os.path.normpath(os.path.join(path, os.readlink(os.path.join(path, component))))
    except OSError:
        return None
    return os.path.basename(target) if os.path.dirname(target) == releases_folder(path) else None


def release_of_prefix(path: str, prefix: str) -> str | None:
    """The release whose environment ``prefix`` is, or None when it lies elsewhere."""
    folder = os.path.realpath(releases_folder(path))
    return os.path.basename(prefix) if prefix and os.path.dirname(os.path.realpath(prefix)) == folder else None


def installed_at(path: str) -> dict[str, float]:
    """The complete releases that this driver installed, each with the time (wall clock) when its installation ended."""
    found = {}
    for name in our_releases(path):
        marker = os.path.join(releases_folder(path), name, MARKER)
        if os.path.isfile(marker):
            found[name] = os.stat(marker).st_mtime
    return found


def links(path: str) -> dict[str, str]:
    """Links in PATH by their names, with the release that each leads to or into."""
    folder = os.path.realpath(releases_folder(path)) + "/"
    found = {}
    for name in sorted(os.listdir(path)) if os.path.isdir(path) else []:
        target = os.path.realpath(os.path.join(path, name))
        if os.path.islink(os.path.join(path, name)) and target.startswith(folder):
            found[name] = target[len(folder) :].partition("/")[0]
    return found


def former_file(path: str, component: str) -> str:
    """Where the release is written down that the component ran before the one that its link names."""
    return os.path.join(path, ".%s.former" % component)


def former(path: str, component: str) -> str | None:
    """The way back of a component, or None when it is not known.

    It is written before the link moves: when both name the same release, the move was cut, and what was there is lost.
    """
    try:
        with open(former_file(path, component), encoding="utf-8") as handle:
            known = handle.read().strip()
    except OSError:
        return None
    return known if known and known != linked_release(path, component) else None


def remember(path: str, component: str, identifier: str) -> None:
    """Write down what the component goes back to, before its link moves."""
    _write(former_file(path, component), identifier + "\n")


def forget(path: str, component: str) -> None:
    """Remove the link of a component, and what was written down beside it. A link to elsewhere is not ours."""
    known = former_file(path, component)
    link = [os.path.join(path, component)] if linked_release(path, component) is not None else []
    for gone in (*link, os.path.join(path, ".%s.new" % component), known, known + ".tmp"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(gone)


def has_traces(path: str, component: str) -> bool:
    """True when there is something that ``forget`` removes."""
    known = former_file(path, component)
    beside = (known, known + ".tmp", os.path.join(path, ".%s.new" % component))
    return linked_release(path, component) is not None or any(map(os.path.lexists, beside))


def half_removed(path: str) -> list[str]:
    """What an act that was cut has left of releases."""
    folder = releases_folder(path)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return [os.path.join(folder, name) for name in sorted(names) if name.startswith(".removing-")]


def remove(path: str, identifier: str) -> None:
    """Remove one environment. It is renamed first, so that what is half removed never looks like a release."""
    folder = releases_folder(path)
    gone = os.path.join(folder, ".removing-" + identifier)
    if os.path.lexists(gone):  # left by an act that was cut
        shutil.rmtree(gone)
    os.rename(os.path.join(folder, identifier), gone)
    shutil.rmtree(gone)


def build(release: Release, path: str, name: str, deadline: Deadline, resume: bool, source_env: t.Mapping[str, str]) -> float:
    """Install the release as a job; returns the seconds it took. On any failure nothing of it is left on the host."""
    folder = os.path.join(releases_folder(path), release.id)
    job = _pip.installation(release, os.path.join(releases_folder(path), release.id), name, source_env)
    make_place(path)
    _refuse_other_builder(folder, name)
    seen = _job.look(job)
    # Before anything is removed: what lies there may be what that job is building.
    _job.refuse_other(job, seen)
    # A result without what it built (somebody removed it) is no result.
    built = os.path.isfile(os.path.join(folder, BUILDER))
    attached = seen.hash == job.hash and (seen.kind == "running" or (seen.kind == "finished" and resume and built))
    if not attached:
        if os.path.lexists(folder):
            remove(path, release.id)
        free = shutil.disk_usage(releases_folder(path)).free
        if free < MIN_FREE_BYTES:
            raise LifecycleError(
                "Only %d MiB are free below %s; a release needs %d MiB." % (free >> 20, path, MIN_FREE_BYTES >> 20),
                "artifact.no_space",
                "Remove old releases (state absent) or give it more room.",
            )
        os.mkdir(folder, 0o755)
        _write(os.path.join(folder, BUILDER), name)
    try:
        before = deadline.remaining()
        ended = _job.run_job(job, deadline, resume=attached)
        if ended.rc != 0 and _is_full(folder):
            raise LifecycleError(
                "The disk filled up while the release was installed.",
                "artifact.no_space",
                "Remove old releases (state absent) or give %s more room." % path,
            )
        if ended.rc != 0:
            raise _pip.explain(scrub(_job.output(job), _pip.secrets_of(release)))
        _write(
            os.path.join(folder, MARKER),
            json.dumps({"id": release.id, "package": release.package, "version": release.version}) + "\n",
        )
    except LifecycleError as exc:
        if exc.code != "job.unstoppable" and os.path.lexists(folder):
            remove(path, release.id)
        raise
    return before - deadline.remaining()


def _is_full(folder: str) -> bool:
    """True when nothing more fits: neither venv nor pip says so reliably."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < 1024 * 1024 or (disk.f_files > 0 and disk.f_favail < 10)


def _refuse_other_builder(folder: str, name: str) -> None:
    try:
        with open(os.path.join(folder, BUILDER), encoding="utf-8") as handle:
            other = handle.read().strip()
    except OSError:
        return
    if other and other != name and _job.look(_job.Job(other, ())).kind == "running":
        raise LifecycleError(
            "The job %s is building this release now." % other, "job.other", "Wait for its end, then run it again."
        )


def _write(path: str, text: str) -> None:
    """Write durably: data, then name, then the folder that holds it."""
    with open(path + ".tmp", "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.rename(path + ".tmp", path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

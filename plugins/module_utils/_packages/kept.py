# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Versions of a package that are kept on the host, each a small archive of its own from which apt can install it, forward and back.

``PATH/releases/VERSION/`` holds the package files, what apt needs to take them from there and from nowhere else, and in ``root`` what is
inside them, so that the programs of a release can be asked before it is installed. It is complete only with its marker.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _environment
from ansible_collections.osops.lifecycle.plugins.module_utils._command import run
from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._packages import archive, dpkg
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

# What the way into the kept folder and apt's own files take beside the packages.
_SPARE_BYTES = 32 * 1024 * 1024
# How long another user of apt is waited for, before anything is stopped.
_LOCK_S = 60.0
ACTS = "/run/osops-packages"
# apt reads this first (APT_CONFIG). The solver then knows what is installed and these packages, and cannot touch anything else; the
# host's own lists, sources and caches stay as they are.
_CONFIG = """\
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "{folder}/none";
Dir::State::Lists "{folder}/lists";
Dir::Cache::Archives "{folder}/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""
# For the update of these lists alone: hooks of the host are about its own archives.
_WITHOUT_HOOKS = 'Dir::Etc::Parts "{folder}/none";\nDir::Etc::Main "{folder}/none";\n'


def folder_name(version: str) -> str:
    """The name of the folder of a version: a colon would end an entry of PYTHONPATH, and neither sign occurs in versions."""
    return version.replace(":", "!").replace("~", "_")


def version_of(folder: str) -> str:
    """The version that a folder holds."""
    return folder.replace("!", ":").replace("_", "~")


def folder_of(path: str, version: str) -> str:
    return os.path.join(_environment.releases_folder(path), folder_name(version))


def versions(path: str) -> list[str]:
    """The versions that are complete on this host."""
    return [version_of(name) for name in _environment.complete_releases(path)]


def packages_of(path: str, version: str) -> dict[str, str]:
    """Package -> version of what is kept under a version; empty when it is not there, or not complete."""
    try:
        with open(os.path.join(folder_of(path, version), _environment.MARKER), encoding="utf-8") as handle:
            rows = json.load(handle)["packages"]
    except (OSError, ValueError, KeyError):
        return {}
    return {str(name): str(row) for name, row in rows.items()}


def config_of(path: str, version: str) -> str:
    """The file for APT_CONFIG with which apt knows nothing but what is kept."""
    return os.path.join(folder_of(path, version), "apt.conf")


def acts_of(path: str) -> str:
    """Where the configurations of single acts lie: a boot ends them all."""
    return os.path.join(ACTS, path.strip("/").replace("/", "-"))


def begin_act(path: str, version: str) -> str:
    """A configuration for one act of apt on what is kept, and the end of all others. Returns its file.

    A control node that slept may send its apt when another has long taken over: dpkg then begins nothing (``end_acts``).
    """
    end_acts(path)
    os.makedirs(acts_of(path), mode=0o755, exist_ok=True)
    with open(config_of(path, version), encoding="utf-8") as handle:
        text = handle.read()
    number, file = tempfile.mkstemp(suffix=".conf", dir=acts_of(path))
    with os.fdopen(number, "w", encoding="utf-8") as handle:
        os.fchmod(number, 0o644)
        handle.write(text)
    return file


def end_acts(path: str) -> None:
    """From now on, apt begins nothing with the configurations of acts before. They stay, because without one it would take the host's own."""
    folder = acts_of(path)
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        with open(os.path.join(folder, name), "w", encoding="utf-8") as handle:
            handle.write('DPkg::Pre-Invoke {"echo this act is over >&2; false";};\nDir::Etc::SourceList "/dev/null";\n')


def keep(
    path: str,
    version: str,
    main: str,
    wanted: t.Mapping[str, archive.Offer],
    installed: t.Mapping[str, dpkg.Package],
    deadline: Deadline,
) -> None:
    """Fetch packages and make them the kept version ``version`` of ``main``. On any failure nothing of it is left.

    ``wanted`` are versions that the archive offers, ``installed`` ones that are installed and that only apt's cache may still have.
    """
    # apt reads the packages as a user of its own, and the service's user runs programs of them: a narrow umask would keep both out.
    former = os.umask(0o022)
    try:
        _keep(path, version, main, wanted, installed, deadline)
    finally:
        os.umask(former)


def _keep(
    path: str,
    version: str,
    main: str,
    wanted: t.Mapping[str, archive.Offer],
    installed: t.Mapping[str, dpkg.Package],
    deadline: Deadline,
) -> None:
    _environment.make_place(path)
    folder = folder_of(path, version)
    fresh = os.path.join(os.path.dirname(folder), ".fetching-" + os.path.basename(folder))
    shutil.rmtree(fresh, ignore_errors=True)
    need = (
        3 * sum(offer.size for offer in wanted.values()) + sum(offer.installed_size for offer in wanted.values()) + _SPARE_BYTES
    )
    free = shutil.disk_usage(os.path.dirname(folder)).free
    if free < need:
        raise _no_space(path, free, need)
    os.mkdir(fresh, 0o755)
    try:
        files = archive.fetch(wanted, fresh, deadline) if wanted else {}
        for name, package in installed.items():
            files[name] = archive.kept_by_apt(package, fresh)
            if not files[name]:
                raise no_way_back([package])
        _index(fresh, files)
        for name in ("lists/partial", "archives/partial", "none", "root"):
            os.makedirs(os.path.join(fresh, name))
        for file in files.values():
            done = run(["dpkg-deb", "--extract", os.path.join(fresh, file), os.path.join(fresh, "root")], deadline.remaining())
            if done.rc != 0:
                raise LifecycleError("%s cannot be unpacked: %s" % (file, done.err.strip()[:200]), "package.unreadable")
        _write(fresh, "sources.list", "deb [trusted=yes] file:%s ./\n" % folder)
        _write(fresh, "apt.conf", _CONFIG.format(folder=folder))
        _write(fresh, "update.conf", (_CONFIG + _WITHOUT_HOOKS).format(folder=folder))
        held = {name: archive.control(os.path.join(fresh, file))["Version"] for name, file in files.items()}
        _write(fresh, _environment.MARKER, json.dumps({"package": main, "version": version, "packages": held}) + "\n")
        if os.path.lexists(folder):
            _environment.remove(path, os.path.basename(folder))
        os.rename(fresh, folder)
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            raise _no_space(path, 0, need) from exc
        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def open_for_apt(path: str, version: str, deadline: Deadline) -> None:
    """Let apt read the kept packages: with ``config_of`` it then knows them, and only them."""
    config = config_of(path, version)
    done = run(
        ["apt-get", "-q", "update"],
        deadline.remaining(),
        env={"APT_CONFIG": os.path.join(os.path.dirname(config), "update.conf")},
    )
    if done.rc != 0:
        raise LifecycleError(
            "apt cannot read the kept packages in %s: %s" % (os.path.dirname(config), done.err.strip()[:300]), "package.kept"
        )


def at_work(path: str) -> str:
    """A process that moves packages kept in ``path``; empty when there is none. It has a file of ours in its environment."""
    needle = ("\0APT_CONFIG=" + acts_of(path) + "/").encode()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open("/proc/%s/environ" % name, "rb") as handle:
                    if needle in b"\0" + handle.read():
                        return "apt of an act before this one (process %s)" % name
            except OSError:  # it has ended
                continue
    return ""


def wait_for_others(path: str, deadline: Deadline) -> None:
    """Wait until nobody else moves packages here: whoever holds dpkg's lock, and an apt of ours whose control node has died."""
    free = wait(lambda: at_work(path) or dpkg.lock_holder(), lambda who: not who, min(_LOCK_S, deadline.remaining()), poll_s=0.25)
    if not free.reached:
        raise LifecycleError(
            "dpkg is in use by %s for %.0f s." % (free.last, free.elapsed_s), "package.locked", "Wait for it, then run again."
        )


def no_way_back(rows: t.Iterable[dpkg.Package]) -> LifecycleError:
    """What runs could not be installed again."""
    return LifecycleError(
        "There would be no way back: no archive of this host offers %s any more, and apt's cache does not hold it."
        % ", ".join("%s %s" % (row.name, row.version) for row in rows),
        "package.no_way_back",
        "Put the package files into %s, or add an archive that has them, then fetch again." % archive.CACHE,
    )


def _index(folder: str, files: t.Mapping[str, str]) -> None:
    """Write what a flat archive needs: its Packages file, from the packages themselves."""
    rows = []
    for file in files.values():
        path = os.path.join(folder, file)
        text = run(["dpkg-deb", "--field", path], 60.0).out.rstrip("\n")
        rows.append("%s\nFilename: ./%s\nSize: %d\nSHA256: %s\n" % (text, file, os.path.getsize(path), archive.digest(path)))
    _write(folder, "Packages", "\n".join(rows))


def _write(folder: str, name: str, text: str) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())


def _no_space(path: str, free: int, need: int) -> LifecycleError:
    return LifecycleError(
        "Only %d MiB are free below %s; %d MiB are needed." % (free >> 20, path, need >> 20),
        "package.no_space",
        "Give it more room, or remove old versions (state absent).",
    )

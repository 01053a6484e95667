# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""An instance that somebody else installed: their unit, their environment, and our drop-in that lets the unit start from our link."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import re
import stat
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _process, _systemd, _unit_text
from ansible_collections.osops.lifecycle.plugins.module_utils._dropin import NAME, DropIn
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._release import Release, normalise, release_id

# What means the same in a unit file in and outside of quotes.
_PLAIN = re.compile(r"/[A-Za-z0-9._+@:=,~/-]+\Z")
_MADE_BY_PROGRAMS = ("/run/systemd/generator", "/run/systemd/transient", "/run/systemd/system.attached")
MAX_CONFIG_BYTES = 1024 * 1024


def check_prefix(adopt: str, path: str) -> str:
    """The environment to adopt, absolute, plain and apart from our releases, or BadInputError."""
    if not _PLAIN.match(adopt) or os.path.normpath(adopt) != adopt:
        raise BadInputError(
            "instance.adopt %r is not a plain absolute path." % (adopt,), "input.adopt", "It looks like /srv/keystone/venv."
        )
    if not _PLAIN.match(path):
        raise BadInputError("instance.path %r cannot be written into a unit." % (path,), "input.path", "Name a plain folder.")
    for one, other in ((adopt, path), (os.path.realpath(adopt), os.path.realpath(path))):
        if (one + "/").startswith(other + "/") or (other + "/").startswith(one + "/"):
            raise BadInputError(
                "instance.adopt %s and instance.path %s lie in each other." % (adopt, path),
                "input.adopt",
                "Give our releases a folder of their own; adopt is what another tool made.",
            )
    return adopt


@dataclasses.dataclass(frozen=True)
class Foreign:
    """The environment of somebody else, as it is on disk: what is installed, and when its metadata last changed (wall clock)."""

    prefix: str
    installed: tuple[tuple[str, str], ...]
    newest: float

    @classmethod
    def look(cls, prefix: str) -> Foreign:
        """Read it. Raises BadInputError when there is no environment."""
        sites = {os.path.realpath(site) for site in glob.glob(glob.escape(prefix) + "/lib*/python3*/site-packages")}
        if not os.path.isfile(os.path.join(prefix, "pyvenv.cfg")) or not sites:
            what = "is not a Python environment" if os.path.isdir(prefix) else "is not on this host"
            raise BadInputError(
                "instance.adopt: %s %s." % (prefix, what), "input.adopt", "Name the environment that the unit starts from."
            )
        found = [each for site in sorted(sites) for each in _process.distributions(site)]
        newest = max((os.stat(path).st_ctime for _name, _version, path in found), default=0.0)
        return cls(prefix, tuple(sorted({(name, version) for name, version, _path in found})), newest)

    def version(self, package: str) -> str | None:
        """The version of a project that is installed there; None when there is none, or more than one."""
        found = [version for name, version in self.installed if name == normalise(package)]
        return found[0] if len(found) == 1 else None

    def id(self, package: str) -> str | None:
        """Its name as a release, the same on every host that holds the same: the version, and a hash of all that is installed."""
        version = self.version(package)
        return release_id(version, self._content()) if version else None

    def has_id(self, identifier: str) -> bool:
        """True for the name of this release, whichever project it was named after."""
        return any(identifier == release_id(version, self._content()) for _name, version in self.installed)

    def _content(self) -> str:
        return "".join("%s==%s\n" % each for each in self.installed)

    def is_loaded(self, running: _process.Running) -> bool:
        """True when the processes were loaded from what is there now: nothing was replaced since they were started."""
        same = bool(running.prefix) and os.path.realpath(running.prefix) == os.path.realpath(self.prefix)
        return same and self.newest - time.time() + _process.boot_clock() <= running.started + 1.0

    def wanted(self, release: Release) -> Release:
        """The release that a version without a lock means. Raises LifecycleError when it is not what is installed there."""
        if release.id:
            return release
        version, identifier = self.version(release.package), self.id(release.package)
        if version != release.version or not identifier:
            raise LifecycleError(
                "%s %s is wanted without a lock, but %s holds %s."
                % (release.package, release.version, self.prefix, version or "no " + release.package),
                "artifact.adopted_other",
                "Only the tool that made it can change it; or give a lock, and it is installed beside it.",
            )
        return dataclasses.replace(release, id=identifier)


@dataclasses.dataclass(frozen=True)
class Adopted:
    """What was seen of an adopted instance. ``refusal`` says why it cannot be changed, ``blocked`` why only our releases cannot run."""

    drop_in: DropIn
    foreign: Foreign | None
    link: str
    files: tuple[_unit_text.File, ...]
    mode: int
    has: str | None
    refusal: LifecycleError | None
    blocked: LifecycleError | None
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        return _unit_text.rewritten(self.files, self.foreign.prefix, self.link) if self.foreign else []

    def is_in_place(self, unit: _systemd.Unit) -> bool:
        """True when our drop-in says what it has to say, and systemd has read it."""
        return self._is_current() and self.drop_in.path in unit.drop_ins and not unit.needs_reload

    def is_left(self, unit: _systemd.Unit) -> bool:
        """True when nothing of ours is beside the unit, nor in what systemd has read of it."""
        return self.drop_in.is_clean() and self.drop_in.path not in unit.drop_ins

    def _is_current(self) -> bool:
        return self.has is not None and self.has == self.drop_in.composed(self.lines())

    def facts(self, package: str) -> dict[str, t.Any]:
        """What an answer shows of it."""
        there = self.foreign
        return {
            "path": there.prefix if there else None,
            "release": there.id(package) if there else None,
            "version": there.version(package) if there else None,
            "drop_in": self.drop_in.path if self.drop_in.is_ours() else None,
        }

    def check(self, release: str, folder: str) -> None:
        """Raise LifecycleError when the unit cannot run a release of ours, which lies in ``folder`` when it is on the host.

        That is so when something wins over our drop-in, or the unit uses what their environment has and the release has not.
        """
        if self.blocked is not None:
            raise self.blocked
        prefix = self.foreign.prefix if self.foreign and folder else ""
        gone = [
            path
            for path in (_unit_text.used(self.files, prefix) if prefix else ())
            if os.path.exists(os.path.join(prefix, path)) and not os.path.exists(os.path.join(folder, path))
        ]
        if gone:
            raise LifecycleError(
                "%s uses %s of %s, and release %s has no such file." % (self.drop_in.unit, ", ".join(gone), prefix, release),
                "artifact.no_program",
                "Let the unit start what both have (uwsgi with a module, mostly), or put it into the lock.",
            )

    def take(self, unit: _systemd.Unit) -> bool:
        """Let the unit start from our link; says whether systemd has to read its files again."""
        if self.is_in_place(unit):
            return False
        if not self._is_current():
            self.drop_in.write(self.drop_in.composed(self.lines()), self.mode)
        return True


def look(adopt: str, path: str, component: str, unit: _systemd.Unit, link: str | None) -> Adopted:
    """See the environment, the unit's files and our drop-in. Changes nothing; what is wrong is told, not raised."""
    drop_in = drop_in_of(unit.name, path, component)
    ours = os.path.join(path, component)
    foreign, refusal = None, None
    files: list[_unit_text.File] = []
    mode = 0o644
    has = drop_in.text()
    try:
        foreign = Foreign.look(adopt)
        files, mode = _files(unit, drop_in)
        _check_unit(unit, drop_in, files, adopt)
    except LifecycleError as exc:
        refusal = exc
    except OSError as exc:
        refusal = LifecycleError("%s cannot be read: %s." % (exc.filename, exc.strerror), "host.os_error")
    notes = _notes(drop_in, unit, files, adopt, link)
    seen = Adopted(drop_in, foreign, ours, tuple(files), mode, has, refusal, _blocked(drop_in, files, adopt), tuple(notes))
    if drop_in.is_ours() and refusal is None and not seen._is_current():
        more = "%s is not what the files of %s ask for now; it is written again with the next switch." % (drop_in.path, unit.name)
        seen = dataclasses.replace(seen, notes=(*seen.notes, more))
    return seen


def drop_in_of(unit: str, path: str, component: str) -> DropIn:
    """Our drop-in of one instance."""
    return DropIn(unit, "%s in %s" % (component, path))


def _files(unit: _systemd.Unit, drop_in: DropIn) -> tuple[list[_unit_text.File], int]:
    """The unit's own files in the order in which systemd reads them, without ours, and the mode that shows nobody more of them."""
    found, mode = [], 0o644
    for path in (unit.fragment, *unit.drop_ins):
        if not path or path == drop_in.path:
            continue
        try:
            with open(path, encoding="utf-8", errors="surrogateescape", newline="") as handle:
                text = handle.read()
                mode &= stat.S_IMODE(os.fstat(handle.fileno()).st_mode)
        except FileNotFoundError:
            if unit.needs_reload:  # somebody has taken it away, and systemd has not been told
                continue
            raise
        later = path != unit.fragment and os.path.basename(path) > NAME
        found.append(_unit_text.File(path, text, later))
    return found, mode


def _check_unit(unit: _systemd.Unit, drop_in: DropIn, files: t.Sequence[_unit_text.File], adopt: str) -> None:
    """Raise BadInputError for a unit that a drop-in of ours cannot turn to our link and back."""
    if unit.transient or not unit.fragment or unit.fragment.startswith(_MADE_BY_PROGRAMS):
        raise BadInputError(
            "%s is made by a program (%s), and is not there to stay." % (unit.name, unit.fragment or "it has no file"),
            "artifact.foreign_layout",
            "Adopt a service that has a unit file.",
        )
    if drop_in.text() is not None and not drop_in.is_ours():
        raise BadInputError(
            "%s is there, and was not written for this instance." % drop_in.path,
            "artifact.foreign_layout",
            "Move it away; this driver keeps a file of that name.",
        )
    if not _unit_text.starts_from(files, adopt):
        raise BadInputError(
            "The start of %s (ExecStart) does not name %s, so nothing of ours would make it start from elsewhere."
            % (unit.name, adopt),
            "artifact.foreign_layout",
            "Name the environment as the unit names it, or use the driver of the tool that laid this host out.",
        )


def _blocked(drop_in: DropIn, files: t.Sequence[_unit_text.File], adopt: str) -> LifecycleError | None:
    winning = _unit_text.overriding(files, adopt)
    if not winning:
        return None
    said = ", ".join("%s (%s)" % each for each in winning)
    return LifecycleError(
        "systemd reads %s after %s, and it sets what that must set." % (said, drop_in.path),
        "artifact.overridden",
        "Give it a name that comes before %s, or move the setting into the unit." % NAME,
    )


def _notes(drop_in: DropIn, unit: _systemd.Unit, files: t.Sequence[_unit_text.File], adopt: str, link: str | None) -> list[str]:
    notes = []
    if unit.exists and drop_in.text() is None and link is not None:
        notes.append(
            "Our drop-in %s is gone while our link names %s: somebody else has let %s start from %s again."
            % (drop_in.path, link, unit.name, adopt)
        )
    if unit.needs_reload:
        notes.append("Files of %s were changed since systemd read them; they count from the next switch." % unit.name)
    for path in _unit_text.named_files(files):
        if not path.startswith(adopt + "/") and _unit_text.mentions(_small(path), adopt):
            notes.append("%s names %s, and goes on to when one of our releases runs." % (path, adopt))
    return notes


def _small(path: str) -> str:
    """The text of a configuration file, or nothing."""
    with contextlib.suppress(OSError):
        if os.path.isfile(path) and os.path.getsize(path) <= MAX_CONFIG_BYTES:
            with open(path, encoding="utf-8", errors="replace") as handle:
                return handle.read()
    return ""

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Our file beside the unit of somebody else: written whole or not at all, and taken away without a trace."""

from __future__ import annotations

import dataclasses
import os
import shutil
import typing as t

UNITS = "/etc/systemd/system"
NAME = "50-osops.conf"
_MARK = "# osops.lifecycle: "
_FOLDER = "# The folder is ours, too.\n"
_FRESH = "." + NAME + ".new"


@dataclasses.dataclass(frozen=True)
class DropIn:
    """The drop-in of one instance. ``owner`` says whose it is: the component, and where its releases lie."""

    unit: str
    owner: str

    @property
    def folder(self) -> str:
        return os.path.join(UNITS, self.unit + ".d")

    @property
    def path(self) -> str:
        return os.path.join(self.folder, NAME)

    @property
    def _aside(self) -> str:
        # A folder of ours comes and goes by a rename, with the file in it: an empty one would be nobody's. systemd reads no
        # names with a dot.
        return os.path.join(UNITS, ".%s.d.osops" % self.unit)

    def text(self) -> str | None:
        """What it holds, or None when there is none."""
        if not os.path.lexists(self.path):
            return None
        if os.path.islink(self.path) or not os.path.isfile(self.path):
            return ""
        return _read(self.path)

    def is_ours(self) -> bool:
        """True when it is there, and was written for this instance."""
        return (self.text() or "").startswith(self._head())

    def _head(self) -> str:
        return "%s%s\n" % (_MARK, self.owner)

    def composed(self, lines: t.Iterable[str]) -> str:
        """What it is to hold. It says whether the folder is ours, so that whoever takes it away knows."""
        had = self.text()
        ours = not os.path.lexists(self.folder) if had is None else _FOLDER in had
        says = "# It starts the unit from our link, and goes when the release of its own tool runs again. Change the unit, not this.\n"
        return self._head() + says + (_FOLDER if ours else "") + "[Service]\n" + "".join(line + "\n" for line in lines)

    def write(self, text: str, mode: int) -> None:
        """Put it there, durably."""
        if os.path.lexists(self.folder):
            _write(self.path, os.path.join(self.folder, _FRESH), text, mode)
            return
        self._sweep()
        os.mkdir(self._aside)
        os.chmod(self._aside, 0o755)  # noqa: S103 - as every folder of units, whatever the umask is
        _write(os.path.join(self._aside, NAME), os.path.join(self._aside, _FRESH), text, mode)
        os.rename(self._aside, self.folder)
        _sync(UNITS)

    def remove(self) -> None:
        """Take it away, and the folder when it is ours and holds nothing else."""
        if self.is_ours():
            if _FOLDER in (self.text() or "") and set(os.listdir(self.folder)) <= {NAME, _FRESH}:
                self._sweep()
                os.rename(self.folder, self._aside)
                _sync(UNITS)
            else:
                os.unlink(self.path)
                _sync(self.folder)
        self._sweep()

    def is_clean(self) -> bool:
        """True when nothing of ours is there, nor left of an act that was cut."""
        return not self.is_ours() and not any(map(os.path.lexists, (self._aside, os.path.join(self.folder, _FRESH))))

    def _sweep(self) -> None:
        if os.path.lexists(self._aside):
            shutil.rmtree(self._aside)
        if os.path.lexists(os.path.join(self.folder, _FRESH)):
            os.unlink(os.path.join(self.folder, _FRESH))


def _read(path: str) -> str:
    """Text that is written back as it was, whatever it holds."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as handle:
        return handle.read()


def _write(path: str, fresh: str, text: str, mode: int) -> None:
    if os.path.lexists(fresh):
        os.unlink(fresh)
    number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(number, "w", encoding="utf-8", errors="surrogateescape", newline="") as handle:
        os.fchmod(number, mode)
        handle.write(text)
        handle.flush()
        os.fsync(number)
    os.rename(fresh, path)
    _sync(os.path.dirname(path))


def _sync(folder: str) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)

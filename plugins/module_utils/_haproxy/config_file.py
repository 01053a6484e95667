# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Our file in HAProxy's configuration folder, and the note beside it that lets a cut act be finished or taken back.

The note's name begins with a dot and does not end with .cfg, so HAProxy does not read it. It is gone when the act has ended.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError, UnknownAnswerError

MODE = 0o644


class Note(t.NamedTuple):
    """What was there before an act that is under way: the file's text (None: no file) and what servers were set to."""

    text: str | None
    kept: dict[str, dict[str, int]]


class ConfigFile:
    """One file that is replaced in one step, never written in place."""

    def __init__(self, folder: str, service: str) -> None:
        self.folder = folder
        self.path = os.path.join(folder, "osops-%s.cfg" % service)
        self.note_path = os.path.join(folder, ".osops-%s.note" % service)

    def read(self) -> str | None:
        """The text; None when there is no file. Something that is not a plain file reads as empty, which is nobody's of ours."""
        try:
            if not stat.S_ISREG(os.lstat(self.path).st_mode):
                return ""
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _read(self.path)

    def put(self, text: str | None) -> None:
        """Make the file be this text, or be gone."""
        if text is not None:
            _write(self.path, text, MODE)
        elif os.path.lexists(self.path):
            os.unlink(self.path)
            _sync(self.folder)

    def note(self) -> Note | None:
        try:
            text = _read(self.note_path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            data = json.loads(text)
            kept = {str(key): {str(name): int(value) for name, value in entry.items()} for key, entry in data["kept"].items()}
            return Note(data["text"], kept)
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise UnknownAnswerError(
                "The note %s of an act that was cut cannot be read." % self.note_path,
                hint="Look at it and at %s, then remove the note." % self.path,
            ) from exc

    def write_note(self, note: Note) -> None:
        _write(self.note_path, json.dumps(note._asdict()), 0o600)

    def drop_note(self) -> None:
        if os.path.lexists(self.note_path):
            os.unlink(self.note_path)
            _sync(self.folder)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as handle:
        return handle.read()


def _write(path: str, text: str, mode: int) -> None:
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=".osops-", dir=os.path.dirname(path))
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as out:
            out.write(text)
            out.flush()
            os.fchmod(out.fileno(), mode)
            os.fsync(out.fileno())
        os.replace(temporary, path)
        temporary = ""
        _sync(os.path.dirname(path))
    except OSError as exc:
        raise LifecycleError(
            "The file %s cannot be written: %s." % (path, exc.strerror), "haproxy.file", "Run the task with become."
        ) from exc
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def _sync(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

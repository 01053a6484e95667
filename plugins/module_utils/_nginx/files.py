# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Files of a configuration, replaced in one step with all that belongs to them; and our notes about them.

The note lies below /var/lib/osops, not beside the configuration: nginx must never find it, and a folder that a pattern searches must
not look changed. It says which texts an act was about to put where (until the reload is confirmed), and which texts which workers
have surely loaded; and what a drain that has not ended yet has found.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import tempfile
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import DeadlineError, LifecycleError, UnknownAnswerError
from ansible_collections.osops.lifecycle.plugins.module_utils._fence import ROOT
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

NOTES = os.path.join(ROOT, "nginx")
# A file system without extended attributes says so; that is nothing to carry over then.
_NO_ATTRIBUTES = (errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.ENOSYS)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check_replaceable(real: str) -> None:
    """Refuse a file that has a second name: replacing it would part the two. Raises LifecycleError."""
    if os.stat(real).st_nlink > 1:
        raise LifecycleError(
            "The file %s has a second name (a hard link), which a change would cut off from it." % real,
            "nginx.hard_link",
            "Make it a file of its own, or a symbolic link. Nothing was changed.",
        )


def replace(real: str, data: bytes) -> None:
    """Give a file new contents in one step: mode, owner and extended attributes (SELinux, ACLs) as before. Raises LifecycleError."""
    temporary = ""
    try:
        former = os.stat(real)
        handle, temporary = tempfile.mkstemp(prefix=".osops-nginx-", dir=os.path.dirname(real))
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fchown(out.fileno(), former.st_uid, former.st_gid)
            os.fchmod(out.fileno(), former.st_mode & 0o7777)
            _copy_attributes(real, out.fileno())
            os.fsync(out.fileno())
        os.replace(temporary, real)
        temporary = ""
        _sync(os.path.dirname(real))
    except OSError as exc:
        raise LifecycleError(
            "The file %s cannot be replaced: %s." % (real, exc.strerror),
            "nginx.file",
            "Run the task with become, on the host itself.",
        ) from exc
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def _copy_attributes(real: str, handle: int) -> None:
    try:
        names = os.listxattr(real)
    except OSError as exc:
        if exc.errno in _NO_ATTRIBUTES:
            return
        raise
    for name in names:
        value = os.getxattr(real, name)
        try:
            if os.getxattr(handle, name) == value:
                continue
        except OSError as exc:
            if exc.errno not in _NO_ATTRIBUTES:
                raise
        os.setxattr(handle, name, value)


def _sync(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclasses.dataclass
class Note:
    """What we know beyond the files themselves.

    ``texts``: real path -> digests before and after, of an act whose reload is not confirmed. ``was``: what its servers were.
    ``loaded``: path -> digest, of what the workers in ``workers`` (number, start) have loaded.
    ``drained``: what servers were before drains that are loaded, and have neither passed nor been put back. ``files``: path -> digest of
    the files that hold their lines: where somebody else has changed one since, whether they are out is no longer ours.
    """

    texts: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    was: dict[str, int] = dataclasses.field(default_factory=dict)
    loaded: dict[str, str] = dataclasses.field(default_factory=dict)
    workers: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    drained: dict[str, int] = dataclasses.field(default_factory=dict)
    files: dict[str, str] = dataclasses.field(default_factory=dict)


class Notes:
    """The note about one configuration."""

    def __init__(self, config: str, folder: str = NOTES) -> None:
        self.folder = folder
        self.path = os.path.join(folder, hashlib.sha256(os.fsencode(os.path.realpath(config))).hexdigest()[:24] + ".json")

    @contextlib.contextmanager
    def held(self, seconds: float) -> t.Iterator[None]:
        """Only one act at a time changes this configuration, whatever its fence is called. Raises DeadlineError."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        handle = os.open(self.path[: -len(".json")] + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

        def locked() -> bool:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        try:
            if not wait(locked, bool, seconds, poll_s=0.05).reached:
                raise DeadlineError(
                    "Another act on this nginx has held its lock for %.0f s." % seconds,
                    "nginx.busy",
                    "Nothing was done. Run it again.",
                )
            yield
        finally:
            os.close(handle)

    def read(self) -> Note:
        try:
            with open(self.path, encoding="utf-8") as handle:
                data = json.load(handle)
            return Note(
                {str(name): (str(pair[0]), str(pair[1])) for name, pair in data["texts"].items()},
                {str(key): int(admin) for key, admin in data["was"].items()},
                {str(name): str(value) for name, value in data["loaded"].items()},
                [(int(pid), int(started)) for pid, started in data["workers"]],
                {str(key): int(admin) for key, admin in data["drained"].items()},
                {str(name): str(value) for name, value in data["files"].items()},
            )
        except (FileNotFoundError, NotADirectoryError):
            return Note()
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as exc:
            raise UnknownAnswerError(
                "The note %s of an earlier act cannot be read." % self.path,
                hint="Compare the configuration with what it should be, reload nginx, then remove the note.",
            ) from exc

    def end_drain(self, keys: t.Collection[str], seconds: float) -> None:
        """A drain of these servers has passed: that they are out is no longer to be taken back by itself. Raises OSError or DeadlineError."""
        with self.held(seconds):
            note = self.read()
            left = {key: admin for key, admin in note.drained.items() if key not in keys}
            if left != note.drained:
                self.write(dataclasses.replace(note, drained=left))

    def write(self, note: Note) -> None:
        """Raises OSError."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".note-", dir=self.folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump(dataclasses.asdict(note), out)
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, self.path)
        except BaseException:
            os.unlink(temporary)
            raise
        _sync(self.folder)


def moved(tree: t.Mapping[str, str], loaded: t.Mapping[str, str]) -> list[str]:
    """Paths that are not what was loaded: changed, new, or gone."""
    return sorted(path for path in {*tree, *loaded} if tree.get(path) != loaded.get(path))

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Files and folders, touched so that nobody is followed, overtaken or seen half done.

Every path is walked from the root, folder by folder, without following symbolic links: below a folder that a service's user
may write to, root would else write where that user points. A new file or folder gets its content, mode and owner under
another name first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import grp
import os
import pwd
import stat
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import ForeignChangeError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._files.model import Entry, digest

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclasses.dataclass(frozen=True)
class Seen:
    """What stands at a path: kind missing, file, folder or other (then ``what`` says it)."""

    kind: str
    what: str = ""
    data: bytes = b""
    mode: str = ""
    uid: int = -1
    gid: int = -1

    def entry(self, like: Entry) -> Entry:
        """As it is now, for a revision of what somebody edited."""
        sha256 = digest(self.data) if self.kind == "file" else ""
        return dataclasses.replace(like, mode=self.mode, owner=_user_name(self.uid), group=_group_name(self.gid), sha256=sha256)


MISSING = Seen("missing")


def uid_of(name: str) -> int | None:
    """The number of a user, by name, or as the bare number that a file has when its user is gone."""
    try:
        return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def gid_of(name: str) -> int | None:
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


class BlockedError(LifecycleError):
    """Something else than a folder stands on the way to a path."""

    code = "files.foreign"


@contextlib.contextmanager
def _parent(path: str) -> t.Iterator[int]:
    """The folder of ``path``, opened. FileNotFoundError when a folder on the way is missing, BlockedError when it is none."""
    handle = os.open("/", _FOLDER)
    try:
        walked = ""
        for part in os.path.dirname(path).split("/")[1:]:
            if not part:
                continue
            walked += "/" + part
            try:
                deeper = os.open(part, _FOLDER, dir_fd=handle)
            except OSError as exc:
                if exc.errno in (errno.ENOTDIR, errno.ELOOP):
                    link = stat.S_ISLNK(os.lstat(part, dir_fd=handle).st_mode)
                    raise BlockedError("%s is %s" % (walked, "a symbolic link" if link else "not a folder")) from None
                raise
            os.close(handle)
            handle = deeper
        yield handle
    finally:
        os.close(handle)


def look(path: str) -> Seen:
    """What stands at ``path`` now."""
    name = os.path.basename(path)
    try:
        with _parent(path) as folder:
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
            data = b""
            if stat.S_ISREG(there.st_mode):
                handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
                with os.fdopen(handle, "rb") as file:
                    there = os.fstat(file.fileno())
                    data = file.read()
    except FileNotFoundError:
        return MISSING
    except BlockedError as exc:
        return Seen("other", exc.msg)
    kind = "file" if stat.S_ISREG(there.st_mode) else "folder" if stat.S_ISDIR(there.st_mode) else "other"
    what = "a symbolic link" if stat.S_ISLNK(there.st_mode) else "neither a file nor a folder" if kind == "other" else ""
    return Seen(kind, what, data, "%04o" % stat.S_IMODE(there.st_mode), there.st_uid, there.st_gid)


def names_in(path: str) -> list[str]:
    """The names in a folder, without what an act of ours left that was cut; empty when it is not there."""
    try:
        with _parent(path + "/x") as folder:
            return sorted(name for name in os.listdir(folder) if not (name.startswith(".") and name.endswith(_NEW)))
    except (FileNotFoundError, BlockedError):
        return []


_NEW = ".osops-new"


def _fresh(path: str) -> str:
    return "." + os.path.basename(path) + _NEW


def _clear(name: str, folder: int) -> None:
    """Remove what an act that was cut left under the name that only we use."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):
        os.rmdir(name, dir_fd=folder)


def sweep(path: str) -> None:
    """Remove the leftover of an act on ``path`` that was cut."""
    with contextlib.suppress(FileNotFoundError, BlockedError), _parent(path) as folder:
        _clear(_fresh(path), folder)


def _identity(entry: Entry, path: str) -> tuple[int, int]:
    uid, gid = uid_of(entry.owner), gid_of(entry.group)
    if uid is None or gid is None:
        raise LifecycleError("%s is to belong to %s:%s, which does not exist." % (path, entry.owner, entry.group), "files.owner")
    return uid, gid


def write(path: str, data: bytes, entry: Entry, new: bool) -> None:
    """Put a whole file in place of what is there; with ``new`` nothing must be there."""
    uid, gid = _identity(entry, path)
    name, fresh = os.path.basename(path), _fresh(path)
    with _parent(path) as folder:
        _clear(fresh, folder)
        try:
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fchown(handle, uid, gid)
                os.fchmod(handle, int(entry.mode, 8))
                os.fsync(handle)
            if new:
                # A link, unlike a rename, refuses when somebody has put a file there in this moment.
                os.link(fresh, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            else:
                os.rename(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)
        except FileExistsError:
            raise ForeignChangeError("Somebody else has just made %s." % path, hint="Run it again.") from None
        finally:
            _clear(fresh, folder)
        os.fsync(folder)


def make_folder(path: str, entry: Entry) -> None:
    """Make a folder that is not there; it appears with its mode and owner."""
    uid, gid = _identity(entry, path)
    fresh = _fresh(path)
    with _parent(path) as folder:
        _clear(fresh, folder)
        os.mkdir(fresh, 0o700, dir_fd=folder)
        try:
            os.chown(fresh, uid, gid, dir_fd=folder, follow_symlinks=False)
            _set_mode(fresh, folder, entry)
            os.rename(fresh, os.path.basename(path), src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            _clear(fresh, folder)
        os.fsync(folder)


def _set_mode(name: str, folder: int, entry: Entry) -> None:
    handle = os.open(name, _FOLDER, dir_fd=folder)
    try:
        os.fchmod(handle, int(entry.mode, 8))
    finally:
        os.close(handle)


def put_right(path: str, entry: Entry) -> None:
    """Give a folder that is there its mode and owner."""
    uid, gid = _identity(entry, path)
    with _parent(path) as folder:
        name = os.path.basename(path)
        os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
        _set_mode(name, folder, entry)


def remove(path: str, kind: str) -> None:
    """Remove a file, or a folder that is empty. Raises OSError (ENOTEMPTY)."""
    with _parent(path) as folder:
        (os.rmdir if kind == "folder" else os.unlink)(os.path.basename(path), dir_fd=folder)
        os.fsync(folder)

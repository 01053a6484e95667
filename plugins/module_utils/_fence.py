# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The host's side of the lease: one act at a time, and never for a holder older than the newest one seen."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import (
    BadInputError,
    DeadlineError,
    LifecycleError,
    StaleTokenError,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

ROOT = "/var/lib/osops"
_NAME = re.compile(r"[A-Za-z0-9_:@#-][A-Za-z0-9_.:@#-]{0,199}\Z")


@contextlib.contextmanager
def fence(name: str, token: int | None, deadline_s: float = 60.0, root: str = ROOT) -> t.Iterator[None]:
    """Hold the lock file of ``name`` while acting; with a ``token``, refuse when a higher one was seen here.

    Without a token (a module used alone, outside a run) only the lock is taken.
    Raises StaleTokenError, DeadlineError (somebody else acts for longer than ``deadline_s`` seconds) or LifecycleError.
    """
    if not _NAME.match(name):
        raise BadInputError("The fence name %r holds characters that are not allowed." % (name,), "fence.name")
    folder = os.path.join(root, "fence")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        handle = os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise LifecycleError(
            "The lock below %s cannot be opened: %s." % (folder, exc.strerror), "fence.unusable", "Run the task with become."
        ) from exc

    def locked() -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    try:
        if not wait(locked, bool, deadline_s, poll_s=0.05).reached:
            raise DeadlineError("Another act on %s has held its lock for %.0f s." % (name, deadline_s), "fence.busy")
        if token is not None:
            text = os.pread(handle, 64, 0).decode("ascii", "replace").strip()
            newest = int(text) if text.isdigit() else 0
            if token < newest:
                raise StaleTokenError(
                    "A newer holder of this run has been here (token %d, ours is %d)." % (newest, token),
                    hint="Nothing was done. Look at the status of the run; another control node has taken it over.",
                )
            if token > newest:
                os.ftruncate(handle, 0)
                os.pwrite(handle, str(token).encode("ascii"), 0)
                os.fsync(handle)
        yield
    finally:
        os.close(handle)

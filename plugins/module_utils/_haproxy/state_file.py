# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""HAProxy's server-state-file, kept true: what it says is what a reload will bring back."""

from __future__ import annotations

import os
import stat
import tempfile

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError

_HINT = "It is the file that `server-state-file` in HAProxy's global section names; HAProxy reads it when it is reloaded."


def check_state_file(path: str) -> None:
    """Find out before any change that the file can be written. Raises BadInputError."""
    folder = os.path.dirname(path) or "."
    if not os.path.isabs(path):
        raise BadInputError("The path of the state file, %s, is not absolute." % path, "haproxy.state_file", _HINT)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise BadInputError("The folder %s of the state file cannot be written to." % folder, "haproxy.state_file", _HINT)
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        raise BadInputError("The state file %s is not a plain file." % path, "haproxy.state_file", _HINT)


def write_state_file(path: str, text: str) -> None:
    """Replace the file in one step, with the owner and mode that it had; a new one is readable for everybody."""
    temporary = ""
    try:
        try:
            former = os.stat(path)
            owner, mode = (former.st_uid, former.st_gid), stat.S_IMODE(former.st_mode)
        except FileNotFoundError:
            owner, mode = (os.geteuid(), os.getegid()), 0o644
        handle, temporary = tempfile.mkstemp(prefix=".osops-", dir=os.path.dirname(path))
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text.rstrip("\n") + "\n")
            out.flush()
            os.fchown(out.fileno(), *owner)
            os.fchmod(out.fileno(), mode)
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except OSError as exc:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise LifecycleError(
            "The state file %s cannot be written: %s." % (path, exc.strerror), "haproxy.state_file", _HINT
        ) from exc

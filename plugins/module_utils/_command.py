# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Run a short program to its end: no shell, a time limit, optionally as another user. Long ones are jobs (``_job``)."""

from __future__ import annotations

import dataclasses
import os
import pwd
import subprocess
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, DeadlineError, LifecycleError

# Programs answer in English whatever the host speaks: some answers are read.
BASE_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}


@dataclasses.dataclass(frozen=True)
class Done:
    """How a program ended. ``out`` and ``err`` are text, unscrubbed; negative ``rc`` is the signal that ended it."""

    rc: int
    out: str
    err: str
    seconds: float


def identity(user: str) -> dict[str, t.Any]:
    """What subprocess needs to become ``user`` (nothing when that is who we are). Raises BadInputError."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise BadInputError("The user %s does not exist on this host." % user, "input.user") from None
    if entry.pw_uid == os.geteuid():
        return {}
    groups = os.getgrouplist(user, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}


def run(
    argv: t.Sequence[str],
    timeout_s: float,
    user: str = "",
    env: t.Mapping[str, str] | None = None,
    stdin: str = "",
    folder: str = "/",
) -> Done:
    """Run ``argv`` in ``folder`` and wait for at most ``timeout_s`` seconds; then its whole process group is killed (DeadlineError)."""
    begun = time.monotonic()
    become = identity(user) if user else {}
    try:
        # run_command of AnsibleModule has no time limit.
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=dict(BASE_ENV, **(env or {})),
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            **become,
        )
    except OSError as exc:
        raise LifecycleError("%s cannot be started: %s." % (argv[0], exc.strerror), "command.start") from exc
    try:
        out, err = process.communicate(stdin, timeout=max(timeout_s, 0.1))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        raise DeadlineError(
            "%s did not end within %.0f s and was killed." % (" ".join(argv[:4]), timeout_s), "command.deadline"
        ) from None
    return Done(process.returncode, out, err, time.monotonic() - begun)

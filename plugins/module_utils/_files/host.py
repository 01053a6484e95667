# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The user and the unit of a service on this host: seen, made, and taken away."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _systemd
from ansible_collections.osops.lifecycle.plugins.module_utils._command import run
from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import DeadlineError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._files.disk import gid_of
from ansible_collections.osops.lifecycle.plugins.module_utils._files.model import User
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import scrub
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

# Stands in the comment field of every user that we make: it says so even when we were killed right after.
MADE_BY = "osops.lifecycle"
MADE_IN_A_GROUP = "osops.lifecycle in a group that was there"
_PROC = "/proc"


def user_exists(name: str) -> bool:
    return _account(name) is not None


def user_is_ours(name: str) -> bool:
    account = _account(name)
    return account is not None and account.pw_gecos in (MADE_BY, MADE_IN_A_GROUP)


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def make_user(user: User) -> None:
    """Make the system user when it is missing. Its home is not made: folders are named one by one."""
    if user_exists(user.name):
        return
    shell = next((path for path in ("/usr/sbin/nologin", "/sbin/nologin") if os.path.exists(path)), "/bin/false")
    new = gid_of(user.name) is None
    group = ["--user-group", "--comment", MADE_BY] if new else ["--gid", user.name, "--comment", MADE_IN_A_GROUP]
    argv = ["useradd", "--system", *group, "--home-dir", user.home, "--no-create-home", "--shell", shell]
    done = run([*argv, "--", user.name], 60.0)
    if not user_exists(user.name):
        raise LifecycleError(
            "useradd could not make the user %s: %s" % (user.name, scrub(done.err.strip())), "files.user", "Make it by hand."
        )


def processes_of(name: str) -> list[int]:
    """Processes that run as the user, by any of their four user ids.

    Those in containers have a root of their own, and there the number is another user's.
    """
    account = _account(name)
    found = []
    for pid in os.listdir(_PROC) if account else []:
        if pid.isdigit() and account:
            with contextlib.suppress(OSError), open("%s/%s/status" % (_PROC, pid), encoding="utf-8", errors="replace") as handle:
                ids = re.search(r"(?m)^Uid:\s+(.*)$", handle.read())
                if ids and str(account.pw_uid) in ids.group(1).split() and os.path.samefile("%s/%s/root" % (_PROC, pid), "/"):
                    found.append(int(pid))
    return sorted(found)


def remove_user(name: str) -> None:
    """Remove a user of ours, and its group unless that was there before it."""
    account = _account(name)
    if account is not None and account.pw_gecos == MADE_IN_A_GROUP:
        # userdel takes a group of the user's name with it, but only while it is the user's first group.
        run(["usermod", "--gid", str(pwd.getpwnam("nobody").pw_gid), "--", name], 60.0)
        if _account(name) == account:
            raise LifecycleError(
                "The group %s was there before the user, and usermod could not part them." % name, "files.user",
                "Remove the user by hand, and keep the group.",
            )  # fmt: skip
    done = run(["userdel", "--", name], 60.0)
    if user_exists(name):
        raise LifecycleError(
            "userdel could not remove the user %s: %s" % (name, scrub(done.err.strip())), "files.user", "Remove it by hand."
        )


# Units.


def _systemctl(*arguments: str) -> tuple[int, str, str]:
    done = run(["systemctl", "--no-ask-password", *arguments], 60.0)
    return done.rc, done.out.strip(), done.err.strip()


def unit_word(unit: str, there: bool) -> str:
    """enabled, disabled or missing; ``there``: its file is there."""
    if not unit or not there:
        return "missing"
    _rc, said, err = _systemctl("is-enabled", "--", unit)
    if not said:
        raise LifecycleError("systemd does not say whether %s is enabled: %s" % (unit, err), "systemd.unreachable")
    return "enabled" if said == "enabled" else "disabled"


def needs_reload(unit: str) -> bool:
    """True when systemd has read another file than the one that is there now."""
    return _systemctl("show", "--property=NeedDaemonReload", "--value", "--", unit)[1] == "yes"


def reload() -> None:
    rc, _out, err = _systemctl("daemon-reload")
    if rc != 0:
        raise LifecycleError("systemctl daemon-reload failed: %s" % scrub(err), "systemd.reload", "See the journal of this host.")


def enable(unit: str) -> None:
    rc, _out, err = _systemctl("enable", "--", unit)
    if rc != 0:
        raise LifecycleError(
            "systemctl enable %s failed: %s" % (unit, scrub(err)), "systemd.enable", "See systemctl status %s." % unit
        )


def cgroup_processes(unit: str) -> list[int]:
    return _systemd.processes_of(_systemd.show(unit).cgroup)


def retire(unit: str, deadline: Deadline) -> None:
    """Stop the unit, prove that no process of it is left, and disable it."""
    seen = _systemd.show(unit)
    if not seen.stopped:
        _systemd.order("stop", unit)
    ended = wait(lambda: _systemd.show(unit), lambda now: now.stopped, deadline.remaining(), poll_s=0.2)
    cgroup = seen.cgroup or _cgroup_of_stopped(unit)
    gone = wait(lambda: _systemd.processes_of(cgroup), lambda pids: not pids, min(2.0, deadline.remaining()))
    if not ended.reached or not gone.reached:
        raise DeadlineError(
            "%s was asked to stop and is %s, with process %s."
            % (unit, ended.last.active, ", ".join(map(str, gone.last)) or "unknown"),
            "files.unit_stop",
            "No file was removed. Look why it does not end, or allow it more time (deadline).",
        )
    if seen.exists:
        rc, _out, err = _systemctl("disable", "--", unit)
        if rc != 0:
            raise LifecycleError("systemctl disable %s failed: %s" % (unit, scrub(err)), "systemd.disable")
        _systemd.forget_failure(unit)


def _cgroup_of_stopped(unit: str) -> str:
    """Where processes would be that a unit has left behind: once stopped, it does not name its control group any more."""
    slice_name = _systemctl("show", "--property=Slice", "--value", "--", unit)[1] or "system.slice"
    return _systemctl("show", "--property=ControlGroup", "--value", "--", slice_name)[1].rstrip("/") + "/" + unit


def still_running(name: str, besides: t.Container[int]) -> list[int]:
    return [pid for pid in processes_of(name) if pid not in besides]

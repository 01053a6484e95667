# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The few things that hands ask of systemd, and what its answers mean."""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._command import Done, run
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import scrub, tail

_UNIT = re.compile(r"^[A-Za-z0-9:_.\\@-]{1,240}\.(service|scope)$")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|min|h|d|w|month|y)")
_SECONDS = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
    "month": 2629800.0,
    "y": 31557600.0,
}
_PROPERTIES = (
    "LoadState,ActiveState,SubState,Result,NRestarts,MainPID,ExecStart,User,TimeoutStopUSec,ControlGroup,"
    "FragmentPath,DropInPaths,NeedDaemonReload,Transient"
)


def seconds_of(span: str) -> float:
    """Seconds of a time span as ``systemctl show`` writes it (``1min 30s``); infinity is infinity."""
    return float("inf") if span == "infinity" else sum(float(number) * _SECONDS[unit] for number, unit in _SPAN.findall(span))


@dataclasses.dataclass(frozen=True)
class Unit:
    """What systemd says of one unit now."""

    name: str
    load: str
    active: str
    sub: str
    result: str
    restarts: int
    main_pid: int
    user: str
    stop_timeout_s: float
    starts: tuple[str, ...]
    cgroup: str
    fragment: str = ""
    drop_ins: tuple[str, ...] = ()
    needs_reload: bool = False
    transient: bool = False

    @property
    def exists(self) -> bool:
        return self.load not in ("not-found", "")

    @property
    def stopped(self) -> bool:
        return self.active in ("inactive", "failed")

    def facts(self) -> dict[str, t.Any]:
        """What an answer shows of it. An unlimited stop timeout is null: JSON has no infinity."""
        timeout = None if self.stop_timeout_s == float("inf") else self.stop_timeout_s
        return {
            "name": self.name,
            "exists": self.exists,
            "active": self.active,
            "sub": self.sub,
            "user": self.user or "root",
            "stop_timeout_s": timeout,
        }


def _systemctl(arguments: t.Sequence[str], timeout_s: float = 30.0) -> Done:
    return run(["systemctl", "--no-ask-password", *arguments], timeout_s)


def parse_show(name: str, text: str) -> Unit:
    """Read ``systemctl show``. ExecStart may come several times, one line each."""
    values: dict[str, str] = {}
    starts = []
    for line in text.splitlines():
        key, sign, value = line.partition("=")
        if key == "ExecStart" and sign:
            starts.append(value)
        elif sign:
            values[key] = value
    if "ActiveState" not in values:
        raise LifecycleError("systemd does not say how %s is." % name, "unknown_answer", evidence={"answer": tail(text, 5)})
    return Unit(
        name=name,
        load=values.get("LoadState", ""),
        active=values["ActiveState"],
        sub=values.get("SubState", ""),
        result=values.get("Result", ""),
        restarts=int(values.get("NRestarts") or 0),
        main_pid=int(values.get("MainPID") or 0),
        user=values.get("User", ""),
        stop_timeout_s=seconds_of(values.get("TimeoutStopUSec", "infinity")),
        starts=tuple(starts),
        cgroup=values.get("ControlGroup", ""),
        fragment=values.get("FragmentPath", ""),
        drop_ins=tuple(values.get("DropInPaths", "").split()),
        needs_reload=values.get("NeedDaemonReload") == "yes",
        transient=values.get("Transient") == "yes",
    )


def check_name(name: str) -> str:
    """The unit name itself, or BadInputError: a name never reaches systemctl unchecked."""
    if not _UNIT.match(name):
        raise BadInputError(
            "%r is not the name of a service unit." % (name,), "input.unit", "It looks like keystone-api.service."
        )
    return name


def show(name: str) -> Unit:
    """How the unit is now. Raises LifecycleError when systemd cannot be asked."""
    done = _systemctl(["show", "--property=" + _PROPERTIES, "--", check_name(name)])
    if done.rc != 0:
        raise LifecycleError("systemd cannot be asked about %s: %s" % (name, done.err.strip()), "systemd.unreachable")
    return parse_show(name, done.out)


def order(verb: str, name: str) -> None:
    """Queue ``start`` or ``stop`` and return at once; the caller waits with a deadline of its own."""
    done = _systemctl([verb, "--no-block", "--", check_name(name)])
    if done.rc != 0:
        raise LifecycleError(
            "systemctl %s %s failed: %s" % (verb, name, scrub(done.err.strip())),
            "systemd.%s" % verb,
            "See systemctl status %s." % name,
        )


def kill(name: str) -> None:
    """SIGKILL to everything that the unit has started."""
    done = _systemctl(["kill", "--signal=SIGKILL", "--", check_name(name)])
    if done.rc != 0 and not show(name).stopped:
        raise LifecycleError("systemctl kill %s failed: %s" % (name, scrub(done.err.strip())), "systemd.kill")


def reload(timeout_s: float = 90.0) -> None:
    """Let systemd read its files again. What somebody else left changed on disk counts from then on, too."""
    done = _systemctl(["daemon-reload"], max(timeout_s, 30.0))
    if done.rc != 0:
        raise LifecycleError("systemctl daemon-reload failed: %s" % scrub(done.err.strip()), "systemd.reload")


def forget_failure(name: str) -> None:
    """Clear the failed state and the start limit, which would refuse the next start. Nothing to clear is fine."""
    _systemctl(["reset-failed", "--", check_name(name)])


def journal(name: str, since: float, lines: int = 20, secrets: t.Iterable[str] = ()) -> list[str]:
    """The last journal lines of the unit since ``since`` (wall clock), scrubbed."""
    done = run(
        [
            "journalctl",
            "--unit",
            check_name(name),
            "--lines",
            str(lines),
            "--no-pager",
            "--output",
            "short-iso",
            "--since",
            "@%d" % since,
        ],
        30.0,
    )
    return tail(scrub(done.out, secrets), lines)


def processes_of(cgroup: str, root: str = "/sys/fs/cgroup") -> list[int]:
    """Every process below a control group, in whichever hierarchy this host has it (v2, hybrid, v1)."""
    pids: set[int] = set()
    if not cgroup or cgroup == "/":
        return []
    for mount in (root, os.path.join(root, "systemd"), os.path.join(root, "unified")):
        for folder, _folders, files in os.walk(mount + cgroup):
            if "cgroup.procs" in files:
                with open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as handle:
                    pids.update(int(line) for line in handle if line.strip())
    return sorted(pids)

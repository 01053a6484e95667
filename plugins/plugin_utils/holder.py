# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who holds a run: a process on a node, named so that it can be proven gone."""

from __future__ import annotations

import os
import pathlib
import socket
import typing as t


def describe(pid: int) -> dict[str, t.Any]:
    """Node, boot, pid and start time of a process; the start time tells it from a later one with the same number."""
    return {
        "node": socket.gethostname(),
        "machine": _machine(),
        "space": _space(),
        "boot": _boot(),
        "pid": pid,
        "start": _start(pid),
    }


def current() -> dict[str, t.Any]:
    return describe(os.getpid())


def gone(holder: t.Mapping[str, t.Any]) -> bool | None:
    """True when the process is proven gone, False when it lives, None when this node cannot tell."""
    if holder.get("node") != socket.gethostname() or holder.get("machine") != _machine():
        return None
    if holder.get("boot") != _boot():
        return True
    if holder.get("space") != _space():
        return None
    start = _start(int(holder.get("pid") or 0))
    return start == "" or start != holder.get("start")


def _machine() -> str:
    """A name alone is not enough: cloned machines share theirs, and many are called localhost."""
    try:
        return pathlib.Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _space() -> int:
    """Process numbers mean something within one PID namespace only; containers of one host share its boot."""
    return os.stat("/proc/self/ns/pid").st_ino


def _boot() -> str:
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _start(pid: int) -> str:
    try:
        stat = pathlib.Path("/proc/%d/stat" % pid).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in ("Z", "X") else fields[18]

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Everything that can be seen of one HAProxy without changing anything, at any level of its socket."""

from __future__ import annotations

import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.balancer import Balancer, describe
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import Old, Scope
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.rules import HEALTHY, capacity, health


def inspect(balancer: Balancer, backends: t.Collection[str] = ()) -> dict[str, t.Any]:
    """Return version, level, workers, backends and servers. Old workers that cannot be seen are said to be unknown, with the reason."""
    with balancer.open() as talk:
        worker = balancer.look(talk)
        level = balancer.level(talk)
        chosen = [server for server in worker.servers if not backends or server.state.backend in backends]
        old: list[Old] = []
        old_workers: dict[str, t.Any]
        try:
            seen = balancer.find_old_workers(talk, worker)
            old = balancer.old(talk, worker, Scope(frozenset(server.endpoint for server in chosen)))
            old_workers = {"seen_by": seen.kind, "pids": [left.pid for left in old], "unknown": ""}
        except LifecycleError as exc:
            old_workers = {"seen_by": "", "pids": [], "unknown": "%s %s" % (exc.msg, exc.hint)}
    available = capacity(worker.servers, ())
    by_key = worker.by_key
    found: dict[str, dict[str, int]] = {}
    for server in chosen:
        counts = found.setdefault(
            server.state.backend, {"servers": 0, "healthy": 0, "available": available[server.state.backend], "sessions": 0}
        )
        counts["servers"] += 1
        counts["healthy"] += health(server, by_key) in HEALTHY
        counts["sessions"] += server.stat.sessions + server.stat.queued
    return {
        "version": worker.version,
        "level": level,
        "worker": worker.pid,
        "uptime": worker.uptime_s,
        "old_workers": old_workers,
        "backends": found,
        "servers": describe(chosen, worker, old),
    }

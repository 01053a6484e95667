# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Say which sessions kept a drain from ending, and what can be done about them."""

from __future__ import annotations

import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.balancer import Balancer
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import Old, Scope, Server, Session
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.parse import parse_sessions


def left_over(
    balancer: Balancer,
    targets: t.Sequence[Server],
    scope: Scope,
    old: t.Sequence[Old],
    returned: t.Mapping[str, int],
    elapsed_s: float,
    policy: str,
) -> LifecycleError:
    """Look at the sessions one by one and return the error that names them. ``drain.tunnel_open`` when all are tunnels."""
    keys = {server.key for server in targets}
    with balancer.open() as talk:
        here = [session for session in parse_sessions(talk.ask("show sess")) if session.key in keys]
    parts = [_say(key, [session for session in here if session.key == key]) for key in sorted({session.key for session in here})]
    parts += ["%s has %d queued requests" % (server.key, server.stat.queued) for server in targets if server.stat.queued]
    known, unseen = list(here), 0
    for worker in old:
        count = sum(worker.sessions.values())
        if not count:
            continue
        sessions = balancer.old_workers.sessions(worker.pid, scope) if balancer.old_workers else []
        known += sessions
        unseen += 0 if sessions else count
        parts.append(
            _say("old worker %d" % worker.pid, sessions)
            if sessions
            else "old worker %d holds %d connections" % (worker.pid, count)
        )
    came = sum(returned.values())
    if came:
        parts.append("%d new sessions came since the drain, because a cookie or stick table brings known clients back" % came)
    tunnels = bool(known) and not unseen and not came and all(session.tunnel for session in known)
    reason = "After %.1f s sessions are left: %s." % (elapsed_s, "; ".join(parts) or "they ended while this was written")
    return LifecycleError(
        reason + " What this call drained was put back.",
        "drain.tunnel_open" if tunnels else "drain.sessions_left",
        _hint(policy, bool(tunnels), bool(came), bool(unseen)),
        {"sessions": len(known) + unseen, "tunnels": sum(session.tunnel for session in known), "returned": dict(returned)},
    )


def _say(where: str, sessions: t.Sequence[Session]) -> str:
    tunnels = [session.age for session in sessions if session.tunnel]
    requests = len(sessions) - len(tunnels)
    words = []
    if tunnels:
        words.append("%d tunnel%s (websocket or TCP, oldest %s)" % (len(tunnels), "s"[: len(tunnels) - 1], tunnels[0]))
    if requests:
        words.append("%d request%s in progress" % (requests, "s"[: requests - 1]))
    return "%s has %s" % (where, " and ".join(words))


def _hint(policy: str, tunnels: bool, came: bool, unseen: bool) -> str:
    if unseen and policy == "shutdown":
        return "Sessions of an old worker can only be ended through HAProxy's master socket (-S); this HAProxy has none. Wait longer."
    if came:
        return "A drain cannot keep these clients away. Use policy shutdown (with `option redispatch` they move on), or remove the persistence."
    if tunnels:
        return "A tunnel ends when its client leaves, or at HAProxy's `timeout tunnel`. Give a longer deadline, or policy shutdown to end it."
    return "Give a longer deadline, or policy shutdown to end them."

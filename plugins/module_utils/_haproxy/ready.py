# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Put servers back into traffic, each to what it was, but none that has not passed its health check."""

from __future__ import annotations

import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import ForeignChangeError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import Conversation
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import (
    DNS_MAINT,
    FORCED_DRAIN,
    FORCED_MAINT,
    INHERITED_DRAIN,
    INHERITED_MAINT,
    Server,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.reach import Endpoint, has_address, refusals
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.rules import (
    HEALTHY,
    UNCHECKED,
    commands,
    health,
    servers_are,
    word,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.traffic import PASSING, Stable, Traffic
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait


class Ready(Traffic):
    """state: ready.

    A drained server is health-checked all the time, so its health is known before it gets traffic. One in maintenance is not
    checked; it is drained first. Going from maintenance straight to ready would send traffic to a dead server until its check
    had failed several times. And before a drain is taken away, the server itself must accept a connection: after a restart
    HAProxy may still say what it saw before.
    """

    def __init__(self, *args: t.Any) -> None:
        super().__init__(*args)
        self._from_maint: Stable = {}
        self._admitted: set[str] = set()
        self._error: LifecycleError | None = None
        self._refusals: dict[Endpoint, str] = {}
        self._untried: set[str] = set()

    def wanted(self, server: Server) -> dict[str, int]:
        return {"admin": 0, "weight": server.state.initial_weight, **self.request.restore.get(server.key, {})}

    def predict(self, talk: Conversation) -> Verdict:
        return Verdict("pass", "ready.possible", "%s put back as soon as healthy." % servers_are(len(self.targets)))

    def begin(self, talk: Conversation) -> None:
        """Nothing: each poll decides and sets in one conversation."""

    def act(self) -> Verdict:
        waited = wait(
            self._step, lambda waiting: not waiting and self._error is None, self.left_s, self._hopeless, poll_s=self.poll_s
        )
        if not waited.reached:
            if self._error is not None:
                raise self._error
            raise LifecycleError(
                "After %.1f s these servers are not ready: %s." % (self.elapsed_s, "; ".join(waited.last.values())),
                "ready.inherited" if waited.failed else "ready.unhealthy",
                "This call gave traffic to healthy servers only. Look at the service, and at `show stat` of HAProxy.",
                {"waiting": waited.last},
            )
        notes = [self._why(server) for server in self.targets if server.out and self.wanted(server)["admin"] == 0]
        kept = {server.key: self.wanted(server)["admin"] for server in self.targets}
        notes += ["%s stays %s, as restore says." % (key, word(admin)) for key, admin in kept.items() if admin]
        notes += ["%s was not tried from here: it has no address of its own." % key for key in sorted(self._untried)]
        unchecked = [server.key for server in self.targets if health(server, self.current.by_key) == UNCHECKED]
        return Verdict(
            "pass",
            "ready.done",
            " ".join(["%s as wanted." % servers_are(len(self.targets)), *notes]),
            evidence={"unchecked": unchecked} if unchecked else {},
        )

    def _step(self) -> dict[str, str]:
        """Look at all, put back those that may be; return what the others wait for. A fresh connection sees the newest worker."""
        try:
            with self.balancer.open() as talk:
                self.look(talk)
                self._try_out()
                waiting = {}
                steps = []
                for server in self.targets:
                    target, reason = self._next(server)
                    if reason:
                        waiting[server.key] = reason
                    steps += commands(server, target)
                for command in steps:
                    talk.do(command)
                if steps:
                    self.settle_down(talk)
        except LifecycleError as exc:
            if exc.code not in PASSING:
                raise
            self._error = exc
            return {}
        self._error = None
        self.after = {server.key: server.stable for server in self.targets}
        return waiting

    def _try_out(self) -> None:
        """Connect to the servers whose drain is about to be taken away."""
        by_key = self.current.by_key
        due = [s for s in self.targets if s.drained and not self.wanted(s)["admin"] and health(s, by_key) in HEALTHY]
        self._untried.update(server.key for server in due if not has_address(server))
        self._refusals = refusals([server.endpoint for server in due if has_address(server)])

    def _next(self, server: Server) -> tuple[dict[str, int], str]:
        """Decide for one server: what to set now, and why it is not done yet (empty when a fresh look found it done)."""
        key, want = server.key, self.wanted(server)
        if (
            server.forced == FORCED_MAINT
            and want["admin"] != FORCED_MAINT
            and (key in self._admitted or key in self._from_maint or self.before.get(key, server.stable)["admin"] != FORCED_MAINT)
        ):
            raise ForeignChangeError("Somebody else has put %s into maintenance." % key, hint="It was left in maintenance.")
        inherited_as_found = server.out and not server.forced and key in self.request.restore
        healthy = health(server, self.current.by_key) in HEALTHY and not (server.out and not server.forced)
        if want["admin"] or healthy or inherited_as_found:
            if server.forced == FORCED_MAINT and not want["admin"]:
                return self._checked(server)
            if server.drained and not want["admin"] and server.endpoint in self._refusals:
                why = self._refusals[server.endpoint]
                return {}, "%s is %s for HAProxy, but takes no connection (%s)" % (key, server.stat.status, why)
            if key in self._admitted and commands(server, want):
                self.mended.add(key)
            self._admitted.add(key)
            return want, "%s is being put back" % key if commands(server, want) else ""
        if server.forced == FORCED_MAINT:
            return self._checked(server)
        if not server.forced and key in self.lost and key not in self._admitted:
            self.mended.add(key)
            return {"admin": FORCED_DRAIN}, self._why(server)
        return {}, self._why(server)

    def _checked(self, server: Server) -> tuple[dict[str, int], str]:
        """Take a server from maintenance into drain, so that its check runs."""
        self._from_maint[server.key] = server.stable
        return {"admin": FORCED_DRAIN}, "%s was in maintenance and is being checked" % server.key

    def _why(self, server: Server) -> str:
        if server.state.admin & (INHERITED_MAINT | INHERITED_DRAIN):
            what = "in maintenance" if server.state.admin & INHERITED_MAINT else "drained"
            return "%s follows %s, which is %s; only that one can be set." % (server.key, server.stat.tracked, what)
        if server.state.admin & DNS_MAINT:
            return "%s is in maintenance because its name %s does not resolve; that cannot be set." % (
                server.key,
                server.state.fqdn,
            )
        return "%s is %s (%s)" % (server.key, server.stat.status, server.stat.check_status or "no check")

    def _hopeless(self, waiting: t.Mapping[str, str]) -> str:
        """Waiting cannot help a server that follows one which this call does not set."""
        ours = {server.key for server in self.targets}
        stuck = [
            s
            for s in self.targets
            if s.key in waiting and s.state.admin & (INHERITED_MAINT | INHERITED_DRAIN) and s.stat.tracked not in ours
        ]
        return self._why(stuck[0]) if stuck else ""

    def undo(self, cause: BaseException) -> None:
        """What came out of maintenance and did not become healthy goes back there."""
        undo = {key: found for key, found in self._from_maint.items() if key not in self._admitted}
        if not undo:
            return
        with self.balancer.open() as talk:
            self.look(talk)
            for key, found in undo.items():
                server = self.current.by_key.get(key)
                if server is not None and server.forced == FORCED_DRAIN:
                    for command in commands(server, {"admin": found["admin"]}):
                        talk.do(command)
            self.settle_down(talk)

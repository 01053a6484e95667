# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Put servers back into traffic, each to what it was, but none that is not healthy."""

from __future__ import annotations

import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import ForeignChangeError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.reach import refusals
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.address import place
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.model import DOWN, DRAIN, HTTP, Server
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.rules import (
    HEALTHY,
    UNCHECKED,
    health,
    patch,
    servers_are,
    word,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.traffic import PASSING, Traffic
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

Wish = t.Optional[dict[str, int]]


class Ready(Traffic):
    """state: ready.

    The server itself must accept a connection before it gets traffic: after a restart nginx may still say what it saw before. One of
    an http upstream that is down is set draining first, so that its health checks run before clients come. One of a stream upstream
    knows nothing between down and up; it is set down again when nginx does not find it up.
    """

    def __init__(self, *args: t.Any) -> None:
        super().__init__(*args)
        self._admitted: set[str] = set()
        self._proven: set[str] = set()
        self._error: LifecycleError | None = None
        self._refusals: dict[tuple[str, int], str] = {}

    def wanted(self, server: Server) -> dict[str, int]:
        """The weight is left alone unless it is told: what the configuration says cannot be asked."""
        return {"admin": 0, **self.request.restore.get(server.key, {})}

    def predict(self) -> Verdict:
        return Verdict("pass", "ready.possible", "%s put back as soon as healthy." % servers_are(len(self.targets)))

    def act(self) -> Verdict:
        taken = {s.key: s.admin for s in self.targets if s.admin and not self.wanted(s)["admin"]}
        waited = wait(self._step, lambda waiting: not waiting and self._error is None, self.left_s, poll_s=self.poll_s)
        if not waited.reached:
            if self._error is not None:
                raise self._error
            raise LifecycleError(
                "After %.1f s these servers are not ready: %s." % (self.elapsed_s, "; ".join(waited.last.values())),
                "ready.unhealthy",
                "This call leaves traffic to healthy servers only. Look at the service, and at the dashboard of NGINX Plus.",
                {"waiting": waited.last},
            )
        kept = {server.key: self.wanted(server)["admin"] for server in self.targets}
        notes = ["%s stays %s, as restore says." % (key, word(admin)) for key, admin in kept.items() if admin]
        unchecked = [s.key for s in self.targets if not kept[s.key] and health(s) == UNCHECKED]
        return Verdict(
            "pass",
            "ready.done",
            " ".join(["%s as wanted." % servers_are(len(self.targets)), *notes]),
            evidence={name: found for name, found in (("unchecked", unchecked), ("were", taken)) if found},
        )

    def _step(self) -> dict[str, str]:
        """Look at all, put back those that may be; return what the others wait for."""
        try:
            self.look()
            self._try_out()
            waiting, changed = {}, False
            decided = [(server, *self._next(server)) for server in self.targets]
            for server, wish, reason in decided:
                if reason:
                    waiting[server.key] = reason
                changed = self.put(server, wish or {}) or changed
            if changed:
                self.look_after()
        except LifecycleError as exc:
            if exc.code not in PASSING:
                raise
            self._error = exc
            return {}
        self._error = None
        self.after = {server.key: server.stable for server in self.targets}
        return waiting

    def _try_out(self) -> None:
        """Connect to the servers that are about to get traffic, or have got it back from a reload before we said so."""
        due = [server for server in self.targets if server.admin or self._was_out(server)]
        places = {place(server.peer.address) for server in due if not self.wanted(server)["admin"]}
        self._refusals = refusals({found for found in places if found is not None})

    def _was_out(self, server: Server) -> bool:
        was = self.before.get(server.key, server.stable)["admin"]
        return server.key not in self._proven and (bool(was) or server.key in self.lost)

    def _next(self, server: Server) -> tuple[Wish, str]:
        """Decide for one server: what to set now, and why it is not done yet (empty when a fresh look found it done)."""
        want = self.wanted(server)
        if want["admin"]:
            return self._as_told(server, want)
        self._refuse_foreign(server)
        if server.admin:
            return self._admit(server, want)
        refused = self._refusals.get(place(server.peer.address) or ("", 0))
        if server.peer.state == "up" and health(server) in HEALTHY and not refused:
            if server.key in self._proven and patch(server, want):
                self.mended.add(server.key)
            if not patch(server, want):
                self._proven.add(server.key)
                self._admitted.add(server.key)
            return want, "%s is being put back" % server.key if patch(server, want) else ""
        if self._was_out(server) and server.key not in self._admitted:  # a reload has given it traffic
            self.mended.add(server.key)
            return {"admin": server.leave}, self._why(server)
        return None, self._why(server)

    def _as_told(self, server: Server, want: dict[str, int]) -> tuple[Wish, str]:
        """restore wants it out of traffic: that needs no health."""
        if patch(server, want):
            return want, "%s is being set %s" % (server.key, word(want["admin"]))
        self._proven.add(server.key)
        return None, ""

    def _refuse_foreign(self, server: Server) -> None:
        before = self.before.get(server.key, server.stable)["admin"]
        if server.kind == HTTP and server.admin & DOWN and (server.key in self.ours or not before & DOWN):
            raise ForeignChangeError("Somebody else has set %s down." % server.key, hint="It was left so.")

    def _admit(self, server: Server, want: dict[str, int]) -> tuple[Wish, str]:
        """It is out of traffic and shall be in: not before it is healthy and takes a connection."""
        refused = self._refusals.get(place(server.peer.address) or ("", 0))
        if refused:
            return None, "%s takes no connection (%s)" % (server.key, refused)
        if server.kind == HTTP and server.admin & DOWN:
            return {"admin": DRAIN}, "%s was down and is being checked" % server.key
        if server.kind == HTTP and health(server) not in HEALTHY:
            return None, self._why(server)
        if server.key in self._admitted:
            self.mended.add(server.key)
        self._admitted.add(server.key)
        return want, "%s is being put back" % server.key

    def _why(self, server: Server) -> str:
        checked = {None: "no health check", True: "its last health check passed", False: "its last health check failed"}
        return "%s is %s (%s)" % (server.key, server.peer.state, checked[server.peer.passed])

    def taken_back(self, server: Server, found: t.Mapping[str, int]) -> dict[str, int]:
        """What got traffic and was not found up, or came out of down and did not become healthy, goes back to what it was.

        No failure gives traffic: what a reload had put into it, and this call took out, stays out.
        """
        foreign = server.kind == HTTP and server.admin & DOWN and not found["admin"] & DOWN
        return {} if server.key in self._proven or foreign or not found["admin"] else dict(found)

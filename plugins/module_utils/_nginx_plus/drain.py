# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Take servers out of traffic, and prove that no session is left on them; or leave everything as it was."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import ForeignChangeError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.model import DOWN, HTTP, Server
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.rules import (
    HEALTHY,
    SERVING,
    servers_are,
    shortages,
    word,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.traffic import PASSING, Traffic
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

# How long to wait for an upstream whose health nginx has not decided yet (a reload starts all checks anew).
DECIDE_S = 10.0
# Clients that `sticky` has bound to a server may come back to it while it drains; whether there are any cannot be asked. A server of
# an http upstream is drained when none came for this long.
QUIET_S = 1.0


@dataclasses.dataclass(frozen=True)
class Progress:
    """One look at the sessions that are left: by server, on removed servers by upstream, on old workers by process.

    ``returned``: how many came after the drain.
    """

    left: dict[str, int]
    zombies: dict[str, int]
    old: dict[int, int]
    returned: dict[str, int]
    quiet: bool
    short: bool
    error: LifecycleError | None = None

    @property
    def empty(self) -> bool:
        return self.error is None and not self.left and not self.zombies and not self.old


class Drain(Traffic):
    """state: drain."""

    def __init__(self, *args: t.Any) -> None:
        super().__init__(*args)
        self._totals: dict[str, int] = {}
        self._returned: dict[str, int] = {}
        self._quiet_since = time.monotonic()
        self._quiet_s = min(QUIET_S, self.request.deadline_s / 4)

    def wanted(self, server: Server) -> dict[str, int]:
        """A server that an operator has set down is out of traffic, and stays as it is."""
        expected = (self.request.expect or {}).get(server.key, {}).get("admin", server.admin)
        kept = bool(server.admin & DOWN) and expected == server.admin
        return {"admin": server.admin if kept else server.leave}

    def predict(self) -> Verdict:
        """The floor, by the current health of the others. What nginx has not decided yet is waited for, not guessed."""

        def look_again() -> None:
            if self.elapsed_s > looked_s:
                self.look()

        looked_s = self.elapsed_s + self.poll_s / 2  # the first look is the one that the decision began with
        ended = wait(
            look_again,
            lambda _seen: not self._short(HEALTHY),
            min(DECIDE_S, self.left_s / 3),
            lambda _seen: self._floor(self._short(SERVING)),
            poll_s=self.poll_s,
        )
        short = self._short(HEALTHY)
        if not ended.reached:
            raise LifecycleError(
                self._floor(short),
                "drain.floor",
                "Nothing was drained. Bring the other servers up, or drain fewer at a time; the dashboard of NGINX Plus says why one is down.",
                {"left": short, "min_available": self.request.min_available},
            )
        return Verdict("pass", "drain.possible", "%s ready to be drained." % servers_are(len(self.targets)))

    def _floor(self, short: t.Mapping[str, int]) -> str:
        if not short:
            return ""
        parts = ["%s would have %d" % (upstream, count) for upstream, count in short.items()]
        return "Too few healthy servers would be left: %s, and min_available is %d." % (
            ", ".join(parts),
            self.request.min_available,
        )

    def _short(self, good: t.Collection[str]) -> dict[str, int]:
        return shortages(self.seen, {server.key for server in self.targets}, self.request.min_available, good)

    def _check_others(self) -> None:
        short = self._short(SERVING)
        if short:
            raise LifecycleError(
                "Another server failed during the drain. " + self._floor(short) + " What this call drained was put back.",
                "drain.floor",
                evidence={"left": short, "min_available": self.request.min_available},
            )

    def _set(self, servers: t.Sequence[Server]) -> None:
        """Drain, verify by a fresh look, and start counting newcomers."""
        reloads = self.reloads
        for server in servers:
            self.put(server, {"admin": server.leave})
        if servers:
            self.look_after()
        still = [server.key for server in self.targets if not server.admin]
        # What a reload has undone meanwhile is drained again by the next pass.
        if still and self.reloads == reloads:
            raise LifecycleError("NGINX Plus accepted the drain, but %s is not drained." % ", ".join(still), "drain.not_drained")
        self._count_anew()

    def _count_anew(self) -> None:
        self._totals = {server.key: server.peer.total for server in self.targets}
        self._quiet_since = time.monotonic()

    def _mend(self) -> None:
        """Drain again what a reload (or a hand) has put back since; respect a server that somebody has set down."""
        foreign = [
            s.key
            for s in self.targets
            if s.kind == HTTP and s.admin & DOWN and not self.before.get(s.key, s.stable)["admin"] & DOWN
        ]
        if foreign:
            raise ForeignChangeError(
                "Somebody else has set %s down during the drain." % ", ".join(foreign),
                hint="It was left so. Find out who did, then run this again.",
            )
        lost = [server for server in self.targets if not server.admin]
        if lost:
            self.mended.update(server.key for server in lost)
            self._check_others()
            self._set(lost)

    def _progress(self) -> Progress:
        reloads = self.reloads
        try:
            self.look()
            self._mend()
            self.old = self.balancer.old(self.seen)
        except LifecycleError as exc:
            if exc.code not in PASSING:
                raise
            return Progress({}, {}, {}, {}, False, False, exc)
        if self.reloads != reloads:  # counters of other processes
            self._count_anew()
        self.after = {server.key: server.stable for server in self.targets}
        for server in self.targets:
            new = server.peer.total - self._totals.get(server.key, server.peer.total)
            self._totals[server.key] = server.peer.total
            if new > 0:
                self._returned[server.key] = self._returned.get(server.key, 0) + new
                self._quiet_since = time.monotonic()
        sticky = any(server.kind == HTTP and not server.admin & DOWN for server in self.targets)
        return Progress(
            left={server.key: server.peer.active for server in self.targets if server.peer.active},
            zombies={group.label: group.zombies for group, _servers in self.seen.groups if group.zombies},
            old={pid: count for pid, count in (self.old or {}).items() if count},
            returned=dict(self._returned),
            quiet=not sticky or time.monotonic() - self._quiet_since >= self._quiet_s,
            short=bool(self._short(SERVING)),
        )

    def act(self) -> Verdict:
        self.mended.update(self.lost)
        self._set([server for server in self.targets if not server.admin])

        def hopeless(seen: Progress) -> str:
            if seen.short:
                return "drain.floor"
            left = seen.left or seen.zombies or seen.old or seen.returned
            return "drain.sessions_left" if self.request.policy == "fail" and left else ""

        waited = wait(
            self._progress,
            lambda seen: seen.empty and seen.quiet and not seen.short,
            self.left_s - min(1.0, self.left_s / 10),
            hopeless,
            poll_s=self.poll_s,
        )
        if waited.reached:
            return Verdict(
                "pass",
                "drain.done",
                "%s drained, and no session is left.%s%s" % (servers_are(len(self.targets)), self._note(), self.note_reloads()),
                evidence={"returned": waited.last.returned} if waited.last.returned else {},
            )
        if waited.last.error is not None:
            raise waited.last.error
        if waited.last.short:
            self._check_others()
        raise self._left_over(waited.last)

    def _left_over(self, seen: Progress) -> LifecycleError:
        """Say which sessions kept the drain from ending, and what can be done about them."""
        parts = ["%s has %d session%s" % (key, count, "s"[: count - 1]) for key, count in sorted(seen.left.items())]
        parts += [
            "%s removed from %s, and which is not shown, with sessions" % (servers_are(count), label)
            for label, count in sorted(seen.zombies.items())
        ]
        parts += ["old worker %d has %d session%s" % (pid, count, "s"[: count - 1]) for pid, count in sorted(seen.old.items())]
        came = sum(seen.returned.values())
        if came:
            parts.append("%d new request%s came since the drain, from clients that are bound to it" % (came, "s"[: came - 1]))
        hint = "Give a longer deadline. A websocket ends when its client leaves, or at `proxy_read_timeout`."
        if came and not (seen.left or seen.zombies or seen.old):
            hint = "A drain lets clients that `sticky` has bound come back. Set the server down by hand, which sends them elsewhere too."
        return LifecycleError(
            "After %.1f s sessions are left: %s. What this call drained was put back."
            % (self.elapsed_s, "; ".join(parts) or "they ended while this was written"),
            "drain.sessions_left",
            hint,
            {
                "sessions": sum(seen.left.values()) + sum(seen.old.values()),
                "zombies": seen.zombies,
                "returned": seen.returned,
            },
        )

    def _note(self) -> str:
        """Name those that somebody else had taken out before: `before` says so, and a ready that is given it leaves them out."""
        found = ["%s (%s)" % (key, word(was["admin"])) for key, was in sorted(self.before.items()) if was["admin"]]
        return " Out of traffic before this call: %s." % ", ".join(found) if found else ""

    def taken_back(self, server: Server, found: t.Mapping[str, int]) -> dict[str, int]:
        """Our own flag goes back to what it was; the other one, should somebody have set it since, stays."""
        return {"admin": (server.admin & ~server.leave) | (found["admin"] & server.leave)}

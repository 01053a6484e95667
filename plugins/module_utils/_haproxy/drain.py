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
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import Conversation
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.leftover import left_over
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import FORCED_DRAIN, FORCED_MAINT, Server
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.rules import (
    HEALTHY,
    UNDECIDED,
    commands,
    servers_are,
    shortages,
    word,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.traffic import PASSING, Stable, Traffic
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

# How long to wait for a backend whose health HAProxy has not decided yet (a reload starts all checks anew).
DECIDE_S = 10.0
# A server that known clients may come back to (cookie, stick table) is drained when none came for this long.
QUIET_S = 1.0
# While waiting, a single failed check of another server is no reason to give up; a server that is down is.
SERVING = (*HEALTHY, UNDECIDED)


@dataclasses.dataclass(frozen=True)
class Progress:
    """One look at the sessions that are left: by server, on old workers by process, and how many came after the drain."""

    left: dict[str, int]
    old: dict[int, int]
    returned: dict[str, int]
    quiet: bool
    short: bool
    error: LifecycleError | None = None

    @property
    def empty(self) -> bool:
        return self.error is None and not self.left and not self.old


class Drain(Traffic):
    """state: drain."""

    def __init__(self, *args: t.Any) -> None:
        super().__init__(*args)
        self._ours: Stable = {}  # what this call drained, as it was found
        self._totals: dict[str, int] = {}
        self._returned: dict[str, int] = {}
        self._quiet_since = time.monotonic()
        self._pid = 0
        self._tables = False

    def wanted(self, server: Server) -> dict[str, int]:
        """A server that an operator has put into maintenance is out of traffic, and stays as it is."""
        expected = (self.request.expect or {}).get(server.key, {}).get("admin", FORCED_MAINT)
        kept = server.forced == FORCED_MAINT and expected == FORCED_MAINT
        return {"admin": FORCED_MAINT if kept else FORCED_DRAIN}

    def predict(self, talk: Conversation) -> Verdict:
        """The floor, by the current health of the others. What HAProxy has not decided yet is waited for, not guessed."""

        def look_again() -> None:
            if self.elapsed_s > looked_s:
                self.look(talk)

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
                "Nothing was drained. Bring the other servers up, or drain fewer at a time; `show stat` of HAProxy says why one is down.",
                {"left": short, "min_available": self.request.min_available},
            )
        return Verdict("pass", "drain.possible", "%s ready to be drained." % servers_are(len(self.targets)))

    def _floor(self, short: t.Mapping[str, int]) -> str:
        if not short:
            return ""
        parts = ["%s would have %d" % (backend, count) for backend, count in short.items()]
        return "Too few healthy servers would be left: %s, and min_available is %d." % (
            ", ".join(parts),
            self.request.min_available,
        )

    def begin(self, talk: Conversation) -> None:
        self.mended.update(self.lost)
        self._tables = self.balancer.has_tables(talk)
        self._set(talk, [server for server in self.targets if server.forced not in (FORCED_DRAIN, FORCED_MAINT)])

    def _set(self, talk: Conversation, servers: t.Sequence[Server]) -> None:
        """Drain, verify by the admin mask, and start counting newcomers."""
        for server in servers:
            self._ours.setdefault(server.key, self.before.get(server.key, server.stable))
            for command in commands(server, {"admin": FORCED_DRAIN}):
                talk.do(command)
        if servers:
            self.settle_down(talk)
        still = [server.key for server in self.targets if not server.forced]
        if still:
            raise LifecycleError("HAProxy accepted the drain, but %s is not drained." % ", ".join(still), "drain.not_drained")
        self._totals = {server.key: server.stat.sessions_total for server in self.targets}
        self._pid = self.current.pid

    def _mend(self, talk: Conversation) -> None:
        """Drain again what a reload (or a hand) has put back since; respect a maintenance that somebody set."""
        lost = [server for server in self.targets if not server.drained and server.forced != self._found(server)]
        foreign = [server.key for server in lost if server.forced == FORCED_MAINT]
        if foreign:
            raise ForeignChangeError(
                "Somebody else has put %s into maintenance during the drain." % ", ".join(foreign),
                hint="It was left in maintenance. Find out who did, then run this again.",
            )
        lost = [server for server in self.targets if not server.forced]
        if lost:
            self.mended.update(server.key for server in lost)
            self._check_others()
            self._set(talk, lost)

    def _found(self, server: Server) -> int:
        return self.before.get(server.key, server.stable)["admin"]

    def _short(self, good: t.Collection[str]) -> dict[str, int]:
        keys = [server.key for server in self.targets]
        return shortages(self.current.servers, keys, self.request.min_available, good)

    def _check_others(self) -> None:
        short = self._short(SERVING)
        if short:
            raise LifecycleError(
                "Another server failed during the drain. " + self._floor(short) + " What this call drained was put back.",
                "drain.floor",
                evidence={"left": short, "min_available": self.request.min_available},
            )

    def _progress(self) -> Progress:
        try:
            with self.balancer.open() as talk:
                self.look(talk)
                if self.current.pid != self._pid:  # counters of another process
                    self._totals = {server.key: server.stat.sessions_total for server in self.targets}
                    self._pid = self.current.pid
                    self._tables = self.balancer.has_tables(talk)
                self._mend(talk)
                self.old = self.balancer.old(talk, self.current, self.scope)
        except LifecycleError as exc:
            if exc.code not in PASSING:
                raise
            return Progress({}, {}, {}, False, False, exc)
        self.after = {server.key: server.stable for server in self.targets}
        for server in self.targets:
            new = server.stat.sessions_total - self._totals.get(server.key, server.stat.sessions_total)
            if new:
                self._returned[server.key] = self._returned.get(server.key, 0) + new
                self._totals[server.key] = server.stat.sessions_total
                self._quiet_since = time.monotonic()
        comes_back = self._returned or self._tables or any(server.stat.cookie for server in self.targets)
        return Progress(
            left={s.key: s.stat.sessions + s.stat.queued for s in self.targets if s.stat.sessions + s.stat.queued},
            old={old.pid: sum(old.sessions.values()) for old in self.old if any(old.sessions.values())},
            returned=dict(self._returned),
            quiet=not comes_back or time.monotonic() - self._quiet_since >= QUIET_S,
            short=bool(self._short(SERVING)),
        )

    def act(self) -> Verdict:
        policy = self.request.policy
        reserve = min(5.0, self.left_s / 4) if policy == "shutdown" else min(1.0, self.left_s / 10)
        self._quiet_since = time.monotonic()

        def hopeless(seen: Progress) -> str:
            if seen.short:
                return "drain.floor"
            return "drain.sessions_left" if policy == "fail" and (seen.left or seen.old or seen.returned) else ""

        waited = wait(
            self._progress,
            lambda seen: seen.empty and seen.quiet and not seen.short,
            self.left_s - reserve,
            hopeless,
            poll_s=self.poll_s,
        )
        if waited.reached:
            return Verdict(
                "pass",
                "drain.done",
                "%s drained, and no session is left.%s" % (servers_are(len(self.targets)), self._note()),
                evidence=self._evidence(waited.last),
            )
        if waited.last.error is not None:
            raise waited.last.error
        if waited.last.short:
            self._check_others()
        if policy == "shutdown":
            return self._shut_down()
        raise left_over(self.balancer, self.targets, self.scope, self.old, waited.last.returned, self.elapsed_s, policy)

    def _shut_down(self) -> Verdict:
        """End what is left, again and again until one look finds nothing: a queue or a cookie may bring more."""
        ended: dict[str, int] = {}

        def cut() -> Progress:
            seen = self._progress()
            if seen.empty or seen.error is not None:
                return seen
            with self.balancer.open() as talk:
                for key, count in seen.left.items():
                    talk.do("shutdown sessions server %s" % key)
                    ended[key] = ended.get(key, 0) + count
                strategy = self.balancer.find_old_workers(talk, self.current)
                for pid, count in seen.old.items():
                    if strategy.end(pid, self.scope):
                        ended["old worker %d" % pid] = ended.get("old worker %d" % pid, 0) + count
            return seen

        waited = wait(cut, lambda seen: seen.empty, max(self.left_s - 0.5, 0.5), poll_s=self.poll_s)
        if waited.last.error is not None:
            raise waited.last.error
        if not waited.reached:
            raise left_over(
                self.balancer, self.targets, self.scope, self.old, waited.last.returned, self.elapsed_s, self.request.policy
            )
        return Verdict(
            "pass",
            "drain.shut_down",
            "%s drained; the sessions that had not ended by themselves were ended.%s"
            % (servers_are(len(self.targets)), self._note()),
            evidence=dict(self._evidence(waited.last), ended=ended),
        )

    def _note(self) -> str:
        """Name those that somebody else had taken out before: `before` says so, and a ready that is given it leaves them out."""
        found = ["%s (%s)" % (key, word(was["admin"])) for key, was in sorted(self.before.items()) if was["admin"]]
        return " Out of traffic before this call: %s." % ", ".join(found) if found else ""

    def _evidence(self, seen: Progress) -> dict[str, t.Any]:
        return {"returned": seen.returned} if seen.returned else {}

    def undo(self, cause: BaseException) -> None:
        """Put back what this call drained, and nothing else: a server that somebody has since put into maintenance stays there."""
        if not self._ours:
            return
        try:
            with self.balancer.open() as talk:
                self.look(talk)
                by_key = self.current.by_key
                for key, found in self._ours.items():
                    if key in by_key and by_key[key].forced == FORCED_DRAIN:
                        for command in commands(by_key[key], {"admin": found["admin"]}):
                            talk.do(command)
                self.settle_down(talk)
        except LifecycleError as exc:
            raise LifecycleError(
                "%s What was drained could not be put back: %s" % (cause, exc.msg),
                "drain.not_put_back",
                "These servers may still be drained: %s. Set them ready by hand when HAProxy answers again."
                % ", ".join(sorted(self._ours)),
            ) from exc

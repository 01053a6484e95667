# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Take servers out of traffic, and prove that nginx holds no connection to them; or leave everything as it was.

After the reload new workers know the servers as down. What is left is what old workers still do: they end the requests that they have,
and may open connections for these. So a server is drained when all of them are gone, or when none holds a connection to it for a while.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import ForeignChangeError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.processes import Proc, alive, family, processes
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.reload import HALF_DONE, UNCONFIRMED
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.rules import beside, servers_are, shortages
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.traffic import POLL_S, UNDO_S, Stable, Traffic
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.tree import read_tree, stamp
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.upstreams import (
    OUT,
    Direct,
    Server,
    directs,
    entries,
    group,
    lua_balancers,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

# How long a server that takes no connection is tried again before the floor is called short.
DECIDE_S = 2.0
# How often the other servers are tried while waiting. Short twice in a row is short.
FLOOR_S = 1.0
# Old workers that live on without a connection to the servers are looked at for this long, and so are all where not every way is seen.
QUIET_S = 1.0
# Requests that come by such a way may be short: so often, and at least so many times, however slow a look is on a busy host.
DENSE_S = 0.05
DENSE_LOOKS = 20
# Even policy fail gives old workers the moment that they need to end.
GRACE_S = 0.5


@dataclasses.dataclass(frozen=True)
class Progress:
    """One look: connections that old and current workers hold (by process), old workers that live, and what else counts."""

    old: dict[int, int]
    current: dict[int, int]
    alive: tuple[int, ...]
    quiet: bool
    short: bool
    error: LifecycleError | None = None

    @property
    def busy(self) -> bool:
        return bool(self.old or self.current)


class Drain(Traffic):
    """state: drain."""

    def __init__(self, *args: t.Any) -> None:
        super().__init__(*args)
        self._ours: Stable = {}  # what this call drained, as it was found
        self._stale: set[tuple[int, int]] = set()  # workers that have not loaded the drain
        self._narrow = False
        self._strict = False
        self._unseen: list[str] = []
        self._quiet_since = 0.0
        self._quiet_looks = 0
        self._probed = 0.0
        self._shorts = 0

    def wanted(self, server: Server) -> dict[str, int]:
        return {"admin": OUT}

    def predict(self) -> Verdict:
        """Refuse a way past the upstreams, and too few servers left. A single failed connection is tried again, not believed."""
        ways = directs(self.seen.tree, self.seen.upstreams)
        others, past = beside(self.targets, self.seen.servers, ways, self.names.resolve)
        if past and not self.request.backends:
            self._refuse_direct(past[0])
        # Then connections to the address prove nothing: other upstreams go on using it.
        self._narrow = bool(others or past)
        self._strict = self._narrow or any(not server.address.is_ip or server.first.dynamic for server in self.targets)
        unseen = [way.place for way in ways if way.address is None] + lua_balancers(self.seen.tree)
        self._unseen = [place.where for place in unseen][:5]
        left: dict[str, int] = {}

        def short() -> dict[str, int]:
            nonlocal left
            left = self._short()
            if left:
                self.probe()
                left = self._short()
            return left

        if not wait(short, lambda found: not found, min(DECIDE_S, self.left_s / 3), poll_s=POLL_S).reached:
            raise LifecycleError(
                self._floor(left),
                "drain.floor",
                "Nothing was drained. Bring the other servers up, or drain fewer at a time.",
                {"left": left, "min_available": self.request.min_available, "refused": dict(self.dead)},
            )
        return Verdict("pass", "drain.possible", "%s ready to be drained." % servers_are(len(self.targets)))

    def _refuse_direct(self, way: Direct) -> None:
        raise LifecycleError(
            "%s: %s sends requests straight to %s, past every upstream; a drain cannot keep them away."
            % (way.place.where, way.place.directive.name, way.address.text if way.address else "it"),
            "nginx.direct",
            "Put the server into an upstream and name that instead, or give backends: then only these upstreams are drained.",
        )

    def _short(self) -> dict[str, int]:
        return shortages(self.seen.servers, self.targets, self.request.min_available, self.dead)

    def _floor(self, short: t.Mapping[str, int]) -> str:
        parts = ["%s would have %d" % (upstream, count) for upstream, count in short.items()]
        return "Too few servers that take connections would be left: %s, and min_available is %d." % (
            ", ".join(parts),
            self.request.min_available,
        )

    def act(self) -> Verdict:
        self.look_again()
        self._ours = {
            server.key: dict(self.before[server.key]) for server in self.targets if not self.before[server.key]["admin"]
        }
        try:
            self.set(
                {server.key: self.wanted(server) for server in self.targets}, max(self.left_s - self.reserve_s, 2.0), ends=False
            )
        except LifecycleError as exc:
            if exc.code not in (UNCONFIRMED, HALF_DONE):  # then the files are as they were, and nginx was told nothing
                self._ours = {}
            raise
        self._stale = {worker.id for worker in self.seen.family.leaving}
        self._quiet_since = begun = time.monotonic()

        def hopeless(seen: Progress) -> str:
            if seen.short:
                return "drain.floor"
            left = seen.busy or (self._strict and seen.alive)
            impatient = self.request.policy == "fail" and time.monotonic() - begun >= GRACE_S
            return "drain.sessions_left" if impatient and left else ""

        poll_s = DENSE_S if self._doubtful else POLL_S
        waited = wait(self._progress, self._empty, max(self.left_s - self.reserve_s, 0.5), hopeless, poll_s=poll_s)
        if waited.reached:
            return self._done(
                "drain.done",
                "%s drained, and no connection of nginx to what was drained is left." % servers_are(len(self.targets)),
                waited.last,
            )
        if waited.last.error is not None:
            raise waited.last.error
        if waited.last.short:
            raise LifecycleError(
                "Another server failed during the drain. %s What this call drained was put back." % self._floor(self._short()),
                "drain.floor",
                evidence={"left": self._short(), "min_available": self.request.min_available},
            )
        if self.request.policy == "shutdown":
            return self._shut_down()
        raise self._left_over(waited.last)

    def _empty(self, seen: Progress) -> bool:
        if seen.error is not None or seen.current or seen.short:
            return False
        if self._doubtful and not seen.quiet:
            return False
        return not seen.alive or (not self._strict and not seen.old and seen.quiet)

    @property
    def _doubtful(self) -> bool:
        """New workers, too, may send requests to the servers, by a way that nobody can see in the configuration."""
        return bool(self._unseen) and not self._narrow

    def _progress(self) -> Progress:
        try:
            self._refresh()
        except LifecycleError as exc:
            if exc.code not in ("nginx.not_running", "nginx.no_workers"):
                raise
            return Progress({}, {}, (), False, False, exc)
        self.count()
        totals = {pid: sum(held.values()) for pid, held in self.held.items()}
        stale = {worker.pid for worker in self._stale_workers()}
        old = {pid: count for pid, count in totals.items() if pid in stale}
        current = {} if self._narrow else {pid: count for pid, count in totals.items() if pid not in stale}
        if old or current:
            self._quiet_since, self._quiet_looks = time.monotonic(), 0
        else:
            self._quiet_looks += 1
        if time.monotonic() - self._probed >= FLOOR_S:
            self.probe()
            self._probed = time.monotonic()
            self._shorts = self._shorts + 1 if self._short() else 0
        return Progress(
            old,
            current,
            tuple(sorted(stale)),
            time.monotonic() - self._quiet_since >= QUIET_S and (not self._doubtful or self._quiet_looks >= DENSE_LOOKS),
            self._shorts > 1,
        )

    def _stale_workers(self) -> list[Proc]:
        return [worker for worker in self.seen.family.workers if worker.id in self._stale]

    def _refresh(self) -> None:
        """See the processes anew; another master, or files that somebody else has changed, are looked at in full."""
        now = family(self.seen.family.master.pid, processes())
        if now is None or now.master.id != self.seen.family.master.id:
            self.look()
            self._stale = {worker.id for worker in self.seen.family.leaving}
            self._require_drained(self.seen.servers)
            return
        self._seen = dataclasses.replace(self.seen, family=now)
        self.family = now
        try:
            if all(stamp(source.path) == source.stamp for source in self.seen.tree.sources):
                return
            tree = read_tree(self.balancer.config)
        except (LifecycleError, OSError):  # somebody is writing: the next look sees more
            return
        servers = tuple(group(entries(tree)))
        self._require_drained(servers)
        self._seen = dataclasses.replace(self.seen, tree=tree, servers=servers)

    def _require_drained(self, servers: t.Iterable[Server]) -> None:
        """Somebody else's edit may have dropped the drain; a reload then gives the server traffic. Raises ForeignChangeError."""
        out = {server.key for server in servers if server.out}
        back = sorted(server.key for server in self.targets if server.key not in out)
        if back:
            raise ForeignChangeError(
                "Somebody else has put %s back into traffic, in the configuration, during the drain." % ", ".join(back),
                hint="It was left so. Find out who did, then run this again.",
            )

    def _shut_down(self) -> Verdict:
        """End old workers that hold connections to the servers, with all that they do for other servers: they cannot be asked for less."""
        ended: dict[str, int] = {}

        def cut() -> Progress:
            seen = self._progress()
            for worker in self._stale_workers():
                if worker.pid in seen.old and alive(worker):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker.pid, signal.SIGTERM)
                    ended.setdefault("old worker %d" % worker.pid, seen.old.get(worker.pid, 0))
            return seen

        waited = wait(cut, self._empty, max(self.left_s - 0.5, 1.5), poll_s=DENSE_S if self._doubtful else POLL_S)
        if waited.last.error is not None:
            raise waited.last.error
        if not waited.reached:
            raise self._left_over(waited.last)
        verdict = self._done(
            "drain.shut_down",
            "%s drained; old workers that still had connections to them were ended." % servers_are(len(self.targets)),
            waited.last,
        )
        return dataclasses.replace(verdict, evidence=dict(verdict.evidence, ended=ended))

    def _done(self, code: str, reason: str, seen: Progress) -> Verdict:
        evidence: dict[str, t.Any] = {}
        if seen.alive:
            evidence["old_workers"] = list(seen.alive)
            reason += " Old workers live on for other servers."
        if self._unseen:
            evidence["variables"] = self._unseen
        found = sorted(key for key, was in self.before.items() if was["admin"])
        if found:
            reason += " Out of traffic before this call: %s." % ", ".join(found)
        self.end_drain(list(self.before), max(self.left_s, 2.0))
        return Verdict("pass", code, reason, evidence=evidence)

    def _left_over(self, seen: Progress) -> LifecycleError:
        parts = [
            "old worker %d holds %d connection%s" % (pid, count, "s"[: count - 1]) for pid, count in sorted(seen.old.items())
        ]
        parts += ["old worker %d lives on" % pid for pid in seen.alive if self._strict and pid not in seen.old]
        parts += ["worker %d holds %d, by a way that this module does not see" % pair for pair in sorted(seen.current.items())]
        hint = "From outside, requests and websockets look alike. Give a longer deadline, or policy shutdown to end them."
        if seen.current or (self._doubtful and not seen.old):
            hint = "Look for a variable in a proxy_pass, or Lua code, that sends requests to the server: %s." % (
                ", ".join(self._unseen) or "none was found"
            )
        elif self._strict:
            if not seen.old:
                hint = "Give a longer deadline. They hold no connection to the servers, so policy shutdown does not end them."
            hint += " Other upstreams use the address too (or it is a name), so only the end of all old workers proves it."
        return LifecycleError(
            "After %.1f s connections are left: %s. What this call drained was put back."
            % (self.elapsed_s, "; ".join(parts) or "they ended while this was written"),
            "drain.sessions_left",
            hint,
            {"old_workers": _named(seen.old), "workers": _named(seen.current), "alive": list(seen.alive)},
        )

    def undo(self, cause: BaseException) -> None:
        """Put back what this call drained, and nothing else."""
        if not self._ours:
            return
        ours, self._ours = self._ours, {}
        try:
            self.look()
            here = {server.key for server in self.targets}
            self.set({key: {"admin": 0} for key in ours if key in here}, UNDO_S)
            self._diff = ""
        except (LifecycleError, OSError) as exc:
            hint = "In the configuration, the server lines of %s may still say `down`. Look at them, then reload nginx." % (
                ", ".join(sorted(ours))
            )
            if isinstance(
                cause, ForeignChangeError
            ):  # who it was must be found out first: that says more than what followed from it
                raise ForeignChangeError(
                    cause.msg,
                    cause.code,
                    "Find out who did. What was drained was not put back (%s) %s" % (exc, hint),
                    {**cause.evidence, "not_put_back": sorted(ours)},
                ) from exc
            raise LifecycleError(
                "%s What was drained could not be put back: %s" % (cause, exc.msg if isinstance(exc, LifecycleError) else exc),
                "drain.not_put_back",
                hint,
            ) from exc


def _named(counts: t.Mapping[int, int]) -> dict[str, int]:
    """Process numbers as JSON has them."""
    return {str(pid): count for pid, count in counts.items()}

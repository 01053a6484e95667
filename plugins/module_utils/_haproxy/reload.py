# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Reload HAProxy, and put back what others have set at run time: a reload forgets every drain and every weight."""

from __future__ import annotations

import csv
import dataclasses
import os
import re
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _systemd
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError, UnknownAnswerError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.balancer import Balancer
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import Conversation, ask_master
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import Scope, Worker
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.old import MasterSocket
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.rules import commands
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.traffic import PASSING
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

# HAProxy 2.6 now and then sleeps through a single USR2: ask again when nothing has happened for this long.
AGAIN_S = 3.0

# While HAProxy is being reloaded, an answer that is not understood is asked for again, until the deadline.
BUSY = PASSING | {"unknown_answer"}
# How long to look on where a second reload may still come: it would forget what was just put back.
STEADY_S = 1.0
# How long another reload may be under way when ours begins.
BUSY_S = 5.0

Kept = dict[str, dict[str, int]]
Right = t.Callable[[Conversation], bool]


class Order(t.Protocol):
    """How HAProxy is told to reload."""

    def check(self, master: int) -> None:
        """Refuse before anything is changed when this would reload something else than the process ``master``."""

    def __call__(self, timeout_s: float) -> None:
        """Tell it; it may still be busy with it on return."""

    def busy(self) -> bool:
        """True while a reload that was ordered has not come to HAProxy yet."""

    def words(self, since: float) -> list[str]:
        """What it has said since then (wall clock), scrubbed."""


class UnitOrder:
    """``systemctl reload``. Debian's unit checks the configuration first."""

    def __init__(self, unit: str) -> None:
        self.unit = _systemd.check_name(unit)

    def check(self, master: int) -> None:
        unit = _systemd.show(self.unit)
        if master != unit.main_pid and master not in _systemd.processes_of(unit.cgroup):
            raise BadInputError(
                "HAProxy's master (process %d) does not belong to %s, which is %s."
                % (master, self.unit, unit.active if unit.exists else "not there"),
                "haproxy.other_unit",
                "Give the unit that runs HAProxy as the option reload.",
            )

    def __call__(self, timeout_s: float) -> None:
        try:
            _systemd.order("reload", self.unit)  # not waited for: what counts is the new worker, as soon as it answers
        except LifecycleError as exc:
            raise LifecycleError(exc.msg, "haproxy.reload_failed", exc.hint) from exc

    def busy(self) -> bool:
        return _systemd.show(self.unit).active == "reloading"

    def words(self, since: float) -> list[str]:
        try:
            return [line for line in _systemd.journal(self.unit, since) if "ALERT" in line]
        except LifecycleError:  # only to tell more of a failure that is told anyway
            return []


def keep(worker: Worker) -> Kept:
    """Remember every server's mask and weight, and what the configuration says of them."""
    return {
        server.key: {
            "admin": server.forced,
            "weight": server.state.weight,
            "configured": server.configured,
            "initial": server.state.initial_weight,
        }
        for server in worker.servers
    }


def merge(older: Kept, worker: Worker) -> Kept:
    """What to keep when an act was cut: what is set now, and where nothing is set now, what was set before that act."""
    now = keep(worker)
    for key, was in older.items():
        here = now.get(key)
        if here and here["admin"] == here["configured"]:
            here["admin"] = was["admin"]
        if here and here["weight"] == here["initial"]:
            here["weight"] = was["weight"]
    return now


def lost(worker: Worker, kept: Kept, ours: t.Collection[str]) -> dict[str, list[str]]:
    """Return the commands that put back what is not as it was, by server.

    In backends of ours the configuration may have changed on purpose: there only what was set at run time comes back.
    """
    found = {}
    for server in worker.servers:
        was = kept.get(server.key)
        if was is None:
            continue
        own = server.state.backend in ours
        wanted = {
            name: was[name]
            for name, default in (("admin", "configured"), ("weight", "initial"))
            if not own or was[name] != was[default]
        }
        steps = commands(server, wanted)
        if steps:
            found[server.key] = steps
    return found


def proxies(text: str) -> dict[tuple[str, str], str]:
    """Read ``show stat -1 3 -1``: (FRONTEND or BACKEND, name) to status."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or not lines[0].startswith("# pxname,"):
        raise UnknownAnswerError("HAProxy's answer to `show stat` is not understood.", evidence={"answer": text[:400]})
    rows = csv.DictReader([lines[0][2:], *lines[1:]])
    return {(row["svname"], row["pxname"]): row["status"] for row in rows}


def marks(talk: Conversation, path: str, cwd: str) -> set[str]:
    """The digests of our file that the worker has read (see ``config_text``)."""
    found = set()
    for line in talk.ask("show acl").splitlines():
        match = re.match(r"(\d+) \(.*\) .*\bfile '(.+)' line \d+", line)
        if not match or os.path.basename(match.group(2)) != os.path.basename(path):
            continue
        folder = os.path.dirname(os.path.join(cwd, match.group(2)))
        if os.path.realpath(folder) == os.path.realpath(os.path.dirname(path)):
            found.update(re.findall(r"(?m)^0x[0-9a-f]+ ([0-9a-f]{32})$", talk.ask("show acl #%s" % match.group(1))))
    return found


@dataclasses.dataclass(frozen=True)
class _Seen:
    """One look during a reload."""

    done: bool = False
    former: bool = False
    failed: bool = False
    replaced: bool = False
    error: LifecycleError | None = None
    left: tuple[str, ...] = ()


class Reload:
    """Reloads, each measured: ``seconds`` from the last look that still saw the former worker until all was back and proven."""

    def __init__(self, balancer: Balancer, order: Order, kept: Kept, older: Kept | None, ours: t.Collection[str]) -> None:
        """``kept`` is what servers are set to, ``older`` what an act that was cut has seen; in the backends ``ours``, defaults may change."""
        self._doubt = older is not None  # its reload may still be under way
        self._put_at = 0.0
        self._balancer, self._order, self._kept, self._older, self._ours = balancer, order, kept, older, ours
        self._fresh = True
        self._since = 0.0
        self.seconds: list[float] = []
        self.put_back: set[str] = set()
        self._former: tuple[int, int] | None = None

    def run(self, deadline_s: float, right: Right) -> None:
        """Reload and put back. ``right`` knows a worker that has read what it shall. Raises LifecycleError when there is none."""
        start, wall = time.monotonic(), time.time()
        self._wait_idle(deadline_s)
        former = self._begin(min(deadline_s, BUSY_S))
        asked = self._since = time.monotonic()
        self._order(deadline_s)

        def look() -> _Seen:
            nonlocal asked
            begun = time.monotonic()
            seen = self._look(former, right)
            if seen.former:
                self._since = begun
            if not (seen.done or seen.failed or seen.left or seen.error) and time.monotonic() - asked > AGAIN_S:
                asked, self._doubt = time.monotonic(), True
                self._order(deadline_s)
            return seen

        left_s = deadline_s - (time.monotonic() - start)
        ended = wait(look, lambda seen: seen.done, left_s, lambda seen: "failed" if seen.failed else "", poll_s=0.02)
        if ended.reached:
            done = time.monotonic()
            self._stay(right, deadline_s)
            self.seconds.append(round(max(done, self._put_at) - self._since, 3))
            self._doubt = True  # whatever is reloaded after this takes something back
            return
        self._doubt = True
        if ended.last.error is not None:
            raise ended.last.error
        if ended.last.left:
            raise LifecycleError(
                "After the reload these servers could not be put back to what they were: %s." % ", ".join(ended.last.left),
                "haproxy.state_lost",
            )
        if ended.last.replaced:
            raise LifecycleError("After the reload, HAProxy's worker has not read the file as it is now.", "haproxy.not_loaded")
        words = self._order.words(wall)
        raise LifecycleError(
            "The reload failed, and the former worker goes on: %s" % (" ".join(words[:2]) or "HAProxy started no new worker."),
            "haproxy.reload_failed",
            "",
            {"words": words},
        )

    def mend(self, deadline_s: float, right: Right) -> None:
        """Put back what a reload before this call has lost."""
        self._wait_idle(deadline_s)
        ended = wait(lambda: self._look(0, right), lambda seen: seen.done, deadline_s)
        if ended.reached:
            self._stay(right, deadline_s)
        if not ended.reached:
            raise ended.last.error or LifecycleError("HAProxy forgets again what is put back.", "haproxy.state_lost")

    def _wait_idle(self, deadline_s: float) -> None:
        if self._doubt:
            wait(self._order.busy, lambda busy: not busy, deadline_s)

    def _stay(self, right: Right, deadline_s: float) -> None:
        """Where more than one reload may have been ordered, look on for a while, and put back again what the later one loses."""
        if not self._doubt:
            return
        end = time.monotonic() + STEADY_S
        ended = wait(
            lambda: self._look(0, right),
            lambda seen: seen.done and time.monotonic() >= end,
            max(deadline_s, 2 * STEADY_S),
            poll_s=0.05,
        )
        if not ended.reached:
            raise ended.last.error or LifecycleError("HAProxy forgets again what is put back.", "haproxy.state_lost")

    def _begin(self, deadline_s: float) -> int:
        """Return the worker that is to be replaced. Another reload may be under way: then sockets are refused for a moment."""

        def look() -> tuple[int, LifecycleError | None]:
            try:
                with self._balancer.open() as talk:
                    worker = self._balancer.look(talk)
                    self._balancer.find_old_workers(talk, worker)
                self._former = self._attempts()
                if self._fresh:  # as late as can be: a drain of this second counts too
                    self._kept, self._fresh = merge(self._older or {}, worker), False
                return worker.pid, None
            except LifecycleError as exc:
                if exc.code not in BUSY:
                    raise
                return 0, exc

        pid, error = wait(look, lambda seen: seen[1] is None, deadline_s).last
        if error is not None:
            raise error
        return pid

    def _look(self, former: int, right: Right) -> _Seen:
        try:
            with self._balancer.open() as talk:
                worker = self._balancer.look(talk)
                if worker.pid == former:
                    return _Seen(former=True, failed=self._failed())
                if not right(talk):
                    return _Seen(replaced=True)
                found = lost(worker, self._kept, self._ours)
                for key, steps in found.items():
                    for command in steps:
                        talk.do(command)
                    self.put_back.add(key)
                    self._put_at = time.monotonic()
                left = lost(self._balancer.look(talk), self._kept, self._ours) if found else {}
                self._balancer.old(talk, worker, Scope(frozenset()))  # refuses a worker that was replaced meanwhile
                return _Seen(done=not left, left=tuple(left))
        except LifecycleError as exc:
            if exc.code not in BUSY:
                raise
            return _Seen(error=exc)

    def _failed(self) -> bool:
        """True when the master has tried since the order, and failed. It then keeps the former worker."""
        now = self._attempts()
        return bool(now and self._former and now[0] > self._former[0] and now[1])

    def _attempts(self) -> tuple[int, int] | None:
        """How often the master has reloaded, and how often it failed since it last did not; None where that cannot be seen."""
        strategy = self._balancer.old_workers
        if not isinstance(strategy, MasterSocket):
            return None
        match = re.search(r"(?m)^\d+\s+master\s+(\d+) \[failed: (\d+)\]", ask_master(strategy.path, ["show proc"]))
        return (int(match.group(1)), int(match.group(2))) if match else None

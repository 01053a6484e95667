# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What drain and ready have in common: what is asked, what was there, and how it is told."""

from __future__ import annotations

import abc
import dataclasses
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.balancer import Balancer, describe
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import Conversation, check_key, check_name
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import (
    FORCED_DRAIN,
    FORCED_MAINT,
    SETTABLE,
    Old,
    Scope,
    Server,
    Worker,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.rules import Endpoint, parse_endpoint
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.state_file import check_state_file, write_state_file
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._signals import held_back
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict

# A failure of the conversation that a reload or a busy HAProxy may cause: waited through, until the deadline.
PASSING = frozenset(
    {"haproxy.refused", "haproxy.socket_missing", "haproxy.hung_up", "haproxy.timeout", "haproxy.master", "haproxy.replaced"}
)
MAX_WEIGHT = 256

Stable = dict[str, dict[str, int]]


@dataclasses.dataclass(frozen=True)
class Request:
    """What the user asks for, checked. Seconds throughout."""

    endpoints: tuple[Endpoint, ...]
    backends: tuple[str, ...] = ()
    min_available: int = 1
    policy: str = "wait"
    restore: Stable = dataclasses.field(default_factory=dict)
    expect: Stable | None = None
    resume: bool = False
    deadline_s: float = 120.0
    state_file: str | None = None
    check_mode: bool = False

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> Request:
        """Read the arguments of a module. Raises BadInputError."""
        if not params["servers"]:
            raise BadInputError("The list servers is empty.", "haproxy.bad_address", "Give at least one address:port.")
        if params["min_available"] < 0 or params["deadline"] < 1:
            raise BadInputError("min_available cannot be negative, and deadline must be at least 1 second.", "input")
        if params["state_file"]:
            check_state_file(params["state_file"])
        return cls(
            endpoints=tuple(parse_endpoint(text) for text in params["servers"]),
            backends=tuple(check_name(name, "backend") for name in params["backends"]),
            min_available=params["min_available"],
            policy=params["policy"],
            restore=_stable(params["restore"], "restore") or {},
            expect=_stable(params["expect"], "expect"),
            resume=params["resume"],
            deadline_s=float(params["deadline"]),
            state_file=params["state_file"],
        )


def _stable(given: t.Mapping[str, t.Any] | None, option: str) -> Stable | None:
    """Read {backend/server: {admin, weight}}; of the mask, the bits that can be set are kept."""
    if given is None:
        return None
    found: Stable = {}
    for key, value in given.items():
        if not isinstance(value, t.Mapping) or not set(value) <= {"admin", "weight"}:
            raise BadInputError("%s of %s must hold admin and weight, and nothing else." % (option, key), "input")
        try:
            entry = {name: int(number) for name, number in value.items()}
        except (TypeError, ValueError):
            raise BadInputError("%s of %s must hold whole numbers." % (option, key), "input") from None
        if "admin" in entry:
            entry["admin"] &= SETTABLE
            if entry["admin"] == SETTABLE:  # HAProxy never has both; maintenance is the stronger one.
                entry["admin"] = FORCED_MAINT
        if not 0 <= entry.get("weight", 0) <= MAX_WEIGHT:
            raise BadInputError("%s of %s: a weight is 0 to %d." % (option, key, MAX_WEIGHT), "input")
        found[check_key(str(key))] = entry
    return found


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How an act ended, on failure too."""

    before: Stable
    after: Stable
    changed: bool
    verdict: Verdict
    more: dict[str, t.Any]


def stable(servers: t.Iterable[Server]) -> Stable:
    return {server.key: server.stable for server in servers}


def excuse(seen: t.Sequence[Server], expect: Stable | None) -> tuple[Stable | None, list[str]]:
    """Return the expectation with what a reload explains put in its place, and the servers that lost our drain to one.

    A reload (without state file) makes weights what the configuration says and forgets a drain: that is nobody's decision. A
    maintenance that somebody set is.
    """
    if expect is None:
        return None, []
    excused, lost = dict(expect), []
    for server in seen:
        want = expect.get(server.key, {})
        now = server.stable
        forgotten = bool(want.get("admin", 0) & FORCED_DRAIN) and server.forced == server.configured
        if now["admin"] != want.get("admin", now["admin"]) and not forgotten:
            continue
        if now["weight"] not in (want.get("weight", now["weight"]), server.state.initial_weight):
            continue
        if forgotten:
            lost.append(server.key)
        excused[server.key] = {name: now[name] for name in want}
    return excused, lost


class Traffic(abc.ABC):
    """One act on one balancer. ``run`` never raises for what can go wrong out there: it is all in the outcome."""

    def __init__(self, balancer: Balancer, request: Request) -> None:
        self.balancer = balancer
        self.request = request
        self.before: Stable = {}
        self.after: Stable = {}
        self.mended: set[str] = set()
        self.lost: list[str] = []
        self.worker: Worker | None = None
        self.targets: list[Server] = []
        self.old: list[Old] = []
        self._start = time.monotonic()

    @abc.abstractmethod
    def wanted(self, server: Server) -> dict[str, int]:
        """Return what the server shall be in the end."""

    @abc.abstractmethod
    def predict(self, talk: Conversation) -> Verdict:
        """Refuse what cannot be done, before anything is changed; what can be done is a pass."""

    @abc.abstractmethod
    def act(self) -> Verdict:
        """Do it and prove it. Raises LifecycleError."""

    @abc.abstractmethod
    def undo(self, cause: BaseException) -> None:
        """Take back what an act that failed must not leave; nothing when it has done nothing. Raises LifecycleError."""

    def run(self) -> Outcome:
        try:
            verdict = self._run()
        except LifecycleError as exc:
            verdict = Verdict.from_error(exc)
        return Outcome(self.before, self.after, self.before != self.after or bool(self.mended), verdict, self._more())

    def _run(self) -> Verdict:
        try:
            return self._decide_and_act()
        except BaseException as exc:  # also the SystemExit that a signal becomes
            with held_back():
                self.undo(exc)
            raise

    def _decide_and_act(self) -> Verdict:
        with self.balancer.open() as talk:
            self.look(talk)
            self.before = self.after = stable(self.targets)
            unknown = sorted((set(self.request.restore) | set(self.request.expect or ())) - set(self.before))
            if unknown:
                raise BadInputError(
                    "restore or expect names %s, which is not among the servers at these addresses." % ", ".join(unknown),
                    "haproxy.unknown_server",
                )
            wanted = {server.key: self.wanted(server) for server in self.targets}
            self._compare(wanted)
            self.balancer.require_admin(talk)
            self.balancer.find_old_workers(talk, self.current)
            verdict = self.predict(talk)
            self.before = self.after = stable(self.targets)
            self._compare(wanted)
            if self.request.check_mode:
                self.after = {key: {**self.before[key], **wanted[key]} for key in self.before}
                return verdict
            self.begin(talk)
        return self.act()

    def _compare(self, wanted: Stable) -> None:
        expect, self.lost = excuse(self.targets, self.request.expect)
        settle(self.before, wanted, expect, self.request.resume)

    @abc.abstractmethod
    def begin(self, talk: Conversation) -> None:
        """Do what belongs into the conversation in which it was decided."""

    @property
    def current(self) -> Worker:
        if self.worker is None:
            raise AssertionError("look first")
        return self.worker

    @property
    def scope(self) -> Scope:
        return Scope(frozenset(server.endpoint for server in self.targets), self.request.backends)

    @property
    def left_s(self) -> float:
        """Seconds until the deadline of the whole act."""
        return max(self._start + self.request.deadline_s - time.monotonic(), 0.0)

    @property
    def poll_s(self) -> float:
        """Seconds between two looks. A look at thousands of servers is work for HAProxy, too."""
        return max(0.1, len(self.current.servers) / 2000)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._start

    def look(self, talk: Conversation) -> None:
        """See the worker behind ``talk`` and find the servers anew: a reload may have added or removed some."""
        self.worker = self.balancer.look(talk)
        self.targets = self.balancer.select(self.worker, self.request.endpoints, self.request.backends)

    def settle_down(self, talk: Conversation) -> None:
        """After changes: see what is there now, and write it to the state file if there is one."""
        self.look(talk)
        self.after = stable(self.targets)
        if self.request.state_file:
            write_state_file(self.request.state_file, talk.ask("show servers state"))

    def _more(self) -> dict[str, t.Any]:
        seen_by = self.balancer.old_workers
        return {
            "servers": describe(self.targets, self.worker, self.old) if self.worker else [],
            "mended": sorted(self.mended),
            "version": self.worker.version if self.worker else "",
            "worker": self.worker.pid if self.worker else 0,
            "old_workers": {"seen_by": seen_by.kind if seen_by else "", "pids": [old.pid for old in self.old]},
        }

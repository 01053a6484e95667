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
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.address import Endpoint, canonical, parse_endpoint
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.balancer import Balancer, describe
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.model import SETTABLE, Seen, Server
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.refusals import REPLACED
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.rules import (
    Stable,
    check_kind,
    check_name,
    excuse,
    patch,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._signals import held_back
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

# A failure of a question that a reload or a busy nginx may cause: waited through, until the deadline.
PASSING = frozenset(
    {
        "nginx_plus.refused",
        "nginx_plus.reset",
        "nginx_plus.timeout",
        "nginx_plus.unreachable",
        "nginx_plus.unavailable",
        REPLACED,
    }
)
MAX_WEIGHT = 65535
# What failed is put back even when nginx is busy with a reload just then.
UNDO_S = 5.0


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
    check_mode: bool = False

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> Request:
        """Read the arguments of a module. Raises BadInputError."""
        if not params["servers"]:
            raise BadInputError("The list servers is empty.", "nginx_plus.bad_address", "Give at least one address:port.")
        if params["min_available"] < 0 or params["deadline"] < 1:
            raise BadInputError("min_available cannot be negative, and deadline must be at least 1 second.", "input")
        if params["policy"] == "shutdown":
            raise BadInputError(
                "The policy shutdown is not possible: the API of NGINX Plus has no call that ends a session.",
                "nginx_plus.no_shutdown",
                "Use the policy wait with a longer deadline, or fail.",
            )
        return cls(
            endpoints=tuple(parse_endpoint(text) for text in params["servers"]),
            backends=tuple(check_name(name) for name in params["backends"]),
            min_available=params["min_available"],
            policy=params["policy"],
            restore=_stable(params["restore"], "restore") or {},
            expect=_stable(params["expect"], "expect"),
            resume=params["resume"],
            deadline_s=float(params["deadline"]),
        )


def _stable(given: t.Mapping[str, t.Any] | None, option: str) -> Stable | None:
    """Read {upstream/address:port: {admin, weight}}."""
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
        if entry.get("admin", 0) & ~SETTABLE:
            raise BadInputError("%s of %s: admin is 0 (ready), 8 (draining), 1 (down) or 9 (both)." % (option, key), "input")
        if not 1 <= entry.get("weight", 1) <= MAX_WEIGHT:
            raise BadInputError("%s of %s: a weight is 1 to %d." % (option, key, MAX_WEIGHT), "input")
        upstream, _slash, address = str(key).partition("/")
        parse_endpoint(address)
        found["%s/%s" % (check_name(upstream), canonical(address))] = entry
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


class Traffic(abc.ABC):
    """One act on one balancer. ``run`` never raises for what can go wrong out there: it is all in the outcome."""

    def __init__(self, balancer: Balancer, request: Request) -> None:
        self.balancer = balancer
        self.request = request
        self.before: Stable = {}
        self.after: Stable = {}
        self.mended: set[str] = set()
        self.lost: list[str] = []
        self.reloads = 0
        self.old: dict[int, int] | None = None
        """Sessions of workers that a reload has left behind, by process; None while they are not seen."""
        self.ours: Stable = {}
        """What this call has set, as it was found."""
        self._seen: Seen | None = None
        self._start = time.monotonic()

    @abc.abstractmethod
    def wanted(self, server: Server) -> dict[str, int]:
        """Return what the server shall be in the end."""

    @abc.abstractmethod
    def predict(self) -> Verdict:
        """Refuse what cannot be done, before anything is changed; what can be done is a pass."""

    @abc.abstractmethod
    def act(self) -> Verdict:
        """Do it and prove it. Raises LifecycleError."""

    @abc.abstractmethod
    def taken_back(self, server: Server, found: t.Mapping[str, int]) -> dict[str, int]:
        """Return what a failure makes of a server that this call has set and that was ``found`` so; empty to leave it."""

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
                self._undo(exc)
            raise

    def _decide_and_act(self) -> Verdict:
        self.look()
        self.before = self.after = stable(self.targets)
        given = set(self.request.restore) | set(self.request.expect or ())
        unknown = sorted(given - set(self.before))
        if unknown:
            raise BadInputError(
                "restore or expect names %s, which is not among the servers at these addresses." % ", ".join(unknown),
                "nginx_plus.unknown_server",
            )
        check_kind(self.targets, self.request.restore, "restore")
        wanted = {server.key: self.wanted(server) for server in self.targets}
        self._compare(wanted)
        verdict = self.predict()
        self.before = self.after = stable(self.targets)
        self._compare(wanted)
        if self.request.check_mode:
            self.after = {key: {**self.before[key], **wanted.get(key, {})} for key in self.before}
            return verdict
        self.reloads = 0
        return self.act()

    def _compare(self, wanted: Stable) -> None:
        expect, self.lost = excuse(self.targets, self.request.expect)
        settle(self.before, wanted, expect, self.request.resume)

    @property
    def seen(self) -> Seen:
        if self._seen is None:
            raise AssertionError("look first")
        return self._seen

    @property
    def targets(self) -> tuple[Server, ...]:
        return self.seen.targets

    @property
    def left_s(self) -> float:
        """Seconds until the deadline of the whole act."""
        return max(self._start + self.request.deadline_s - time.monotonic(), 0.0)

    @property
    def poll_s(self) -> float:
        """Seconds between two looks. Each is some requests, and a look at thousands of servers is work for nginx, too."""
        return max(0.2, self.seen.count / 2000)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._start

    def look(self) -> None:
        """See the servers anew: a reload may have added or removed some, and ids hold for one look."""
        found = self.balancer.look(self.request.endpoints, self.request.backends)
        if self._seen is not None and found.info.generation != self._seen.info.generation:
            self.reloads += 1
        self._seen = found

    def put(self, server: Server, wanted: t.Mapping[str, int]) -> bool:
        """Set a server, and remember first how it was found: whether a request that is cut was carried out is not known."""
        if patch(server, wanted):
            self.ours.setdefault(server.key, self.before.get(server.key, server.stable))
        return self.balancer.bring(server, wanted, self.seen)

    def look_after(self) -> None:
        """After changes: see what is there now."""
        self.look()
        self.after = stable(self.targets)

    def note_reloads(self) -> str:
        """What this call cannot know."""
        if not self.reloads or self.old is not None:
            return ""
        return " NGINX Plus was reloaded meanwhile; what a reload leaves behind shows on the balancer's own host only."

    def _undo(self, cause: BaseException) -> None:
        """Take back what an act that failed must not leave, and nothing else: what somebody has set since stays."""
        if not self.ours:
            return
        error = wait(self._try_to_undo, lambda exc: exc is None or exc.code not in PASSING, UNDO_S, poll_s=0.2).last
        if error is not None:
            raise LifecycleError(
                "%s What was set could not be put back: %s" % (cause, error.msg),
                "%s.not_put_back" % type(self).__name__.lower(),
                "Look at these servers, and set them by hand when NGINX Plus answers again: %s." % ", ".join(sorted(self.ours)),
            ) from error

    def _try_to_undo(self) -> LifecycleError | None:
        try:
            self.look()
            for server in self.targets:
                if server.key in self.ours:
                    self.balancer.bring(server, self.taken_back(server, self.ours[server.key]), self.seen)
            self.look_after()
        except LifecycleError as exc:
            return exc
        return None

    def _more(self) -> dict[str, t.Any]:
        info = self._seen.info if self._seen else None
        return {
            "servers": describe(self._seen) if self._seen else [],
            "mended": sorted(self.mended),
            "version": "%s (%s)" % (info.build, info.version) if info else "",
            "reloads": self.reloads,
            "old_workers": {"seen_by": "" if self.old is None else "processes", "pids": sorted(self.old or {})},
        }

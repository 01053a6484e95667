# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What drain and ready have in common: what is asked, what was there, and how it is told."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, ForeignChangeError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.rules import Endpoint
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.balancer import Balancer, Seen
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.processes import Family, connections
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.reach import Names, dead
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.reload import HALF_DONE, UNCONFIRMED, apply, shown
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.rules import parse_endpoint, select, touched
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.tree import Edit, read_tree
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.upstreams import (
    OUT,
    Server,
    check_name,
    entries,
    group,
    lua_balancers,
    require_no_lua,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._signals import held_back
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict

POLL_S = 0.2
# A look that is younger needs not be repeated before an act.
FRESH_S = 0.5
# A reload that puts traffic back must not fail because the deadline was used up by waiting.
UNDO_S = 20.0

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
    check_mode: bool = False

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> Request:
        """Read the arguments of a module. Raises BadInputError."""
        if not params["servers"]:
            raise BadInputError("The list servers is empty.", "nginx.bad_address", "Give at least one address:port.")
        if params["min_available"] < 0 or params["deadline"] < 1:
            raise BadInputError("min_available cannot be negative, and deadline must be at least 1 second.", "input")
        if not params["config"].startswith("/") or not params["program"] or params["program"].startswith("-"):
            raise BadInputError("config must be an absolute path, and program the name or path of a program.", "input")
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
    """Read {UPSTREAM/ADDRESS:PORT: {admin, weight}}."""
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
        if entry.get("admin", 0) not in (0, OUT) or entry.get("weight", 1) < 1:
            raise BadInputError("%s of %s: admin is 0 or 1, and a weight is at least 1." % (option, key), "input")
        if "/" not in str(key):
            raise BadInputError("%r in %s is not UPSTREAM/ADDRESS:PORT." % (key, option), "input")
        found[str(key)] = entry
    return found


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How an act ended, on failure too."""

    before: Stable
    after: Stable
    changed: bool
    verdict: Verdict
    more: dict[str, t.Any]


class Traffic(abc.ABC):
    """One act on one nginx. ``run`` never raises for what can go wrong out there: it is all in the outcome."""

    def __init__(self, balancer: Balancer, request: Request) -> None:
        self.balancer = balancer
        self.request = request
        self.names = Names()
        self.before: Stable = {}
        self.after: Stable = {}
        self.targets: list[Server] = []
        self.dead: dict[str, str] = {}
        self.held: dict[int, dict[tuple[str, int], int]] = {}
        self.family: Family | None = None
        self.mended: set[str] = set()
        self._cut: set[str] = set()  # drained by an act that was cut while it waited
        self._seen: Seen | None = None
        self._diff = ""
        self._doubtful_after = False
        self._looked = 0.0
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
    def undo(self, cause: BaseException) -> None:
        """Take back what an act that failed must not leave; nothing when it has done nothing. Raises LifecycleError."""

    def run(self) -> Outcome:
        try:
            verdict = self._run()
        except LifecycleError as exc:
            verdict = Verdict.from_error(exc)
        changed = self.before != self.after or bool(self.mended) or self._doubtful_after
        return Outcome(self.before, self.after, changed, verdict, self._more())

    def _run(self) -> Verdict:
        try:
            return self._decide_and_act()
        except BaseException as exc:  # also the SystemExit that a signal becomes
            with held_back():
                self.undo(exc)
            raise

    def _decide_and_act(self) -> Verdict:
        self.look()
        self.before = self.after = self.running()
        self._cut = set(self.seen.drained) & {server.key for server in self.targets if server.out}
        unknown = sorted((set(self.request.restore) | set(self.request.expect or ())) - set(self.before))
        if unknown:
            raise BadInputError(
                "restore or expect names %s, which is not among the servers at these addresses." % ", ".join(unknown),
                "nginx.unknown_server",
            )
        wanted = {server.key: self.wanted(server) for server in self.targets}
        settle(self.before, wanted, self.request.expect, self.request.resume)
        self.probe()
        verdict = self.predict()
        if self.request.check_mode:
            self.after = {key: {**self.before[key], **wanted[key]} for key in self.before}
            self._diff = shown(self.seen.servers, self.edits(wanted))
            return verdict
        return self.act()

    @property
    def seen(self) -> Seen:
        if self._seen is None:
            raise AssertionError("look first")
        return self._seen

    @property
    def left_s(self) -> float:
        """Seconds until the deadline of the whole act."""
        return max(self._start + self.request.deadline_s - time.monotonic(), 0.0)

    @property
    def reserve_s(self) -> float:
        """What is kept of the deadline for the reload at its end."""
        return min(5.0, self.request.deadline_s / 4)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._start

    def look(self) -> None:
        """See nginx, and find the servers anew."""
        self._take(self.balancer.look())
        self._require_ours_only()

    def _require_ours_only(self) -> None:
        """Our reload would activate an act on other servers that was cut, and nobody would look after it. Raises LifecycleError."""
        others = sorted(set(self.seen.note.was) - {server.key for server in self.targets}) if self.seen.unloaded else []
        if others:
            raise LifecycleError(
                "An act on %s was cut before nginx had surely loaded it. A reload for this act would activate that, too."
                % ", ".join(others),
                "nginx.cut_act",
                "Nothing was done. Run drain or ready for these servers first (all of them in one call, with the same backends), then this again.",
                {"servers": others},
            )

    def _take(self, seen: Seen) -> None:
        self._seen, self.family, self._looked = seen, seen.family, time.monotonic()
        self.targets = select(seen.servers, seen.upstreams, self.request.endpoints, self.request.backends, self.names.resolve)
        require_no_lua(self.targets, lua_balancers(seen.tree))

    def look_again(self) -> None:
        """Before an act that was waited for: nothing of it may have changed meanwhile. Raises ForeignChangeError."""
        if time.monotonic() - self._looked < FRESH_S:
            return
        self.look()
        if self.running() != self.before:
            raise ForeignChangeError(
                "Somebody else has changed the servers in the configuration during this act.",
                hint="Nothing was done here. Find out who did, then run this again.",
                evidence={"expected": self.before, "seen": self.running()},
            )

    def running(self) -> Stable:
        """What the servers are for the running nginx: what the files say, but before an act of ours that was cut.

        What a drain that has not ended has taken out counts as it was before, too: that is what a failure or ready goes back to.
        """
        found = {server.key: server.stable for server in self.targets}
        for key, admin in self.seen.drained.items():
            if key in found and found[key]["admin"]:
                found[key]["admin"] = admin
        if self.seen.unloaded:
            for key, admin in self.seen.note.was.items():
                if key in found:
                    found[key]["admin"] = admin
        return found

    def probe(self) -> None:
        """Try all servers of the upstreams concerned."""
        concerned = touched(self.targets)
        self.dead = dead([one for one in self.seen.servers if (one.first.kind, one.first.upstream) in concerned], self.names)

    def edits(self, wanted: t.Mapping[str, t.Mapping[str, int]]) -> list[Edit]:
        """What brings the files to ``wanted`` (admin; a weight is whatever the file says). A line of several upstreams comes once."""
        found: list[Edit] = []
        for server in self.targets:
            if server.key in wanted:
                for entry in server.entries:
                    found += entry.take_out() if wanted[server.key]["admin"] else entry.bring_in()
        return sorted(set(found))

    def set(self, wanted: t.Mapping[str, t.Mapping[str, int]], seconds: float, ends: bool = True) -> None:
        """Bring servers to ``wanted`` and let nginx load it. Without a change it only reloads, where a cut act left that undone.

        Without ``ends`` what they were stays noted until end_drain(): a drain that is cut in its wait is taken back by the next call.
        """
        edits = self.edits(wanted)
        self.mended.update(self._cut & set(wanted))
        if not edits and not self.seen.unloaded:
            self.after = {server.key: server.stable for server in self.targets}
            if ends:
                self.end_drain(wanted, seconds)
            return
        was = {key: self.before[key]["admin"] for key in wanted}
        self._diff += shown(self.seen.servers, edits)
        if self.seen.unloaded:
            self.mended.update(wanted)
        try:
            seen = apply(self.balancer, self.seen, edits, was, seconds, ends)
        except LifecycleError as exc:
            if exc.code in (UNCONFIRMED, HALF_DONE):
                self._doubt()
            else:
                self._diff = ""
                self.mended.clear()
            raise
        self._take(seen)
        self._doubtful_after = False
        self.after = {server.key: server.stable for server in self.targets}

    def end_drain(self, keys: t.Collection[str], seconds: float) -> None:
        """That these servers are out, or are not, is final: the note that would have it taken back goes."""
        if set(keys) & set(self.balancer.notes.read().drained):
            self.balancer.notes.end_drain(keys, seconds)

    def _doubt(self) -> None:
        """What nginx has loaded is not known now: tell what it will load next."""
        self._doubtful_after = True
        with contextlib.suppress(LifecycleError, OSError):
            keys = {server.key for server in self.targets}
            servers = group(entries(read_tree(self.balancer.config)))
            self.after = {**self.after, **{server.key: server.stable for server in servers if server.key in keys}}

    def count(self) -> None:
        """See which workers hold connections to the servers."""
        if self.family is not None:
            ends = {end for server in self.targets for end in self.names.endpoints(server.address)}
            self.held = connections(self.family, ends)

    def _more(self) -> dict[str, t.Any]:
        return {
            "servers": [self._describe(server) for server in self.targets],
            "mended": sorted(self.mended),
            "version": self._seen.build.version if self._seen else "",
            "master": self.family.master.pid if self.family else 0,
            "old_workers": {"pids": [worker.pid for worker in self.family.leaving] if self.family else []},
            "diff": {"prepared": self._diff} if self._diff else {},
        }

    def _describe(self, server: Server) -> dict[str, t.Any]:
        """One server as a result: what is stable, and what was seen of it."""
        ends = self.names.endpoints(server.address)
        address = ends[0] if len(ends) == 1 else None
        return {
            "server": server.key,
            "address": ("[%s]:%d" % address if ":" in address[0] else "%s:%d" % address) if address else server.address.text,
            "health": "down" if server.key in self.dead else "up",
            **server.stable,
            "backup": server.backup,
            "lines": [entry.place.where for entry in server.entries],
            "connections": sum(held.get(end, 0) for held in self.held.values() for end in ends),
        }

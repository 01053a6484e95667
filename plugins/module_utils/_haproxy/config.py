# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""One service's file in HAProxy's configuration folder: present or absent, checked, reloaded, proven; or all as it was."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Act, Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy import config_text as text_of
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.balancer import Balancer, describe
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import Conversation
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.config_file import ConfigFile, Note
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.config_text import FOREIGN, MISSING, OURS, Service
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.master import Master
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import Server, Worker
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.reload import (
    BUSY,
    Kept,
    Order,
    Reload,
    Right,
    UnitOrder,
    marks,
    merge,
    proxies,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.rules import UP, health
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._signals import held_back
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

# The part of the deadline that is kept for taking back, and what taking back gets at least.
RESERVE, LEAST_S = 1 / 3, 10.0
RELOAD_S = 20.0


def prepare(params: t.Mapping[str, t.Any]) -> Act:
    """Check the arguments of the module and say what will act. Raises BadInputError."""
    order = UnitOrder(params["reload"])
    return Config(
        Balancer(params["socket"], params["master_socket"], params["socket_timeout"]), Request.from_params(params), order
    )


@dataclasses.dataclass(frozen=True)
class Request:
    """What the user asks for, checked. ``service`` is None for absent."""

    name: str
    owner: str
    folder: str
    binary: str
    min_up: int
    service: Service | None

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> Request:
        """Read the arguments of the module. Raises BadInputError."""
        name, owner = text_of.check_service(params["service"]), text_of.check_owner(params["owner"])
        for option in ("folder", "binary"):
            if not os.path.isabs(params[option]):
                raise BadInputError("%s, %s, is not an absolute path." % (option, params[option]), "input")
        if not os.access(params["binary"], os.X_OK):
            raise BadInputError(
                "There is no program %s." % params["binary"],
                "haproxy.no_binary",
                "Give the path of HAProxy as the option binary.",
            )
        service = Service.from_params(params) if params["state"] == "present" else None
        min_up = params.get("min_up") or 0
        if service and not 0 <= min_up <= len(service.servers):
            raise BadInputError("min_up is %d, and there are %d servers." % (min_up, len(service.servers)), "input")
        if service and min_up and not service.checked:
            raise BadInputError(
                "min_up is %d, but without `check` in backend.server_options no server is ever proven up." % min_up, "input"
            )
        return cls(name, owner, params["folder"], params["binary"], min_up, service)


class Config:
    """The act. ``order`` is how HAProxy is told to reload."""

    def __init__(self, balancer: Balancer, request: Request, order: Order) -> None:
        self.balancer, self.request, self.order = balancer, request, order
        self.file = ConfigFile(request.folder, request.name)
        self.text: str | None = None
        self.digest = ""
        if request.service:
            self.text, self.digest = text_of.render(request.service)
        self.wanted: dict[str, t.Any] = {
            "file": OURS if self.text is not None else MISSING, "digest": self.digest, "loaded": self.text is not None,
        }  # fmt: skip
        self.text_before: str | None = None
        self.found: str | None = None
        self.kept: Kept = {}
        self.reload = Reload(balancer, order, {}, None, ())
        self.notes: list[str] = []
        self.touched = False

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        try:
            return self._run(terms, report)
        finally:
            report.more.update(
                reload_s=self.reload.seconds[0] if self.reload.seconds else 0.0,
                reloads=len(self.reload.seconds),
                put_back=sorted(self.reload.put_back),
                notes=self.notes,
                config_file=self.file.path,
            )

    def _run(self, terms: Terms, report: Report) -> Verdict:
        self.found = self.file.read()
        kind, digest = text_of.judge(self.found, self.request.owner)
        report.before = report.after = {"file": kind, "digest": digest}
        report.more["servers"] = []
        with self.balancer.open() as talk:
            worker = self.balancer.look(talk)
            master = Master.find(talk, worker)
            report.before = report.after = self._state(talk, worker, master, report)
            self.balancer.require_admin(talk)
        self._refuse_foreign(kind)
        note = self.file.note()
        self.text_before = note.text if note else self.found
        expect = {key: value for key, value in terms.expect.items() if key != "servers"} if terms.expect is not None else None
        if not settle(report.before, self.wanted, expect, terms.resume) and not note:
            if self.request.min_up and not terms.check:
                self._wait_up(terms.deadline.remaining(), report)
            return self._verdict("is")
        self._refuse(master, report.before["loaded"], terms.deadline.remaining())
        report.changed = True
        if terms.check:
            report.after = {**report.before, **self.wanted}
            return self._verdict("would be")
        older = note.kept if note else None
        self.kept = merge(older or {}, worker)
        self.reload = Reload(self.balancer, self.order, self.kept, older, self._own_backends())
        self._act(master, terms, report)
        return self._verdict("is now")

    def _state(self, talk: Conversation, worker: Worker, master: Master, report: Report) -> dict[str, t.Any]:
        """What is there: the file, whether the worker has read it, and what our servers are set to."""
        text = self.file.read()
        kind, digest = text_of.judge(text, self.request.owner)
        read = marks(talk, self.file.path, master.cwd)
        ours = self._servers(worker, text if kind != FOREIGN else None)
        report.more["servers"] = describe(ours, worker)
        report.more["version"] = worker.version
        return {
            "file": kind,
            "digest": digest,
            "loaded": bool(read) if kind in (MISSING, FOREIGN) else digest in read,
            "servers": {server.key: server.stable for server in ours},
        }

    def _own_backends(self, *texts: str | None) -> set[str]:
        found = {self.request.service.backend} if self.request.service else set()
        for text in texts or (self.found, self.text_before):
            found |= text_of.names_in(text)[1] if text is not None else set()
        return found

    def _servers(self, worker: Worker, text: str | None) -> list[Server]:
        backends = text_of.names_in(text)[1] if text else set()
        return [server for server in worker.servers if server.state.backend in backends]

    def _refuse_foreign(self, kind: str) -> None:
        if kind == FOREIGN:
            owner = text_of.owner_in(self.found or "")
            raise BadInputError(
                "%s %s." % (self.file.path, "belongs to %s" % owner if owner else "was not made by this collection"),
                "haproxy.foreign_file",
                "Nothing was done. %s"
                % ("Give that owner, or another service." if owner else "Move that file away, or give another service."),
            )

    def _refuse(self, master: Master, loaded: bool, left_s: float) -> None:
        """Everything that can be known before anything is changed."""
        if self.text is not None or self.found is not None:
            master.require(self.request.folder)
        pending = master.pending(self.file.path)
        if pending:
            raise LifecycleError(
                "%s changed after HAProxy last read it: a reload now would bring that change, too." % ", ".join(pending),
                "haproxy.pending_edits",
                "Nothing was done. Look at it, reload HAProxy yourself, then run this again.",
            )
        if self.text is not None:
            own = text_of.binds_in(self.text_before or "") + (text_of.binds_in(self.found or "") if loaded else [])
            taken = master.taken((bind for bind in text_of.binds_in(self.text) if bind not in own), own)
            if taken:
                raise LifecycleError(
                    "; ".join("%s listens at %s already" % (who, bind) for bind, who in taken.items()) + ".",
                    "haproxy.bind_in_use",
                    "Nothing was done. Give the frontend another bind, or end what listens there.",
                    {"binds": taken},
                )
        self.order.check(master.pid)
        self.notes = master.check(self.request.binary, self.file.path, self.text, left_s)

    def _act(self, master: Master, terms: Terms, report: Report) -> None:
        reserve_s = max(terms.deadline.remaining() * RESERVE, LEAST_S)

        def left_s() -> float:
            return max(terms.deadline.remaining() - reserve_s, 1.0)

        try:
            self.file.write_note(Note(self.text_before, self.kept))
            self._bring(master, report.before["loaded"] == self.wanted["loaded"], min(left_s(), RELOAD_S))
            self._prove(master, self.text, min(left_s(), RELOAD_S))
            if self.request.min_up:
                self._wait_up(left_s(), report)
            self.file.drop_note()
        except BaseException as exc:  # also the SystemExit that a signal becomes
            if not self.touched:
                report.changed = False
                raise
            with held_back():
                self._undo(exc, master, max(terms.deadline.remaining(), LEAST_S))
                report.changed = False
                if isinstance(exc, LifecycleError):
                    raise LifecycleError(
                        "%s The file is as it was before, and HAProxy runs with it." % exc.msg,
                        exc.code,
                        exc.hint,
                        exc.evidence,
                    ) from exc
            raise
        finally:
            self._tell_after(master, report)

    def _bring(self, master: Master, loaded: bool, deadline_s: float) -> None:
        """Put the file there and reload; where an act that was cut has done both, only put back what its reload lost."""
        self.touched = True
        right = self._right(master, self.text)
        if self.found == self.text and loaded:
            self.reload.mend(deadline_s, right)
            return
        if self.found != self.text:
            self.file.put(self.text)
        self.reload.run(deadline_s, right)

    def _right(self, master: Master, text: str | None) -> Right:
        return lambda talk: marks(talk, self.file.path, master.cwd) == text_of.marks_in(text or "")

    def _tell_after(self, master: Master, report: Report) -> None:
        """See what is there now. When HAProxy is gone, what is said of it is what is known: the file."""
        try:
            with self.balancer.open() as talk:
                report.after = self._state(talk, self.balancer.look(talk), master, report)
        except LifecycleError:
            kind, digest = text_of.judge(self.file.read(), self.request.owner)
            report.after = {"file": kind, "digest": digest}

    def _undo(self, cause: BaseException, master: Master, deadline_s: float) -> None:
        try:
            self.file.put(self.text_before)
            right = self._right(master, self.text_before)
            try:
                self.reload.run(deadline_s, right)
            except LifecycleError:  # it cannot be reloaded; then what counts is that the former worker goes on with all it had
                self.reload.mend(LEAST_S, right)
            self._prove(master, self.text_before, deadline_s)
            self.file.drop_note()
        except (LifecycleError, OSError) as exc:
            raise LifecycleError(
                "%s What was there before could not be brought back: %s" % (cause, exc),
                "haproxy.not_put_back",
                "Look at HAProxy, then run this again: %s has what is to be put back." % self.file.note_path,
            ) from exc

    def _prove(self, master: Master, text: str | None, deadline_s: float) -> None:
        """The worker has read this text and no other; what the file no longer holds is gone, also its ports."""
        problem = wait(lambda: self._problem(master, text), lambda said: not said, min(deadline_s, RELOAD_S)).last
        if problem:
            raise LifecycleError("After the reload %s." % problem, "haproxy.not_loaded")

    def _problem(self, master: Master, text: str | None) -> str:
        try:
            with self.balancer.open() as talk:
                read = marks(talk, self.file.path, master.cwd)
                there = proxies(talk.ask("show stat -1 3 -1"))
                current = Master.find(talk, self.balancer.look(talk))
        except LifecycleError as exc:
            if exc.code not in BUSY:
                raise
            return exc.msg
        if read != text_of.marks_in(text or ""):
            return "HAProxy's worker has not read %s as it is now" % self.file.path
        frontends, backends = text_of.names_in(text or "")
        gone_frontends, gone_backends = text_of.names_in(
            (self.found or "") + "\n" + (self.text_before or "") + "\n" + (self.text or "")
        )
        wrong = [name for name in sorted(frontends) if there.get(("FRONTEND", name)) != "OPEN"]
        wrong += [name for name in sorted(backends) if ("BACKEND", name) not in there]
        wrong += [name for name in sorted(gone_frontends - frontends) if ("FRONTEND", name) in there]
        wrong += [name for name in sorted(gone_backends - backends) if ("BACKEND", name) in there]
        if wrong:
            return "these are not as the file says: %s" % ", ".join(wrong)
        binds = text_of.binds_in(text or "")
        silent = [bind for bind in binds if not current.taken([bind])]
        # Whoever else may have failed our reload by listening at a port of ours is not ours to judge.
        former = set(text_of.binds_in((self.found or "") + (self.text_before or ""))) - set(binds)
        held = current.taken(sorted(former), binds)
        if silent or held:
            return "%s" % "; ".join(
                ["nobody listens at %s" % bind for bind in silent] + ["%s is still held by %s" % pair for pair in held.items()]
            )
        return ""

    def _wait_up(self, deadline_s: float, report: Report) -> None:
        """Until enough of our servers have passed a real check and take traffic."""
        seen: dict[str, str] = {}

        def count() -> int:
            try:
                with self.balancer.open() as talk:
                    worker = self.balancer.look(talk)
            except LifecycleError as exc:
                if exc.code not in BUSY:
                    raise
                return 0
            ours = self._servers(worker, self.text)
            report.more["servers"] = describe(ours, worker)
            seen.update({s.key: "%s (%s)" % (s.stat.status, s.stat.check_status or "no check") for s in ours})
            return sum(health(server, worker.by_key) == UP and not server.out for server in ours)

        ended = wait(count, lambda up: up >= self.request.min_up, deadline_s)
        if not ended.reached:
            raise LifecycleError(
                "After %.1f s %d of %d servers are up, and min_up is %d: %s."
                % (
                    ended.elapsed_s,
                    ended.last,
                    len(seen),
                    self.request.min_up,
                    ", ".join("%s is %s" % pair for pair in sorted(seen.items())),
                ),
                "haproxy.min_up",
                "Look at the service: does it listen, and does it answer the check?",
                {"up": ended.last, "min_up": self.request.min_up},
            )

    def _verdict(self, words: str) -> Verdict:
        if self.text is None:
            return Verdict("pass", "haproxy.config_absent", "%s %s gone." % (self.file.path, words))
        answering = " Its frontends answer by themselves." if self.request.service and self.request.service.answer else ""
        return Verdict("pass", "haproxy.config_present", "%s %s there and read.%s" % (self.file.path, words, answering))

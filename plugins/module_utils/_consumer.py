# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""A consumer's own check of an instance: a program or an address of a third party, asked before the instance serves anybody."""

from __future__ import annotations

import os
import pwd
import re
import stat
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _supervised
from ansible_collections.osops.lifecycle.plugins.module_utils._command import BASE_ENV, identity
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, DeadlineError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Act, Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._http import HttpError, Trust, request
from ansible_collections.osops.lifecycle.plugins.module_utils._probe import NOT_YET_KIND, NOT_YET_STATUS
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import HIDDEN, scrub, tail
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

SHOWN = 2000
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
_VARIABLE = re.compile(r"(?!OSOPS_)[A-Za-z_][A-Za-z0-9_]*\Z")
_HINT = "Ask the consumer whom the check belongs to; the same command as that user shows more."


def prepare(params: t.Mapping[str, t.Any]) -> Act:
    """Check the arguments of the module and say what will act. Raises BadInputError."""
    return _Check(params)


def hidden(secrets: t.Iterable[str]) -> list[str]:
    """What must not be shown of secrets: each as it is, as programs trim it, and its longer lines."""
    found = {part for secret in secrets for part in (secret, secret.strip())}
    found.update(line.strip() for secret in secrets for line in secret.splitlines() if len(line.strip()) >= 8)
    return sorted(part for part in found if part)


def masked(text: str, secrets: t.Sequence[str]) -> str:
    """``text`` without secrets, looked for from its end: what is left of one that repeats itself, or was cut, is at the begin."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = HIDDEN.join(text.rsplit(secret))
    return text


def excerpt(kept: _supervised.Tail, secrets: t.Sequence[str]) -> str:
    """The last characters of an output without secrets. One that the cut went through goes with what was cut off."""
    text = masked(kept.data.decode("utf-8", "replace"), secrets)
    if kept.cut:
        text = text[max((len(secret) for secret in secrets), default=0) :]
    # What only sounds like a secret takes long to find in a long text.
    return scrub(text[-2 * SHOWN :])[-SHOWN:]


def may_execute(program: str, become: t.Mapping[str, t.Any]) -> bool:
    """Whether whoever ``become`` makes of us may execute a program: asked as that user, folders on the way included."""
    if not become:
        return os.access(program, os.X_OK)
    child = os.fork()
    if child == 0:
        allowed = False
        try:
            os.setgroups(become["extra_groups"])
            os.setgid(become["group"])
            os.setuid(become["user"])
            allowed = os.access(program, os.X_OK)
        finally:
            os._exit(0 if allowed else 1)
    return os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 0


class _Check:
    """One check of one instance."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        self.name: str = params["name"]
        self.command: list[str] = list(params["command"] or [])
        self.url: str = params["url"] or ""
        self.status: int = params["status"]
        self.timeout_s: int = params["timeout"]
        self.user: str = params["user"]
        self.endpoint: str = params["endpoint"] or ""
        self.trust = Trust(params["ca_file"] or "", params["server_name"] or "")
        self.secrets: dict[str, str] = {name: str(value) for name, value in (params["secrets"] or {}).items()}
        self.hidden = hidden(self.secrets.values())
        told = {"OSOPS_ENDPOINT": self.endpoint}
        told.update({"OSOPS_" + name.upper(): str(params[name] or "") for name in ("service", "component", "host", "version")})
        self.told = told
        instance = "%s@%s" % (params["component"], params["host"]) if params["component"] and params["host"] else ""
        self.subject = instance or self.endpoint or "the service"
        self._refuse_bad_input()

    def _refuse_bad_input(self) -> None:
        wrong = ""
        strange = sorted(name for name in self.secrets if not _VARIABLE.match(name))
        if not _NAME.match(self.name):
            wrong = "the name %r holds characters that are not allowed" % self.name
        elif bool(self.command) == bool(self.url):
            wrong = "exactly one of command and url is needed"
        elif self.command and not os.path.isabs(self.command[0]):
            wrong = "the program %s is not named by its whole path" % self.command[0]
        elif any("\0" in word for word in [*self.command, *self.secrets.values()]):
            wrong = "no word of the command and no secret can hold a zero byte"
        elif self.timeout_s < 1:
            wrong = "a timeout of %d s leaves no time for an answer" % self.timeout_s
        elif strange:
            wrong = "a secret cannot reach it as %s" % strange[0]
        if wrong:
            raise BadInputError(
                "The check %s cannot be run: %s." % (self.name, wrong), "check.input", "Correct it in the record."
            )

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        become = self._runnable() if self.command else {}
        if terms.check:
            what = "as %s: %s" % (self.user, " ".join(self.command)) if self.command else "GET %s" % self.url
            return Verdict("pass", "check.not_run", "It would ask about %s, %s" % (self.subject, scrub(what, self.hidden)))
        self._wait_for_the_instance(terms)
        seconds = min(float(self.timeout_s), terms.deadline.remaining())
        return self._run(become, seconds) if self.command else self._ask(seconds)

    def _runnable(self) -> dict[str, t.Any]:
        """Who the program runs as, when it is there and that user may execute it."""
        program = self.command[0]
        try:
            become = identity(self.user)
        except BadInputError:
            raise self._not_runnable("there is no user %s" % self.user) from None
        try:
            regular = stat.S_ISREG(os.stat(program).st_mode)
        except OSError as exc:
            raise self._not_runnable("%s: %s" % (program, exc.strerror)) from None
        if not regular:
            raise self._not_runnable("%s is not a file" % program)
        if not may_execute(program, become):
            raise self._not_runnable("the user %s may not execute %s" % (self.user, program))
        return become

    def _not_runnable(self, why: str) -> LifecycleError:
        return LifecycleError(
            "The check %s cannot be run on this host: %s." % (self.name, why),
            "check.not_runnable",
            "Install it there, or correct the check in the record.",
        )

    def _wait_for_the_instance(self, terms: Terms) -> None:
        """An instance binds its port before it can serve; a check of somebody else cannot know that, so it is not begun before."""
        if not self.endpoint:
            return

        def silent() -> str:
            """Why the instance seems to be still starting; empty as soon as it says anything else."""
            try:
                reply = request("GET", self.endpoint.rstrip("/") + "/", timeout_s=5.0)
            except HttpError as exc:
                return exc.msg if exc.kind in (*NOT_YET_KIND, "unreachable") else ""
            return "it answers %d" % reply.status if reply.status in NOT_YET_STATUS else ""

        most_s = max(terms.deadline.remaining() - self.timeout_s, 1.0)
        waited = wait(silent, lambda why: not why, most_s, describe=str, poll_s=0.25)
        if not waited.reached:
            raise LifecycleError(
                "The check %s could not begin: %s gives no answer to this host after %.0f s (%s)."
                % (self.name, self.endpoint, waited.elapsed_s, waited.last.rstrip(".")),
                "check.not_ready",
                "See the log of the service, and whether this host can reach it.",
            )

    def _run(self, become: t.Mapping[str, t.Any], seconds: float) -> Verdict:
        person = pwd.getpwnam(self.user)
        whose = {"HOME": person.pw_dir, "USER": self.user, "LOGNAME": self.user}
        try:
            ended = _supervised.run(self.command, seconds, become, {**BASE_ENV, **whose, **self.secrets, **self.told})
        except OSError as exc:
            raise self._not_runnable("%s: %s" % (self.command[0], exc.strerror)) from None
        out, err = (excerpt(kept, self.hidden) for kept in (ended.out, ended.err))
        evidence = {"check": self.name, "rc": ended.rc, "seconds": round(ended.seconds, 3), "stdout": out, "stderr": err}
        if ended.late:
            raise DeadlineError(
                "The check %s of %s did not end within %.0f s and was killed, with its process group." % (self.name, self.subject, seconds),
                "check.deadline", "Give it a longer timeout in the record, or find out what it waits for.", evidence,
            )  # fmt: skip
        if ended.rc != 0:
            how = "signal %d ended it" % -ended.rc if ended.rc < 0 else "exit code %d" % ended.rc
            last = (tail(err, 1, 200) or tail(out, 1, 200) or ["it said nothing"])[0]
            raise self._failed("%s: %s" % (how, last), evidence)
        return self._passed("exit code 0", ended.seconds, evidence)

    def _ask(self, seconds: float) -> Verdict:
        evidence: dict[str, t.Any] = {"check": self.name, "url": self.url}
        try:
            reply = request("GET", self.url, timeout_s=max(seconds, 0.1), trust=self.trust)
        except HttpError as exc:
            if exc.kind == "timeout":
                says = "The check %s of %s: %s" % (self.name, self.subject, exc.msg)
                raise DeadlineError(says, "check.deadline", _HINT, evidence) from None
            raise self._failed(exc.msg.rstrip("."), evidence) from None
        body = scrub(masked(reply.body.decode("utf-8", "replace"), self.hidden)[: 2 * SHOWN])[:SHOWN]
        evidence.update(status=reply.status, seconds=round(reply.seconds, 3), body=body)
        if reply.status != self.status:
            raise self._failed("%s answered %d instead of %d" % (self.url, reply.status, self.status), evidence)
        return self._passed("status %d" % reply.status, reply.seconds, evidence)

    def _failed(self, why: str, evidence: dict[str, t.Any]) -> LifecycleError:
        return LifecycleError("The check %s of %s failed: %s." % (self.name, self.subject, why), "check.failed", _HINT, evidence)

    def _passed(self, how: str, seconds: float, evidence: dict[str, t.Any]) -> Verdict:
        says = "The check %s of %s passed (%s, %.1f s)." % (self.name, self.subject, how, seconds)
        return Verdict("pass", "check.passed", says, "", evidence)

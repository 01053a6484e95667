# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The states of api_probe: baseline keeps what an old release issued, verify asks the instance itself whether it works."""

from __future__ import annotations

import json
import os
import re
import socket
import time
import typing as t
import urllib.parse

from ansible_collections.osops.lifecycle.plugins.module_utils import _probe, _process
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Act, Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._http import HttpError, Reply, Trust
from ansible_collections.osops.lifecycle.plugins.module_utils._packages import proof
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

# Keystone's tokens live for an hour unless it is told otherwise.
BASELINE_S = 2400


def prepare(params: t.Mapping[str, t.Any]) -> Act:
    """Check the arguments of the module and say what will act. Raises BadInputError."""
    return _Prober(params)


class _Prober:
    """One pass over the requests, after a wait until the instance answers at all."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        instance = params["instance"]
        self.listen: str = instance["listen"]
        address, port = _process.split_listen(self.listen)
        self.component: str = instance["component"]
        self.baseline_state = params["state"] == "baseline"
        self.requests = _probe.parse(params["requests"])
        if not self.requests:
            raise BadInputError("The list of requests is empty, so nothing would be proven.", "probe.input")
        trust = Trust(instance["ca_file"] or "", instance["server_name"] or "")
        host = "[%s]" % address if ":" in address else address
        self.target = _probe.Target("%s://%s:%d" % (instance["scheme"], host, port), trust, float(params["timeout"]))
        self.package, self.version = params["package"] or "", params["version"] or ""
        self.of_package = params.get("installed_by") == "dpkg"
        if self.version and not self.package:
            raise BadInputError("To prove the version, package is needed too.", "probe.input")
        self.secrets: dict[str, str] = {name: str(value) for name, value in (params["secrets"] or {}).items()}
        self.known: dict[str, t.Any] = {**(params["vars"] or {}), **self.secrets}
        self.peers = [str(peer).rstrip("/") for peer in self.known.pop("peers", None) or []]
        if not re.match(r"^[A-Za-z0-9_.:@#-]+$", params["scope"] + self.component):
            raise BadInputError("The scope or the component holds characters that are not allowed.", "probe.input")
        self.file = _probe.baseline_file(params["scope"], self.component, port)

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        if terms.check:
            report.changed = self.baseline_state
            return Verdict("pass", "probe.not_sent", "In check mode no request is sent.")
        if not self.baseline_state:
            self.known.update({"baseline." + name: value for name, value in self._read().items()})
            self._prove_version(report)
        if "peer" not in self.known:
            self.known.update(self._peer())
        report.more.update(requests=[], left_out=[])
        saved = self._pass(terms, report)
        if self.baseline_state:
            self._write(saved)
            report.changed = True
            report.more["saved"] = sorted(saved)
            return Verdict("pass", "probe.baseline", "Kept from %s: %s." % (self.listen, ", ".join(sorted(saved)) or "nothing"))
        left_out = ", ".join(report.more["left_out"])
        says = "%s passed %d requests" % (self.listen, len(report.more["requests"]))
        return Verdict("pass", "probe.passed", says + (" (left out: %s)." % left_out if left_out else "."))

    def _peer(self) -> dict[str, str]:
        """Another instance of the service that takes connections now; the others of a batch may be down at this moment."""
        for peer in self.peers:
            if peer == self.target.base:
                continue
            try:
                parts = urllib.parse.urlsplit(peer)
                port = parts.port or (443 if parts.scheme == "https" else 80)
                socket.create_connection((parts.hostname or "", port), 2.0).close()
            except (OSError, ValueError):
                continue
            return {"peer": peer}
        return {}

    def _hidden(self) -> list[str]:
        """Everything that must not be shown: secrets, and what was saved on the way (tokens)."""
        return [*self.secrets.values(), *(str(v) for k, v in self.known.items() if k.startswith(("baseline.", "saved.")))]

    def _prove_version(self, report: Report) -> None:
        if not self.package:
            return
        prove = proof.of_package if self.of_package else _process.running
        running = prove(self.listen, self.package)
        report.more["process"] = running.facts()
        if self.version and running.version != self.version:
            seen = running.version or running.problem or "nothing listens"
            raise LifecycleError(
                "%s should run %s %s, but: %s." % (self.listen, self.package, self.version, seen),
                "probe.version",
                "Switch it first.",
            )

    def _pass(self, terms: Terms, report: Report) -> dict[str, str]:
        saved: dict[str, str] = {}
        first = True
        for wanted in self.requests:
            if any(name not in self.known for name in wanted.needs):
                report.more["left_out"].append(wanted.name)
                continue
            outcome = self._first(wanted, terms) if first else self._send(wanted)
            first = False
            why = str(outcome.msg) if isinstance(outcome, HttpError) else _probe.judge(wanted, outcome, self.known)
            reply = None if isinstance(outcome, HttpError) else outcome
            row: dict[str, t.Any] = {"name": wanted.name, "outcome": "fail" if why else "pass"}
            if reply is not None:
                row.update(status=reply.status, seconds=round(reply.seconds, 3))
            report.more["requests"].append(row)
            if why or reply is None:
                raise _probe.failure(wanted, why.rstrip("."), reply, self._hidden())
            for name, value in _probe.saved_values(wanted, reply).items():
                saved[name] = self.known[name] = self.known["saved." + name] = value
        if first:
            raise BadInputError("Every request was left out, so nothing would be proven.", "probe.input")
        return saved

    def _send(self, wanted: _probe.Request) -> Reply | HttpError:
        try:
            return _probe.send(wanted, self.target, self.known)
        except HttpError as exc:
            return exc

    def _first(self, wanted: _probe.Request, terms: Terms) -> Reply | HttpError:
        """Send the first request until the instance is no longer starting: a server binds its port before it can serve."""

        def describe(outcome: Reply | HttpError) -> str:
            return outcome.msg if isinstance(outcome, HttpError) else "it answers %d" % outcome.status

        waited = wait(
            lambda: self._send(wanted), lambda seen: not _probe.starting(seen), terms.deadline.remaining(), None, describe, 0.25
        )
        if not waited.reached:
            raise LifecycleError(
                "%s did not answer in %.0f s; last: %s" % (self.listen, waited.elapsed_s, describe(waited.last)),
                "probe.not_ready",
                "See the log of the service on this host.",
            )
        return waited.last

    def _read(self) -> dict[str, str]:
        """What the baseline saved; nothing when there is none, or when it is so old that its tokens may have ended."""
        try:
            if time.time() - os.stat(self.file).st_mtime > BASELINE_S:
                return {}
            with open(self.file, encoding="utf-8") as handle:
                data = json.load(handle)
        except FileNotFoundError:
            return {}
        except ValueError:
            raise LifecycleError(
                "The baseline %s cannot be read." % self.file, "unknown_answer", "Remove it and take the baseline again."
            ) from None
        return {str(name): str(value) for name, value in data.items()}

    def _write(self, saved: t.Mapping[str, str]) -> None:
        os.makedirs(os.path.dirname(self.file), mode=0o700, exist_ok=True)
        handle = os.open(self.file + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(dict(saved), file)
        os.replace(self.file + ".tmp", self.file)

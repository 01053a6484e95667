# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three things that the prober asks of Placement, and what the right answer to each is."""

from __future__ import annotations

import json
import typing as t
import urllib.request

from tests.rig.prober.keystone import Request, UnusableError, login

WEIGHTS = {"version": 20, "read": 50, "write": 30}
EXPECTED = {"version": {200}, "read": {200}, "write": {201, 204}}
NAMES = 20
"""traits that the writes make, again and again"""


def token(identity: str, known: t.Mapping[str, str]) -> str:
    """One token, which lives longer than a probing takes."""
    body = json.dumps(login(known)).encode()
    request = urllib.request.Request(identity + "/v3/auth/tokens", body, {"Content-Type": "application/json"})  # noqa: S310 - the rig's own
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return str(answer.headers["X-Subject-Token"])
    except OSError as exc:
        raise UnusableError("no token from %s: %s" % (identity, exc)) from exc


class Placement:
    """Asks with one token; every request but ``version`` makes Placement ask Keystone about it, or its cache of that."""

    weights = WEIGHTS

    def __init__(self, token: str) -> None:
        self._headers = {"X-Auth-Token": token, "OpenStack-API-Version": "placement 1.6"}
        self._turn = 0

    def request(self, operation: str, probe: str) -> Request:
        if operation == "version":
            return Request("GET", "/")
        if operation == "read":
            return Request("GET", "/resource_classes", self._headers)
        if operation == "write":
            self._turn += 1
            return Request("PUT", "/traits/CUSTOM_PROBE_%d" % (self._turn % NAMES), self._headers)
        raise UnusableError("there is no operation %r" % operation)

    def judge(self, operation: str, status: int, headers: t.Mapping[str, str], body: t.Any, probe: str) -> str:
        if status not in EXPECTED[operation]:
            return "http_%d" % status
        try:
            right = operation == "write" or len(body["versions" if operation == "version" else "resource_classes"]) > 0
        except (KeyError, TypeError):
            return "wrong_answer"
        return "" if right else "wrong_answer"

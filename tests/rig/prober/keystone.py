# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The four things that the prober asks of Keystone, and what the right answer to each is."""

from __future__ import annotations

import collections
import dataclasses
import os
import stat
import typing as t
from pathlib import Path

# Few tokens and many validations, as in a real cloud: every request to any service is a validation, and on two cores the
# password hash of a token would otherwise be all that is measured.
WEIGHTS = {"token": 10, "validate": 45, "read": 30, "write": 15}
EXPECTED = {"token": 201, "validate": 200, "read": 200, "write": 200}
# Tokens live for an hour by default; validated are those that surely still do.
TOKEN_AGE_S = 1500.0


class UnusableError(Exception):
    """The prober cannot start: what it was given is wrong, or the cloud does not answer. The message says what."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What is sent, without the balancer's address."""

    method: str
    path: str
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: dict[str, t.Any] | None = None


def credentials(password_file: Path | None) -> dict[str, str]:
    """Read OS_USERNAME, OS_PASSWORD, … from the environment; the password rather from a file that only its owner can read.

    Never from arguments: other users of the machine see those.
    """
    known = {
        "OS_USERNAME": "admin",
        "OS_PROJECT_NAME": "admin",
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
    }
    known.update({key: os.environ[key] for key in (*known, "OS_PASSWORD") if key in os.environ})
    if password_file is not None:
        if stat.S_IMODE(password_file.stat().st_mode) & 0o077:
            raise UnusableError("%s can be read by others; make it mode 0600" % password_file)
        known["OS_PASSWORD"] = password_file.read_text(encoding="utf-8").strip()
    if not known.get("OS_PASSWORD"):
        raise UnusableError("no password: give --password-file, or set OS_PASSWORD in the environment")
    return known


def login(known: t.Mapping[str, str]) -> dict[str, t.Any]:
    """What is sent for a token."""
    user = {"name": known["OS_USERNAME"], "domain": {"name": known["OS_USER_DOMAIN_NAME"]}, "password": known["OS_PASSWORD"]}
    project = {"name": known["OS_PROJECT_NAME"], "domain": {"name": known["OS_PROJECT_DOMAIN_NAME"]}}
    return {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": {"project": project}}}


class Asked(t.Protocol):
    """A service that is probed: makes requests and judges answers."""

    @property
    def weights(self) -> t.Mapping[str, int]:
        """Operation -> its share. The first one is sent to every balancer before the load begins."""

    def request(self, operation: str, probe: str) -> Request:
        """Return what to send for ``operation``; ``probe`` is the id of this request."""

    def judge(self, operation: str, status: int, headers: t.Mapping[str, str], body: t.Any, probe: str) -> str:
        """Return "" when the answer is the right one, otherwise the cause of the failure."""


class Keystone:
    """Keeps the tokens that it was given."""

    weights = WEIGHTS

    def __init__(self, known: t.Mapping[str, str], clock: t.Callable[[], float]) -> None:
        self._known = known
        self._clock = clock
        self._user = ""
        # Validated are the oldest and the newest in turn: one from before a change, and one from whatever runs now.
        self._tokens: collections.deque[tuple[float, str]] = collections.deque(maxlen=2000)
        self._turn = 0

    def request(self, operation: str, probe: str) -> Request:
        if operation == "token":
            return Request("POST", "/v3/auth/tokens", body=login(self._known))
        headers = {"X-Auth-Token": self._token(newest=True)}
        if operation == "validate":
            self._turn += 1
            return Request("GET", "/v3/auth/tokens", {**headers, "X-Subject-Token": self._token(newest=self._turn % 2 == 0)})
        if operation == "read":
            return Request("GET", "/v3/projects", headers)
        if operation == "write":
            return Request("PATCH", "/v3/users/" + self._user, headers, {"user": {"description": probe}})
        raise UnusableError("there is no operation %r" % operation)

    def judge(self, operation: str, status: int, headers: t.Mapping[str, str], body: t.Any, probe: str) -> str:
        if status != EXPECTED[operation]:
            return "http_%d" % status
        try:
            if operation == "token":
                self._tokens.append((self._clock(), headers["X-Subject-Token"]))
                self._user = body["token"]["user"]["id"]
            elif operation == "validate":
                right = body["token"]["user"]["id"] == self._user
            elif operation == "read":
                right = len(body["projects"]) > 0
            else:
                right = body["user"]["id"] == self._user
        except (KeyError, TypeError):
            return "wrong_answer"
        return "" if operation == "token" or right else "wrong_answer"

    def _token(self, newest: bool) -> str:
        while len(self._tokens) > 1 and self._tokens[0][0] < self._clock() - TOKEN_AGE_S:
            self._tokens.popleft()
        if not self._tokens:
            raise UnusableError("no token was ever issued")
        return self._tokens[-1 if newest else 0][1]

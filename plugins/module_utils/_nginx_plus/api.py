# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Speak to the API: one request, one answer that is understood, or one sentence. No redirects, no proxies, no retries."""

from __future__ import annotations

import json
import math
import re
import typing as t
import urllib.parse

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError, UnknownAnswerError
from ansible_collections.osops.lifecycle.plugins.module_utils._http import HttpError, Reply, request
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.access import Access
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.refusals import refusal
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import scrub

VERSION = 9
# The status of a thousand servers is about a megabyte.
_MAX_BYTES = 64 * 1024 * 1024

# At the end of an act there may be something to put back: so long may an answer take even then.
LAST_S = 2.0

_HINTS = {
    "refused": "Does NGINX Plus run, and does it listen at the address of url?",
    "reset": "Run it again; if it stays so, look at the error log of NGINX Plus.",
    "timeout": "Give a longer timeout, or look at what lies between this host and NGINX Plus.",
    "tls": "Give ca_file for an authority of your own, and server_name where the certificate has another name than url.",
    "unreachable": "Look at url, and at the network between this host and NGINX Plus.",
    "too_large": "Is url the API of NGINX Plus?",
    "protocol": "Is url the API of NGINX Plus, and is it http or https there?",
}


class Api:
    """The API at one address. ``left_s`` tells how much time there is for all questions together."""

    def __init__(self, access: Access, left_s: t.Callable[[], float] = lambda: math.inf) -> None:
        self.access = access
        self._left_s = left_s

    def get(self, path: str, what: str, fields: str = "") -> t.Any:
        """Ask for what is at ``path``, below the version. ``what`` names it in errors."""
        return self._ask("GET", path + ("?" + urllib.parse.urlencode({"fields": fields}, safe=",") if fields else ""), what)

    def patch(self, path: str, what: str, body: t.Mapping[str, t.Any]) -> t.Any:
        """Change what is at ``path``: the fields of ``body``, and no others."""
        return self._ask("PATCH", path, what, json.dumps(body).encode())

    def _ask(self, method: str, path: str, what: str, body: bytes | None = None) -> t.Any:
        access = self.access
        headers = {"Accept": "application/json", **access.headers}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            reply = request(
                method,
                "%s/%d%s" % (access.url, VERSION, path),
                headers,
                body,
                timeout_s=min(access.timeout_s, max(self._left_s(), LAST_S)),
                trust=access.trust,
                max_bytes=_MAX_BYTES,
            )
        except HttpError as exc:
            raise LifecycleError(
                "The API of NGINX Plus gave no answer: %s." % self._clean(exc.msg),
                "nginx_plus." + exc.kind,
                _HINTS.get(exc.kind, ""),
            ) from None
        return self._read(reply, what)

    def _read(self, reply: Reply, what: str) -> t.Any:
        found: t.Any = None
        readable = True
        try:
            found = json.loads(reply.body.decode("utf-8"))
        except (ValueError, RecursionError):  # no UTF-8, no JSON, or brackets without end
            readable = False
        if reply.status != 200:
            said = found["error"].get("text") if isinstance(found, dict) and isinstance(found.get("error"), dict) else ""
            raise refusal(reply.status, found, what, self._clean(said) if isinstance(said, str) else "")
        if not readable:
            html = reply.body.lstrip()[:1] == b"<"
            raise UnknownAnswerError(
                "The answer to the question for %s is %s." % (what, "a page (HTML), not JSON" if html else "no JSON, or was cut"),
                "nginx_plus.not_json",
                "Is url the API of NGINX Plus? Something else may stand before it, such as a login page.",
            )
        return found

    def _clean(self, text: str) -> str:
        """What the other side said, short, printable and without our credentials, should it repeat them."""
        plain = re.sub(r"[^\x20-\x7e]+", " ", scrub(text, self.access.hidden))
        return plain[:200].strip().rstrip(".")

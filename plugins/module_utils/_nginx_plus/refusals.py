# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What the API refuses, in one sentence each, with what to do about it. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError, UnknownAnswerError

# A reload came between two questions, so what was asked for is not there any more. Asking again helps.
REPLACED = "nginx_plus.replaced"
_AGAIN = "A reload came between question and answer, or somebody removes servers. Run it again."
_OURS = (
    "This is for the authors of osops.lifecycle: the request does not fit this release of NGINX Plus. Say which release it is."
)
_VALUE = "Look at what restore says of the server."

# Error code of the API -> code, sentence (what was asked for is put in), hint.
KNOWN: dict[str, tuple[str, str, str]] = {
    "UnknownVersion": (
        "nginx_plus.unknown_version",
        "This NGINX Plus does not know version 9 of its API",
        "Update NGINX Plus; a GET of url itself lists the versions that it knows.",
    ),
    "PathNotFound": ("nginx_plus.no_api", "The API of NGINX Plus has no %s", "Is url the whole address up to /api?"),
    "UpstreamNotFound": (
        "nginx_plus.unknown_upstream",
        "NGINX Plus has no upstream for %s",
        "Look at its name, and for a `zone` in it.",
    ),
    "UpstreamStatic": (
        "nginx_plus.static",
        "The upstream of %s has no shared memory, so nothing in it can be set while nginx runs",
        "Give it a `zone NAME 64k;` in the configuration of NGINX Plus, and reload.",
    ),
    "UpstreamServerNotFound": (REPLACED, "The server %s is not there any more", _AGAIN),
    "UpstreamBadServerId": ("nginx_plus.bad_request", "NGINX Plus does not take %s for a server", _OURS),
    "UpstreamServerImmutable": (
        "nginx_plus.immutable",
        "NGINX Plus does not let the address of %s be changed",
        "It comes from a domain name. Nothing here changes addresses; say which release of NGINX Plus it is.",
    ),
    "UpstreamServerWeightImmutable": (
        "nginx_plus.immutable",
        "NGINX Plus does not let the weight of %s be changed",
        "It comes from a service record (SRV). Leave weight out of restore.",
    ),
    "MethodDisabled": (
        "nginx_plus.read_only",
        "The API of NGINX Plus may be read only, so %s cannot be set",
        "Write `api write=on;` into the location of the API, and see to who may reach it.",
    ),
    "UpstreamOutOfMemory": (
        "nginx_plus.memory",
        "The shared memory of the upstream of %s is full",
        "Give its `zone` more room in the configuration of NGINX Plus, and reload.",
    ),
    "UpstreamConfFormatError": ("nginx_plus.bad_request", "NGINX Plus does not take a parameter that was sent for %s", _OURS),
    "UpstreamBadAddress": ("nginx_plus.bad_request", "NGINX Plus does not take the address of %s", _OURS),
    "UpstreamBadWeight": ("nginx_plus.bad_request", "NGINX Plus does not take the weight that was sent for %s", _VALUE),
    "UpstreamBadMaxConns": ("nginx_plus.bad_request", "NGINX Plus does not take the max_conns of %s", _OURS),
    "UpstreamBadMaxFails": ("nginx_plus.bad_request", "NGINX Plus does not take the max_fails of %s", _OURS),
    "UpstreamBadFailTimeout": ("nginx_plus.bad_request", "NGINX Plus does not take the fail_timeout of %s", _OURS),
    "UpstreamBadSlowStart": ("nginx_plus.bad_request", "NGINX Plus does not take the slow_start of %s", _OURS),
    "UpstreamBadRoute": ("nginx_plus.bad_request", "NGINX Plus does not take the route of %s", _OURS),
    "UpstreamBadService": ("nginx_plus.bad_request", "NGINX Plus does not take the service of %s", _OURS),
    "BodyReadError": (
        "nginx_plus.unavailable",
        "NGINX Plus could not read what was sent for %s",
        "Look at its error log; then run it again.",
    ),
    "JsonError": ("nginx_plus.bad_request", "NGINX Plus does not take what was sent for %s for JSON", _OURS),
}

_STATUS: dict[int, tuple[str, str, str]] = {
    401: (
        "nginx_plus.unauthorized",
        "NGINX Plus asks for other credentials than it was given",
        "Look at username, secrets.password or secrets.authorization.",
    ),
    403: (
        "nginx_plus.forbidden",
        "NGINX Plus does not let this host or user use its API",
        "Look at `allow` and `deny` (and `limit_except`) in the location of the API, or run the task on the balancer's host.",
    ),
    404: (
        "nginx_plus.no_api",
        "There is no API of NGINX Plus at this address",
        "Look at url, and for `api` in the configuration of NGINX Plus.",
    ),
    405: (
        "nginx_plus.read_only",
        "What answers at this address does not let anything be set",
        "Write `api write=on;` into the location of the API.",
    ),
}


def refusal(status: int, body: t.Any, what: str, text: str) -> LifecycleError:
    """Say what an answer other than 200 means. ``what`` was asked for; ``text`` is nginx's own word, without secrets."""
    code = ""
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        code = str(body["error"].get("code") or "")
    said = " (it says: %s)" % text if text else ""
    if code in KNOWN:
        name, sentence, hint = KNOWN[code]
        if "%s" in sentence:
            sentence = sentence % what
        return LifecycleError(sentence + said + ".", name, hint, {"status": status, "error": code})
    if status in _STATUS and not code:
        name, sentence, hint = _STATUS[status]
        return LifecycleError(sentence + ".", name, hint, {"status": status})
    if 300 <= status < 400:
        return LifecycleError(
            "The API of NGINX Plus answers with a redirect (%d), and none is followed." % status,
            "nginx_plus.redirect",
            "Give as url the address that it leads to, if that is yours.",
            {"status": status},
        )
    if status >= 500:
        return LifecycleError(
            "NGINX Plus answered %d for %s%s." % (status, what, said),
            "nginx_plus.unavailable",
            "Look at its error log, and at what may stand before it.",
            {"status": status},
        )
    return UnknownAnswerError(
        "NGINX Plus answered %d for %s, which is not documented%s." % (status, what, said),
        hint="Nothing is concluded from such an answer.",
        evidence={"status": status, "error": code[:80] if code.isalnum() else ""},
    )

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Probes as data: what a recipe's list of requests means, and what an answer says."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _fill
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._http import HttpError, Reply, Trust, request
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import scrub

_NAME = re.compile(r"^[a-z][a-z0-9_]{0,40}$")
_KEYS = {"name", "method", "path", "url", "headers", "json", "expect", "save", "needs"}
_EXPECT = {"status", "json", "header", "contains"}
# An instance that is starting answers like this, or not at all; on the way to its first answer only.
NOT_YET_STATUS = (502, 503, 504)
NOT_YET_KIND = ("refused", "reset", "timeout")


@dataclasses.dataclass(frozen=True)
class Request:
    """One request of a recipe. Strings may hold ``{name}``; see ``fill``."""

    name: str
    method: str
    path: str
    url: str
    headers: t.Mapping[str, str]
    json: t.Any
    status: tuple[int, ...]
    expect_json: t.Mapping[str, t.Any]
    expect_header: t.Mapping[str, t.Any]
    contains: str
    save: t.Mapping[str, t.Mapping[str, str]]
    needs: tuple[str, ...]


def baseline_file(scope: str, component: str, port: int) -> str:
    """Where the answers from before a change are kept: in memory, for root; live tokens are in it, which must not survive on a disk."""
    return os.path.join("/run/osops/probe", scope, "%s-%d.json" % (component, port))


def parse(rows: t.Sequence[t.Mapping[str, t.Any]]) -> list[Request]:
    """Read the requests of a recipe. Raises BadInputError that names the request and the key."""
    found: list[Request] = []
    for number, row in enumerate(rows):
        name = str(row.get("name", ""))
        where = "requests[%d]%s" % (number, " (%s)" % name if name else "")
        expect = row.get("expect") or {}
        save = row.get("save") or {}
        unknown = sorted([str(key) for key in set(row) - _KEYS] + ["expect.%s" % key for key in set(expect) - _EXPECT])
        if unknown:
            raise BadInputError("%s has the unknown key %s." % (where, unknown[0]), "probe.input")
        if not _NAME.match(name) or name in [request.name for request in found]:
            raise BadInputError("%s needs a name of its own, of small letters, digits and underscores." % where, "probe.input")
        if bool(row.get("path")) == bool(row.get("url")):
            raise BadInputError("%s needs either path or url." % where, "probe.input")
        if any(set(source) not in ({"header"}, {"json"}) or not _NAME.match(key) for key, source in save.items()):
            raise BadInputError("%s: each entry of save is a name with either header or json." % where, "probe.input")
        status = expect.get("status", 200)
        found.append(
            Request(
                name,
                str(row.get("method", "GET")).upper(),
                str(row.get("path") or ""),
                str(row.get("url") or ""),
                dict(row.get("headers") or {}),
                row.get("json"),
                tuple(int(code) for code in (status if isinstance(status, (list, tuple)) else [status])),
                dict(expect.get("json") or {}),
                dict(expect.get("header") or {}),
                str(expect.get("contains") or ""),
                dict(save),
                tuple(row.get("needs") or ()),
            )
        )
    return found


def fill(value: t.Any, known: t.Mapping[str, t.Any]) -> t.Any:
    """``value`` with every ``{name}`` replaced, through lists and mappings; a string that is one name keeps its type."""
    return _fill.fill(value, lambda name: _lookup(name, known))


def _lookup(name: str, known: t.Mapping[str, t.Any]) -> t.Any:
    if name not in known:
        if name.startswith("baseline."):
            raise LifecycleError(
                "There is no %s from before the change on this host." % name.partition(".")[2],
                "probe.no_baseline",
                "It is kept in memory and lost when the host restarts. Take it again where the old release runs.",
            )
        raise BadInputError(
            "The probe needs a value for {%s}." % name,
            "probe.unknown_name",
            "Give it in probe.vars or probe.secrets of the record.",
        )
    return known[name]


def at_path(document: t.Any, path: str) -> t.Any:
    """The value at ``version.links.0.href``; None where the path ends early."""
    for part in path.split("."):
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        else:
            return None
    return document


def _document(reply: Reply) -> t.Any:
    try:
        return json.loads(reply.body.decode("utf-8"))
    except ValueError:
        return None


def judge(wanted: Request, reply: Reply, known: t.Mapping[str, t.Any]) -> str:
    """Why the answer is not what the recipe expects; empty when it is. Pure."""
    if reply.status not in wanted.status:
        return "it answered %d instead of %s" % (reply.status, " or ".join(map(str, wanted.status)))
    document = _document(reply) if wanted.expect_json else None
    for path, value in fill(wanted.expect_json, known).items():
        seen = at_path(document, path)
        # True asks only that something is there: values such as a token differ each time.
        if seen != value and not (value is True and seen is not None):
            return "%s in its answer is %r instead of %r" % (path, seen, value)
    for name, value in fill(wanted.expect_header, known).items():
        header = reply.headers.get(name.lower())
        if header != value and not (value is True and header):
            return "its header %s is %r instead of %r" % (name, header, value)
    if wanted.contains and fill(wanted.contains, known) not in reply.body.decode("utf-8", "replace"):
        return "its answer does not contain %r" % wanted.contains
    return ""


def saved_values(wanted: Request, reply: Reply) -> dict[str, str]:
    """What the request says is to be kept of the answer. A value that is not there is a failure, not an empty string."""
    kept = {}
    for name, source in wanted.save.items():
        value = reply.headers.get(source["header"].lower()) if "header" in source else at_path(_document(reply), source["json"])
        if value in (None, ""):
            raise LifecycleError("The answer to %s holds no %s to keep." % (wanted.name, name), "probe." + wanted.name)
        kept[name] = str(value)
    return kept


@dataclasses.dataclass(frozen=True)
class Target:
    """Where the instance answers."""

    base: str
    trust: Trust
    timeout_s: float


def send(wanted: Request, target: Target, known: t.Mapping[str, t.Any]) -> Reply:
    """Send one request of a recipe to the instance (``path``) or elsewhere (``url``)."""
    body = None if wanted.json is None else json.dumps(fill(wanted.json, known)).encode("utf-8")
    headers = {"Accept": "application/json", **({"Content-Type": "application/json"} if body is not None else {})}
    headers.update({name: str(value) for name, value in fill(wanted.headers, known).items()})
    url = fill(wanted.url, known) if wanted.url else target.base + fill(wanted.path, known)
    return request(wanted.method, str(url), headers, body, target.timeout_s, target.trust)


def failure(wanted: Request, why: str, reply: Reply | None, secrets: t.Iterable[str]) -> LifecycleError:
    """The error of a request that did not do: its status and the begin of its answer, scrubbed."""
    secrets = list(secrets)
    evidence: dict[str, t.Any] = {"request": wanted.name}
    if reply is not None:
        evidence.update(status=reply.status, body=scrub(reply.body[:4000].decode("utf-8", "replace"), secrets)[:400])
    return LifecycleError(
        "The probe %s failed: %s." % (wanted.name, scrub(why, secrets)),
        "probe." + wanted.name,
        "See the log of the service on this host.",
        evidence,
    )


def starting(outcome: Reply | HttpError) -> bool:
    """True for what an instance that is still starting says."""
    return outcome.kind in NOT_YET_KIND if isinstance(outcome, HttpError) else outcome.status in NOT_YET_STATUS

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Read the answers of the API. What has not the documented shape is an error: unknown is not success."""

from __future__ import annotations

import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import UnknownAnswerError
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.address import canonical
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.model import HTTP, STREAM, Conf, Group, Info, Peer

STATES = {
    HTTP: ("up", "draining", "down", "unavail", "checking", "unhealthy"),
    STREAM: ("up", "down", "unavail", "checking", "unhealthy"),
}
_TOTAL = {HTTP: "requests", STREAM: "connections"}
_WORDS: dict[type, str] = {int: "a whole number", str: "a text", bool: "true or false", list: "a list", dict: "an object"}

T = t.TypeVar("T")


def _strange(where: str, what: str) -> UnknownAnswerError:
    return UnknownAnswerError(
        "The API of NGINX Plus answered what its version 9 does not: %s %s." % (where, what),
        hint="Is url the API of NGINX Plus itself? Nothing is concluded from such an answer.",
    )


def _is(value: t.Any, kind: type[T], where: str) -> T:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):  # a bool is an int for isinstance
        raise _strange(where, "is not %s" % _WORDS[kind])
    return value


def _field(data: t.Mapping[str, t.Any], name: str, kind: type[T], where: str) -> T:
    if name not in data:
        raise _strange(where, "has no %s" % name)
    return _is(data[name], kind, "%s of %s" % (name, where))


def parse_names(data: t.Any) -> tuple[str, ...]:
    """Read a list of endpoints."""
    return tuple(_is(name, str, "an endpoint") for name in _is(data, list, "the list of endpoints"))


def parse_info(data: t.Any) -> Info:
    found = _is(data, dict, "nginx")
    return Info(
        version=_field(found, "version", str, "nginx"),
        build=_field(found, "build", str, "nginx"),
        generation=_field(found, "generation", int, "nginx"),
        pid=_field(found, "pid", int, "nginx"),
        ppid=_field(found, "ppid", int, "nginx"),
    )


def parse_groups(kind: str, data: t.Any) -> tuple[Group, ...]:
    """Read the status of all upstreams of a kind."""
    found = []
    for name, body in _is(data, dict, "the list of upstreams").items():
        where = "the upstream %r" % name[:80]
        group = _is(body, dict, where)
        peers = _field(group, "peers", list, where)
        found.append(
            Group(
                kind,
                name,
                _field(group, "zombies", int, where),
                tuple(_peer(kind, peer, "a server of " + where) for peer in peers),
            )
        )
    return tuple(found)


def _peer(kind: str, data: t.Any, where: str) -> Peer:
    peer = _is(data, dict, where)
    state = _field(peer, "state", str, where)
    if state not in STATES[kind]:
        raise _strange("the state %r of %s" % (state[:40], where), "is not a documented one")
    checks = _is(peer.get("health_checks", {}), dict, "health_checks of " + where)
    return Peer(
        id=_field(peer, "id", int, where),
        address=canonical(_field(peer, "server", str, where)),
        name=canonical(_is(peer.get("name", ""), str, "name of " + where)),
        backup=_field(peer, "backup", bool, where),
        weight=_field(peer, "weight", int, where),
        state=state,
        active=_field(peer, "active", int, where),
        total=_field(peer, _TOTAL[kind], int, where),
        passed=_is(checks["last_passed"], bool, "last_passed of " + where) if "last_passed" in checks else None,
    )


def parse_confs(data: t.Any, where: str) -> tuple[Conf, ...]:
    """Read the configuration of all servers of an upstream."""
    return tuple(parse_conf(entry, where) for entry in _is(data, list, "the list of servers of " + where))


def parse_conf(data: t.Any, where: str) -> Conf:
    where = "a server of " + where
    conf = _is(data, dict, where)
    return Conf(
        id=_field(conf, "id", int, where),
        address=canonical(_field(conf, "server", str, where)),
        weight=_field(conf, "weight", int, where),
        down=_field(conf, "down", bool, where),
        drain=_is(conf["drain"], bool, "drain of " + where) if "drain" in conf else None,
    )

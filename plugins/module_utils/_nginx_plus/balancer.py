# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""One NGINX Plus: how to look at it, and how to set a server of it."""

from __future__ import annotations

import socket
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.address import Endpoint, place
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.api import Api
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.model import (
    FLAGS,
    KINDS,
    Conf,
    Group,
    Info,
    Seen,
    Server,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.old import sessions
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.parse import (
    parse_conf,
    parse_confs,
    parse_groups,
    parse_info,
    parse_names,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.refusals import REPLACED
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.rules import health, patch, select


class Balancer:
    """Everything that is asked of NGINX Plus goes through here. Nothing is remembered between two looks: ids change with a reload."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._kinds: tuple[str, ...] = ()
        self._names: dict[str, set[str]] = {}

    def look(self, endpoints: t.Sequence[Endpoint], backends: t.Collection[str]) -> Seen:
        """See the servers at ``endpoints`` and all that share an upstream with them. Raises LifecycleError."""
        if not self._kinds:
            roots = parse_names(self._api.get("/", "its endpoints"))
            self._kinds = tuple(kind for kind in KINDS if kind in roots)
        info = self._info()
        groups = [group for kind in self._kinds for group in self._groups(kind)]
        for name in sorted(set(backends) - {group.name for group in groups}):
            self._refuse_unknown(name, groups)
        chosen = select(groups, endpoints, backends, self._resolve)
        found = []
        for group in {id(group): group for group, _peer in chosen}.values():
            found.append((group, self._servers(group)))
        meant = {(group.kind, group.name, peer.id) for group, peer in chosen}
        targets = tuple(s for _group, servers in found for s in servers if (s.kind, s.group.name, s.id) in meant)
        return Seen(info, targets, tuple(found))

    def old(self, seen: Seen) -> dict[int, int] | None:
        """Count the sessions that workers of before a reload still have with the servers; None when they cannot be seen."""
        places = {place(server.peer.address) for server in seen.targets}
        return sessions(self._api.access.url, seen.info, {found for found in places if found is not None})

    def bring(self, server: Server, wanted: t.Mapping[str, int], seen: Seen) -> bool:
        """Bring a server to ``wanted`` (admin and weight); False when it is so already.

        The answer says which server was set. After a reload the same id may be another one's: that one is put back at once.
        Raises LifecycleError.
        """
        body = patch(server, wanted)
        if not body:
            return False
        hit = self._patch(server, body)
        if hit.address != server.conf.address:
            self._put_back(server, hit, body, seen)
        return True

    def _patch(self, server: Server, body: t.Mapping[str, t.Any]) -> Conf:
        path = "%s%d" % (_servers_path(server.group), server.id)
        return parse_conf(self._api.patch(path, server.key, body), server.group.label)

    def _put_back(self, server: Server, hit: Conf, body: t.Mapping[str, t.Any], seen: Seen) -> None:
        """Another server was set: give it back what it had in the look, flags that were not seen of it are taken away."""
        everyone = [other for group, servers in seen.groups if group is server.group for other in servers]
        former = next((other for other in everyone if other.conf.address == hit.address), None)
        known = {"weight": former.conf.weight, **{name: bool(former.admin & bit) for name, bit in FLAGS}} if former else {}
        was = {name: known.get(name, hit.weight if name == "weight" else False) for name in body}
        again = self._patch(server, was)
        message = "A reload of NGINX Plus came in between, and its number %d became %s instead of %s." % (
            server.id,
            hit.address,
            server.peer.address,
        )
        if again.address != hit.address:
            raise LifecycleError(
                message + " Whether that server was put back is not known.",
                "nginx_plus.not_put_back",
                "Look at the servers of the upstream %s, above all %s." % (server.group.label, hit.address),
            )
        raise LifecycleError(message + " That one was put back.", REPLACED, "Run it again.")

    def _info(self) -> Info:
        return parse_info(self._api.get("/nginx", "the release of nginx", "version,build,generation,pid,ppid"))

    def _groups(self, kind: str) -> tuple[Group, ...]:
        return parse_groups(kind, self._api.get("/%s/upstreams/" % kind, "the upstreams of %s" % kind, "peers,zombies"))

    def _servers(self, group: Group) -> tuple[Server, ...]:
        """Put status and configuration of an upstream together. They are two answers, and a reload may come between."""
        confs = {
            conf.id: conf
            for conf in parse_confs(self._api.get(_servers_path(group), "the servers of %s" % group.label), group.label)
        }
        found = []
        for peer in group.peers:
            conf = confs.get(peer.id)
            if conf is None or conf.address not in (peer.address, peer.name):
                raise LifecycleError(
                    "Status and configuration of the upstream %s do not fit together at %s." % (group.label, peer.address),
                    REPLACED,
                    "A reload came between two questions. Run it again.",
                )
            found.append(Server(group, peer, conf))
        return tuple(found)

    def _refuse_unknown(self, name: str, groups: t.Sequence[Group]) -> t.NoReturn:
        """Ask for the upstream itself: one without shared memory is not in the list, and that is worth its own sentence."""
        for kind in self._kinds:
            try:
                self._api.get("/%s/upstreams/%s/" % (kind, name), name)
            except LifecycleError as exc:
                if exc.code != "nginx_plus.unknown_upstream":
                    raise
        raise BadInputError(
            "NGINX Plus has no upstream %s." % name,
            "nginx_plus.unknown_upstream",
            "It has: %s. An upstream without `zone` cannot be seen." % (", ".join(sorted({g.name for g in groups})) or "none"),
        )

    def _resolve(self, name: str) -> set[str]:
        """Return the addresses of a host name as this host knows them; looked up once."""
        if name not in self._names:
            try:
                found = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
            except (OSError, UnicodeError):  # Not an error here: select() names what it cannot find.
                found = []
            self._names[name] = {str(entry[4][0]) for entry in found}
        return self._names[name]


def _servers_path(group: Group) -> str:
    return "/%s/upstreams/%s/servers/" % (group.kind, group.name)


def describe(seen: Seen) -> list[dict[str, t.Any]]:
    """Show the servers that are meant as a result: what is stable, and the live figures."""
    return [
        {
            "server": server.key,
            "address": server.peer.address,
            "kind": server.kind,
            "status": server.peer.state,
            "health": health(server),
            "admin": server.admin,
            "weight": server.conf.weight,
            "backup": server.peer.backup,
            "checked": server.peer.passed is not None,
            "sessions": server.peer.active,
            "served": server.peer.total,
            "zombies": server.group.zombies,
        }
        for server in seen.targets
    ]

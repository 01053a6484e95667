# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What a configuration says of servers: in which upstreams they are, on which lines, and who sends requests past the upstreams. Pure."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.tree import Edit, Place, Tree, add_word, drop_word

OUT = 1
# `drain` (nginx 1.29.6 and newer) keeps clients that are bound to the server; `down` keeps nobody. So `down` is what is written,
# and both are understood.
WORD = "down"
OUT_WORDS = ("down", "drain")
PASSES = ("proxy_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "memcached_pass")
LUA_BALANCERS = ("balancer_by_lua", "balancer_by_lua_block", "balancer_by_lua_file")
_PORTS = {"http": 80, "https": 443, "grpc": 80, "grpcs": 443}
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,255}")


def check_name(name: str) -> str:
    """The name of an upstream as an argument. Raises BadInputError."""
    if not _NAME.fullmatch(name):
        raise BadInputError("%r cannot be the name of an upstream here." % (name,), "nginx.bad_name")
    return name


class Address(t.NamedTuple):
    """Where a server is: an IP address or a name, and a port. A unix socket has its path as host, and port 0."""

    host: str
    port: int

    @property
    def is_unix(self) -> bool:
        return self.port == 0

    @property
    def text(self) -> str:
        if self.is_unix:
            return "unix:" + self.host
        return "[%s]:%d" % self if ":" in self.host else "%s:%d" % self

    @property
    def is_ip(self) -> bool:
        return not self.is_unix and _ip(self.host) is not None


def _ip(text: str) -> str | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return str(getattr(found, "ipv4_mapped", None) or found)


def address_of(text: str, default_port: int) -> Address:
    """Read what nginx takes as an address. A port that cannot be one (also that of a `service=`) is 0, and then it is nobody's."""
    if text[:5].lower() == "unix:":
        return Address(text[5:].partition(":")[0], 0)
    if text.startswith("["):
        host, _bracket, rest = text[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else ""
    else:
        host, _colon, port = text.partition(":")
    number = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else default_port
    return Address(_ip(host) or host.lower(), number)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One `server` line of one upstream. ``kind`` is http or stream."""

    kind: str
    upstream: str
    address: Address
    place: Place
    weight: int
    backup: bool
    dynamic: bool

    @property
    def key(self) -> str:
        return "%s/%s" % (self.upstream, self.address.text)

    @property
    def line(self) -> tuple[str, int]:
        """What is edited: the same for a line that stands in several upstreams, by an include."""
        return (self.place.source.real, self.place.directive.words[0].start)

    @property
    def out(self) -> bool:
        return any(value in OUT_WORDS for value in self.place.directive.values[1:])

    def take_out(self) -> list[Edit]:
        return [] if self.out else [add_word(self.place.source.real, self.place.directive, WORD)]

    def bring_in(self) -> list[Edit]:
        """Remove every word that keeps it out."""
        source, directive = self.place.source, self.place.directive
        return [drop_word(source.real, source.data, directive, word) for word in directive.words[2:] if word.value in OUT_WORDS]


@dataclasses.dataclass(frozen=True)
class Server:
    """What one key stands for: one line, or several that say the same."""

    entries: tuple[Entry, ...]

    @property
    def first(self) -> Entry:
        return self.entries[0]

    @property
    def key(self) -> str:
        return self.first.key

    @property
    def address(self) -> Address:
        return self.first.address

    @property
    def out(self) -> bool:
        return all(entry.out for entry in self.entries)

    @property
    def backup(self) -> bool:
        return all(entry.backup for entry in self.entries)

    @property
    def stable(self) -> dict[str, int]:
        return {"admin": OUT if self.out else 0, "weight": sum(entry.weight for entry in self.entries)}


@dataclasses.dataclass(frozen=True)
class Direct:
    """A request's way past all upstreams: ``address`` is None where a variable decides."""

    place: Place
    address: Address | None


def entries(tree: Tree) -> list[Entry]:
    """Every server line of every upstream."""
    found = []
    for place in tree.places:
        block = place.inside[-1] if place.inside else None
        if block is None or block.name != "upstream" or len(place.inside) != 2:
            continue
        if place.directive.name == "server" and place.directive.values and block.values:
            found.append(_entry(place, place.inside[0].name, block.values[0]))
    return found


def _entry(place: Place, kind: str, upstream: str) -> Entry:
    words = place.directive.values
    weights = [int(word[7:]) for word in words[1:] if re.fullmatch(r"weight=[0-9]{1,9}", word)]
    return Entry(
        kind,
        upstream,
        address_of(words[0], 80 if kind == "http" else 0),
        place,
        weights[-1] if weights else 1,
        "backup" in words[1:],
        any(word == "resolve" or word.startswith("service=") for word in words[1:]),
    )


def lua_balancers(tree: Tree) -> list[Place]:
    """Where Lua code, in a block or in a file, decides in an upstream which server is asked."""
    return [place for place in tree.places if len(place.inside) == 2 and place.directive.name in LUA_BALANCERS]


def require_no_lua(chosen: t.Iterable[Server], balancers: t.Iterable[Place]) -> None:
    """Refuse servers of an upstream that other code than nginx's decides about. Raises BadInputError."""
    concerned = {(server.first.kind, server.first.upstream) for server in chosen}
    for place in balancers:
        kind, upstream = place.inside[0].name, place.inside[1].values[:1]
        if (kind, "".join(upstream)) in concerned:
            raise BadInputError(
                "%s: Lua code decides in upstream %s which server is asked, so `%s` does not hold there."
                % (place.where, upstream[0], WORD),
                "nginx.lua",
                "This driver cannot serve such an upstream. Nothing was changed.",
            )


def directs(tree: Tree, upstreams: t.Collection[str]) -> list[Direct]:
    """Every `proxy_pass` and the like that names no upstream."""
    known, found = {name.lower() for name in upstreams}, []
    for place in tree.places:
        if place.directive.name not in PASSES or not place.directive.values or not place.inside:
            continue
        target = place.directive.values[0]
        scheme, sign, rest = target.partition("://")
        authority = rest if sign else target
        if authority[:5].lower() != "unix:":
            authority = authority.partition("/")[0]
        if "$" in authority or (sign and "$" in scheme):
            found.append(Direct(place, None))
        elif authority.lower() not in known:
            found.append(Direct(place, address_of(authority, _PORTS.get(scheme.lower() if sign else "", 0))))
    return found


def group(lines: t.Iterable[Entry]) -> list[Server]:
    """Lines to servers, by key; http and stream apart."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in lines:
        found.setdefault((entry.kind, entry.key), []).append(entry)
    return [Server(tuple(same)) for same in found.values()]

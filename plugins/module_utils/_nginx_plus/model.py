# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What the API of NGINX Plus knows of upstream groups and their servers, as frozen data."""

from __future__ import annotations

import dataclasses

HTTP, STREAM = "http", "stream"
KINDS = (HTTP, STREAM)

# How a server is out of traffic, as a mask: nginx keeps the two flags apart, so both may be set. A server of a stream upstream has
# no drain.
DOWN = 0x01
DRAIN = 0x08
SETTABLE = DOWN | DRAIN
# Name of the field in the API, and its bit.
FLAGS = (("down", DOWN), ("drain", DRAIN))


@dataclasses.dataclass(frozen=True)
class Info:
    """What runs there. ``generation`` counts the reloads, so that one between two looks is seen.

    ``pid`` is the worker that has answered, ``ppid`` its master.
    """

    version: str
    build: str
    generation: int
    pid: int
    ppid: int


@dataclasses.dataclass(frozen=True)
class Peer:
    """A server of an upstream as its status shows it. ``total`` counts its requests (http) or connections (stream).

    ``passed`` is how the last health check ended, None where none was made.
    """

    id: int
    address: str
    name: str
    backup: bool
    weight: int
    state: str
    active: int
    total: int
    passed: bool | None


@dataclasses.dataclass(frozen=True)
class Group:
    """An upstream. ``zombies`` are servers that were removed from it and still have sessions."""

    kind: str
    name: str
    zombies: int
    peers: tuple[Peer, ...]

    @property
    def label(self) -> str:
        """An upstream of each kind may have the same name."""
        return self.name if self.kind == HTTP else "%s (stream)" % self.name


@dataclasses.dataclass(frozen=True)
class Conf:
    """A server of an upstream as it is configured. ``drain`` is None where the API does not say."""

    id: int
    address: str
    weight: int
    down: bool
    drain: bool | None


@dataclasses.dataclass(frozen=True)
class Server:
    """A server as one look found it. ``id`` holds for this look only: a reload gives them anew."""

    group: Group
    peer: Peer
    conf: Conf

    @property
    def id(self) -> int:
        return self.peer.id

    @property
    def kind(self) -> str:
        return self.group.kind

    @property
    def key(self) -> str:
        """``UPSTREAM/ADDRESS:PORT``."""
        return "%s/%s" % (self.group.name, self.peer.address)

    @property
    def admin(self) -> int:
        """What somebody has set."""
        drain = self.peer.state == "draining" if self.conf.drain is None else self.conf.drain
        return (DOWN if self.conf.down else 0) | (DRAIN if drain else 0)

    @property
    def leave(self) -> int:
        """The mask that a drain sets: what keeps new sessions away and lets those go on that are there."""
        return DRAIN if self.kind == HTTP else DOWN

    @property
    def stable(self) -> dict[str, int]:
        """What changes only because somebody changes it."""
        return {"admin": self.admin, "weight": self.conf.weight}


@dataclasses.dataclass(frozen=True)
class Seen:
    """One look: what runs there, every server that is meant, and every group that holds one, with all its servers."""

    info: Info
    targets: tuple[Server, ...]
    groups: tuple[tuple[Group, tuple[Server, ...]], ...]

    @property
    def by_key(self) -> dict[str, Server]:
        return {server.key: server for server in self.targets}

    @property
    def count(self) -> int:
        return sum(len(servers) for _group, servers in self.groups)

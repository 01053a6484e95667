# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fake NGINX Plus with real sockets behind it, and the two acts on it."""

from __future__ import annotations

import dataclasses
import json
import socket
import ssl
import threading
import time
import typing as t

from tests.integration.nginx_plus.fake import FakePlus, FakeServer
from tests.ports import free_port

DEFAULTS: dict[str, t.Any] = {
    "backends": [],
    "min_available": 1,
    "policy": "wait",
    "restore": None,
    "expect": None,
    "resume": False,
    "deadline": 5,
    "username": "",
    "secrets": {},
    "ca_file": None,
    "server_name": "",
    "timeout": 2,
}


def until(goal: t.Callable[[], t.Any], seconds: float = 10.0, what: str = "") -> t.Any:
    """Wait until ``goal`` returns something true, and return that; fail the test otherwise."""
    end = time.monotonic() + seconds
    while True:
        found = goal()
        if found:
            return found
        assert time.monotonic() < end, "not within %.0f s: %s" % (seconds, what or goal)
        time.sleep(0.02)


class Backend:
    """Something that takes TCP connections, until it dies."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.create_server((host, port or free_port()), family=family)
        self.host, self.port = host, int(self.socket.getsockname()[1])
        self.address = ("[%s]:%d" if ":" in host else "%s:%d") % (host, self.port)

    def die(self) -> None:
        self.socket.close()

    def revive(self) -> None:
        self.__init__(self.host, self.port)  # type: ignore[misc]


class Lab:
    """Two healthy servers s1 and s2 in the http upstream be."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.plus = FakePlus(context)
        self.backends = {"s1": Backend(), "s2": Backend()}
        self.plus.add("http", "be", *(FakeServer(backend.address) for backend in self.backends.values()))
        self.timers: list[threading.Timer] = []
        self.lawless = False
        """A test that answers by hand is not held to the table."""

    def address(self, name: str) -> str:
        return self.backends[name].address if name in self.backends else name

    def key(self, name: str, upstream: str = "be") -> str:
        return "%s/%s" % (upstream, self.address(name))

    def server(self, name: str, upstream: str = "be", kind: str = "http") -> FakeServer:
        return self.plus.server(self.key(name, upstream), kind)

    def flags(self) -> set[tuple[bool, bool]]:
        """(down, drain) of all servers."""
        every = self.plus.upstreams.values()
        return {(one.down, one.drain) for kind in every for upstream in kind.values() for one in upstream.servers}

    def patches(self) -> list[t.Any]:
        """The bodies of all that was sent to change something."""
        return [body for method, _path, body, _headers in self.plus.log if method != "GET"]

    def later(self, seconds: float, act: t.Callable[[], t.Any]) -> None:
        timer = threading.Timer(seconds, act)
        self.timers.append(timer)
        timer.start()

    def stop(self) -> None:
        for timer in self.timers:
            timer.cancel()
            timer.join()
        self.plus.stop()
        for backend in self.backends.values():
            backend.die()


def params(lab: Lab, names: t.Sequence[str] = ("s1",), **given: t.Any) -> dict[str, t.Any]:
    return {**DEFAULTS, "url": lab.plus.url, "servers": [lab.address(name) for name in names], **given}


def act(lab: Lab, kind: str, names: t.Sequence[str] = ("s1",), check_mode: bool = False, **given: t.Any) -> t.Any:
    """Run one act in this process, as the module does, and return its Outcome."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.access import Access
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.api import Api
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.balancer import Balancer
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.drain import Drain
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.ready import Ready
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.traffic import Request

    wanted = params(lab, names, **given)
    request = dataclasses.replace(Request.from_params(wanted), check_mode=check_mode)
    return {"drain": Drain, "ready": Ready}[kind](Balancer(Api(Access.from_params(wanted))), request).run()


def answer(status: int, body: t.Any, kind: str = "application/json", *headers: str, length: int | None = None) -> bytes:
    """An answer as it goes over the wire; ``length``: what it says of itself."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    said = len(data) if length is None else length
    lines = [
        "HTTP/1.1 %d Whatever" % status,
        "Content-Type: " + kind,
        "Content-Length: %d" % said,
        *headers,
        "Connection: close",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + data

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A little cloud for the prober: two real HAProxies before a Keystone look-alike that misbehaves exactly as told."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import subprocess
import threading
import time
import typing as t
from pathlib import Path

from aiohttp import web

from tests.ports import free_port

USER = {"token": {"user": {"id": "u1"}}}


def number_of(probe_id: str) -> int:
    """The number of a request, or -1 for the logins before the start."""
    return -1 if "-setup-" in probe_id else int(probe_id.rpartition("-")[2])


class Backend:
    """Answers as Keystone does, but for requests that ``fault`` names by their number: 503, 401, hang, slow, broken, wrong."""

    def __init__(self) -> None:
        self.port = free_port()
        self.fault: t.Callable[[int], str] = lambda _number: ""
        self.seen: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Backend:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        probe = request.headers["X-Probe-Id"]
        self.seen.append(probe)
        fault = self.fault(number_of(probe))
        if fault.isdigit():
            return web.Response(status=int(fault))
        if fault == "hang":
            await asyncio.sleep(60)
        if fault == "slow":
            await asyncio.sleep(0.5)
        if fault == "stall":
            time.sleep(1.0)  # noqa: ASYNC251 - the whole backend stands still, for everybody
        if fault == "broken":
            half = web.StreamResponse(headers={"Content-Length": "1000"})
            await half.prepare(request)
            await half.write(b"half an answer")
            assert request.transport is not None
            request.transport.abort()
            return half
        if fault == "wrong":
            return web.json_response({"error": "a page of a proxy, perhaps"}, status=_status(request))
        return web.json_response(_body(request), status=_status(request), headers={"X-Subject-Token": "t-" + probe})


def _status(request: web.Request) -> int:
    return 201 if request.method == "POST" else 200


def _body(request: web.Request) -> dict[str, t.Any]:
    if request.path == "/v3/projects":
        return {"projects": [{"id": "p1"}]}
    return {"user": {"id": "u1"}} if request.method == "PATCH" else USER


CONFIG = """\
global
  log stdout format raw local0
  maxconn 2000
defaults
  log global
  mode http
  option httplog
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  timeout http-request 10s
frontend front
  bind 127.0.0.1:{port}
  capture request header X-Probe-Id len 64
  {extra}
  default_backend keystone
backend keystone
  server ctl1 127.0.0.1:{backend}
"""


@dataclasses.dataclass
class Balancer:
    """A real HAProxy with its log on disk."""

    name: str
    port: int
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def argument(self) -> str:
        return "%s=http://127.0.0.1:%d" % (self.name, self.port)


@contextlib.contextmanager
def balancer(program: str, name: str, backend: int, folder: Path, extra: str = "") -> t.Iterator[Balancer]:
    """Start HAProxy with ``extra`` as a line of its frontend, and end it."""
    port, config, log = free_port(), folder / (name + ".cfg"), folder / (name + ".log")
    config.write_text(CONFIG.format(port=port, backend=backend, extra=extra), encoding="utf-8")
    with open(log, "wb") as out:
        process = subprocess.Popen([program, "-db", "-f", str(config)], stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("haproxy did not start: %s" % log.read_text(encoding="utf-8"))
            time.sleep(0.05)
        yield Balancer(name, port, log, process)
    finally:
        process.kill()
        process.wait(10)

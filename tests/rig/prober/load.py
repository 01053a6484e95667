# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends requests when they are due, whatever became of the ones before."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import json
import math
import resource
import signal
import time
import typing as t
from pathlib import Path

import aiohttp

from tests.rig.prober.keystone import Asked, UnusableError
from tests.rig.prober.record import Arrival, Folder, Probe, arrivals

HEADER = "X-Probe-Id"


@dataclasses.dataclass(frozen=True)
class Load:
    """What to ask for. ``balancers`` are name -> base URL; ``timeout`` seconds make a failure of a request without answer."""

    run: str
    rate: float
    balancers: t.Mapping[str, str]
    weights: t.Mapping[str, int]
    timeout: float = 10.0
    seconds: float | None = None
    until: Path | None = None
    seed: int = 1


def cause_of(exc: Exception) -> str:
    """Name the failure of a request that got no answer."""
    if isinstance(exc, TimeoutError):
        return "timeout"
    if isinstance(exc, aiohttp.ClientConnectorError):
        return "refused" if exc.os_error.errno == errno.ECONNREFUSED else "unreachable"
    if isinstance(exc, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError)):
        return "reset"
    return "bad_http"


@contextlib.asynccontextmanager
async def sessions(limit: float) -> t.AsyncIterator[dict[bool, aiohttp.ClientSession]]:
    """Two clients: False keeps connections alive, True takes a new one for each request. A request takes at most ``limit`` s.

    Neither retries, and neither lets a request wait for another one.
    """
    # Kept connections are dropped here before HAProxy would: a request that races with its close is HAProxy's right, not a
    # fault of an upgrade.
    kept = aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0)
    made = {}
    async with contextlib.AsyncExitStack() as stack:
        for fresh, connector in ((False, kept), (True, aiohttp.TCPConnector(limit=0, force_close=True))):
            session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=limit), cookie_jar=aiohttp.DummyCookieJar()
            )
            # aiohttp sends a GET again when a kept connection broke under it, which would hide what is counted here. There
            # is no public switch; its own test client uses this one, and test_prober.py proves that it works.
            session._retry_connection = False
            made[fresh] = await stack.enter_async_context(session)
        yield made


class Prober:
    """One probing: the first operation through each balancer, which logs in where that is one, then send until told to stop."""

    def __init__(self, load: Load, asked: Asked, folder: Folder) -> None:
        self._load = load
        self._asked = asked
        self._folder = folder
        self._stop = asyncio.Event()
        self._last = 0.0

    async def run(self) -> None:
        """Probe, and write all files but the report. Raises UnusableError when the cloud does not even let it log in."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        async with sessions(self._load.timeout) as clients:
            for count, balancer in enumerate(self._load.balancers):
                arrival = Arrival(count, 0.0, next(iter(self._asked.weights)), balancer, fresh=True)
                probe = await self._send(clients, arrival, "%s-setup-%d" % (self._load.run, count), time.time(), time.monotonic())
                if probe.failure:
                    raise UnusableError(
                        "no %s through %s (%s): %s" % (arrival.operation, balancer, self._load.balancers[balancer], probe.failure)
                    )
            wall, start = time.time(), time.monotonic()
            about = {key: getattr(self._load, key) for key in ("run", "rate", "timeout", "seed")}
            about.update(balancers=dict(self._load.balancers), weights=dict(self._load.weights), begin=wall)
            with open(self._folder.begin(about), "a", encoding="utf-8") as file:  # noqa: ASYNC230 - before the load begins
                await self._send_all(clients, file, wall, start)
            self._folder.write("run.json", dict(about, end=wall + self._last))

    async def _send_all(self, clients: dict[bool, aiohttp.ClientSession], file: t.TextIO, wall: float, start: float) -> None:
        plan = arrivals(self._load.rate, list(self._load.balancers), self._load.weights, self._load.seed)

        async def one(arrival: Arrival) -> None:
            name = "%s-%d" % (self._load.run, arrival.number)
            probe = await self._send(clients, arrival, name, wall + arrival.at, start + arrival.at)
            file.write(json.dumps(dataclasses.asdict(probe)) + "\n")

        async def flush() -> None:
            # So that little is lost when this process is killed, and others can look on.
            while not self._stop.is_set():
                file.flush()
                if self._load.until is not None and self._load.until.exists():
                    self._stop.set()
                await asyncio.sleep(0.2)

        limit = math.inf if self._load.seconds is None else self._load.seconds
        # An exception in a task (a fault of the prober itself) ends everything, loudly.
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(flush())
            for arrival in plan:
                over = arrival.at >= limit
                due = min(arrival.at, limit)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), max(start + due - time.monotonic(), 0.0))
                if self._stop.is_set() or over:
                    break
                tasks.create_task(one(arrival))
            # Nothing was due any more from here on, although answers may still come.
            self._last = time.monotonic() - start
            self._stop.set()

    async def _send(
        self, clients: dict[bool, aiohttp.ClientSession], arrival: Arrival, name: str, due_wall: float, due: float
    ) -> Probe:
        """Send one request; ``due`` is on the monotonic clock, ``due_wall`` the same moment on the wall clock."""
        request = self._asked.request(arrival.operation, name)
        late = time.monotonic() - due
        status: int | None = None
        try:
            async with clients[arrival.fresh].request(
                request.method,
                self._load.balancers[arrival.balancer] + request.path,
                headers={**request.headers, HEADER: name},
                json=request.body,
                allow_redirects=False,
            ) as response:
                status = response.status
                text = await response.read()
                failure = self._asked.judge(arrival.operation, status, response.headers, _json(text), name)
        except (aiohttp.ClientError, TimeoutError) as exc:
            # An answer that broke off in the middle has a status, and is a failure all the same.
            failure = cause_of(exc)
        spent = time.monotonic() - due
        return Probe(
            name,
            arrival.operation,
            arrival.balancer,
            arrival.fresh,
            due_wall,
            round(late * 1000, 3),
            round(spent * 1000, 3),
            status,
            failure,
        )


def _json(text: bytes) -> t.Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def raise_file_limit() -> None:
    """Allow as many open connections as the machine grants: when nothing answers, all of them wait."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

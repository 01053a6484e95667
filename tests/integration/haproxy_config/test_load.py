# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reloads under load: no request fails, not at our frontend and not at those of others."""

from __future__ import annotations

import threading
import time
import typing as t

from tests.integration.haproxy.lab import Client, Lab, until
from tests.integration.haproxy_config.conftest import Shop

CLIENTS = 4


class Loop(Client):
    """A keep-alive client that does what HTTP asks: after `Connection: close` it opens another connection."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.closing = False

    def answer(self) -> str:
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = self.sock.recv(4096)
            if not chunk:
                return "closed"
            data += chunk
        head, _blank, body = data.partition(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length"))
        while len(body) < length:
            body += self.sock.recv(4096)
        self.closing = "connection: close" in lines
        status = lines[0].split(" ")[1]
        return body.decode() if status == "200" else status


class Load:
    """Closed loops, 30 ms a request. Everything but an answer with 200 is an error; nothing is tried again."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.errors: list[str] = []
        self.good = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        until(lambda: self.good > 20, why=lambda: str(self.errors[:3]))
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        client = Loop(self.port)
        while not self._stop.is_set():
            try:
                answer = client.get("/slow/0.03")
            except OSError as exc:
                answer = type(exc).__name__
            if len(answer) == 2:  # the name of a server
                self.good += 1
            else:
                self.errors.append(answer)
            if client.closing or len(answer) != 2:
                client.close()
                client = Loop(self.port)
        client.close()


def test_no_request_fails(make_lab: t.Callable[..., Lab]) -> None:
    shop = Shop(make_lab())
    shop.lab.config()
    config = shop.lab.folder / "haproxy.cfg"
    config.write_text(config.read_text().replace("frontend front\n", "frontend front\n  option idle-close-on-response\n"))
    shop.lab.start()
    try:
        assert shop.act(min_up=2).verdict.passed
        longest = 0.0
        with Load(shop.port) as ours, Load(shop.lab.port) as theirs:
            for turn in range(6):
                told = shop.act(backend=shop.backend(balance=("leastconn", "roundrobin")[turn % 2]), min_up=2)
                assert told.verdict.passed, told.verdict
                assert told.more["reloads"] == 1
                longest = max(longest, told.more["reload_s"])
                good = ours.good, theirs.good
                until(lambda good=good: ours.good > good[0] + 20 and theirs.good > good[1] + 20)
        assert (ours.errors, theirs.errors) == ([], [])
        assert longest < 10
        print("requests %d + %d, longest reload %.2f s" % (ours.good, theirs.good, longest))
    finally:
        shop.stop()


def test_a_slow_request_in_hand_ends_well(shop: Shop) -> None:
    assert shop.act(min_up=2).verdict.passed
    client = Client(shop.port)
    client.send("/slow/1.5")
    until(lambda: shop.sessions() == 1)
    begun = time.monotonic()
    gone = shop.act(state="absent")
    assert gone.verdict.passed, gone.verdict
    assert time.monotonic() - begun < 1.4  # it does not wait for the old worker's last request
    assert client.answer() in shop.web

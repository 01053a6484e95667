# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server is replaced under load: with our drain no client sees it, without one clients do."""

from __future__ import annotations

import threading
import time
import typing as t

import pytest

from tests.integration.haproxy.conftest import act
from tests.integration.haproxy.lab import Client, Lab, Web, until

CLIENTS = 8


class Load:
    """Keep-alive clients in closed loops, 30 ms a request. Everything but an answer with 200 is an error; nothing is tried again."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.errors: list[str] = []
        self.good = 0
        self.slowest_s = 0.0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        until(lambda: self.good > 20)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        client = Client(self._lab.port)
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                answer = client.get("/slow/0.03")
            except OSError as exc:
                answer = type(exc).__name__
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)
            if answer in self._lab.web:
                self.good += 1
            else:
                self.errors.append(answer)
                client.close()
                client = Client(self._lab.port)
        client.close()


def _replace(lab: Lab) -> None:
    """What an upgrade does: the old process stops at once, with all its connections, and the new one starts a little later."""
    port = lab.web["s1"].port
    lab.web["s1"].die()
    lab.web["s1"].drop()
    time.sleep(0.5)
    lab.web["s1"] = Web("s1", port)


@pytest.fixture
def strict(make_lab: t.Callable[..., Lab]) -> Lab:
    """No second chances inside HAProxy."""
    lab = make_lab()
    lab.config("  retries 0\n", default="check inter 300 rise 2 fall 3")
    return lab.start()


def test_with_our_drain_no_request_fails(strict: Lab) -> None:
    with Load(strict) as load:
        drained = act(strict, "drain", deadline=20)
        assert drained.verdict.passed
        assert strict.sessions("be/s1") == 0
        _replace(strict)
        assert act(strict, "ready", restore=drained.before, deadline=20).verdict.passed
        so_far, seen = load.good, strict.web["s1"].seen
        until(lambda: load.good > so_far + 50 and strict.web["s1"].seen > seen + 10)
    assert load.errors == []
    assert load.good > 100


def test_without_a_drain_requests_fail(strict: Lab) -> None:
    """The measure itself: it must be able to see failures."""
    with Load(strict) as load:
        _replace(strict)
        until(lambda: strict.status("be/s1") == "UP")
    assert load.errors

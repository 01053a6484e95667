#!/usr/bin/env python3
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients see of a drain and a ready of osops.lifecycle.nginx_upstream: failed requests, by the way in which they use connections.

benchmarks/nginx_reload.py [--rounds 10]

A real nginx in front of two small servers, on loopback, and about 90 requests a second. A round is a drain of one server, a pause, its
ready, a pause: two reloads. Cases: nothing happens; the driver; the driver, and nginx keeps no client connection open
(keepalive_timeout 0); no driver, but the server itself refuses new connections for the same time (proxy_next_upstream). Clients keep
their connection, and send the next request at once or after a second, or open one for each request; those that keep it send blindly, or
look first whether it was closed, as urllib3 does. A request has failed when no whole answer with status 200 came. Each failed one is sent
once more over a new connection, to see whether a retry would have helped. Result: build/bench/nginx_reload.json.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import http.server
import json
import random
import select
import socket
import sys
import tempfile
import threading
import time
import typing as t
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(REPOSITORY / "build" / "dev"))

from tests.integration.nginx.lab import Lab  # noqa: E402 - found through the line above

RESULT = REPOSITORY / "build" / "bench" / "nginx_reload.json"
PAUSE_S = 1.3


class _Page(http.server.BaseHTTPRequestHandler):
    """GET and POST: a short answer, after 70 ms of work."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: t.Any) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(0.07)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_GET


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Page)
        self.port = port
        self.address = "127.0.0.1:%d" % port
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """nginx hung up."""

    def die(self) -> None:
        """Stop listening; connections that are open go on."""
        self.shutdown()
        self.server_close()


class Way(t.NamedTuple):
    """How a client uses connections: whether it keeps one, its pause between two requests, and whether it looks before it sends."""

    name: str
    keeps: bool
    pause_s: float
    looks: bool
    clients: int


WAYS = (
    Way("a new connection each time", False, 0.2, False, 2),
    Way("kept, at once, sends blindly", True, 0.0, False, 1),
    Way("kept, at once, looks first", True, 0.0, True, 1),
    Way("kept, idle 1 s, sends blindly", True, 1.0, False, 5),
    Way("kept, idle 1 s, looks first", True, 1.0, True, 5),
)


class Talker(threading.Thread):
    def __init__(self, port: int, way: Way, method: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.port, self.way, self.method, self.stopped = port, way, method, stop
        self.counts: collections.Counter[str] = collections.Counter()
        self.whys: collections.Counter[str] = collections.Counter()
        self._sock: socket.socket | None = None

    def run(self) -> None:
        time.sleep(random.random() * self.way.pause_s)  # noqa: S311 - spreads the clients
        while not self.stopped.is_set():
            self._request()
            time.sleep(self.way.pause_s * random.uniform(0.8, 1.2))  # noqa: S311 - likewise
        self._close()

    def _request(self) -> None:
        self.counts["requests"] += 1
        if self._sock is not None and self.way.looks and select.select([self._sock], [], [], 0)[0]:
            self.counts["found closed"] += 1
            self._close()
        reused = self._sock is not None
        why = self._exchange()
        if why:
            self.counts["failed"] += 1
            self.whys["%s, on %s connection" % (why, "a kept" if reused else "a new")] += 1
            self._close()
            again = self._exchange()
            self.counts["failed again"] += bool(again)
        if not self.way.keeps:
            self._close()

    def _exchange(self) -> str:
        """Why it failed; empty when a whole answer came."""
        try:
            if self._sock is None:
                self._sock = socket.create_connection(("127.0.0.1", self.port), timeout=10)
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            body = "ab" if self.method == "POST" else ""
            self._sock.sendall(
                ("%s / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (self.method, len(body), body)).encode()
            )
            data = b""
            while not data.endswith(b"\r\n\r\nok"):
                chunk = self._sock.recv(4096)
                if not chunk:
                    return "cut" if data else "closed"
                data += chunk
                if not data.startswith((b"HTTP/1.1 200", b"HTTP/1.1 2"[: len(data)])):
                    return data[9:12].decode("latin-1")
        except OSError as exc:
            return type(exc).__name__
        if b"Connection: close" in data:
            self._close()
        return ""

    def _close(self) -> None:
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.close()
        self._sock = None


def load(lab: Lab, act: t.Callable[[], None]) -> dict[str, dict[str, t.Any]]:
    """Let all clients talk while ``act`` happens; what came of it, by method and way."""
    stop = threading.Event()
    talkers = [Talker(lab.port, way, method, stop) for way in WAYS for method in ("GET", "POST") for _ in range(way.clients)]
    for talker in talkers:
        talker.start()
    time.sleep(PAUSE_S)
    started = time.monotonic()
    act()
    took = time.monotonic() - started
    time.sleep(PAUSE_S)
    stop.set()
    for talker in talkers:
        talker.join(15)
    found: dict[str, dict[str, t.Any]] = {"seconds": {"act": round(took, 1)}}
    for way in WAYS:
        for method in ("GET", "POST"):
            mine = [talker for talker in talkers if (talker.way, talker.method) == (way, method)]
            counts = sum((talker.counts for talker in mine), collections.Counter[str]())
            whys = sum((talker.whys for talker in mine), collections.Counter[str]())
            found["%s %s" % (method, way.name)] = {
                "clients": len(mine), "requests": counts["requests"], "failed": counts["failed"],
                "failed again": counts["failed again"], "found closed": counts["found closed"], "why": dict(whys),
            }  # fmt: skip
    return found


def driver(lab: Lab, rounds: int) -> t.Callable[[], None]:
    from tests.integration.nginx.conftest import act

    def run() -> None:
        for _ in range(rounds):
            for kind in ("drain", "ready"):
                verdict = act(lab, kind, deadline=20).verdict
                if not verdict.passed:
                    raise SystemExit("%s: %s" % (kind, verdict.reason))
                time.sleep(PAUSE_S)

    return run


def refusing(lab: Lab, rounds: int) -> t.Callable[[], None]:
    def run() -> None:
        for _ in range(rounds):
            port = lab.web["s1"].port
            lab.web["s1"].die()
            time.sleep(PAUSE_S)
            lab.web["s1"] = Server(port)  # type: ignore[assignment]
            time.sleep(PAUSE_S)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    asked = parser.parse_args()
    link = REPOSITORY / "build" / "dev" / "ansible_collections" / "osops" / "lifecycle"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(REPOSITORY, target_is_directory=True)
    from tests.ports import free_port

    results: dict[str, t.Any] = {"rounds": asked.rounds, "pause_s": PAUSE_S, "cases": {}}
    cases = (
        ("nothing happens", "", lambda lab: lambda: time.sleep(asked.rounds * PAUSE_S * 2)),
        ("the driver", "", lambda lab: driver(lab, asked.rounds)),
        ("the driver, keepalive_timeout 0", "keepalive_timeout 0;", lambda lab: driver(lab, asked.rounds)),
        ("no driver, the server refuses connections", "", lambda lab: refusing(lab, asked.rounds)),
    )
    for name, http_part, case in cases:
        with tempfile.TemporaryDirectory(prefix="osops-") as folder:
            lab = Lab(Path(folder), ())
            lab.web = {which: Server(free_port()) for which in ("s1", "s2")}  # type: ignore[misc]
            lab.write(http=http_part, workers=2)
            lab.start()
            try:
                results["cases"][name] = load(lab, case(lab))
            finally:
                lab.stop()
        print("%s (%s s)" % (name, results["cases"][name].pop("seconds")["act"]))
        for way, seen in results["cases"][name].items():
            print(
                "  %-38s %4d requests of %2d clients: %3d failed, %d again; %3d found closed before  %s"
                % (
                    way,
                    seen["requests"],
                    seen["clients"],
                    seen["failed"],
                    seen["failed again"],
                    seen["found closed"],
                    seen["why"] or "",
                )
            )
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=2) + "\n")
    print("written: %s" % RESULT.relative_to(REPOSITORY))


if __name__ == "__main__":
    main()

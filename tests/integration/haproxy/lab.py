# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real HAProxy on loopback, with small real servers behind it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import typing as t
from pathlib import Path

from tests.ports import free_port

HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
WEBSOCKET_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def until(goal: t.Callable[[], t.Any], seconds: float = 10.0, what: str = "", why: t.Callable[[], str] = str) -> t.Any:
    """Wait until ``goal`` returns something true, and return that; fail the test otherwise."""
    end = time.monotonic() + seconds
    while True:
        found = goal()
        if found:
            return found
        assert time.monotonic() < end, "not within %.0f s: %s %s" % (seconds, what or goal, why())
        time.sleep(0.02)


class _Page(http.server.BaseHTTPRequestHandler):
    """GET /: the server's name. /slow/SECONDS: later. With Upgrade: a websocket that echoes until its client leaves."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Web

    def log_message(self, format: str, *args: t.Any) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self.server.seen += 1
        if self.headers.get("Upgrade"):
            self._tunnel()
            return
        if self.path.startswith("/slow/"):
            time.sleep(float(self.path.split("/")[2]))
        body = self.server.name.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _tunnel(self) -> None:
        accept = hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + _WEBSOCKET_GUID).digest()  # noqa: S324 (RFC 6455)
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(accept).decode())
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):
            while data := self.connection.recv(1024):
                self.connection.sendall(data)


class Web(http.server.ThreadingHTTPServer):
    """One server behind the balancer. It can die and come back on the same port."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, name: str, port: int = 0, host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port or free_port()), _Page)
        self.name = name
        self.seen = 0
        self.open: list[socket.socket] = []
        self.port = int(self.server_address[1])
        self.address = "[%s]:%d" % (host, self.port) if ":" in host else "%s:%d" % (host, self.port)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """A client or HAProxy hung up: tests do that on purpose."""

    def process_request(self, request: t.Any, client_address: t.Any) -> None:
        self.open.append(request)
        super().process_request(request, client_address)

    def die(self) -> None:
        """Stop listening; connections that are open go on."""
        self.shutdown()
        self.server_close()

    def drop(self) -> None:
        """Cut the connections that are open, as the end of a process does."""
        for request in self.open:
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


class Client:
    """One TCP connection to the balancer, keep-alive, with the cookie that it was given."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.cookie = ""

    def send(self, path: str = "/", *headers: str) -> None:
        lines = ["GET %s HTTP/1.1" % path, "Host: lab", *headers, *(["Cookie: " + self.cookie] if self.cookie else []), "", ""]
        self.sock.sendall("\r\n".join(lines).encode())

    def answer(self) -> str:
        """Return the body of one answer, the status when it is not 200, closed without an answer, or cut in its middle."""
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = self.sock.recv(4096)
            if not chunk:
                return "closed"
            data += chunk
        head, _blank, body = data.partition(b"\r\n\r\n")
        text = head.decode()
        cookie = re.search(r"(?im)^set-cookie: ([^;\r\n]+)", text)
        if cookie:
            self.cookie = cookie.group(1)
        length = re.search(r"(?im)^content-length: (\d+)", text)
        while length and len(body) < int(length.group(1)):
            chunk = self.sock.recv(4096)
            if not chunk:
                return "cut"
            body += chunk
        status = text.split(" ")[1]
        return body.decode() if status == "200" else status

    def get(self, path: str = "/") -> str:
        self.send(path)
        return self.answer()

    def websocket(self) -> Client:
        self.send(
            "/ws", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + WEBSOCKET_KEY
        )
        assert self.answer() == "101"
        return self

    def echoes(self) -> bool:
        """True when the tunnel is alive."""
        try:
            self.sock.sendall(b"ping")
            return self.sock.recv(16) == b"ping"
        except OSError:
            return False

    def close(self) -> None:
        self.sock.close()


class Lab:
    """HAProxy in a folder: sockets, configuration, reload. ``web`` are the servers behind it, by name."""

    def __init__(
        self, folder: Path, names: t.Sequence[str] = ("s1", "s2"), master: bool = True, inside: t.Sequence[str] = ()
    ) -> None:
        """``inside``: a command that runs HAProxy in namespaces of its own."""
        self.folder = folder
        self._inside = list(inside)
        self.port = free_port()
        self.admin = str(folder / "admin.sock")
        self.master = str(folder / "master.sock") if master else ""
        self.state_file = str(folder / "state")
        self.web = {name: Web(name) for name in names}
        self.log = (folder / "haproxy.log").open("wb")
        self.process: subprocess.Popen[bytes] | None = None
        self._others: list[Client] = []
        self.arguments: list[str] = []  # more of HAProxy's command line, such as a second -f

    def config(self, body: str = "", glob: str = "", default: str = "check inter 100 rise 2 fall 3") -> None:
        """Write the configuration: backend be with all servers, and whatever else the test wants."""
        servers = "\n".join("  server %s 127.0.0.1:%d" % (web.name, web.port) for web in self.web.values())
        (self.folder / "haproxy.cfg").write_text(
            """global
  stats socket %(admin)s mode 660 level admin
  stats socket %(folder)s/operator.sock mode 660 level operator
  stats socket %(folder)s/user.sock mode 660 level user
  stats timeout 30s
  %(glob)s
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
  default-server %(default)s
frontend front
  bind 127.0.0.1:%(port)d
  default_backend be
backend be
%(servers)s
%(body)s
"""
            % {
                "admin": self.admin,
                "folder": self.folder,
                "glob": glob,
                "default": default,
                "port": self.port,
                "servers": servers,
                "body": body,
            }
        )

    def start(self, wait_up: bool = True) -> Lab:
        assert HAPROXY, "haproxy is not installed"
        command = (
            [*self._inside, HAPROXY, "-W", "-f", str(self.folder / "haproxy.cfg")]
            + (["-S", self.master] if self.master else [])
            + self.arguments
        )
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        until(
            lambda: self.raw("show info").startswith("Name: HAProxy"),
            what="HAProxy starts",
            why=(self.folder / "haproxy.log").read_text,
        )
        if self.master:
            until(lambda: self.raw("show proc", self.master), what="the master answers")
        if wait_up:
            until(self.all_checked, what="all servers are checked")
        return self

    def all_checked(self) -> bool:
        """Every server with a check has passed one."""
        return not any(row[11] != "3" and row[13] != "0" for row in self.rows())

    def rows(self) -> list[list[str]]:
        return [line.split(" ") for line in self.raw("show servers state").splitlines()[2:] if line]

    def raw(self, command: str, path: str = "") -> str:
        """Ask HAProxy without any code of the collection. An empty string when it does not answer."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            try:
                sock.connect(path or self.admin)
                sock.sendall(command.encode() + b"\n")
                sock.shutdown(socket.SHUT_WR)
                parts = []
                while chunk := sock.recv(65536):
                    parts.append(chunk)
            except OSError:
                return ""
            return b"".join(parts).decode()

    def mask(self, key: str) -> int:
        """The admin mask of a server, as HAProxy says."""
        return int(self._row(key)[6])

    def weight(self, key: str) -> int:
        return int(self._row(key)[7])

    def _row(self, key: str) -> list[str]:
        (row,) = [row for row in self.rows() if "%s/%s" % (row[1], row[3]) == key]
        return row

    def status(self, key: str) -> str:
        backend, server = key.split("/")
        (line,) = [
            line for line in self.raw("show stat %s 4 -1" % backend).splitlines() if line.startswith("%s,%s," % (backend, server))
        ]
        return line.split(",")[17]

    def sessions(self, key: str) -> int:
        backend, server = key.split("/")
        (line,) = [
            line for line in self.raw("show stat %s 4 -1" % backend).splitlines() if line.startswith("%s,%s," % (backend, server))
        ]
        return int(line.split(",")[4])

    def worker(self) -> int:
        found = re.search(r"^Pid: (\d+)", self.raw("show info"), re.M)
        return int(found.group(1)) if found else 0

    def master_pid(self) -> int:
        """HAProxy's first process, as this host numbers it."""
        assert self.process
        if not self._inside:
            return self.process.pid
        children = Path("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)).read_text().split()
        return int(children[0])

    def said(self) -> str:
        """What HAProxy has written to its log."""
        return (self.folder / "haproxy.log").read_text()

    def reload(self) -> None:
        """As systemctl reload does it. Returns when the new worker answers."""
        assert self.process
        before = self.worker()
        # HAProxy 2.6 now and then sleeps through a single USR2 (seen once in ten): ask again until it has heard.
        for _attempt in range(10):
            if self.master:
                self.raw("reload", self.master)
            else:
                os.kill(self.master_pid(), signal.SIGUSR2)
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                if self.worker() not in (0, before):
                    return
                time.sleep(0.02)
        raise AssertionError("no new worker after %d: %s" % (before, self.said()))

    def client(self) -> Client:
        made = Client(self.port)
        self._others.append(made)
        return made

    def client_on(self, name: str) -> Client:
        """A client whose next websocket or request goes to one server: the others are drained for a moment."""
        for other in self.web:
            if other != name:
                self.raw("set server be/%s state drain" % other)
        made = self.client()
        assert made.get() == name
        return made

    def all_ready(self) -> None:
        for name in self.web:
            self.raw("set server be/%s state ready" % name)

    def websocket_on(self, name: str) -> Client:
        made = self.client_on(name).websocket()
        self.all_ready()
        until(lambda: self.sessions("be/" + name) == 1, what="the tunnel is counted")
        return made

    def slow_on(self, name: str, seconds: float) -> Client:
        """A request that is in progress for ``seconds``."""
        made = self.client_on(name)
        made.send("/slow/%s" % seconds)
        until(lambda: self.sessions("be/" + name) == 1, what="the request is in progress")
        self.all_ready()
        return made

    def stop(self) -> None:
        for client in self._others:
            client.close()
        for web in self.web.values():
            with contextlib.suppress(OSError):
                web.die()
        if self.process:
            if self.process.poll() is None:
                os.kill(self.master_pid(), signal.SIGTERM)  # a master ends all its workers, also the old ones
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        self.log.close()

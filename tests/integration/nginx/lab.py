# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real nginx on loopback, as a child with its own prefix, with small real servers behind it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import typing as t
from pathlib import Path

from tests.integration.haproxy.lab import Client, Web, until
from tests.ports import free_port

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

MAIN = """# tests
user root;
worker_processes %(workers)d;
%(main)s
pid %(folder)s/nginx.pid;
error_log %(folder)s/error.log;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path %(folder)s/tmp/body;
    proxy_temp_path %(folder)s/tmp/proxy;
    fastcgi_temp_path %(folder)s/tmp/fastcgi;
    uwsgi_temp_path %(folder)s/tmp/uwsgi;
    scgi_temp_path %(folder)s/tmp/scgi;
    map $http_upgrade $or_upgrade { default upgrade; '' ''; }
    include conf.d/*.conf; # the upstreams
    server {
        listen 127.0.0.1:%(port)d;
        location / {
            proxy_pass http://be;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $or_upgrade;
            %(location)s
        }
    }
    %(http)s
}
%(end)s
"""


class Lab:
    """nginx in a folder. ``web`` are the servers behind it, by name; ``be.conf`` holds their upstream."""

    def __init__(self, folder: Path, names: t.Sequence[str] = ("s1", "s2")) -> None:
        self.folder = folder
        self.port = free_port()
        self.web = {name: Web(name) for name in names}
        self.config = folder / "nginx.conf"
        self.upstreams = folder / "conf.d"
        self.upstreams.mkdir()
        (folder / "tmp").mkdir()
        self.process: subprocess.Popen[bytes] | None = None
        self._others: list[Client] = []

    def write(
        self,
        upstream: str | None = None,
        main: str = "",
        http: str = "",
        end: str = "",
        location: str = "",
        workers: int = 1,
    ) -> None:
        """Write the configuration: upstream be with all servers, and whatever else the test wants. %(s1)s is the address of s1."""
        addresses = {name: web.address for name, web in self.web.items()}
        servers = "".join("    server %s;\n" % address for address in addresses.values())
        text = "upstream be {\n%s}\n" % servers if upstream is None else upstream % addresses
        (self.upstreams / "be.conf").write_text(text)
        parts = {"main": main, "http": http, "end": end, "location": location}
        filled = {name: part % addresses for name, part in parts.items()}
        self.config.write_text(MAIN % {**filled, "folder": self.folder, "port": self.port, "workers": workers})

    def start(self) -> Lab:
        assert NGINX, "nginx is not installed"
        command = [NGINX, "-p", str(self.folder), "-c", str(self.config), "-g", "daemon off; master_process on;"]
        with (self.folder / "output.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        until(self._answers, what="nginx answers", why=self.said)
        return self

    def _answers(self) -> bool:
        try:
            Client(self.port).close()
        except OSError:
            return False
        return (self.folder / "nginx.pid").exists() and len(self.workers()) > 0

    def said(self) -> str:
        """What nginx has written to its logs."""
        return "".join(path.read_text() for path in (self.folder / "output.log", self.folder / "error.log") if path.exists())

    @property
    def master(self) -> int:
        assert self.process
        return self.process.pid

    def workers(self) -> list[int]:
        """The worker processes that take requests, by no code of the collection."""
        return [pid for pid, title in self._children() if "shutting down" not in title and "worker process" in title]

    def old_workers(self) -> list[int]:
        return [pid for pid, title in self._children() if "shutting down" in title]

    def _children(self) -> list[tuple[int, str]]:
        found = []
        for pid in Path("/proc/%d/task/%d/children" % (self.master, self.master)).read_text().split():
            with contextlib.suppress(OSError):
                found.append((int(pid), Path("/proc/%s/cmdline" % pid).read_text().replace("\0", " ")))
        return found

    def reload(self) -> None:
        """As systemctl reload does it; returns when only new workers take requests."""
        before = set(self.workers())
        os.kill(self.master, signal.SIGHUP)
        until(lambda: self.workers() and not before & set(self.workers()), what="nginx reloads", why=self.said)

    def texts(self) -> dict[str, bytes]:
        """Every file of the configuration, and whatever else lies beside them."""
        files = [path for path in (*self.folder.iterdir(), *self.folder.glob("*.d/*")) if path.is_file()]
        return {
            str(path.relative_to(self.folder)): path.read_bytes() for path in files if not path.name.endswith((".log", ".pid"))
        }

    def be(self) -> str:
        return (self.upstreams / "be.conf").read_text()

    def down(self, name: str) -> bool:
        """Whether every line with the address of a server says down."""
        lines = [line for text in self.texts().values() for line in text.decode().splitlines() if self.web[name].address + " " in line + " "
                 or self.web[name].address + ";" in line]  # fmt: skip
        assert lines, name
        return all(" down" in line for line in lines)

    def answers(self, count: int = 8) -> set[str]:
        """Which servers answer, each request over a connection of its own."""
        found = set()
        for _ in range(count):
            client = Client(self.port)
            found.add(client.get())
            client.close()
        return found

    def client(self) -> Client:
        made = Client(self.port)
        self._others.append(made)
        return made

    def websocket_on(self, name: str) -> Client:
        return self._begin(name, lambda client: client.websocket())

    def slow_on(self, name: str, seconds: float) -> Client:
        """A request that is in progress for ``seconds``."""
        return self._begin(name, lambda client: client.send("/slow/%s" % seconds))

    def _begin(self, name: str, act: t.Callable[[Client], t.Any]) -> Client:
        """Begin something until the balancer gives it to one server; what the others got is left to end."""
        for _ in range(10):
            client = self.client()
            seen = self.web[name].seen
            act(client)
            with contextlib.suppress(AssertionError):
                until(lambda was=seen: self.web[name].seen > was, 0.3)  # type: ignore[misc]
                return client
            client.close()
        raise AssertionError("nothing reached %s" % name)

    def stop(self) -> None:
        for client in self._others:
            client.close()
        for web in self.web.values():
            with contextlib.suppress(OSError):
                web.die()
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()  # a master ends all its workers, also the old ones
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise


def pause(seconds: float) -> None:
    """Let something happen that nothing tells of."""
    time.sleep(seconds)

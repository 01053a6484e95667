# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions on workers that a reload leaves behind, with the processes of a real (open source) nginx beside the fake API."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import typing as t
from pathlib import Path

import pytest

from tests.integration.nginx_plus.lab import Lab, act, until
from tests.ports import free_port

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))

CONFIG = """
daemon off; master_process on; worker_processes 1; pid %(folder)s/pid; error_log %(folder)s/error.log;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path %(folder)s/a; proxy_temp_path %(folder)s/b; fastcgi_temp_path %(folder)s/c;
  uwsgi_temp_path %(folder)s/d; scgi_temp_path %(folder)s/e;
  server { listen 127.0.0.1:%(port)d; location / { proxy_pass http://%(address)s; } }
}
"""


class Nginx:
    """A real nginx in a folder; everything goes to one server."""

    def __init__(self, folder: Path, address: str) -> None:
        assert NGINX
        self.port = free_port()
        (folder / "nginx.conf").write_text(CONFIG % {"folder": folder, "port": self.port, "address": address})
        self.process = subprocess.Popen(
            [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self.workers, what="nginx starts")

    def workers(self, old: bool = False) -> list[int]:
        master = self.process.pid
        children = [int(pid) for pid in Path("/proc/%d/task/%d/children" % (master, master)).read_text().split()]
        titles = {}
        for pid in children:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # an old one that has just ended
                titles[pid] = Path("/proc/%d/cmdline" % pid).read_text()
        return [pid for pid, title in titles.items() if title and ("shutting down" in title) == old]

    def reload(self) -> None:
        before = self.workers()
        self.process.send_signal(signal.SIGHUP)
        until(lambda: self.workers() not in ([], before) and not set(self.workers()) & set(before), what="a new worker")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def nginx(lab: Lab, tmp_path: Path) -> t.Iterator[Nginx]:
    if not NGINX:
        pytest.skip("nginx is not installed")
    made = Nginx(tmp_path, lab.address("s1"))
    lab.plus.pids = (made.workers()[0], made.process.pid)
    yield made
    made.stop()


def _request(lab: Lab, nginx: Nginx) -> tuple[socket.socket, socket.socket]:
    """A request that s1 does not answer yet: the client, and s1's end."""
    client = socket.create_connection(("127.0.0.1", nginx.port), timeout=10)
    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    lab.backends["s1"].socket.settimeout(10)
    while True:  # the connections of a ready carry nothing
        served, _address = lab.backends["s1"].socket.accept()
        if served.recv(4096):
            return client, served
        served.close()


def test_a_session_on_an_old_worker_is_waited_for(lab: Lab, nginx: Nginx) -> None:
    assert act(lab, "drain").more["old_workers"] == {"seen_by": "processes", "pids": []}
    act(lab, "ready")
    client, served = _request(lab, nginx)
    nginx.reload()
    lab.plus.pids = (nginx.workers()[0], nginx.process.pid)
    (old,) = nginx.workers(old=True)
    failed = act(lab, "drain", deadline=2)
    assert failed.verdict.code == "drain.sessions_left"
    assert "old worker %d has 1 session" % old in failed.verdict.reason
    assert failed.more["old_workers"] == {"seen_by": "processes", "pids": [old]}
    assert lab.flags() == {(False, False)}
    assert act(lab, "drain", ["s2"]).verdict.passed  # its sessions are not of that server
    act(lab, "ready", ["s2"])

    def end() -> None:
        served.sendall(b"HTTP/1.0 200 OK\r\n\r\nlate")
        served.close()

    timer = threading.Timer(1.0, end)
    timer.start()
    drained = act(lab, "drain")
    assert drained.verdict.code == "drain.done", drained.verdict
    assert b"late" in client.recv(4096)
    timer.join()
    client.close()


def test_a_reload_that_is_seen_to_leave_nothing_is_no_doubt(lab: Lab, nginx: Nginx) -> None:
    lab.server("s1").active = 1

    def reload() -> None:
        nginx.reload()
        lab.plus.pids = (nginx.workers()[0], nginx.process.pid)
        lab.plus.reload()

    lab.later(0.6, reload)
    drained = act(lab, "drain")
    assert drained.verdict.reason == "1 server is drained, and no session is left."
    assert (drained.more["reloads"], drained.more["old_workers"]["seen_by"]) == (1, "processes")


def test_an_nginx_that_is_not_here_is_not_guessed(lab: Lab, nginx: Nginx) -> None:
    lab.plus.pids = (nginx.process.pid, 1)
    assert act(lab, "drain").more["old_workers"] == {"seen_by": "", "pids": []}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
def test_an_old_worker_that_may_not_be_looked_into_is_no_proof(lab: Lab, nginx: Nginx) -> None:
    client, served = _request(lab, nginx)
    nginx.reload()
    lab.plus.pids = (nginx.workers()[0], nginx.process.pid)
    os.seteuid(65534)
    try:
        failed = act(lab, "drain", deadline=2)
    finally:
        os.seteuid(0)
    assert failed.verdict.code == "nginx_plus.workers_unseen"
    assert "become" in failed.verdict.hint
    assert lab.flags() == {(False, False)}
    client.close()
    served.close()

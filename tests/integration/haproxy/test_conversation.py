# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many servers are one conversation."""

from __future__ import annotations

import socket
import threading
import time
import typing as t

from tests.integration.haproxy.conftest import act
from tests.integration.haproxy.lab import Lab

SERVERS = 200


class Tap:
    """A socket in front of HAProxy's that counts connections, and commands in each."""

    def __init__(self, path: str, target: str) -> None:
        self.path, self._target = path, target
        self.conversations: list[list[str]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            commands: list[str] = []
            self.conversations.append(commands)
            threading.Thread(target=self._forward, args=(client, server, commands), daemon=True).start()
            threading.Thread(target=self._forward, args=(server, client, None), daemon=True).start()

    @staticmethod
    def _forward(source: socket.socket, sink: socket.socket, commands: list[str] | None) -> None:
        try:
            while data := source.recv(65536):
                if commands is not None:
                    commands += data.decode().split("\n")[:-1]
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        self._listener.close()


def test_200_servers_are_drained_and_admitted_over_one_connection_each(make_lab: t.Callable[..., Lab]) -> None:
    lab = make_lab()
    # One that listens on all of 127.0.1.0/24 is 200 servers: ready connects to each of them.
    everywhere = socket.create_server(("0.0.0.0", 0), backlog=2 * SERVERS)  # noqa: S104
    port = everywhere.getsockname()[1]
    many = "\n".join("  server m%d 127.0.1.%d:%d" % (number, number, port) for number in range(SERVERS))
    spare = lab.web["s2"].port
    lab.config("backend many\n%s\n  server spare 127.0.0.1:%d\n" % (many, spare), default="weight 1")
    lab.start()
    tap = Tap(str(lab.folder / "tap.sock"), lab.admin)
    names = ["127.0.1.%d:%d" % (number, port) for number in range(SERVERS)]
    # The peer of the tapped socket is this test, so HAProxy's processes are found by the number that they give themselves.
    started = time.monotonic()
    drained = act(lab, "drain", names, socket=tap.path, deadline=30)
    took = time.monotonic() - started
    assert drained.verdict.passed, drained.verdict
    assert len(drained.after) == SERVERS
    setting = [commands for commands in tap.conversations if any(command.startswith("set ") for command in commands)]
    assert len(setting) == 1
    assert sum(command.startswith("set ") for command in setting[0]) == SERVERS
    assert setting[0][0] == "prompt"
    assert "show servers state" in setting[0][: setting[0].index("set server many/m0 state drain")]
    assert len(tap.conversations) <= 3  # the drain, and a look or two from outside it
    assert took < 5
    tap.conversations.clear()
    ready = act(lab, "ready", names, socket=tap.path, restore=drained.before, deadline=30)
    assert ready.verdict.passed
    assert ready.after == drained.before
    assert len([c for c in tap.conversations if any(command.startswith("set ") for command in c)]) == 1
    tap.close()
    everywhere.close()

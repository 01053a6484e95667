# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The two sockets of HAProxy: the runtime API of a worker, and the master's.

There is no status code: any answer to a ``set`` that is not blank is an error. The worker's socket is used in its prompt
mode, so that looking, deciding and setting happen over one connection, served by one worker process. The master's socket
does not close after an answer unless the client half-closes, and has no such mode: all commands are sent at once.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import struct
import types
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError

_PROMPT = b"\n> "
_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
_PEERCRED = struct.Struct("3i")
LEVEL_HINT = "Set `stats socket %s mode 660 level admin` in the global section of HAProxy's configuration and reload it."


def check_name(name: str, what: str) -> str:
    """Return ``name`` when it can stand in a command; anything else could smuggle in a second command."""
    if not _NAME.fullmatch(name):
        raise BadInputError(
            "%r cannot be the name of a %s in HAProxy." % (name, what), "haproxy.bad_name", "Names hold A-Z a-z 0-9 _ . : - only."
        )
    return name


def check_key(key: str) -> str:
    """The same for ``backend/server``."""
    backend, slash, server = key.partition("/")
    if not slash:
        raise BadInputError("%r is not BACKEND/SERVER." % (key,), "haproxy.bad_name")
    return "%s/%s" % (check_name(backend, "backend"), check_name(server, "server"))


def connect(path: str, timeout_s: float) -> socket.socket:
    """Connect to a unix socket; every way in which this fails is one sentence that says what to do."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout_s)
    try:
        sock.connect(path)
    except OSError as exc:
        sock.close()
        raise _connect_error(path, exc) from exc
    return sock


def _connect_error(path: str, exc: OSError) -> LifecycleError:
    if exc.errno == errno.ENOENT:
        return BadInputError(
            "There is no socket %s." % path,
            "haproxy.socket_missing",
            "Does HAProxy run on this host? Give its `stats socket` path as the option socket.",
        )
    if exc.errno in (errno.EACCES, errno.EPERM):
        return BadInputError("This user may not use the socket %s." % path, "haproxy.socket_denied", "Run the task with become.")
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        is_socket = False
    if not is_socket and os.path.exists(path):
        return BadInputError(
            "%s is not a socket." % path, "haproxy.not_a_socket", "Give HAProxy's `stats socket` path as the option socket."
        )
    if exc.errno == errno.ECONNREFUSED:
        return LifecycleError(
            "Nobody listens on the socket %s: HAProxy does not run." % path,
            "haproxy.refused",
            "Start HAProxy, then run this again.",
        )
    return LifecycleError("The socket %s cannot be used: %s." % (path, exc), "haproxy.socket_unusable")


class Conversation:
    """One connection to a worker's socket, for several commands. Use it as a context manager.

    A conversation stays with the worker that accepted it, also across a reload: what must see the newest worker opens a
    new one.
    """

    def __init__(self, path: str, timeout_s: float = 10.0) -> None:
        self.path = path
        self._timeout_s = timeout_s
        self._sock = connect(path, timeout_s)
        try:
            self._exchange("prompt")
        except LifecycleError:
            self._sock.close()
            raise

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: types.TracebackType | None) -> None:
        self._sock.close()

    @property
    def peer_pid(self) -> int:
        """The process that listens, as this host numbers it: HAProxy's master, or the parent of a worker that has none."""
        return int(_PEERCRED.unpack(self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))[0])

    def ask(self, command: str) -> str:
        """Send one command and return its answer without the blank line that ends it."""
        return self._exchange(command)

    def do(self, command: str) -> None:
        """Send a command that changes something. Raises LifecycleError with HAProxy's own words unless the answer is blank."""
        answer = self._exchange(command).strip()
        if answer == "Permission denied":
            raise BadInputError("The socket %s may not change anything." % self.path, "haproxy.level", LEVEL_HINT % self.path)
        if answer == "Proxy is disabled.":
            raise LifecycleError(
                "HAProxy refused `%s`: %s" % (command, answer),
                "haproxy.replaced",
                "A reload has just replaced the worker that answered, or the backend is `disabled` in HAProxy's configuration. Run this again.",
            )
        if answer:
            raise LifecycleError(
                "HAProxy refused `%s`: %s" % (command, answer.splitlines()[0]),
                "haproxy.refused_command",
                evidence={"answer": answer[:400]},
            )

    def _exchange(self, command: str) -> str:
        if re.search(r"[;\r\n\\]", command):
            raise BadInputError("%r holds more than one command." % (command,), "haproxy.bad_name")
        received = bytearray()
        try:
            self._sock.sendall(command.encode("utf-8") + b"\n")
            while not received.endswith(_PROMPT):
                chunk = self._sock.recv(1 << 16)
                if not chunk:
                    raise LifecycleError(
                        "The program behind %s hung up after `%s`." % (self.path, command),
                        "haproxy.hung_up",
                        "Is it HAProxy's `stats socket`?",
                    )
                received += chunk
        except OSError as exc:
            if isinstance(exc, socket.timeout):
                raise LifecycleError(
                    "The program behind %s did not answer `%s` in %g s." % (self.path, command, self._timeout_s),
                    "haproxy.timeout",
                    "Is it HAProxy's `stats socket`, and is HAProxy healthy?",
                ) from exc
            raise LifecycleError("Talking to %s failed: %s." % (self.path, exc), "haproxy.hung_up") from exc
        return received[: -len(_PROMPT)].decode("utf-8", "replace").rstrip("\n")


def ask_master(path: str, commands: t.Sequence[str], timeout_s: float = 10.0) -> str:
    """Send all commands to the master's socket over one connection, half-close, and return everything that came."""
    for command in commands:
        if re.search(r"[;\r\n\\]", command):
            raise BadInputError("%r holds more than one command." % (command,), "haproxy.bad_name")
    received = bytearray()
    with connect(path, timeout_s) as sock:
        try:
            sock.sendall("".join(command + "\n" for command in commands).encode("utf-8"))
            sock.shutdown(socket.SHUT_WR)
            while True:
                chunk = sock.recv(1 << 16)
                if not chunk:
                    return received.decode("utf-8", "replace")
                received += chunk
        except OSError as exc:
            raise LifecycleError("HAProxy's master socket %s did not answer: %s." % (path, exc), "haproxy.master") from exc

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Ask servers themselves whether they take connections: HAProxy's word is as old as its last health check."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import selectors
import socket
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import Server
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

CONNECT_S = 1.0
_AT_ONCE = 256  # well below the usual limit of open files

Endpoint = tuple[str, int]


def has_address(server: Server) -> bool:
    """False for a unix socket, a name that is not resolved, and 0.0.0.0 (where the client wanted to go)."""
    try:
        return not ipaddress.ip_address(server.state.address).is_unspecified and server.state.port > 0
    except ValueError:
        return False


def refusals(endpoints: t.Collection[Endpoint], timeout_s: float = CONNECT_S) -> dict[Endpoint, str]:
    """Connect to all of them side by side, and return those that did not accept within ``timeout_s``, each with why."""
    todo, found = sorted(set(endpoints)), {}
    for first in range(0, len(todo), _AT_ONCE):
        found.update(_refusals(todo[first : first + _AT_ONCE], timeout_s))
    return found


def _refusals(endpoints: t.Sequence[Endpoint], timeout_s: float) -> dict[Endpoint, str]:
    found: dict[Endpoint, str] = {}
    with contextlib.ExitStack() as held, selectors.DefaultSelector() as pending:
        for endpoint in endpoints:
            family = socket.AF_INET6 if ":" in endpoint[0] else socket.AF_INET
            sock = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.setblocking(False)
            code = sock.connect_ex(endpoint)
            if code == errno.EINPROGRESS:
                pending.register(sock, selectors.EVENT_WRITE, (endpoint, sock))
            elif code:
                found[endpoint] = os.strerror(code)

        def ended() -> bool:
            for key, _events in pending.select(0):
                endpoint, sock = key.data
                pending.unregister(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    found[endpoint] = os.strerror(code)
            return not pending.get_map()

        wait(ended, bool, timeout_s, poll_s=0.01)
        found.update((key.data[0], "no answer in %g s" % timeout_s) for key in pending.get_map().values())
    return found

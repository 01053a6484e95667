# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports for servers that tests start: a number that is free when asked for and that nobody else takes before the server does.

The kernel's own choice (port 0) lies in the range that outgoing connections draw from, so that any connection of any test may
have it before the server binds: once in some thousand starts a HAProxy found its address in use.
"""

from __future__ import annotations

import itertools
import os
import socket

# Below the ephemeral range (32768 and up), a stretch for each process of pytest-xdist (gw0, gw1, …; one process is like gw0).
_STRETCH = 1500
_FIRST = 12000 + _STRETCH * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8)
_numbers = itertools.cycle(range(_FIRST, _FIRST + _STRETCH))


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on; none is given twice until the whole stretch was."""
    for number in itertools.islice(_numbers, _STRETCH):
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", number))
            except OSError:
                continue
            return number
    raise AssertionError("no free port between %d and %d" % (_FIRST, _FIRST + _STRETCH))

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that all HAProxy modules share."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  socket:
    description:
      - Path of HAProxy's runtime API, the C(stats socket) of its configuration, as seen on the host that the task runs on.
    type: path
    default: /run/haproxy/admin.sock
  master_socket:
    description:
      - Path of the socket of HAProxy's master process (its option C(-S)).
      - When not set, it is taken from HAProxy's command line.
      - Without one, sessions on workers that a reload has left behind are counted as TCP connections of these processes, which needs
        root on the balancer's own host.
    type: path
  socket_timeout:
    description: Seconds to wait for one answer of a socket.
    type: int
    default: 10
"""

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Argument specs of the HAProxy modules; mirrored by doc_fragments/haproxy.py, a unit test holds the two together."""

from __future__ import annotations

import typing as t

# Where HAProxy is: shared by all its modules.
BALANCER_ARGS: dict[str, dict[str, t.Any]] = {
    "socket": {"type": "path", "default": "/run/haproxy/admin.sock"},
    "master_socket": {"type": "path"},
    "socket_timeout": {"type": "int", "default": 10},
}

# What every traffic driver takes, whatever the balancer.
TRAFFIC_ARGS: dict[str, dict[str, t.Any]] = {
    "state": {"type": "str", "choices": ["drain", "ready"], "required": True},
    "servers": {"type": "list", "elements": "str", "required": True},
    "backends": {"type": "list", "elements": "str", "default": []},
    "min_available": {"type": "int", "default": 1},
    "policy": {"type": "str", "choices": ["wait", "shutdown", "fail"], "default": "wait"},
    "restore": {"type": "dict"},
}

_NAME: dict[str, t.Any] = {"type": "str", "required": True}
_LINES: dict[str, t.Any] = {"type": "list", "elements": "str", "default": []}

# Our own file in the balancer's configuration.
CONFIG_ARGS: dict[str, dict[str, t.Any]] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "service": _NAME,
    "owner": _NAME,
    "folder": {"type": "path", "default": "/etc/haproxy/conf.d"},
    "binary": {"type": "path", "default": "/usr/sbin/haproxy"},
    "reload": {"type": "str", "default": "haproxy.service"},
    "frontends": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": _NAME,
            "bind": {"type": "list", "elements": "str", "required": True},
            "bind_options": {"type": "str", "default": ""},
            "options": _LINES,
        },
    },
    "backend": {
        "type": "dict",
        "options": {
            "name": _NAME,
            "balance": {"type": "str", "default": "roundrobin"},
            "check": {"type": "dict", "options": {"path": _NAME, "status": {"type": "str", "default": "200"}}},
            "server_options": {"type": "str", "default": "check inter 2s fall 2 rise 2"},
            "options": _LINES,
        },
    },
    "servers": {"type": "list", "elements": "dict", "options": {"name": _NAME, "address": _NAME}},
    "answer": {
        "type": "dict",
        "options": {"status": {"type": "int", "default": 503}, "retry_after": {"type": "int", "default": 0}},
    },
    "min_up": {"type": "int", "default": 0},
}

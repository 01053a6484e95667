# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The arguments that both hands for MariaDB take."""

from __future__ import annotations

import typing as t

# With a default of its own, so that its suboptions have theirs when a user gives none.
SERVER: dict[str, t.Any] = {
    "type": "dict",
    "default": {},
    "options": {
        "socket": {"type": "path", "default": "/run/mysqld/mysqld.sock"},
        "user": {"type": "str", "default": "root"},
    },
}
SECRETS: dict[str, t.Any] = {"type": "dict", "default": {}, "no_log": True}
RESOURCES: dict[str, t.Any] = {
    "type": "dict",
    "default": {},
    "options": {
        "memory_mb": {"type": "int", "default": 256},
        "io_weight": {"type": "int", "default": 20},
    },
}

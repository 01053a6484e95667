# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Argument specs of the NGINX Plus driver; its documentation mirrors them, a test holds the two together."""

from __future__ import annotations

import typing as t

# Where the API is, and how it is spoken to.
API_ARGS: dict[str, dict[str, t.Any]] = {
    "url": {"type": "str", "required": True},
    "username": {"type": "str", "default": ""},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "ca_file": {"type": "path"},
    "server_name": {"type": "str", "default": ""},
    "timeout": {"type": "int", "default": 10},
}

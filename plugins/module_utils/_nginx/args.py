# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Argument specs of the nginx module, beside those that every traffic driver takes."""

from __future__ import annotations

import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.args import TRAFFIC_ARGS

NGINX_ARGS: dict[str, dict[str, t.Any]] = {
    **TRAFFIC_ARGS,
    "config": {"type": "path", "default": "/etc/nginx/nginx.conf"},
    "program": {"type": "str", "default": "nginx"},
    "pid_file": {"type": "path"},
}

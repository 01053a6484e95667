# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a driver in another collection is written with (docs/write_a_driver.md). This module is public: its names stay as they are.

A driver module has ``DRIVER_ARGS`` in its argument spec and ends with ``play(module, prepare)``. ``prepare`` checks the arguments and returns
the act, which is called with ``Terms`` and a ``Report`` to fill and returns a ``Verdict`` or raises a ``LifecycleError``.
"""

from __future__ import annotations

from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError, UnknownAnswerError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Act, Report, Terms, play
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

__all__ = [
    "DRIVER_ARGS",
    "Act",
    "BadInputError",
    "Deadline",
    "LifecycleError",
    "Report",
    "Terms",
    "UnknownAnswerError",
    "Verdict",
    "play",
    "settle",
    "wait",
]

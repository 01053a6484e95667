# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that every driver shares (see docs/drivers.md)."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  expect:
    description:
      - What must be there now, as an earlier look returned it in RV(ignore:before). Only the keys that are given are compared.
      - When something else is found, nothing is done and the module fails with the code V(expect.foreign).
      - Not set when the module is used alone, outside a run. Then nothing is compared.
    type: dict
  resume:
    description: The same act was begun before and may have been cut in the middle, so values half way to the goal are accepted.
    type: bool
    default: false
  token:
    description: Fencing token of the run. The host refuses a token that is lower than one it has seen.
    type: int
  scope:
    description: Name under which the host keeps the newest token and the lock, in a run the name of the cloud.
    type: str
    default: default
  deadline:
    description: Seconds, on a monotonic clock, that the whole act may take.
    type: int
    default: 120
"""

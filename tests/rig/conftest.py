# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests on the rig share."""

from __future__ import annotations

from tests.rig.fixtures import may_change, rig_inventory, untouched

__all__ = ["may_change", "rig_inventory", "untouched"]

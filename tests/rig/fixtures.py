# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of everything that runs on the rig. A conftest.py imports them; a test asks for ``untouched`` first of all, so that what the
other fixtures put back is back when it looks again."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest

from tests.rig import snapshot


@pytest.fixture(scope="session")
def rig_inventory() -> Path:
    """The inventory of the running rig, or a skip that says what is missing."""
    inventory = os.environ.get("OSOPS_RIG_INVENTORY")
    if not inventory:
        pytest.skip(
            "OSOPS_RIG_INVENTORY does not name the inventory of a running rig (scripts/rig up writes build/rig/inventory.yml)"
        )
    return Path(inventory).resolve()


@pytest.fixture
def may_change() -> list[str]:
    """Patterns (snapshot.py) of what a test changes and leaves so; a module or folder has a fixture of this name for its own."""
    return []


@pytest.fixture
def untouched(rig_inventory: Path, may_change: list[str]) -> t.Iterator[list[str]]:
    """Everything on every host is afterwards as it was, byte for byte, but for ``may_change``."""
    with snapshot.untouched(rig_inventory, may_change) as allowed:
        yield allowed

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rig for the tests of hands: OSOPS_RIG_INVENTORY names the inventory that ``tests/rig/rig up`` has written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.artifact_source.rig import Rig
from tests.rig.fixtures import may_change, rig_inventory, untouched

__all__ = ["may_change", "rig_inventory", "untouched"]


@pytest.fixture(scope="session")
def rig(repository: Path, rig_inventory: Path) -> Rig:
    """The running rig, or a skip that says what is missing."""
    return Rig(rig_inventory, repository)


@pytest.fixture(scope="session")
def old(rig: Rig) -> dict[str, Any]:
    """Release 27.0.1, which every host of the rig starts with, named by its id alone."""
    return {"id": rig.source("active", rig.release("27.0.1"), check=True)["after"]["release"], "package": "keystone"}


@pytest.fixture(scope="session")
def new(rig: Rig) -> dict[str, Any]:
    """Release 29.0.2, fetched."""
    answer = rig.source("present", rig.release("29.0.2"))
    assert answer["verdict"]["outcome"] == "pass", answer
    return {"id": next(name for name in answer["releases"] if name.startswith("29.")), "package": "keystone"}


@pytest.fixture(autouse=True)
def home(rig: Rig, old: dict[str, Any]) -> Iterator[None]:
    """Whatever a test did to the instance, it runs 27.0.1 afterwards."""
    yield
    answer = rig.source("active", old)
    assert answer["after"] == {"release": old["id"], "version": "27.0.1", "running": True}, answer

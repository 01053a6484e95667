# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rig, and a bench for each driver."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.benches import BENCHES, Bench
from tests.integration.artifact_source.rig import Rig
from tests.rig.fixtures import may_change, rig_inventory, untouched

__all__ = ["may_change", "rig_inventory", "untouched"]


@pytest.fixture(scope="session")
def rig(repository: Path, rig_inventory: Path) -> Rig:
    """The running rig, or a skip that says what is missing."""
    return Rig(rig_inventory, repository)


@pytest.fixture(scope="module", params=os.environ.get("OSOPS_BENCHES", " ".join(BENCHES)).split())
def bench(rig: Rig, request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = BENCHES[request.param](rig)
    made.make()
    yield made
    made.clear()


@pytest.fixture(autouse=True)
def at_home(bench: Bench) -> Iterator[None]:
    """Whatever a test did, the old release runs afterwards, by the driver's own act."""
    yield
    answer = bench.call("active", bench.old, resume=True)
    assert answer["after"]["version"] == bench.versions[0], answer

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a service, as `make life` shows it, on the rig that the other tests use; back and forward again is test_runner's."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.rig.life import RECORD, perform, show
from tests.rig.theatre import Rig

pytestmark = pytest.mark.rig


def test_the_whole_life(collections: Path, tmp_path: Path, rig_inventory: Path) -> None:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    report = perform(Rig(rig_inventory.parent, tmp_path / "life", collections, RECORD, "green"), 10, console, to_and_fro=False)
    show(report, console)
    said = console.file.getvalue()
    assert [flow["name"] for flow in report["flows"] if not flow["good"]] == [], said
    assert report["failed"] == {"beside": 0, "own": 0, "placement": 0}, said
    assert report["touched"] == [], said
    assert report["good"]

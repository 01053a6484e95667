# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fresh host for each test. Files get owners, so it needs root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.service_files.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    if os.geteuid() != 0:
        pytest.skip("files are given owners, which needs root")
    return Desk(tmp_path)

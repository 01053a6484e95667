# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as a process of its own, checks that are real programs, and an instance that answers on a real port."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.consumer_check.consumer import Consumer, Instance


@pytest.fixture
def consumer(collections: Path) -> Iterator[Consumer]:
    if os.geteuid() != 0:
        pytest.skip("checks run as another user, which needs root")
    scope = "test-%s" % uuid.uuid4()
    # pytest's own folders are closed for other users.
    folder = Path(tempfile.mkdtemp(prefix="osops-check-"))
    yield Consumer(folder, collections, scope)
    shutil.rmtree(folder)
    for path in Path("/var/lib/osops/fence").glob(scope + "*"):
        path.unlink()


@pytest.fixture
def instance() -> Iterator[Instance]:
    found = Instance()
    yield found
    found.stop()

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where tests find the collection: OSOPS_COLLECTIONS (the installed one, set by scripts/test), or a link to this tree."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def _linked_tree() -> Path:
    """Make build/dev/ansible_collections/osops/lifecycle point to the repository; return build/dev."""
    root = REPOSITORY / "build" / "dev"
    link = root / "ansible_collections" / "osops" / "lifecycle"
    link.parent.mkdir(parents=True, exist_ok=True)
    # Tests may start in several processes at once (pytest-xdist): another one may win the race for the link.
    try:
        link.symlink_to(REPOSITORY, target_is_directory=True)
    except FileExistsError:
        if link.resolve() != REPOSITORY:
            raise
    return root


COLLECTIONS = Path(os.environ["OSOPS_COLLECTIONS"]).resolve() if os.environ.get("OSOPS_COLLECTIONS") else _linked_tree()

# Imports in this process (unit tests), and every ansible-playbook that a test starts, see the same collection.
sys.path.insert(0, str(COLLECTIONS))
# Beside it the drivers of others that tests need. Before anything loads Ansible, which reads this once.
os.environ["ANSIBLE_COLLECTIONS_PATH"] = "%s:%s" % (COLLECTIONS, REPOSITORY / "tests" / "collections")
os.environ.setdefault("LC_ALL", "C.UTF-8")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def collections() -> Path:
    """The folder that holds ``ansible_collections``: use it as ANSIBLE_COLLECTIONS_PATH and PYTHONPATH."""
    return COLLECTIONS


@pytest.fixture(scope="session")
def collection(collections: Path) -> Path:
    """The root of the collection under test (installed, or this checkout)."""
    return collections / "ansible_collections" / "osops" / "lifecycle"

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A MariaDB for all tests of this folder, and an empty lab for each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.mariadb.lab import Lab, Maria, program


@pytest.fixture(scope="session")
def maria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maria]:
    if program("mariadbd") is None:
        pytest.skip("there is no mariadbd on this machine (scripts/setup --system mariadb)")
    if os.geteuid() != 0:
        pytest.skip("the hands act as root, as unix_socket knows it")
    server = Maria(tmp_path_factory.mktemp("m"), "--log-bin", "--server-id=1")
    yield server
    server.stop()


@pytest.fixture
def lab(maria: Maria, tmp_path: Path, collections: Path) -> Iterator[Lab]:
    found = Lab(maria, tmp_path, collections)
    yield found
    found.end()
    maria.sql("SET GLOBAL read_only = 0; DROP DATABASE IF EXISTS key_stone; FLUSH PRIVILEGES")
    for account in maria.sql(
        "SELECT CONCAT(QUOTE(User), '@', QUOTE(Host)) FROM mysql.global_priv WHERE User LIKE 'key%'"
    ).splitlines():
        maria.sql("DROP USER %s" % account)

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Worlds for tests; each is ended, and its journal held against its hosts, when its test is over."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from tests.walk.told import audit
from tests.walk.world import World

Worlds = t.Callable[..., World]


ALONE = ("test_contact", "test_killed")
"""Tests in which what is killed must be all there is: no connection outlives the process that made it."""


@pytest.fixture
def worlds(
    tmp_path: pathlib.Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> t.Iterator[Worlds]:
    """Make worlds: ``worlds(apps=2, balancers=1)``."""
    made: list[World] = []
    compiled = tmp_path_factory.getbasetemp() / "compiled"

    def make(**how: t.Any) -> World:
        shared = request.path.stem not in ALONE
        made.append(World(tmp_path / ("cloud%d" % len(made)), shared=shared, compiled=compiled, **how))
        return made[-1]

    yield make
    for world in made:
        world.close()
    for world in made:
        audit(world)

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of the rig with packages of our own making: version 1.0-1 is installed and runs, 2.0-1 is offered."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.artifact_package import toy
from tests.integration.artifact_source.rig import Rig
from tests.rig.fixtures import may_change, rig_inventory, untouched

__all__ = ["may_change", "rig_inventory", "untouched"]

HOST = os.environ.get("OSOPS_RIG_HOST", "deb1")
DRIVER = "osops.lifecycle.artifact_package"
OLD, NEW = "1.0-1", "2.0-1"
Drive = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def rig(repository: Path, rig_inventory: Path) -> Rig:
    """The running rig, or a skip that says what is missing."""
    return Rig(rig_inventory, repository)


@pytest.fixture
def host(rig: Rig) -> Iterator[str]:
    """A host without toys, before and after."""
    toy.remove(rig, HOST)
    yield HOST
    toy.remove(rig, HOST)


@pytest.fixture
def two(rig: Rig, host: str) -> str:
    """Both versions are offered, the old one is installed and runs."""
    toy.make(rig, host, toy.Toy(OLD), toy.Toy(NEW))
    toy.install(rig, host)
    return host


@pytest.fixture
def drive(rig: Rig) -> Drive:
    """Call the driver on the host: state, version, and what else there is to say."""

    def call(state: str, version: str | None = None, check: bool = False, **more: Any) -> dict[str, Any]:
        return rig.module(HOST, DRIVER, toy.args(state, version, **more), check)

    return call


def seen(release: str | None, version: str | None, running: bool = True) -> dict[str, Any]:
    """What the driver says of an instance."""
    return {"release": release, "version": version, "running": running}

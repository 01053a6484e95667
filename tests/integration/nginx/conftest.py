# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the nginx tests: a lab per test, and the two acts on it."""

from __future__ import annotations

import dataclasses
import tempfile
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.nginx.lab import NGINX, Lab

DEFAULTS: dict[str, t.Any] = {
    "backends": [],
    "min_available": 1,
    "policy": "wait",
    "restore": None,
    "expect": None,
    "resume": False,
    "deadline": 8,
    "program": NGINX,
    "pid_file": None,
}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals come sooner than for a person."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx import balancer

    monkeypatch.setattr(balancer, "SETTLE_S", 0.6)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="osops-") as path:
        yield Path(path)


@pytest.fixture
def make_lab(folder: Path) -> Iterator[t.Callable[..., Lab]]:
    """Make labs by hand, for tests that need another configuration."""
    if not NGINX:
        pytest.skip("nginx is not installed")
    made: list[Lab] = []

    def make(names: t.Sequence[str] = ("s1", "s2")) -> Lab:
        here = folder / ("lab%d" % len(made))
        here.mkdir()
        made.append(Lab(here, names))
        return made[-1]

    yield make
    for lab in made:
        lab.stop()


@pytest.fixture
def lab(make_lab: t.Callable[..., Lab]) -> Lab:
    """Two healthy servers s1 and s2 in upstream be, stock settings."""
    made = make_lab()
    made.write()
    return made.start()


def act(
    lab: Lab, kind: str, names: t.Sequence[str] = ("s1",), check_mode: bool = False, config: str = "", **given: t.Any
) -> t.Any:
    """Run one act in this process, as the module does, and return its Outcome."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.balancer import Balancer
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.drain import Drain
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.ready import Ready
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.traffic import Request

    params = {
        **DEFAULTS,
        "config": config or str(lab.config),
        "servers": [lab.web[name].address if name in lab.web else name for name in names],
        **given,
    }
    request = dataclasses.replace(Request.from_params(params), check_mode=check_mode)
    balancer = Balancer(params["config"], params["program"], params["pid_file"], str(lab.folder / "notes"))
    return {"drain": Drain, "ready": Ready}[kind](balancer, request).run()

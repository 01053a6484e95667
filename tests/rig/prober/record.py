# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was sent and what came of it: one Probe a request, kept as one line of JSON each."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import time
import typing as t
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Arrival:
    """A request that is due ``at`` seconds after the start, decided before anything was sent."""

    number: int
    at: float
    operation: str
    balancer: str
    fresh: bool  # on a connection of its own; otherwise on one that is kept alive


@dataclasses.dataclass(frozen=True)
class Probe:
    """One request. Times are seconds of the wall clock; ``ms`` counts from when it was due, ``late_ms`` is the part of it
    that passed before this program got to sending. ``failure`` is empty when the answer was the right one."""

    id: str
    operation: str
    balancer: str
    fresh: bool
    due: float
    late_ms: float
    ms: float
    status: int | None
    failure: str

    @property
    def done(self) -> float:
        return self.due + self.ms / 1000


@dataclasses.dataclass(frozen=True)
class Mark:
    """A name for what is going on from ``at`` on."""

    at: float
    name: str


def arrivals(rate: float, balancers: t.Sequence[str], weights: t.Mapping[str, int], seed: int) -> t.Iterator[Arrival]:
    """Yield arrivals for ever: evenly spaced, balancers in turn, each with every second request on a new connection."""
    dice = random.Random(seed)  # noqa: S311 - a mix of operations, not a secret
    names, shares = list(weights), list(weights.values())
    number = 0
    while True:
        operation = dice.choices(names, shares)[0]
        fresh = number // len(balancers) % 2 == 1
        yield Arrival(number, number / rate, operation, balancers[number % len(balancers)], fresh)
        number += 1


class Folder:
    """The files of one probing: ``run.json`` (what was asked), ``probes.jsonl``, ``marks.jsonl``, ``report.json``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def clear(self) -> None:
        """Forget an earlier probing. Marks in a new folder stay: whoever started this process may have made one already."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / "run.json").exists():
            return
        for name in ("run.json", "marks.jsonl", "probes.jsonl", "report.json"):
            (self.path / name).unlink(missing_ok=True)

    def begin(self, run: dict[str, t.Any]) -> Path:
        """Write run.json (which says that requests are being sent) and return the file for probes."""
        (self.path / "probes.jsonl").write_bytes(b"")
        self.write("run.json", run)
        return self.path / "probes.jsonl"

    def write(self, name: str, value: t.Any) -> None:
        """Write a file whole, or not at all."""
        draft = self.path / (name + ".new")
        draft.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        os.replace(draft, self.path / name)

    def run(self) -> dict[str, t.Any]:
        value: dict[str, t.Any] = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        return value

    def probes(self) -> list[Probe]:
        lines = (self.path / "probes.jsonl").read_text(encoding="utf-8").splitlines()
        return sorted((Probe(**json.loads(line)) for line in lines), key=lambda probe: probe.due)

    def mark(self, name: str) -> None:
        """Append a mark: from now on, requests belong to ``name``."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "marks.jsonl", "a", encoding="utf-8") as handle:
            handle.write(json.dumps({"at": time.time(), "name": name}) + "\n")

    def marks(self) -> list[Mark]:
        try:
            lines = (self.path / "marks.jsonl").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [Mark(**json.loads(line)) for line in lines]

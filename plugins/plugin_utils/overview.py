# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The status of a cloud: one document (data/schemas/status.json), and the same as tables for people. Pure."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import textwrap
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import status
from ansible_collections.osops.lifecycle.plugins.plugin_utils.journaled import last_kinds
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import BACK, OPEN_STATES, OUT, Entry, Plan, Run
from ansible_collections.osops.lifecycle.plugins.plugin_utils.progress import WORKING, plain, progress

WIDTH = 120
"""Columns that a line may take."""
LEFT = "nobody works on it; the same playbook again goes on"
RUNS = ("run", "verb", "services", "state", "batch", "steps", "actor", "since (UTC)", "seconds")
COMPONENTS = ("component", "from", "to", "old", "new", "unknown", "run")
UNSURE = ("unknown", "stopped")
"""Where an instance stands when it is known to run no version."""
_NARROW = 8
"""No column is made narrower than this."""


@dataclasses.dataclass(frozen=True)
class Shown:
    """One run as the store has it; ``held`` is whether somebody works on it."""

    run: Run
    plan: Plan
    back: Plan | None
    entries: t.Sequence[Entry]
    held: bool


def document(cloud: str, shown: t.Sequence[Shown], now: float) -> dict[str, t.Any]:
    """The status of a cloud for programs; ``shown`` are its newest runs, newest first."""
    return {
        "cloud": cloud,
        "at": _iso(now),
        "runs": [_run(one, now, newest=number == 0) for number, one in enumerate(shown)],
        "components": _components(shown),
    }


def _run(one: Shown, now: float, newest: bool) -> dict[str, t.Any]:
    run = one.run
    seen = progress(run, one.plan, one.back, one.entries, now, one.held)
    held = one.held and run.state in WORKING
    hint = status.what_next(run) if newest or run.state in OPEN_STATES else ""
    return {
        "id": run.id,
        "verb": run.verb,
        "services": list(run.services),
        "state": run.state,
        "reason": plain(run.reason),
        "asked": run.asked if run.state in OPEN_STATES else "",
        "held": held,
        "holder": {"node": str(run.holder.get("node") or ""), "pid": int(run.holder.get("pid") or 0)},
        "way": seen.way,
        "batch": {"number": seen.batch, "of": len(seen.batches)},
        "steps": _count(one.plan, one.entries, OUT),
        "back_steps": _count(one.back, one.entries, BACK) if one.back else None,
        "actor": plain(run.actor),
        "since": _iso(run.created),
        "seconds": round(seen.seconds, 1),
        "in_hand": [
            {"step": act.step, "way": act.way, "seconds": round(act.seconds, 1), "deadline": round(act.deadline_s, 1)}
            for act in seen.in_hand
        ],
        "checks": status.checks(one.plan, one.back, one.entries, held),
        "out_of_traffic": status.left_out(one.plan, one.back, one.entries),
        "notes": list(one.back.notes) if one.back else [],
        "stands": dict(sorted(status.where_it_stands(one.plan, one.entries).items())),
        "next": "" if held else hint % run.id if "%s" in hint else hint,
    }


def _count(plan: Plan, entries: t.Sequence[Entry], way: str) -> dict[str, int]:
    kinds = last_kinds(entries, way)
    return {"done": sum(kinds.get(step.id) == "done" for step in plan.steps), "total": len(plan.steps)}


def _components(shown: t.Sequence[Shown]) -> list[dict[str, t.Any]]:
    """Versions by component. For each instance the newest run that moved it counts; new is what the component's newest run wants."""
    stands: dict[str, dict[str, str]] = {}
    first: dict[str, Shown] = {}
    for one in shown:
        for key, version in status.where_it_stands(one.plan, one.entries).items():
            component = key.partition("@")[0]
            first.setdefault(component, one)
            stands.setdefault(component, {}).setdefault(key, version)
    return [_component(name, stands[name], first[name]) for name in sorted(stands)]


def _component(name: str, stands: t.Mapping[str, str], newest: Shown) -> dict[str, t.Any]:
    moves = [move for key, move in newest.plan.moves.items() if key.partition("@")[0] == name]
    wanted = moves[0][1]
    versions = sorted(stands.values())
    unsure = {word: sorted(key for key, version in stands.items() if version == word) for word in UNSURE}
    return {
        "component": name,
        "from": sorted({old for old, _new in moves}),
        "to": wanted,
        "old": sum(version not in (wanted, *UNSURE) for version in versions),
        "new": versions.count(wanted),
        **unsure,
        "versions": {version: len(list(same)) for version, same in itertools.groupby(versions)},
        "run": newest.run.id,
    }


def _iso(at: float) -> str:
    return datetime.datetime.fromtimestamp(int(at), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def lines(told: t.Mapping[str, t.Any]) -> list[str]:
    """The document as two tables. What is a sentence stands below its row."""
    if not told["runs"]:
        return ["no run has been made on this cloud"]
    runs = [(_cells(run), _below(run)) for run in told["runs"]]
    found = ["%s at %s" % (told["cloud"], told["at"]), *table(RUNS, runs)]
    if told["components"]:
        found += ["", *table(COMPONENTS, [(_counted(component), _unsure(component)) for component in told["components"]])]
    return found


def _cells(run: t.Mapping[str, t.Any]) -> list[str]:
    steps = "%(done)d/%(total)d" % run["steps"]
    if run["back_steps"]:
        steps += " back %(done)d/%(total)d" % run["back_steps"]
    batch = ("back " if run["way"] == BACK else "") + "%(number)d of %(of)d" % run["batch"]
    since = run["since"].replace("T", " ").rstrip("Z")
    services, state = ", ".join(run["services"]), run["state"].upper()
    return [run["id"], run["verb"], services, state, batch, steps, run["actor"], since, "%.0f" % run["seconds"]]


def _below(run: t.Mapping[str, t.Any]) -> list[str]:
    found = ["why: %s" % run["reason"]] if run["reason"] else []
    if run["state"] in WORKING and not run["held"]:
        found.append(LEFT)
    if run["held"]:
        found.append("in the hands of process %(pid)d on %(node)s" % run["holder"])
    if run["asked"]:
        found.append("asked for before the next batch: %s" % run["asked"])
    for act in run["in_hand"]:
        found.append("in hand: %(step)s for %(seconds).0f s of at most %(deadline).0f s" % act)
    found += ["note: %s" % note for note in run["notes"]]
    found += [status.check_line(row) for row in run["checks"]]
    if run["out_of_traffic"]:
        found.append("out of traffic: %s" % ", ".join(run["out_of_traffic"]))
    return found + (["next: %s" % run["next"]] if run["next"] and LEFT not in found else [])


def _counted(one: t.Mapping[str, t.Any]) -> list[str]:
    counts = [str(one["old"]), str(one["new"]), str(sum(len(one[word]) for word in UNSURE))]
    return [one["component"], ", ".join(one["from"]), one["to"], *counts, one["run"]]


def _unsure(one: t.Mapping[str, t.Any]) -> list[str]:
    return ["%s: %s" % (word, ", ".join(one[word])) for word in UNSURE if one[word]]


def table(head: t.Sequence[str], rows: t.Sequence[tuple[t.Sequence[str], t.Sequence[str]]], width: int = WIDTH) -> list[str]:
    """Rows of (cells, lines below) as text. Columns are as wide as they must be; the widest give way where ``width`` is too small."""
    cells = [head, *(plain_row(row) for row, _below in rows)]
    wide = [max(len(row[column]) for row in cells) for column in range(len(head))]
    # The first column is a name that people copy: it is not broken.
    while sum(wide) + 2 * (len(wide) - 1) > width and max(wide[1:]) > _NARROW:
        wide[max(range(1, len(wide)), key=lambda column: wide[column])] -= 1
    found = _row(head, wide)
    for row, below in rows:
        found += _row(plain_row(row), wide)
        for text in below:
            found += textwrap.wrap(plain(text), width, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False)
    return found


def plain_row(row: t.Sequence[str]) -> list[str]:
    return [plain(cell) for cell in row]


def _row(cells: t.Sequence[str], wide: t.Sequence[int]) -> list[str]:
    parts = [textwrap.wrap(cell, size, break_on_hyphens=False) or [""] for cell, size in zip(cells, wide, strict=True)]
    rows = itertools.zip_longest(*parts, fillvalue="")
    return ["  ".join(part.ljust(size) for part, size in zip(row, wide, strict=True)).rstrip() for row in rows]

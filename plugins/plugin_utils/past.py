# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the journals of former runs say about services: which release has served for how long, and which way back is closed. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.plugin_utils.draft import Contract, History
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import NOTHING, OUT, Entry, Plan, Run
from ansible_collections.osops.lifecycle.plugins.plugin_utils.status import where_it_stands
from ansible_collections.osops.lifecycle.plugins.plugin_utils.steps import data_key, database_target


def prior(runs: t.Iterable[tuple[Run, Plan, t.Sequence[Entry]]], service: str, keys: t.Collection[str]) -> dict[str, t.Any]:
    """The release (version, and id where its hosts know it by one) that the newest upgrade which succeeded has replaced on these instances.

    Rollbacks do not count, so asking twice leads to the same release; nor does what was before the service was deployed anew. Raises
    BadInputError where there is not one such release.
    """
    for run, plan, entries in runs:
        if run.state != "succeeded" or not any(key in plan.moves for key in keys):
            continue
        if run.verb in ("deploy", "remove"):
            break
        if run.verb != "upgrade":
            continue
        changed = {entry.step for entry in entries if entry.kind == "done" and entry.way == OUT and entry.changed}
        former = {_former(plan, key) for key in keys if key in plan.moves and key + "/change" in changed}
        versions = sorted({version for version, _id in former})
        if len(former) == 1 and versions != [NOTHING]:
            ((version, id_),) = former
            return {"version": version, **({"id": id_} if id_ else {})}
        if former:
            raise BadInputError(
                "Before the upgrade %s the instances of %s were not all on one release (%s)."
                % (run.id, service, ", ".join(versions)),
                "input.prior",
                "Name the release in the record.",
            )
    raise BadInputError(
        "No upgrade of %s has succeeded in this store, so what ran before is not known." % service,
        "input.prior",
        "Name the release in the record.",
    )


def _former(plan: Plan, key: str) -> tuple[str, str]:
    """Version and id that an instance had before an upgrade. With an outage it is the halt that knows what to start again."""
    undo = next(
        (step.undo for do in ("change", "halt") for step in plan.steps if step.id == "%s/%s" % (key, do) and step.undo), {}
    )
    return plan.moves[key][0], str((undo.get("release") or {}).get("id") or "")


def history(runs: t.Iterable[tuple[Run, Plan, t.Sequence[Entry]]], now: float) -> History:
    """Read the runs of some services, the newest first; ``now`` is the clock that their journals were written by."""
    settled: dict[str, float] = {}
    contracts: dict[str, list[tuple[float, str]]] = {}
    backups: dict[str, list[tuple[float, str]]] = {}
    restored: dict[str, str] = {}
    stands: dict[str, str] = {}
    newest: set[str] = set()
    other: set[str] = set()
    """services whose older runs worked on other data than what is there now"""
    for run, plan, entries in runs:
        for key, version in where_it_stands(plan, entries).items():
            stands.setdefault(key, version)
        done = [entry for entry in entries if entry.kind == "done" and entry.way == OUT]
        changed = [entry for entry in done if entry.changed]
        other |= {name for name in run.services if any(entry.step == database_target(name) + "/purge" for entry in changed)}
        for name in run.services:
            restores = [entry for entry in done if entry.step == database_target(name) + "/restore"]
            if restores and name not in newest:
                restored[name] = str(restores[-1].after.get("restored") or "")
            if changed:
                newest.add(name)
            if name in other:
                continue
            contract = [entry for entry in changed if run.verb == "finalize" and entry.step == data_key(name) + "/change"]
            if run.state == "succeeded" and contract:
                version = next(step.args["release"]["version"] for step in plan.steps if step.id == contract[0].step)
                contracts.setdefault(name, []).append((contract[0].at, version))
            elif run.state == "succeeded" and changed and any(old != new for old, new in plan.moves.values()):
                settled.setdefault(name, now - changed[-1].at)
            backups.setdefault(name, []).extend(
                (entry.at, str(entry.after["backup"]))
                for entry in reversed(done)
                if entry.step == database_target(name) + "/confirm" and entry.after.get("backup")
            )
            if restores:
                other.add(name)
    closed = {
        name: tuple(Contract(version, next((id_ for at, id_ in backups[name] if at < when), "")) for when, version in found)
        for name, found in contracts.items()
    }
    return History(settled, closed, restored, stands)

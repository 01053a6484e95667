# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From record, recipes and what was seen to a plan, or to refusals: pure, and the one place that decides what a run does."""

from __future__ import annotations

import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import greenfield, knowledge, removal, rolling, upkeep
from ansible_collections.osops.lifecycle.plugins.plugin_utils.draft import Draft, History, Leftovers
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import Plan, Recipe, Record, Service, digest
from ansible_collections.osops.lifecycle.plugins.plugin_utils.observed import Observed

MAKERS: dict[str, t.Callable[[Draft, Service], None]] = {
    "deploy": greenfield.deploy,
    "upgrade": rolling.change,
    "rollback": rolling.change,
    "remove": removal.remove,
    "finalize": upkeep.finalize,
    "backup": upkeep.backup,
}
"""verb -> what it adds to a plan for one service"""


def wanted_hash(
    record: Record, recipes: t.Mapping[str, Recipe], verb: str, limit: t.Sequence[str] = (), consents: t.Sequence[str] = ()
) -> str:
    """Hash over what is wanted (record, recipes, policy), never over what was found: the same goal gives the same hash."""
    return digest({"record": record, "recipes": recipes, "verb": verb, "limit": sorted(limit), "consents": sorted(consents)})


def plan(
    record: Record,
    recipes: t.Mapping[str, Recipe],
    observed: Observed,
    verb: str = "upgrade",
    leftovers: Leftovers | None = None,
    limit: t.Sequence[str] = (),
    consents: t.Sequence[str] = (),
    history: History | None = None,
) -> Plan:
    """The whole plan of a run. With refusals in it, nothing may be written or done."""
    draft = Draft(record, recipes, observed, verb, leftovers or {}, frozenset(limit), frozenset(consents), history or History())
    known: list[str] = knowledge.lifecycle()["service_order"]
    names = sorted(record.services, key=lambda name: (known.index(name) if name in known else len(known), name))
    for name in reversed(names) if verb == "remove" else names:
        MAKERS[verb](draft, record.services[name])
    return Plan(
        cloud=record.cloud,
        verb=verb,
        services=tuple(record.services),
        hash=wanted_hash(record, recipes, verb, limit, consents),
        batches=tuple(draft.batches),
        steps=tuple(draft.steps),
        refusals=tuple(draft.refusals),
        notes=tuple(draft.notes),
        moves=draft.moves,
    )

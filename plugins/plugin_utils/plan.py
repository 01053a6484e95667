# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From record, recipes and what was seen to a plan, or to refusals: pure, and the one place that decides what a run does."""

from __future__ import annotations

import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import (
    drift,
    greenfield,
    hops,
    knowledge,
    removal,
    restoring,
    rolling,
    upkeep,
)
from ansible_collections.osops.lifecycle.plugins.plugin_utils.draft import Draft, History, Leftovers, instances
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import (
    NOTHING,
    Json,
    Plan,
    Recipe,
    Record,
    Service,
    digest,
)
from ansible_collections.osops.lifecycle.plugins.plugin_utils.observed import Observed

MAKERS: dict[str, t.Callable[[Draft, Service], None]] = {
    "deploy": greenfield.deploy,
    "upgrade": rolling.change,
    "rollback": rolling.change,
    "remove": removal.remove,
    "finalize": upkeep.finalize,
    "backup": upkeep.backup,
    "operational": drift.operational,
    "clean": upkeep.clean,
}
"""verb -> what it adds to a plan for one service"""
WHOLE = ("finalize", "backup")
"""Verbs that touch what all instances of a service share, and nothing else."""


def wanted_hash(
    record: Record,
    recipes: t.Mapping[str, Recipe],
    verb: str,
    limit: t.Sequence[str] = (),
    consents: t.Sequence[str] = (),
    restore: str = "",
) -> str:
    """Hash over what is wanted (record, recipes, policy), never over what was found: the same goal gives the same hash."""
    policy = {"limit": sorted(limit), "consents": sorted(consents), **({"restore": restore} if restore else {})}
    return digest({"record": record, "recipes": recipes, "verb": verb, **policy})


def plan(
    record: Record,
    recipes: t.Mapping[str, Recipe],
    observed: Observed,
    verb: str = "upgrade",
    leftovers: Leftovers | None = None,
    limit: t.Sequence[str] = (),
    consents: t.Sequence[str] = (),
    history: History | None = None,
    restore: str = "",
    stamp: str = "",
) -> Plan:
    """The whole plan of a run. With refusals in it, nothing may be written or done.

    ``restore`` is the backup that a person wants the data of the one service to go back to, ``stamp`` the id of the run to come.
    """
    history = history or History()
    draft = Draft(
        record, recipes, observed, verb, leftovers or {}, frozenset(limit), frozenset(consents), history,
        restores=restoring.chosen(record, verb, history, consents, restore), stamp=stamp,
    )  # fmt: skip
    if restore and not draft.restores:
        draft.notes.append("the newest run has restored the backup %s already; it is not restored again" % restore)
    known: list[str] = knowledge.lifecycle()["service_order"]
    names = sorted(record.services, key=lambda name: (known.index(name) if name in known else len(known), name))
    for name in reversed(names) if verb == "remove" else names:
        if limit and verb in WHOLE:
            draft.refusals.append("%s: %s is for a whole service; osops_limit cannot be used with it." % (name, verb))
        MAKERS[verb](draft, record.services[name])
        draft.notes += _dropped(draft, record.services[name])
        if verb in ("upgrade", "rollback"):
            _say(draft, record.services[name])
    return Plan(
        cloud=record.cloud,
        verb=verb,
        services=tuple(record.services),
        hash=wanted_hash(record, recipes, verb, limit, consents, restore),
        batches=tuple(draft.batches),
        steps=tuple(draft.steps),
        refusals=tuple(draft.refusals),
        notes=tuple(draft.notes),
        moves=draft.moves,
        drift=tuple(draft.drift),
        outages=tuple(draft.outages),
        handoff=tuple(draft.handoff),
    )


def _dropped(draft: Draft, service: Service) -> list[str]:
    """Instances that a run of ours has left running and that the record no longer names: nobody would look at them again."""
    names = {component.name for component in service.components}
    known = set(instances(service))
    return [
        "%s: the record no longer names %s, where a run left %s. It goes on as it is, and no run looks at it; stop it "
        "by hand, or name it again" % (service.name, key, version)
        for key, version in sorted(draft.history.stands.items())
        if key.partition("@")[0] in names and key not in known and version != NOTHING
    ]


def _say(draft: Draft, service: Service) -> None:
    """What a person has to know of a change of release: what the recipe warns of, and what another deployer has to be told."""
    body = draft.recipes[service.name].body
    known: dict[str, Json] = body.get("handoff") or {}
    if service.deployer and service.deployer not in known:
        draft.refusals.append(
            "%s: its recipe does not say what to tell the deployer %s. It knows %s; leave deployer out, or add it to handoff of the recipe."
            % (service.name, service.deployer, ", ".join(known) or "none")
        )
    moved = [draft.moves[key][0] for key in instances(service) if key in draft.moves]
    if not moved or draft.refusals:
        return
    version = service.release["version"]
    if draft.verb == "upgrade":
        draft.notes += ["%s: %s" % (service.name, sentence) for sentence in body.get("limits") or []]
        draft.notes += [
            "%s: %s is written since %s. The former release: %s" % (service.name, row["what"], row["since"], row["old_release"])
            for row in body.get("new_data") or []
            if any(hops.order(old) < hops.order(row["since"]) <= hops.order(version) for old in moved)
        ]
    if service.deployer:
        told = known[service.deployer]
        draft.handoff += [
            "%s, in %s: %s (or its next run takes this back)" % (told["name"], told["file"], line.replace("{version}", version))
            for line in told["lines"]
        ]

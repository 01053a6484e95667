# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way back that costs data: all traffic away, all processes halted, the database as a backup has it, the former release. Pure.

It has an outage, from the first drain until the first instance is proven, and it loses what was written since the backup. Both are
said before, and nothing of it happens without consent.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import configuration, hops, needs
from ansible_collections.osops.lifecycle.plugins.plugin_utils.draft import Contract, Draft, History, instances, ordered
from ansible_collections.osops.lifecycle.plugins.plugin_utils.greenfield import Places, key_of
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import (
    UNDONE,
    Database,
    Json,
    Record,
    Service,
    Step,
)
from ansible_collections.osops.lifecycle.plugins.plugin_utils.observed import backup_key, check_key, restore_key
from ansible_collections.osops.lifecycle.plugins.plugin_utils.outage import Outage, unreachable, without_release
from ansible_collections.osops.lifecycle.plugins.plugin_utils.steps import (
    BACKUP_S,
    backup_steps,
    database_target,
)

RESTORE = "restore"
"""The consent without which no database is restored."""
DATA_RESTORED = "data_restored"
"""The word of a person that another tool has restored the data, so that code from before finalize can use it again."""
_ALL = 9999
"""How many backups stay when one is taken right before a restore: it must not push out the one that is to be restored."""


def chosen(record: Record, verb: str, history: History, consents: t.Collection[str], asked: str = "") -> dict[str, str]:
    """Service -> the backup that a rollback takes its data back to; empty where none is known. Services that keep their data are left out.

    ``asked`` is the backup that a person named. What the newest run has restored already is not restored again: its service has
    written since.
    """
    found = {}
    for name, service in record.services.items() if verb == "rollback" else ():
        closed = _closed(history, service)
        if asked and history.restored.get(name) != asked:
            found[name] = asked
        elif closed and DATA_RESTORED not in consents:
            # From before the first of them: behind any of the later ones lies a schema that this code cannot use either.
            found[name] = closed[-1].backup
    return found


def _closed(history: History, service: Service) -> list[Contract]:
    """The contracts that stand between a service and the release that is wanted, the newest first."""
    wanted = hops.order(service.release["version"])
    return [contract for contract in history.contracts.get(service.name, ()) if wanted < hops.order(contract.version)]


def restore(draft: Draft, service: Service) -> None:
    """Add what brings a service to the release that the record wants, and its data to the backup ``draft.restores`` names."""
    recipe = draft.recipes[service.name]
    base, backup = service.database, draft.restores.get(service.name, "")
    places = [(component, host) for component in ordered(recipe, service) for host in component.hosts]
    problems = _impossible(service, backup) or draft.silent(instances(service)) or unreachable(draft, service, places)
    problems += without_release(draft, places) + configuration.problems(draft, service)
    problems += draft.silent([check_key(service.name, check.name) for check in service.checks])
    seen = draft.seen(restore_key(service.name))
    if not problems:
        problems = draft.silent([restore_key(service.name)])
    if not problems and not _torn(draft, service):
        problems = draft.silent([backup_key(service.name)])
    if draft.limit:
        problems.append("%s: a restore is for a whole service; osops_limit cannot be used with it." % service.name)
    draft.refusals += [_why(draft, service) + problem for problem in problems]
    if problems or base is None:
        return
    told = "%s: the restore of %s from the backup %s loses %s" % (
        service.name,
        base.name,
        backup,
        loss(seen.more.get("lost") or {}),
    )
    if RESTORE not in draft.consents:
        draft.refusals.append(
            "%s%s. All of its instances stop meanwhile. It needs -e osops_consent=%s." % (_why(draft, service), told, RESTORE)
        )
        return
    draft.notes.append(told)
    draft.notes.append("%s: outage from its drain until the first instance is proven on the restored data" % service.name)
    draft.notes += ["%s: %s" % (service.name, effect) for effect in recipe.body.get("way_back", {}).get("restore_does") or []]
    _Restore(draft, service, recipe, base, backup).add(places)


def _why(draft: Draft, service: Service) -> str:
    closed = _closed(draft.history, service)
    if not closed:
        return ""
    return (
        "%s: its schema was finalized for %s, so the code of %s can no longer use it. The only way back is a restore, which loses "
        "what was written since the backup. " % (service.name, closed[0].version, service.release["version"])
    )  # fmt: skip


def loss(lost: t.Mapping[str, Json]) -> str:
    """What a restore undoes, as half a sentence: the time, and how many rows each table has now more or fewer than then."""
    rows = [_rows(table, there) for table, there in sorted((lost.get("tables") or {}).items())]
    since = "what was written since %s (%s s ago)" % (
        lost.get("taken_at") or "a time that is not known",
        lost.get("age_s", "unknown"),
    )
    return "%s; rows more than then: %s" % (since, ", ".join(rows)) if rows else "%s; no table has another number of rows" % since


def _rows(table: str, there: t.Mapping[str, Json]) -> str:
    now, then = there.get("rows_now"), there.get("rows_then")
    if isinstance(now, int) and isinstance(then, int):
        return "%s %+d" % (table, now - then)
    if now is None or then is None:
        return "%s (%s)" % (table, "it is not there now" if now is None else "unknown to the backup")
    return "%s (not counted in time)" % table


def _impossible(service: Service, backup: str) -> list[str]:
    if service.database is None:
        return ["%s: the record does not say where its database is (database), so nothing can be restored." % service.name]
    if service.database.backup.get("kind", "dump") != "dump":
        return [
            "%s: its backups are made by another tool, and are restored with that tool: stop the service, restore, then rollback with "
            "-e osops_consent=%s." % (service.name, DATA_RESTORED)
        ]  # fmt: skip
    if not backup:
        return [
            "%s: no run in this store has made a backup that the wanted release could live on. Name one with -e osops_restore=ID "
            "(mariadb_backup in check mode lists them)." % service.name
        ]  # fmt: skip
    return []


def _torn(draft: Draft, service: Service) -> bool:
    """Whether a restore was cut in the middle: what is there now is neither the one nor the other, and not worth a backup."""
    return bool(draft.seen(restore_key(service.name)).before.get("torn"))


@dataclasses.dataclass
class _Restore(Outage):
    base: Database
    backup: str

    def add(self, places: Places) -> None:
        """One batch: all must be out of traffic and halted before the data moves, and each is proven and admitted on its own after."""
        draft = self.draft
        number = len(draft.batches) + 1
        shares = {key_of(place): self.shares(place, "%d.%d" % (number, at)) for at, place in enumerate(places, 1)}
        drained = [share for mine in shares.values() for share in mine]
        kept = self._kept(tuple(share.id("drain") for share in drained))
        ready = tuple(share.id("confirm") for share in drained) + tuple(step.id for step in kept)
        halts = [self.halt(place, ready) for place in places]
        before = [*(step for share in drained for step in (share.drain(), share.confirm())), *kept, *halts]
        restored = self._restored(tuple(step.id for step in [*halts, *kept]))
        after = [step for place in places for step in self.back_up(place, shares[key_of(place)], (restored.id,))]
        steps = [
            *(dataclasses.replace(step, way_back=UNDONE) for step in before),
            restored,
            *(step if step.do == "fetch" else dataclasses.replace(step, way_back="restore") for step in after),
        ]
        draft.steps += steps
        draft.outages.append(len(draft.batches))
        draft.batches.append(tuple(dict.fromkeys(step.target for step in steps)))

    def _kept(self, drained: tuple[str, ...]) -> list[Step]:
        """What is there now is backed up too, when nobody writes any more: so that the restore itself has a way back."""
        if _torn(self.draft, self.service):
            return []
        steps = backup_steps(self.recipe, self.service, "rollback", drained, self.draft.stamp)
        return [dataclasses.replace(step, args={**step.args, "keep": _ALL}) for step in steps]

    def _restored(self, ready: tuple[str, ...]) -> Step:
        key = database_target(self.service.name)
        args = needs.restore_args(self.service, self.base, self.backup)
        before = self.draft.seen(restore_key(self.service.name)).before
        return Step(
            key + "/restore", key, self.base.host, "rollback", "restore", self.recipe.module("backup"), args, expect=before, needs=ready,
            deadline_s=int(self.base.backup.get("deadline", BACKUP_S)), way_back="restore",
        )  # fmt: skip

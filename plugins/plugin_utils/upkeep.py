# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done for a service that stays in operation: backups, closing the way back (finalize), and cleaning up. Pure."""

from __future__ import annotations

from ansible_collections.osops.lifecycle.plugins.plugin_utils import needs
from ansible_collections.osops.lifecycle.plugins.plugin_utils.draft import Draft, instances, ordered
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import Service, Step
from ansible_collections.osops.lifecycle.plugins.plugin_utils.observed import backup_key, clean_key, contract_key, instance_key
from ansible_collections.osops.lifecycle.plugins.plugin_utils.steps import CHANGE_S, backed_up, backup_steps, data_key


def finalize(draft: Draft, service: Service) -> None:
    """Add the contract step of a service: refused while old code runs, or has run until just now."""
    recipe = draft.recipes[service.name]
    contract = recipe.body.get("schema", {}).get("contract")
    if contract is None:
        draft.notes.append("%s: its recipe knows no contract step, there is nothing to finalize" % service.name)
        return
    problems = [why for why in [draft.misplaced(service)] if why] or draft.silent(instances(service))
    wanted = service.release["version"]
    for key in instances(service) if not problems else ():
        seen = draft.seen(key)
        if seen.would_change or not seen.before.get("running"):
            problems.append(
                "%s: it is %s, and the record wants %s. Old code cannot live on a finalized schema; finish the upgrade first."
                % (key, seen.before.get("version") or "not running", wanted)
            )
    keys = [contract_key(service.name), *([backup_key(service.name)] if backed_up(service) else [])]
    problems = problems or draft.silent(keys)
    draft.refusals += problems
    if problems or not draft.seen(contract_key(service.name)).would_change:
        return
    left = service.soak_s - draft.history.settled_s.get(service.name, float("inf"))
    if left > 0 and "no_soak" not in draft.consents:
        draft.refusals.append(
            "%s: %s has not served long enough, %d of its %d s are left (soak). Finalizing closes the way back without loss; wait, or "
            "give -e osops_consent=no_soak." % (service.name, wanted, left, service.soak_s)
        )
        return
    component = next(each for each in ordered(recipe, service))
    host = component.hosts[0]
    kept = backup_steps(recipe, service, "upgrade", (), draft.stamp)
    key = data_key(service.name)
    args = {**needs.schema_args(draft.record, recipe, service, component, host), "state": "expand", "act": contract}
    draft.steps += [
        *kept,
        Step(
            key + "/change", key, host, "upgrade", "change", recipe.module("schema"), args, needs=tuple(step.id for step in kept),
            deadline_s=int(contract.get("deadline", 3600)), way_back="restore" if kept else "none",
        ),
    ]  # fmt: skip
    draft.batches.append((*(step.target for step in kept), key))


def backup(draft: Draft, service: Service) -> None:
    """Add a backup of a service's data, and its proof."""
    if service.database is None or not backed_up(service):
        draft.notes.append("%s: the record names no database to back up" % service.name)
        return
    problems = [why for why in [draft.misplaced(service)] if why] or draft.silent([backup_key(service.name)])
    draft.refusals += problems
    if not problems:
        steps = backup_steps(draft.recipes[service.name], service, "operational", (), draft.stamp)
        draft.steps += steps
        draft.batches.append(tuple(step.target for step in steps))


def clean(draft: Draft, service: Service) -> None:
    """Add what removes old releases from the hosts: never one that runs, nor the one that a rollback would go back to."""
    recipe = draft.recipes[service.name]
    problems = [why for why in [draft.misplaced(service)] if why] or draft.silent(instances(service), refusing=False)
    places = [(component, host) for component in ordered(recipe, service) for host in component.hosts]
    keys = {instance_key(component.name, host): (component, host) for component, host in places}
    problems = problems or draft.silent(clean_key(key) for key in keys)
    draft.refusals += problems
    steps = []
    for key, (component, host) in keys.items() if not problems else ():
        seen = draft.seen(clean_key(key))
        if seen.would_change and (not draft.limit or host in draft.limit):
            args = needs.clean_args(draft.record, recipe, service, component, host)
            steps.append(
                Step(
                    key + "/remove", key, host, "delete", "remove", service.driver, args, expect=seen.before, deadline_s=CHANGE_S
                )
            )
            draft.notes.append("%s: %s" % (key, ", ".join(seen.more.get("removed") or ["old releases"])))
    draft.steps += steps
    if steps:
        draft.batches.append(tuple(step.target for step in steps))

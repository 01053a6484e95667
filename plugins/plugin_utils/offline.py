# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Strategy offline: the whole service stops for its change, and the balancers say so to whoever asks. Pure.

For changes that two releases side by side cannot live through. The outage is announced by the plan; no request is cut.
"""

from __future__ import annotations

import dataclasses

from ansible_collections.osops.lifecycle.plugins.plugin_utils import configuration, hops, needs
from ansible_collections.osops.lifecycle.plugins.plugin_utils.draft import Draft, instances, ordered
from ansible_collections.osops.lifecycle.plugins.plugin_utils.greenfield import Places, key_of
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import NOTHING, UNDONE, Service, Step
from ansible_collections.osops.lifecycle.plugins.plugin_utils.observed import (
    backup_key,
    balancer,
    balancer_key,
    check_key,
)
from ansible_collections.osops.lifecycle.plugins.plugin_utils.outage import Outage, unreachable, without_release
from ansible_collections.osops.lifecycle.plugins.plugin_utils.steps import (
    TRAFFIC_S,
    backed_up,
    backup_steps,
    schema_steps,
)

RETRY_AFTER_S = 30
"""What clients are told to wait while the service is stopped, in seconds."""


def schema_target(service: str) -> str:
    """The target of the schema step: its checks stand in a batch before the outage, on the target of the service's data."""
    return service + ".schema"


def change(draft: Draft, service: Service) -> None:
    """Add what stops a service of which some instance changes, brings its schema and all instances to the wanted release, and
    gives it its traffic back."""
    recipe = draft.recipes[service.name]
    places = [(component, host) for component in ordered(recipe, service) for host in component.hosts]
    moving = [key_of(place) for place in places if draft.seen(key_of(place)).would_change]
    problems = draft.silent(instances(service)) or unreachable(draft, service, places)
    problems += draft.silent([check_key(service.name, check.name) for check in service.checks])
    problems += without_release(draft, places) + configuration.problems(draft, service) + draft.strangers(service)
    problems += draft.silent([backup_key(service.name)] if backed_up(service) else [])
    if placed(service) and service.traffic is not None:
        keys = {host: balancer_key(service.name, host) for host in service.traffic.hosts}
        problems += draft.silent(keys.values()) + [
            "%s: our file in the balancer's configuration is not as the record says, and an outage would write it anew. Put one of the two right."
            % host
            for host, key in keys.items()
            if draft.seen(key).would_change
        ]
    if draft.limit:
        problems.append("%s: offline stops the whole service; osops_limit cannot be used with it." % service.name)
    versions = {key: str(draft.seen(key).before.get("version") or NOTHING) for key in moving}
    draft.refusals += [*problems, *hops.refusals(service, recipe, draft.verb, versions)]
    if draft.refusals:
        return
    draft.notes.append(
        "%s: outage of the whole service (strategy offline), from its drain until the first instance is proven%s"
        % (service.name, "; the balancers answer 503 with Retry-After %d" % RETRY_AFTER_S if placed(service) else "")
    )
    _Offline(draft, service, recipe).add(places)


def placed(service: Service) -> bool:
    """Whether the balancers' part of the service is ours: only then can they be told what to answer."""
    return service.traffic is not None and service.traffic.managed is not None


class _Offline(Outage):
    def add(self, places: Places) -> None:
        """What can refuse is asked first, in a batch of its own, while all still serves; then one batch, in the order of the words."""
        draft, service, recipe = self.draft, self.service, self.recipe
        fetched = tuple(key_of(place) + "/fetch" for place in places)
        expands = bool(recipe.body.get("schema", {}).get("expand"))
        asked, made = schema_steps(draft.record, recipe, service, *places[0], fetched) if expands else (None, None)
        if asked is not None:
            draft.steps.append(asked)
            draft.batches.append((asked.target,))
        number = len(draft.batches) + 1
        shares = {key_of(place): self.shares(place, "%d.%d" % (number, at)) for at, place in enumerate(places, 1)}
        drained = [share for mine in shares.values() for share in mine]
        before = (asked.id,) if asked is not None else ()
        drains = [dataclasses.replace(share.drain(), needs=before) for share in drained]
        kept = backup_steps(recipe, service, "upgrade", tuple(step.id for step in drains), draft.stamp)
        ready = tuple(share.id("confirm") for share in drained) + tuple(step.id for step in kept)
        halts = [self.halt(place, ready) for place in places]
        told, back = self._answers(tuple(share.id("confirm") for share in drained))
        stopped = tuple(step.id for step in halts)
        schema = []
        if made is not None:
            key = schema_target(service.name)
            schema = [dataclasses.replace(made, id=key + "/init", target=key, do="init", needs=(*before, *stopped))]
        data = tuple(step.id for step in schema) or stopped
        ended = {step.host: step.id for step in back}
        after = [step for place in places for step in self.back_up(place, shares[key_of(place)], data, ended)]
        # The program that brings the schema up reads the configuration, too.
        written = tuple(step.id for step in after if step.do == "install")
        schema = [dataclasses.replace(step, needs=(*step.needs, *written)) for step in schema]
        starts = tuple(step.id for step in after if step.do == "change")
        back = [dataclasses.replace(step, needs=starts) for step in back]
        undone = [*drains, *(share.confirm() for share in drained), *kept, *halts, *told]
        steps = [*(dataclasses.replace(step, way_back=UNDONE) for step in undone), *schema, *after, *back]
        draft.steps += steps
        draft.outages.append(len(draft.batches))
        draft.batches.append(tuple(dict.fromkeys(step.target for step in steps)))

    def _answers(self, ready: tuple[str, ...]) -> tuple[list[Step], list[Step]]:
        """Steps with which the balancers answer for a service that is stopped, and steps that end it."""
        traffic, told, back = self.service.traffic, list[Step](), list[Step]()
        if traffic is None or traffic.managed is None:
            return told, back
        for host in traffic.hosts:
            key = "%s.answer@%s" % (self.service.name, host)
            args = {**needs.balancer_args(self.draft.record, self.recipe, self.service, traffic, host), "state": "present"}
            stopped = {**args, "answer": {"status": 503, "retry_after": RETRY_AFTER_S}}
            module = balancer(self.recipe, traffic)
            told.append(
                Step(key + "/halt", key, host, "upgrade", "halt", module, stopped, needs=ready, undo=args, deadline_s=TRAFFIC_S)
            )
            back.append(Step(key + "/test", key, host, "test", "test", module, args, deadline_s=TRAFFIC_S))
        return told, back

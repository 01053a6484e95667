# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the two ways share that stop a whole service, restore and strategy offline: all out of traffic, halted, and up again. Pure."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import configuration, needs
from ansible_collections.osops.lifecycle.plugins.plugin_utils.draft import Draft
from ansible_collections.osops.lifecycle.plugins.plugin_utils.greenfield import Places, key_of, not_served, share_of
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import NOTHING, Component, Recipe, Service, Step
from ansible_collections.osops.lifecycle.plugins.plugin_utils.observed import files_key, share_key
from ansible_collections.osops.lifecycle.plugins.plugin_utils.steps import (
    ShareSteps,
    check_steps,
    files_step,
    halt_step,
    instance_steps,
    without_past,
)

Place = tuple[Component, str]


def unreachable(draft: Draft, service: Service, places: Places) -> list[str]:
    """Why the traffic of the whole service cannot be taken away, one sentence for each balancer."""
    hosts = service.traffic.hosts if service.traffic is not None else ()
    found = draft.silent([share_key(service.name, host) for host in hosts])
    for host in hosts if not found else ():
        strange = [key_of(place) for place in not_served(draft, service, places, host)]
        if strange:
            found.append("%s: no server of it has the address of %s." % (host, ", ".join(strange)))
    return found


def without_release(draft: Draft, places: Places) -> list[str]:
    """What runs and could not be started again, because nobody knows from which release it runs."""
    found = [(key_of(place), draft.seen(key_of(place)).before) for place in places]
    return [
        "%s runs, but from which release is not known: once it is stopped it could not be started again." % key
        for key, before in found
        if before.get("running") and not before.get("release")
    ]


@dataclasses.dataclass
class Outage:
    """One service that stops as a whole. Each instance has a share of its own on every balancer: what is proven serves at once."""

    draft: Draft
    service: Service
    recipe: Recipe

    @property
    def phase(self) -> str:
        return "rollback" if self.draft.verb == "rollback" else "upgrade"

    def shares(self, place: Place, number: str) -> list[ShareSteps]:
        traffic, (component, host) = self.service.traffic, place
        found = list[ShareSteps]()
        if traffic is None or not component.port:
            return found
        for balancer in traffic.hosts:
            target = "%s#%s@%s" % (self.service.name, number, balancer)
            share = share_of(self.draft, self.service, traffic, [self.draft.record.listen(component, host)], target, balancer)
            former = self.draft.leftovers.get(share_key(self.service.name, balancer), {})
            was = {name: former[name].before(state) if name in former else state for name, state in share.restore.items()}
            found.append(dataclasses.replace(share, restore=was, phase=self.phase))
        return found

    def halt(self, place: Place, ready: tuple[str, ...]) -> Step:
        component, host = place
        key = key_of(place)
        before = self.draft.seen(key).before
        self.draft.moves[key] = (
            str(before.get("version") or before.get("release") or NOTHING),
            self.service.release["version"],
        )
        args = needs.artifact_args(self.draft.record, self.recipe, self.service, component, host)
        undo = {**args, "state": "active", "release": {"package": args["release"]["package"], "id": before.get("release")}}
        halt = halt_step(key, host, args, self.recipe, self.service, before, ready, self.phase)
        return dataclasses.replace(halt, undo=undo if before.get("release") else None)

    def back_up(
        self, place: Place, shares: list[ShareSteps], data: tuple[str, ...], more: t.Mapping[str, str] | None = None
    ) -> list[Step]:
        """The instance starts with the wanted release and its configuration after the steps ``data``, is proven, and serves; on a
        balancer that is in ``more`` (host -> step) only after that step."""
        (component, host), draft, steps = place, self.draft, list[Step]()
        key = key_of(place)
        args = needs.artifact_args(draft.record, self.recipe, self.service, component, host)
        where = needs.instance(draft.record, self.recipe, component, host)
        peers = needs.peers(draft.record, component, self.service)
        for step in instance_steps(
            draft.verb, key, host, args, where, self.recipe, self.service, draft.seen(key), data, (), peers
        ):
            if step.do in ("change", "revert"):
                wait_for = (key + "/fetch", key + "/halt", *data)
                if configuration.moves(draft, key):
                    files = needs.files_args(draft.record, self.recipe, self.service, component, host)
                    do = "restore" if step.phase == "rollback" else "install"
                    before = draft.seen(files_key(key)).before
                    steps.append(files_step(key, host, do, step.phase, files, self.recipe, before, key + "/halt"))
                    wait_for += (steps[-1].id,)
                steps.append(dataclasses.replace(step, expect=None, expect_from=(key + "/halt",), needs=wait_for, undo=None))
            elif step.do != "confirm":  # halted, it has nothing to tell
                steps.append(without_past(step) if step.do == "test" else step)
        start = next(step for step in steps if step.do in ("change", "revert"))
        together = sum(len(part.hosts) for part in self.service.components)
        steps += check_steps(draft.record, self.recipe, self.service, component, host, start, together)
        proven = tuple(step.id for step in steps if step.do == "test") or (start.id,)
        also = {host: (step,) for host, step in (more or {}).items()}
        return [*steps, *(share.admit((*proven, *also.get(share.host, ()))) for share in shares)]

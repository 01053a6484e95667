# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan in the making: what is known, what has been decided so far, and where a service stands in its life."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.osops.lifecycle.plugins.plugin_utils import knowledge
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import Component, LeftOut, Recipe, Record, Seen, Service, Step
from ansible_collections.osops.lifecycle.plugins.plugin_utils.observed import Observed, instance_key

Leftovers = t.Mapping[str, t.Mapping[str, LeftOut]]
"""share key -> BACKEND/SERVER -> what a former run left out of traffic"""


@dataclasses.dataclass(frozen=True)
class Contract:
    """A schema that was contracted for ``version``: code below it can no longer use it."""

    version: str
    backup: str = ""
    """the newest backup from before it, empty where none is known: what such code can live on"""


@dataclasses.dataclass(frozen=True)
class History:
    """What former runs say about the services, by name."""

    settled_s: t.Mapping[str, float] = dataclasses.field(default_factory=dict)
    """seconds since the last run that changed the service's release has succeeded"""
    contracts: t.Mapping[str, tuple[Contract, ...]] = dataclasses.field(default_factory=dict)
    """what finalize has closed, the newest first"""
    restored: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    """the backup that the newest run has restored"""
    stands: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    """instance -> version in which the newest run that moved it left it, ``nothing`` where it was removed"""


@dataclasses.dataclass
class Draft:
    """One plan while the services are gone through; ``consents`` are what a person has allowed (docs/variables.md)."""

    record: Record
    recipes: t.Mapping[str, Recipe]
    observed: Observed
    verb: str
    leftovers: Leftovers = dataclasses.field(default_factory=dict)
    limit: t.Collection[str] = ()
    consents: t.Collection[str] = ()
    history: History = dataclasses.field(default_factory=History)
    stamp: str = ""
    """the id of the run, for names that have to be the same whoever goes on with it; empty on paper"""
    restores: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    """service -> the backup that its data goes back to; a service that keeps its data is not in it"""
    batches: list[tuple[str, ...]] = dataclasses.field(default_factory=list)
    steps: list[Step] = dataclasses.field(default_factory=list)
    refusals: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    drift: list[str] = dataclasses.field(default_factory=list)
    moves: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    outages: list[int] = dataclasses.field(default_factory=list)
    """places of the batches that stop a service as a whole"""
    handoff: list[str] = dataclasses.field(default_factory=list)

    def seen(self, key: str) -> Seen:
        return self.observed.get(key, Seen(unknown="nobody looked"))

    def silent(self, keys: t.Iterable[str], refusing: bool = True) -> list[str]:
        """Answers that are missing, and with ``refusing`` also those of drivers that would not act, one sentence each."""
        found = []
        for key in keys:
            why = self.seen(key).unknown or (self.seen(key).refused if refusing else "")
            if why:
                found.append("%s: %s" % (key, why))
        return found

    def strangers(self, service: Service) -> list[str]:
        """Components that nobody would change, because the recipe does not know them, one sentence each."""
        names = [component.name for component in service.components if component.name not in self.recipes[service.name].order]
        return ["%s: the recipe does not know the component %s." % (service.name, name) for name in names]

    def crowded(self, service: Service) -> list[str]:
        """Hosts on which the driver would move several components at once, so that no order of them can be kept; one sentence each."""
        coarse = [key.rpartition("@") for key in instances(service) if self.seen(key).more.get("grain") == "host"]
        hosts = {host: [name for name, _at, there in coarse if there == host] for _name, _at, host in coarse}
        return [
            "%s: on %s its driver changes %s at once, because they come from the same packages; that is not built yet."
            % (service.name, host, " and ".join(names))
            for host, names in sorted(hosts.items())
            if len(names) > 1
        ]

    def there(self, key: str) -> bool:
        """Whether anything of an instance is installed, or listens in its place."""
        state = self.seen(key).before
        return bool(state.get("release") or state.get("running"))

    def phase(self, service: Service) -> str:
        """Where a service stands, from what was seen: planning where nothing of it is there, operational otherwise."""
        return "operational" if any(self.there(key) for key in instances(service)) else "planning"

    def misplaced(self, service: Service) -> str:
        """Why the verb is not for a service that stands where this one stands; empty when it is."""
        verb = knowledge.lifecycle()["verbs"][self.verb]
        phase, begin = self.phase(service), verb["path"][0]
        if phase == begin or self.silent(instances(service), refusing=False):
            return ""
        instead = verb["instead"].get(phase)
        what = "nothing of it is installed" if phase == "planning" else "it is installed"
        return "%s: it stands in %s (%s), and %s begins in %s; use the playbook %s." % (
            service.name, phase, what, self.verb, begin, instead,
        )  # fmt: skip


def ordered(recipe: Recipe, service: Service) -> list[Component]:
    """The components of a service in the recipe's order; what the recipe does not know is left out."""
    have = {component.name: component for component in service.components}
    return [have[name] for name in recipe.order if name in have]


def instances(service: Service) -> list[str]:
    """The keys of all instances that the record names."""
    return [instance_key(component.name, host) for component in service.components for host in component.hosts]

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All data types of the mind: frozen, plain, and the same shape in the store, in tests and on paper.

Nothing here does anything; see docs/architecture.md for how they follow from one another.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing as t

Json = t.Any
Way = str  # "out": the plan's own way; "back": the way back that was derived from plan and journal
OUT, BACK = "out", "back"

CHANGING = ("halt", "restore", "install", "init", "change", "repair", "revert", "purge", "remove")
"""Step words after which a service is not what it was."""

NOTHING = "nothing"
"""The version of an instance of which nothing is there."""

UNDONE = "as it was"
"""The way back of steps that take nothing but time: the same release on the same data goes on."""

# States of a run. The first group goes on when the same playbook runs again, the second is over.
OPEN_STATES = ("running", "paused", "rolling_back")
END_STATES = ("succeeded", "rolled_back", "refused", "cancelled", "aborted", "frozen")


MODULES = {
    "schema": "osops.lifecycle.schema_step",
    "probe": "osops.lifecycle.api_probe",
    "files": "osops.lifecycle.service_files",
    "database": "osops.lifecycle.mariadb_database",
    "backup": "osops.lifecycle.mariadb_backup",
    "balancer": "osops.lifecycle.haproxy_config",
    "check": "osops.lifecycle.consumer_check",
}
"""Kind of work -> the module that does it unless a recipe names another."""


@dataclasses.dataclass(frozen=True)
class Component:
    """One kind of process of a service, and the inventory hosts that run it."""

    name: str
    hosts: tuple[str, ...]
    unit: str = ""
    port: int = 0
    options: dict[str, Json] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Who sends requests to a service: a driver, and the inventory hosts that it runs on."""

    driver: str
    hosts: tuple[str, ...]
    backends: tuple[str, ...] = ()
    options: dict[str, Json] = dataclasses.field(default_factory=dict)
    managed: dict[str, Json] | None = None
    """How our own file in the balancer's configuration is to be; None where the owner of the balancer writes it."""


@dataclasses.dataclass(frozen=True)
class Database:
    """Where a service keeps its data. ``host`` is the inventory host at which everything is done."""

    host: str
    name: str
    user: str
    clients: tuple[str, ...] = ("%",)
    """Where the service's accounts connect from, as MariaDB writes it."""
    address: str = ""
    socket: str = ""
    backup: dict[str, Json] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Check:
    """What somebody who depends on a service asks of every instance of it: a program on ``host``, or an address."""

    name: str
    host: str
    command: tuple[str, ...] = ()
    url: str = ""
    status: int = 200
    timeout_s: int = 60
    user: str = "nobody"
    secrets: dict[str, str] = dataclasses.field(default_factory=dict)
    """Variable of the program's environment -> inventory variable that holds the secret."""


@dataclasses.dataclass(frozen=True)
class Service:
    """The wanted state of one service, as the record says it, with names of groups made into hosts."""

    name: str
    driver: str
    release: dict[str, Json]
    components: tuple[Component, ...]
    traffic: Traffic | None = None
    probe: dict[str, Json] = dataclasses.field(default_factory=dict)
    min_available: int = 1
    batches: tuple[int, ...] = (1,)
    strategy: str = "rolling"
    secrets: dict[str, str] = dataclasses.field(default_factory=dict)
    """Name of a secret -> inventory variable that holds it."""
    database: Database | None = None
    config: dict[str, Json] = dataclasses.field(default_factory=dict)
    soak_s: int = 86400
    """How long a release must have served before its way back may be closed."""
    repair: tuple[str, ...] = ()
    """Kinds of drift that the playbook operational puts right; what is not named is told."""
    keep_releases: int = 2
    """How many releases the playbook clean leaves on a host, beside what runs and the way back."""
    backup_every_s: int = 0
    """How old the newest proven backup may be when the playbook operational runs; 0 leaves backups to others."""
    hold: str = ""
    """Why upgrades leave this service alone; empty when they do not."""
    deployer: str = ""
    """Whose tool manages it besides (a name of the recipe's handoff); empty where nobody's does."""
    checks: tuple[Check, ...] = ()

    def component(self, name: str) -> Component:
        return next(component for component in self.components if component.name == name)


@dataclasses.dataclass(frozen=True)
class Record:
    """The deployment record of one cloud."""

    cloud: str
    services: dict[str, Service]
    addresses: dict[str, str] = dataclasses.field(default_factory=dict)
    """inventory host -> address at which the others reach its ports"""

    def listen(self, component: Component, host: str) -> str:
        """Where an instance listens: address:port, an IPv6 address in brackets; empty without a port."""
        address = self.addresses.get(host, host)
        return ("[%s]:%d" if ":" in address else "%s:%d") % (address, component.port) if component.port else ""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is known about one service, as data (data/recipes/SERVICE.yml); ``body`` is the whole document."""

    service: str
    body: dict[str, Json]

    @property
    def package(self) -> str:
        return str(self.body.get("package", self.service))

    @property
    def order(self) -> tuple[str, ...]:
        """Names of the components, in the order in which they are changed."""
        return tuple(component["name"] for component in self.body["components"])

    def stop_s(self, component: str) -> int:
        """Seconds that a component may take to stop."""
        return next((int(part.get("stop", 60)) for part in self.body["components"] if part["name"] == component), 60)

    def module(self, kind: str) -> str:
        """The module for a kind of work: one of ``MODULES``, unless the recipe names its own."""
        return str((self.body.get("modules") or {}).get(kind, MODULES[kind]))


@dataclasses.dataclass(frozen=True)
class Look:
    """One question to one host: run ``module`` with ``args`` in check mode, and file the answer under ``key``."""

    key: str
    host: str
    module: str
    args: dict[str, Json]


@dataclasses.dataclass(frozen=True)
class Seen:
    """One answer. ``unknown`` names why there is none; it is never left out."""

    before: dict[str, Json] = dataclasses.field(default_factory=dict)
    more: dict[str, Json] = dataclasses.field(default_factory=dict)
    unknown: str = ""
    refused: str = ""
    """Why the driver would not act, in its own sentence; empty when it would."""
    would_change: bool = False


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A server that a former run left out of traffic: what it was before, and how that run left it."""

    was: dict[str, Json]
    left: dict[str, Json] | None

    def before(self, state: dict[str, Json]) -> dict[str, Json]:
        """What a server in ``state`` was before us; ``state`` itself when somebody has changed it since."""
        return self.was if self.left is None or state == self.left else state


@dataclasses.dataclass(frozen=True)
class Step:
    """The smallest thing done to one target: expectation, act, needs, undo, deadline."""

    id: str
    target: str
    host: str
    phase: str
    do: str
    module: str
    args: dict[str, Json]
    expect: dict[str, Json] | None = None
    expect_from: tuple[str, ...] = ()
    """Steps whose journaled ``after`` is expected instead; the last one that is done counts."""
    needs: tuple[str, ...] = ()
    unless_begun: tuple[str, ...] = ()
    """``needs`` are void while none of these steps was begun: what was never touched needs no proof."""
    undo: dict[str, Json] | None = None
    """Arguments that take the act back, None where there is nothing to take back."""
    servers: dict[str, str] = dataclasses.field(default_factory=dict)
    """A share's servers: BACKEND/SERVER -> address:port."""
    resume: bool = False
    deadline_s: int = 120
    way: Way = OUT
    way_back: str = "code_only"
    of: str = ""
    """The instance that a consumer's check asks, for a step that is one."""

    @property
    def loses(self) -> bool:
        """Whether it takes a database back to a backup, and what was written since is gone."""
        return self.do == "restore" and "database" in self.args


@dataclasses.dataclass(frozen=True)
class Plan:
    """Batches of targets and the steps of each: pure data, made before the first change."""

    cloud: str
    verb: str
    services: tuple[str, ...]
    hash: str
    batches: tuple[tuple[str, ...], ...]
    steps: tuple[Step, ...]
    refusals: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    moves: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    """instance -> (version that runs, version that is wanted)"""
    drift: tuple[str, ...] = ()
    """what is not as the record says, and is not this plan's to put right"""
    outages: tuple[int, ...] = ()
    """Places of the batches that stop a service as a whole: strategy offline, a restore."""
    handoff: tuple[str, ...] = ()
    """What somebody has to write into another deployer's files after the run, or that one's next run undoes it."""

    def real_hosts(self) -> dict[str, str]:
        return {step.target: step.host for step in self.steps}


@dataclasses.dataclass(frozen=True)
class Run:
    """One execution of one plan, as the store has it."""

    id: str
    cloud: str
    verb: str
    services: tuple[str, ...]
    plan_hash: str
    state: str
    reason: str
    ending: str
    """The state that a way back will end in: rolled_back, frozen or refused."""
    asked: str
    token: int
    lease_until: float
    holder: dict[str, Json]
    actor: str
    created: float


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of the journal. Times are seconds of the store's clock; ``seq`` gives the order."""

    seq: int
    run: str
    step: str
    way: Way
    attempt: int
    kind: str
    """intent, done, failed, unknown or note"""
    token: int
    at: float
    deadline_at: float = 0.0
    holder: dict[str, Json] = dataclasses.field(default_factory=dict)
    before: dict[str, Json] = dataclasses.field(default_factory=dict)
    after: dict[str, Json] = dataclasses.field(default_factory=dict)
    verdict: dict[str, Json] = dataclasses.field(default_factory=dict)
    changed: bool = False


def canonical(value: Json) -> str:
    """The one JSON text of a value, for hashes and for the store."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)


def digest(value: Json) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _plain(value: Json) -> Json:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, (set, tuple)):
        return list(value)
    raise TypeError("%r cannot be written as JSON" % (value,))


def step_from_dict(data: dict[str, Json]) -> Step:
    for name in ("expect_from", "needs", "unless_begun"):
        data = {**data, name: tuple(data.get(name) or ())}
    return Step(**data)


def plan_from_dict(data: dict[str, Json]) -> Plan:
    return Plan(
        cloud=data["cloud"],
        verb=data["verb"],
        services=tuple(data["services"]),
        hash=data["hash"],
        batches=tuple(tuple(batch) for batch in data["batches"]),
        steps=tuple(step_from_dict(step) for step in data["steps"]),
        refusals=tuple(data["refusals"]),
        notes=tuple(data["notes"]),
        moves={name: (move[0], move[1]) for name, move in data["moves"].items()},
        drift=tuple(data.get("drift") or ()),
        outages=tuple(data.get("outages") or ()),
        handoff=tuple(data.get("handoff") or ()),
    )

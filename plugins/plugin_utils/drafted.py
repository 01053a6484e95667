# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what runs to the draft of a deployment record: what somebody else deployed, said in our words. Pure.

Nothing is guessed. What the record has no room for, or what two hosts say differently, is a refusal: a draft that silently misses an
instance is worse than none.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import hops
from ansible_collections.osops.lifecycle.plugins.plugin_utils.drafted_found import Instance, by, process, said, unable
from ansible_collections.osops.lifecycle.plugins.plugin_utils.drafted_traffic import Place, balancer_key, traffic
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import Json, Look, Recipe

ARTIFACT = "osops.lifecycle.artifact_source"
INSTANCES = "osops.lifecycle.service_info"
BALANCER = "osops.lifecycle.haproxy_info"
DROP_IN = "50-osops.conf"
"""What artifact_source puts beside the unit of an instance that it has adopted."""
HOME = "/opt/osops/%s"
"""Where the releases of a service will lie that come after an adopted one."""
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to

Answers = t.Mapping[str, t.Mapping[str, Json]]


@dataclasses.dataclass(frozen=True)
class Wish:
    """What is to be drafted, and which inventory hosts are searched for it."""

    cloud: str
    services: tuple[str, ...]
    hosts: tuple[str, ...]
    balancers: tuple[str, ...] = ()
    socket: str = ""
    """the balancers' socket where it is not the driver's default"""
    locks: t.Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    """first 12 digits of a lock's SHA-256 -> its path as the record names it, and all digits"""


@dataclasses.dataclass
class Drafted:
    """The record (empty where nothing could be drafted), and what a person has to know of it. With ``refusals`` it is not complete."""

    record: dict[str, Json] = dataclasses.field(default_factory=dict)
    found: list[str] = dataclasses.field(default_factory=list)
    add: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    refusals: list[str] = dataclasses.field(default_factory=list)


def instances_key(component: str, host: str) -> str:
    return "export/%s@%s" % (component, host)


def questions(wish: Wish, recipes: t.Mapping[str, Recipe]) -> list[Look]:
    """What the hosts are asked. Raises BadInputError where a recipe does not say how its service is known."""
    found = []
    for name in wish.services:
        for component, known in _discover(recipes[name]).items():
            args = {"package": known["package"], "service": name, "ports": known["ports"], "words": known.get("words", [])}
            found += [Look(instances_key(component, host), host, INSTANCES, args) for host in wish.hosts]
    socket = {"socket": wish.socket} if wish.socket else {}
    return found + [Look(balancer_key(host), host, BALANCER, socket) for host in wish.balancers]


def _discover(recipe: Recipe) -> dict[str, Json]:
    """Component -> how it is known, as the recipe says."""
    known: dict[str, Json] = recipe.body.get("discover") or {}
    if not known:
        raise BadInputError(
            "The recipe of %s does not say how it is known where somebody else deployed it." % recipe.service, "input.discover",
            "Add discover to it; that of keystone is an example.",
        )  # fmt: skip
    for name in known:
        if name not in recipe.order:
            raise BadInputError(
                "The recipe of %s has %s in discover, and no component of this name." % (recipe.service, name), "input.discover"
            )
    return known


def draft(wish: Wish, recipes: t.Mapping[str, Recipe], addresses: t.Mapping[str, str], answers: Answers) -> Drafted:
    """``addresses``: host -> where the others reach its ports; ``answers``: what each question was answered."""
    made = Drafted()
    silent: dict[str, list[str]] = {}
    for look in questions(wish, recipes):
        answer = answers.get(look.key, {"failed": True, "msg": "nobody looked"})
        if answer.get("failed") or not isinstance(answer.get("servers" if look.module == BALANCER else "instances"), list):
            why = str(answer.get("msg") or "it answered what is not understood").rstrip(".")
            silent.setdefault("%s: %s." % (look.host, why), []).append(look.key)
    made.refusals += list(silent)
    gone = {key for keys in silent.values() for key in keys}
    heard = {key: answer for key, answer in answers.items() if key not in gone}
    services = {name: _Service(made, wish, recipes[name], addresses, heard).body() for name in wish.services}
    drafted = {name: body for name, body in services.items() if body}
    made.record = {"cloud": wish.cloud, "services": drafted} if drafted else {}
    return made


class _Service:
    """One service of the draft; what cannot be drafted leaves its reason in ``made``."""

    def __init__(self, made: Drafted, wish: Wish, recipe: Recipe, addresses: t.Mapping[str, str], answers: Answers) -> None:
        self.made, self.wish, self.recipe, self.addresses, self.answers = made, wish, recipe, addresses, answers
        self.places: list[Place] = []
        self.instances: list[Instance] = []

    def body(self) -> dict[str, Json]:
        components = {}
        for name in self.recipe.order:
            if name not in _discover(self.recipe):
                self.made.notes.append("%s: the recipe does not say how it is known, so it is not drafted" % name)
                continue
            part = self._component(name)
            if part:
                components[name] = part
        if not components:
            return {}
        body: dict[str, Json] = {"release": self._release(), "components": components}
        if self.wish.balancers:
            # What a silent host runs is not known, and has been said; elsewhere on a searched host there is nothing.
            searched = {self.addresses[host]: self._heard(host) for host in self.wish.hosts}
            part = traffic(self.made, self.wish, self.places, self.answers, searched)
            if part:
                body["traffic"] = part
        else:
            self.made.notes.append(
                "%s: no load balancer was looked at (osops_export_balancers), so the draft has no traffic, and an upgrade would drain nothing"
                % self.recipe.service
            )
        self._missing()
        return body

    def _component(self, name: str) -> dict[str, Json]:
        found = self._found(name)
        if not found:
            heard = [host for host in self.wish.hosts if instances_key(name, host) in self.answers]
            if heard:
                self.made.refusals.append("%s: no process of it was found on %s." % (name, ", ".join(heard)))
            return {}
        self._told(name, found)
        if not self._changeable(name, found):
            return {}
        port = self._port(name, found)
        units = by(found, lambda one: one.unit["name"])
        homes = by(found, lambda one: one.home)
        if len(units) > 1:
            self.made.refusals.append("%s: its unit is not the same everywhere: %s. The record has one." % (name, said(units)))
        if len(homes) > 1:
            self.made.refusals.append(
                "%s: its environment is not the same everywhere: %s. The record has one." % (name, said(homes))
            )
        if not port or len(units) > 1 or len(homes) > 1:
            return {}
        self.instances += found
        hosts = [one.host for one in found]
        self.places += [Place(one.key, one.host, _joined(self.addresses[one.host], port)) for one in found]
        return {"hosts": hosts, "unit": found[0].unit["name"], "port": port, "options": self._options(name, found)}

    def _heard(self, host: str) -> bool:
        return all(instances_key(name, host) in self.answers for name in _discover(self.recipe))

    def _found(self, name: str) -> list[Instance]:
        ports = _discover(self.recipe)[name]["ports"]
        found = []
        for host in self.wish.hosts:
            answer = self.answers.get(instances_key(name, host))
            if answer is None:
                continue
            rows = [row for row in answer["instances"] if row["known_by"]]
            for row in answer["instances"]:
                if not row["known_by"]:
                    says = "%s: its environment holds %s too, but neither port nor command line says that it is %s; left out"
                    self.made.notes.append(says % (process(host, row), _discover(self.recipe)[name]["package"], name))
            self.made.notes += ["%s, which is not %s" % (process(host, row), name) for row in answer.get("others") or []]
            for listen in answer.get("unseen") or []:
                if int(listen.rpartition(":")[2]) in ports:
                    self.made.refusals.append("%s: it cannot be seen which process listens on %s." % (host, listen))
            if len(rows) > 1:
                seen = ", ".join(
                    "%s on %s" % ((row["unit"] or {}).get("name") or row["program"], " ".join(row["listen"])) for row in rows
                )
                self.made.refusals.append(
                    "%s@%s: there are %d of it: %s. The record has one for a host." % (name, host, len(rows), seen)
                )
            found += [Instance(name, host, row) for row in rows]
        return found

    def _told(self, name: str, found: t.Sequence[Instance]) -> None:
        """What stands above the draft, so that a person can hold it against what they know."""
        for one in found:
            row, unit = one.row, one.unit
            parts = ["%s in %s" % (row["version"] or "version not proven", row["prefix"] or "an unknown place")]
            parts.append("on " + " ".join(row["listen"]))
            if unit:
                parts.append(
                    "%s as %s" % (unit["name"], unit["user"] or row["user"])
                    + (" (%s)" % unit["fragment"] if unit["fragment"] else "")
                )
                parts += ["drop-ins " + " ".join(unit["drop_ins"])] if unit["drop_ins"] else []
            self.made.found.append("%s: %s" % (one.key, ", ".join(parts)))
        texts: dict[str, dict[str, list[str]]] = {}
        for one in found:
            for row in one.row["config"]:
                says = "sha256 " + row["sha256"][:12] if row["sha256"] else row["problem"]
                texts.setdefault(row["path"], {}).setdefault(says, []).append(one.host)
        for path, same in sorted(texts.items()):
            self.made.found.append("%s, %s: %s" % (name, path, said(same)))

    def _changeable(self, name: str, found: t.Sequence[Instance]) -> bool:
        """Whether a driver of this collection can change all of them. That none can is no ambiguity, so no refusal."""
        why = {one.key: unable(one) for one in found if unable(one)}
        says = ["%s: %s; no driver of this collection can change that yet" % pair for pair in why.items()]
        if all(unable(one) for one in found):
            self.made.notes += ["%s, so %s is not in the draft" % (one, name) for one in says]
            return False
        self.made.refusals += ["%s, and others of it can be changed: the record has one driver." % one for one in says]
        unproven = [one for one in found if one.key not in why and one.row["version"] is None]
        self.made.refusals += [
            "%s: its version is not proven: %s." % (one.key, one.row["problem"].rstrip(".")) for one in unproven
        ]
        twice = len({one.host for one in found}) < len(found)
        return not (why or unproven or twice)

    def _port(self, name: str, found: t.Sequence[Instance]) -> int:
        """The one port of the record, or 0 with the reason told."""
        offered = {one.host: self._ports(one) for one in found}
        if not all(offered.values()):
            return 0
        common = set.intersection(*(set(ports) for ports in offered.values()))
        if not common:
            seen = ", ".join(
                "%s on %s" % (host, " ".join(str(port) for port in sorted(ports))) for host, ports in offered.items()
            )
            self.made.refusals.append("%s: its port is not the same everywhere: %s. The record has one." % (name, seen))
            return 0
        served = {
            str(server["address"])
            for host in self.wish.balancers
            for server in self.answers.get(balancer_key(host), {}).get("servers", [])
        }
        behind = {port for port in common for host in offered if _joined(self.addresses[host], port) in served}
        if len(behind) > 1:
            self.made.refusals.append(
                "%s: it is behind the balancers with %s. The record has room for one port, and the other would never be drained."
                % (name, " and ".join(str(port) for port in sorted(behind)))
            )
            return 0
        known = [port for port in _discover(self.recipe)[name]["ports"] if port in common]
        chosen = next(iter(behind or known or (common if len(common) == 1 else ())), 0)
        if not chosen:
            self.made.refusals.append(
                "%s: which of its ports is the service: %s?" % (name, ", ".join(str(port) for port in sorted(common)))
            )
        elif len(common) > 1:
            self.made.notes.append("%s: it also listens on %s; the draft has %d" % (
                name, ", ".join(str(port) for port in sorted(common - {chosen})), chosen,
            ))  # fmt: skip
        return chosen

    def _ports(self, one: Instance) -> list[int]:
        """The ports on which the others reach an instance."""
        address = self.addresses[one.host]
        try:
            ipaddress.ip_address(address)
        except ValueError:
            self.made.refusals.append("%s: %s is not an IP address; set osops_address for %s." % (one.key, address, one.host))
            return []
        pairs = [listen.rpartition(":") for listen in one.row["listen"]]
        ports = sorted({int(port) for here, _colon, port in pairs if here.strip("[]") in (address, *_EVERYWHERE)})
        if not ports:
            self.made.refusals.append(
                "%s: it listens on %s, and the inventory's address of %s is %s; set osops_address for it."
                % (one.key, " ".join(one.row["listen"]), one.host, address)
            )
        return ports

    def _options(self, name: str, found: t.Sequence[Instance]) -> dict[str, Json]:
        if not found[0].path:
            return {"path": HOME % self.recipe.service, "adopt": found[0].home}
        adopted = sorted({path for one in found for path in one.unit["drop_ins"] if path.rpartition("/")[2] == DROP_IN})
        if adopted:
            self.made.notes.append(
                "%s: it was adopted before (%s). Keep the record that did so: what it goes back to (options.adopt) cannot be read from what runs"
                % (name, ", ".join(adopted))
            )
        return {"path": found[0].path}

    def _release(self) -> dict[str, Json]:
        version, name = self._version(), self.recipe.service
        release: dict[str, Json] = {"driver": ARTIFACT, "version": version}
        ours = [one for one in self.instances if one.lock]
        if not ours:
            return release
        if len(ours) < len(self.instances):
            theirs = ", ".join(one.key for one in self.instances if not one.lock)
            self.made.refusals.append(
                "%s: %s was installed by somebody else, and the others by us. The record has one lock." % (name, theirs)
            )
        locks = sorted({one.lock for one in ours if one.row["version"] == version})
        if len(locks) == 1 and locks[0] in self.wish.locks:
            path, digest = self.wish.locks[locks[0]]
            return {**release, "lock": path, "digest": "sha256:" + digest}
        self.made.notes.append(
            "%s: it lies as artifact_source lays it out, which needs release.lock even for an empty plan: the lock whose SHA-256 begins with %s "
            "(osops_export_locks names a folder to look for it)" % (name, " or ".join(locks))
        )
        return release

    def _version(self) -> str:
        """The version that most of them run; of two that are as many, the newer one."""
        seen: dict[str, list[str]] = {}
        for one in sorted(self.instances, key=lambda one: hops.order(one.row["version"])):
            seen.setdefault(str(one.row["version"]), []).append(one.key)
        chosen = max(seen, key=lambda version: (len(seen[version]), hops.order(version)))
        if len(seen) > 1:
            self.made.notes.append(
                "%s: two versions run at once: %s; the draft wants %s, so its plan is not empty"
                % (self.recipe.service, said(seen), chosen)
            )
        return chosen

    def _missing(self) -> None:
        """What no host can tell, and an upgrade needs."""
        at, body = "services.%s." % self.recipe.service, self.recipe.body
        self.made.add.append(at + "release: lock, digest and index of the release that is wanted, together with its version")
        if "schema" in body:
            self.made.add.append(at + "database: its own host and its backup, such as {hosts: [db1], backup: {kind: dump}}")
        secrets = (body.get("probe") or {}).get("secrets") or []
        if secrets:
            named = ", ".join("%s: NAME_OF_AN_INVENTORY_VARIABLE" % secret for secret in secrets)
            self.made.add.append(at + "probe.secrets: {%s}" % named)
        self.made.add.append(at + "min_available: how many healthy servers every balancer must keep; 1 when not set")


def _joined(address: str, port: int) -> str:
    return ("[%s]:%d" if ":" in address else "%s:%d") % (address, port)

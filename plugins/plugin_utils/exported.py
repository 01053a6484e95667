# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbook export is told, and what it says and writes: settings in, a commented record out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import typing as t

import yaml

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import drafted, knowledge
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import Recipe

Groups = t.Mapping[str, t.Sequence[str]]
_CLOUD = re.compile(r"^[a-z][a-z0-9_-]{0,62}$")
HEAD = (
    "Draft of a deployment record, made by osops.lifecycle.export from what runs. Nothing was changed to make it.",
    "Read it before it is used: docs/export.md says what a host cannot tell.",
)


@dataclasses.dataclass(frozen=True)
class Export:
    """One call: what is wished, the recipes, and the file that the draft goes to, if any."""

    wish: drafted.Wish
    recipes: dict[str, Recipe]
    target: pathlib.Path | None = None

    @classmethod
    def read(cls, given: t.Mapping[str, t.Any], groups: Groups) -> Export:
        """Read and check the variables osops_*; see docs/variables.md. Raises BadInputError with one sentence."""
        cloud = str(given.get("osops_cloud") or "")
        if not _CLOUD.match(cloud):
            raise BadInputError(
                "osops_cloud is %s." % (repr(cloud) if cloud else "not set"),
                "input.cloud",
                "It names the cloud: lower-case letters, digits, - and _.",
            )
        services = _names(given.get("osops_services"))
        if not services:
            raise BadInputError("osops_services is not set.", "input.services", "Name what to search for, such as keystone.")
        folders, target = _names(given.get("osops_recipes")), _target(given)
        return cls(
            drafted.Wish(
                cloud, services,
                _hosts(given, "osops_export_hosts", groups, "Name the group of the hosts to search."),
                _hosts(given, "osops_export_balancers", groups),
                str(given.get("osops_export_socket") or ""), _locks(given, target),
            ),
            {name: knowledge.recipe(name, folders) for name in services},
            target,
        )  # fmt: skip

    def questions(self) -> dict[str, list[dict[str, t.Any]]]:
        """Host -> what it is asked."""
        found: dict[str, list[dict[str, t.Any]]] = {}
        for look in drafted.questions(self.wish, self.recipes):
            found.setdefault(look.host, []).append(dataclasses.asdict(look))
        return found

    def draft(self, address: t.Callable[[str], str], answers: drafted.Answers) -> drafted.Drafted:
        """The draft, held against the schema of records."""
        made = drafted.draft(self.wish, self.recipes, {host: address(host) for host in self.wish.hosts}, answers)
        # Ansible's texts are of types of its own, which no YAML writer knows.
        made.record = json.loads(json.dumps(made.record))
        if made.record:
            knowledge.validate(made.record, "record", "draft")
        return made

    def write(self, made: drafted.Drafted, dry: bool = False) -> bool:
        """Write the draft where it was asked for; True when it was (or, ``dry``, would be). Raises BadInputError for an incomplete one."""
        if made.refusals:
            raise BadInputError(
                "The draft is not complete: %s" % " ".join(made.refusals), "export.incomplete",
                "Nothing was written." if self.target else "", {"refusals": list(made.refusals)},
            )  # fmt: skip
        if self.target is None:
            return False
        if not made.record:
            raise BadInputError(
                "Nothing was found that can be drafted.", "export.nothing", "Nothing was written; the notes say what was found."
            )
        if dry:
            return True
        try:
            with open(self.target, "x", encoding="utf-8") as handle:
                handle.write("\n".join(lines(made)) + "\n")
        except FileExistsError:
            raise _exists(self.target) from None
        except OSError as exc:
            raise BadInputError("%s cannot be written: %s." % (self.target, exc.strerror), "input.export_to") from exc
        return True


def lines(made: drafted.Drafted) -> list[str]:
    """The draft as the lines of a YAML file, with all that is to be said about it as comments on top."""
    found = ["# " + line for line in HEAD]
    for title, sentences in (
        ("Not complete:", made.refusals),
        ("Found:", made.found),
        ("Notes:", made.notes),
        ("To be added by a person before an upgrade:", made.add),
    ):
        # A comment is one line, whatever a host has answered.
        found += ["#", "# " + title] + ["#   " + " ".join(sentence.split()) for sentence in sentences] if sentences else []
    if not made.record:
        return [*found, "#", "# There is nothing that can be drafted."]
    return [*found, "---", *yaml.safe_dump(made.record, sort_keys=False, allow_unicode=True).splitlines()]


def _hosts(given: t.Mapping[str, t.Any], variable: str, groups: Groups, needed: str = "") -> tuple[str, ...]:
    """Names of groups and hosts as hosts, each once. Not set is an error only where it is ``needed``."""
    names = _names(given.get(variable))
    if not names and needed:
        raise BadInputError("%s is not set." % variable, "input.host", needed)
    found: list[str] = []
    for name in names:
        if name not in groups and name not in groups["all"]:
            raise BadInputError(
                "%s names %s, which is neither a group nor a host of the inventory." % (variable, name), "input.group"
            )
        found += groups.get(name, [name])
    if names and not found:
        raise BadInputError("%s: there is no host in %s." % (variable, ", ".join(names)), "input.host")
    return tuple(dict.fromkeys(found))


def _target(given: t.Mapping[str, t.Any]) -> pathlib.Path | None:
    place = str(given.get("osops_export_to") or "")
    if not place:
        return None
    path = pathlib.Path(place).expanduser()
    if path.exists() or path.is_symlink():
        raise _exists(path)
    if not path.parent.is_dir():
        raise BadInputError("osops_export_to is %s, and there is no folder %s." % (path, path.parent), "input.export_to")
    return path


def _locks(given: t.Mapping[str, t.Any], target: pathlib.Path | None) -> dict[str, tuple[str, str]]:
    """The lock files of a folder, by the digits that releases on the hosts have in their names. A record names a lock from its own place."""
    place = str(given.get("osops_export_locks") or "")
    if not place:
        return {}
    folder = pathlib.Path(place).expanduser().resolve()
    if not folder.is_dir():
        raise BadInputError("osops_export_locks is %s, which is no folder." % folder, "input.export_locks")
    found = {}
    for path in sorted(path for path in folder.glob("*.txt") if path.is_file()):
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as exc:
            raise BadInputError("%s cannot be read: %s." % (path, exc.strerror), "input.export_locks") from exc
        named = os.path.relpath(path, target.resolve().parent) if target else str(path)
        found[digest[:12]] = (named, digest)
    return found


def _exists(path: pathlib.Path) -> BadInputError:
    return BadInputError(
        "osops_export_to is %s, which exists." % path,
        "input.export_exists",
        "A record is a person's work and is never overwritten: name another file.",
    )


def _names(value: t.Any) -> tuple[str, ...]:
    """A list, or a text with commas as AWX surveys give it."""
    parts = value.split(",") if isinstance(value, str) else value or ()
    return tuple(str(part).strip() for part in parts if str(part).strip())

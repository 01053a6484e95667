# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What is owned on a host, as data: entries for files and folders, the user, the unit, and the short name of it all."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError

MACHINE_ID = "/etc/machine-id"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One path as it is to be. ``once``: written when missing, and not looked into after. ``secret``: never shown.

    A file without ``sha256`` is one that is written once and had been rotated away when its revision was kept. ``kin``: not
    written by us, but by the service beside files that are written once; it goes when everything goes, and comes back with it.
    """

    kind: str
    mode: str
    owner: str
    group: str
    sha256: str = ""
    once: bool = False
    secret: bool = False
    kin: bool = False


@dataclasses.dataclass(frozen=True)
class User:
    """A system user, with a group of the same name."""

    name: str
    home: str


@dataclasses.dataclass(frozen=True)
class Owned:
    """One set of what belongs to a service on this host."""

    entries: t.Mapping[str, Entry] = dataclasses.field(default_factory=dict)
    user: User | None = None
    unit: str = ""

    def __bool__(self) -> bool:
        return bool(self.entries or self.user or self.unit)

    def files(self) -> list[str]:
        return sorted(path for path, entry in self.entries.items() if entry.kind == "file")

    def folders(self) -> list[str]:
        """Sorted, so that a folder comes before what lies in it."""
        return sorted(path for path, entry in self.entries.items() if entry.kind == "folder")

    def unit_file(self) -> str:
        """The path of the unit's file; empty when the unit is not ours."""
        return next((path for path in self.files() if self.unit and path.endswith("/" + self.unit)), "")

    def only(self, paths: t.Container[str]) -> Owned:
        return dataclasses.replace(self, entries={path: entry for path, entry in self.entries.items() if path in paths})

    def to_dict(self) -> dict[str, t.Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: t.Mapping[str, t.Any]) -> Owned:
        entries = {str(path): Entry(**entry) for path, entry in data["entries"].items()}
        return cls(entries, User(**data["user"]) if data["user"] else None, str(data["unit"]))

    def revision(self) -> str:
        """A short name of the whole content.

        It is keyed with the machine's id: it leaves the host in answers, and must not let anybody try passwords against
        it elsewhere. What is in a file that is written once changes without us, so it is not part of the name, and neither
        are its kin.
        """
        ours = {path: e for path, e in self.entries.items() if not e.kin}
        lines = {path: [e.kind, e.mode, e.owner, e.group, "once" if e.once else e.sha256] for path, e in ours.items()}
        user = [self.user.name, self.user.home] if self.user else None
        text = json.dumps([lines, user, self.unit], sort_keys=True)
        return hmac.new(_machine_key(), text.encode("utf-8"), hashlib.sha256).hexdigest()[:12]


def _machine_key() -> bytes:
    try:
        with open(MACHINE_ID, "rb") as handle:
            return b"osops.lifecycle " + handle.read().strip()
    except OSError:
        return b"osops.lifecycle"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_json(text: bytes, path: str) -> dict[str, t.Any]:
    """A file of ours; one that cannot be read is an error, because what is ours is then unknown."""
    try:
        data = json.loads(text.decode("utf-8"))
        if isinstance(data, dict) and data["format"] == 1:
            return data
    except (ValueError, KeyError):
        pass
    raise LifecycleError(
        "%s cannot be read, so it is not known what is ours." % path,
        "unknown_answer",
        "Nothing was done. Bring that file back from a backup; without it every path of the service is foreign.",
    )

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The books of one service on a host: what is ours, and what former revisions held. Readable by root only.

``ROOT/SCOPE/NAME.json`` is the manifest. It names what is ours (``held``), and while an act is on its way also all that the
act may have made (``begun``), so that after a kill nothing of ours looks foreign. ``ROOT/SCOPE/NAME/REVISION/`` holds the set
``set.json`` and the content of its files, from the moment before they are written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._files.model import Entry, Owned, User, digest, read_json
from ansible_collections.osops.lifecycle.plugins.module_utils._files.wanted import Place, Wanted

ROOT = "/var/lib/osops/owned"
_SET = "set.json"
_NEW = ".new"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What is ours. ``begun``: the sets that acts have gone for and not reached. ``removed``: only remains are held."""

    held: Owned = dataclasses.field(default_factory=Owned)
    begun: tuple[Owned, ...] = ()
    removed: bool = False

    @property
    def pending(self) -> bool:
        return bool(self.begun)

    @property
    def revision(self) -> str | None:
        return self.held.revision() if self.held and not self.removed else None

    def begin(self, wanted: Owned) -> Manifest:
        """With all that the act towards ``wanted`` may make, on top of what former acts may have made."""
        return dataclasses.replace(self, begun=(*(owned for owned in self.begun if owned != wanted), wanted))

    def sets(self) -> tuple[Owned, ...]:
        return (self.held, *self.begun)

    def claims(self, path: str) -> list[Entry]:
        """What we may have left at a path."""
        return [owned.entries[path] for owned in self.sets() if path in owned.entries]

    def paths(self) -> set[str]:
        return {path for owned in self.sets() for path in owned.entries}

    def users(self) -> list[User]:
        return list(dict.fromkeys(owned.user for owned in self.sets() if owned.user))

    def units(self) -> list[str]:
        return list(dict.fromkeys(owned.unit for owned in self.sets() if owned.unit))


def _write(path: str, data: bytes) -> None:
    handle = os.open(path + _NEW, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(handle)
    os.replace(path + _NEW, path)
    _sync(os.path.dirname(path))


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except FileNotFoundError:
        return None


class Books:
    """The manifest and the revisions of one service."""

    def __init__(self, place: Place, root: str = ROOT) -> None:
        self.place = place
        self.folder = os.path.join(root, place.scope)
        self.path = os.path.join(self.folder, place.name + ".json")
        self.revisions_folder = os.path.join(self.folder, place.name)
        self.root = root

    def read(self) -> Manifest:
        """What is ours now. Refuses a manifest of another owner."""
        text = _read(self.path)
        if text is None:
            return Manifest()
        data = read_json(text, self.path)
        self._refuse_other(str(data.get("owner", "")), self.path)
        begun = tuple(Owned.from_dict(owned) for owned in data["begun"])
        return Manifest(Owned.from_dict(data["held"]), begun, bool(data["removed"]))

    def _refuse_other(self, owner: str, path: str) -> None:
        if owner != self.place.owner:
            raise BadInputError(
                "%s belongs to %s on this host, not to %s." % (self.place.name, owner, self.place.owner),
                "files.other_owner",
                "Give another name. %s says what it owns." % path,
            )

    def write(self, manifest: Manifest) -> None:
        """Keep the manifest; one that names nothing is removed."""
        self._make_folder(self.folder)
        if not manifest.held and not manifest.pending:
            _forget(self.path)
            _sync(self.folder)
            return
        data = dict(dataclasses.asdict(manifest), format=1, owner=self.place.owner)
        _write(self.path, json.dumps(data, indent=1, sort_keys=True).encode("utf-8"))

    def _make_folder(self, path: str) -> None:
        """A folder below the root, each on the way for root only. (makedirs gives its mode to the last one only.)"""
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        walked = self.root
        for part in os.path.relpath(path, self.root).split("/"):
            walked = os.path.join(walked, part)
            if not os.path.isdir(walked):
                os.mkdir(walked, 0o700)

    def users_of(self, name: str) -> list[str]:
        """Other services on this host, in any scope, that name this user."""
        found = []
        for scope in sorted(os.listdir(self.root)) if os.path.isdir(self.root) else []:
            folder = os.path.join(self.root, scope)
            for file in sorted(os.listdir(folder)):
                path = os.path.join(folder, file)
                if not file.endswith(".json") or path == self.path:
                    continue
                data = read_json(_read(path) or b"", path)
                if any(owned["user"] and owned["user"]["name"] == name for owned in [data["held"], *data["begun"]]):
                    found.append("%s/%s" % (scope, file[: -len(".json")]))
        return found

    # Revisions.

    def revisions(self) -> list[str]:
        """What is kept, the oldest first."""
        numbers = {name: self._number(name) for name in self._names()}
        return sorted(numbers, key=lambda name: numbers[name])

    def _names(self) -> list[str]:
        """Folders without a set are revisions that were not written, or not removed, to their end."""
        try:
            names = os.listdir(self.revisions_folder)
        except FileNotFoundError:
            return []
        return [name for name in names if os.path.exists(os.path.join(self.revisions_folder, name, _SET))]

    def _set(self, revision: str) -> dict[str, t.Any]:
        path = os.path.join(self.revisions_folder, revision, _SET)
        return read_json(_read(path) or b"", path)

    def _number(self, revision: str) -> int:
        return int(self._set(revision)["number"])

    def load(self, revision: str) -> Wanted:
        """A former set with what its files held. Raises BadInputError when it is not kept here."""
        if revision not in self._names():
            kept = ", ".join(self.revisions()) or "none"
            raise BadInputError(
                "There is no revision %s of %s on this host." % (revision, self.place.name),
                "files.revision_unknown",
                "Kept are, the oldest first: %s." % kept,
            )
        stored = self._set(revision)
        self._refuse_other(str(stored["owner"]), os.path.join(self.revisions_folder, revision))
        owned = Owned.from_dict(stored["owned"])
        data: dict[str, bytes] = {}
        for path in owned.files():
            if not owned.entries[path].sha256:
                continue  # A key that had been rotated away.
            content = _read(os.path.join(self.revisions_folder, revision, owned.entries[path].sha256))
            if content is None or digest(content) != owned.entries[path].sha256:
                raise LifecycleError(
                    "Revision %s of %s is damaged: the content of %s is not what was kept." % (revision, self.place.name, path),
                    "files.revision_damaged",
                    "Nothing was done. Give the files instead.",
                )
            data[path] = content
        return Wanted(owned, data)

    def keep(self, wanted: Wanted) -> str:
        """Keep a set as the newest revision. One that is there is renewed: the content of keys in it may have changed.

        Contents are named after their hash and the set comes last, so that a revision is whole at every moment.
        """
        revision = wanted.owned.revision()
        folder = os.path.join(self.revisions_folder, revision)
        numbers = [self._number(name) for name in self._names()]
        self._make_folder(folder)
        hashes = {path: wanted.owned.entries[path].sha256 for path in wanted.owned.files()}
        blobs = {sha256: wanted.data[path] for path, sha256 in hashes.items() if sha256}
        for name, content in blobs.items():
            if _read(os.path.join(folder, name)) != content:
                _write(os.path.join(folder, name), content)
        number = max(numbers, default=0) + 1
        stored = {"format": 1, "number": number, "owner": self.place.owner, "owned": wanted.owned.to_dict()}
        _write(os.path.join(folder, _SET), json.dumps(stored, indent=1, sort_keys=True).encode("utf-8"))
        for name in set(os.listdir(folder)) - set(blobs) - {_SET}:
            os.unlink(os.path.join(folder, name))
        _sync(self.revisions_folder)
        return revision

    def prune(self, keep: int, current: str | None) -> None:
        """Forget the oldest of the former revisions until ``keep`` are left, and what an act that was cut left in the books."""
        former = [name for name in self.revisions() if name != current]
        for name in former[: max(0, len(former) - keep)]:
            os.unlink(os.path.join(self.revisions_folder, name, _SET))
        whole = self._names()
        _forget(self.path + _NEW)
        for name in os.listdir(self.revisions_folder) if os.path.isdir(self.revisions_folder) else []:
            folder = os.path.join(self.revisions_folder, name)
            if name not in whole:
                shutil.rmtree(folder)
            else:
                for file in os.listdir(folder):
                    if file.endswith(_NEW):
                        _forget(os.path.join(folder, file))
        if not whole:
            shutil.rmtree(self.revisions_folder, ignore_errors=True)


def _forget(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The folder with backups: ``ID.sql`` is a dump and ``ID.json`` its manifest. What has no manifest of ours is not ours.

``DATABASE.restoring`` is there while a restore is between its first drop and the proof of what it loaded; ``DATABASE.restored``
tells of the last one that came to its end. The job that restores writes both (worker.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import stat
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb import worker

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")
_ENDINGS = (".sql", ".json.tmp", ".json")  # the manifest last: without it nothing is ours
_STALE_S = 86400.0


def check_id(id_: str) -> str:
    """The id itself, or BadInputError: it becomes the name of files."""
    if not _ID.match(id_) or ".." in id_ or id_.endswith((".sql", ".json", ".tmp", ".restoring", ".restored")):
        raise BadInputError("id %r is not the name of a backup: letters, digits and . _ - are taken." % (id_,), "backup.input")
    return id_


@dataclasses.dataclass(frozen=True)
class Entry:
    """One manifest of ours."""

    id: str
    data: t.Mapping[str, t.Any]

    @property
    def proven(self) -> bool:
        return self.data.get("proven") is True

    @property
    def made(self) -> float:
        return float(self.data.get("made_epoch") or 0.0)

    def age_s(self) -> int:
        return max(0, round(time.time() - self.made))

    def shown(self) -> dict[str, t.Any]:
        """What an answer tells of it."""
        tables, seconds = self.data.get("tables") or {}, self.data.get("seconds") or {}
        return {
            "id": self.id,
            "made_at": self.data.get("made_at"),
            "age_s": self.age_s(),
            "bytes": self.data.get("bytes"),
            "sha256": self.data.get("sha256"),
            "seconds": dict(seconds),
            "tables": len(tables),
            "rows": sum(tables.values()),
            "server": {"node": self.data.get("node"), "version": self.data.get("version")},
            "position": self.data.get("position"),
        }


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A restore that began to drop: from which backup, when, which rows and comment were there before, and when it was done."""

    id: str
    begun: float
    rows: t.Mapping[str, t.Any] | None
    comment: str
    done_at: str

    @classmethod
    def of(cls, data: t.Mapping[str, t.Any]) -> Attempt:
        rows, begun = data.get("rows"), float(data.get("begun") or 0.0)
        words = (str(data.get(name) or "") for name in ("comment", "done_at"))
        return cls(str(data.get("id") or worker.UNKNOWN), begun, rows if isinstance(rows, dict) else None, *words)

    def stamp(self) -> str:
        return "%s %s" % (self.id, self.done_at)


class Catalog:
    """The backups of one database of one service in one folder of this host."""

    def __init__(self, place: str, database: str, service: str) -> None:
        if not place.startswith("/") or re.search(r"[\0\r\n]", place):
            raise BadInputError("place %r is not the absolute path of a folder." % (place,), "backup.input")
        self.place, self.database, self.service = os.path.normpath(place), database, service

    def path(self, id_: str, ending: str) -> str:
        return os.path.join(self.place, id_ + ending)

    def open(self) -> None:
        """Make the folder, for us only. Raises LifecycleError for one that others can look into."""
        os.makedirs(self.place, mode=0o700, exist_ok=True)
        self.check()

    def check(self) -> None:
        """Raise LifecycleError when the folder is there and not for us only."""
        try:
            found = os.stat(self.place)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077 or found.st_uid != os.geteuid():
            raise LifecycleError(
                "The place %s is not a folder that only its owner, who runs this, can look into." % self.place,
                "backup.place",
                "Run chmod 700 on it, or name a folder below it, which is then made.",
            )

    def read(self, id_: str) -> Entry | None:
        """The manifest of that id; None when there is none. Raises LifecycleError for files that are not ours."""
        try:
            with open(self.path(id_, ".json"), encoding="utf-8") as file:
                data = json.load(file)
        except FileNotFoundError:
            if os.path.lexists(self.path(id_, ".sql")):
                raise self._foreign(id_, "has no manifest") from None
            return None
        except ValueError:
            raise self._foreign(id_, "has a manifest that cannot be read") from None
        if not isinstance(data, dict) or data.get("mark") != worker.MARK or data.get("id") != id_:
            raise self._foreign(id_, "was not made by osops.lifecycle")
        if data.get("database") != self.database or data.get("service") != self.service:
            raise self._foreign(id_, "is of the database %s of %s" % (data.get("database"), data.get("service")))
        return Entry(id_, data)

    def _foreign(self, id_: str, why: str) -> LifecycleError:
        return LifecycleError(
            "The backup %s in %s %s." % (id_, self.place, why), "backup.foreign", "Nothing was changed. Use another id or place."
        )

    def entries(self) -> list[Entry]:
        """All of ours, the newest first. Others in the folder are not looked at further."""
        found = []
        names = os.listdir(self.place) if os.path.isdir(self.place) else []
        for name in names:
            if name.endswith(".json") and _ID.match(name[:-5]):
                with contextlib.suppress(LifecycleError):
                    entry = self.read(name[:-5])
                    found += [entry] if entry else []
        return sorted(found, key=lambda entry: entry.made, reverse=True)

    def newest(self) -> Entry | None:
        """The newest that is proven and whose dump is there in its full size."""
        for entry in self.entries():
            with contextlib.suppress(OSError):
                if entry.proven and os.stat(self.path(entry.id, ".sql")).st_size == entry.data.get("bytes"):
                    return entry
        return None

    def get(self, id_: str) -> Entry:
        """The proven backup of that id (or the newest, for ``latest``), its dump verified. Raises LifecycleError."""
        entry = self._newest_good() if id_ == "latest" else self.read(id_)
        if entry is None or not entry.proven:
            what = "good and proven backup of %s" % self.database if id_ == "latest" else "proven backup %s" % id_
            known = [other.id for other in self.entries() if other.proven]
            raise LifecycleError(
                "There is no %s in %s." % (what, self.place),
                "backup.missing",
                "There are: %s. Nothing was touched." % (", ".join(known[:10]) or "none"),
            )
        if id_ != "latest":
            self.verify(entry)
        return entry

    def _newest_good(self) -> Entry | None:
        for entry in self.entries():
            if entry.proven:
                with contextlib.suppress(LifecycleError):
                    self.verify(entry)
                    return entry
        return None

    def verify(self, entry: Entry) -> None:
        """Raise LifecycleError unless the dump is, byte for byte, the one that was proven."""
        path = self.path(entry.id, ".sql")
        try:
            good = os.stat(path).st_size == entry.data.get("bytes") and worker.digest_of(path) == entry.data.get("sha256")
        except FileNotFoundError:
            good = False
        if not good:
            raise LifecycleError(
                "The dump of the backup %s in %s is not the one that was proven." % (entry.id, self.place),
                "backup.corrupt",
                "Nothing was touched. Use another backup, and remove this one (state: absent).",
            )

    def half(self) -> Attempt | None:
        """The restore of this database that has begun to drop and did not end; None when there is none."""
        data = worker.half_of(self.place, self.database)
        if data is None:
            return None
        return Attempt.of(data)

    def last(self) -> Attempt | None:
        """The last restore of this database that came to its end; None when there was none, or nothing is known of it."""
        data = worker.read_json(worker.last_path(self.place, self.database))
        if not data or not data.get("done_at"):
            return None
        return Attempt.of(data)

    def refuse_half(self, id_: str = "") -> None:
        """Raise LifecycleError when the database is half restored (from that backup, if one is named)."""
        half = self.half()
        if half is not None and id_ in ("", half.id):
            raise LifecycleError(
                "The database %s is half restored from the backup %s: that restore was cut." % (self.database, half.id),
                "backup.torn",
                "Nothing was done. Finish it first: state restored with the id of a good backup.",
                {"flag": worker.flag_path(self.place, self.database)},
            )

    def remove(self, entry: Entry) -> None:
        for ending in _ENDINGS:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path(entry.id, ending))

    def surplus(self, keep: int, current: str) -> list[Entry]:
        """What goes when ``keep`` stay: never the newest proven one, one with a cut restore, or what may still be in the making."""
        entries = self.entries()
        proven = [entry for entry in entries if entry.proven]
        half = self.half()
        old = [entry for entry in proven[keep:] if half is None or entry.id != half.id]
        cut = [entry for entry in entries if not entry.proven and entry.age_s() > _STALE_S]
        newest = self.newest()
        safe = {current, newest.id if newest else current}
        return [entry for entry in old + cut if entry.id not in safe]

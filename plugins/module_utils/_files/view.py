# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What a call would do: what stands at every path, whose it is, what is to stand there, and what cannot be removed."""

from __future__ import annotations

import dataclasses
import difflib
import os
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._files import disk, host
from ansible_collections.osops.lifecycle.plugins.module_utils._files.books import Books, Manifest
from ansible_collections.osops.lifecycle.plugins.module_utils._files.model import Entry, Owned, User
from ansible_collections.osops.lifecycle.plugins.module_utils._files.wanted import UNITS, Wanted
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import scrub

_DIFF_LINES = 400


def same_rights(seen: disk.Seen, entry: Entry) -> bool:
    """True when what stands there is of the kind of the entry, and has its mode, owner and group."""
    rights = (entry.kind, entry.mode, disk.uid_of(entry.owner), disk.gid_of(entry.group))
    return (seen.kind, seen.mode, seen.uid, seen.gid) == rights


def equal(seen: disk.Seen, entry: Entry) -> bool:
    """True when what stands there is the entry, to the last byte and bit."""
    return same_rights(seen, entry) and (entry.kind == "folder" or seen.entry(entry).sha256 == entry.sha256)


def _left_by_us(seen: disk.Seen, claims: list[Entry]) -> bool:
    """True for what one of our acts left there. A folder's mode and owner are set one after the other."""
    if any(claim.once or equal(seen, claim) for claim in claims):
        return True
    return seen.kind == "folder" and (
        seen.mode in [claim.mode for claim in claims]
        and seen.uid in [disk.uid_of(claim.owner) for claim in claims]
        and seen.gid in [disk.gid_of(claim.group) for claim in claims]
    )


def word(seen: disk.Seen, manifest: Manifest, path: str, wanted: Entry | None) -> str:
    """missing, ours, edited, same or foreign."""
    if seen.kind == "missing":
        return "missing"
    claims = [claim for claim in manifest.claims(path) if claim.kind == seen.kind]
    if claims and _left_by_us(seen, claims):
        return "ours"
    held = manifest.held.entries.get(path)
    if held and held.kind == seen.kind:
        return "edited"
    return "same" if wanted and equal(seen, wanted) else "foreign"


@dataclasses.dataclass
class View:
    """One look at the host, held against what is wanted (None: nothing, everything is to go)."""

    books: Books
    manifest: Manifest
    asked: Wanted | None
    seen: dict[str, disk.Seen]
    words: dict[str, str]
    user: str
    unit: str

    @classmethod
    def take(cls, books: Books, manifest: Manifest, asked: Wanted | None) -> View:
        """Look. The user and the unit are those asked for, or else the ones that we made."""
        owned = asked.owned if asked else Owned()
        paths = sorted({*manifest.paths(), *owned.entries})
        seen = {path: disk.look(path) for path in paths}
        words = {path: word(seen[path], manifest, path, owned.entries.get(path)) for path in paths}
        users = [user.name for user in (owned.user, *manifest.users()) if user]
        units = [unit for unit in (owned.unit, *manifest.units()) if unit]
        return cls(books, manifest, asked, seen, words, next(iter(users), ""), next(iter(units), ""))

    def again(self) -> dict[str, t.Any]:
        """How the same things are now, against the books as they are now."""
        manifest = self.books.read()
        entries = self.asked.owned.entries if self.asked else {}
        seen = {path: disk.look(path) for path in self.seen}
        words = {path: word(seen[path], manifest, path, entries.get(path)) for path in seen}
        return dataclasses.replace(self, manifest=manifest, seen=seen, words=words).state()

    def state(self) -> dict[str, t.Any]:
        """What the answer says."""
        there = bool(self.unit) and disk.look("%s/%s" % (UNITS, self.unit)).kind != "missing"
        return {
            "revision": self.manifest.revision,
            "files": dict(self.words),
            "user": bool(self.user) and host.user_exists(self.user),
            "unit": host.unit_word(self.unit, there),
        }

    def refuse(self) -> None:
        """Raise for what cannot be made as asked for; nothing has been written then."""
        entries = self.asked.owned.entries if self.asked else {}
        wrong = {path: self.seen[path] for path in entries if self.words[path] == "foreign"}
        wrong.update({path: self.seen[path] for path in entries if self.seen[path].kind not in ("missing", entries[path].kind)})
        if wrong:
            said = ["%s (%s)" % (path, self._why(path, seen)) for path, seen in sorted(wrong.items())]
            raise LifecycleError(
                "Not made by us, and not what is wanted: %s." % ", ".join(said),
                "files.foreign",
                "Nothing was written. Move them away, or make content, mode and owner what they are to be.",
                {"paths": sorted(wrong)},
            )
        user = self.asked.owned.user if self.asked else None
        coming = {user.name} if user else set()
        for path, entry in sorted(entries.items()):
            if disk.uid_of(entry.owner) is None and entry.owner not in coming:
                raise BadInputError("%s is to belong to the user %s, who does not exist." % (path, entry.owner), "files.owner")
            if disk.gid_of(entry.group) is None and not (entry.group in coming and not host.user_exists(entry.group)):
                raise BadInputError("%s is to belong to the group %s, which does not exist." % (path, entry.group), "files.owner")
            folder = os.path.dirname(path)
            if self.seen[path].kind == "missing" and folder not in entries and disk.look(folder).kind != "folder":
                raise BadInputError(
                    "%s cannot be made: there is no folder %s." % (path, folder), "files.no_folder", "Name it in folders."
                )

    def _why(self, path: str, seen: disk.Seen) -> str:
        if seen.kind == "folder":
            return "a folder with mode %s" % seen.mode
        return seen.what or "a file with other content, mode or owner"

    def texts(self, plan: Plan) -> str:
        """A unified diff of the files that hold no secret, before or after."""
        lines: list[str] = []
        for path in sorted({*plan.target.files(), *plan.going}):
            entries = [*self.manifest.claims(path), *([plan.target.entries[path]] if path in plan.target.entries else [])]
            hidden = any(entry.secret or entry.once or entry.kind != "file" for entry in entries)
            if hidden or self.words[path] == "foreign":
                continue
            new = plan.data.get(path, b"") if path in plan.target.entries else b""
            try:
                old_lines, new_lines = (data.decode("utf-8").splitlines() for data in (self.seen[path].data, new))
            except UnicodeDecodeError:
                continue
            lines += difflib.unified_diff(old_lines, new_lines, path, path, lineterm="")
        return scrub("\n".join(lines[:_DIFF_LINES]) + "\n") if lines else ""


@dataclasses.dataclass
class Plan:
    """What is to be ours at the end (``target``), its bytes, what goes, and what stays although it should go."""

    target: Owned
    data: t.Mapping[str, bytes]
    going: list[str]
    units_going: list[str]
    users_going: list[User]
    rotated: set[str]
    left_over: list[str]
    removed: bool
    staying: set[str] = dataclasses.field(default_factory=set)

    def words(self, view: View) -> dict[str, t.Any]:
        """The state that the act ends in."""
        before = view.state()
        files = dict(view.words)
        files.update(dict.fromkeys(self.going, "missing"))
        made = {path for path in self.target.entries if path not in self.staying}
        files.update({path: "missing" if path in self.rotated else "ours" for path in made})
        user, unit = view.user, view.unit
        wanted: dict[str, t.Any] = {
            "revision": None if self.removed or not self.target else self.target.revision(),
            "files": files,
            "user": before["user"],
            "unit": before["unit"],
        }
        if self.target.user and user == self.target.user.name:
            wanted["user"] = True
        elif user in [gone.name for gone in self.users_going]:
            wanted["user"] = False
        if unit and unit == self.target.unit:
            wanted["unit"] = "enabled"
        elif unit in self.units_going:
            wanted["unit"] = "missing"
        return wanted


def make_plan(view: View) -> Plan:
    """Decide from a view alone."""
    asked, manifest = view.asked, view.manifest
    target = asked.owned.only({path for path in asked.owned.entries if view.words[path] != "same"}) if asked else Owned()
    if target.unit and not target.unit_file():
        target = dataclasses.replace(target, unit="")  # Somebody else's unit, equal to ours: it stays theirs.
    plan = Plan(target, asked.data if asked else {}, [], [], [], _rotated(view, target), [], asked is None)
    _plan_paths(view, plan)
    going = {os.path.basename(path) for path in plan.going if os.path.dirname(path) == UNITS}
    plan.units_going = [unit for unit in manifest.units() if unit != plan.target.unit and unit in going]
    _plan_users(view, plan)
    return plan


def with_kin(held: Owned) -> Owned:
    """With what the service itself has put beside files that are written once, as a rotation puts a new key beside the old ones.

    Only into a folder of ours in which we wrote nothing else, and only files with owner, group and mode of one that we wrote.
    """
    kin = {}
    for folder in held.folders():
        mine = [entry for path, entry in held.entries.items() if os.path.dirname(path) == folder]
        if not mine or not all(entry.once for entry in mine):
            continue
        for path in ("%s/%s" % (folder, name) for name in disk.names_in(folder)):
            seen = disk.look(path) if path not in held.entries else disk.MISSING
            like = next((entry for entry in mine if same_rights(seen, entry)), None)
            if seen.kind == "file" and like:
                kin[path] = dataclasses.replace(like, sha256="", kin=True)
    return dataclasses.replace(held, entries={**held.entries, **kin})


def rotated_away(view: View) -> set[str]:
    """Files that are written once and were taken away since, by whoever looks after them: a sister of them is still there.

    Keystone's key rotation drops the oldest key; bringing it back would be a change in every run. When all of a folder
    are gone they were lost, and are written again.
    """
    held, begun = view.manifest.held.entries, view.manifest.begun
    once = [path for path, entry in held.items() if entry.once]
    living = {os.path.dirname(path) for path in once if view.words[path] != "missing"}
    gone = {path for path in once if view.words[path] == "missing" and os.path.dirname(path) in living}
    # Unless it was ourselves, in an act that was cut.
    return {path for path in gone if all(path in owned.entries for owned in begun)}


def _rotated(view: View, target: Owned) -> set[str]:
    """What of the target is to stay away: rotated away, or so already when the revision that comes back was left."""
    gone = rotated_away(view)
    once = {path: entry for path, entry in target.entries.items() if entry.once and view.words[path] == "missing"}
    return {path for path, entry in once.items() if path in gone or not entry.sha256}


def _plan_paths(view: View, plan: Plan) -> None:
    stay: dict[str, Entry] = {}
    # What lies deeper comes first: a folder goes when all that it holds has gone.
    for path in sorted(view.manifest.paths() - set(plan.target.entries), reverse=True):
        if not plan.removed and all(claim.kin for claim in view.manifest.claims(path)):
            continue  # Back from a revision: from now on it is the service's alone again.
        if view.words[path] in ("foreign", "same"):
            plan.left_over.append("%s: it is not what we made (%s)." % (path, view.seen[path].what or "somebody replaced it"))
        elif view.seen[path].kind == "folder":
            inside = [name for name in disk.names_in(path) if "%s/%s" % (path, name) not in plan.going]
            if inside:
                names = ", ".join(inside[:5]) + (" and %d more" % (len(inside) - 5) if len(inside) > 5 else "")
                plan.left_over.append("%s: it still holds %s." % (path, names))
                claims = view.manifest.claims(path)
                stay[path] = next((claim for claim in claims if equal(view.seen[path], claim)), claims[0])
            else:
                plan.going.append(path)
        else:
            plan.going.append(path)
    plan.staying = set(stay)
    plan.target = dataclasses.replace(plan.target, entries={**plan.target.entries, **stay})


def _plan_users(view: View, plan: Plan) -> None:
    for user in view.manifest.users():
        if (plan.target.user and plan.target.user.name == user.name) or not host.user_is_ours(user.name):
            continue
        others = view.books.users_of(user.name)
        ending = [pid for unit in plan.units_going for pid in host.cgroup_processes(unit)]
        running = host.still_running(user.name, ending)
        # What stays would belong to a bare number, and to whoever gets that number next.
        theirs = [path for path, entry in plan.target.entries.items() if user.name in (entry.owner, entry.group)]
        if others:
            plan.left_over.append("user %s: %s needs it too." % (user.name, ", ".join(others)))
        elif running or theirs:
            plan.left_over.append(
                user_in_use(user, running) if running else "user %s: %s belongs to it." % (user.name, theirs[0])
            )
            plan.target = dataclasses.replace(plan.target, user=plan.target.user or user)
        else:
            plan.users_going.append(user)


def user_in_use(user: User, running: list[int]) -> str:
    return "user %s: process %s runs as it." % (user.name, ", ".join(map(str, running[:5])))

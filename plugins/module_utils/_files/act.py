# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The states of service_files: present makes what a service needs on its host, absent takes it away."""

from __future__ import annotations

import dataclasses
import errno
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._files import disk, host
from ansible_collections.osops.lifecycle.plugins.module_utils._files.books import ROOT, Books, Manifest
from ansible_collections.osops.lifecycle.plugins.module_utils._files.model import User, digest
from ansible_collections.osops.lifecycle.plugins.module_utils._files.view import (
    Plan,
    View,
    equal,
    make_plan,
    rotated_away,
    user_in_use,
    with_kin,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._files.wanted import Place, Wanted, check_revision, parse
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Act, Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import matches, settle
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait


def prepare(params: t.Mapping[str, t.Any], root: str = ROOT) -> Act:
    """Check the arguments of the module and say what will act. Raises BadInputError."""
    place = Place.from_params(params)
    if params["keep"] < 0:
        raise BadInputError("keep is %d; it is a number of revisions." % params["keep"], "files.input", "Give 0 or more.")
    revision = check_revision(params) if params["state"] == "present" else ""
    asked = parse(params) if params["state"] == "present" and not revision else None
    return _Files(Books(place, root), params["state"] == "present", asked, revision, params["keep"], params["rotated"])


class _Files:
    """Everything that a service needs on its host before it can start, as one unit with an owner."""

    def __init__(self, books: Books, present: bool, asked: Wanted | None, revision: str, keep: int, kin: bool) -> None:
        self.books, self.present, self.asked, self.revision, self.keep, self.kin = books, present, asked, revision, keep, kin

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        books = self.books
        manifest = books.read()
        if not self.present and self.kin:
            manifest = dataclasses.replace(manifest, held=with_kin(manifest.held))
        asked = books.load(self.revision) if self.revision else self.asked
        view = View.take(books, manifest, asked)
        report.before = report.after = view.state()
        report.more["revisions"] = books.revisions()
        plan = make_plan(view)
        report.more["left_over"] = plan.left_over
        wanted = plan.words(view)
        # An act of ours that was cut has still to be ended, even where all looks as wanted.
        if not settle(_between(report.before, manifest), wanted, terms.expect, terms.resume) and not manifest.pending:
            if not terms.check:
                if plan.removed and plan.target != manifest.held:
                    books.write(Manifest(plan.target, (), True))  # What could not be removed has gone without us.
                books.prune(self.keep, manifest.revision)
                report.more["revisions"] = books.revisions()
            return self._verdict("is as wanted" if self.present else "is not on this host", plan)
        view.refuse()
        report.changed, report.after = True, wanted
        texts = view.texts(plan)
        if texts:
            report.more["diff"] = {"prepared": texts}
        if self.keep or not report.before["revision"]:
            report.more["undo"] = self._undo(report.before["revision"])
        if terms.check:
            return self._verdict("would be made as wanted" if self.present else "would be removed", plan)
        try:
            kept = _keep_former(view, plan)
            _act(view, plan, terms.deadline, self.keep)
        finally:
            report.after = view.again()
            report.more["revisions"] = books.revisions()
        report.more["kept"] = [revision for revision in kept if revision in report.more["revisions"]]
        self._prove(report.after, plan, wanted)
        return self._verdict("was made as wanted" if self.present else "was removed", plan)

    def _verdict(self, what: str, plan: Plan) -> Verdict:
        code = "files.present" if self.present else "files.absent"
        left = " %d things stayed, see left_over." % len(plan.left_over) if plan.left_over else ""
        return Verdict("pass", code, "%s %s.%s" % (self.books.place.name, what, left))

    def _undo(self, former: str | None) -> dict[str, t.Any]:
        place = self.books.place
        same: dict[str, t.Any] = {"name": place.name, "owner": place.owner}
        # What is not as the module's defaults: elsewhere there is nothing of it, and fewer would be kept.
        same.update(
            {"scope": place.scope} if place.scope != "default" else {}, **({"keep": self.keep} if self.keep != 10 else {})
        )
        return dict(same, state="present", revision=former) if former else dict(same, state="absent")

    def _prove(self, after: t.Mapping[str, t.Any], plan: Plan, wanted: t.Mapping[str, t.Any]) -> None:
        # A user that got a process in the last moment stays, and left_over says so.
        promised = {key: value for key, value in wanted.items() if key != "user" or not plan.left_over}
        if not matches(after, promised):
            raise LifecycleError(
                "%s is not as it was just made." % self.books.place.name,
                "files.not_settled",
                "Somebody else changes the same files now. Find out who, then run it again.",
                {"wanted": dict(wanted), "seen": dict(after)},
            )


def _between(before: t.Mapping[str, t.Any], manifest: Manifest) -> dict[str, t.Any]:
    """What is compared with the expectation: a unit that our own cut act has left between two states counts as nothing."""
    unsure = manifest.pending and before["unit"] == "disabled"
    return dict(before, unit=None) if unsure else dict(before)


def _keep_former(view: View, plan: Plan) -> list[str]:
    """Keep what is now, and what somebody made of it, before anything is changed; the names of what was kept."""
    books, manifest = view.books, view.manifest
    held = manifest.held
    if not manifest.revision:
        return []
    kept = []
    if plan.removed or plan.target.revision() != manifest.revision:
        kept.append(books.keep(_former(view, manifest.revision)))
    if "edited" in [view.words[path] for path in held.entries]:
        kept.append(books.keep(_as_seen(view)))
    return kept


def _former(view: View, revision: str) -> Wanted:
    """What is held, as it was written; files that are written once as they are now, because somebody may look after them."""
    held = view.manifest.held
    try:
        stored = view.books.load(revision)
    except LifecycleError:  # Somebody was in our books: what can be seen is better than nothing.
        stored = _as_seen(view)
    entries, data = dict(stored.owned.entries), dict(stored.data)
    gone = rotated_away(view)
    for path, entry in held.entries.items():
        if path in gone:
            entries[path] = dataclasses.replace(entry, sha256="")
        elif entry.once and view.seen[path].kind == "file":
            data[path] = view.seen[path].data
            entries[path] = dataclasses.replace(entry, sha256=digest(data[path]))
    return Wanted(dataclasses.replace(held, entries=entries), data)


def _as_seen(view: View) -> Wanted:
    """What is held, as it stands on the host now."""
    held = view.manifest.held
    there = [path for path in held.entries if view.words[path] in ("ours", "edited")]
    entries = {path: view.seen[path].entry(held.entries[path]) for path in there}
    data = {path: view.seen[path].data for path in there if entries[path].kind == "file"}
    return Wanted(dataclasses.replace(held, entries=entries), data)


def _act(view: View, plan: Plan, deadline: Deadline, keep: int) -> None:
    """Everything that changes the host. The manifest names what may come before anything comes, and is settled last."""
    books, target = view.books, plan.target
    if target and not plan.removed:
        books.keep(Wanted(target, plan.data))
    begun = view.manifest.begin(target)
    books.write(begun)
    for path in view.seen if view.manifest.pending else ():
        disk.sweep(path)
    if target.user:
        host.make_user(target.user)
    for unit in plan.units_going:
        host.retire(unit, deadline)
    touched = _write(view, plan) | _remove(view, plan)
    if any(path.startswith("/etc/systemd/") for path in touched) or _reload_is_due(view, plan):
        host.reload()
    if target.unit and host.unit_word(target.unit, True) != "enabled":
        host.enable(target.unit)
    for user in plan.users_going:
        _remove_user(user, plan)
    books.write(Manifest(plan.target, (plan.target,), plan.removed))
    books.prune(keep, None if plan.removed or not plan.target else plan.target.revision())
    books.write(Manifest(plan.target, (), plan.removed))


def _reload_is_due(view: View, plan: Plan) -> bool:
    if view.manifest.pending and (plan.target.unit or view.manifest.units()):
        return True
    return bool(plan.target.unit) and host.needs_reload(plan.target.unit)


def _write(view: View, plan: Plan) -> set[str]:
    """Make or put right every folder and file of the target; what was touched."""
    touched = set()
    for path in [*plan.target.folders(), *plan.target.files()]:
        entry, seen = plan.target.entries[path], view.seen[path]
        if path in plan.rotated | plan.staying or equal(seen, entry) or (entry.once and seen.kind == "file"):
            continue
        if entry.kind == "file":
            disk.write(path, plan.data[path], entry, seen.kind == "missing")
        elif seen.kind == "missing":
            disk.make_folder(path, entry)
        else:
            disk.put_right(path, entry)
        touched.add(path)
    return touched


def _remove(view: View, plan: Plan) -> set[str]:
    """Remove what goes, what lies deeper first; what was touched."""
    touched = set()
    for path in plan.going:
        if view.seen[path].kind == "missing":
            continue
        try:
            disk.remove(path, view.seen[path].kind)
        except OSError as exc:
            if exc.errno != errno.ENOTEMPTY:
                raise
            raise LifecycleError("Somebody has just put something into %s." % path, "files.not_empty", "Run it again.") from None
        touched.add(path)
    return touched


def _remove_user(user: User, plan: Plan) -> None:
    """Remove a user, unless something has begun to run as it."""
    ended = wait(lambda: host.processes_of(user.name), lambda pids: not pids, 2.0)
    if ended.reached:
        host.remove_user(user.name)
    else:
        plan.left_over.append(user_in_use(user, ended.last))
        # So that a later call tries again.
        plan.target = dataclasses.replace(plan.target, user=user) if plan.removed else plan.target

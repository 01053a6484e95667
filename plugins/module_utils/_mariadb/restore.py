# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The state restored of mariadb_backup: the database as a proven backup has it, and what that costs, said before."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _job
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Act, Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb import client, worker
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.backup import External, Hand, Remove, Take
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.catalog import Attempt, Entry
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.labour import Schema, rows_of
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

_GRACE_S = 2.0  # for sessions that are about to end, our own of a moment ago among them


def prepare(params: t.Mapping[str, t.Any], runner: t.Callable[..., _job.State] = _job.run_job, jobs: str = _job.ROOT) -> Act:
    """Check the arguments of the module and say what will act. Raises BadInputError."""
    state, external = params["state"], params["kind"] == "external"
    if external and state != "present":
        raise BadInputError(
            "A backup of kind external is %s with the tool that makes it." % {"restored": "restored", "absent": "removed"}[state],
            "backup.input",
        )
    if state == "absent" and not params["id"]:
        raise BadInputError("state absent needs id.", "backup.input", "state present in check mode lists the backups.")
    if state == "absent" and params["id"] == "latest":
        raise BadInputError("id latest is for state restored only.", "backup.input", "Name the one that is to go.")
    if state == "present":
        return (External if external else Take)(params, runner, jobs)
    return (Restore if state == "restored" else Remove)(params, runner, jobs)


class Restore(Hand):
    """restored: verify everything that can be verified, then drop, load and count in a job."""

    def __init__(self, params: t.Mapping[str, t.Any], runner: t.Callable[..., _job.State], jobs: str) -> None:
        super().__init__(params, runner, jobs)
        self.given = self.given or "latest"

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        seconds = terms.deadline.remaining()
        facts = self.server.facts(seconds)
        report.more["server"] = facts.shown()
        live = Schema.find(self.server, self.database, seconds)
        self.catalog.check()
        half, last = self.catalog.half(), self.catalog.last()
        report.before = {
            "database": live is not None,
            "restored": None,
            "torn": half.id if half else None,
            "last_restore": last.stamp() if last else None,
        }
        report.after, report.more["notes"] = dict(report.before), []
        self.tell_newest(report)
        if live is not None and half is None and last is not None and self._done(last, terms):
            return self._was_done(last, report)
        entry = self._choose(half, terms, report)
        report.more["backup"] = entry.shown()
        self._refuse_newer(entry, facts)
        if not terms.check and (terms.resume or terms.expect is None) and self.labour.restoring(entry.id, terms):
            return self._run(entry, terms, report, taken_up=True)
        self.labour.refuse_busy()
        if (half, last) != (self.catalog.half(), self.catalog.last()):  # one has ended while this was looked at
            return self(terms, report)
        if half is not None:  # what was there is known from before the first attempt
            report.more["lost"] = worker.lost(entry.data, half.rows, half.begun or time.time())
        else:
            now = rows_of(self.server, self.database, terms.deadline.remaining()) if live else {}
            report.more["lost"] = worker.lost(entry.data, now, time.time())
            if live is not None and self._same(entry, live, now, terms):
                report.before = report.after = {**report.before, "restored": entry.id}
        if not self._settle(entry, half, terms, report):
            return Verdict("pass", "backup.same", "The database %s is as the backup %s has it." % (self.database, entry.id))
        client.refuse_reader(facts)
        comment = half.comment if half else live.comment if live else ""
        self._sessions(comment, half is not None, terms, report)
        if not terms.check:
            return self._run(entry, terms, report)
        report.changed, report.after = True, {"database": True, "restored": entry.id, "torn": None}
        return Verdict("pass", "backup.predicted", "The database %s would be restored from %s." % (self.database, entry.id))

    def _done(self, last: Attempt, terms: Terms) -> bool:
        """Whether the act that is resumed is the one that came to its end: it did so after the look that was planned with."""
        expect = terms.expect or {}
        planned = "last_restore" in expect and expect["last_restore"] == last.stamp()
        return terms.resume and self.given in ("latest", last.id) and not planned

    def _was_done(self, last: Attempt, report: Report) -> Verdict:
        """What the service has written since then stays."""
        report.before = report.after = {**report.before, "restored": last.id}
        entry = self.catalog.read(last.id)
        if entry is not None:
            report.more.update(backup=entry.shown(), lost=worker.lost(entry.data, last.rows, last.begun))
        return Verdict(
            "pass",
            "backup.done",
            "The database %s was restored from %s by this act, at %s; nothing is left to do."
            % (self.database, last.id, last.done_at),
        )

    def _choose(self, half: Attempt | None, terms: Terms, report: Report) -> Entry:
        """The backup that was asked for, verified. Raises LifecycleError."""
        if self.given == "latest" and half is not None and terms.resume:
            return self.catalog.get(half.id)
        entry = self.catalog.get(self.given)
        if self.given != "latest":
            return entry
        if half is not None and half.id != entry.id:
            raise LifecycleError(
                "The database %s is half restored from %s, and %s is newer." % (self.database, half.id, entry.id),
                "backup.torn",
                "Name in id the backup that it is to be restored from.",
            )
        damaged = [other.id for other in self.catalog.entries() if other.proven and other.made > entry.made]
        if damaged:
            report.more["notes"].append("Newer backups are damaged and were passed over: %s." % ", ".join(damaged[:5]))
        return entry

    def _refuse_newer(self, entry: Entry, facts: client.Facts) -> None:
        if client.version_of(str(entry.data.get("version")))[:2] > client.version_of(facts.version)[:2]:
            raise LifecycleError(
                "The backup %s was made by %s, which is newer than %s on this server."
                % (entry.id, entry.data.get("version"), facts.version),
                "backup.newer",
                "Restore it on a server that is not older. Nothing was touched.",
            )

    def _same(self, entry: Entry, live: Schema, now: t.Mapping[str, t.Any], terms: Terms) -> bool:
        """Whether the database is what the backup would make of it. The rows are counted first: that costs less."""
        if now != entry.data.get("tables"):
            return False
        if (live.charset, live.collation) != (entry.data.get("charset"), entry.data.get("collation")):
            return False
        return self.labour.content(terms) == entry.data.get("content")

    def _settle(self, entry: Entry, half: Attempt | None, terms: Terms, report: Report) -> bool:
        """As every hand does, but rows come and go while the service serves: that they are those of the backup is not held to."""
        seen, expect = dict(report.before), terms.expect
        if expect is not None:
            expect = {name: value for name, value in expect.items() if name != "restored"}
            if terms.resume and half is not None and half.id == entry.id and "torn" in expect:
                seen["torn"] = expect["torn"]  # cut in the middle: it is ours
        return settle(seen, {"database": True, "restored": entry.id}, expect, terms.resume)

    def _sessions(self, comment: str, cut: bool, terms: Terms, report: Report) -> None:
        """Raise LifecycleError while somebody works with the database: what they write would be lost or mixed in."""

        def look() -> list[str]:
            rows = self.server.rows(worker.SESSIONS, max(1.0, terms.deadline.remaining()))
            # What a restore that was cut has left is the account that we are; the job waits for its end.
            rows = [row for row in rows if not (cut and (row[1], row[2]) == (self.server.user, "localhost"))]
            return worker.users_of(rows, self.database, comment)

        seen = wait(look, lambda busy: not busy, min(_GRACE_S, terms.deadline.remaining())).last
        if not seen:
            return
        said = worker.in_use(self.database, seen)
        if not terms.check:
            raise LifecycleError(
                said, "backup.in_use", "Stop the service everywhere first. Nothing was touched.", {"sessions": seen[:50]}
            )
        report.more["notes"].append(said + " They have to be gone before the restore.")

    def _run(self, entry: Entry, terms: Terms, report: Report, taken_up: bool = False) -> Verdict:
        """Start the job, or take up the one that is at work, and say what became of the database."""
        before = report.before
        report.after = {}
        try:
            self.labour.restore(entry.id, terms, report, taken_up)
        except LifecycleError as exc:
            half, last = self.catalog.half(), self.catalog.last()
            if half is not None:
                report.after = {"restored": None, "torn": half.id}
                exc.hint = ("%s The database is half restored: the same call again finishes it." % exc.hint).strip()
            elif before["torn"] is None and before["last_restore"] == (last.stamp() if last else None):
                # The flag comes before the first drop, so nothing was touched.
                report.changed, report.after = False, dict(before)
            raise
        last = self.catalog.last()
        report.after = {
            "database": True,
            "restored": entry.id,
            "torn": None,
            "last_restore": last.stamp() if last else None,
        }
        if last is not None:
            report.more["lost"] = worker.lost(entry.data, last.rows, last.begun)
        rows = sum((entry.data.get("tables") or {}).values())
        return Verdict(
            "pass",
            "backup.restored",
            "The database %s was restored from %s (%d rows); what was written since %s is lost."
            % (self.database, entry.id, rows, entry.data.get("made_at")),
        )

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The state restored of mariadb_backup: the database as a proven backup has it, and what that costs, said before."""

from __future__ import annotations

import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _job
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Act, Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb import client, worker
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.backup import External, Hand, Remove, Take
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.catalog import Entry
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.labour import Schema, rows_of
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.mark import Mark
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict


def prepare(params: t.Mapping[str, t.Any], runner: t.Callable[..., _job.State] = _job.run_job, jobs: str = _job.ROOT) -> Act:
    """Check the arguments of the module and say what will act. Raises BadInputError."""
    state, external = params["state"], params["kind"] == "external"
    if external and state != "present":
        raise BadInputError(
            "A backup of kind external is %s with the tool that makes it." % {"restored": "restored", "absent": "removed"}[state],
            "backup.input",
        )
    if state != "present" and not params["id"]:
        raise BadInputError("state %s needs id." % state, "backup.input", "state present in check mode lists the backups.")
    if state == "absent" and params["id"] == "latest":
        raise BadInputError("id latest is for state restored only.", "backup.input", "Name the one that is to go.")
    if state == "present":
        return (External if external else Take)(params, runner, jobs)
    return (Restore if state == "restored" else Remove)(params, runner, jobs)


def lost(entry: Entry, now: t.Mapping[str, int]) -> dict[str, t.Any]:
    """What a restore undoes: rows that each table has more (or, below zero, fewer) than then, and the time between. Pure."""
    then = entry.data.get("tables") or {}
    differences = {name: now.get(name, 0) - then.get(name, 0) for name in sorted({*now, *then})}
    return {
        "seconds": entry.age_s(),
        "since": entry.data.get("made_at"),
        "rows": {name: number for name, number in differences.items() if number},
        "tables": sorted(set(now) - set(then)),
    }


class Restore(Hand):
    """restored: verify everything that can be verified, then drop, load and count in a job."""

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        seconds = terms.deadline.remaining()
        facts = self.server.facts(seconds)
        report.more["server"] = facts.shown()
        live = Schema.find(self.server, self.database, seconds)
        report.before = report.after = {"database": live is not None, "restored": None}
        self.catalog.check()
        self.tell_newest(report)
        entry = self.catalog.get(self.given)
        report.more["backup"] = entry.shown()
        self._refuse_newer(entry, facts)
        marker = self.catalog.marker(entry)
        # Where one was cut, its job may still be at work: tables come and go, and what is lost was counted before it began.
        now = rows_of(self.server, self.database, terms.deadline.remaining()) if live and marker is None else {}
        what = dict(marker.get("lost") or {}) if marker is not None else lost(entry, now)
        report.more["lost"] = what
        if marker is None and live is not None and self._same(entry, live, now, terms):
            report.before = report.after = {"database": True, "restored": entry.id}
        wanted = {"database": True, "restored": entry.id}
        if not settle(report.before, wanted, terms.expect, terms.resume):
            report.more["lost"] = {**what, "seconds": 0}
            return Verdict("pass", "backup.same", "The database %s is as the backup %s has it." % (self.database, entry.id))
        client.refuse_reader(facts)
        self._refuse_sessions(live, marker is not None, terms)
        report.changed, report.after = True, wanted
        if terms.check:
            return Verdict("pass", "backup.predicted", "The database %s would be restored from %s." % (self.database, entry.id))
        report.after = {}
        comment = str(marker.get("comment", "")) if marker else live.comment if live else str(entry.data.get("comment", ""))
        if self.catalog.marker(entry) is None:
            worker.write_json(self.catalog.path(entry.id, ".restoring"), {"comment": comment, "lost": what})
        self.labour.restore(entry, comment, terms, report)
        report.after = wanted
        rows = sum((entry.data.get("tables") or {}).values())
        return Verdict(
            "pass",
            "backup.restored",
            "The database %s was restored from %s (%d rows); what was written since %s is lost."
            % (self.database, entry.id, rows, entry.data.get("made_at")),
        )

    def _refuse_newer(self, entry: Entry, facts: client.Facts) -> None:
        if client.version_of(str(entry.data.get("version")))[:2] > client.version_of(facts.version)[:2]:
            raise LifecycleError(
                "The backup %s was made by %s, which is newer than %s on this server."
                % (entry.id, entry.data.get("version"), facts.version),
                "backup.newer",
                "Restore it on a server that is not older. Nothing was touched.",
            )

    def _same(self, entry: Entry, live: Schema, now: t.Mapping[str, int], terms: Terms) -> bool:
        """Whether the database is what the backup would make of it. The rows are counted first: that costs less."""
        if now != entry.data.get("tables"):
            return False
        if (live.charset, live.collation) != (entry.data.get("charset"), entry.data.get("collation")):
            return False
        return self.labour.content(terms) == entry.data.get("content")

    def _refuse_sessions(self, live: Schema | None, ours: bool, terms: Terms) -> None:
        """Raise LifecycleError while somebody works with the database: what they write would be lost or mixed in."""
        mark = Mark.read(live.comment) if live else None
        users = {account.rpartition("@")[0] for account in (mark.accounts if mark else ())}
        rows = self.server.rows(
            "SELECT JSON_ARRAY(ID, USER, HOST, DB, COMMAND) FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID();",
            terms.deadline.remaining(),
        )
        busy = []
        for number, user, host, database, command in rows:
            # A restore that was cut, and goes on as its job, is at work as the account that we are.
            own = ours and (user, str(host)) == (self.server.user, "localhost")
            if (database == self.database or user in users) and user not in ("system user", "event_scheduler") and not own:
                busy.append("%s@%s (%s, session %s)" % (user, str(host).partition(":")[0], command, number))
        if busy:
            raise LifecycleError(
                "The database %s is in use by %s%s."
                % (self.database, ", ".join(busy[:5]), " and others" if len(busy) > 5 else ""),
                "backup.in_use",
                "Stop the service everywhere first. Nothing was touched.",
                {"sessions": busy[:50]},
            )

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Backups of one database: the states present (take and prove one, or look at somebody else's) and absent of mariadb_backup."""

from __future__ import annotations

import datetime
import re
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _job
from ansible_collections.osops.lifecycle.plugins.module_utils._command import run
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb import client
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.catalog import Catalog, check_id
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.labour import Labour, Schema
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import scrub, tail
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict

_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}\Z")
_AHEAD_S = 300.0  # how far the clock of whoever made an external backup may be ahead of ours


class Hand:
    """What all states have in common: checked arguments, the folder, the server."""

    def __init__(self, params: t.Mapping[str, t.Any], runner: t.Callable[..., _job.State], jobs: str) -> None:
        self.database = client.check_database(params["database"])
        self.service = str(params["service"])
        if not _SERVICE.match(self.service):
            raise BadInputError("service %r is not the name of a service." % (self.service,), "backup.input")
        if params["keep"] < 1:
            raise BadInputError("keep is %d, but at least one backup is kept." % params["keep"], "backup.input")
        self.keep = int(params["keep"])
        self.catalog = Catalog(params["place"], self.database, self.service)
        self.given, self.token = params["id"] or "", params["token"]
        if self.given:
            check_id(self.given)
        secrets = params["secrets"] or {}
        strange = sorted(set(secrets) - {"password", "admin_password"})
        if strange:
            raise BadInputError("secrets holds the unknown key %s." % strange[0], "backup.input")
        self.server = client.Server(params["server"], str(secrets.get("admin_password") or ""))
        self.labour = Labour(self.server, self.catalog, params, runner, jobs)

    def new_id(self) -> str:
        """Of service, database and token in a run, so that a step that is done again finds its own; else of the time."""
        name = self.service if self.service == self.database else "%s-%s" % (self.service, self.database)
        last = str(self.token) if self.token is not None else time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        return check_id("%s-%s" % (name, last))

    def tell_newest(self, report: Report) -> None:
        newest = self.catalog.newest()
        report.more["newest"] = newest.shown() if newest else None
        report.more["backups"] = [entry.id for entry in self.catalog.entries() if entry.proven]


class Take(Hand):
    """present, kind dump: one more proven backup, unless that id is there."""

    def __init__(self, params: t.Mapping[str, t.Any], runner: t.Callable[..., _job.State], jobs: str) -> None:
        super().__init__(params, runner, jobs)
        if self.given == "latest":
            raise BadInputError("id latest is for state restored only.", "backup.input", "Give it a name, or none.")

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        self.catalog.check()
        self.tell_newest(report)
        self.labour.refuse_busy()
        self.catalog.refuse_half()  # it would be proven, and worthless
        nameless = not self.given and self.token is None
        id_ = self.given or self.new_id()
        entry = self.catalog.read(id_)
        if entry is not None and entry.proven:
            report.before = report.after = {"backup": id_}
            report.more["backup"] = entry.shown()
            self.catalog.verify(entry)
            settle(report.before, {"backup": id_}, terms.expect, terms.resume)
            return Verdict("pass", "backup.present", "The backup %s is there, proven and intact." % id_)
        # Without a name the look is at the newest one: that is what a person asks for.
        newest = report.more["newest"]
        report.before = {"backup": newest["id"] if nameless and newest else None}
        report.after = dict(report.before)
        seconds = terms.deadline.remaining()
        facts = self.server.facts(seconds)
        report.more["server"] = facts.shown()
        schema = Schema.look(self.server, self.database, seconds)
        self.labour.programs(facts)
        self.labour.check_space(schema)
        settle(report.before, {"backup": id_}, terms.expect, terms.resume)
        report.changed, report.after = True, {"backup": id_}
        if terms.check:
            return Verdict("pass", "backup.predicted", "The database %s would be backed up as %s." % (self.database, id_))
        report.changed, report.after = False, dict(report.before)
        self.catalog.open()
        self.labour.backup(id_, facts, schema, terms, report)
        entry = self.catalog.get(id_)
        report.after, report.more["backup"] = {"backup": id_}, entry.shown()
        gone = self.catalog.surplus(self.keep, id_)
        for other in gone:
            self.catalog.remove(other)
        report.more["pruned"] = [other.id for other in gone]
        self.tell_newest(report)
        shown = entry.shown()
        return Verdict(
            "pass",
            "backup.taken",
            "The backup %s was taken and proven: %d tables, %d rows, %d bytes."
            % (id_, shown["tables"], shown["rows"], shown["bytes"]),
        )


class External(Hand):
    """present, kind external: somebody else makes backups; a command of theirs says when the newest good one was made."""

    def __init__(self, params: t.Mapping[str, t.Any], runner: t.Callable[..., _job.State], jobs: str) -> None:
        super().__init__(params, runner, jobs)
        self.command, self.limit = [str(word) for word in params["command"] or ()], params["max_age_s"]
        if not self.command or not self.command[0].startswith("/") or self.limit is None or self.limit < 1:
            raise BadInputError(
                "kind external needs command, which begins with the path of a program, and max_age_s.", "backup.input"
            )

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        self.catalog.refuse_half()
        done = run(self.command, terms.deadline.remaining())
        evidence = {"rc": done.rc, "output": tail(scrub(done.out + "\n" + done.err), 5)}
        made = parse_time(done.out) if done.rc == 0 else None
        if made is None or made > time.time() + _AHEAD_S:
            raise LifecycleError(
                "%s does not say when the newest good backup of %s was made." % (self.command[0], self.database),
                "backup.unreadable",
                "It must end with 0 and print one time of the past, in seconds since 1970 or as 2026-05-01T03:00:00+00:00.",
                evidence,
            )
        stamp = datetime.datetime.fromtimestamp(made, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        age = max(0, round(time.time() - made))
        report.before = report.after = {"backup": stamp}
        report.more["newest"] = {"id": None, "made_at": stamp, "age_s": age}
        if age > self.limit:
            raise LifecycleError(
                "The newest good backup of %s is %d s old; at most %d s are allowed." % (self.database, age, self.limit),
                "backup.stale",
                "Make one with the tool that makes them.",
                evidence,
            )
        return Verdict("pass", "backup.fresh", "The newest good backup of %s is %d s old." % (self.database, age))


class Remove(Hand):
    """absent: one backup by its id."""

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        self.catalog.check()
        self.tell_newest(report)
        entry = self.catalog.read(self.given)
        report.before = {"backup": entry.id if entry else None}
        report.after = {"backup": None}
        if not settle(report.before, report.after, terms.expect, terms.resume) or entry is None:
            return Verdict("pass", "backup.absent", "There is no backup %s in %s." % (self.given, self.catalog.place))
        self.labour.refuse_busy()
        self.catalog.refuse_half(entry.id)
        report.changed = True
        if terms.check:
            return Verdict("pass", "backup.predicted", "The backup %s would be removed." % entry.id)
        self.catalog.remove(entry)
        self.tell_newest(report)
        return Verdict("pass", "backup.removed", "The backup %s was removed from %s." % (entry.id, self.catalog.place))


def parse_time(text: str) -> float | None:
    """Seconds since 1970 of the one time in ``text``; None for what is none. A time without its zone is none."""
    word = text.strip()
    if re.fullmatch(r"\d{9,11}(\.\d+)?", word):
        return float(word)
    try:
        found = datetime.datetime.fromisoformat(re.sub(r"[Zz]\Z", "+00:00", word))
    except ValueError:
        return None
    return found.timestamp() if found.tzinfo is not None and found.year > 1999 else None

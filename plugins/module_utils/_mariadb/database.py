# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The database of one service with its accounts: the states of mariadb_database.

Only what carries our mark, with the same owner, is ever changed or dropped. The mark is written first when things are made, and
goes last when they are dropped, so that a killed act finds its own things again.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _grants
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Act, Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb import client
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.client import Server, text_literal
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.mark import Mark, check_owner
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict

_CHARSET = re.compile(r"[a-z0-9_]{1,32}\Z")


def quoted(account: str) -> str:
    """``user@host`` as SQL names it. Both parts were checked when they came in, or were written into a mark by us."""
    user, _at, host = account.rpartition("@")
    return "%s@%s" % (text_literal(client.check_user(user)), text_literal(client.check_host(host)))


@dataclasses.dataclass(frozen=True)
class Seen:
    """What is on the server now: the database, its mark, the accounts, and what is not as it should be with them."""

    database: bool
    mark: Mark | None
    tables: int
    accounts: t.Mapping[str, bool]
    drift: t.Mapping[str, tuple[str, ...]]

    def state(self) -> dict[str, t.Any]:
        owner = self.mark.owner if self.mark else None
        return {"database": self.database, "owner": owner, "accounts": dict(self.accounts), "tables": self.tables}


class _Database:
    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        database, secrets = params["database"], params["secrets"] or {}
        self.state = params["state"]
        self.name = client.check_database(database["name"])
        self.user = client.check_user(database["user"])
        self.charset = str(database["charset"])
        if not _CHARSET.match(self.charset):
            raise BadInputError("database.charset %r is not the name of a character set." % (self.charset,), "database.input")
        hosts = [client.check_host(str(pattern)) for pattern in database["from"] or ()]
        if not hosts:
            raise BadInputError(
                "database.from is empty, so nobody could log in.", "database.input", "Leave it out, or name hosts."
            )
        self.accounts = tuple(dict.fromkeys("%s@%s" % (self.user, host) for host in hosts))
        self.owner = check_owner(params["owner"])
        strange = sorted(set(secrets) - {"password", "admin_password"})
        if strange:
            raise BadInputError("secrets holds the unknown key %s." % strange[0], "database.input")
        self.password = client.check_password(str(secrets.get("password") or "")) if self.state == "present" else ""
        self.server = Server(params["server"], str(secrets.get("admin_password") or ""))
        self.server.secrets += [self.password, client.native_hash(self.password)] if self.password else []
        Mark(self.owner, self.accounts).comment()

    def look(self, terms: Terms) -> Seen:
        """All that there is of this database and its accounts. Reads only."""
        seconds = terms.deadline.remaining()
        schemas = self.server.rows(
            "SELECT JSON_ARRAY(SCHEMA_NAME, SCHEMA_COMMENT, (SELECT COUNT(*) FROM information_schema.TABLES"
            " WHERE TABLE_SCHEMA = %s)) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s;",
            seconds,
            self.name,
            self.name,
        )
        schemas = [row for row in schemas if row[0] == self.name]  # MariaDB compares names without regard to case
        mark = Mark.read(str(schemas[0][1])) if schemas else None
        named = tuple(mark.accounts) if mark else ()
        there = {
            "%s@%s" % (user, host): (plugin, stored)
            for user, host, plugin, stored in self.server.rows(
                "SELECT JSON_ARRAY(User, Host, JSON_VALUE(Priv, '$.plugin'), JSON_VALUE(Priv, '$.authentication_string'))"
                " FROM mysql.global_priv;",
                seconds,
            )
        }
        accounts = {account: account in there for account in sorted({*self.accounts, *named})}
        drift = {}
        for account in self.accounts if self.state == "present" else ():
            if account in there:
                found = self._drift(account, there[account], seconds)
                drift.update({account: found} if found else {})
        return Seen(bool(schemas), mark, int(schemas[0][2]) if schemas else 0, accounts, drift)

    def _drift(self, account: str, auth: tuple[str, str], seconds: float) -> tuple[str, ...]:
        """What of an account is not as we make it: its password, its rights."""
        wrong = [] if auth == ("mysql_native_password", client.native_hash(self.password)) else ["password"]
        grants = [line.split(" TO ")[0] for line in self.server.run("SHOW GRANTS FOR %s;" % quoted(account), seconds)]
        if _grants.missing(grants, self.name, ["ALL PRIVILEGES"]):
            wrong.append("grants")
        return tuple(wrong)

    def refuse_foreign(self, seen: Seen) -> None:
        """Raise LifecycleError when something of it is not ours."""
        whose = ""
        if seen.database and seen.mark is None:
            whose = "The database %s was not made by osops.lifecycle" % self.name
        elif seen.mark is not None and seen.mark.owner != self.owner:
            whose = "The database %s belongs to %s, not to %s" % (self.name, seen.mark.owner, self.owner)
        else:
            ours = seen.mark.accounts if seen.mark else ()
            others = [name for name, there in seen.accounts.items() if there and name not in ours and name in self.accounts]
            whose = "The account %s was not made with the database %s" % (others[0], self.name) if others else ""
        if whose:
            raise LifecycleError(
                whose + ".", "database.foreign", "Nothing was changed. Use another name, or let its owner remove it."
            )

    def do(self, sql: t.Sequence[str], terms: Terms) -> None:
        self.server.run("".join(line + ";\n" for line in sql), terms.deadline.remaining())


def prepare(params: t.Mapping[str, t.Any]) -> Act:
    """Check the arguments of the module and say what will act. Raises BadInputError."""
    return (_Present if params["state"] == "present" else _Absent)(params)


class _Present(_Database):
    def __call__(self, terms: Terms, report: Report) -> Verdict:
        facts = self.server.facts(terms.deadline.remaining())
        report.more["server"] = facts.shown()
        seen = self.look(terms)
        report.before = report.after = seen.state()
        report.more["drift"] = {name: list(what) for name, what in seen.drift.items()}
        self.refuse_foreign(seen)
        wanted = {"database": True, "owner": self.owner, "accounts": dict.fromkeys(self.accounts, True)}
        missing = settle(seen.state(), wanted, terms.expect, terms.resume)
        if not missing and not seen.drift:
            if not terms.check:
                self._prove(report, terms)
            return Verdict("pass", "database.present", "The database %s and its accounts are there." % self.name)
        client.refuse_reader(facts)
        report.changed = True
        report.after = {**seen.state(), **wanted, "accounts": {**seen.accounts, **dict.fromkeys(self.accounts, True)}}
        if terms.check:
            return Verdict("pass", "database.predicted", "The database %s would be made, or mended." % self.name)
        report.after = {}
        self._make(seen, terms)
        made = self.look(terms)
        report.after = made.state()
        if settle(report.after, wanted, None) or made.drift:
            raise LifecycleError(
                "MariaDB took every statement, but the database %s is not as it was asked for." % self.name,
                "database.not_reached",
                "Look for another program that manages it.",
                {"drift": {name: list(what) for name, what in made.drift.items()}},
            )
        self._prove(report, terms)
        done = "mended" if not missing else "made"
        return Verdict("pass", "database." + done, "The database %s and its accounts were %s." % (self.name, done))

    def _make(self, seen: Seen, terms: Terms) -> None:
        name, mark = client.name_literal(self.name), seen.mark
        whole = Mark(self.owner, tuple(sorted({*self.accounts, *(mark.accounts if mark else ())})))
        comment = text_literal(whole.comment())
        sql = []
        if not seen.database:
            sql.append("CREATE DATABASE %s CHARACTER SET %s COMMENT %s" % (name, self.charset, comment))
        elif mark != whole:
            sql.append("ALTER DATABASE %s COMMENT %s" % (name, comment))
        secret = text_literal(client.native_hash(self.password))
        for account in self.accounts:
            wrong = seen.drift.get(account, ())
            if not seen.accounts[account]:
                sql.append("CREATE USER %s IDENTIFIED VIA mysql_native_password USING %s" % (quoted(account), secret))
            elif "password" in wrong:
                sql.append("ALTER USER %s IDENTIFIED VIA mysql_native_password USING %s" % (quoted(account), secret))
            if not seen.accounts[account] or "grants" in wrong:
                sql.append("GRANT ALL PRIVILEGES ON %s.* TO %s" % (client.pattern_literal(self.name), quoted(account)))
        self.do(sql, terms)

    def _prove(self, report: Report, terms: Terms) -> None:
        """Log in as the service where one of its accounts covers this socket; the others are proven by what MariaDB keeps."""
        report.more["login"] = dict.fromkeys(self.accounts, "stored")
        if not {"%s@%%" % self.user, "%s@localhost" % self.user} & set(self.accounts):
            return
        try:
            as_whom = self.server.login(self.user, self.password, terms.deadline.remaining())
        except LifecycleError as exc:
            raise LifecycleError(
                "The account of the service cannot log in: %s" % exc.msg,
                "database.login",
                "Another account of the same name, or a lock, may be in its way: SELECT User, Host FROM mysql.global_priv.",
            ) from None
        if as_whom not in self.accounts:
            raise LifecycleError(
                "MariaDB takes the service's login for %s, which is not one of its accounts." % as_whom,
                "database.login",
                "Remove that account, or name its host in database.from.",
            )
        report.more["login"][as_whom] = "proven"


class _Absent(_Database):
    def __call__(self, terms: Terms, report: Report) -> Verdict:
        facts = self.server.facts(terms.deadline.remaining())
        report.more["server"] = facts.shown()
        seen = self.look(terms)
        report.before = report.after = seen.state()
        self.refuse_foreign(seen)
        gone: dict[str, t.Any] = {"database": False, "owner": None, "accounts": dict.fromkeys(seen.accounts, False), "tables": 0}
        if not settle(seen.state(), gone, terms.expect, terms.resume):
            return Verdict("pass", "database.absent", "There is no database %s, and none of its accounts." % self.name)
        client.refuse_reader(facts)
        # The service may write the comment that holds the mark: accounts of another name are not dropped on its word.
        others = sorted(
            account for account in (seen.mark.accounts if seen.mark else ()) if account.rpartition("@")[0] != self.user
        )
        if others:
            raise LifecycleError(
                "The mark of the database %s names accounts of others: %s." % (self.name, ", ".join(others)),
                "database.foreign",
                "Nothing was dropped. Correct its comment (ALTER DATABASE … COMMENT), or name their user in database.user.",
            )
        report.changed, report.after = True, gone
        if terms.check:
            return Verdict("pass", "database.predicted", "The database %s and its accounts would be dropped." % self.name)
        report.after = {}
        mark = seen.mark
        drops = ["DROP USER IF EXISTS %s" % quoted(account) for account in (mark.accounts if mark else ())]
        self.do([*drops, "DROP DATABASE %s" % client.name_literal(self.name)], terms)
        left = self.look(terms).state()
        # Without the mark only the accounts that were asked for are looked at.
        report.after = {**left, "accounts": {**gone["accounts"], **left["accounts"]}}
        if settle(report.after, gone, None):
            raise LifecycleError(
                "MariaDB took every statement, but something of the database %s is still there." % self.name,
                "database.not_reached",
                "Look for another program that manages it.",
            )
        return Verdict("pass", "database.dropped", "The database %s and its accounts were dropped." % self.name)

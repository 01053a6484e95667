# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What backup and restore take: what the database is like, room on the disk, and the job that does the work (worker.py)."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import os
import pwd
import shutil
import sys
import tempfile
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _job
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb import client, worker
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.catalog import Catalog
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import scrub, tail

MIB = 1 << 20
# What the server for the proof must have in common with the one that was dumped, or the same dump makes other tables.
VARIABLES = (
    "character_set_server",
    "collation_server",
    "explicit_defaults_for_timestamp",
    "innodb_default_row_format",
    "innodb_page_size",
    "innodb_strict_mode",
    "lower_case_table_names",
    # A row that the live server would refuse to take back is no backup.
    "max_allowed_packet",
    "sql_mode",
)
# A dump is text (and blobs are written in hex); a server that was just made takes some space, too.
_TEXT, _LOADED, _FIXED_DUMP, _FIXED_SERVER = 1.5, 1.5, 16 * MIB, 160 * MIB


@dataclasses.dataclass(frozen=True)
class Schema:
    """What a database is like, apart from its rows."""

    charset: str
    collation: str
    comment: str
    data: int
    index: int
    definers: tuple[str, ...]

    @classmethod
    def find(cls, server: client.Server, database: str, seconds: float) -> Schema | None:
        """The database as it is; None when there is none."""
        rows = server.rows(
            "SELECT JSON_ARRAY(SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME, SCHEMA_COMMENT)"
            " FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s;",
            seconds,
            database,
        )
        rows = [row[1:] for row in rows if row[0] == database]
        if not rows:
            return None
        sizes = server.rows(
            "SELECT JSON_ARRAY(CAST(COALESCE(SUM(DATA_LENGTH), 0) AS INTEGER), CAST(COALESCE(SUM(INDEX_LENGTH), 0) AS INTEGER))"
            " FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s;",
            seconds,
            database,
        )
        definers = server.rows(
            "SELECT JSON_ARRAY(DEFINER) FROM information_schema.VIEWS WHERE TABLE_SCHEMA = %s"
            " UNION SELECT JSON_ARRAY(DEFINER) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = %s"
            " UNION SELECT JSON_ARRAY(DEFINER) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = %s"
            " UNION SELECT JSON_ARRAY(DEFINER) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = %s;",
            seconds,
            *(database,) * 4,
        )
        # One that is gone is gone in the proof, too: its views are as broken there as they are here.
        there = server.rows("SELECT JSON_ARRAY(CONCAT(User, '@', Host)) FROM mysql.global_priv;", seconds)
        definers = [row for row in definers if row in there]
        charset, collation, comment = (str(part) for part in rows[0])
        data, index = (int(number) for number in sizes[0])
        return cls(charset, collation, comment, data, index, tuple(sorted(str(row[0]) for row in definers)))

    @classmethod
    def look(cls, server: client.Server, database: str, seconds: float) -> Schema:
        """The database as it is. Raises LifecycleError for one that is not there, or of which no dump would be true."""
        found = cls.find(server, database, seconds)
        if found is None:
            raise LifecycleError(
                "There is no database %s on this server." % database, "backup.no_database", "Check its name. Nothing was done."
            )
        odd = server.rows(
            "SELECT JSON_ARRAY(TABLE_NAME, ENGINE, TABLE_TYPE) FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s"
            " AND (TABLE_TYPE = 'SYSTEM VERSIONED' OR TABLE_TYPE <> 'VIEW' AND COALESCE(ENGINE, '') NOT IN"
            " (SELECT ENGINE FROM information_schema.ENGINES WHERE TRANSACTIONS = 'YES'));",
            seconds,
            database,
        )
        if odd:
            raise LifecycleError(
                "The table %s of %s (%s, %s) cannot be dumped as of one moment." % (odd[0][0], database, odd[0][1], odd[0][2]),
                "backup.engine",
                "Its engine knows no transactions, or it keeps a history that dumps leave out. Convert it, or use kind external.",
                {"tables": [row[0] for row in odd][:20]},
            )
        changes = worker.rounded(server.rows(worker.inexact(database, server.rows(worker.FLOATS, seconds, database)), seconds))
        if changes:
            raise LifecycleError(changes, "backup.float", worker.FLOAT_HINT)
        return found


def rows_of(server: client.Server, database: str, seconds: float) -> dict[str, t.Any]:
    """How many rows each table of the running server has now, counted; for half of the time at most, then the word unknown."""
    names = server.rows(
        "SELECT JSON_ARRAY(TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_TYPE = 'BASE TABLE'"
        " ORDER BY BINARY TABLE_NAME;",
        seconds,
        database,
    )
    tables = [str(row[0]) for row in names]
    within = min(worker.COUNT_S, seconds / 2)
    lines = server.run(worker.counting(database, tables, within), seconds, "--force") if tables else []
    return worker.counted(tables, lines)


class Labour:
    """The long acts on one database, as jobs."""

    def __init__(
        self,
        server: client.Server,
        catalog: Catalog,
        params: t.Mapping[str, t.Any],
        runner: t.Callable[..., _job.State],
        jobs: str,
    ) -> None:
        self.server, self.catalog, self.runner, self.jobs = server, catalog, runner, jobs
        resources = params["resources"]
        self.memory_mb, self.io_weight = int(resources["memory_mb"]), int(resources["io_weight"])
        self.scratch, self.scope = os.path.normpath(params["scratch"]), params["scope"]
        if self.memory_mb < 128:
            raise BadInputError("resources.memory_mb is %d; a proof needs at least 128." % self.memory_mb, "backup.input")
        if not 1 <= self.io_weight <= 10000:
            raise BadInputError("resources.io_weight is %d; it goes from 1 to 10000." % self.io_weight, "backup.input")
        # The socket of the server for the proof lies in it, and its address has 108 bytes.
        if not self.scratch.startswith("/") or len(self.scratch) > 80:
            raise BadInputError("scratch is not an absolute path of at most 80 letters.", "backup.input")

    def check_space(self, schema: Schema) -> None:
        """Raise LifecycleError, with figures, unless dump and proof have room."""
        needed: dict[int, int] = {}
        where: dict[int, str] = {}
        wants = (
            (self.catalog.place, int(schema.data * _TEXT) + _FIXED_DUMP),
            (self.scratch, int((schema.data + schema.index) * _LOADED) + _FIXED_SERVER),
        )
        for path, size in wants:
            while not os.path.isdir(path):
                path = os.path.dirname(path)
            disk = os.stat(path).st_dev
            needed[disk] = needed.get(disk, 0) + size
            where.setdefault(disk, path)
        for disk, size in needed.items():
            free = shutil.disk_usage(where[disk]).free
            if free < size:
                raise LifecycleError(
                    "The disk of %s has %d MiB free; the backup and its proof need %d MiB."
                    % (where[disk], free // MIB, size // MIB),
                    "backup.disk",
                    "Free some, or set place and scratch to another disk. Nothing was done.",
                    {"free": free, "needed": size, "data": schema.data, "index": schema.index},
                )

    def programs(self, facts: client.Facts) -> dict[str, str]:
        """Where the programs are that a backup needs. Raises LifecycleError for one that this host does not have."""
        found = {name: client.program(name) for name in ("mariadb", "mariadb-dump")}
        return {**found, "mariadb-install-db": client.program("mariadb-install-db"), "mariadbd": self._binary(facts)}

    def _binary(self, facts: client.Facts) -> str:
        """The program that the running server was started from."""
        with contextlib.suppress(OSError, ValueError):
            with open(facts.pid_file, encoding="ascii") as file:
                path = os.readlink("/proc/%d/exe" % int(file.read()))
            if os.path.isfile(path):
                return path
        return client.program("mariadbd")

    def backup(self, id_: str, facts: client.Facts, schema: Schema, terms: Terms, report: Report) -> None:
        names = ", ".join("CONCAT(@@%s)" % name for name in VARIABLES)
        values = self.server.rows("SELECT JSON_ARRAY(%s);" % names, terms.deadline.remaining())[0]
        try:
            user = pwd.getpwuid(os.stat(facts.datadir).st_uid if os.geteuid() == 0 else os.geteuid()).pw_name
        except (OSError, KeyError):
            raise LifecycleError(
                "The data of the server (%s) is not on this host." % facts.datadir,
                "backup.scratch",
                "Run this on the database's host.",
            ) from None
        manifest = {
            "id": id_,
            "database": self.catalog.database,
            "service": self.catalog.service,
            "scope": self.scope,
            "node": facts.node,
            "version": facts.version,
            "charset": schema.charset,
            "collation": schema.collation,
            "comment": schema.comment,
        }
        spec = {
            "manifest": manifest,
            "definers": schema.definers,
            "log_bin": facts.log_bin,
            "variables": {**dict(zip(VARIABLES, values)), "innodb_buffer_pool_size": "%dM" % (self.memory_mb // 4)},
            "server_user": user,
            "scratch": self.scratch,
            "bin": self.programs(facts),
        }
        limits = ("MemoryMax=%dM" % self.memory_mb, "IOWeight=%d" % self.io_weight, "CPUWeight=%d" % self.io_weight)
        self._do("backup", id_, spec, terms, report, limits)

    def restore(self, id_: str, terms: Terms, report: Report, taken_up: bool = False) -> None:
        """All that it needs to know is on the host, so that the same call later is the same job and takes it up.

        ``taken_up``: it was seen at work, so that its result counts if it has ended since.
        """
        self._do("restore", id_, {"bin": {"mariadb": client.program("mariadb")}}, terms, report, taken_up=taken_up)

    def restoring(self, id_: str, terms: Terms) -> bool:
        """Whether the job that restores that backup is at work, whoever started it."""
        job = self._job("restore", id_, {"bin": {"mariadb": client.program("mariadb")}}, terms, ())
        seen = _job.look(job)
        return seen.kind == "running" and seen.hash == job.hash

    def refuse_busy(self) -> None:
        """Raise LifecycleError while a restore of the database is at work. Nothing is written."""
        if not os.path.exists(worker.lock_path(self.server.socket, self.catalog.database)):
            return
        try:
            with worker.locked(self.server.socket, self.catalog.database, exclusive=False, wait_s=0.0):
                return
        except worker.Failed as exc:
            raise LifecycleError(str(exc), exc.answer["code"], exc.answer["hint"]) from None

    def _job(self, act: str, id_: str, more: t.Mapping[str, t.Any], terms: Terms, limits: tuple[str, ...]) -> _job.Job:
        spec = {"act": act, "id": id_, "database": self.catalog.database, "place": self.catalog.place, **more}
        spec.update(socket=self.server.socket, user=self.server.user)
        return _job.Job(
            "%s-%s" % (act, id_),
            ((sys.executable, "-I", "{job}/worker.py", "{job}/spec.json"),),
            env={worker.PASSWORD: self.server.password} if self.server.password else {},
            files={"worker.py": inspect.getsource(worker), "spec.json": json.dumps(spec, sort_keys=True)},
            root=self.jobs,
            # A job whose caller was killed ends all the same.
            properties=(*limits, "RuntimeMaxSec=%d" % max(1, int(terms.deadline.remaining()))),
        )

    def _do(
        self,
        act: str,
        id_: str,
        more: t.Mapping[str, t.Any],
        terms: Terms,
        report: Report,
        limits: tuple[str, ...] = (),
        taken_up: bool = False,
    ) -> None:
        job = self._job(act, id_, more, terms, limits)
        report.changed = True
        try:
            ended = self.runner(job, terms.deadline, taken_up)
        finally:
            said = _job.output(job)
            told = "".join(line for line in said.splitlines(True) if not line.startswith(worker.ANSWER))
            report.more["output"] = tail(scrub(told, self.server.secrets), 10)
        answers = [line[len(worker.ANSWER) :] for line in said.splitlines() if line.startswith(worker.ANSWER)]
        answer = json.loads(answers[-1]) if answers else {}
        if ended.rc == 0 and "ok" in answer:
            return
        evidence = {"rc": ended.rc, "output": report.more["output"], **answer.get("evidence", {})}
        reason = str(answer.get("msg") or "The job %s ended with %s and without an answer" % (job.name, ended.rc))
        raise LifecycleError(
            scrub(reason, self.server.secrets).rstrip(". \n") + ".",
            str(answer.get("code") or "backup.job"),
            str(answer.get("hint") or "See its output. Run it again when the reason is gone."),
            json.loads(scrub(json.dumps(evidence), self.server.secrets)) if self.server.password else evidence,
        )

    def content(self, terms: Terms) -> str:
        """The digest of what a dump of the running database would say now. Nothing is written."""
        seconds = terms.deadline.remaining()
        with tempfile.TemporaryDirectory(
            prefix="osops-mariadb-%d-" % os.getpid(), dir="/run" if os.access("/run", os.W_OK) else None
        ) as folder:
            bin_ = {"mariadb-dump": client.program("mariadb-dump")}
            link = worker.Link(bin_, self.server.socket, self.server.user, folder, self.server.password)
            try:
                return link.dump(self.catalog.database, limit_s=seconds).content
            except worker.Failed as exc:
                raise LifecycleError(
                    "The database %s could not be compared with the backup: %s."
                    % (self.catalog.database, scrub(str(exc), self.server.secrets).rstrip(". \n")),
                    "backup.compare",
                    "Give it a longer deadline, if it was killed (-9).",
                ) from None

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The long part of backup and restore: a program of its own, run by a job on the host (``python worker.py SPEC``).

It is shipped as text and outlives the module, so it imports the standard library only. SPEC is a JSON file (see backup.py); the
administrator's password, where there is one, comes in the environment. The last line of its output is its answer.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import typing as t

ANSWER = "OSOPS-ANSWER "
MARK = "osops.lifecycle backup 1"
PASSWORD = "OSOPS_ADMIN_PASSWORD"  # noqa: S105 - the name of a variable
DUMP = (
    *("--single-transaction", "--quick", "--routines", "--triggers", "--events", "--hex-blob", "--order-by-primary"),
    *("--skip-dump-date", "--max-allowed-packet=1G", "--default-character-set=utf8mb4"),
)
# The server of a proof hears nobody but us, starts nothing by itself, and need not survive a power cut.
SERVER = """--skip-networking --skip-log-bin --skip-slave-start --event-scheduler=OFF --local-infile=0 --max-connections=10
--performance-schema=OFF --key-buffer-size=1M --aria-pagecache-buffer-size=8M --skip-innodb-doublewrite
--innodb-flush-log-at-trx-commit=0 --innodb-fast-shutdown=2"""
FLOAT_HINT = "Make it a DOUBLE, or use kind external with a tool that copies the files. There is no backup."
UNPROVEN = "Go on without this backup only if you have another one."
COUNT = "SELECT COUNT(*) FROM %s.%s;\n"
NUMBERED = "SELECT JSON_ARRAY(%d, COUNT(*)) FROM %s.%s;"
COUNT_S = 60.0  # for a count that only tells something; what it does not reach is told as unknown
LOCK_S = 10  # for the locks of others
GRACE_S = 5.0  # for sessions that are about to end
UNKNOWN = "unknown"
SESSIONS = "SELECT JSON_ARRAY(ID, USER, HOST, DB, COMMAND) FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID();"
NAMES = "SELECT JSON_ARRAY(TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s;"
FLOATS = """SELECT JSON_ARRAY(c.TABLE_NAME, c.COLUMN_NAME) FROM information_schema.COLUMNS AS c JOIN information_schema.TABLES AS t
USING (TABLE_SCHEMA, TABLE_NAME) WHERE c.TABLE_SCHEMA = %s AND c.DATA_TYPE = 'float' AND t.TABLE_TYPE = 'BASE TABLE';"""
_MARKED = "osops.lifecycle "  # how the comment of a database begins that has an owner (mark.py)
_END = b"-- Dump completed"
_POSITION = re.compile(rb"MASTER_LOG_FILE='([^']+)', MASTER_LOG_POS=(\d+)")


class Failed(Exception):
    """What went wrong, as the module will say it."""

    def __init__(self, msg: str, code: str, hint: str = "", **evidence: t.Any) -> None:
        super().__init__(msg)
        self.answer: dict[str, t.Any] = {"msg": msg, "code": code, "hint": hint, "evidence": evidence}


def say(text: str) -> None:
    sys.stdout.write(time.strftime("%H:%M:%S ", time.gmtime()) + text + "\n")
    sys.stdout.flush()


def literal(text: str) -> str:
    return "'%s'" % text.replace("\\", "\\\\").replace("'", "''")


def name_literal(name: str) -> str:
    return "`%s`" % name.replace("`", "``")


def write_json(path: str, data: t.Mapping[str, t.Any]) -> None:
    """Replace a file at once, readable by us only, and on the disk before anything is done that it tells of."""
    handle = os.open(path + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=1, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".tmp", path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove(path: str) -> None:
    """Remove a file, also from the disk."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_json(path: str) -> dict[str, t.Any] | None:
    """None for a file that is not there; nothing for one that is not understood."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def digest_of(path: str) -> str:
    """sha256 of a file."""
    with open(path, "rb") as file:
        return digest(file)


def digest(file: t.IO[bytes]) -> str:
    """sha256 of all that a file has from here on."""
    sha = hashlib.sha256()
    for block in iter(lambda: file.read(1 << 20), b""):
        sha.update(block)
    return sha.hexdigest()


def flag_path(place: str, database: str) -> str:
    """The file that is there from right before a restore drops the database until what it loaded is verified."""
    return os.path.join(place, database + ".restoring")


def last_path(place: str, database: str) -> str:
    """The file that tells of the last restore that came to its end."""
    return os.path.join(place, database + ".restored")


def half_of(place: str, database: str) -> dict[str, t.Any] | None:
    """What a restore has written that began to drop and did not end; None when there is none."""
    flag, last = read_json(flag_path(place, database)), read_json(last_path(place, database))
    # It was done when it was cut between its last two acts.
    done = flag and last and flag.get("begun") is not None and flag.get("begun") == last.get("begun")
    return None if done else flag


def lost(manifest: t.Mapping[str, t.Any], now: t.Mapping[str, t.Any] | None, at: float) -> dict[str, t.Any]:
    """What a restore undoes: how old the backup is, and the rows of each table that had not the same number of them."""
    then = manifest.get("tables") or {}
    now = dict.fromkeys(then, UNKNOWN) if now is None else now
    differ = [name for name in sorted({*now, *then}) if now.get(name) != then.get(name)]
    return {
        "taken_at": manifest.get("made_at"),
        "age_s": max(0, round(at - float(manifest.get("made_epoch") or 0.0))),
        "tables": {name: {"rows_now": now.get(name), "rows_then": then.get(name)} for name in differ},
    }


def users_of(rows: t.Iterable[t.Sequence[t.Any]], database: str, comment: str) -> list[str]:
    """The sessions that are in a database, or are of an account that was made with it, as its comment says."""
    accounts: set[str] = set()
    with contextlib.suppress(ValueError, KeyError, TypeError):
        if comment.startswith(_MARKED):
            accounts = {str(account).rpartition("@")[0] for account in json.loads(comment[len(_MARKED) :])["accounts"]}
    return [
        "%s@%s (%s, session %s)" % (user, str(host).partition(":")[0], command, number)
        for number, user, host, where, command in rows
        if (where == database or user in accounts) and user not in ("system user", "event_scheduler")
    ]


def in_use(database: str, busy: t.Sequence[str]) -> str:
    return "The database %s is in use by %s%s." % (database, ", ".join(busy[:5]), " and others" if len(busy) > 5 else "")


def counting(database: str, tables: t.Sequence[str], seconds: float) -> str:
    """SQL for a client that goes on after an error: a row [number, rows] for each table that is counted in time."""
    sql = ["SET @end = UNIX_TIMESTAMP(NOW(6)) + %.3f;" % seconds]
    for number, name in enumerate(tables):
        sql.append("SET SESSION max_statement_time = GREATEST(0.01, @end - UNIX_TIMESTAMP(NOW(6)));")
        sql.append(NUMBERED % (number, name_literal(database), name_literal(name)))
    return "\n".join(sql)


def counted(tables: t.Sequence[str], lines: t.Iterable[str]) -> dict[str, t.Any]:
    """The answer to ``counting``: the rows of each table, or the word unknown."""
    found = {int(number): int(rows) for number, rows in map(json.loads, lines)}
    return {name: found.get(number, UNKNOWN) for number, name in enumerate(tables)}


def inexact(database: str, columns: t.Iterable[t.Sequence[t.Any]]) -> str:
    """SQL for a row [table, column, rows] for each FLOAT column: in how many a dump, which writes six digits, changes the value."""
    row = "SELECT JSON_ARRAY(%s, %s, COUNT(*)) FROM %s.%s WHERE %s <> CAST(CAST(%s AS CHAR) AS FLOAT);"
    return "\n".join(
        row % (literal(table), literal(column), name_literal(database), name_literal(table), *(name_literal(column),) * 2)
        for table, column in columns
    )


def rounded(rows: t.Iterable[t.Sequence[t.Any]]) -> str:
    """The sentence about FLOAT columns that a dump would change; empty where it changes none."""
    found = ["%s.%s (%d rows)" % (table, column, number) for table, column, number in rows if number]
    return "A dump writes six digits of a FLOAT, so it would change values of %s." % ", ".join(found[:5]) if found else ""


def lock_path(socket: str, database: str) -> str:
    root = "/run" if os.access("/run", os.W_OK) else tempfile.gettempdir()
    word = hashlib.sha256(("%s %s" % (socket, database)).encode("utf-8")).hexdigest()[:16]
    return os.path.join(root, "osops-restore-%s.lock" % word)


@contextlib.contextmanager
def locked(socket: str, database: str, exclusive: bool, wait_s: float = 2.0) -> t.Iterator[None]:
    """Keep others of us away from a database of a server: a restore is alone, backups may be side by side."""
    handle = os.open(lock_path(socket, database), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        end_at = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > end_at:
                    who = "backup or restore" if exclusive else "restore"
                    raise Failed(
                        "Another %s of the database %s is at work." % (who, database),
                        "backup.busy",
                        "Nothing was touched. Wait for its end: systemctl list-units 'osops-job-*'.",
                    ) from None
            time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def called(argv: t.Sequence[str], stdin: t.Any = subprocess.DEVNULL) -> tuple[int, str]:
    """Run a program to its end; the last that it said."""
    done = subprocess.run(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, cwd="/")  # pylint: disable=ansible-bad-function
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()[-400:]


class Dumped(t.NamedTuple):
    """What a dump is: its size and digest, the digest of what it says of the data alone, and where the binary log was."""

    bytes: int
    sha256: str
    content: str
    position: t.Any


class Link:
    """A server, reached over its socket with the programs of this host."""

    def __init__(self, bin_: t.Mapping[str, str], socket: str, user: str, folder: str, password: str = "") -> None:
        self.bin, self.socket = bin_, socket
        self.options = os.path.join(folder, "client.cnf")
        handle = os.open(self.options, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write('[client]\nsocket="%s"\nuser="%s"\n' % (socket, user))
            if password:
                file.write('password="%s"\n' % password.replace("\\", "\\\\").replace('"', '\\"'))

    def argv(self, name: str, *more: str) -> list[str]:
        return [self.bin[name], "--defaults-file=" + self.options, *more]

    def run(self, sql: str, *more: str) -> list[str]:
        """The lines of the answer. With ``--force`` those of the statements that went well."""
        argv = self.argv("mariadb", "--batch", "--raw", "--skip-column-names", "--default-character-set=utf8mb4", *more)
        done = subprocess.run(argv, input=sql, capture_output=True, text=True, check=False)  # pylint: disable=ansible-bad-function
        if done.returncode != 0 and "--force" not in more:
            raise Failed("MariaDB refused a statement: %s" % done.stderr.strip()[-400:], "database.sql")
        return done.stdout.splitlines()

    def rows(self, sql: str) -> list[list[t.Any]]:
        return [json.loads(line) for line in self.run(sql)]

    def tables(self, database: str) -> list[str]:
        """The tables of a database that hold rows, in the order of their names."""
        sql = "SELECT JSON_ARRAY(TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_TYPE = 'BASE TABLE'"
        return [str(row[0]) for row in self.rows(sql % literal(database) + " ORDER BY BINARY TABLE_NAME;")]

    def count(self, database: str) -> dict[str, int]:
        """How many rows each table has, counted."""
        tables, place = self.tables(database), name_literal(database)
        rows = self.run("".join(COUNT % (place, name_literal(name)) for name in tables))
        return {name: int(row) for name, row in zip(tables, rows)}

    def dump(self, database: str, path: str = "", position: bool = False, limit_s: float = threading.TIMEOUT_MAX) -> Dumped:
        """Dump a database, into a file or only to know what it would be. Raises Failed for one that is not whole."""
        more = ("--master-data=2",) if position else ()
        whole, content, size, ended, head = hashlib.sha256(), hashlib.sha256(), 0, False, b""
        with contextlib.ExitStack() as held:
            errors = held.enter_context(tempfile.TemporaryFile())
            file: t.IO[bytes] | None = None
            if path:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                file = held.enter_context(os.fdopen(handle, "wb"))
            argv = self.argv("mariadb-dump", *DUMP, *more, database)
            process = held.enter_context(
                subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, bufsize=1 << 20)  # pylint: disable=ansible-bad-function
            )
            held.callback(process.kill)
            timer = threading.Timer(min(limit_s, threading.TIMEOUT_MAX), process.kill)
            timer.daemon = True
            timer.start()
            held.callback(timer.cancel)
            for line in t.cast("t.IO[bytes]", process.stdout):
                whole.update(line)
                size += len(line)
                ended = line.startswith(_END) or (ended and not line.strip())
                if len(head) < 8192:
                    head += line[:1000]
                # Comments tell of the server and of the position; the switch for old clients is not data either.
                if not line.startswith((b"--", b"/*!999999\\-", b"/*M!999999\\-")) and line.strip():
                    content.update(line)
                if file is not None:
                    file.write(line)
            if file is not None:
                file.flush()
                os.fsync(file.fileno())
            if process.wait() != 0 or not ended:
                errors.seek(0)
                said = errors.read().decode("utf-8", "replace").strip()[-400:]
                raise Failed("mariadb-dump did not come to its end (%d): %s" % (process.returncode, said), "backup.dump")
        where, found = None, _POSITION.search(head)
        if found:
            name, offset = found.group(1).decode(), int(found.group(2))
            gtid = self.rows("SELECT JSON_ARRAY(BINLOG_GTID_POS(%s, %d));" % (literal(name), offset))[0][0]
            where = {"file": name, "position": offset, "gtid": gtid}
        return Dumped(size, whole.hexdigest(), content.hexdigest(), where)

    def comment(self, database: str) -> str | None:
        """The comment of a database; None when there is no such database."""
        sql = "SELECT JSON_ARRAY(SCHEMA_NAME, SCHEMA_COMMENT) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s;"
        found = [str(row[1]) for row in self.rows(sql % literal(database)) if row[0] == database]
        return found[0] if found else None

    def load(self, database: str, file: t.IO[bytes]) -> None:
        """Read a dump into a database that is there and empty."""
        words = ("--max-allowed-packet=1G", "--default-character-set=utf8mb4", "--init-command=SET lock_wait_timeout=%d" % LOCK_S)
        code, said = called(self.argv("mariadb", *words, "--database=" + database), file)
        if code != 0:
            raise Failed("The dump could not be loaded: %s" % said, "backup.load")

    def create(self, database: str, charset: str, collation: str, comment: str) -> None:
        words = (name_literal(database), charset, collation, literal(comment))
        self.run("CREATE DATABASE %s CHARACTER SET %s COLLATE %s COMMENT %s;" % words)


class Scratch:
    """A second server of the same binary, with its own data and socket, for one proof. Nothing of it stays."""

    def __init__(self, spec: t.Mapping[str, t.Any]) -> None:
        self.spec, self.root = spec, str(spec["scratch"])
        name = hashlib.sha256(("%s %s" % (spec["place"], spec["id"])).encode("utf-8")).hexdigest()[:16]
        self.folder = os.path.join(self.root, name)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Link:
        own_folder(self.root)
        # The server's user has to get through to its own folder, and needs to read nothing on the way.
        os.chmod(self.root, 0o711)  # noqa: S103
        if os.path.dirname(self.root) == "/var/lib/osops":
            os.chmod("/var/lib/osops", os.stat("/var/lib/osops").st_mode & 0o777 | 0o111)  # noqa: S103
        sweep(self.root)
        # Held as long as we live: what has no holder is left over, and is removed by the next one who comes.
        self.lock = open(self.folder + ".lock", "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        os.mkdir(self.folder, 0o700)
        try:
            return self._start()
        except BaseException:
            self.__exit__()
            raise

    def _start(self) -> Link:
        user, files = str(self.spec["server_user"]), os.path.join(self.folder, "files")
        data, socket, log = (os.path.join(self.folder, name) for name in ("data", "s", "log"))
        me = pwd.getpwuid(os.geteuid()).pw_name
        os.mkdir(files, 0o700)
        if os.geteuid() == 0:
            entry = pwd.getpwnam(user)
            for path in (self.folder, files):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        # A server that starts removes every #sql* file of its tmpdir, and in /tmp they are those of the server that serves.
        common = ["--no-defaults", "--datadir=" + data, "--user=" + user, "--tmpdir=" + files, "--innodb-log-file-size=16M"]
        common += ["--%s=%s" % pair for pair in sorted(self.spec["variables"].items())]
        root = ["--auth-root-authentication-method=socket", "--auth-root-socket-user=" + me, "--skip-test-db"]
        code, said = called([self.spec["bin"]["mariadb-install-db"], *common, *root])
        if code != 0:
            raise Failed("The server for the proof could not be made: %s" % said, "backup.scratch")
        own = ["--socket=" + socket, "--pid-file=" + os.path.join(self.folder, "pid"), "--log-error=" + log]
        own += ["--secure-file-priv=" + files, *SERVER.split()]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        argv = [self.spec["bin"]["mariadbd"], *common, *own]
        self.process = subprocess.Popen(argv, cwd="/", **quiet)  # type: ignore[call-overload] # pylint: disable=ansible-bad-function
        link = Link(self.spec["bin"], socket, me, self.folder)
        end_at = time.monotonic() + 120
        while True:
            with contextlib.suppress(Failed):
                version = link.rows("SELECT JSON_ARRAY(@@version);")[0][0]
                break
            if self.process.poll() is not None or time.monotonic() > end_at:
                with open(log, "rb") as file:
                    said = file.read().decode("utf-8", "replace").strip()[-600:]
                raise Failed("The server for the proof did not start.", "backup.scratch", "See the evidence.", log=said)
            time.sleep(0.1)
        running = str(self.spec["manifest"]["version"])
        if running.partition("-")[0] != str(version).partition("-")[0]:
            said = "The server runs %s, but its program on the disk is %s, so nothing would be proven."
            raise Failed(said % (running, version), "backup.scratch", "Restart the server after its upgrade first.")
        return link

    def __exit__(self, *_exc: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()  # nothing of it is kept
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.unlink(self.folder + ".lock")
        self.lock.close()


def own_folder(root: str) -> None:
    """Make the folder of proofs, or see that it is ours alone: what lies in it is swept, so it must never be somebody else's."""
    made = not os.path.lexists(root)
    if made:
        os.makedirs(root, 0o711)
    found = os.lstat(root)
    mark = os.path.join(root, ".osops-proof")
    alone = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
    if not alone or not (os.path.lexists(mark) or not os.listdir(root)):
        raise Failed(
            "%s holds something else, or others may write to it." % root,
            "backup.scratch",
            "Name a folder for proofs alone (scratch).",
        )
    os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))


def sweep(root: str) -> None:
    """End and remove what killed proofs have left: folders whose lock nobody holds."""
    for name in os.listdir(root):
        folder = os.path.join(root, name)
        if not re.fullmatch(r"[0-9a-f]{16}", name) or os.path.islink(folder):
            continue
        with open(folder + ".lock", "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            for pid in servers_below(folder):
                say("a proof that was killed left the server %d, ended" % pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            end = time.monotonic() + 10
            while servers_below(folder) and time.monotonic() < end:
                time.sleep(0.05)
            shutil.rmtree(folder, ignore_errors=True)
            os.unlink(folder + ".lock")


def servers_below(folder: str) -> list[int]:
    """Processes that were started with a data directory below ``folder``."""
    needle = ("--datadir=%s/data" % folder).encode()
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open("/proc/%s/cmdline" % pid, "rb") as file:
            if needle in file.read().split(b"\0"):
                found.append(int(pid))
    return found


def backup(spec: t.Mapping[str, t.Any], server: Link) -> None:
    """Dump, prove, and only then say that it is a backup."""
    path = os.path.join(spec["place"], spec["id"])
    now = time.time()
    manifest = dict(spec["manifest"], mark=MARK, proven=False, made_epoch=now)
    manifest["made_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    write_json(path + ".json", manifest)
    try:
        _backup(spec, server, path, manifest)
    except BaseException:
        for ending in (".sql", ".json"):  # what is not proven is no backup, and takes space
            with contextlib.suppress(OSError):
                os.unlink(path + ending)
        raise


def _backup(spec: t.Mapping[str, t.Any], server: Link, path: str, manifest: dict[str, t.Any]) -> None:
    database = spec["database"]
    before, begun = server.tables(database), time.monotonic()
    say("dump of %s" % database)
    dumped = server.dump(database, path + ".sql", bool(spec["log_bin"]))
    middle = time.monotonic()
    floats = server.rows(FLOATS % literal(database))
    changes = rounded(server.rows(inexact(database, floats)))
    if changes:
        raise Failed(changes, "backup.float", FLOAT_HINT)
    if server.tables(database) != before:
        raise Failed("Tables came or went while %s was dumped." % database, "backup.moved", "Take it when no migration runs.")
    say("%d bytes in %.1f s; proof" % (dumped.bytes, middle - begun))
    with Scratch(spec) as scratch:
        for account in spec["definers"]:
            user, _at, host = account.rpartition("@")
            who = "%s@%s" % (literal(user), literal(host))
            scratch.run("CREATE USER IF NOT EXISTS %s ACCOUNT LOCK; GRANT ALL ON *.* TO %s;" % (who, who))
        scratch.create(database, *(manifest[key] for key in ("charset", "collation", "comment")))
        with open(path + ".sql", "rb") as file:
            scratch.load(database, file)
        if scratch.dump(database).content != dumped.content:
            raise Failed("What was loaded from the dump is not what was dumped.", "backup.unproven", UNPROVEN)
        tables = scratch.count(database)
    if list(tables) != before:
        raise Failed("The dump does not hold the tables of %s." % database, "backup.unproven", UNPROVEN)
    if digest_of(path + ".sql") != dumped.sha256:
        raise Failed("The file is not what was written.", "backup.unproven", "Check the disk.")
    manifest.update(bytes=dumped.bytes, sha256=dumped.sha256, content=dumped.content, position=dumped.position, tables=tables)
    manifest.update(seconds={"dump": round(middle - begun, 1), "proof": round(time.monotonic() - middle, 1)}, proven=True)
    write_json(path + ".json", manifest)
    say("proven: %d tables, %d rows" % (len(tables), sum(tables.values())))


def restore(spec: t.Mapping[str, t.Any], server: Link) -> None:
    """Verify, drop, make again, load, count. From right before the drop until all of it is verified the flag is there."""
    database, place = str(spec["database"]), str(spec["place"])
    path, flag = os.path.join(place, spec["id"]), flag_path(place, database)
    with open(path + ".json", encoding="utf-8") as file:
        manifest = json.load(file)
    with open(path + ".sql", "rb") as dump:  # held open: from here on nobody can take it away
        if digest(dump) != manifest["sha256"]:
            raise Failed(
                "The dump is not the one that was proven.", "backup.corrupt", "Nothing was touched. Restore another one."
            )
        os.lseek(dump.fileno(), 0, os.SEEK_SET)  # what loads it takes the file itself, past the buffer of ours
        half, comment = half_of(place, database), server.comment(database)
        state: dict[str, t.Any] = {"begun": time.time(), "rows": {}, "comment": comment}
        if half is not None:  # what was there is known from before the first attempt
            state = {**state, "rows": None, "comment": None, **half}
        elif comment is not None:
            tables = server.tables(database)
            state["rows"] = counted(tables, server.run(counting(database, tables, COUNT_S), "--force"))
        state.update(id=spec["id"], database=database)
        state["comment"] = str(manifest["comment"] if state["comment"] is None else state["comment"])
        alone(server, database, state["comment"], "Nothing was touched.")
        _replace(server, state, manifest, flag, dump, half is None)
    alone(server, database, state["comment"], "Somebody may have written meanwhile.")
    state["done_at"] = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    write_json(last_path(place, database), state)
    remove(flag)
    say("restored: %d tables, %d rows" % (len(manifest["tables"]), sum(manifest["tables"].values())))


def alone(server: Link, database: str, comment: str, so: str) -> None:
    """Raise Failed unless nobody else uses the database."""
    end_at = time.monotonic() + GRACE_S
    while True:
        busy = users_of(server.rows(SESSIONS), database, comment)
        if not busy:
            return
        if time.monotonic() > end_at:
            raise Failed(in_use(database, busy), "backup.in_use", so + " Stop the service everywhere.", sessions=busy[:50])
        time.sleep(0.1)


def _replace(
    server: Link, state: t.Mapping[str, t.Any], manifest: t.Mapping[str, t.Any], flag: str, dump: t.IO[bytes], first: bool
) -> None:
    database = str(state["database"])
    say("drop and load of %s" % database)
    names = NAMES % literal(database)
    there = sorted(server.run(names))
    write_json(flag, state)
    try:
        server.run("SET SESSION lock_wait_timeout = %d; DROP DATABASE IF EXISTS %s;" % (LOCK_S, name_literal(database)))
    except Failed as exc:
        # The server has answered, and takes the locks of all tables before the first one goes.
        if "ERROR 1205 " not in str(exc) or sorted(server.run(names)) != there:
            raise
        if first:
            remove(flag)
        raise Failed(
            "The database %s could not be dropped within %d s: another session holds a lock on it." % (database, LOCK_S),
            "backup.locked",
            "This attempt has dropped nothing. End that session (SHOW FULL PROCESSLIST) and restore again.",
            sessions=[str(row) for row in server.rows(SESSIONS)][:50],
        ) from None
    server.create(database, manifest["charset"], manifest["collation"], str(state["comment"]))
    server.load(database, dump)
    tables = server.count(database)
    if tables != manifest["tables"]:
        wrong = sorted(name for name in {*tables, *manifest["tables"]} if tables.get(name) != manifest["tables"].get(name))
        said = "After the restore the rows of %s are not those of the backup." % ", ".join(wrong[:5])
        raise Failed(said, "backup.rows", "Somebody wrote meanwhile? Stop the service and restore again.")


def end(number: int, _frame: object) -> t.NoReturn:
    raise SystemExit(128 + number)


def main() -> int:
    # A job that is stopped goes the same way as an error: through the removal of what is temporary.
    signal.signal(signal.SIGTERM, end)
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    password = os.environ.pop(PASSWORD, "")
    root = "/run" if os.access("/run", os.W_OK) else tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="osops-mariadb-%d-" % os.getpid(), dir=root)
    try:
        server = Link(spec["bin"], spec["socket"], spec["user"], folder, password)
        taking = spec["act"] == "backup"
        with locked(spec["socket"], spec["database"], not taking):
            (backup if taking else restore)(spec, server)
        answer: dict[str, t.Any] = {"ok": True}
    except Failed as exc:
        answer = exc.answer
    except OSError as exc:
        where = exc.filename or spec["place"]
        answer = {"msg": "The host answered %s to an access of %s." % (exc.strerror, where), "code": "host.os_error"}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(ANSWER + json.dumps(answer) + "\n")
    return 0 if "ok" in answer else 1


if __name__ == "__main__":
    raise SystemExit(main())

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""A MariaDB server on this host, spoken to through its own client over its local socket.

SQL goes to the client's standard input, and a password into an option file that only we can read and that is removed after
each call, so that neither is ever in argv.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import tempfile
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._command import BASE_ENV, run
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError, UnknownAnswerError
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import scrub, tail

OLDEST = (10, 5)  # the first with a comment on a database, where the mark of its owner is kept
SYSTEM_DATABASES = ("mysql", "information_schema", "performance_schema", "sys")
SYSTEM_USERS = ("root", "mysql", "mariadb.sys", "public", "debian-sys-maint")
_DATABASE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}\Z")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}\Z")
_HOST = re.compile(r"[A-Za-z0-9%_.:/-]{1,255}\Z")
_ERROR = re.compile(r"ERROR (\d+) \(\w+\)(?: at line \d+)?: (.*)")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]+\Z")
_REFUSED = (1044, 1045, 1142, 1227, 1698)
_UNREACHABLE = (2002, 2003, 2006, 2013)
# A killed call leaves its option file here; the next call removes it. On a tmpfs where there is one.
_OPTIONS = "osops-mariadb-"


def check_database(name: str) -> str:
    """The name itself, or BadInputError: only names that need no quoting in any place are taken."""
    if not _DATABASE.match(name):
        raise BadInputError(
            "%r is not the name of a database: only letters, digits, _ and - are taken, at most 64." % (name,), "database.input"
        )
    if name.lower() in SYSTEM_DATABASES:
        raise BadInputError("The database %s belongs to MariaDB itself." % name, "database.input", "Name the service's database.")
    return name


def check_user(name: str) -> str:
    """The name of a service's account, or BadInputError."""
    if not _USER.match(name):
        raise BadInputError(
            "%r is not the name of an account: only letters, digits, and . _ - are taken, at most 80." % (name,), "database.input"
        )
    if name.lower() in SYSTEM_USERS:
        raise BadInputError("The account %s belongs to MariaDB itself." % name, "database.input", "Name the service's account.")
    return name


def check_host(pattern: str) -> str:
    """The host part of an account, in the case in which MariaDB keeps it, or BadInputError."""
    if not _HOST.match(pattern):
        raise BadInputError(
            "%r is not a host pattern of an account." % (pattern,), "database.input", "It looks like %, 10.0.0.% or localhost."
        )
    return pattern.lower()


def check_password(password: str) -> str:
    """A password that can stand in a database address as it is, or BadInputError (which does not tell it)."""
    if not password:
        raise BadInputError("secrets.password, the password of the service's account, is not set.", "database.input")
    if not _UNRESERVED.match(password):
        what = "a %, which crashes Keystone's migration tool" if "%" in password else "a character that is special in an address"
        raise BadInputError(
            "The password of the service's account holds %s." % what,
            "database.password",
            "Make one of letters, digits, and . _ ~ - only.",
        )
    return password


def native_hash(password: str) -> str:
    """What mysql_native_password keeps of a password. Sent instead of the password, so that no log of the server has it."""
    inner = hashlib.sha1(password.encode("utf-8")).digest()  # noqa: S324 - MariaDB's own scheme
    return "*" + hashlib.sha1(inner).hexdigest().upper()  # noqa: S324


def text_literal(text: str) -> str:
    """A string of SQL. Only for text without a backslash, whose meaning depends on the server's mode."""
    if "\\" in text or "\0" in text:
        raise BadInputError("%r holds a character that cannot be sent." % (text,), "database.input")
    return "'%s'" % text.replace("'", "''")


def name_literal(name: str) -> str:
    return "`%s`" % name.replace("`", "``")


def pattern_literal(name: str) -> str:
    """The name of a database in a GRANT, where _ and % stand for other letters."""
    return name_literal(name.replace("_", "\\_").replace("%", "\\%"))


def version_of(text: str) -> tuple[int, ...]:
    """``10.11.19-MariaDB-0+deb12u1`` as (10, 11, 19)."""
    found = re.match(r"(?:5\.5\.5-)?(\d+)\.(\d+)\.(\d+)", text)
    if not found:
        raise UnknownAnswerError("%r is not the version of a MariaDB server." % (text,), hint="Unknown is not success.")
    return tuple(int(part) for part in found.groups())


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the server says of itself."""

    node: str
    version: str
    read_only: bool
    replica: bool
    log_bin: bool
    datadir: str
    pid_file: str

    def shown(self) -> dict[str, t.Any]:
        return {"node": self.node, "version": self.version}


class Server:
    """One server, as one of its accounts. Every call is one run of the client."""

    def __init__(self, options: t.Mapping[str, t.Any], admin_password: str = "") -> None:
        self.socket, self.user, self.password = str(options["socket"]), str(options["user"]), admin_password
        # The address of a socket has 108 bytes.
        if not self.socket.startswith("/") or len(self.socket) > 107 or re.search(r"[\"'\\\s]", self.socket):
            raise BadInputError("server.socket %r is not the path of a socket." % (self.socket,), "database.input")
        if not _USER.match(self.user):
            raise BadInputError("server.user %r is not the name of an account." % (self.user,), "database.input")
        if re.search(r"[\r\n\0]", admin_password):
            raise BadInputError("secrets.admin_password holds the end of a line.", "database.input")
        self.secrets = [admin_password]

    def run(self, sql: str, timeout_s: float, *more: str) -> list[str]:
        """Run statements; the lines of the answer. Raises LifecycleError (``database.*``) at the first that fails.

        With ``--force`` the client goes on after a statement that fails; the lines are those of the others.
        """
        with option_file(self.socket, self.user, self.password) as path:
            argv = [program("mariadb"), "--defaults-file=" + path, "--batch", "--raw", "--skip-column-names"]
            done = run([*argv, "--default-character-set=utf8mb4", "--connect-timeout=10", *more], timeout_s, stdin=sql)
        if done.rc != 0 and not ("--force" in more and done.out):
            raise self._problem(done.err)
        return done.out.splitlines()

    def rows(self, sql: str, timeout_s: float, *texts: str) -> list[list[t.Any]]:
        """Rows of a SELECT JSON_ARRAY(...): nulls, numbers and line ends come through. Each %s becomes one of ``texts``."""
        lines = self.run(sql % tuple(text_literal(text) for text in texts) if texts else sql, timeout_s)
        try:
            return [list(json.loads(line)) for line in lines]
        except (ValueError, TypeError):
            raise UnknownAnswerError("The answer of MariaDB is not understood.", hint="Unknown is not success.") from None

    def _problem(self, said: str) -> LifecycleError:
        found = _ERROR.search(said)
        number = int(found.group(1)) if found else 0
        text = scrub(found.group(2) if found else " ".join(tail(said, 2)), self.secrets)
        if number in _UNREACHABLE:
            return LifecycleError(
                "No MariaDB answers at the socket %s of this host." % self.socket,
                "database.unreachable",
                "Start it, or set server.socket to what SELECT @@socket says.",
                {"said": text},
            )
        if number in _REFUSED:
            return LifecycleError(
                "MariaDB refuses %s at %s: %s." % (self.user, self.socket, text.rstrip(".")),
                "database.refused",
                "Run the task with become, as an account that unix_socket knows, or give secrets.admin_password.",
                {"number": number},
            )
        return LifecycleError(
            "MariaDB refused a statement: %s." % text.rstrip("."),
            "database.sql",
            "Nothing after it was done.",
            {"number": number},
        )

    def facts(self, timeout_s: float) -> Facts:
        """Ask who answers. Raises LifecycleError for a server that is too old, or not MariaDB."""
        rows = self.rows(
            "SELECT JSON_ARRAY(@@hostname, @@version, CONCAT(@@read_only), CONCAT(@@log_bin), @@datadir, @@pid_file);", timeout_s
        )
        node, version, read_only, log_bin, datadir, pid_file = rows[0]
        if "mariadb" not in str(version).lower() or version_of(str(version))[:2] < OLDEST:
            raise LifecycleError(
                "The server on %s is %s; MariaDB %d.%d or newer is needed." % (node, version, *OLDEST), "database.version",
                "An older one has no comment on a database, where the mark of its owner is kept.",
            )  # fmt: skip
        replica = bool(self.run("SHOW ALL SLAVES STATUS;", timeout_s))
        pid_path = os.path.join(str(datadir), str(pid_file))
        # A number, or in newer servers one of several words: whatever is not plainly off is on.
        off = ("0", "OFF")
        return Facts(str(node), str(version), read_only not in off, replica, log_bin not in off, str(datadir), pid_path)

    def login(self, user: str, password: str, timeout_s: float) -> str:
        """Log in as a service does, on this socket. Which account MariaDB took it for; LifecycleError when it is refused."""
        other = Server({"socket": self.socket, "user": user}, password)
        return str(other.run("SELECT CURRENT_USER();", timeout_s)[0])


def refuse_reader(facts: Facts) -> None:
    """Raise LifecycleError where a change would be refused, or would not come from the source of all replicas."""
    if facts.read_only or facts.replica:
        what = "read-only" if facts.read_only else "a replica of another server"
        raise LifecycleError(
            "The database node %s (%s) is %s." % (facts.node, facts.version, what), "database.read_only",
            "Run this on the host of the writer. Nothing was changed.",
        )  # fmt: skip


def program(name: str) -> str:
    """The path of one of MariaDB's programs. Raises LifecycleError when this host does not have it."""
    path = shutil.which(name, path=BASE_ENV["PATH"] + ":/usr/libexec")
    if path is None:
        raise LifecycleError(
            "This host has no program %s." % name, "database.program", "Run this on the database's host, with MariaDB's client."
        )
    return path


@contextlib.contextmanager
def option_file(socket: str, user: str, password: str) -> t.Iterator[str]:
    """An option file that only we can read, for one call. What killed calls have left is removed first."""
    root = "/run" if os.access("/run", os.W_OK) else tempfile.gettempdir()
    for name in os.listdir(root):
        owner = name[len(_OPTIONS) :].partition("-")[0] if name.startswith(_OPTIONS) else ""
        path = os.path.join(root, name)
        with contextlib.suppress(FileNotFoundError):  # another call ends, and removes its own
            if owner.isdigit() and not os.path.isdir("/proc/" + owner) and os.lstat(path).st_uid == os.geteuid():
                shutil.rmtree(path, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix="%s%d-" % (_OPTIONS, os.getpid()), dir=root)
    try:
        path = os.path.join(folder, "my.cnf")
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write('[client]\nsocket="%s"\nuser="%s"\n' % (socket, user))
            if password:
                file.write('password="%s"\n' % password.replace("\\", "\\\\").replace('"', '\\"'))
        yield path
    finally:
        shutil.rmtree(folder, ignore_errors=True)

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real MariaDB on a private socket, and the hands called on it as processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing as t
import uuid
from pathlib import Path

from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb import worker

HAND = Path(__file__).with_name("hand.py")
PASSWORD = "Sw0rdfish.4711"  # noqa: S105
ADMIN = 'Adm1n "quoted" \\ #4711'


def program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/libexec")


def until(look: t.Callable[[], t.Any], seconds: float = 30.0) -> t.Any:
    end = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < end, "not seen in %.0f s" % seconds
        time.sleep(0.01)
    return seen


class Maria:
    """One server that a test may do anything to."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.socket = folder, str(folder / "s")
        (folder / "tmp").mkdir()
        data = "--datadir=%s" % (folder / "data")
        # Of its own: a server that starts removes the #sql* files of all others there.
        tmpdir = "--tmpdir=%s" % (folder / "tmp")
        made = [program("mariadb-install-db"), "--no-defaults", data, tmpdir, "--user=root", "--skip-test-db"]
        subprocess.run(
            [*map(str, made), "--auth-root-authentication-method=socket", "--auth-root-socket-user=root"],
            check=True,
            capture_output=True,
        )
        words = ["--no-defaults", data, tmpdir, "--user=root", "--socket=" + self.socket]
        words += ["--pid-file=%s" % (folder / "pid")]
        words += [
            "--skip-networking",
            "--innodb-buffer-pool-size=32M",
            "--performance-schema=OFF",
            "--log-error=%s" % (folder / "log"),
        ]
        words += ["--general-log", "--general-log-file=%s" % (folder / "general.log"), "--event-scheduler=ON", *options]
        self.process = subprocess.Popen([str(program("mariadbd")), *words])
        until(lambda: subprocess.run(self.argv("SELECT 1"), capture_output=True, check=False).returncode == 0)

    def argv(self, statement: str, user: str = "root") -> list[str]:
        return ["mariadb", "--no-defaults", "--socket=" + self.socket, "--user=" + user, "-N", "-e", statement]

    def sql(self, statement: str) -> str:
        done = subprocess.run(self.argv(statement), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for database in ("key_stone", "other", "nova"):
            Path(worker.lock_path(self.socket, database)).unlink(missing_ok=True)


class Lab:
    """The hands, with a scope, a place and jobs of their own."""

    def __init__(self, maria: Maria, folder: Path, collections: Path) -> None:
        self.maria, self.folder, self.collections = maria, folder, collections
        self.scope = "test-%s" % uuid.uuid4()
        self.place, self.jobs = folder / "place", folder / "jobs"
        # A socket lies below it, whose path has at most 107 letters: not below the folder of a test with a long name.
        self.scratch = Path(tempfile.mkdtemp(prefix="osops-")) / "scratch"

    def start(self, name: str, args: dict[str, t.Any], check: bool = False) -> subprocess.Popen[str]:
        given = {
            "server": {"socket": self.maria.socket},
            "scope": self.scope,
            "deadline": 120,
            "_ansible_check_mode": check,
            **args,
        }
        environ = {**os.environ, "PYTHONPATH": str(self.collections), "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            [sys.executable, str(HAND), name, str(self.jobs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": given}))
        process.stdin.close()
        process.stdin = None
        return process

    def module(self, name: str, args: dict[str, t.Any], check: bool = False) -> dict[str, t.Any]:
        out, err = self.start(name, args, check).communicate(timeout=180)
        assert out, err
        answer: dict[str, t.Any] = json.loads(out)
        answer.pop("invocation", None)
        assert "Traceback" not in out + err
        assert not [secret for secret in (PASSWORD, ADMIN) if secret in out]
        return answer

    def database(self, state: str = "present", check: bool = False, **more: t.Any) -> dict[str, t.Any]:
        """Call mariadb_database for the database key_stone of east/keystone."""
        base = {"name": "key_stone", "user": "keystone", "from": ["%", "10.0.0.%"], **more.pop("database", {})}
        args = {"state": state, "database": base, "owner": "east/keystone", "secrets": {"password": PASSWORD}, **more}
        return self.module("mariadb_database", args, check)

    def backup_args(self, state: str, **more: t.Any) -> dict[str, t.Any]:
        places = {"place": str(self.place), "scratch": str(self.scratch)}
        return {"state": state, "database": "key_stone", "service": "keystone", **places, **more}

    def backup(self, state: str = "present", check: bool = False, **more: t.Any) -> dict[str, t.Any]:
        """Call mariadb_backup for the same database."""
        return self.module("mariadb_backup", self.backup_args(state, **more), check)

    def fill(self, rows: int = 50) -> None:
        """A database with a bit of everything that a dump may forget."""
        self.maria.sql(
            """SET NAMES utf8mb4; USE key_stone; CREATE TABLE key_stone.project (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(190), extra BLOB,
            made TIMESTAMP NOT NULL DEFAULT '2001-01-01 00:00:00', KEY by_name (name)) COLLATE utf8mb4_bin;
            CREATE TABLE key_stone.`odd ``name` (a INT, b INT, UNIQUE (b, a)); CREATE TABLE key_stone.empty (id INT);
            INSERT INTO key_stone.`odd ``name` VALUES (3, 1), (1, 2), (2, 3);
            INSERT INTO key_stone.project (name, extra) SELECT CONCAT('pröject ', seq, '\\n-- no comment'), UNHEX(SHA2(seq, 512)) FROM seq_1_to_%d;
            CREATE DEFINER=`keystone`@`%` VIEW key_stone.names AS SELECT name FROM key_stone.project;
            CREATE TRIGGER key_stone.tick BEFORE INSERT ON key_stone.project FOR EACH ROW SET NEW.name = UPPER(NEW.name);
            CREATE PROCEDURE key_stone.nothing() SELECT 1;
            CREATE EVENT key_stone.later ON SCHEDULE AT '2037-01-01 00:00:00' DO DELETE FROM key_stone.project;"""
            .replace("%d", str(rows))
        )  # fmt: skip

    def dump(self) -> str:
        done = subprocess.run(
            ["mariadb-dump", "--no-defaults", "--socket=" + self.maria.socket, "--user=root", "--skip-dump-date", "--order-by-primary"]
            + ["--routines", "--triggers", "--events", "--hex-blob", "key_stone"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    def leftovers(self) -> list[str]:
        """What a proof may have left: files of the scratch place but its mark, servers, option files."""
        found = [str(path) for path in self.scratch.glob("*") if path.name != ".osops-proof"] if self.scratch.is_dir() else []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                line = Path("/proc/%s/cmdline" % pid).read_bytes().decode()
            except OSError:
                continue
            if str(self.scratch) in line and "mariadbd" in line:
                found.append(line)
        return found

    def end(self) -> None:
        """End what this lab's jobs have left running, and its lock."""
        shutil.rmtree(self.scratch.parent, ignore_errors=True)
        for path in self.jobs.glob("*.pid"):
            try:
                os.killpg(int(path.read_text()), signal.SIGKILL)
            except ProcessLookupError:
                continue
        (Path("/var/lib/osops/fence") / self.scope).unlink(missing_ok=True)


def forgotten_options() -> list[Path]:
    """Folders with option files whose process is gone."""
    return [path for path in Path("/run").glob("osops-mariadb-*") if not Path("/proc/" + path.name.split("-")[2]).exists()]


def failed(answer: dict[str, t.Any], code: str) -> dict[str, t.Any]:
    """The answer is a failure with this code, in one clear sentence, and nothing was changed."""
    verdict = dict(answer["verdict"])
    assert verdict["outcome"] != "pass", answer
    assert verdict["code"] == code, answer
    assert verdict["reason"].endswith(".")
    return verdict

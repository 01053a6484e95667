# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rig under load, for the demo, the benchmarks and the tests on the rig: its record, its playbooks, its hosts, its prober."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import yaml

from tests.rig import snapshot
from tests.rig.prober.record import Folder

ROOT = Path(__file__).resolve().parents[2]
RELEASES = "/opt/osops/keystone/releases/"
BIN = Path(sys.executable).parent
SHOW_STAT = """
python3 - <<'END' | cut -d, -f1,2,18 | grep ^keystone,
import socket
with socket.socket(socket.AF_UNIX) as s:
    s.connect("%s")
    s.sendall(b"show stat -1 4 -1\\n")
    print(s.makefile().read())
END
"""


class UnusableError(Exception):
    """The rig or the load is not what it should be; the message says what."""


@dataclasses.dataclass(frozen=True)
class Rig:
    """One rig by its folder below build/ (tests/rig/README.md says what lies there)."""

    folder: Path
    out: Path
    collections: Path | str
    record: str = "cloud.yml"
    group: str = "keystone"
    """the hosts of its Keystone"""

    @property
    def inventory(self) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", yaml.safe_load((self.folder / "inventory.yml").read_text(encoding="utf-8")))

    def hosts(self, group: str) -> dict[str, str]:
        """Host -> address."""
        members = self.inventory["all"]["children"][group]["hosts"]
        return {name: values["ansible_host"] for name, values in members.items()}

    @property
    def store(self) -> Path:
        return self.out / "store.db"

    def want(self, version: str, **more: t.Any) -> None:
        """Change the record as an operator does: version, lock and digest of its service; nothing happens to the cloud."""
        path = self.folder / self.record
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
        ((name, service),) = record["services"].items()
        lock = "locks/%s-%s.txt" % (name, version)
        digest = hashlib.sha256((self.folder / lock).read_bytes()).hexdigest()
        service["release"].update(version=version, lock=lock, digest="sha256:" + digest)
        service.update(more)
        path.write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")

    def environment(self) -> dict[str, str]:
        """What an operator's shell has, and nothing of this process's own Ansible settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "OSOPS_"))}
        ours = {
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_INJECT_FACT_VARS": "false",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORKS": "10",
            "LC_ALL": "C.UTF-8",
        }
        return {**kept, **ours, "PATH": "%s:%s" % (BIN, os.environ.get("PATH", "/usr/bin:/bin"))}

    def command(self, playbook: str, *more: str) -> list[str]:
        given = {"osops_record": str(self.folder / self.record), "osops_store": "sqlite:///%s" % self.store}
        return [str(BIN / "ansible-playbook"), "-i", str(self.folder / "inventory.yml"), playbook, "-e", json.dumps(given), *more]

    def start(self, playbook: str, log: Path, *more: str) -> subprocess.Popen[bytes]:
        """Start a playbook as a process group of its own, without a terminal; its output is appended to ``log``."""
        with open(log, "ab") as out:
            return subprocess.Popen(
                self.command(playbook, *more),
                cwd=self.out,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def play(self, playbook: str, log: Path, *more: str, limit_s: float = 900) -> int:
        """Run a playbook to its end; raises UnusableError when it is still running after ``limit_s`` seconds."""
        process = self.start(playbook, log, *more)
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired as exc:
            raise UnusableError("%s is still running after %.0f s; see %s" % (playbook, limit_s, log)) from exc
        finally:
            kill(process)

    def on(self, host: str, script: str) -> str:
        """Run a shell script on a host over ssh; raises UnusableError with what it said when it fails."""
        words = [*snapshot.logins_of(self.folder / "inventory.yml")[host], "sh -s"]
        done = subprocess.run(words, input=script, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode != 0:
            raise UnusableError("%s: %s" % (host, (done.stdout + done.stderr).strip()))
        return done.stdout

    def versions(self) -> dict[str, str]:
        """The release that each Keystone process has mapped, asked of the kernel and not of the code under test."""
        script = "grep -o '%s[^/]*' /proc/$(systemctl show -P MainPID keystone-api)/maps | sort -u" % RELEASES
        return {host: self.on(host, script).strip().removeprefix(RELEASES).split("-")[0] for host in self.hosts(self.group)}

    def journal(self) -> list[tuple[str, str, str, float]]:
        """(way, step, kind, time) of the newest run, read with plain SQL; empty while there is no store."""
        if not self.store.exists():
            return []
        query = (
            "SELECT way, step, kind, at FROM osops_journal WHERE run = "
            "(SELECT id FROM osops_run ORDER BY token DESC LIMIT 1) ORDER BY seq"
        )
        with contextlib.closing(sqlite3.connect(self.store, timeout=30)) as c:
            known = c.execute("SELECT 1 FROM sqlite_master WHERE name = 'osops_journal'").fetchone()
            return list(c.execute(query)) if known else []

    def settled(self, limit_s: float = 120.0) -> None:
        """Wait until every server of every balancer is up; raises UnusableError with what is not."""
        ask = SHOW_STAT % self.inventory["all"]["vars"]["rig_haproxy_socket"]
        expected = len(self.hosts("lbs")) * len(self.hosts(self.group))
        seen: list[str] = []

        def all_up() -> bool:
            seen[:] = [line for host in self.hosts("lbs") for line in self.on(host, ask).split("\n") if line]
            return len(seen) == expected and all(line.endswith(",UP") for line in seen)

        try:
            until(all_up, limit_s, "all servers up on all balancers")
        except UnusableError as exc:
            raise UnusableError("%s: %s" % (exc, " ".join(seen))) from exc

    def releases_over_time(self, first: str) -> dict[str, list[tuple[float, str]]]:
        """Host -> (since when, version): what the journal proved that each instance ran, beginning with ``first``."""
        found = {host: [(0.0, first)] for host in self.hosts(self.group)}
        query = (
            "SELECT step, at, after FROM osops_journal WHERE kind = 'done' "
            "AND (step LIKE '%/change' OR step LIKE '%/revert') ORDER BY seq"
        )
        with contextlib.closing(sqlite3.connect(self.store, timeout=30)) as c:
            for step, at, after in c.execute(query):
                host = step.partition("@")[2].partition("/")[0]
                if host in found:
                    found[host].append((at, json.loads(after)["version"]))
        return found

    def last_run(self) -> tuple[str, str]:
        """State and reason of the newest run."""
        if not self.store.exists():
            return ("none", "no run was opened")
        with contextlib.closing(sqlite3.connect(self.store, timeout=30)) as c:
            query = "SELECT state, reason FROM osops_run ORDER BY token DESC LIMIT 1"
            return t.cast("tuple[str, str]", c.execute(query).fetchone())


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process group of a playbook, and reap it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Load:
    """The prober as a process beside what is measured: requests at a fixed rate through both balancers."""

    def __init__(
        self,
        rig: Rig,
        folder: Path,
        rate: float,
        port: int = 5000,
        password: str = "keystone_admin_password",  # noqa: S107 - the name of a variable
        ask: t.Sequence[str] = (),
    ) -> None:
        """``ask``: more words for the prober, for another service than Keystone."""
        self.rig = rig
        self.port = port
        self.password = password
        self.folder = folder
        self.rate = rate
        self.ask = ask

    def __enter__(self) -> Load:
        self.folder.mkdir(parents=True, exist_ok=True)
        words = ["run", "--dir", str(self.folder), "--rate", str(self.rate), *self.ask]
        for name, address in self.rig.hosts("lbs").items():
            words += ["--balancer", "%s=http://%s:%d" % (name, address, self.port)]
        # The password goes by the environment: argv is everybody's to read.
        environment = {**self.rig.environment(), "OS_PASSWORD": self.rig.inventory["all"]["vars"][self.password]}
        with open(self.folder / "prober.log", "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.rig.prober", *words],
                cwd=ROOT,
                env={**environment, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def mark(self, name: str) -> None:
        """From now on, requests belong to ``name``."""
        if self.process.poll() is not None:
            raise UnusableError("the prober has ended: %s" % (self.folder / "prober.log").read_text(encoding="utf-8").strip())
        Folder(self.folder).mark(name)

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def report(self) -> dict[str, t.Any]:
        """The prober's report, held against the logs of both balancers; raises UnusableError when they disagree."""
        words = ["reconcile", "--dir", str(self.folder), "--inventory", str(self.rig.folder / "inventory.yml")]
        command = [sys.executable, "-m", "tests.rig.prober", *words]
        done = subprocess.run(command, cwd=ROOT, env=self.rig.environment(), capture_output=True, text=True, check=False)
        if done.returncode not in (0, 4):
            raise UnusableError("the counts are void: %s" % (done.stdout + done.stderr).strip())
        return t.cast("dict[str, t.Any]", json.loads((self.folder / "report.json").read_text(encoding="utf-8")))


def answered(load: Load, first: str) -> dict[str, dict[str, int]]:
    """Step of the load -> version -> requests that it answered: the balancers' logs name the server, the journal its version."""
    servers = json.loads((load.folder / "answers.json").read_text(encoding="utf-8"))
    known = load.rig.releases_over_time(first)
    folder = Folder(load.folder)
    marks = folder.marks()
    counts: dict[str, dict[str, int]] = {mark.name: {} for mark in marks}
    for probe in folder.probes():
        step = next((mark.name for mark in reversed(marks) if mark.at <= probe.due), None)
        host = servers.get(probe.id)
        if step is None or host not in known:
            continue
        version = next(version for since, version in reversed(known[host]) if since <= probe.done)
        counts[step][version] = counts[step].get(version, 0) + 1
    return counts


def until(true: t.Callable[[], bool], limit_s: float, what: str) -> None:
    """Wait for something; raises UnusableError at the limit."""
    deadline = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline:
            raise UnusableError("%s did not happen in %.0f s" % (what, limit_s))
        time.sleep(0.1)

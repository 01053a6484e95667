# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole life of a service on bare hosts, under load, beside a cloud that must not notice: deployed, unhealthy and removed again,
deployed, put right where it drifted, changed, taken back, backed up, finalized, restored, removed. Every flow says beforehand how it must end.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shutil
import sys
import time
import typing as t
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.rig.neighbour import Neighbour
from tests.rig.snapshot import difference, take
from tests.rig.theatre import ROOT, Load, Rig, UnusableError, until

OLD, NEW = "23.0.2", "24.1.0"
PORT = 5002
LASTS_S = 7200
RECORD = "green.yml"
# What the service that comes and goes may change, and nothing else (the form is the one of tests/rig/snapshot.py).
ITS_OWN = [
    "green* * *",
    "db1 table keystone.*",  # the load beside writes there
    "db1 file /var/lib/osops*",
    "lb* file /var/lib/osops*",
    "lb* process haproxy.service child *",
]
# Somebody else's drop-in, with which the new unit cannot start on one host.
NO_START = """
set -eu
mkdir -p /etc/systemd/system/keystone-api.service.d
printf '[Service]\\nExecStartPre=/bin/false\\n' > /etc/systemd/system/keystone-api.service.d/no-start.conf
systemctl daemon-reload
"""
STOP = "systemctl stop keystone-api.service"
EDIT = "printf '[DEFAULT]\\ndebug = true\\n' >> /etc/keystone/keystone.conf"
# What somebody does who wants to look at a server, and forgets it.
LEAVE_DRAINED = """
python3 - <<'END'
import socket
with socket.socket(socket.AF_UNIX) as s:
    s.connect("%s")
    s.sendall(b"set server green/green2 state drain\\n")
    assert not s.makefile().read().strip()
END
"""
# What an operator's cron job does on one host; the others get the keys a moment later.
ROTATE = """
set -eu
runuser -u keystone -- /opt/osops/keystone/keystone-api/bin/keystone-manage --config-file /etc/keystone/keystone.conf fernet_rotate
test -f /etc/keystone/fernet-keys/2
tar -C /etc/keystone/fernet-keys -cf - . | base64 -w 0
"""
TAKE_KEYS = """
set -eu
base64 -d << END | tar -C /etc/keystone/fernet-keys -xpf -
%s
END
test -f /etc/keystone/fernet-keys/2
"""
POLICY = {"repair": ["process", "files", "traffic"], "backup_every": 86400}
MEND_START = "rm -r /etc/systemd/system/keystone-api.service.d && systemctl daemon-reload"


@dataclasses.dataclass
class Flow:
    """One row of the table."""

    name: str
    seconds: float
    result: str
    good: bool
    outage: bool = False
    """Whether the flow announces one: then requests may fail in it."""
    left_over: list[str] = dataclasses.field(default_factory=list)


class Life:
    """Flows on one rig, one after the other; the load on the cloud beside goes through all of them."""

    def __init__(self, rig: Rig, beside: Load, console: Console) -> None:
        self.rig, self.console = rig, console
        self.loads = [beside]
        """of other services, which must notice nothing of any flow"""
        self.flows: list[Flow] = []

    def flow(
        self,
        name: str,
        verb: str,
        expect: str,
        *more: str,
        own: Load | None = None,
        gone: bool = False,
        outage: bool = False,
        meanwhile: t.Callable[[], None] | None = None,
        rig: Rig | None = None,
    ) -> None:
        """Run a verb; it must end as ``expect`` says, and with ``gone`` it must leave nothing of the service.

        ``meanwhile`` is done by somebody else as soon as a first instance is back in traffic. ``rig`` has the record of another service.
        """
        rig = rig or self.rig
        for load in [*self.loads, *([own] if own else [])]:
            load.mark(name)
        begun, since = time.monotonic(), time.time()
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(self._when_one_is_back, since, meanwhile) if meanwhile is not None else None
            rc = rig.play("osops.lifecycle." + verb, rig.out / "playbooks.log", *more)
            if other is not None:
                other.result()
        seconds = time.monotonic() - begun
        state, reason = rig.last_run()
        otherwise = "told" if verb == "operational" else "refused"
        result = "%s (exit %d)" % (state if rc == 0 or state != "succeeded" else otherwise, rc)
        left = self.left_over() if gone else []
        good = result == expect and not left
        self.flows.append(Flow(name, seconds, result, good, outage, left))
        says = "" if good else "; expected %s. %s %s" % (expect, reason, "; ".join(left))
        self.console.print("%-44s %6.1f s  %s%s" % (name, seconds, result, says))

    def _when_one_is_back(self, since: float, act: t.Callable[[], None]) -> None:
        def back() -> bool:
            return any(step.endswith("/admit") and kind == "done" and at > since for _way, step, kind, at in self.rig.journal())

        until(back, 600, "a first instance back in traffic")
        act()

    def hold(self, name: str, true: bool) -> None:
        """Something that must be true between two flows, as a row of its own."""
        self.flows.append(Flow(name, 0.0, "yes" if true else "no", true))
        self.console.print("%-44s %10s %s" % (name, "", "yes" if true else "no"))

    def left_over(self) -> list[str]:
        """What there is of the service on hosts, balancers and in the database, asked of them and not of the code under test."""
        found = []
        for host in self.rig.hosts(self.rig.group):
            script = (
                "ls -d /opt/osops /etc/keystone /etc/systemd/system/keystone-api.service 2> /dev/null; "
                "pgrep -u keystone -l 2> /dev/null; getent passwd keystone; true"
            )
            found += ["%s: %s" % (host, line) for line in self.rig.on(host, script).splitlines()]
        for host in self.rig.hosts("lbs"):
            script = "ls /etc/haproxy/conf.d; ss -ltnH 'sport = :%d'" % PORT
            found += ["%s: %s" % (host, line) for line in self.rig.on(host, script).splitlines()]
        script = "mariadb -N -e \"SHOW DATABASES LIKE 'green'; SELECT user FROM mysql.user WHERE user = 'green'\""
        return found + ["db1: %s" % line for line in self.rig.on("db1", script).splitlines()]


def rotate(rig: Rig) -> None:
    """New fernet keys on one host, and some seconds later on the other, as a cron job does it."""
    keys = rig.on("green1", ROTATE)
    time.sleep(3)
    rig.on("green2", TAKE_KEYS % keys.strip())


def settings(**more: dict[str, t.Any]) -> dict[str, t.Any]:
    """The service's configuration in the record: the rig's, and ``more`` sections."""
    return {"settings": {"identity": {"password_hash_rounds": 4}, **more}}


def configured(rig: Rig) -> list[bool]:
    """Whether tokens last as the new configuration says, for each instance: asked of its file."""
    script = "grep -c '^expiration = %d$' /etc/keystone/keystone.conf || true" % LASTS_S
    return [rig.on(host, script).strip() == "1" for host in rig.hosts(rig.group)]


def issue(rig: Rig) -> str:
    """A token of the service, through a balancer."""
    password = rig.inventory["all"]["vars"]["green_admin_password"]
    user = {"name": "admin", "domain": {"name": "Default"}, "password": password}
    scope = {"project": {"name": "admin", "domain": {"name": "Default"}}}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
    url = "http://%s:%d/v3/auth/tokens" % (rig.hosts("lbs")["lb1"], PORT)
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310 - the rig's own
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return str(answer.headers["X-Subject-Token"])


def valid(rig: Rig, host: str, token: str) -> bool:
    """Whether one instance itself, past the balancers, takes a token. The dots make it another text with the same meaning: no cache knows it."""
    url = "http://%s:%d/v3/auth/tokens" % (rig.hosts(rig.group)[host], PORT)
    headers = {"X-Auth-Token": issue(rig), "X-Subject-Token": token + "...."}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:  # noqa: S310 - the rig's own
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False


def perform(rig: Rig, rate: float, console: Console, to_and_fro: bool = True) -> dict[str, t.Any]:
    """All flows, with ``to_and_fro`` also back and forward again before finalize; returns the report."""
    shutil.rmtree(rig.out, ignore_errors=True)
    rig.out.mkdir(parents=True)
    before = take(rig.folder / "inventory.yml")
    old = Rig(rig.folder, rig.out, rig.collections)
    with Load(old, rig.out / "beside", rate) as beside:
        time.sleep(2)
        life = Life(rig, beside, console)
        rig.want(OLD)
        rig.on("green2", NO_START)
        life.flow("deploy, unhealthy: removed again", "deploy", "rolled_back (exit 2)", gone=True)
        rig.on("green2", MEND_START)
        life.flow("deploy", "deploy", "succeeded (exit 0)")
        life.flow("deploy again: nothing to do", "deploy", "succeeded (exit 0)")
        rig.on("green2", STOP)
        life.flow("a process stopped: told", "operational", "told (exit 2)")
        rig.want(OLD, operational=POLICY)
        life.flow("a process stopped: put right, backed up", "operational", "succeeded (exit 0)")
        life.flow("all is well", "operational", "succeeded (exit 0)")
        loads = {"beside": beside}
        with Load(rig, rig.out / "own", rate, PORT, "green_admin_password") as own:
            loads["own"] = own
            time.sleep(2)
            life.loads.append(own)
            with Neighbour(life, rate) as neighbour:
                loads["placement"] = neighbour.load
                rig.want(NEW, config=settings(token={"expiration": LASTS_S}))
                token = issue(rig)
                name = "upgrade %s -> %s with configuration, keys rotated" % (OLD, NEW)
                life.flow(name, "upgrade", "succeeded (exit 0)", meanwhile=lambda: rotate(rig))
                hosts = rig.hosts("green")
                life.hold("a token of before is valid on every instance", all(valid(rig, host, token) for host in hosts))
                life.hold("the new configuration is on both", configured(rig) == [True, True])
                if to_and_fro:
                    rig.want(OLD, config=settings())
                    life.flow("rollback %s -> %s" % (NEW, OLD), "rollback", "succeeded (exit 0)")
                    life.hold("the former configuration is on both", configured(rig) == [False, False])
                    rig.want(NEW)
                    life.flow("upgrade once more, same configuration", "upgrade", "succeeded (exit 0)")
            life.loads.remove(own)
            rig.on("green1", EDIT)
            rig.on("lb1", LEAVE_DRAINED % rig.inventory["all"]["vars"]["rig_haproxy_socket"])
            life.flow("a file edited, a server drained: put right", "operational", "succeeded (exit 0)", own=own)
            life.flow("backup", "backup", "succeeded (exit 0)", own=own)
            life.flow("finalize", "finalize", "succeeded (exit 0)", own=own)
            rig.want(OLD, config=settings())
            life.flow("rollback after finalize", "rollback", "refused (exit 2)", own=own)
            consent = ("-e", "osops_consent=restore")
            life.flow("the same with consent: restored", "rollback", "succeeded (exit 0)", *consent, own=own, outage=True)
            life.hold("with the configuration of before", configured(rig) == [False, False])
            if to_and_fro:
                rig.want(NEW, strategy="offline")
                life.flow("upgrade with an outage (offline)", "upgrade", "succeeded (exit 0)", own=own, outage=True)
            own.mark("end")
            time.sleep(2)
        life.flow("remove, with its data", "remove", "succeeded (exit 0)", "-e", "osops_consent=purge_data", gone=True)
        life.flow("remove again: nothing to do", "remove", "succeeded (exit 0)")
        beside.mark("end")
        time.sleep(1)
    touched = difference(before, take(rig.folder / "inventory.yml"), ITS_OWN)
    figures = {where: load.report() for where, load in loads.items()}
    rows = {where: {row["name"]: row for row in figure["steps"]} for where, figure in figures.items()}
    flows = []
    for flow in life.flows:
        row: dict[str, t.Any] = {**dataclasses.asdict(flow), "seconds": round(flow.seconds, 1)}
        for where in loads:
            seen = rows[where].get(flow.name, {})
            row[where] = {name: seen.get(name) for name in ("sent", "failed", "longest_gap_s", "p99_ms")}
        flows.append(row)
    announced = {flow.name for flow in life.flows if flow.outage}
    failed = {
        where: sum(row["failed"] for name, row in rows[where].items() if where != "own" or name not in announced)
        for where in rows
    }
    good = all(flow.good for flow in life.flows) and not any(failed.values()) and not touched
    return {"rate": rate, "flows": flows, "failed": failed, "touched": touched, "good": good}


def show(report: dict[str, t.Any], console: Console) -> None:
    """The table, and what else was touched."""
    table = Table(title="The life of a Keystone, at %.0f requests/s, beside another one at the same rate" % report["rate"])
    head = (
        "flow",
        "seconds",
        "result",
        "requests",
        "failed",
        "longest gap s",
        "beside: requests",
        "failed",
        "Placement: requests",
        "failed",
    )
    for name in (*head, "left over"):
        table.add_column(name, justify="left" if name in ("flow", "result") else "right", overflow="fold")
    for flow in report["flows"]:
        own, beside, placement = flow["own"], flow["beside"], flow["placement"]
        cells = [
            flow["seconds"],
            flow["result"],
            own["sent"],
            own["failed"],
            own["longest_gap_s"],
            beside["sent"],
            beside["failed"],
            placement["sent"],
            placement["failed"],
        ]
        table.add_row(flow["name"], *("" if cell is None else str(cell) for cell in cells), str(len(flow["left_over"])))
    console.print(table)
    console.print("touched beside what the service owns: %s" % ("; ".join(report["touched"]) or "nothing"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rig", type=Path, required=True, help="folder of a running rig with bare hosts")
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second, at each of the two services")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "life")
    parser.add_argument("--collections", type=Path, default=ROOT / "build" / "collections")
    args = parser.parse_args()
    console = Console(width=160, highlight=False)
    rig = Rig(args.rig.resolve(), args.out.resolve(), args.collections.resolve(), RECORD, "green")
    try:
        report = perform(rig, args.rate, console)
    except UnusableError as exc:
        console.print("this cannot be judged: %s" % exc)
        return 3
    with contextlib.suppress(FileNotFoundError):
        (args.out / "report.json").unlink()
    (args.out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(report, console)
    return 0 if report["good"] else 1


if __name__ == "__main__":
    sys.exit(main())

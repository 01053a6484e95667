# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole life of a service on bare hosts, under load, beside a cloud that must not notice: deployed, unhealthy and removed again,
deployed, changed, taken back, backed up, finalized, removed. Every flow says beforehand how it must end.
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
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.rig.snapshot import difference, take
from tests.rig.theatre import ROOT, Load, Rig, UnusableError

OLD, NEW = "23.0.2", "24.1.0"
PORT = 5002
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
MEND_START = "rm -r /etc/systemd/system/keystone-api.service.d && systemctl daemon-reload"


@dataclasses.dataclass
class Flow:
    """One row of the table."""

    name: str
    seconds: float
    result: str
    good: bool
    left_over: list[str] = dataclasses.field(default_factory=list)


class Life:
    """Flows on one rig, one after the other; the load on the cloud beside goes through all of them."""

    def __init__(self, rig: Rig, beside: Load, console: Console) -> None:
        self.rig, self.beside, self.console = rig, beside, console
        self.flows: list[Flow] = []

    def flow(self, name: str, verb: str, expect: str, *more: str, own: Load | None = None, gone: bool = False) -> None:
        """Run a verb; it must end as ``expect`` says, and with ``gone`` it must leave nothing of the service."""
        for load in (self.beside, own):
            if load is not None:
                load.mark(name)
        begun = time.monotonic()
        rc = self.rig.play("osops.lifecycle." + verb, self.rig.out / "playbooks.log", *more)
        seconds = time.monotonic() - begun
        state, reason = self.rig.last_run()
        result = "%s (exit %d)" % (state, rc) if rc == 0 or state != "succeeded" else "refused (exit %d)" % rc
        left = self.left_over() if gone else []
        good = result == expect and not left
        self.flows.append(Flow(name, seconds, result, good, left))
        says = "" if good else "; expected %s. %s %s" % (expect, reason, "; ".join(left))
        self.console.print("%-44s %6.1f s  %s%s" % (name, seconds, result, says))

    def left_over(self) -> list[str]:
        """What there is of the service on hosts, balancers and in the database, asked of them and not of the code under test."""
        found = []
        for host in self.rig.hosts(self.rig.group):
            script = (
                "ls -d /opt/osops/keystone/* /etc/keystone /etc/systemd/system/keystone-api.service 2> /dev/null; "
                "pgrep -u keystone -l 2> /dev/null; getent passwd keystone; true"
            )
            found += ["%s: %s" % (host, line) for line in self.rig.on(host, script).splitlines()]
        for host in self.rig.hosts("lbs"):
            script = "ls /etc/haproxy/conf.d; ss -ltnH 'sport = :%d'" % PORT
            found += ["%s: %s" % (host, line) for line in self.rig.on(host, script).splitlines()]
        script = "mariadb -N -e \"SHOW DATABASES LIKE 'green'; SELECT user FROM mysql.user WHERE user = 'green'\""
        return found + ["db1: %s" % line for line in self.rig.on("db1", script).splitlines()]


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
        with Load(rig, rig.out / "own", rate, PORT, "green_admin_password") as own:
            time.sleep(2)
            rig.want(NEW)
            life.flow("upgrade %s -> %s" % (OLD, NEW), "upgrade", "succeeded (exit 0)", own=own)
            if to_and_fro:
                rig.want(OLD)
                life.flow("rollback %s -> %s" % (NEW, OLD), "rollback", "succeeded (exit 0)", own=own)
                rig.want(NEW)
                life.flow("upgrade once more", "upgrade", "succeeded (exit 0)", own=own)
            life.flow("backup", "backup", "succeeded (exit 0)", own=own)
            life.flow("finalize", "finalize", "succeeded (exit 0)", own=own)
            rig.want(OLD)
            life.flow("rollback after finalize", "rollback", "refused (exit 2)", own=own)
            rig.want(NEW)
            own.mark("end")
            time.sleep(2)
        life.flow("remove, with its data", "remove", "succeeded (exit 0)", "-e", "osops_consent=purge_data", gone=True)
        life.flow("remove again: nothing to do", "remove", "succeeded (exit 0)")
        beside.mark("end")
        time.sleep(1)
    touched = difference(before, take(rig.folder / "inventory.yml"), ITS_OWN)
    figures = {"beside": beside.report(), "own": own.report()}
    rows = {where: {row["name"]: row for row in figure["steps"]} for where, figure in figures.items()}
    flows = []
    for flow in life.flows:
        row: dict[str, t.Any] = {**dataclasses.asdict(flow), "seconds": round(flow.seconds, 1)}
        for where in ("own", "beside"):
            seen = rows[where].get(flow.name, {})
            row[where] = {name: seen.get(name) for name in ("sent", "failed", "longest_gap_s", "p99_ms")}
        flows.append(row)
    failed = {where: figure["total"]["failed"] for where, figure in figures.items()}
    good = all(flow.good for flow in life.flows) and not any(failed.values()) and not touched
    return {"rate": rate, "flows": flows, "failed": failed, "touched": touched, "good": good}


def show(report: dict[str, t.Any], console: Console) -> None:
    """The table, and what else was touched."""
    table = Table(title="The life of a Keystone, at %.0f requests/s, beside another one at the same rate" % report["rate"])
    for name in ("flow", "seconds", "result", "requests", "failed", "longest gap s", "beside: requests", "failed", "left over"):
        table.add_column(name, justify="left" if name in ("flow", "result") else "right", overflow="fold")
    for flow in report["flows"]:
        own, beside = flow["own"], flow["beside"]
        cells = [
            flow["seconds"],
            flow["result"],
            own["sent"],
            own["failed"],
            own["longest_gap_s"],
            beside["sent"],
            beside["failed"],
        ]
        table.add_row(flow["name"], *("" if cell is None else str(cell) for cell in cells), str(len(flow["left_over"])))
    console.print(table)
    console.print("touched beside what the service owns: %s" % ("; ".join(report["touched"]) or "nothing"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rig", type=Path, required=True, help="folder of a running rig with bare hosts")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second, at each of the two services")
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

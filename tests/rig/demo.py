# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: Keystone 27 -> 29 -> 27 under load, a release that is bad, and a control node that dies.

Every step says beforehand how it must end; the demo fails when one ends otherwise, or when one single request failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import time
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.rig.theatre import ROOT, Load, Rig, UnusableError, answered, kill, until

OLD, NEW = "27.0.1", "29.0.2"

# One host whose new release reads foreign fernet keys: it answers GET /v3, and issues and validates tokens of its own, but it cannot
# read a token of anybody else. The old release on the same host has the right keys.
BREAK_KEYS = (
    """
set -eu
umask 077
mkdir -p /etc/keystone/fernet-foreign /etc/systemd/system/keystone-api.service.d
python3 -c "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode(), end='')" > /etc/keystone/fernet-foreign/0
cp /etc/keystone/fernet-foreign/0 /etc/keystone/fernet-foreign/1
chown -R keystone: /etc/keystone/fernet-foreign
cat > /usr/local/sbin/foreign-keys <<'END'
#!/bin/sh
case "$(readlink /opt/osops/keystone/keystone-api)" in
  *%s*) printf '[fernet_tokens]\\nkey_repository = /etc/keystone/fernet-foreign\\n' ;;
esac > /run/foreign-keys.conf
END
chmod 755 /usr/local/sbin/foreign-keys
cat > /etc/systemd/system/keystone-api.service.d/foreign-keys.conf <<'END'
[Service]
ExecStartPre=+/usr/local/sbin/foreign-keys
Environment="OS_KEYSTONE_CONFIG_FILES=/etc/keystone/keystone.conf;/run/foreign-keys.conf"
END
chmod 644 /etc/systemd/system/keystone-api.service.d/foreign-keys.conf
systemctl daemon-reload
"""
    % NEW
)
MEND_KEYS = """
set -eu
rm -r /etc/keystone/fernet-foreign /usr/local/sbin/foreign-keys /etc/systemd/system/keystone-api.service.d/foreign-keys.conf
rmdir --ignore-fail-on-non-empty /etc/systemd/system/keystone-api.service.d
systemctl daemon-reload
"""


@dataclasses.dataclass
class Step:
    """One row of the table."""

    name: str
    result: str
    good: bool
    before: str
    after: str
    seconds: float


class Demo:
    def __init__(self, rig: Rig, load: Load, console: Console) -> None:
        self.rig = rig
        self.load = load
        self.console = console
        self.steps: list[Step] = []

    def step(self, name: str, act: t.Callable[[], str], expect: str, after: str) -> None:
        """Carry out one step; ``act`` returns how it ended, which must be ``expect`` with every instance at ``after``."""
        self.rig.settled()
        before = self._versions()
        self.load.mark(name)
        start = time.monotonic()
        result = act()
        seconds = time.monotonic() - start
        self.load.mark("between")
        stands = self._versions()
        good = result == expect and stands == after
        self.steps.append(Step(name, result, good, before, stands, seconds))
        self.console.print("%s %s: %s, %s -> %s, %.0f s" % ("ok " if good else "BAD", name, result, before, stands, seconds))

    def play(self, playbook: str) -> str:
        code = self.rig.play(playbook, self.rig.out / "playbooks.log")
        state, _reason = self.rig.last_run()
        return "%s (exit %d)" % (state, code)

    def killed_and_again(self) -> str:
        """SIGKILL to the whole playbook while the second instance changes, then the same command."""
        process = self.rig.start("osops.lifecycle.upgrade", self.rig.out / "playbooks.log")
        try:
            changing = ("out", "keystone-api@ctl2/change", "intent")
            journal = self.rig.journal
            until(lambda: process.poll() is not None or changing in [e[:3] for e in journal()], 600, "the second change")
            if process.poll() is not None:
                return "ended before it could be killed (exit %d)" % process.returncode
            time.sleep(1.0)
        finally:
            kill(process)
        return "killed, then %s" % self.play("osops.lifecycle.upgrade")

    def _versions(self) -> str:
        found = self.rig.versions()
        return found["ctl1"] if len(set(found.values())) == 1 else ", ".join("%s %s" % item for item in sorted(found.items()))


def token(rig: Rig) -> str:
    """Issue a token through the first balancer."""
    password = {
        "user": {
            "name": "admin",
            "domain": {"name": "Default"},
            "password": rig.inventory["all"]["vars"]["keystone_admin_password"],
        }
    }
    scope = {"project": {"name": "admin", "domain": {"name": "Default"}}}
    body = {"auth": {"identity": {"methods": ["password"], "password": password}, "scope": scope}}
    request = urllib.request.Request(_url(rig), json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310 - the rig's own balancer
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return str(answer.headers["X-Subject-Token"])


def validates(rig: Rig, text: str) -> bool:
    """Whether a token is valid; with dots behind it, so that no cache answers (docs/decisions/token-cache.md)."""
    request = urllib.request.Request(_url(rig), headers={"X-Auth-Token": token(rig), "X-Subject-Token": text + "...."})  # noqa: S310 - the rig's own balancer
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False


def _url(rig: Rig) -> str:
    return "http://%s:5000/v3/auth/tokens" % next(iter(rig.hosts("lbs").values()))


def perform(rig: Rig, rate: float, console: Console) -> dict[str, t.Any]:
    """The whole demo; returns its report."""
    rig.out.mkdir(parents=True, exist_ok=True)
    for name in ("report.json", "store.db", "store.db-wal", "store.db-shm", "playbooks.log"):
        (rig.out / name).unlink(missing_ok=True)
    shutil.rmtree(rig.out / "load", ignore_errors=True)
    old_token = token(rig)
    with Load(rig, rig.out / "load", rate) as load:
        time.sleep(3)
        demo = Demo(rig, load, console)
        rig.want(NEW)
        demo.step("a upgrade", lambda: demo.play("osops.lifecycle.upgrade"), "succeeded (exit 0)", NEW)
        rig.want(OLD)
        demo.step("b rollback by record", lambda: demo.play("osops.lifecycle.rollback"), "succeeded (exit 0)", OLD)
        rig.on("ctl3", BREAK_KEYS)
        rig.want(NEW)
        demo.step(
            "c bad release, taken back by itself", lambda: demo.play("osops.lifecycle.upgrade"), "rolled_back (exit 2)", OLD
        )
        _state, reason = rig.last_run()
        rig.on("ctl3", MEND_KEYS)
        demo.step("d control node killed, same command", demo.killed_and_again, "killed, then succeeded (exit 0)", NEW)
        survived = validates(rig, old_token)
        time.sleep(2)
    figures = load.report()
    rows = {row["name"]: row for row in figures["steps"]}
    versions = answered(load, OLD)
    steps = [
        {
            "name": step.name,
            "requests": rows[step.name]["sent"],
            "failed": rows[step.name]["failed"],
            "rate": rows[step.name]["rate"],
            "longest_gap_s": rows[step.name]["longest_gap_s"],
            "p99_ms": rows[step.name]["p99_ms"],
            "seconds": round(step.seconds, 1),
            "from": step.before,
            "to": step.after,
            "result": step.result,
            "answered_by": versions[step.name],
        }
        for step in demo.steps
    ]
    total = figures["total"]
    good = all(step.good for step in demo.steps) and total["failed"] == 0 and survived
    return {
        "steps": steps,
        "requests": total["sent"],
        "failed": total["failed"],
        "causes": total["causes"],
        "longest_gap_s": total["longest_gap_s"],
        "rate_asked": rate,
        "bad_release": reason,
        "token_from_before_validates": survived,
        "good": good,
    }


def show(report: dict[str, t.Any], console: Console) -> None:
    table = Table(title="Keystone under %.0f requests/s through two HAProxies" % report["rate_asked"])
    for name in (
        "step",
        "requests",
        "failed",
        "rate",
        "longest gap s",
        "p99 ms",
        "seconds",
        "from",
        "to",
        "result",
        "answered by",
    ):
        table.add_column(name, justify="left" if name in ("step", "from", "to", "result") else "right", overflow="fold")
    for step in report["steps"]:
        table.add_row(*(_cell(value) for value in step.values()))
    console.print(table)
    console.print("step c went back because: %s" % report["bad_release"])
    console.print(
        "a token issued before step a validates at the end: %s" % ("yes" if report["token_from_before_validates"] else "NO")
    )
    console.print("all requests: %d, failed: %d %s" % (report["requests"], report["failed"], report["causes"] or ""))


def _cell(value: t.Any) -> str:
    if isinstance(value, dict):
        return ", ".join("%s: %s" % pair for pair in sorted(value.items()))
    return "%.1f" % value if isinstance(value, float) else str(value)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rig", type=Path, required=True, help="folder of a running rig with Keystone %s" % OLD)
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "demo")
    parser.add_argument("--collections", type=Path, default=ROOT / "build" / "collections")
    args = parser.parse_args()
    console = Console(width=160, highlight=False)
    rig = Rig(args.rig.resolve(), args.out.resolve(), args.collections.resolve())
    try:
        report = perform(rig, args.rate, console)
    except UnusableError as exc:
        console.print("the demo cannot be judged: %s" % exc)
        return 3
    (args.out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(report, console)
    return 0 if report["good"] else 1


if __name__ == "__main__":
    sys.exit(main())

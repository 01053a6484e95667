# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the prober: run, mark, reconcile."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

from tests.rig.prober import keystone, load, logs, placement
from tests.rig.prober.record import Folder
from tests.rig.prober.report import report


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not (name and found and value):
        raise argparse.ArgumentTypeError("%r is not NAME=VALUE" % text)
    return name, value


def _weights(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in map(_pair, text.split(","))}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="prober", description="Ask the cloud at a fixed rate, and count what fails.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="probe until --seconds, --until-file, SIGTERM or SIGINT")
    run.add_argument("--dir", type=Path, required=True, help="folder for run.json, probes.jsonl, report.json")
    run.add_argument("--rate", type=float, required=True, help="requests a second")
    run.add_argument("--balancer", type=_pair, action="append", required=True, metavar="NAME=URL")
    run.add_argument("--seconds", type=float)
    run.add_argument("--until-file", type=Path)
    run.add_argument("--timeout", type=float, default=10.0)
    run.add_argument("--service", choices=["keystone", "placement"], default="keystone")
    run.add_argument("--identity", metavar="URL", help="the Keystone that a token for another service comes from")
    run.add_argument("--weights", type=_weights, help="token=10,validate=45,read=30,write=15")
    run.add_argument("--seed", type=int, default=1)
    run.add_argument(
        "--password-file", type=Path, help="of mode 0600; default: OS_PASSWORD (also OS_USERNAME, OS_PROJECT_NAME, …)"
    )
    mark = verbs.add_parser("mark", help="from now on, requests belong to NAME")
    mark.add_argument("--dir", type=Path, required=True)
    mark.add_argument("name")
    check = verbs.add_parser("reconcile", help="hold the counts against HAProxy's logs, write report.json")
    check.add_argument("--dir", type=Path, required=True)
    source = check.add_mutually_exclusive_group(required=True)
    source.add_argument("--inventory", type=Path, help="Ansible inventory; the logs are fetched from its group --group")
    source.add_argument("--log", type=_pair, action="append", metavar="NAME=PATH", help="a log on this machine")
    check.add_argument("--group", default="lbs")
    check.add_argument("--log-path", default="/var/log/haproxy.log")
    # HAProxy logs a request when it has ended, and the log daemon writes it a little later.
    check.add_argument("--deadline", type=float, default=15.0, help="seconds to wait for the last lines of the logs")
    return parser


def _run(args: argparse.Namespace) -> int:
    folder = Folder(args.dir)
    folder.clear()
    asked = _asked(args)
    weights = args.weights or asked.weights
    if unknown := set(weights) - set(asked.weights):
        raise keystone.UnusableError("unknown operation %s" % ", ".join(sorted(unknown)))
    wanted = load.Load(
        run="p" + secrets.token_hex(4),
        rate=args.rate,
        balancers={name: url.rstrip("/") for name, url in args.balancer},
        weights=weights,
        timeout=args.timeout,
        seconds=args.seconds,
        until=args.until_file,
        seed=args.seed,
    )
    load.raise_file_limit()
    asyncio.run(_probe(wanted, asked, folder))
    return _conclude(folder, None)


def _asked(args: argparse.Namespace) -> keystone.Asked:
    known = keystone.credentials(args.password_file)
    if args.service == "keystone":
        return keystone.Keystone(known, time.monotonic)
    if not args.identity:
        raise keystone.UnusableError("a token for %s must come from somewhere: give --identity" % args.service)
    return placement.Placement(placement.token(args.identity.rstrip("/"), known))


async def _probe(wanted: load.Load, asked: keystone.Asked, folder: Folder) -> None:
    await load.Prober(wanted, asked, folder).run()


def _fetch(inventory: Path, group: str, path: str, target: Path) -> dict[str, list[str]]:
    """Copy the log of every host of ``group`` with Ansible; raises UnusableError when one cannot be had."""
    ansible = Path(sys.executable).with_name("ansible")
    copy = "src=%s dest=%s/" % (path, target)
    command = [str(ansible), group, "-i", str(inventory), "-m", "ansible.builtin.fetch", "-a", copy]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ, ANSIBLE_NOCOLOR="1"))
    if done.returncode != 0:
        raise keystone.UnusableError("the logs of %s cannot be fetched: %s" % (group, (done.stdout + done.stderr).strip()))
    return {host.name: _lines(host / path.lstrip("/")) for host in sorted(target.iterdir())}


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _reconcile(args: argparse.Namespace) -> int:
    """Ask the logs until they hold everything, or --deadline has passed: then what is missing is missing."""
    folder = Folder(args.dir)
    run, probes = folder.run(), folder.probes()
    deadline = time.monotonic() + args.deadline
    while True:
        if args.inventory is not None:
            with tempfile.TemporaryDirectory() as target:
                lines = _fetch(args.inventory, args.group, args.log_path, Path(target))
        else:
            lines = {name: _lines(Path(path)) for name, path in args.log}
        logged = logs.reconcile(run["run"], probes, lines)
        if not logged.void or time.monotonic() >= deadline:
            return _conclude(folder, logged)
        time.sleep(0.5)


def _conclude(folder: Folder, logged: logs.Reconciled | None) -> int:
    """Write the report, print its head; 0 when nothing failed, 4 when requests did, 3 when the counts are void."""
    made = report(folder.run(), folder.probes(), folder.marks(), logged)
    folder.write("report.json", made)
    if logged is not None:
        folder.write("answers.json", {name: row.server for name, row in logged.rows.items()})
    head: dict[str, t.Any] = {key: made["total"][key] for key in ("sent", "failed", "causes", "rate", "longest_gap_s", "p99_ms")}
    print(json.dumps({"result": made["result"], "void": made["void"], **head}), flush=True)
    return 3 if made["void"] else 4 if made["total"]["failed"] else 0


def main(words: t.Sequence[str] | None = None) -> int:
    args = _parser().parse_args(words)
    try:
        if args.verb == "mark":
            Folder(args.dir).mark(args.name)
            return 0
        return _run(args) if args.verb == "run" else _reconcile(args)
    except (keystone.UnusableError, OSError) as exc:
        print("prober: %s" % exc, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the executor itself costs: a plan of many simulated targets, walked by ansible-playbook with dummy drivers on this machine.

Seconds to plan, per batch and per target, with instances without traffic in batches of ten (hosts are this machine, without ssh).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

import yaml

from tests.walk.world import COLLECTIONS, DUMMY, recipe

ROOT = Path(__file__).resolve().parents[1]


def world(folder: Path, instances: int, batch: int) -> None:
    """Inventory, record and recipe of a service with many instances and no traffic."""
    names = ["n%04d" % number for number in range(instances)]
    variables = {
        "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "osops_record": str(folder / "cloud.yml"),
        "osops_store": "sqlite:///%s" % (folder / "store.db"), "osops_recipes": [str(folder)],
    }  # fmt: skip
    _write(folder / "inventory.yml", {"all": {"vars": variables, "children": {"apps": {"hosts": dict.fromkeys(names)}}}})
    service = {
        "release": {"driver": "osops_test.dummy.app", "version": "2.0"},
        "components": {"agent": {"hosts": "apps"}},
        "batches": [batch],
    }
    _write(folder / "cloud.yml", {"cloud": "many", "services": {"many": service}})
    made = recipe("many", ["agent"])
    for unused in ("schema", "probe"):
        made.pop(unused)
    _write(folder / "many.yml", made)
    app = {"release": "1.0", "version": "1.0", "running": True}
    (folder / "app-agent.json").write_text(json.dumps(app), encoding="utf-8")


def _write(path: Path, value: t.Any) -> None:
    path.write_text(yaml.safe_dump(value), encoding="utf-8")


def timed(folder: Path, *words: str) -> float:
    environment = {
        "PATH": "%s:/usr/bin:/bin" % Path(sys.executable).parent, "HOME": str(folder), "LC_ALL": "C.UTF-8", "OSOPS_DUMMY_ROOT": str(folder),
        "ANSIBLE_COLLECTIONS_PATH": "%s:%s" % (COLLECTIONS, DUMMY), "ANSIBLE_FORKS": "10", "ANSIBLE_LOCALHOST_WARNING": "false",
    }  # fmt: skip
    start = time.monotonic()
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(folder / "inventory.yml"), *words],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-1000:])
    return time.monotonic() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world(folder, args.instances, args.batch)
        planned = timed(folder, "osops.lifecycle.plan")
        # The dummies of all hosts share one file here: what is measured is the executor, so the first act makes the rest unchanged.
        walked = timed(folder, "osops.lifecycle.upgrade")
        empty = timed(folder, "osops.lifecycle.upgrade")
    batches = -(-args.instances // args.batch)
    walk = walked - empty
    report = {
        "instances": args.instances, "batches": batches, "plan_s": round(planned, 1), "upgrade_s": round(walked, 1),
        "nothing_to_do_s": round(empty, 1), "per_target_s": round(walk / args.instances, 3), "per_batch_s": round(walk / batches, 3),
    }  # fmt: skip
    (args.out / "executor.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())

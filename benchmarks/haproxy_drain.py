#!/usr/bin/env python3
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drain N servers of one balancer: one task of osops.lifecycle.haproxy_server, and community.general.haproxy in a loop.

benchmarks/haproxy_drain.py [--servers 200] [--rounds 2]

Both run in the same ansible-playbook, from the same environment, on the same HAProxy, in turns; both wait for sessions. What an
empty play costs is measured too and taken off. Compare the ratio, not the seconds. Result: build/bench/haproxy_drain.json.
The first run installs the ansible package (for community.general) into an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.integration.haproxy.lab import Lab  # noqa: E402 - found through the line above

ANSIBLE = "ansible==12.3.0"
CACHE = Path(os.environ.get("OSOPS_CACHE") or Path.home() / ".cache" / "osops") / "bench-ansible-12.3.0"
RESULT = REPOSITORY / "build" / "bench" / "haproxy_drain.json"


def environment() -> Path:
    """Return the folder of an environment that has ansible-core and community.general."""
    if not (CACHE / "done").exists():
        venv.create(CACHE, with_pip=True, clear=True)
        subprocess.run([CACHE / "bin" / "pip", "install", "--quiet", ANSIBLE], check=True)
        (CACHE / "done").touch()
    return CACHE / "bin"


def play(programs: Path, folder: Path, task: dict[str, t.Any]) -> float:
    """Run a play of one task, and return its seconds."""
    book = folder / "play.yml"
    book.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    settings = {"ANSIBLE_PIPELINING": "1", "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "build" / "dev"), "LC_ALL": "C.UTF-8"}
    command = [
        programs / "ansible-playbook",
        "-i",
        "localhost,",
        "-c",
        "local",
        "-e",
        "ansible_python_interpreter=/usr/bin/python3",
        book,
    ]
    started = time.monotonic()
    done = subprocess.run(command, env={**kept, **settings}, capture_output=True, text=True, check=False)
    took = time.monotonic() - started
    if done.returncode != 0:
        raise SystemExit("the play failed:\n" + done.stdout[-3000:] + done.stderr[-3000:])
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    programs = environment()
    link = REPOSITORY / "build" / "dev" / "ansible_collections" / "osops" / "lifecycle"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(REPOSITORY, target_is_directory=True)
    seconds: dict[str, list[float]] = {"empty": [], "ours": [], "community": []}
    with tempfile.TemporaryDirectory(prefix="osops-") as path:
        lab = Lab(Path(path))
        try:
            run(lab, programs, asked.servers, asked.rounds, seconds)
            version = next(line.split(": ")[1] for line in lab.raw("show info").splitlines() if line.startswith("Version"))
        finally:
            lab.stop()
    floor = statistics.median(seconds["empty"])
    ours, theirs = (statistics.median(seconds[name]) - floor for name in ("ours", "community"))
    report = {
        "servers": asked.servers,
        "haproxy": version,
        "community_general_from": ANSIBLE,
        "seconds": {name: [round(value, 2) for value in values] for name, values in seconds.items()},
        "ours_s": round(ours, 2),
        "community_s": round(theirs, 2),
        "ratio": round(theirs / ours, 1),
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def run(lab: Lab, programs: Path, servers: int, rounds: int, seconds: dict[str, list[float]]) -> None:
    """Drain all servers in turns; each time the truth is asked from HAProxy itself."""
    port = lab.web["s1"].port
    addresses = ["127.0.%d.%d:%d" % (1 + number // 250, 1 + number % 250, port) for number in range(servers)]
    listed = "\n".join("  server m%d %s" % (number, address) for number, address in enumerate(addresses))
    lab.config("backend many\n%s\n  server spare 127.0.0.1:%d\n" % (listed, port), default="weight 1")
    lab.start()
    ours = {"osops.lifecycle.haproxy_server": {"state": "drain", "servers": addresses, "socket": lab.admin, "scope": "bench"}}
    one = {"state": "drain", "host": "{{ item }}", "backend": "many", "socket": lab.admin, "wait": True, "drain": True}
    one.update(wait_interval=1, fail_on_not_found=True)
    community = {"community.general.haproxy": one, "loop": ["m%d" % number for number in range(servers)]}
    for _round in range(rounds):
        seconds["empty"].append(play(programs, lab.folder, {"ansible.builtin.ping": {}}))
        for name, task in (("ours", ours), ("community", community)):
            seconds[name].append(play(programs, lab.folder, task))
            drained = sum(lab.mask("many/m%d" % number) == 8 for number in range(servers))
            if drained != servers:
                raise SystemExit("%s: %d of %d servers are drained" % (name, drained, servers))
            for number in range(servers):
                lab.raw("set server many/m%d state ready" % number)


if __name__ == "__main__":
    main()

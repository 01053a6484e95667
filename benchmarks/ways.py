# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three ways to change the release of three Keystones under load, in one run on one rig, five rounds each; and what no tool can avoid.

undrained  all at once, the balancer notices by itself, with Kolla-Ansible's settings for it (inter 2s rise 2 fall 5, redispatch, retries 3)
waitless   the first host, then the rest, community.general.haproxy disabled/enabled with wait: false, as OpenStack-Ansible does
ours       osops.lifecycle.upgrade and osops.lifecycle.rollback by record, alternating

Every round changes all three instances between 27 and 29 (both fetched, schema expanded before). A round in which the undrained way
shows no failure is void: then the load would not have noticed anything.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from tests.rig.theatre import RELEASES, ROOT, Load, Rig, UnusableError

VERSIONS = ("27.0.1", "29.0.2")
KOLLA = [
    "-e",
    json.dumps({"rig_haproxy_check": "inter 2s rise 2 fall 5", "rig_haproxy_extra": ["option redispatch", "retries 3"]}),
]
PLAYBOOKS = ROOT / "benchmarks" / "playbooks"


def releases(rig: Rig) -> dict[str, str]:
    """Version -> id of the release on the hosts."""
    found = rig.on("ctl1", "ls " + RELEASES).split()
    return {name.split("-")[0]: name for name in found}


def unavoidable(rig: Rig, release: str, rise: int = 2, inter_s: float = 1.0) -> dict[str, float]:
    """Seconds that one instance costs whatever tool is used: stop, start, first healthy answer, and rise x inter of the check."""
    script = """set -e
    now() { date +%%s.%%N; }
    a=$(now); systemctl stop keystone-api
    ln -sfn %s%s /opt/osops/keystone/keystone-api.new && mv -T /opt/osops/keystone/keystone-api.new /opt/osops/keystone/keystone-api
    b=$(now); systemctl start keystone-api; c=$(now)
    python3 - http://%s:5000/v3 <<'END'
import sys, time, urllib.request
limit = time.monotonic() + 120
while time.monotonic() < limit:
    try:
        sys.exit(urllib.request.urlopen(sys.argv[1], timeout=5).status != 200)
    except OSError:
        time.sleep(0.05)
sys.exit("no healthy answer in 120 s")
END
    d=$(now); echo $a $b $c $d
    """ % (RELEASES, release, rig.hosts("keystone")["ctl1"])
    a, b, c, d = map(float, rig.on("ctl1", script).split())
    parts = {"stop": b - a, "start": c - b, "healthy": d - c, "checks": rise * inter_s}
    return {**parts, "total": sum(parts.values())}


class Bench:
    def __init__(self, rig: Rig, rate: float) -> None:
        self.rig = rig
        self.rate = rate
        self.ids = releases(rig)
        self.log = rig.out / "playbooks.log"

    def round(self, way: str, number: int) -> dict[str, t.Any]:
        """One round of one way under load; returns its figures."""
        version = VERSIONS[(number + 1) % 2]
        if set(self.rig.versions().values()) == {version}:
            version = VERSIONS[number % 2]
        self.rig.settled()
        folder = self.rig.out / ("%s-%d" % (way, number))
        with Load(self.rig, folder, self.rate) as load:
            time.sleep(3)
            load.mark("change")
            start = time.monotonic()
            code = self._change(way, version)
            seconds = time.monotonic() - start
            # What a change leaves behind counts too: checks that have not noticed yet, instances that still start.
            time.sleep(12)
        row = next(row for row in load.report()["steps"] if row["name"] == "change")
        stands = sorted(set(self.rig.versions().values()))
        figures = {name: row[name] for name in ("sent", "failed", "causes", "longest_gap_s", "p99_ms", "rate")}
        return {
            "way": way,
            "round": number,
            "seconds": round(seconds, 1),
            "exit": code,
            "to": stands,
            "wanted": version,
            **figures,
        }

    def _change(self, way: str, version: str) -> int:
        if way != "ours":
            return self.rig.play(
                str(PLAYBOOKS / (way + ".yml")), self.log, "-e", json.dumps({"bench_release": self.ids[version]})
            )
        self.rig.want(version)
        verb = "upgrade" if version == VERSIONS[1] else "rollback"
        return self.rig.play("osops.lifecycle." + verb, self.log)

    def where_time_goes(self) -> dict[str, float]:
        """Seconds of the newest run by step word, the longest of the side-by-side ones counted; ``between`` is what Ansible needs."""
        begun: dict[str, float] = {}
        spans: dict[tuple[str, str], list[tuple[float, float]]] = {}
        journal = self.rig.journal()
        for way, step, kind, at in journal:
            if kind == "intent":
                begun[way + step] = at
            else:
                target, word = step.rsplit("/", 1)
                batch = target.split("@")[0] if "#" in target else target
                spans.setdefault((word, batch), []).append((begun[way + step], at))
        words: dict[str, float] = {}
        for (word, _batch), pairs in spans.items():
            words[word] = words.get(word, 0.0) + max(end for _begin, end in pairs) - min(begin for begin, _end in pairs)
        whole = journal[-1][3] - journal[0][3]
        return {**{word: round(value, 1) for word, value in words.items()}, "first_to_last": round(whole, 1)}


def configure(rig_name: str, *more: str) -> None:
    subprocess.run([str(ROOT / "scripts" / "rig"), "configure", "-n", rig_name, *more], check=True, stdout=subprocess.DEVNULL)


def measure(rig: Rig, rig_name: str, rate: float, rounds: int) -> dict[str, t.Any]:
    rig.out.mkdir(parents=True, exist_ok=True)
    rig.want(VERSIONS[1])
    print("expanding the schema and fetching both releases, by one upgrade that is not counted", flush=True)
    if rig.play("osops.lifecycle.upgrade", rig.out / "playbooks.log") != 0:
        raise UnusableError("the first upgrade failed; see %s" % (rig.out / "playbooks.log"))
    bench = Bench(rig, rate)
    alone = [unavoidable(rig, bench.ids[VERSIONS[number % 2]]) for number in range(4)]
    rows: list[dict[str, t.Any]] = []
    time_goes: dict[str, float] = {}
    for way in ("undrained", "waitless", "ours"):
        configure(rig_name, *(KOLLA if way == "undrained" else []))
        for number in range(rounds):
            row = bench.round(way, number)
            rows.append(row)
            print(json.dumps(row), flush=True)
            if way == "ours":
                time_goes = bench.where_time_goes()
    least = statistics.median(each["total"] for each in alone) * len(rig.hosts("keystone"))
    ours = statistics.median(row["seconds"] for row in rows if row["way"] == "ours")
    return {
        "rate_asked": rate,
        "rounds": rows,
        "void": [row["round"] for row in rows if row["way"] == "undrained" and row["failed"] == 0],
        "unavoidable_per_instance_s": {name: round(statistics.median(each[name] for each in alone), 2) for name in alone[0]},
        "unavoidable_s": round(least, 1),
        "ours_s": ours,
        "ratio": round(ours / least, 2),
        "where_time_goes_s": time_goes,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rig", type=Path, required=True)
    parser.add_argument("--rig-name", required=True)
    parser.add_argument("--rate", type=float, default=40.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--collections", default=str(ROOT / "build" / "collections"))
    args = parser.parse_args()
    rig = Rig(args.rig.resolve(), args.out.resolve(), args.collections)
    try:
        report = measure(rig, args.rig_name, args.rate, args.rounds)
    except UnusableError as exc:
        print("the benchmark cannot be judged: %s" % exc)
        return 3
    (args.out / "ways.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    good = not report["void"] and all(row["exit"] == 0 and row["failed"] == 0 for row in report["rounds"] if row["way"] == "ours")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

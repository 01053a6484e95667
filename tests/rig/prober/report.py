# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures: one summary of everything, and one for each step that the marks cut out of it."""

from __future__ import annotations

import collections
import itertools
import math
import typing as t

from tests.rig.prober.logs import Reconciled
from tests.rig.prober.record import Mark, Probe


def percentile(values: t.Sequence[float], share: float) -> float | None:
    """The smallest value that ``share`` of all values do not exceed; None of nothing."""
    ranked = sorted(values)
    return ranked[max(math.ceil(len(ranked) * share) - 1, 0)] if ranked else None


def longest_gap(done: t.Iterable[float], begin: float, end: float) -> float:
    """Longest time in seconds between ``begin`` and ``end`` in which no request succeeded."""
    moments = [begin, *sorted(moment for moment in done if begin < moment < end), end]
    return max(later - earlier for earlier, later in itertools.pairwise(moments))


def summary(probes: t.Sequence[Probe], begin: float, end: float, rate: float, logged: Reconciled | None) -> dict[str, t.Any]:
    """The figures of the requests that were due from ``begin`` to ``end``. Latencies are those of the ones that succeeded."""
    mine = [probe for probe in probes if begin <= probe.due < end]
    good = [probe for probe in mine if not probe.failure]
    seconds = max(end - begin, 1e-9)
    result: dict[str, t.Any] = {
        "sent": len(mine),
        "ok": len(good),
        "failed": len(mine) - len(good),
        "causes": dict(collections.Counter(probe.failure for probe in mine if probe.failure)),
        "rate_asked": rate,
        "rate": round(len(mine) / seconds, 2),
        "seconds": round(seconds, 3),
        # Successes of requests that were due before this step count too: what matters is that somebody was served.
        "longest_gap_s": round(longest_gap((probe.done for probe in probes if not probe.failure), begin, end), 3),
        "p50_ms": percentile([probe.ms for probe in good], 0.50),
        "p99_ms": percentile([probe.ms for probe in good], 0.99),
        "late_p99_ms": percentile([probe.late_ms for probe in mine], 0.99),
        "operations": {name: _operation(mine, name) for name in sorted({probe.operation for probe in mine})},
    }
    if logged is not None:
        rows = [logged.rows[probe.id] for probe in mine if probe.id in logged.rows]
        result["servers"] = dict(sorted(collections.Counter("%s/%s" % (row.backend, row.server) for row in rows).items()))
        result["unseen"] = sum(probe.id not in logged.rows for probe in mine)
    return result


def _operation(probes: t.Sequence[Probe], name: str) -> dict[str, t.Any]:
    mine = [probe for probe in probes if probe.operation == name]
    failed = sum(bool(probe.failure) for probe in mine)
    return {"sent": len(mine), "failed": failed, "p99_ms": percentile([p.ms for p in mine if not p.failure], 0.99)}


def series(probes: t.Sequence[Probe], begin: float, end: float) -> list[dict[str, t.Any]]:
    """One row a second, by when requests were due."""
    seconds: dict[int, list[Probe]] = {number: [] for number in range(math.ceil(end - begin))}
    for probe in probes:
        seconds.setdefault(int(probe.due - begin), []).append(probe)
    return [
        {
            "second": second,
            "sent": len(mine),
            "failed": sum(bool(probe.failure) for probe in mine),
            "p99_ms": percentile([probe.ms for probe in mine if not probe.failure], 0.99),
        }
        for second, mine in sorted(seconds.items())
    ]


def report(
    run: dict[str, t.Any], probes: t.Sequence[Probe], marks: t.Sequence[Mark], logged: Reconciled | None
) -> dict[str, t.Any]:
    """Everything in one. ``result``: ``unreconciled`` (the logs were not asked), ``void`` (they disagree) or ``counted``."""
    begin, rate = run["begin"], run["rate"]
    # A prober that was killed never wrote when it ended.
    end = run.get("end") or max([probe.done for probe in probes], default=begin)
    steps = []
    for mark, after in itertools.pairwise([*marks, Mark(end, "")]):
        first, last = max(mark.at, begin), min(after.at, end)
        if first < last:
            steps.append({"name": mark.name, **summary(probes, first, last, rate, logged)})
    failures = []
    for probe in (probe for probe in probes if probe.failure):
        row = logged.rows.get(probe.id) if logged else None
        where = {"server": "%s/%s" % (row.backend, row.server), "state": row.state, "logged": row.status} if row else {}
        second = round(probe.due - begin, 3)
        failures.append({"id": probe.id, "second": second, "operation": probe.operation, "cause": probe.failure, **where})
    return {
        "run": run["run"],
        "result": "unreconciled" if logged is None else "void" if logged.void else "counted",
        "void": logged.void if logged else "",
        "total": summary(probes, begin, end, rate, logged),
        "steps": steps,
        "failures": failures[:200],
        "series": series(probes, begin, end),
    }

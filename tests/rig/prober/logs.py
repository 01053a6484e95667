# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads HAProxy's logs and holds the prober's record against them: a count that both do not share is void."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from tests.rig.prober.record import Probe

# The HTTP log format ("option httplog"), with the captured X-Probe-Id in braces.
LINE = re.compile(
    r" (?P<backend>[^\s/]+)/(?P<server>\S+) (?:[+-]?\d+/){4}[+-]?\d+ (?P<status>-?\d+) \+?\d+ \S+ \S+ (?P<state>\S{4})"
    r" [\d/+]+ [\d/]+ \{(?P<captured>[^}]*)\}"
)


@dataclasses.dataclass(frozen=True)
class Row:
    """What one balancer says of one request. ``state`` are HAProxy's four letters of how the session ended."""

    log: str
    backend: str
    server: str
    status: int
    state: str


@dataclasses.dataclass(frozen=True)
class Reconciled:
    """``rows`` by probe id; ``unseen`` counts failed requests that no balancer ever saw; ``problems`` make the result void."""

    rows: dict[str, Row]
    unseen: int
    problems: list[str]

    @property
    def void(self) -> str:
        """Empty, or why the counts cannot be believed."""
        if not self.problems:
            return ""
        more = ", and %d more" % (len(self.problems) - 3) if len(self.problems) > 3 else ""
        return "; ".join(self.problems[:3]) + more


def read(run: str, logs: t.Mapping[str, t.Iterable[str]]) -> tuple[dict[str, list[Row]], list[str]]:
    """Return the rows of ``run`` by probe id, and the lines that name it but could not be understood."""
    rows: dict[str, list[Row]] = {}
    odd: list[str] = []
    for log, lines in logs.items():
        for line in lines:
            if run + "-" not in line:
                continue
            found = LINE.search(line)
            ids = [part for part in found["captured"].split("|") if part.startswith(run + "-")] if found else []
            if found is None or len(ids) != 1:
                odd.append("%s: a line that is not understood: %s" % (log, line.strip()[:200]))
                continue
            row = Row(log, found["backend"], found["server"], int(found["status"]), found["state"])
            rows.setdefault(ids[0], []).append(row)
    return rows, odd


def reconcile(run: str, probes: t.Sequence[Probe], logs: t.Mapping[str, t.Iterable[str]]) -> Reconciled:
    """Hold every probe against the logs, and every logged request of this run against the probes."""
    rows, problems = read(run, logs)
    unseen = 0
    for probe in probes:
        mine = rows.get(probe.id, [])
        if len(mine) > 1:
            problems.append("%s was sent once and logged %d times" % (probe.id, len(mine)))
        elif not mine and probe.status is not None:
            problems.append("%s got a %d that no log knows" % (probe.id, probe.status))
        elif not mine:
            unseen += 1
        elif probe.failure in ("refused", "unreachable"):
            problems.append("%s was %s, and yet %s logged it" % (probe.id, probe.failure, mine[0].log))
        elif probe.status is not None and mine[0].status != probe.status:
            problems.append("%s got a %d, %s says %d" % (probe.id, probe.status, mine[0].log, mine[0].status))
        elif mine[0].log != probe.balancer:
            problems.append("%s went through %s and was logged by %s" % (probe.id, probe.balancer, mine[0].log))
    sent = {probe.id for probe in probes}
    setup = run + "-setup-"
    problems += ["%s was logged, but never sent" % name for name in rows if name not in sent and not name.startswith(setup)]
    return Reconciled({name: found[0] for name, found in rows.items() if name in sent}, unseen, problems)

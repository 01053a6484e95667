# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads of a run: golden texts of the status of four runs, and the lines of the progress callback."""

from __future__ import annotations

import dataclasses
import textwrap
import typing as t

import pytest

from ansible_collections.osops.lifecycle.plugins.plugin_utils import knowledge, model, overview, progress
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import BACK, OUT

AT = 1795169700.0
"""2026-11-20 10:15:00 UTC"""
OLD, NEW = "27.0.1", "29.0.2"


def steps(way: str, target: str, host: str, *words: str, **more: t.Any) -> tuple[model.Step, ...]:
    return tuple(model.Step("%s/%s" % (target, do), target, host, "upgrade", do, "a.b.c", {}, way=way, **more) for do in words)


def share(way: str, number: int) -> tuple[model.Step, ...]:
    return steps(way, "keystone#%d@lb1" % number, "lb1", "drain", "admit", servers={"keystone/ctl%d" % number: "192.0.2.1:5000"})


def forward() -> model.Plan:
    batches = tuple(("keystone#%d@lb1" % n, "keystone-api@ctl%d" % n) for n in (1, 2, 3))
    made = [share(OUT, n) + steps(OUT, "keystone-api@ctl%d" % n, "ctl%d" % n, "fetch", "change", "test") for n in (1, 2, 3)]
    moves = {"keystone-api@ctl%d" % n: (OLD, NEW) for n in (1, 2, 3)}
    return model.Plan(
        "rig", "upgrade", ("keystone",), "hash", batches, tuple(step for part in made for step in part), moves=moves
    )


def back(*numbers: int, notes: tuple[str, ...] = ()) -> model.Plan:
    batches = tuple(("keystone#%d@lb1" % n, "keystone-api@ctl%d" % n) for n in numbers)
    made = [share(BACK, n) + steps(BACK, "keystone-api@ctl%d" % n, "ctl%d" % n, "revert", "test") for n in numbers]
    return model.Plan("rig", "upgrade", ("keystone",), "hash", batches, tuple(step for p in made for step in p), notes=notes)


class Journal:
    """A journal in which every act takes five seconds."""

    def __init__(self) -> None:
        self.entries: list[model.Entry] = []
        self.now = AT

    def begin(self, way: str, *names: str) -> Journal:
        self.entries += [model.Entry(0, "r", name, way, 1, "intent", 7, self.now, self.now + 600) for name in names]
        return self

    def end(self, way: str, *names: str, kind: str = "done") -> Journal:
        self.now += 5
        self.entries += [model.Entry(0, "r", name, way, 1, kind, 7, self.now) for name in names]
        return self

    def act(self, way: str, *names: str) -> Journal:
        for name in names:
            self.begin(way, name).end(way, name)
        return self

    def fetched(self) -> Journal:
        return self.act(OUT, *("keystone-api@ctl%d/fetch" % n for n in (1, 2, 3)))

    def batch(self, n: int) -> Journal:
        instance, balancer = "keystone-api@ctl%d/" % n, "keystone#%d@lb1/" % n
        return self.act(OUT, balancer + "drain", instance + "change", instance + "test", balancer + "admit")


def run(state: str = "running", reason: str = "", **more: t.Any) -> model.Run:
    holder = {"node": "ctl", "pid": 4711}
    made = model.Run(
        "20261120T101500Z-1a2b3c", "rig", "upgrade", ("keystone",), "hash", state, reason, "", "", 7, 0.0, holder, "ops", AT
    )
    return dataclasses.replace(made, **more)


def running() -> overview.Shown:
    journal = Journal().fetched().batch(1).begin(OUT, "keystone#2@lb1/drain").end(OUT, "keystone#2@lb1/drain")
    journal.begin(OUT, "keystone-api@ctl2/change")
    return overview.Shown(run(), forward(), None, journal.entries, True)


def told(*shown: overview.Shown, now: float = AT + 52) -> dict[str, t.Any]:
    document = overview.document("rig", shown, now)
    knowledge.validate(document, "status", "status")
    return document


def text(*shown: overview.Shown, now: float = AT + 52) -> str:
    found = overview.lines(told(*shown, now=now))
    assert max(len(line) for line in found) <= overview.WIDTH
    return "\n".join(found) + "\n"


def golden(wanted: str) -> str:
    return textwrap.dedent(wanted).lstrip("\n")


def test_running() -> None:
    assert text(running()) == golden("""
        rig at 2026-11-20T10:15:52Z
        run                      verb     services  state    batch   steps  actor  since (UTC)          seconds
        20261120T101500Z-1a2b3c  upgrade  keystone  RUNNING  2 of 3  8/15   ops    2026-11-20 10:15:00  52
            in the hands of process 4711 on ctl
            in hand: keystone-api@ctl2/change for 12 s of at most 600 s
            out of traffic: keystone/ctl2 on lb1

        component     from    to      old  new  unknown  run
        keystone-api  27.0.1  29.0.2  1    1    1        20261120T101500Z-1a2b3c
            unknown: keystone-api@ctl2
    """)


def test_paused() -> None:
    journal = Journal().fetched().batch(1)
    shown = overview.Shown(run("paused", "a pause was asked for"), forward(), None, journal.entries, False)
    assert text(shown, now=AT + 7200) == golden("""
        rig at 2026-11-20T12:15:00Z
        run                      verb     services  state   batch   steps  actor  since (UTC)          seconds
        20261120T101500Z-1a2b3c  upgrade  keystone  PAUSED  2 of 3  7/15   ops    2026-11-20 10:15:00  35
            why: a pause was asked for
            next: the same playbook again goes on

        component     from    to      old  new  unknown  run
        keystone-api  27.0.1  29.0.2  2    1    0        20261120T101500Z-1a2b3c
    """)


def test_rolled_back() -> None:
    reason = (
        "keystone-api@ctl2/test failed: GET /v3/auth/tokens answered 404 where 200 was expected. Look at the log of the service."
    )
    journal = Journal().fetched().batch(1).act(OUT, "keystone#2@lb1/drain", "keystone-api@ctl2/change")
    journal.begin(OUT, "keystone-api@ctl2/test").end(OUT, "keystone-api@ctl2/test", kind="failed")
    for n in (2, 1):
        instance, balancer = "keystone-api@ctl%d/" % n, "keystone#%d@lb1/" % n
        journal.act(BACK, balancer + "drain", instance + "revert", instance + "test", balancer + "admit")
    shown = overview.Shown(run("rolled_back", reason), forward(), back(2, 1), journal.entries, False)
    assert text(shown) == golden("""
        rig at 2026-11-20T10:15:52Z
        run                      verb     services  state        batch        steps          actor  since (UTC)          seconds
        20261120T101500Z-1a2b3c  upgrade  keystone  ROLLED_BACK  back 2 of 2  9/15 back 8/8  ops    2026-11-20 10:15:00  90
            why: keystone-api@ctl2/test failed: GET /v3/auth/tokens answered 404 where 200 was expected. Look at the log of the
              service.
            next: mend what failed, then the same playbook again

        component     from    to      old  new  unknown  run
        keystone-api  27.0.1  29.0.2  3    0    0        20261120T101500Z-1a2b3c
    """)


def frozen() -> overview.Shown:
    reason = (
        "keystone-api@ctl2/change failed: ctl2 cannot be reached\nby \x1b[31mssh\x1b[0m; and not taken back: "
        "keystone-api@ctl2/revert (the host cannot be reached)"
    )
    journal = Journal().fetched().batch(1).act(OUT, "keystone#2@lb1/drain")
    journal.begin(OUT, "keystone-api@ctl2/change").end(OUT, "keystone-api@ctl2/change", kind="unknown")
    journal.begin(BACK, "keystone-api@ctl2/revert").end(BACK, "keystone-api@ctl2/revert", kind="unknown")
    note = "keystone-api@ctl2 stays out of traffic until somebody has looked at it"
    return overview.Shown(run("frozen", reason), forward(), back(2, notes=(note,)), journal.entries, False)


def test_frozen() -> None:
    assert text(frozen()) == golden("""
        rig at 2026-11-20T10:15:52Z
        run                      verb     services  state   batch        steps          actor  since (UTC)          seconds
        20261120T101500Z-1a2b3c  upgrade  keystone  FROZEN  back 1 of 1  8/15 back 0/4  ops    2026-11-20 10:15:00  50
            why: keystone-api@ctl2/change failed: ctl2 cannot be reached by [31mssh [0m; and not taken back:
              keystone-api@ctl2/revert (the host cannot be reached)
            note: keystone-api@ctl2 stays out of traffic until somebody has looked at it
            out of traffic: keystone/ctl2 on lb1
            next: mend what is named above, then the same playbook with -e osops_accept_frozen=20261120T101500Z-1a2b3c

        component     from    to      old  new  unknown  run
        keystone-api  27.0.1  29.0.2  1    1    1        20261120T101500Z-1a2b3c
            unknown: keystone-api@ctl2
    """)


def test_a_run_whose_playbook_is_dead_says_so_and_its_time_stands_still() -> None:
    dead = dataclasses.replace(running(), held=False)
    (one,) = told(dead, now=AT + 90000)["runs"]
    assert (one["held"], one["seconds"]) == (False, 40.0)
    found = text(dead, now=AT + 90000)
    assert overview.LEFT in found
    assert "in the hands of" not in found


def test_for_each_instance_the_newest_run_that_moved_it_counts() -> None:
    """One host by osops_limit, then the others: all three run the new version, though the newest run moved only two."""
    first = Journal().fetched().batch(1)
    one = dataclasses.replace(forward(), moves={"keystone-api@ctl1": (OLD, NEW)})
    second = Journal().fetched().batch(2)
    others = dataclasses.replace(forward(), moves={"keystone-api@ctl%d" % n: (OLD, NEW) for n in (2, 3)})
    (component,) = told(
        overview.Shown(run("paused", id="second"), others, None, second.entries, False),
        overview.Shown(run("succeeded", id="first"), one, None, first.entries, False),
    )["components"]
    assert (component["old"], component["new"], component["unknown"], component["run"]) == (1, 2, [], "second")
    assert component["versions"] == {OLD: 1, NEW: 2}


def test_only_the_newest_run_and_open_ones_say_what_is_next() -> None:
    done = overview.Shown(run("succeeded", id="old"), forward(), None, [], False)
    paused = overview.Shown(run("paused", id="older"), forward(), None, [], False)
    assert [bool(one["next"]) for one in told(done, done, paused)["runs"]] == [True, False, True]


def test_nothing() -> None:
    assert text() == "no run has been made on this cloud\n"


def test_columns_give_way_where_a_line_would_be_too_long() -> None:
    services = tuple("service-%02d" % number for number in range(12))
    shown = overview.Shown(
        run(services=services, actor="a-service-account-of-the-automation-platform"), forward(), None, [], True
    )
    found = text(shown).splitlines()
    assert found[2].startswith("20261120T101500Z-1a2b3c  "), "an id is not broken"
    everything = " ".join(found)
    assert [name for name in services if name not in everything] == []


@pytest.mark.parametrize("cell", ["", "x" * 400, "tab\tand\nline", "\x1b]0;title\x07"])
def test_a_table_survives_any_cell(cell: str) -> None:
    found = overview.table(("one", "two", "three"), [(("a", cell, cell), (cell,))], width=60)
    assert max(len(line) for line in found[:-1] or found) <= 60
    assert all(line.isprintable() for line in found)


# -- progress ------------------------------------------------------------------------------------------------------


def seen(shown: overview.Shown, now: float) -> progress.Progress:
    return progress.progress(shown.run, shown.plan, shown.back, shown.entries, now)


def test_one_line_a_batch_and_one_at_the_end() -> None:
    now = AT + 52
    found = seen(running(), now)
    assert progress.first_line(found, forward()) == (
        "run 20261120T101500Z-1a2b3c: upgrade of keystone on rig, 3 batches, 15 steps, goes on at 8 of 15 steps"
    )
    (batch,) = found.finished
    # Batch 1 took 20 s. Batch 2 began 17 s ago, so 3 s of it are left, and 20 s of batch 3.
    assert progress.rest(found, now) == 23
    assert progress.batch_line(batch, found, now) == (
        "run 20261120T101500Z-1a2b3c: batch 1 of 3 done in 20 s: keystone#1@lb1 keystone-api@ctl1; 8 of 15 steps, "
        "about 23 s left (estimate)"
    )
    assert progress.end_line(seen(frozen(), now)) == (
        "run 20261120T101500Z-1a2b3c: FROZEN after 50 s, 0 of 4 steps of the way back, why: keystone-api@ctl2/change failed: "
        "ctl2 cannot be reached by [31mssh [0m; and not taken back: keystone-api@ctl2/revert (the host cannot be reached)"
    )


def test_the_lines_on_a_terminal() -> None:
    now = AT + 52
    assert progress.live_lines(seen(running(), now), {("keystone-api@ctl2", "change"): 12.2}, 3.0, now + 3) == [
        "run 20261120T101500Z-1a2b3c: upgrade of keystone on rig, 55 s",
        "batch 2 of 3, 8 of 15 steps, about 20 s left (estimate)",
        "in flight: keystone-api@ctl2 change 12 s",
    ]
    taken_back = dataclasses.replace(frozen(), run=run("rolling_back", "it failed"))
    assert progress.live_lines(seen(taken_back, now), {}, 0, now) == [
        "run 20261120T101500Z-1a2b3c: upgrade of keystone on rig, 52 s, ROLLING_BACK",
        "way back, batch 1 of 1, 0 of 4 steps of the way back",
        "in flight: nothing",
    ]


def test_no_estimate_without_a_finished_batch_of_instances() -> None:
    data = model.Plan(
        "rig", "upgrade", ("keystone",), "hash", (("keystone.data",), *forward().batches),
        (*steps(OUT, "keystone.data", "ctl1", "expand"), *forward().steps),
    )  # fmt: skip
    journal = Journal().fetched().act(OUT, "keystone.data/expand")
    found = progress.progress(run(), data, None, journal.entries, journal.now)
    assert (found.batch, [batch.number for batch in found.finished]) == (2, [1])
    assert progress.rest(found, journal.now) is None
    assert "estimate" not in progress.batch_line(found.finished[0], found, journal.now)


def test_a_run_that_is_over_has_nothing_left() -> None:
    journal = Journal().fetched().batch(1).batch(2).batch(3)
    found = progress.progress(run("succeeded"), forward(), None, journal.entries, AT + 9000)
    assert (found.batch, found.done, found.total, found.seconds) == (3, 15, 15, 75)
    assert progress.rest(found, AT + 9000) is None

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Those who only look: a store that is watched is not made, not changed and not waited for; status reads the newest runs alone."""

from __future__ import annotations

import dataclasses
import pathlib
import sqlite3
import time

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import holder, model, shown
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store
from tests.unit.test_overview import forward


def opened(path: pathlib.Path, many: int = 1) -> Store:
    store = Store("sqlite:///%s" % path)
    for number in range(many):
        run = store.open(forward(), "run%d" % number, holder.current(), "me")
        if number < many - 1:
            store.end_run(run.id, run.token, "succeeded", "")
    return store


def variables(tmp_path: pathlib.Path, **more: object) -> dict[str, object]:
    (tmp_path / "cloud.yml").write_text("cloud: rig\nservices: {}\n", encoding="utf-8")
    return {"osops_record": str(tmp_path / "cloud.yml"), "osops_store": "sqlite:///%s" % (tmp_path / "store.db"), **more}


def test_a_store_that_is_not_there_is_not_made(tmp_path: pathlib.Path) -> None:
    with pytest.raises(LifecycleError, match="The store failed: unable to open database file"):
        Store("sqlite:///%s" % (tmp_path / "away" / "store.db"), watch=True)
    with pytest.raises(LifecycleError, match="The store failed: unable to open database file"):
        Store("sqlite:///%s" % (tmp_path / "store.db"), watch=True)
    (tmp_path / "empty.db").touch()
    with pytest.raises(BadInputError, match="No run has been made with this store"):
        Store("sqlite:///%s" % (tmp_path / "empty.db"), watch=True)
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_watching_changes_nothing_and_can_change_nothing(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a 50% store with #signs.db"
    opened(path)
    before = path.read_bytes()
    watch = Store("sqlite:///%s" % path, watch=True)
    assert watch.progress("run0")[0].state == "running"
    with pytest.raises(LifecycleError, match="readonly"):
        watch.ask("run0", "cancel")
    assert path.read_bytes() == before
    assert [other.name for other in tmp_path.iterdir()] == [path.name]


def test_a_writer_in_the_middle_of_a_transaction_keeps_nobody_waiting(tmp_path: pathlib.Path) -> None:
    store = opened(tmp_path / "store.db")
    watch = Store(store.url, watch=True)
    step = forward().steps[0]
    with store.beginning(step, "run0") as beginning:
        beginning.intent(step, 1, holder.current())
        began = time.monotonic()
        assert watch.progress("run0")[1] == []
        assert time.monotonic() - began < 1
    (entry,) = watch.progress("run0")[1]
    assert (entry.step, entry.kind, entry.holder) == (step.id, "intent", {})
    assert dataclasses.replace(store.entries("run0")[0], holder={}) == entry


def test_a_run_that_is_not_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(BadInputError, match="There is no run other in this store"):
        opened(tmp_path / "store.db").progress("other")


def test_status_reads_nothing_of_the_runs_that_it_does_not_show(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path / "store.db", 12)
    # Whoever parsed one of these would fail.
    with sqlite3.connect(tmp_path / "store.db") as c:
        c.execute("UPDATE osops_plan SET body = 'no plan' WHERE run NOT IN ('run11', 'run10', 'run9', 'run8', 'run7')")
        c.execute("UPDATE osops_run SET holder = 'no holder' WHERE id NOT IN ('run11', 'run10', 'run9', 'run8', 'run7')")
    parsed: list[str] = []
    real = model.plan_from_dict
    monkeypatch.setattr(model, "plan_from_dict", lambda data: parsed.append(data["hash"]) or real(data))
    answer = shown.answer(variables(tmp_path))
    assert [run["id"] for run in answer["status"]["runs"]] == ["run11", "run10", "run9", "run8", "run7"]
    assert len(parsed) == 5
    assert [run["id"] for run in shown.answer(variables(tmp_path, osops_runs="2"))["status"]["runs"]] == ["run11", "run10"]
    assert len(store.runs("rig", newest=3)) == 3
    assert len(store.runs("rig", ("keystone",), newest=3)) == 3
    with sqlite3.connect(tmp_path / "store.db") as c:
        how = " ".join(
            row[3] for row in c.execute("EXPLAIN QUERY PLAN SELECT * FROM osops_run WHERE cloud = 'rig' ORDER BY token DESC")
        )
    assert "osops_run_newest" in how
    assert "TEMP B-TREE" not in how, "sorting would read all runs"


def test_status_before_the_first_run(tmp_path: pathlib.Path) -> None:
    for _twice in range(2):
        answer = shown.answer(variables(tmp_path))
        assert answer["lines"] == ["no run has been made with this store"]
        assert answer["status"]["runs"] == []
        assert not (tmp_path / "store.db").exists()
    (tmp_path / "store.db").touch()
    assert shown.answer(variables(tmp_path))["lines"] == ["no run has been made with this store"]
    Store("sqlite:///%s" % (tmp_path / "store.db"))
    assert shown.answer(variables(tmp_path))["lines"] == ["no run has been made on this cloud"]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("osops_format", "xml", "osops_format is xml; it can be table or json."),
        ("osops_runs", "all", "osops_runs is all; it must be a number from 1 to 1000."),
        ("osops_runs", 0, "osops_runs is 0; it must be a number from 1 to 1000."),
        ("osops_runs", "-1", "osops_runs is -1; it must be a number from 1 to 1000."),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: pathlib.Path, name: str, value: object, says: str) -> None:
    with pytest.raises(BadInputError) as caught:
        shown.answer(variables(tmp_path, **{name: value}))
    assert caught.value.msg == says

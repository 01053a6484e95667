# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore decides from what it finds, with a server that only answers. (On a real one: tests/integration/mariadb.)"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb import labour, restore, worker
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.client import Facts, Server

FACTS = Facts("db1", "10.11.19-MariaDB", False, False, False, "/nowhere", "/nowhere/pid")
CLEAN = {"database": True, "restored": None, "torn": None, "last_restore": None}


class World:
    """A place with backups, and a database that a restore changes."""

    def __init__(self, place: Path, patch: pytest.MonkeyPatch) -> None:
        self.place, self.rows, self.sessions, self.there = place, {"a": 2}, list[Any](), True
        self.runs: list[str] = []
        self.fail = ""  # before: nothing touched; after: cut when it had dropped
        os.chmod(place, 0o700)
        self.backup("one", 1000.0)
        patch.setattr(Server, "facts", lambda *_: FACTS)
        patch.setattr(Server, "rows", lambda *_: list(self.sessions))
        patch.setattr(restore.Schema, "find", lambda *_: labour.Schema("x", "y", "", 0, 0, ()) if self.there else None)
        patch.setattr(restore, "rows_of", lambda *_: dict(self.rows))
        patch.setattr(restore, "_GRACE_S", 0.0)
        patch.setattr(labour.Labour, "content", lambda *_: "content of %s" % self.rows)
        patch.setattr(labour.Labour, "restoring", lambda *_: False)
        patch.setattr(labour.Labour, "restore", self._restore)

    def backup(self, id_: str, made: float) -> None:
        text = b"-- " + id_.encode()
        (self.place / (id_ + ".sql")).write_bytes(text)
        books = {
            "tables": {"a": 1},
            "content": "content of {'a': 1}",
            "charset": "x",
            "collation": "y",
            "version": "10.11.19-MariaDB",
        }
        books.update(
            bytes=len(text), sha256=hashlib.sha256(text).hexdigest(), made_epoch=made, made_at="at %d" % made, proven=True
        )
        worker.write_json(
            str(self.place / (id_ + ".json")), {"mark": worker.MARK, "id": id_, "database": "d", "service": "s", **books}
        )

    def _restore(self, id_: str, _terms: Terms, report: Report, _taken_up: bool = False) -> None:
        report.changed = True
        if self.fail == "before":
            raise LifecycleError("No.", "backup.locked")
        state = {"id": id_, "database": "d", "begun": len(self.runs) + 1.0, "rows": dict(self.rows), "comment": ""}
        worker.write_json(worker.flag_path(str(self.place), "d"), state)
        if self.fail == "after":
            raise LifecycleError("Cut.", "job.cut", "Run it again.")
        self.runs.append(id_)
        self.rows = {"a": 1}
        worker.write_json(worker.last_path(str(self.place), "d"), {**state, "done_at": "T%d" % len(self.runs)})
        worker.remove(worker.flag_path(str(self.place), "d"))

    def call(self, check: bool = False, expect: Any = None, resume: bool = False, **more: Any) -> tuple[str, Report]:
        params = {
            "state": "restored", "database": "d", "service": "s", "kind": "dump", "id": None, "place": str(self.place), "keep": 1,
            "scratch": "/nowhere", "token": None, "scope": "x", "server": {"socket": "/nowhere/s", "user": "root"}, "secrets": {},
            "resources": {"memory_mb": 256, "io_weight": 20}, **more,
        }  # fmt: skip
        report = Report()
        try:
            return restore.prepare(params)(Terms(check, expect, resume, Deadline(60)), report).code, report
        except LifecycleError as exc:
            report.more["hint"] = exc.hint
            return exc.code, report


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_from_a_look_to_the_end(world: World) -> None:
    world.backup("two", 2000.0)
    code, look = world.call(check=True)
    assert (code, look.changed, look.before) == ("backup.predicted", True, CLEAN)
    assert (look.more["backup"]["id"], look.after) == ("two", {"database": True, "restored": "two", "torn": None})
    assert look.more["lost"]["tables"] == {"a": {"rows_now": 2, "rows_then": 1}}
    code, done = world.call(expect=look.before, id="one")
    assert (code, done.changed, world.runs) == ("backup.restored", True, ["one"])
    assert done.after == {**CLEAN, "restored": "one", "last_restore": "one T1"}
    code, same = world.call(expect=done.after, id="one")
    assert (code, same.changed, same.before, world.runs) == ("backup.same", False, done.after, ["one"])


def test_it_is_not_done_again_after_the_service_has_written(world: World) -> None:
    planned = world.call(check=True)[1].before
    world.call(expect=planned)
    world.rows = {"a": 9}
    for expect in (planned, {"database": True}, None):
        for id_ in ("one", None):
            code, again = world.call(expect=expect, resume=True, id=id_)
            assert (code, again.changed, world.rows) == ("backup.done", False, {"a": 9})
    assert world.call(expect=planned)[0] == "expect.foreign"
    # Another act, which was planned after it and cut before it came here.
    assert world.call(expect=world.call(check=True)[1].before, resume=True)[0] == "backup.restored"
    assert (world.runs, world.rows) == (["one", "one"], {"a": 1})


def test_another_restore_since_the_look(world: World) -> None:
    world.backup("two", 2000.0)
    planned = world.call(check=True, id="one")[1].before
    world.call(id="two")
    world.rows = {"a": 9}
    for resume in (False, True):
        assert world.call(expect=planned, resume=resume, id="one")[0] == "expect.foreign"
    assert world.runs == ["two"]


def test_rows_are_not_compared(world: World) -> None:
    world.rows = {"a": 1}
    planned = world.call(check=True)[1].before
    assert planned == {**CLEAN, "restored": "one"}
    world.rows = {"a": 2}
    assert world.call(expect=planned)[0] == "backup.restored"


def test_a_database_that_was_dropped_since_is_not_done(world: World) -> None:
    planned = world.call(check=True)[1].before
    world.call(expect=planned)
    world.there = False
    assert world.call(resume=True)[0] == "backup.restored"
    assert world.runs == ["one", "one"]


def test_a_failure_before_the_drop_has_changed_nothing(world: World) -> None:
    world.fail = "before"
    code, report = world.call()
    assert (code, report.changed, report.before, report.after) == ("backup.locked", False, CLEAN, CLEAN)


def test_a_cut_restore_is_finished(world: World) -> None:
    planned = world.call(check=True)[1].before
    world.fail = "after"
    code, report = world.call(expect=planned)
    assert (code, report.changed, report.after) == ("job.cut", True, {"restored": None, "torn": "one"})
    assert report.more["hint"] == "Run it again. The database is half restored: the same call again finishes it."
    world.fail, world.there = "", False
    look = world.call(check=True)[1]
    assert (look.before, look.more["lost"]["tables"]) == (
        {**CLEAN, "database": False, "torn": "one"},
        {"a": {"rows_now": 2, "rows_then": 1}},
    )
    assert world.call(expect=planned)[0] == "expect.foreign", "whose was it?"
    code, done = world.call(expect=planned, resume=True)
    assert (code, done.after["torn"]) == ("backup.restored", None)


def test_a_cut_restore_and_a_newer_backup(world: World) -> None:
    world.fail = "after"
    world.call(id="one")
    world.fail = ""
    world.backup("two", 2000.0)
    assert world.call(check=True)[0] == world.call()[0] == "backup.torn"
    assert world.call(id="two", check=True)[0] == "backup.predicted"
    assert world.call(resume=True)[1].more["backup"]["id"] == "one", "what is resumed is the one that was cut"
    world.fail, world.rows = "after", {"a": 9}
    world.call(id="one")
    world.fail = ""
    assert world.call(id="two")[1].after["torn"] is None
    assert world.runs == ["one", "two"]


@pytest.mark.parametrize(
    "params", [{"state": "present"}, {"state": "absent", "id": "one"}, {"kind": "external", "state": "present"}]
)
def test_nothing_else_is_done_meanwhile(world: World, params: dict[str, Any]) -> None:
    world.fail = "after"
    world.call()
    more = {"command": ["/bin/true"], "max_age_s": 9, "expect": None}
    for check in (True, False):
        code, report = world.call(check=check, **{**more, **params})
        assert (code, report.changed) == ("backup.torn", False)


def test_sessions_are_a_note_of_a_look_and_a_refusal_of_an_act(world: World) -> None:
    world.sessions = [[7, "keystone", "10.0.0.5:4711", "d", "Sleep"]]
    code, look = world.call(check=True)
    assert code == "backup.predicted"
    assert look.more["notes"] == [
        "The database d is in use by keystone@10.0.0.5 (Sleep, session 7). They have to be gone before the restore."
    ]
    code, report = world.call()
    assert (code, report.changed, world.runs) == ("backup.in_use", False, [])


def test_who_restores_is_waited_for(world: World) -> None:
    try:
        with worker.locked("/nowhere/s", "d", exclusive=True):
            for params in ({}, {"state": "present"}, {"state": "absent", "id": "one"}):
                for check in (True, False):
                    assert world.call(check=check, **params)[0] == "backup.busy"
        assert world.runs == []
    finally:
        Path(worker.lock_path("/nowhere/s", "d")).unlink()


@pytest.mark.parametrize("harm", ["gone", "short", "other", "unproven"])
def test_what_cannot_be_verified_is_refused_in_a_look(world: World, harm: str) -> None:
    path = world.place / "one.sql"
    if harm == "gone":
        path.unlink()
    elif harm == "unproven":
        books = world.place / "one.json"
        books.write_text(books.read_text().replace('"proven": true', '"proven": false'))
    else:
        path.write_bytes(path.read_bytes()[:-1] + (b"x" if harm == "other" else b""))
    for check in (True, False):
        assert world.call(check=check, id="one")[0] == ("backup.missing" if harm == "unproven" else "backup.corrupt")
        assert world.call(check=check)[0] == "backup.missing"
    world.backup("old", 500.0)
    look = world.call(check=True)[1]
    assert look.more["backup"]["id"] == "old"
    assert bool(look.more["notes"]) is (harm != "unproven")
    assert world.runs == []

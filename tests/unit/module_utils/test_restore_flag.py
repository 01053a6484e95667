# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore leaves beside the backups, and what it says of sessions and rows. (On a real MariaDB: tests/integration/mariadb.)"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb import worker
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.catalog import Attempt, Catalog
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.mark import Mark

MANIFEST: dict[str, Any] = {"made_at": "2026-05-01T03:00:00Z", "made_epoch": 1000.0, "tables": {"a": 3, "b": 0, "c": 1}}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(str(tmp_path), "keystone", "keystone")


def write(catalog: Catalog, name: str, **data: Any) -> None:
    worker.write_json(str(Path(catalog.place) / name), data)


def test_a_flag_is_of_its_own_database(catalog: Catalog) -> None:
    assert (catalog.half(), catalog.last()) == (None, None)
    write(catalog, "nova.restoring", id="one", begun=1.5)
    catalog.refuse_half()
    write(catalog, "keystone.restoring", id="one", begun=1.5, rows={"a": 1}, comment="x")
    assert catalog.half() == Attempt("one", 1.5, {"a": 1}, "x", "")
    for id_ in ("", "one"):
        with pytest.raises(LifecycleError) as refused:
            catalog.refuse_half(id_)
        assert refused.value.code == "backup.torn"
    catalog.refuse_half("two")


def test_a_restore_that_was_cut_between_its_last_two_acts_is_done(catalog: Catalog) -> None:
    write(catalog, "keystone.restoring", id="one", begun=1.5)
    write(catalog, "keystone.restored", id="one", begun=1.0, done_at="then")
    assert catalog.half() is not None, "an older restore has nothing to say"
    write(catalog, "keystone.restored", id="one", begun=1.5, done_at="now")
    last = catalog.last()
    assert catalog.half() is None
    assert last is not None
    assert last.stamp() == "one now"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_flag_that_is_not_understood_counts(catalog: Catalog, text: str) -> None:
    Path(catalog.place, "keystone.restoring").write_text(text)
    half = catalog.half()
    assert half is not None
    assert (half.id, half.rows, half.comment) == ("unknown", None, "")
    Path(catalog.place, "keystone.restored").write_text(text)
    assert catalog.last() is None
    assert catalog.half() is not None


def test_what_a_restore_loses() -> None:
    assert worker.lost(MANIFEST, {"a": 3, "b": 2, "new": 0, "c": "unknown"}, 1060.4) == {
        "taken_at": "2026-05-01T03:00:00Z",
        "age_s": 60,
        "tables": {
            "b": {"rows_now": 2, "rows_then": 0},
            "c": {"rows_now": "unknown", "rows_then": 1},
            "new": {"rows_now": 0, "rows_then": None},
        },
    }
    assert worker.lost(MANIFEST, MANIFEST["tables"], 999.0) == {"taken_at": MANIFEST["made_at"], "age_s": 0, "tables": {}}
    unknown = worker.lost(MANIFEST, None, time.time())["tables"]
    assert set(unknown) == {"a", "b", "c"}
    assert unknown["a"] == {"rows_now": "unknown", "rows_then": 3}


def test_what_was_not_counted_is_unknown() -> None:
    assert worker.counted(["a", "b", "c"], ["[0, 7]", "[2, 0]"]) == {"a": 7, "b": "unknown", "c": 0}


@pytest.mark.parametrize(
    ("row", "busy"),
    [
        ([1, "anybody", "10.0.0.1:4711", "keystone", "Sleep"], True),
        ([1, "keystone", "10.0.0.1:4711", None, "Sleep"], True),
        ([1, "keystone", "10.0.0.1:4711", "nova", "Sleep"], True),
        ([1, "nova", "10.0.0.1:4711", "nova", "Sleep"], False),
        ([1, "root", "localhost", None, "Query"], False),
        ([1, "system user", "", "keystone", "Slave_worker"], False),
        ([1, "event_scheduler", "localhost", "keystone", "Daemon"], False),
    ],
)
def test_who_uses_a_database(row: list[Any], busy: bool) -> None:
    comment = Mark("east/keystone", ("keystone@%", "keystone@10.0.0.%")).comment()
    assert bool(worker.users_of([row], "keystone", comment)) is busy
    for unreadable in ("", "somebody's", comment[:-3], "osops.lifecycle []"):
        assert bool(worker.users_of([row], "keystone", unreadable)) is (busy and row[3] == "keystone")


def test_a_restore_is_alone_and_backups_are_not(tmp_path: Path) -> None:
    socket = str(tmp_path / "s")
    try:
        with worker.locked(socket, "a", exclusive=False), worker.locked(socket, "a", exclusive=False, wait_s=0.0):
            with pytest.raises(worker.Failed) as refused, worker.locked(socket, "a", exclusive=True, wait_s=0.0):
                pass
            assert refused.value.answer["code"] == "backup.busy"
            with worker.locked(socket, "b", exclusive=True, wait_s=0.0):
                pass
        alone = worker.locked(socket, "a", exclusive=True, wait_s=0.0)
        with alone, pytest.raises(worker.Failed), worker.locked(socket, "a", exclusive=False, wait_s=0.0):
            pass
    finally:
        for database in ("a", "b"):
            Path(worker.lock_path(socket, database)).unlink(missing_ok=True)

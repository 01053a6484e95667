# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Revisions: what was there comes back byte for byte, and only so many are kept."""

from __future__ import annotations

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._files import model
from tests.integration.service_files.desk import Desk, tree


def test_undo_of_a_change_brings_the_former_files_back(desk: Desk) -> None:
    desk.call(**desk.wanted())
    there = tree(desk.etc)
    more = desk.wanted("true")
    more["folders"].append({"path": str(desk.etc / "more")})
    more["files"].append({"path": str(desk.etc / "more" / "a"), "content": "a"})
    more["files"][0]["mode"] = "0600"
    changed = desk.call(**more)
    after = tree(desk.etc)
    assert changed["undo"] == {
        "state": "present",
        "name": "keystone-api",
        "owner": "cloud1/keystone/keystone-api",
        "revision": changed["before"]["revision"],
    }
    undone = desk.call(expect=changed["after"], **changed["undo"])
    assert (undone["verdict"]["outcome"], undone["changed"]) == ("pass", True), undone
    assert tree(desk.etc) == there
    assert undone["after"]["revision"] == changed["before"]["revision"]
    assert desk.call(**changed["undo"])["changed"] is False
    desk.call(**undone["undo"])
    assert tree(desk.etc) == after, "and the undo is undone"


def test_undo_of_the_first_call_is_absent(desk: Desk) -> None:
    made = desk.call(**desk.wanted())
    assert made["undo"]["state"] == "absent"
    desk.call(**made["undo"])
    assert tree(desk.etc) == {}


def test_undo_names_the_scope_and_how_many_are_kept(desk: Desk) -> None:
    desk.call(scope="other", keep=20, **desk.wanted())
    changed = desk.call(scope="other", keep=20, **desk.wanted("true"))
    assert (changed["undo"]["scope"], changed["undo"]["keep"]) == ("other", 20)
    undone = desk.call(**changed["undo"])
    assert (undone["changed"], undone["after"]["revision"]) == (True, changed["before"]["revision"])


def test_undo_of_absent_brings_all_back_with_the_keys_of_today(desk: Desk) -> None:
    desk.call(**desk.wanted())
    desk.path("fernet-keys/0").write_text("rotated")
    there = tree(desk.etc)
    gone = desk.absent()
    assert tree(desk.etc) == {}
    back = desk.call(**gone["undo"])
    assert (tree(desk.etc), back["after"]["revision"]) == (there, gone["before"]["revision"])


def test_a_key_that_was_rotated_away_stays_away(desk: Desk) -> None:
    desk.call(**desk.wanted())
    desk.path("fernet-keys/1").unlink()
    there = tree(desk.etc)
    changed = desk.call(**desk.wanted("true"))
    desk.call(**changed["undo"])
    assert tree(desk.etc) == there
    gone = desk.absent()
    back = desk.call(**gone["undo"])
    assert (tree(desk.etc), back["after"]["revision"]) == (there, gone["before"]["revision"])
    assert desk.call(**desk.wanted())["changed"] is False


def test_the_current_revision_can_be_brought_back_too(desk: Desk) -> None:
    made = desk.call(**desk.wanted())
    there = tree(desk.etc)
    desk.path("keystone.conf").unlink()
    desk.path("uwsgi.ini").write_text("by hand")
    back = desk.call(revision=made["after"]["revision"])
    assert (back["changed"], tree(desk.etc)) == (True, there)


def test_the_oldest_are_forgotten(desk: Desk) -> None:
    made = [desk.call(keep=2, **desk.wanted(str(number)))["after"]["revision"] for number in range(5)]
    answer = desk.call(keep=2, **desk.wanted("4"))
    assert answer["revisions"] == made[2:], "two former ones, and the one in force"
    folders = sorted(path.name for path in (desk.root / "default" / "keystone-api").iterdir())
    assert folders == sorted(made[2:])
    desk.call(keep=2, revision=made[2])
    assert desk.call(check=True, revision=made[2])["revisions"] == [made[3], made[4], made[2]]


def test_keep_nothing_leaves_nothing(desk: Desk) -> None:
    desk.call(**desk.wanted())
    desk.call(**desk.wanted("true"))
    gone = desk.absent(keep=0)
    assert ("undo" not in gone, gone["kept"]) == (True, [])
    assert (tree(desk.etc), tree(desk.root / "default")) == ({}, {})


def test_a_revision_does_not_tell_what_is_in_it_elsewhere(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    here = desk.call(check=True, **desk.wanted())["after"]["revision"]
    assert here == desk.call(check=True, **desk.wanted())["after"]["revision"]
    monkeypatch.setattr(model, "MACHINE_ID", __file__)
    assert here != desk.call(check=True, **desk.wanted())["after"]["revision"]

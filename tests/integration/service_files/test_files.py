# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What it makes, what it leaves alone, and what it takes away: real files, read back."""

from __future__ import annotations

import base64
import configparser
import grp
import hashlib
import hmac
import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import ForeignChangeError
from ansible_collections.osops.lifecycle.plugins.module_utils._files import disk
from ansible_collections.osops.lifecycle.plugins.module_utils._files.model import Entry
from tests.integration.service_files.desk import PASSWORD, SECRETS, Desk, refused, tree


def test_everything_is_made_with_its_content_mode_and_owner(desk: Desk) -> None:
    answer = desk.call(**desk.wanted())
    assert (answer["verdict"]["outcome"], answer["changed"]) == ("pass", True), answer
    assert desk.path("keystone.conf").read_text() == (
        "[DEFAULT]\ndebug = false\n\n[database]\nconnection = mysql+pymysql://keystone:%s@192.0.2.20/keystone\n" % PASSWORD
    )
    read = configparser.RawConfigParser()
    read.read(desk.path("keystone.conf"))
    assert read["database"]["connection"] == "mysql+pymysql://keystone:%s@192.0.2.20/keystone" % PASSWORD
    assert {name: row[1] for name, row in tree(desk.etc).items()} == {
        "keystone": "0750",
        "keystone/fernet-keys": "0700",
        "keystone/fernet-keys/0": "0600",
        "keystone/fernet-keys/1": "0600",
        "keystone/keystone.conf": "0640",
        "keystone/uwsgi.ini": "0644",
    }


def test_a_key_is_the_hmac_of_its_secret_and_label(desk: Desk) -> None:
    desk.call(**desk.wanted())
    key = desk.path("fernet-keys/0").read_bytes()
    raw = hmac.new(SECRETS["fernet_secret"].encode(), b"keystone/fernet/0", hashlib.sha256).digest()
    assert (len(key), base64.urlsafe_b64decode(key)) == (44, raw)
    assert key != desk.path("fernet-keys/1").read_bytes()


def test_the_second_call_changes_nothing(desk: Desk) -> None:
    first = desk.call(**desk.wanted())
    there = tree(desk.etc)
    times = {path: path.stat().st_mtime_ns for path in desk.etc.rglob("*")}
    second = desk.call(**desk.wanted())
    assert (second["changed"], second["before"], second["after"]) == (False, first["after"], first["after"])
    assert tree(desk.etc) == there
    assert {path: path.stat().st_mtime_ns for path in desk.etc.rglob("*")} == times


def test_check_mode_predicts_and_touches_nothing(desk: Desk) -> None:
    looked = desk.call(check=True, **desk.wanted())
    assert (tree(desk.etc), desk.root.exists()) == ({}, False)
    assert looked["changed"] is True
    assert set(looked["before"]["files"].values()) == {"missing"}
    done = desk.call(**desk.wanted())
    assert (done["before"], done["after"]) == (looked["before"], looked["after"])
    gone = desk.absent(check=True)
    assert set(desk.words(gone, "after").values()) == {"missing"}
    assert desk.absent()["after"] == gone["after"]


def test_the_books_are_for_root_only(desk: Desk) -> None:
    desk.call(**desk.wanted())
    modes = {stat.S_IMODE(path.stat().st_mode) for path in desk.root.rglob("*") if path.is_file()}
    folders = {stat.S_IMODE(path.stat().st_mode) for path in [desk.root, *desk.root.rglob("*")] if path.is_dir()}
    assert (modes, folders) == ({0o600}, {0o700})
    manifest = json.loads((desk.root / "default" / "keystone-api.json").read_text())
    held = manifest["held"]["entries"][str(desk.path("uwsgi.ini"))]
    assert held["sha256"] == hashlib.sha256(desk.path("uwsgi.ini").read_bytes()).hexdigest()
    assert PASSWORD not in json.dumps(manifest)


def test_absent_leaves_the_host_as_it_was(desk: Desk) -> None:
    (desk.etc / "other.conf").write_text("not ours\n")
    before = tree(desk.etc)
    desk.call(**desk.wanted())
    gone = desk.absent()
    assert (gone["verdict"]["outcome"], gone["changed"], gone["left_over"]) == ("pass", True, [])
    assert tree(desk.etc) == before
    assert not (desk.root / "default" / "keystone-api.json").exists()
    again = desk.absent()
    assert (again["changed"], again["before"]["revision"]) == (False, None)


def test_foreign_files_are_named_all_and_nothing_is_written(desk: Desk) -> None:
    desk.path("").mkdir(mode=0o750)
    desk.path("keystone.conf").write_text("mine\n")
    desk.path("uwsgi.ini").write_text("mine too\n")
    there = tree(desk.etc)
    answer = desk.call(**desk.wanted())
    said = refused(answer, "files.foreign")
    assert str(desk.path("keystone.conf")) in said
    assert str(desk.path("uwsgi.ini")) in said
    assert desk.words(answer)["keystone.conf"] == "foreign"
    assert (tree(desk.etc), desk.root.exists()) == (there, False)
    assert refused(desk.call(check=True, **desk.wanted()), "files.foreign") == said


def test_what_is_there_already_as_wanted_stays_somebody_elses(desk: Desk) -> None:
    desk.path("").mkdir()
    desk.path("").chmod(0o750)
    desk.path("uwsgi.ini").write_text("[uwsgi]\ndebug = false\n")
    desk.path("uwsgi.ini").chmod(0o644)
    before = tree(desk.etc)
    answer = desk.call(**desk.wanted())
    words = desk.words(answer, "after")
    assert (words["."], words["uwsgi.ini"], words["keystone.conf"]) == ("same", "same", "ours")
    assert desk.call(**desk.wanted())["changed"] is False
    assert desk.absent()["left_over"] == []
    assert tree(desk.etc) == before


def test_an_edited_file_is_put_right_and_kept_first(desk: Desk) -> None:
    made = desk.call(**desk.wanted())
    desk.path("uwsgi.ini").write_text("[uwsgi]\ndebug = by hand\n")
    desk.path("keystone.conf").chmod(0o600)
    edited = tree(desk.etc)
    look = desk.call(check=True, **desk.wanted())
    words = desk.words(look)
    assert (words["uwsgi.ini"], words["keystone.conf"], words["fernet-keys/0"], look["changed"]) == (
        "edited",
        "edited",
        "ours",
        True,
    )
    mended = desk.call(**desk.wanted())
    assert (mended["after"], mended["before"]) == (made["after"], look["before"])
    assert desk.path("uwsgi.ini").read_text() == "[uwsgi]\ndebug = false\n"
    desk.call(revision=mended["kept"][-1])
    assert tree(desk.etc) == edited, "what was edited can be had back"


def test_an_edit_since_the_look_is_a_foreign_change(desk: Desk) -> None:
    expect = desk.call(**desk.wanted())["after"]
    desk.path("keystone.conf").write_text("by hand\n")
    there = tree(desk.etc)
    for resume in (False, True):
        assert "keystone.conf" in refused(desk.call(expect=expect, resume=resume, **desk.wanted("true")), "expect.foreign")
        assert "keystone.conf" in refused(desk.absent(expect=expect, resume=resume), "expect.foreign")
    assert tree(desk.etc) == there


def test_a_file_that_came_since_the_look_is_a_foreign_change(desk: Desk) -> None:
    expect = desk.call(check=True, **desk.wanted())["before"]
    desk.path("").mkdir(mode=0o711)
    refused(desk.call(expect=expect, **desk.wanted()), "expect.foreign")
    refused(desk.call(expect=expect, resume=True, **desk.wanted()), "expect.foreign")


def test_a_deleted_file_is_made_again(desk: Desk) -> None:
    desk.call(**desk.wanted())
    there = tree(desk.etc)
    for path in sorted(desk.etc.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    answer = desk.call(**desk.wanted())
    assert set(answer["before"]["files"].values()) == {"missing"}
    assert tree(desk.etc) == there


def test_rotated_keys_stay_and_are_removed_with_the_rest(desk: Desk) -> None:
    desk.call(**desk.wanted())
    # As keystone-manage fernet_rotate does: the staged key becomes the primary one, a new one is staged, the oldest is dropped.
    desk.path("fernet-keys/1").unlink()
    desk.path("fernet-keys/0").rename(desk.path("fernet-keys/2"))
    desk.path("fernet-keys/0").write_text("rotated")
    desk.path("fernet-keys/0").chmod(0o600)
    there = tree(desk.etc)
    assert desk.call(**desk.wanted())["changed"] is False
    changed = desk.call(**desk.wanted("true"))
    assert changed["changed"] is True
    keys = {name: row for name, row in there.items() if "fernet-keys" in name}
    assert {name: row for name, row in tree(desk.etc).items() if "fernet-keys" in name} == keys
    # A key that the service made goes with them, but not what has another owner or mode.
    desk.path("fernet-keys/3").write_text("a person's")
    there = tree(desk.etc)
    assert "it still holds 2, 3." in desk.absent(check=True)["left_over"][0], "the data may stay, and needs it"
    desk.absent(rotated=True, check=True)
    assert tree(desk.etc) == there
    gone = desk.absent(rotated=True)
    assert sorted(tree(desk.etc)) == ["keystone", "keystone/fernet-keys", "keystone/fernet-keys/3"]
    assert [left.split(":")[0] for left in gone["left_over"]] == [
        str(desk.path("fernet-keys")),
        str(desk.path("").parent / "keystone"),
    ]
    assert "it still holds 3." in gone["left_over"][0]
    again = desk.absent()
    assert (again["changed"], again["left_over"]) == (False, gone["left_over"])
    back = desk.call(**gone["undo"])
    assert (tree(desk.etc), back["after"]["revision"]) == (there, gone["before"]["revision"])
    # What came back is not taken away by the next change, which knows nothing of it.
    assert (desk.call(**desk.wanted())["changed"], tree(desk.etc).keys()) == (True, there.keys())
    desk.absent(rotated=True)
    desk.path("fernet-keys/3").unlink()
    assert desk.absent()["changed"] is True
    assert tree(desk.etc) == {}
    assert [path for path in desk.root.rglob("*.json") if path.name == "keystone-api.json"] == []


def test_what_could_not_be_removed_and_went_later_is_forgotten(desk: Desk) -> None:
    desk.call(**desk.wanted())
    desk.path("fernet-keys/2").write_text("rotated")
    assert len(desk.absent()["left_over"]) == 2
    desk.path("fernet-keys").chmod(0o755)
    again = desk.absent()
    assert (again["changed"], desk.words(again)["fernet-keys"], len(again["left_over"])) == (False, "edited", 2)
    shutil.rmtree(desk.etc / "keystone")
    gone = desk.absent(keep=0)
    assert (gone["changed"], gone["left_over"], tree(desk.root / "default")) == (False, [], {})


def test_what_is_no_longer_named_goes(desk: Desk) -> None:
    desk.call(**desk.wanted())
    less = desk.wanted()
    less["files"] = less["files"][:1]
    less["folders"] = less["folders"][:1]
    answer = desk.call(**less)
    assert (answer["changed"], sorted(tree(desk.etc))) == (True, ["keystone", "keystone/keystone.conf"])
    assert desk.call(**less)["changed"] is False


def test_another_owner_and_another_name_are_kept_apart(desk: Desk) -> None:
    desk.call(**desk.wanted())
    there = tree(desk.etc)
    assert "cloud1/keystone/keystone-api" in refused(desk.call(owner="somebody", **desk.wanted()), "files.other_owner")
    refused(desk.absent(owner="somebody"), "files.other_owner")
    refused(desk.call(name="another", **desk.wanted("true")), "files.foreign")
    assert (desk.absent(name="another")["changed"], tree(desk.etc)) == (False, there)


def test_a_link_in_the_way_is_refused(desk: Desk, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    desk.path("").symlink_to(elsewhere)
    assert "symbolic link" in refused(desk.call(**desk.wanted()), "files.foreign")
    assert tree(elsewhere) == {}


def test_a_link_put_in_place_of_our_folder_is_not_followed_when_removing(desk: Desk, tmp_path: Path) -> None:
    desk.call(**desk.wanted())
    elsewhere = tmp_path / "elsewhere"
    desk.path("").rename(elsewhere)
    (desk.etc / "keystone").symlink_to(elsewhere)
    there = tree(elsewhere)
    gone = desk.absent()
    assert len(gone["left_over"]) == 6
    assert "a symbolic link" in gone["left_over"][0]
    assert tree(elsewhere) == there


def test_a_file_made_in_the_last_moment_is_not_overwritten(desk: Desk) -> None:
    path = desk.etc / "new"
    path.write_text("theirs")
    with pytest.raises(ForeignChangeError, match="Somebody else has just made"):
        disk.write(str(path), b"ours", Entry("file", "0600", "root", "root"), new=True)
    assert (path.read_text(), os.listdir(desk.etc)) == ("theirs", ["new"])


def test_owners_and_groups_are_set(desk: Desk) -> None:
    wanted = desk.wanted()
    wanted["files"][1].update(owner="nobody", group="daemon", mode="0604")
    desk.call(**wanted)
    there = desk.path("uwsgi.ini").stat()
    assert (there.st_uid, there.st_gid, stat.S_IMODE(there.st_mode)) == (65534, grp.getgrnam("daemon").gr_gid, 0o604)
    os.chown(desk.path("uwsgi.ini"), 0, 0)
    assert desk.words(desk.call(**wanted))["uwsgi.ini"] == "edited"
    assert desk.path("uwsgi.ini").stat().st_uid == 65534


def test_the_diff_shows_files_without_secrets_only(desk: Desk) -> None:
    made = desk.call(**desk.wanted())
    assert "+debug = false" in made["diff"]["prepared"]
    changed = desk.call(**desk.wanted("true"))
    assert "-debug = false\n+debug = true" in changed["diff"]["prepared"]
    assert "keystone.conf" not in changed["diff"]["prepared"]
    assert changed["diff"]["before"] == changed["before"]
    for answer in (made, changed):
        assert not any(secret in repr(answer) for secret in (*SECRETS.values(), desk.path("fernet-keys/0").read_text()))

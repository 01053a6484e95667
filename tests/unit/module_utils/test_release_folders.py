# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases and links in a real folder: what counts as complete, what a link names, and a switch without a gap."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils import _environment, _instance
from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._release import Release

OLD, NEW = "27.0.1-0123456789ab", "29.0.2-0123456789ab"


def release(identifier: str) -> Release:
    return Release.from_args({"id": identifier, "package": "keystone"})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for identifier in (OLD, NEW):
        folder = tmp_path / "releases" / identifier
        folder.mkdir(parents=True)
        (folder / "pyvenv.cfg").touch()
        (folder / _environment.BUILDER).write_text("job")
        (folder / _environment.MARKER).write_text("{}")
    return tmp_path


@pytest.fixture
def instance(home: Path) -> _instance.Instance:
    return _instance.Instance("keystone-api", "keystone-api.service", "127.0.0.1:5000", str(home), 60)


def test_a_folder_that_was_made_for_a_service_goes_with_the_last_one(tmp_path: Path) -> None:
    """And one that was there, or that somebody put something into, stays."""
    there = tmp_path / "opt"
    there.mkdir()
    keystone, placement = (str(there / "osops" / "deep" / name) for name in ("keystone", "placement"))
    for path in (keystone, placement, keystone):
        _environment.make_place(path)
    _environment.remove_place(keystone)
    assert sorted(path.name for path in (there / "osops" / "deep").iterdir()) == [_environment.MADE, "placement"]
    (there / "osops" / "notes").write_text("a person's")
    _environment.remove_place(placement)
    assert sorted(path.name for path in (there / "osops").iterdir()) == [_environment.MADE, "notes"]
    (there / "osops" / "notes").unlink()
    _environment.make_place(keystone)
    (Path(keystone) / "releases" / OLD).mkdir()
    _environment.remove_place(keystone)
    assert (Path(keystone) / "releases" / OLD).is_dir(), "what is not empty stays, with all above it"
    (Path(keystone) / "releases" / OLD).rmdir()
    _environment.remove_place(keystone)
    assert list(there.iterdir()) == []


def test_complete_is_what_was_built_to_its_end_or_by_somebody_else(home: Path) -> None:
    assert _environment.complete_releases(str(home)) == [OLD, NEW]
    (home / "releases" / NEW / _environment.MARKER).unlink()
    assert _environment.complete_releases(str(home)) == [OLD], "begun by us and not ended"
    (home / "releases" / NEW / _environment.BUILDER).unlink()
    assert _environment.complete_releases(str(home)) == [OLD, NEW], "never begun by us: another tool's"
    assert _environment.complete_releases(str(home / "nowhere")) == []


def test_removed_is_gone_and_half_removed_is_no_release(home: Path) -> None:
    (home / "releases" / (".removing-" + NEW)).mkdir()
    (home / "releases" / (".removing-" + NEW) / "pyvenv.cfg").touch()
    assert _environment.complete_releases(str(home)) == [OLD, NEW]
    _environment.remove(str(home), NEW)
    assert os.listdir(home / "releases") == [OLD]


def test_a_running_job_with_other_work_keeps_what_it_builds(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # There is no systemd here: only its answer is given.
    monkeypatch.setattr(_environment._job, "look", lambda job: _environment._job.State("running", None, "other work"))
    lock = "keystone==29.0.2 --hash=sha256:%s\n" % ("a" * 64)
    wanted = Release.from_args({"package": "keystone", "version": "29.0.2", "lock": lock})
    (home / "releases" / NEW).rename(home / "releases" / wanted.id)
    with pytest.raises(LifecycleError) as refused:
        _environment.build(wanted, str(home), "job", Deadline(5), False, {})
    assert refused.value.code == "job.other"
    assert _environment.complete_releases(str(home)) == [OLD, wanted.id]


def test_what_a_link_names(home: Path, instance: _instance.Instance) -> None:
    assert _environment.linked_release(str(home), "keystone-api") is None
    _instance.switch(instance, release(OLD))
    assert _environment.linked_release(str(home), "keystone-api") == OLD
    for elsewhere in ("/opt/venv", "releases", "releases/%s/bin" % OLD, "../%s" % OLD):
        (home / "keystone-api").unlink()
        (home / "keystone-api").symlink_to(elsewhere)
        assert _environment.linked_release(str(home), "keystone-api") is None


def test_whose_environment_a_prefix_is(home: Path) -> None:
    assert _environment.release_of_prefix(str(home), str(home / "releases" / NEW)) == NEW
    assert _environment.release_of_prefix(str(home), "/usr") is None
    assert _environment.release_of_prefix(str(home), "") is None


def test_there_is_always_one_of_the_two_links(home: Path, instance: _instance.Instance) -> None:
    _instance.switch(instance, release(OLD))
    seen: set[str | None] = set()
    end = threading.Event()

    def look() -> None:
        while not end.is_set():
            seen.add(_environment.linked_release(str(home), "keystone-api"))

    looker = threading.Thread(target=look)
    looker.start()
    for number in range(300):
        _instance.switch(instance, release((NEW, OLD)[number % 2]))
    end.set()
    looker.join()
    assert seen == {OLD, NEW}


def test_a_switch_that_was_cut_leaves_nothing_in_the_way(home: Path, instance: _instance.Instance) -> None:
    (home / ".keystone-api.new").symlink_to("releases/" + OLD)
    _instance.switch(instance, release(NEW))
    assert sorted(os.listdir(home)) == ["keystone-api", "releases"]


def test_a_folder_in_the_place_of_the_link_is_not_replaced(home: Path, instance: _instance.Instance) -> None:
    (home / "keystone-api").mkdir()
    with pytest.raises(LifecycleError) as caught:
        _instance.switch(instance, release(NEW))
    assert caught.value.code == "artifact.foreign_layout"


@pytest.mark.parametrize("path", ["opt/osops", "/", "/opt/../etc", "/opt//osops", "/opt/osops/"])
def test_a_path_that_is_none(path: str) -> None:
    with pytest.raises(BadInputError):
        _environment.check_path(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("component", "../x"),
        ("component", "releases"),
        ("unit", "x; reboot"),
        ("unit", None),
        ("listen", "5000"),
        ("listen", None),
        ("path", "x"),
    ],
)
def test_an_instance_that_is_none(key: str, value: str | None) -> None:
    args = {
        "component": "keystone-api",
        "unit": "keystone-api.service",
        "listen": "127.0.0.1:5000",
        "path": "/opt/osops/keystone",
        "stop": 60,
    }
    assert dataclasses.asdict(_instance.Instance.from_args(args))["stop_s"] == 60
    with pytest.raises(BadInputError):
        _instance.Instance.from_args({**args, key: value})

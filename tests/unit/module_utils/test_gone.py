# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""artifact_source leaves nothing of an instance, and everything of the others: on real folders and links."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils import _artifact, _environment, _probe
from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Report, Terms

EMPTY = {"id": None, "version": None}


def release(path: Path, name: str, ours: bool = True) -> None:
    folder = path / "releases" / name
    (folder / "bin").mkdir(parents=True)
    (folder / "pyvenv.cfg").touch()
    if ours:
        (folder / _environment.MARKER).write_text("{}")


def remove(path: Path, component: str, check: bool = False) -> Report:
    instance = {"path": str(path), "component": component, "listen": "192.0.2.1:5000"}
    report = Report()
    act = _artifact.prepare({"state": "absent", "release": EMPTY, "instance": instance, "scope": "test"})
    act(Terms(check, None, False, Deadline(10)), report)
    return report


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_probe, "baseline_file", lambda *_: str(tmp_path / "token"))
    return tmp_path / "nova"


def test_all_of_the_last_component(place: Path, tmp_path: Path) -> None:
    for name in ("1.0-a", "2.0-b"):
        release(place, name)
    (place / "nova-api").symlink_to("releases/2.0-b")
    (tmp_path / "token").touch()
    seen: Any = remove(place, "nova-api", check=True)
    assert (seen.changed, seen.after) == (True, {"release": None, "releases": []})
    assert (place / "nova-api").exists()
    assert (tmp_path / "token").exists()
    seen = remove(place, "nova-api")
    assert (seen.changed, seen.after) == (True, {"release": None, "releases": []})
    assert not place.exists()
    assert not (tmp_path / "token").exists()
    assert not remove(place, "nova-api").changed


def test_what_was_written_down_and_what_was_cut_goes_too(place: Path) -> None:
    release(place, "1.0-a")
    release(place, ".removing-2.0-b")
    (place / "nova-api").symlink_to("releases/1.0-a")
    _environment.remember(str(place), "nova-api", "2.0-b")
    assert remove(place, "nova-api", check=True).before == {"release": "1.0-a", "releases": ["1.0-a"]}
    remove(place, "nova-api")
    assert not place.exists()
    place.mkdir()
    _environment.remember(str(place), "nova-api", "1.0-a")
    assert remove(place, "nova-api", check=True).changed, "a trace is something to remove"
    assert remove(place, "nova-api").changed
    assert not place.exists()


def test_what_others_may_go_back_to_stays(place: Path) -> None:
    for name in ("1.0-a", "2.0-b"):
        release(place, name)
    release(place, "0.9-theirs", ours=False)
    (place / "nova-api").symlink_to("releases/2.0-b")
    (place / "nova-scheduler").symlink_to("releases/2.0-b")
    seen = remove(place, "nova-scheduler")
    assert seen.after == {"release": None, "releases": ["1.0-a", "2.0-b"]}
    assert not (place / "nova-scheduler").is_symlink()
    assert not remove(place, "nova-scheduler").changed, "the second call finds nothing to do"
    remove(place, "nova-api")
    assert [path.name for path in (place / "releases").iterdir()] == ["0.9-theirs"], "what somebody else put there stays"

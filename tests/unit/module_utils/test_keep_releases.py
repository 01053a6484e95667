# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Old releases go, and never one that is linked, that runs, or that somebody goes back to: on real folders and processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils import _artifact, _environment, _instance
from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, ForeignChangeError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._release import Release

# By time of installation; the names sort the other way round.
OLDEST_FIRST = ["9.0-000000000000", "8.0-000000000000", "7.0-000000000000", "6.0-000000000000", "5.0-000000000000"]
R9, R8, R7, R6, R5 = OLDEST_FIRST


def add(path: Path, name: str, installed_at: float, ours: bool = True) -> None:
    folder = path / "releases" / name
    (folder / "bin").mkdir(parents=True)
    (folder / "pyvenv.cfg").touch()
    (folder / "bin" / "program").write_bytes(b"x" * 8192)
    if ours:
        (folder / _environment.BUILDER).write_text("job")
        (folder / _environment.MARKER).write_text("{}")
        os.utime(folder / _environment.MARKER, (installed_at, installed_at))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for number, name in enumerate(OLDEST_FIRST):
        add(tmp_path / "nova", name, 1_700_000_000 + number)
    add(tmp_path / "nova", "1.0-theirs", 0, ours=False)
    return tmp_path / "nova"


def keep(path: Path, number: int, check: bool = False, expect: Any = None, resume: bool = False, **more: Any) -> Report:
    report = Report()
    params = {
        "state": "absent", "release": {"id": None, "version": None}, "instance": {"path": str(path), "component": "nova-api"},
        "keep": number, "scope": "test", **more,
    }  # fmt: skip
    _artifact.prepare(params)(Terms(check, expect, resume, Deadline(10)), report)
    return report


def switch(path: Path, name: str, component: str = "nova-api") -> None:
    instance = _instance.Instance(component, component + ".service", "127.0.0.1:8774", str(path), 60)
    _instance.switch(instance, Release.from_args({"id": name}))


def there(path: Path) -> list[str]:
    return sorted(os.listdir(path / "releases"))


def test_the_newest_stay_and_the_way_back(place: Path) -> None:
    for name in (R9, R8, R7):
        switch(place, name)
    before = there(place)
    seen = keep(place, 1, check=True)
    assert (seen.changed, seen.before) == (True, {"releases": sorted(OLDEST_FIRST)})
    assert seen.after == {"releases": sorted([R5, R7, R8])}
    assert (seen.more["removed"], there(place)) == (sorted([R9, R6]), before)
    done = keep(place, 1, expect=seen.before)
    assert (done.changed, done.after, done.more["removed"]) == (True, seen.after, seen.more["removed"])
    assert done.more["kept"] == {R7: "nova-api names it", R8: "nova-api goes back to it", R5: "one of the newest"}
    assert done.more["freed_bytes"] == seen.more["freed_bytes"] >= 2 * 8192
    assert there(place) == sorted(["1.0-theirs", R5, R7, R8])
    again = keep(place, 1)
    assert (again.changed, again.before, again.after) == (False, seen.after, seen.after)


def test_more_than_there_are(place: Path) -> None:
    assert not keep(place, 5).changed
    assert not keep(place, 50).changed
    assert keep(place, 4).more["removed"] == [R9]


def test_without_knowledge_the_newest_two_stay(place: Path) -> None:
    (place / "nova-api").symlink_to("releases/" + R9)
    seen = keep(place, 1)
    assert seen.after == {"releases": sorted([R9, R6, R5])}
    assert seen.more["kept"][R6] == "one of the newest two, and the way back is not known"
    shutil.rmtree(place / "releases" / R9)
    (place / "nova-api").unlink()
    add(place, R8, 0)
    assert keep(place, 1).after == {"releases": sorted([R6, R5])}, "nothing is linked: nobody knows what was"


def test_each_component_has_its_own_way_back(place: Path) -> None:
    switch(place, R9)
    switch(place, R8)
    switch(place, R7, "nova-scheduler")
    switch(place, R8, "nova-scheduler")
    assert sorted(keep(place, 1).more["kept"]) == sorted([R9, R8, R7, R5])
    switch(place, R8, "nova-conductor")
    assert keep(place, 1).more["removed"] == []


def test_a_way_back_that_was_written_down_and_not_gone_is_none(place: Path) -> None:
    """Killed between the note and the link: the note names what is still linked."""
    switch(place, R8)
    _environment.remember(str(place), "nova-api", R8)
    assert _environment.former(str(place), "nova-api") is None
    assert keep(place, 1).after == {"releases": sorted([R8, R6, R5])}
    switch(place, R6)
    assert _environment.former(str(place), "nova-api") == R8
    switch(place, R6)
    assert _environment.former(str(place), "nova-api") == R8, "the same again moves nothing"
    assert not list(place.glob(".*.tmp"))


def test_what_any_link_leads_into_stays(place: Path) -> None:
    (place / "tools").symlink_to("releases/%s/bin" % R9)
    (place / ".nova-api.new").symlink_to(place / "releases" / R8)
    (place / "current").symlink_to("tools")
    (place / "elsewhere").symlink_to("/usr/bin")
    assert sorted(keep(place, 1).more["kept"]) == sorted([R9, R8, R6, R5])


def test_what_a_process_has_loaded_stays(place: Path) -> None:
    code = (
        "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1); print(flush=True); sys.stdin.read()"
    )
    loaded = place / "releases" / R9 / "bin" / "program"
    with subprocess.Popen([sys.executable, "-c", code, loaded], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seen = keep(place, 1)
        assert seen.more["kept"][R9] == "process %d uses it" % process.pid
        assert seen.more["removed"] == sorted([R8, R7])
        process.communicate(b"")
    assert keep(place, 1).more["removed"] == [R9]


def test_what_is_being_built_and_what_others_made_is_left_alone(place: Path) -> None:
    (place / "releases" / R9 / _environment.MARKER).unlink()
    (place / "releases" / "README").write_text("")
    keep(place, 1)
    assert there(place) == sorted(["1.0-theirs", R9, R6, R5, "README"])


def test_killed_in_the_middle(place: Path) -> None:
    """One is gone, one is half gone: the same call goes on, and says so."""
    switch(place, R6)
    switch(place, R5)
    expect = {"releases": sorted(OLDEST_FIRST)}
    shutil.rmtree(place / "releases" / R7)
    half = place / "releases" / (".removing-" + R8)
    (place / "releases" / R8).rename(half)
    with pytest.raises(ForeignChangeError):
        keep(place, 2, expect=expect)
    seen = keep(place, 2, check=True, expect=expect, resume=True)
    assert (seen.changed, seen.more["removed"], half.exists()) == (True, [R9], True)
    done = keep(place, 2, expect=expect, resume=True)
    assert (done.changed, done.more["removed"], half.exists()) == (True, [R9], False)
    assert done.more["freed_bytes"] == seen.more["freed_bytes"] >= 2 * 8192
    half.mkdir()
    assert keep(place, 2, check=True).changed, "what is half gone is something to do"
    assert keep(place, 2).changed
    assert not keep(place, 2).changed


def test_a_disk_that_fails_says_what_is_left(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, gone = _environment.remove, []

    def remove(path: str, name: str) -> None:
        if gone:
            raise OSError(5, "Input/output error", name)
        gone.append(name)
        real(path, name)

    monkeypatch.setattr(_environment, "remove", remove)
    report = Report()
    params = {"state": "absent", "release": {"id": None, "version": None}, "keep": 1, "scope": "x",
              "instance": {"path": str(place), "component": "nova-api"}}  # fmt: skip
    with pytest.raises(OSError, match="Input"):
        _artifact.prepare(params)(Terms(False, None, False, Deadline(10)), report)
    assert report.after == {"releases": sorted(set(OLDEST_FIRST) - set(gone))}
    assert (report.more["removed"], report.changed) == (gone, True)


def test_nothing_there_is_nothing_to_do(tmp_path: Path) -> None:
    seen = keep(tmp_path / "nowhere", 1)
    assert (seen.changed, seen.after) == (False, {"releases": []})


@pytest.mark.parametrize(
    ("number", "more"),
    [(0, {}), (-1, {}), (1, {"state": "active"}), (1, {"state": "present"}), (1, {"release": {"id": R9, "version": None}})],
)
def test_where_keep_does_not_belong(place: Path, number: int, more: dict[str, Any]) -> None:
    with pytest.raises(BadInputError) as caught:
        keep(place, number, **more)
    assert caught.value.code == "input.keep"
    assert len(there(place)) == 6


def test_hard_links_free_nothing(place: Path, tmp_path: Path) -> None:
    free = keep(place, 4, check=True).more["freed_bytes"]
    (tmp_path / "cache").hardlink_to(place / "releases" / R9 / "bin" / "program")
    assert keep(place, 4, check=True).more["freed_bytes"] == free - 8192

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of nginx's program and processes, and files that are replaced."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.files import Note, Notes, check_replaceable, moved, replace
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.processes import (
    Proc,
    arguments,
    family,
    processes,
    require_one_master,
    ticks_now,
    wall_time,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.program import parse_build

DEBIAN = """nginx version: nginx/1.22.1
built with OpenSSL 3.0.8 7 Feb 2023 (running with OpenSSL 3.0.17 1 Jul 2025)
TLS SNI support enabled
configure arguments: --with-cc-opt='-g -O2 -fPIC' --prefix=/usr/share/nginx --conf-path=/etc/nginx/nginx.conf --http-log-path=/var/log/nginx/access.log \
--error-log-path=stderr --lock-path=/var/lock/nginx.lock --pid-path=/run/nginx.pid --with-threads
"""


def test_how_debian_builds_it() -> None:
    found = parse_build(DEBIAN)
    assert (found.version, found.prefix) == ("1.22.1", "/usr/share/nginx/")
    assert (found.config, found.pid_file) == ("/etc/nginx/nginx.conf", "/run/nginx.pid")


def test_how_it_is_built_by_default_and_by_others() -> None:
    found = parse_build("nginx version: openresty/1.21.4.1\nconfigure arguments:\n")
    assert (found.version, found.config) == ("1.21.4.1", "/usr/local/nginx/conf/nginx.conf")
    assert (found.pid_file, found.error_log) == ("/usr/local/nginx/logs/nginx.pid", "/usr/local/nginx/logs/error.log")
    for text in ("", "Apache/2.4", "nginx version: nginx/unknown"):
        with pytest.raises(LifecycleError, match="does not say which nginx it is"):
            parse_build(text)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("nginx: master process /usr/sbin/nginx", {}),
        ("nginx: master process nginx -g daemon on; master_process on;", {"-g": "daemon on; master_process on;"}),
        (
            "nginx: master process nginx -c /etc/a b.conf -p /srv -g daemon off;",
            {"-c": "/etc/a b.conf", "-p": "/srv", "-g": "daemon off;"},
        ),
        ("nginx: master process ./nginx -c/x.conf -e stderr", {"-c": "/x.conf", "-e": "stderr"}),
    ],
)
def test_what_a_master_was_started_with(title: str, expected: dict[str, str]) -> None:
    assert arguments(title) == expected


def proc(folder: Path, pid: int, parent: int, title: str, started: int = 5) -> None:
    (folder / str(pid)).mkdir()
    (folder / str(pid) / "cmdline").write_bytes(title.encode() + b"\0\0")
    (folder / str(pid) / "stat").write_text("%d (ng) inx) S %d %s %d 0 0\n" % (pid, parent, " ".join(["0"] * 17), started))


def test_processes_and_families(tmp_path: Path) -> None:
    proc(tmp_path, 10, 1, "nginx: master process nginx -c /a")
    proc(tmp_path, 11, 10, "nginx: worker process", 7)
    proc(tmp_path, 12, 10, "nginx: worker process is shutting down")
    proc(tmp_path, 13, 10, "nginx: cache manager process")
    proc(tmp_path, 20, 1, "nginx: master process nginx -c /b")
    proc(tmp_path, 21, 20, "nginx: worker process")
    proc(tmp_path, 30, 1, "vi nginx: master process")
    (tmp_path / "self").mkdir()
    (tmp_path / "99").mkdir()  # it ended while we looked
    known = processes(str(tmp_path))
    mine = family(10, known)
    assert mine is not None
    assert sorted(worker.pid for worker in mine.workers) == [11, 12]
    assert [worker.id for worker in mine.current] == [(11, 7)]
    assert [worker.pid for worker in mine.leaving] == [12]
    assert family(11, known) is None
    assert family(30, known) is None


def test_two_masters_side_by_side_and_workers_without_one() -> None:
    mine = Proc(os.getpid(), 1, 5, "nginx: master process nginx")
    own = family(mine.pid, [mine])
    assert own is not None
    require_one_master(own, [mine])
    for other in (Proc(7, mine.pid, 9, "nginx: master process nginx"), Proc(mine.parent, 0, 1, "nginx: master process nginx")):
        with pytest.raises(LifecycleError, match="run side by side") as error:
            require_one_master(own, [mine, other])
        assert error.value.code == "nginx.upgrading"
    with pytest.raises(LifecycleError, match="its master has died") as error:
        require_one_master(own, [mine, Proc(os.getpid(), 2, 9, "nginx: worker process")])
    assert error.value.code == "nginx.orphans"


def test_the_clock_of_processes_is_that_of_files(tmp_path: Path) -> None:
    before = wall_time(ticks_now())
    (tmp_path / "file").write_text("")
    assert abs((tmp_path / "file").stat().st_ctime - before) < 0.5


def test_replace_keeps_what_belongs_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a.conf"
    file.write_text("old")
    file.chmod(0o604)
    replace(str(file), b"new")
    assert (file.read_text(), file.stat().st_mode & 0o7777) == ("new", 0o604)
    assert [path.name for path in tmp_path.iterdir()] == ["a.conf"]
    with pytest.raises(LifecycleError, match=r"cannot be replaced: No such file or directory\."):
        replace(str(tmp_path / "missing"), b"")
    os.link(file, tmp_path / "b.conf")
    with pytest.raises(LifecycleError, match="has a second name"):
        check_replaceable(str(file))


def test_notes(tmp_path: Path) -> None:
    notes = Notes("/etc/nginx/nginx.conf", str(tmp_path / "notes"))
    assert notes.read() == Note()
    note = Note({"/a": ("1", "2")}, {"be/x:1": 0}, {"/a": "1"}, [(3, 4)])
    notes.write(note)
    assert notes.read() == note
    assert Path(notes.path).stat().st_mode & 0o777 == 0o600
    assert Notes("/etc/nginx/other.conf", str(tmp_path / "notes")).read() == Note()
    texts: list[t.Any] = ["", "[]", "{}", '{"texts": {"a": 1}, "was": {}, "loaded": {}, "workers": []}']
    for text in texts:
        Path(notes.path).write_text(text)
        with pytest.raises(LifecycleError, match="cannot be read"):
            notes.read()


def test_what_was_changed_since_it_was_loaded() -> None:
    assert moved({"/a": "1", "/b": "2"}, {"/a": "1", "/b": "2"}) == []
    assert moved({"/a": "1", "/b": "3", "/d": "1"}, {"/a": "1", "/b": "2", "/c": "1"}) == ["/b", "/c", "/d"]

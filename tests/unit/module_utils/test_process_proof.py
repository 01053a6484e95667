# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of what listens, proven on real processes of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils import _process
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from tests.ports import free_port

SERVER = "import socket,sys,os,time; s=socket.create_server(('127.0.0.1', int(sys.argv[1]))); os.fork() and print('up', flush=True); time.sleep(60)"


def environment(folder: Path, version: str) -> Path:
    """A real virtual environment in which ``demo-api`` of this version is installed, as far as metadata goes."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    (site / ("Demo_Api-%s.dist-info" % version)).mkdir()
    (site / ("Demo_Api-%s.dist-info" % version) / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: Demo-Api\nVersion: %s\n\nVersion: 9\n" % version
    )
    return folder


@pytest.fixture
def serve() -> Iterator[Callable[[Path, int], int]]:
    """Start two processes that share a listening socket, with some environment's Python."""
    started: list[subprocess.Popen[str]] = []

    def start(python: Path, port: int) -> int:
        process = subprocess.Popen(
            [str(python), "-c", SERVER, str(port)], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process.pid

    yield start
    for process in started:
        os.killpg(process.pid, 9)
        process.communicate()


def test_nothing_listens() -> None:
    running = _process.running("127.0.0.1:%d" % free_port(), "demo-api")
    assert running == _process.Running()
    assert not running.listening


def test_the_version_is_that_of_the_environment_that_was_loaded(tmp_path: Path, serve: Callable[[Path, int], int]) -> None:
    home = environment(tmp_path / "one", "1.2.3")
    time.sleep(1.1)
    port = free_port()
    pid = serve(home / "bin" / "python", port)
    running = _process.running("127.0.0.1:%d" % port, "demo_api")
    assert (running.version, running.prefix, running.problem) == ("1.2.3", str(home), "")
    assert pid in running.pids
    assert len(running.pids) == 2
    assert abs(running.started - _process.boot_clock()) < 10
    # Asked for another address of the same port, it is not what would answer.
    assert not _process.running("127.0.0.2:%d" % port, "demo_api").listening


def test_a_link_in_the_command_line_proves_nothing(tmp_path: Path, serve: Callable[[Path, int], int]) -> None:
    environment(tmp_path / "one", "1.2.3")
    (tmp_path / "current").symlink_to("one")
    port = free_port()
    serve(tmp_path / "current" / "bin" / "python", port)
    running = _process.running("127.0.0.1:%d" % port, "demo-api")
    assert running.listening
    assert running.version is None
    assert "was not loaded from a Python environment that holds demo-api" in running.problem


def test_files_that_are_newer_than_the_process_prove_nothing(tmp_path: Path, serve: Callable[[Path, int], int]) -> None:
    home = environment(tmp_path / "one", "1.2.3")
    port = free_port()
    serve(home / "bin" / "python", port)
    time.sleep(1.5)
    site = next(home.glob("lib/python3*/site-packages"))
    (site / "Demo_Api-1.2.3.dist-info").rename(site / "away")
    shutil.copytree(site / "away", site / "Demo_Api-2.0.0.dist-info")
    running = _process.running("127.0.0.1:%d" % port, "demo-api")
    assert running.version is None
    assert "was replaced after process" in running.problem


def test_two_copies_are_no_version(tmp_path: Path, serve: Callable[[Path, int], int]) -> None:
    home = environment(tmp_path / "one", "1.2.3")
    site = next(home.glob("lib/python3*/site-packages"))
    (site / "demo_api-1.2.4.egg-info").write_text("Name: demo-api\nVersion: 1.2.4\n")
    port = free_port()
    serve(home / "bin" / "python", port)
    assert "is installed 2 times" in _process.running("127.0.0.1:%d" % port, "demo-api").problem


def test_workers_of_two_releases_are_no_version(tmp_path: Path, serve: Callable[[Path, int], int]) -> None:
    port = free_port()
    code = SERVER.replace("socket.create_server(('127.0.0.1', int(sys.argv[1])))", "socket.socket()")
    code = code.replace("os.fork() and", "s.setsockopt(1, 15, 1); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen();")
    processes = []
    for version in ("1.0", "2.0"):
        home = environment(tmp_path / version, version)
        time.sleep(1.1)
        processes.append(
            subprocess.Popen([str(home / "bin" / "python"), "-c", code, str(port)], stdout=subprocess.PIPE, text=True)
        )
        stream = processes[-1].stdout
        assert stream is not None
        assert stream.readline() == "up\n"
    try:
        running = _process.running("127.0.0.1:%d" % port, "demo-api")
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert running.version is None
    assert "processes of different releases" in running.problem


def test_a_process_that_loads_from_two_environments_is_no_version(tmp_path: Path) -> None:
    """A server of one environment that its configuration sends into another: its parent, which loads nothing, proves nothing."""
    homes = [environment(tmp_path / name, version) for name, version in (("one", "1.0"), ("two", "2.0"))]
    libraries = [next(home.glob("lib/python3*/site-packages")) / "x.so" for home in homes]
    for library in libraries:
        library.write_bytes(b"x" * 4096)
    code = (
        "import mmap, os, socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); "
        "child = not os.fork(); held = [mmap.mmap(os.open(path, os.O_RDONLY), 0, prot=1) for path in sys.argv[2:] if child]; "
        "child and print('up', flush=True); time.sleep(60)"
    )
    for loads, version in ((libraries[:1], "1.0"), (libraries, None)):
        port = free_port()
        argv = [str(homes[0] / "bin" / "python"), "-c", code, str(port), *map(str, loads)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "up\n"
                running = _process.running("127.0.0.1:%d" % port, "demo-api")
            finally:
                os.killpg(process.pid, 9)
        assert len(running.pids) == 2
        assert running.version == version
        assert ("two environments that hold demo-api" in running.problem) is (version is None)


def test_names_that_only_begin_alike_are_other_projects(tmp_path: Path) -> None:
    for name in ("keystoneauth1-5.0.dist-info", "keystone_extra-1.0.dist-info"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "METADATA").write_text("Version: 1\n")
    (tmp_path / "keystone-27.0.0.egg-info").mkdir()
    (tmp_path / "keystone-27.0.0.egg-info" / "PKG-INFO").write_text("Name: keystone\nVersion: 27.0.0\n")
    assert [version for version, _path in _process.installed_metadata(str(tmp_path), "keystone")] == ["27.0.0"]


# Lines of a real /proc/net/tcp and tcp6.
@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F:1388", ("127.0.0.1", 5000)),
        ("00000000:0016", ("0.0.0.0", 22)),  # noqa: S104
        ("00000000000000000000000000000000:0016", ("::", 22)),
        ("0000000000000000FFFF00000100007F:1F90", ("127.0.0.1", 8080)),
        ("B80D0120000000000000000001000000:1388", ("2001:db8::1", 5000)),
    ],
)
def test_addresses_of_the_kernel_tables(text: str, address: tuple[str, int]) -> None:
    assert _process.decode_address(text) == address


def test_a_socket_on_every_address_answers_for_each(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    table.write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 00000000:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n"
        "   1: 0100007F:1388 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n"
    )
    assert _process.listening_inodes("10.0.0.1:5000", [str(table), str(tmp_path / "none")]) == {"4711"}
    assert _process.listening_inodes("10.0.0.1:5001", [str(table)]) == set()


@pytest.mark.parametrize("listen", ["5000", "host:5000", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:70000", "10.0.0.300:1", ":5000"])
def test_what_is_no_address_and_port(listen: str) -> None:
    with pytest.raises(BadInputError):
        _process.split_listen(listen)


def test_an_ipv6_address_in_brackets() -> None:
    assert _process.split_listen("[2001:DB8::1]:5000") == ("2001:db8::1", 5000)

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy's processes told apart, and the kernel's tables of connections read."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy import processes
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.processes import Proc

# Recorded; the last three are listening, ended (no inode), and waiting to be closed by us.
TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:46A0 0100007F:46B5 01 00000000:00000000 00:00000000 00000000     0        0 34610 1 0000000000000000 20 4 30 10 -1
   1: 0100007F:46A0 0100007F:46B5 0A 00000000:00000000 00:00000000 00000000     0        0 34611 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:46A0 0100007F:46B5 06 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 30 10 -1
   3: 0100007F:46A0 0B00000A:1388 08 00000000:00000000 00:00000000 00000000     0        0 34612 1 0000000000000000 20 4 30 10 -1
"""
TCP6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:8F22 00000000000000000000000001000000:1388 01 00000000:00000000 00:00000000 00000000  0  0 40001 1 0 20 4 30 10 -1
   1: 0000000000000000FFFF00000B00000A:8F22 0000000000000000FFFF00000B00000A:1388 01 00000000:00000000 00:00000000 00000000  0  0 40002 1 0 20 4 30 10 -1
"""
FAMILY = ("net:[1]", "mnt:[1]", ("/etc/haproxy/haproxy.cfg",))


@pytest.mark.skipif(sys.byteorder != "little", reason="the recording is from a little-endian machine")
def test_connections_tables() -> None:
    assert processes.parse_connections(TCP) == {"34610": ("127.0.0.1", 18101), "34612": ("10.0.0.11", 5000)}
    assert processes.parse_connections(TCP6) == {"40001": ("::1", 5000), "40002": ("10.0.0.11", 5000)}


def test_own_connections_are_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = server.getsockname()
        nobody = ("127.0.0.1", 1)
        assert processes.connections(os.getpid(), [endpoint, nobody]) == {endpoint: 0, nobody: 0}
        with socket.create_connection(endpoint), socket.create_connection(endpoint):
            assert processes.connections(os.getpid(), [endpoint, nobody]) == {endpoint: 2, nobody: 0}


def test_a_process_that_has_ended_holds_nothing() -> None:
    assert processes.connections(2**22 + 1, [("127.0.0.1", 80)]) == {("127.0.0.1", 80): 0}


@pytest.mark.parametrize(
    ("args", "files", "master"),
    [
        (
            "haproxy -Ws -f /etc/haproxy/haproxy.cfg -p /run/haproxy.pid -S /run/haproxy-master.sock",
            ("/etc/haproxy/haproxy.cfg",),
            "/run/haproxy-master.sock",
        ),
        ("haproxy -sf 12 -x sockpair@4 -W -db -f /a -f /b", ("/a", "/b"), ""),
        ("haproxy -W -S unix@/run/m.sock,mode,660 -- /a", ("/a",), "/run/m.sock"),
    ],
)
def test_command_lines(args: str, files: tuple[str, ...], master: str) -> None:
    assert processes._options(args.split()) == (files, master)


def proc(pid: int, parent: int = 1, inner: int = 0, family: tuple[str, str, tuple[str, ...]] = FAMILY) -> Proc:
    return Proc(pid, parent, inner or pid, family, "")


def test_current_worker_of_a_container_is_found_by_the_number_that_it_gives_itself() -> None:
    kolla = [proc(900, inner=7), proc(912, 900, inner=12), proc(950, 900, inner=40)]
    assert processes.current_worker(kolla, 40, 900).pid == 950
    assert [old.pid for old in processes.old_workers(kolla, kolla[2])] == [912]


def test_two_containers_with_the_same_inner_number() -> None:
    other = ("net:[1]", "mnt:[2]", FAMILY[2])
    known = [
        proc(900, inner=7),
        proc(912, 900, inner=12),
        proc(800, inner=7, family=other),
        proc(812, 800, inner=12, family=other),
    ]
    assert processes.current_worker(known, 12, 800).pid == 812
    assert processes.old_workers(known, known[3]) == []
    with pytest.raises(LifecycleError) as caught:
        processes.current_worker(known, 12, 5)
    assert caught.value.code == "haproxy.workers_unseen"


def test_without_a_master_the_parent_that_listened_is_gone() -> None:
    known = [proc(100), proc(60), proc(70, family=("net:[1]", "mnt:[1]", ("/other.cfg",)))]
    current = processes.current_worker(known, 100, 99)
    assert [old.pid for old in processes.old_workers(known, current)] == [60]


def test_unseen() -> None:
    with pytest.raises(LifecycleError, match="cannot be told among the processes"):
        processes.current_worker([], 100, 100)

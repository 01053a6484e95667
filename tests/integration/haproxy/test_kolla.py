# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A balancer in Kolla's shape: no master socket. Old workers are processes, their sessions are connections."""

from __future__ import annotations

import os
import threading
import typing as t

import pytest

from tests.integration.haproxy.conftest import act
from tests.integration.haproxy.lab import Lab, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="reading the connections of HAProxy's processes needs root")


@pytest.fixture
def kolla(make_lab: t.Callable[..., Lab]) -> Lab:
    lab = make_lab(master=False)
    lab.config()
    return lab.start()


def test_haproxy_in_a_container_numbers_its_processes_otherwise(make_lab: t.Callable[..., Lab]) -> None:
    """Own process and mount namespaces, the host's network: as Kolla runs it. The host sees other process numbers."""
    lab = make_lab(master=False, inside=("unshare", "--pid", "--mount-proc", "--fork", "--kill-child"))
    lab.config()
    lab.start()
    tunnel = lab.websocket_on("s1")
    assert lab.worker() < 100
    lab.reload()
    until(lab.all_checked)
    drained = act(lab, "drain", policy="fail")
    assert drained.verdict.code == "drain.sessions_left"
    (old,) = drained.more["old_workers"]["pids"]
    assert old > lab.master_pid()
    tunnel.close()
    assert act(lab, "drain").verdict.passed


def test_drain_and_ready(kolla: Lab) -> None:
    drained = act(kolla, "drain")
    assert drained.verdict.passed
    assert drained.more["old_workers"] == {"seen_by": "processes", "pids": []}
    assert act(kolla, "ready", restore=drained.before).verdict.passed


def test_tunnel_on_an_old_worker_is_seen_as_a_connection(kolla: Lab) -> None:
    tunnel = kolla.websocket_on("s1")
    old = kolla.worker()
    kolla.reload()
    until(kolla.all_checked)
    assert kolla.sessions("be/s1") == 0
    drained = act(kolla, "drain", deadline=2)
    assert drained.verdict.code == "drain.sessions_left"
    assert "old worker %d holds 1 connection" % old in drained.verdict.reason
    assert drained.more["old_workers"]["pids"] == [old]
    assert kolla.mask("be/s1") == 0
    assert tunnel.echoes()


def test_shutdown_cannot_end_it_and_says_why(kolla: Lab) -> None:
    tunnel = kolla.websocket_on("s1")
    kolla.reload()
    until(kolla.all_checked)
    drained = act(kolla, "drain", policy="shutdown", deadline=3)
    assert drained.verdict.code == "drain.sessions_left"
    assert "master socket" in drained.verdict.hint
    assert kolla.mask("be/s1") == 0
    assert tunnel.echoes()


def test_tunnel_that_ends_is_waited_for(kolla: Lab) -> None:
    tunnel = kolla.websocket_on("s1")
    kolla.reload()
    until(kolla.all_checked)
    threading.Timer(1.0, tunnel.close).start()
    assert act(kolla, "drain").verdict.code == "drain.done"


def test_tunnel_to_another_server_does_not_matter(kolla: Lab) -> None:
    kolla.websocket_on("s2")
    kolla.reload()
    until(kolla.all_checked)
    drained = act(kolla, "drain")
    assert drained.verdict.passed
    assert len(drained.more["old_workers"]["pids"]) == 1


def test_idle_connections_of_an_old_worker_do_not_hold_a_drain_for_ever(make_lab: t.Callable[..., Lab]) -> None:
    """The old worker lives on for a tunnel to s2, and keeps an idle connection to s1 until its pool is purged."""
    lab = make_lab(master=False)
    lab.config(default="check inter 100 rise 2 fall 3 pool-purge-delay 1s")  # stock is 5 s
    lab.start()
    lab.client_on("s1")
    lab.all_ready()
    lab.websocket_on("s2")
    lab.reload()
    until(lab.all_checked)
    assert act(lab, "drain", policy="fail").verdict.code == "drain.sessions_left"
    assert act(lab, "drain", deadline=20).verdict.passed


def test_two_balancers_on_one_host_are_kept_apart(make_lab: t.Callable[..., Lab]) -> None:
    one, two = make_lab(master=False), make_lab(master=False)
    two.web["s1"].die()
    two.web["s1"] = one.web["s1"]
    for lab in (one, two):
        lab.config()
        lab.start()
    two.websocket_on("s1")
    old = two.worker()
    two.reload()
    until(two.all_checked)
    passed = act(one, "drain")
    assert passed.verdict.passed
    assert passed.more["old_workers"]["pids"] == []
    assert act(two, "drain", policy="fail").more["old_workers"]["pids"] == [old]


def test_master_socket_on_the_command_line_is_found(lab_with_master: Lab) -> None:
    assert act(lab_with_master, "drain").more["old_workers"]["seen_by"] == "master_socket"


@pytest.fixture
def lab_with_master(make_lab: t.Callable[..., Lab]) -> Lab:
    lab = make_lab()
    lab.config()
    return lab.start()


def test_master_socket_of_another_haproxy_is_refused(make_lab: t.Callable[..., Lab]) -> None:
    one, two = make_lab(), make_lab()
    for lab in (one, two):
        lab.config()
        lab.start()
    drained = act(one, "drain", master_socket=two.master)
    assert drained.verdict.code == "haproxy.other_instance"
    assert one.mask("be/s1") == 0

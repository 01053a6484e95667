# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy's own words (traffic.md, section 1), so that another version that speaks otherwise is noticed here."""

from __future__ import annotations

import socket

import pytest

from tests.integration.haproxy.lab import Lab, until


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("set server be/s1 state drain", ""),
        ("set server be/s1 state maint", ""),
        ("set server be/s1 state ready", ""),
        ("set server be/s1 state bogus", "'set server <srv> state' expects 'ready', 'drain' and 'maint'."),
        ("set server be/s9 state drain", "No such server."),
        ("set server nobe/s1 state drain", "No such backend."),
        ("set server s1 state drain", "Require 'backend/server'."),
        ("get weight be/s1", "1 (initial 1)"),
        ("shutdown sessions server be/s1", ""),
        ("show servers state nobe", "Can't find backend."),
        ("show stat nobe 4 -1", "No such proxy."),
        ("enable agent be/s1", "Agent was not configured on this server, cannot enable."),
        ("set server be/s1 weight 300", "Absolute weight can only be between 0 and 256 inclusive."),
    ],
)
def test_answers(lab: Lab, command: str, answer: str) -> None:
    from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
    from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import Conversation

    with Conversation(lab.admin) as talk:
        assert talk.ask(command).strip() == answer
        if not answer:
            talk.do(command)
        else:
            with pytest.raises(LifecycleError) as caught:
                talk.do(command)
            assert answer in caught.value.msg


def test_unknown_command_is_an_error(lab: Lab) -> None:
    from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
    from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import Conversation

    with Conversation(lab.admin) as talk, pytest.raises(LifecycleError, match="Unknown command"):
        talk.do("bogus")


@pytest.mark.parametrize("level", ["operator", "user"])
def test_permission_denied(lab: Lab, level: str) -> None:
    from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
    from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import Conversation

    with Conversation("%s/%s.sock" % (lab.folder, level)) as talk:
        assert talk.ask("show cli level") == level
        with pytest.raises(LifecycleError) as caught:
            talk.do("set server be/s1 state drain")
        assert caught.value.code == "haproxy.level"


@pytest.mark.parametrize(
    "command", ["show info;set server be/s1 state maint", "show info\nset server be/s1 state maint", "a\\;b"]
)
def test_one_command_at_a_time(lab: Lab, command: str) -> None:
    from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
    from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import Conversation, ask_master

    with Conversation(lab.admin) as talk, pytest.raises(BadInputError):
        talk.ask(command)
    with pytest.raises(BadInputError):
        ask_master(lab.master, [command])
    assert lab.mask("be/s1") == 0


def test_master_socket_closes_only_after_a_half_close(lab: Lab) -> None:
    from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import ask_master
    from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.parse import parse_proc

    with socket.socket(socket.AF_UNIX) as naive:
        naive.settimeout(1)
        naive.connect(lab.master)
        naive.sendall(b"show proc\n")
        assert naive.recv(65536).startswith(b"#<PID>")
        with pytest.raises(TimeoutError):
            naive.recv(65536)
    (worker,) = [process for process in parse_proc(ask_master(lab.master, ["show proc"])) if process.kind == "worker"]
    assert worker.pid == lab.worker()


def test_old_worker_answers_by_its_number_and_refuses_what_concerns_a_server(lab: Lab) -> None:
    from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import ask_master

    lab.websocket_on("s1")
    old = lab.worker()
    lab.reload()
    until(lambda: lab.raw("show proc", lab.master))
    answers = ask_master(lab.master, ["@!%d show cli level" % old, "@!%d shutdown sessions server be/s1" % old])
    assert answers.split("\n\n") == ["admin", "Proxy is disabled.", ""]


def test_status_word_cannot_prove_a_drain(lab: Lab) -> None:
    lab.raw("set server be/s1 state drain")
    lab.web["s1"].die()
    until(lambda: lab.status("be/s1") == "DOWN")
    assert lab.mask("be/s1") == 8


def test_maintenance_and_drain_are_never_both_set(lab: Lab) -> None:
    """What makes {0, 1, 8} the whole of what can be put back."""
    lab.raw("set server be/s1 state drain")
    lab.raw("disable server be/s1")
    assert lab.mask("be/s1") == 1
    lab.raw("set server be/s1 state drain")
    assert lab.mask("be/s1") == 8

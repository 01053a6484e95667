# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy's answers, recorded from a real 2.6, to data; and what is not such an answer is an error."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, UnknownAnswerError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy import parse
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.balancer import Balancer
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import Conversation
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import Process, Session

RECORDED = Path(__file__).parent / "haproxy_2_6"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


def test_servers_state() -> None:
    states = {"%s/%s" % (state.backend, state.name): state for state in parse.parse_servers_state(recorded("servers_state.txt"))}
    assert list(states)[:3] == ["be/s1", "be/s2", "mixed/drained"]
    assert len(states) == 10
    first = states["be/s1"]
    assert (first.address, first.port, first.fqdn) == ("127.0.0.1", 42927, "")
    assert (first.op_state, first.admin, first.weight, first.initial_weight) == (2, 0, 1, 1)
    assert (first.check_result, first.check_health, first.check_state) == (3, 4, 6)
    assert states["mixed/drained"].admin == 8
    assert states["mixed/off"].admin == 5
    assert states["mixed/dead"].op_state == 0
    assert states["mixed/six"].address == "::1"
    assert states["mixed/named"].fqdn == "localhost"


def test_stat() -> None:
    stats = {"%s/%s" % (stat.backend, stat.name): stat for stat in parse.parse_stat(recorded("stat.csv"))}
    assert len(stats) == 10
    assert (stats["be/s1"].sessions, stats["be/s1"].sessions_total, stats["be/s1"].queued) == (2, 3, 0)
    assert (stats["be/s1"].full_health, stats["be/s1"].check_status, stats["be/s1"].cookie) == (4, "L4OK", "")
    assert stats["mixed/drained"].cookie == "c1"
    assert stats["mixed/follower"].tracked == "be/s1"
    assert stats["mixed/unchecked"].full_health is None
    assert [name for name, stat in stats.items() if stat.backup] == ["mixed/spare"]
    assert stats["mixed/dead"].check_status == "L4CON"


def test_frontends_and_backends_are_not_servers() -> None:
    assert parse.parse_stat(recorded("stat_all.csv")) == parse.parse_stat(recorded("stat.csv"))


def test_worker() -> None:
    worker = parse.parse_worker(recorded("info.txt"), recorded("servers_state.txt"), recorded("stat.csv"))
    assert worker.version == "2.6.12-1+deb12u4"
    assert worker.processes == 1
    assert worker.pid > 1
    assert worker.by_key["mixed/drained"].drained
    assert worker.by_key["mixed/off"].configured == worker.by_key["mixed/off"].forced == 1
    assert worker.by_key["be/s1"].endpoint == ("127.0.0.1", 42927)


def test_proc_tells_old_workers_from_the_current_one() -> None:
    assert parse.parse_proc(recorded("proc.txt")) == [
        Process(13834, "master", False),
        Process(14171, "worker", False),
        Process(13887, "worker", True),
    ]


def test_proc_of_haproxy_2_4_with_a_relative_pid() -> None:
    text = "#<PID>          <type>          <relative PID>  <reloads>       <uptime>        <version>\n"
    text += "1      master   0   1   0d00h01m28s   2.4.0\n# workers\n90     worker   1   0   0d00h00m00s   2.4.0\n"
    text += "# old workers\n45     worker   [was: 1]   1   0d00h00m28s   2.4.0\n# programs\n\n"
    assert [(process.pid, process.old) for process in parse.parse_proc(text)] == [(1, False), (90, False), (45, True)]


def test_sessions() -> None:
    assert parse.parse_sessions(recorded("sess.txt")) == [
        Session("0x55a35b3c6d90", "be", "s1", "1s", True),
        Session("0x55a35b4f2f10", "be", "s2", "1s", False),
        Session("0x7fc52803a890", "be", "s1", "1s", False),
    ]


def test_a_server_that_only_one_answer_has_is_left_out() -> None:
    states = parse.parse_servers_state(recorded("servers_state.txt"))
    stats = parse.parse_stat(recorded("stat.csv"))
    assert len(parse.join(states, stats)) == 10
    assert [server.key for server in parse.join(states[:1], stats)] == ["be/s1"]
    assert parse.join(states, stats[2:3])[0].key == "mixed/drained"


def test_csv_with_quotes() -> None:
    assert parse._csv('a,"b,c","say ""x""",,d') == ["a", "b,c", 'say "x"', "", "d"]


@pytest.mark.parametrize(
    "text", ["", "Permission denied\n", "2\n# be_id\n", "1\n# something else\n", "1\n# be_id be_name\n4 be\n"]
)
def test_not_servers_state(text: str) -> None:
    with pytest.raises(UnknownAnswerError, match="show servers state"):
        parse.parse_servers_state(text)


def test_servers_state_with_a_word_for_a_number() -> None:
    with pytest.raises(UnknownAnswerError, match="many"):
        parse.parse_servers_state(recorded("servers_state.txt").replace("be 1 s1 127.0.0.1 2 0", "be 1 s1 127.0.0.1 many 0"))


@pytest.mark.parametrize("text", ["", "No such proxy.\n", "# pxname,svname\nbe,s1\n"])
def test_not_stat(text: str) -> None:
    with pytest.raises(UnknownAnswerError, match="show stat"):
        parse.parse_stat(text)


def test_stat_with_a_word_for_a_number() -> None:
    with pytest.raises(UnknownAnswerError, match="many"):
        parse.parse_stat(recorded("stat.csv").replace("be,s1,0,0,2", "be,s1,many,0,2"))


@pytest.mark.parametrize("text", ["", "Name: nginx\n", "Permission denied"])
def test_not_haproxy(text: str) -> None:
    with pytest.raises(UnknownAnswerError, match="does not call itself HAProxy"):
        parse.parse_worker(text, recorded("servers_state.txt"), recorded("stat.csv"))


def test_info_without_a_pid() -> None:
    with pytest.raises(UnknownAnswerError, match="Pid"):
        parse.parse_worker("Name: HAProxy\nVersion: 2.6\n", recorded("servers_state.txt"), recorded("stat.csv"))


def test_not_proc() -> None:
    with pytest.raises(UnknownAnswerError, match="show proc"):
        parse.parse_proc("Permission denied\n")


class _Recording:
    """Answers as the recorded HAProxy, but for what a test changes."""

    def __init__(self, old: str, new: str) -> None:
        self._answers = {
            "show info": recorded("info.txt").replace(old, new),
            "show servers state": recorded("servers_state.txt"),
            "show stat -1 4 -1": recorded("stat.csv"),
        }

    def ask(self, command: str) -> str:
        return self._answers[command]


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("Nbproc: 1", "Nbproc: 2", "haproxy.several_workers"),
        ("Version: 2.6.12", "Version: 1.8.4", "haproxy.too_old"),
        ("Version: 2.6.12", "Version: dev", "haproxy.too_old"),
    ],
)
def test_a_haproxy_that_cannot_be_driven_safely(old: str, new: str, code: str) -> None:
    with pytest.raises(BadInputError) as caught:
        Balancer("/nowhere").look(t.cast("Conversation", _Recording(old, new)))
    assert caught.value.code == code


def test_a_newer_haproxy_is_not_refused() -> None:
    talk = t.cast("Conversation", _Recording("Version: 2.6.12-1+deb12u4", "Version: 3.2.1"))
    assert len(Balancer("/nowhere").look(talk).servers) == 10

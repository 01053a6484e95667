# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which servers are meant, how healthy they are, and what a backend can still carry."""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy import parse, rules
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import Server

RECORDED = Path(__file__).parent / "haproxy_2_6"
SERVERS = parse.join(
    parse.parse_servers_state((RECORDED / "servers_state.txt").read_text()), parse.parse_stat((RECORDED / "stat.csv").read_text())
)
BY_KEY = {server.key: server for server in SERVERS}
UP = BY_KEY["be/s1"]


def like(server: Server, **changes: t.Any) -> Server:
    """A server with some fields of its state or its counts changed."""
    state = {name: value for name, value in changes.items() if hasattr(server.state, name) and name != "name"}
    stat = {name: value for name, value in changes.items() if name not in state and name != "name"}
    name = {"name": changes["name"]} if "name" in changes else {}
    return Server(dataclasses.replace(server.state, **state, **name), dataclasses.replace(server.stat, **stat, **name))


def no_names(name: str) -> set[str]:
    return set()


@pytest.mark.parametrize(
    ("text", "host", "port", "is_address"),
    [
        ("10.0.0.1:5000", "10.0.0.1", 5000, True),
        ("[fd00::1]:5000", "fd00::1", 5000, True),
        ("fd00::1:5000", "fd00::1", 5000, True),
        ("[FD00:0:0::1]:80", "fd00::1", 80, True),
        ("[::ffff:10.0.0.1]:80", "10.0.0.1", 80, True),
        ("CTL1.example:5000", "ctl1.example", 5000, False),
    ],
)
def test_endpoints(text: str, host: str, port: int, is_address: bool) -> None:
    assert rules.parse_endpoint(text) == rules.Endpoint(text, host, port, is_address)


@pytest.mark.parametrize(
    "text", ["", "10.0.0.1", ":80", "10.0.0.1:0", "10.0.0.1:65536", "a b:80", "a;b:80", "a/b:80", "10.0.0.1:80 ;", "[]:80", "x:٣"]
)
def test_not_endpoints(text: str) -> None:
    with pytest.raises(BadInputError, match="is not address:port"):
        rules.parse_endpoint(text)


def test_select_in_every_backend() -> None:
    found = rules.select(SERVERS, [rules.parse_endpoint("127.0.0.1:42927")], (), no_names)
    assert [server.key for server in found] == [
        "be/s1",
        "mixed/drained",
        "mixed/follower",
        "mixed/unchecked",
        "mixed/off",
        "mixed/spare",
    ]
    only = rules.select(SERVERS, [rules.parse_endpoint("127.0.0.1:42927")], ["be"], no_names)
    assert [server.key for server in only] == ["be/s1"]


def test_select_by_the_name_that_haproxy_knows_and_by_what_the_host_resolves() -> None:
    assert [s.key for s in rules.select(SERVERS, [rules.parse_endpoint("LocalHost:39217")], (), no_names)] == ["mixed/named"]
    found = rules.select(SERVERS, [rules.parse_endpoint("ctl2:39217")], (), lambda name: {"127.0.0.1", "::1"})
    assert [server.key for server in found] == ["be/s2", "mixed/six", "mixed/named"]


def test_select_names_what_is_missing() -> None:
    endpoints = [rules.parse_endpoint(text) for text in ("127.0.0.1:42927", "127.0.0.1:9", "10.0.0.9:42927")]
    with pytest.raises(BadInputError, match=r"no server 127.0.0.1:9, 10.0.0.9:42927\.") as caught:
        rules.select(SERVERS, endpoints, (), no_names)
    assert "127.0.0.1:42927" in caught.value.hint
    with pytest.raises(BadInputError, match="no backend nobe"):
        rules.select(SERVERS, endpoints[:1], ["be", "nobe"], no_names)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, rules.UP),
        ({"op_state": 0}, rules.DOWN),
        ({"op_state": 3}, rules.DOWN),
        ({"op_state": 1}, rules.UNDECIDED),  # slow start
        ({"check_health": 3}, rules.UNDECIDED),  # UP 3/3 on its way down
        ({"check_result": 2}, rules.UNDECIDED),
        ({"check_result": 4}, rules.UNDECIDED),  # passed on the condition that it gets no new clients (404)
        ({"check_result": 0, "check_state": 7}, rules.UP),  # the next check is under way
        ({"check_result": 0, "check_state": 7, "check_status": "INI"}, rules.UNDECIDED),  # the first check is under way
        ({"check_result": 0}, rules.UNDECIDED),
        ({"check_state": 0, "check_result": 0, "check_health": 0}, rules.UNCHECKED),
        ({"check_state": 0, "op_state": 0}, rules.DOWN),
    ],
)
def test_health(changes: dict[str, t.Any], expected: str) -> None:
    server = like(UP, **changes)
    assert rules.health(server, {server.key: server}) == expected


def test_health_of_a_follower_is_that_of_whom_it_follows() -> None:
    follower = BY_KEY["mixed/follower"]
    assert rules.health(follower, BY_KEY) == rules.UP
    assert rules.health(follower, {**BY_KEY, "be/s1": like(UP, check_health=3)}) == rules.UNDECIDED
    assert rules.health(follower, {}) == rules.UNDECIDED
    assert rules.health(like(follower, op_state=0), BY_KEY) == rules.DOWN


def test_capacity_counts_what_carries_traffic() -> None:
    # mixed: follower, unchecked, six and named carry traffic; drained, off and dead do not, spare is a backup.
    assert rules.capacity(SERVERS, ()) == {"be": 2, "mixed": 4}
    assert rules.capacity(SERVERS, ["be/s2"]) == {"be": 1, "mixed": 4}
    assert rules.capacity(SERVERS, ["be/s1"]) == {"be": 1, "mixed": 3}  # the follower inherits the drain
    assert rules.capacity([like(UP, weight=0)], ()) == {"be": 0}


def test_backup_servers_count_as_one_and_only_in_need() -> None:
    backups = [like(UP, name=name, backup=True) for name in ("b1", "b2")]
    assert rules.capacity([UP, *backups], ()) == {"be": 1}
    assert rules.capacity([UP, *backups], ["be/s1"]) == {"be": 1}
    assert rules.capacity([UP, *backups], ["be/s1", "be/b1", "be/b2"]) == {"be": 0}


def test_shortages_are_only_of_backends_that_lose_something() -> None:
    assert rules.shortages(SERVERS, ["be/s1"], 2) == {"be": 1}
    assert rules.shortages(SERVERS, ["be/s1"], 4) == {"be": 1, "mixed": 3}
    assert rules.shortages(SERVERS, ["be/s1"], 1) == {}


def test_commands_set_only_what_differs_and_the_weight_first() -> None:
    assert rules.commands(UP, UP.stable) == []
    assert rules.commands(UP, {"admin": 8}) == ["set server be/s1 state drain"]
    assert rules.commands(like(UP, admin=0x18), {"admin": 0, "weight": 50}) == [
        "set server be/s1 weight 50",
        "set server be/s1 state ready",
    ]
    assert rules.commands(UP, {"admin": 1}) == ["set server be/s1 state maint"]
    assert rules.commands(like(UP, admin=0x10), {"admin": 0}) == []  # an inherited drain cannot be set


def test_expectations_excuse_what_a_reload_does_and_nothing_else() -> None:
    from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.traffic import excuse

    drained = {"be/s1": {"admin": 8, "weight": 50}}
    reloaded = like(UP, admin=0, weight=1, initial_weight=1)
    assert excuse([reloaded], drained) == ({"be/s1": {"admin": 0, "weight": 1}}, ["be/s1"])
    assert excuse([like(UP, admin=5, weight=1)], drained) == (
        {"be/s1": {"admin": 1, "weight": 1}},
        ["be/s1"],
    )  # `disabled` in the configuration
    assert excuse([like(UP, admin=1, weight=50)], drained) == (drained, [])
    assert excuse([like(UP, admin=8, weight=7)], drained) == (drained, [])
    maintained = {"be/s1": {"admin": 1}}
    assert excuse([reloaded], maintained) == (maintained, [])
    assert excuse([reloaded], None) == (None, [])

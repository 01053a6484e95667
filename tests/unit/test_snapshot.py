# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What two snapshots of a rig say about each other; that the looking finds it is test_snapshot.py of the rig."""

from __future__ import annotations

import typing as t

import pytest

from tests.rig import snapshot_host
from tests.rig.snapshot import Item, Snapshot, difference

FILE = Item("lb1", "file", "/etc/haproxy/haproxy.cfg")
SERVER = Item("lb1", "haproxy", "server keystone/ctl1")
USER = Item("ctl1", "user", "eve")
BEFORE: dict[Item, t.Mapping[str, str]] = {
    FILE: {"mode": "100644", "content": "aa"},
    SERVER: {"op_state": "2", "admin_state": "0"},
}


def after(**changed: t.Mapping[Item, t.Mapping[str, str]]) -> Snapshot:
    return Snapshot({**BEFORE, **changed["items"]})


def test_the_same_is_no_difference() -> None:
    assert difference(Snapshot(BEFORE), Snapshot(dict(BEFORE), {"lb1": 1.0})) == []


@pytest.mark.parametrize(
    ("items", "sentence"),
    [
        ({FILE: {"mode": "100600", "content": "aa"}}, "lb1: file /etc/haproxy/haproxy.cfg changed: mode 100644 -> 100600"),
        (
            {SERVER: {"op_state": "0", "admin_state": "8"}},
            "lb1: haproxy server keystone/ctl1 changed: op_state 2 -> 0, admin_state 0 -> 8",
        ),
        (
            {FILE: {"mode": "100644", "link": "b"}},
            "lb1: file /etc/haproxy/haproxy.cfg changed: content aa -> none, link none -> b",
        ),
        ({USER: {"ids": "1:1", "home": "/"}}, "ctl1: user eve is new (ids 1:1, home /)"),
    ],
)
def test_what_is_other_or_new_is_a_sentence(items: dict[Item, t.Mapping[str, str]], sentence: str) -> None:
    assert difference(Snapshot(BEFORE), after(items=items)) == [sentence]


def test_what_is_gone_is_a_sentence() -> None:
    assert difference(Snapshot(BEFORE), Snapshot({FILE: BEFORE[FILE]})) == [
        "lb1: haproxy server keystone/ctl1 is gone (op_state 2, admin_state 0)"
    ]


def test_a_host_that_was_not_looked_at_is_not_silence() -> None:
    assert len(difference(Snapshot(BEFORE), Snapshot({}))) == len(BEFORE)


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("lb* file /etc/haproxy/*", [SERVER]),
        ("* haproxy server keystone/*", [FILE]),
        ("lb1 * *", []),
        ("lb2 file *", [FILE, SERVER]),
        ("lb* fil /etc/*", [FILE, SERVER]),
        # A pattern is about all of the key, and about this spelling.
        ("lb1 file /etc/haproxy", [FILE, SERVER]),
        ("lb1 file /ETC/haproxy/*", [FILE, SERVER]),
    ],
)
def test_what_may_change_is_named(pattern: str, left: list[Item]) -> None:
    assert list(Snapshot(BEFORE).minus([pattern]).items) == left
    said = difference(Snapshot(BEFORE), Snapshot({}), [pattern])
    assert [sentence.partition(" is ")[0] for sentence in said] == [str(item) for item in left]


@pytest.mark.parametrize("pattern", ["*", "lb1 file", "lb1  /etc/hosts", "", "lb1 file "])
def test_a_pattern_without_three_words_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="needs host, section and key"):
        difference(Snapshot(BEFORE), Snapshot(BEFORE), [pattern])


def test_addresses_as_the_kernel_writes_them() -> None:
    assert snapshot_host.address("0100007F:1388") == "127.0.0.1:5000"
    assert snapshot_host.address("00000000000000000000000001000000:0016") == "::1:22"


def test_sections_of_a_configuration() -> None:
    text = "# by hand\nglobal\n  daemon\n\nbackend   a\n  # why\n  server s 10.0.0.1:1\nbackend b\n"
    assert snapshot_host.sections(text) == [
        ("global", "  daemon\n"),
        ("backend a", "  # why\n  server s 10.0.0.1:1\n"),
        ("backend b", ""),
    ]

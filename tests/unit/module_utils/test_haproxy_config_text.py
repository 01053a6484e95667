# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of our file, the command line of HAProxy's master, and what a reload has lost: without any HAProxy."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy import config_text as text_of
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.master import own_args
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import Server, ServerStat, ServerState, Worker
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.reload import keep, lost, merge

SERVICE = text_of.Service(
    name="shop",
    owner="prod/shop",
    frontends=(text_of.Frontend("shop", ("*:80", "[::1]:80"), "ssl crt /etc/cert", ("option httplog",)),),
    backend="shop",
    balance="roundrobin",
    check=("/", "200"),
    server_options="check",
    options=(),
    servers=(("a", "127.0.0.1:1"),),
    answer=None,
)


def test_the_mark_knows_every_change() -> None:
    text, digest = text_of.render(SERVICE)
    assert text_of.judge(text, "prod/shop") == ("ours", digest)
    assert text_of.judge(text, "test/shop") == ("foreign", "")
    assert text_of.judge(None, "prod/shop") == ("missing", "")
    body = text.index("frontend")
    for at in range(body, len(text)):
        changed = text[:at] + "~" + text[at + 1 :]
        assert text_of.judge(changed, "prod/shop") == ("edited", digest), changed
    assert text_of.marks_in(text) == {digest}
    assert text_of.binds_in(text) == ["*:80", "[::1]:80"]
    assert text_of.names_in(text) == ({"shop"}, {"shop"})
    assert text_of.render(dataclasses.replace(SERVICE, answer=(503, 9)))[1] != digest
    assert text_of.render(dataclasses.replace(SERVICE, owner="test/shop"))[1] != digest


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("10.0.0.1", 80), ("10.0.0.1", 80), True),
        (("10.0.0.1", 80), ("10.0.0.1", 81), False),
        (("10.0.0.1", 80), ("10.0.0.2", 80), False),
        (("0.0.0.0", 80), ("10.0.0.2", 80), True),  # noqa: S104 - compared with
        (("10.0.0.2", 80), ("::", 80), True),
        (("::1", 80), ("::2", 80), False),
    ],
)
def test_who_is_in_the_way_of_whom(one: tuple[str, int], other: tuple[str, int], same: bool) -> None:
    assert text_of.overlap(one, other) is same


def test_the_arguments_of_a_master_that_was_reloaded() -> None:
    line = "-sf 10703 812 -x sockpair@3 -Ws -f haproxy.cfg -p /run/haproxy.pid -S /run/master.sock -f /etc/haproxy/conf.d -q"
    assert own_args(line.split()) == ["-Ws", "-f", "haproxy.cfg", "-S", "/run/master.sock", "-f", "/etc/haproxy/conf.d"]


def server(key: str, admin: int = 0, weight: int = 1, initial: int = 1) -> Server:
    backend, name = key.split("/")
    state = ServerState(backend, name, "127.0.0.1", 1, "", 2, admin, weight, initial, 3, 4, 6)
    return Server(state, ServerStat(backend, name, "UP", 0, 0, 0, False, "", "L4OK", 4, "", 0))


def worker(*servers: Server) -> Worker:
    return Worker("2.6.12", 1, 1, 1, servers)


def steps(before: Worker, after: Worker, ours: t.Collection[str] = ()) -> list[str]:
    return [step for found in lost(after, keep(before), ours).values() for step in found]


def test_what_a_reload_has_lost() -> None:
    before = worker(server("be/a", 8), server("be/b", 1), server("be/c", 0, 7), server("be/gone", 8))
    after = worker(server("be/a"), server("be/b"), server("be/c"), server("be/new"))
    assert steps(before, after) == ["set server be/a state drain", "set server be/b state maint", "set server be/c weight 7"]
    assert steps(after, after) == []
    # A stale state file drains what nobody had drained; a `disabled` server that somebody had set ready is so again.
    assert steps(worker(server("be/a")), worker(server("be/a", 8))) == ["set server be/a state ready"]
    assert steps(worker(server("be/a", 4)), worker(server("be/a", 5))) == ["set server be/a state ready"]


def test_a_new_default_of_ours_holds_and_what_was_set_stays() -> None:
    before, after = worker(server("be/a", 8), server("be/b", 0, 3)), worker(server("be/a", 0, 5, 5), server("be/b", 0, 5, 5))
    assert steps(before, after, {"be"}) == ["set server be/a state drain", "set server be/b weight 3"]


def test_an_act_that_was_cut_is_remembered_but_what_is_set_now_counts_more() -> None:
    older = keep(worker(server("be/a", 8), server("be/b", 8), server("be/gone", 8), server("be/c", 0, 7)))
    now = merge(older, worker(server("be/a"), server("be/b", 1), server("be/c", 0, 9)))
    assert {key: (entry["admin"], entry["weight"]) for key, entry in now.items()} == {
        "be/a": (8, 1), "be/b": (1, 1), "be/c": (0, 9),
    }  # fmt: skip

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""present and absent against a real HAProxy: what comes, what stays, what goes without a trace."""

from __future__ import annotations

import socket
import time

import pytest

from tests.integration.haproxy.lab import Client, Web, until
from tests.integration.haproxy_config.conftest import Shop, Signal, snapshot


def test_present_unchanged_absent(shop: Shop) -> None:
    before = snapshot(shop.conf), shop.proxies()
    made = shop.act(min_up=2)
    assert made.verdict.passed, made.verdict
    assert made.changed
    assert {key: made.before[key] for key in ("file", "loaded", "servers")} == {"file": "missing", "loaded": False, "servers": {}}
    assert (made.after["file"], made.after["loaded"]) == ("ours", True)
    assert made.after["servers"] == {"shop/a1": {"admin": 0, "weight": 1}, "shop/a2": {"admin": 0, "weight": 1}}
    assert [row["health"] for row in made.more["servers"]] == ["up", "up"]
    assert made.more["reloads"] == 1
    assert 0 < made.more["reload_s"] < 10
    assert Client(shop.port).get() in shop.web
    assert shop.file.stat().st_mode & 0o777 == 0o644
    worker = shop.lab.worker()
    again = shop.act(min_up=2)
    assert again.verdict.passed, again.verdict
    assert (again.changed, again.more["reloads"], shop.lab.worker()) == (False, 0, worker)
    gone = shop.act(state="absent")
    assert gone.verdict.passed, gone.verdict
    assert (gone.changed, gone.after["file"], gone.after["loaded"]) == (True, "missing", False)
    assert (snapshot(shop.conf), shop.proxies()) == before
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", shop.port))
    nothing = shop.act(state="absent")
    assert (nothing.verdict.passed, nothing.changed, nothing.more["reloads"]) == (True, False, 0)


def test_check_mode_predicts_and_changes_nothing(shop: Shop) -> None:
    worker = shop.lab.worker()
    seen = shop.act(check=True)
    assert seen.verdict.passed, seen.verdict
    assert seen.changed
    assert (seen.before["file"], seen.after["file"], seen.after["loaded"]) == ("missing", "ours", True)
    assert (shop.names(), shop.lab.worker(), shop.order.count) == ([], worker, 0)
    made = shop.act()
    assert {key: seen.after[key] for key in ("file", "digest", "loaded")} == {
        key: made.after[key] for key in ("file", "digest", "loaded")
    }


def test_others_drains_and_weights_outlive_our_reloads(shop: Shop) -> None:
    shop.lab.raw("set server be/s1 weight 7")
    shop.lab.raw("set server be/s2 state drain")
    made = shop.act()
    assert made.verdict.passed, made.verdict
    assert sorted(made.more["put_back"]) == ["be/s1", "be/s2"]
    assert (shop.lab.weight("be/s1"), shop.lab.mask("be/s1"), shop.lab.mask("be/s2")) == (7, 0, 8)
    shop.lab.raw("set server be/s2 state maint")
    gone = shop.act(state="absent")
    assert gone.verdict.passed, gone.verdict
    assert (shop.lab.weight("be/s1"), shop.lab.mask("be/s2")) == (7, 1)


def test_a_drain_that_comes_after_our_look_is_kept_too(shop: Shop) -> None:
    class Late(Signal):
        def check(self, master: int) -> None:
            self.lab.raw("set server be/s1 state drain")

    made = shop.act(order=Late(shop.lab))
    assert made.verdict.passed, made.verdict
    assert made.more["put_back"] == ["be/s1"]
    assert shop.lab.mask("be/s1") == 8


def test_our_own_drain_outlives_a_change_of_our_file_and_a_new_weight_holds(shop: Shop) -> None:
    assert shop.act().verdict.passed
    shop.lab.raw("set server shop/a1 state drain")
    changed = shop.act(backend=shop.backend(server_options="check inter 100 weight 5"))
    assert changed.verdict.passed, changed.verdict
    assert (changed.before["file"], changed.before["loaded"]) == ("ours", True)
    assert (shop.lab.mask("shop/a1"), shop.lab.weight("shop/a1"), shop.lab.weight("shop/a2")) == (8, 5, 5)


def test_bind_may_move_from_one_address_to_every_address(shop: Shop) -> None:
    assert shop.act().verdict.passed
    moved = shop.act(frontends=[shop.frontend(bind=["*:%d" % shop.port])])
    assert moved.verdict.passed, moved.verdict
    assert Client(shop.port).get() in shop.web


def test_answer_announces_an_outage(shop: Shop) -> None:
    assert shop.act(min_up=2).verdict.passed
    told = shop.act(answer={"status": 503, "retry_after": 90})
    assert told.verdict.passed, told.verdict
    with socket.create_connection(("127.0.0.1", shop.port), timeout=5) as sock:
        begun = time.monotonic()
        sock.sendall(b"POST /v3/auth/tokens HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        answer = b""
        while chunk := sock.recv(4096):
            answer += chunk
        assert time.monotonic() - begun < 1.0
    head = answer.decode().lower().split("\r\n\r\n")[0].split("\r\n")
    assert head[0].startswith("http/1.1 503 ")
    assert "retry-after: 90" in head
    assert shop.requests() == 0
    # Checks go on meanwhile: the end of the outage is known before it is announced.
    still = shop.act(answer={"status": 503, "retry_after": 90}, min_up=2)
    assert (still.verdict.passed, still.changed) == (True, False)
    assert shop.act(min_up=2).verdict.passed
    assert Client(shop.port).get() in shop.web
    assert shop.requests() == 1


def test_ipv6(shop: Shop) -> None:
    web = Web("v6", 0, "::1")
    made = shop.act(
        frontends=[shop.frontend(bind=["[::1]:%d" % shop.port])], servers=[{"name": "v6", "address": web.address}], min_up=1
    )
    web.die()
    assert made.verdict.passed, made.verdict
    assert made.after["servers"] == {"shop/v6": {"admin": 0, "weight": 1}}
    assert shop.act(state="absent").verdict.passed


def test_an_edit_by_hand_is_drift_and_foreign_to_a_plan(shop: Shop) -> None:
    made = shop.act()
    shop.file.write_text(shop.file.read_text().replace("roundrobin", "leastconn"))
    expected = {key: made.after[key] for key in ("file", "digest", "loaded")}
    planned = shop.act(frontends=[shop.frontend(options=[])], expect=expected)
    assert (planned.verdict.code, planned.before["file"], planned.changed) == ("expect.foreign", "edited", False)
    assert "leastconn" in shop.file.read_text()
    alone = shop.act()
    assert (alone.verdict.passed, alone.before["file"], alone.after["file"]) == (True, "edited", "ours")
    assert "roundrobin" in shop.file.read_text()


def test_our_file_is_there_but_not_read(shop: Shop) -> None:
    """As after a kill between rename and reload."""
    text = shop.act() and shop.file.read_text()
    assert shop.act(state="absent").verdict.passed
    shop.file.write_text(text)
    made = shop.act(expect={"file": "missing", "loaded": False}, resume=True)
    assert made.verdict.passed, made.verdict
    assert (made.before["file"], made.before["loaded"], made.after["loaded"]) == ("ours", False, True)
    assert made.more["reloads"] == 1


def test_servers_that_never_come_up_bring_back_what_was(shop: Shop) -> None:
    shop.lab.raw("set server be/s2 state drain")
    first = shop.act(min_up=2)
    text = shop.file.read_bytes()
    failed = shop.act(backend=shop.backend(check={"path": "/", "status": "204"}), min_up=1, deadline=12)
    assert (failed.verdict.code, failed.verdict.outcome) == ("haproxy.min_up", "fail")
    assert "0 of 2 servers are up, and min_up is 1: shop/a1 is DOWN" in failed.verdict.reason
    assert "as it was before" in failed.verdict.reason
    assert shop.file.read_bytes() == text
    assert (failed.after["digest"], failed.after["loaded"], failed.changed) == (first.after["digest"], True, False)
    assert failed.more["reloads"] == 2
    assert shop.lab.mask("be/s2") == 8
    assert not shop.note.exists()
    until(lambda: Client(shop.port).get() in shop.web)


def test_first_time_and_never_up_leaves_no_trace(shop: Shop) -> None:
    before = snapshot(shop.conf), shop.proxies()
    for web in shop.web.values():
        web.die()
    failed = shop.act(min_up=1, deadline=12)
    assert failed.verdict.code == "haproxy.min_up"
    assert "L4CON" in failed.verdict.reason
    assert (snapshot(shop.conf), shop.proxies()) == before
    shop.web = {}


@pytest.mark.parametrize("state", ["present", "absent"])
def test_without_a_master_socket(make_lab, state: str) -> None:  # type: ignore[no-untyped-def]
    shop = Shop(make_lab(master=False))
    shop.lab.config()
    shop.lab.start()
    try:
        made = shop.act(min_up=2)
        assert made.verdict.passed, made.verdict
        if state == "absent":
            assert shop.act(state="absent").verdict.passed
            assert "FRONTEND/shop" not in shop.proxies()
    finally:
        shop.stop()

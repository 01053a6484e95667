# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What drain does to traffic: traffic.md, sections 1 and 2, row by row."""

from __future__ import annotations

import threading
import time
import typing as t

from tests.integration.haproxy.conftest import act
from tests.integration.haproxy.lab import Lab, until

MakeLab = t.Callable[..., Lab]


def test_drain_and_ready_put_back_exactly_what_was_there(lab: Lab) -> None:
    lab.raw("set server be/s1 weight 1")
    drained = act(lab, "drain")
    assert drained.verdict.code == "drain.done", drained
    assert (drained.before, drained.after) == ({"be/s1": {"admin": 0, "weight": 1}}, {"be/s1": {"admin": 8, "weight": 1}})
    assert drained.changed
    assert lab.mask("be/s1") == 8
    assert {lab.client().get() for _ in range(6)} == {"s2"}
    ready = act(lab, "ready", restore=drained.before, expect=drained.after)
    assert ready.verdict.passed, ready.verdict
    assert ready.changed
    assert ready.after == drained.before
    assert lab.mask("be/s1") == 0
    assert {lab.client().get() for _ in range(6)} == {"s1", "s2"}


def test_a_second_drain_and_a_second_ready_change_nothing(lab: Lab) -> None:
    first = act(lab, "drain")
    again = act(lab, "drain", expect=first.after)
    assert again.verdict.passed
    assert not again.changed
    assert act(lab, "ready").changed
    assert not act(lab, "ready").changed


def test_keep_alive_client_goes_elsewhere_and_its_idle_connection_is_no_session(lab: Lab) -> None:
    client = lab.client_on("s1")
    lab.all_ready()
    drained = act(lab, "drain")
    assert drained.verdict.passed
    assert drained.more["servers"][0]["idle_connections"] == 1
    assert drained.more["servers"][0]["sessions"] == 0
    assert client.get() == "s2"


def test_request_in_progress_finishes_and_is_waited_for(lab: Lab) -> None:
    client = lab.slow_on("s1", 1.0)
    started = time.monotonic()
    drained = act(lab, "drain")
    assert drained.verdict.passed
    assert 0.5 < time.monotonic() - started < 3
    assert client.answer() == "s1"


def test_wait_gives_up_at_the_deadline_names_the_tunnel_and_puts_back(lab: Lab) -> None:
    tunnel = lab.websocket_on("s1")
    drained = act(lab, "drain", deadline=2)
    assert drained.verdict.code == "drain.tunnel_open"
    assert "be/s1 has 1 tunnel" in drained.verdict.reason
    assert "shutdown" in drained.verdict.hint
    assert drained.after == drained.before
    assert not drained.changed
    assert lab.mask("be/s1") == 0
    assert tunnel.echoes()


def test_wait_names_a_request_that_does_not_end(lab: Lab) -> None:
    lab.slow_on("s1", 4.0)
    drained = act(lab, "drain", deadline=1)
    assert drained.verdict.code == "drain.sessions_left"
    assert "be/s1 has 1 request in progress" in drained.verdict.reason
    assert lab.mask("be/s1") == 0


def test_fail_does_not_wait(lab: Lab) -> None:
    lab.websocket_on("s1")
    started = time.monotonic()
    drained = act(lab, "drain", policy="fail", deadline=30)
    assert drained.verdict.code == "drain.tunnel_open"
    assert time.monotonic() - started < 2
    assert lab.mask("be/s1") == 0


def test_fail_passes_where_nothing_is_left(lab: Lab) -> None:
    assert act(lab, "drain", policy="fail").verdict.passed


def test_shutdown_ends_the_tunnel_at_the_deadline_only(lab: Lab) -> None:
    tunnel = lab.websocket_on("s1")
    started = time.monotonic()
    drained = act(lab, "drain", policy="shutdown", deadline=3)
    assert drained.verdict.code == "drain.shut_down"
    assert drained.verdict.evidence["ended"] == {"be/s1": 1}
    assert 1.5 < time.monotonic() - started < 3
    assert not tunnel.echoes()
    assert lab.sessions("be/s1") == 0


def test_tunnel_on_an_old_worker_is_seen_through_the_master_socket(lab: Lab) -> None:
    tunnel = lab.websocket_on("s1")
    old = lab.worker()
    lab.reload()
    until(lab.all_checked)
    assert lab.sessions("be/s1") == 0  # what naive tools conclude from
    drained = act(lab, "drain", deadline=2)
    assert drained.verdict.code == "drain.tunnel_open"
    assert "old worker %d has 1 tunnel" % old in drained.verdict.reason
    assert drained.more["old_workers"] == {"seen_by": "master_socket", "pids": [old]}
    assert lab.mask("be/s1") == 0
    assert tunnel.echoes()


def test_shutdown_ends_a_tunnel_on_an_old_worker(lab: Lab) -> None:
    tunnel = lab.websocket_on("s1")
    old = lab.worker()
    lab.reload()
    until(lab.all_checked)
    drained = act(lab, "drain", policy="shutdown", deadline=3)
    assert drained.verdict.code == "drain.shut_down", drained.verdict
    assert drained.verdict.evidence["ended"] == {"old worker %d" % old: 1}
    assert not tunnel.echoes()


def test_tunnel_that_ends_by_itself_is_waited_for(lab: Lab) -> None:
    tunnel = lab.websocket_on("s1")
    lab.reload()
    until(lab.all_checked)
    threading.Timer(1.0, tunnel.close).start()
    assert act(lab, "drain").verdict.code == "drain.done"


COOKIE = """backend persistent
  cookie SRV insert indirect
  server s1 127.0.0.1:%d cookie c1
  server s2 127.0.0.1:%d cookie c2
frontend cookies
  bind 127.0.0.1:%d
  default_backend persistent
"""


def cookie_lab(make_lab: MakeLab) -> tuple[Lab, int]:
    from tests.ports import free_port

    lab, port = make_lab(), free_port()
    lab.config(COOKIE % (lab.web["s1"].port, lab.web["s2"].port, port))
    return lab.start(), port


def _come_back(lab: Lab, port: int, stop: threading.Event, answers: list[str]) -> threading.Thread:
    """A client that keeps coming back with its cookie, each time over a new connection."""
    from tests.integration.haproxy.lab import Client

    def visit(cookie: str) -> str:
        client = Client(port)
        client.cookie = cookie
        answers.append(client.get())
        client.close()
        return client.cookie

    def run() -> None:
        cookie = ""
        while not answers or answers[-1] != "s1":
            cookie = visit("")
        while not stop.is_set():
            visit(cookie)
            time.sleep(0.1)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: answers and answers[-1] == "s1")
    return thread


def test_client_with_a_cookie_still_comes_and_wait_does_not_call_that_drained(make_lab: MakeLab) -> None:
    lab, port = cookie_lab(make_lab)
    stop, answers = threading.Event(), list[str]()
    thread = _come_back(lab, port, stop, answers)
    try:
        drained = act(lab, "drain", deadline=3)
    finally:
        stop.set()
        thread.join()
    assert drained.verdict.code == "drain.sessions_left"
    assert "cookie" in drained.verdict.reason
    assert drained.verdict.evidence["returned"]["persistent/s1"] > 3
    assert lab.mask("persistent/s1") == lab.mask("be/s1") == 0
    assert answers[-1] == "s1"


def test_client_with_a_cookie_under_fail_and_shutdown(make_lab: MakeLab) -> None:
    lab, port = cookie_lab(make_lab)
    stop, answers = threading.Event(), list[str]()
    thread = _come_back(lab, port, stop, answers)
    try:
        failed = act(lab, "drain", policy="fail", deadline=10)
        shut = act(lab, "drain", policy="shutdown", deadline=3)
    finally:
        stop.set()
        thread.join()
    assert failed.verdict.code == "drain.sessions_left"
    assert failed.after == failed.before
    assert shut.verdict.code == "drain.shut_down"
    assert shut.verdict.evidence["returned"]["persistent/s1"] > 3


def test_cookie_without_clients_is_drained_after_a_quiet_second(make_lab: MakeLab) -> None:
    lab, _port = cookie_lab(make_lab)
    started = time.monotonic()
    assert act(lab, "drain").verdict.code == "drain.done"
    assert time.monotonic() - started >= 1.0


STICKY = """backend sticky
  stick on src table tables
  server s1 127.0.0.1:%d
  server s2 127.0.0.1:%d
backend tables
  stick-table type ip size 1k expire 30m
frontend stick
  bind 127.0.0.1:%d
  default_backend sticky
"""


def test_client_in_a_stick_table_still_comes_and_wait_does_not_call_that_drained(make_lab: MakeLab) -> None:
    from tests.integration.haproxy.lab import Client
    from tests.ports import free_port

    lab, port = make_lab(), free_port()
    lab.config(STICKY % (lab.web["s1"].port, lab.web["s2"].port, port))
    lab.start()

    def visit() -> str:
        client = Client(port)
        answer = client.get()
        client.close()
        return answer

    stop, answers = threading.Event(), [visit()]
    home = answers[0]

    def run() -> None:
        while not stop.wait(0.3):
            answers.append(visit())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        drained = act(lab, "drain", [home], deadline=3)
    finally:
        stop.set()
        thread.join()
    assert set(answers) == {home}
    assert drained.verdict.code == "drain.sessions_left"
    assert "stick table" in drained.verdict.reason
    assert lab.mask("sticky/" + home) == 0
    started = time.monotonic()
    assert act(lab, "drain", [home]).verdict.code == "drain.done"  # nobody comes any more
    assert time.monotonic() - started >= 1.0


def test_drained_in_every_backend_that_holds_the_address(make_lab: MakeLab) -> None:
    lab = make_lab(("s1", "s2"))
    lab.config(
        "backend other\n  server whatever 127.0.0.1:%d\n  server spare 127.0.0.1:%d\nbackend third\n  server s1 127.0.0.1:%d\n"
        % (lab.web["s1"].port, lab.web["s2"].port, lab.web["s2"].port)
    )
    lab.start()
    drained = act(lab, "drain")
    assert sorted(drained.after) == ["be/s1", "other/whatever"]
    assert lab.mask("other/whatever") == 8
    assert lab.mask("third/s1") == lab.mask("other/spare") == 0
    act(lab, "ready", restore=drained.before)
    only = act(lab, "drain", backends=["other"])
    assert sorted(only.after) == ["other/whatever"]
    assert lab.mask("be/s1") == 0


def test_server_at_ipv6_and_server_by_name(make_lab: MakeLab) -> None:
    from tests.integration.haproxy.lab import Web

    lab = make_lab()
    lab.web["six"] = Web("six", host="::1")
    lab.config("backend six\n  server a [::1]:%d\n  server b localhost:%d\n" % (lab.web["six"].port, lab.web["s1"].port))
    text = (lab.folder / "haproxy.cfg").read_text().replace("  server six 127.0.0.1:%d\n" % lab.web["six"].port, "")
    (lab.folder / "haproxy.cfg").write_text(text)
    lab.start()
    assert list(act(lab, "drain", ["six"]).after) == ["six/a"]
    assert sorted(act(lab, "drain", ["LOCALHOST:%d" % lab.web["s1"].port], min_available=0).after) == ["be/s1", "six/b"]


def test_all_servers_drained_is_503_and_needs_an_explicit_zero(lab: Lab) -> None:
    refused = act(lab, "drain", ["s1", "s2"])
    assert refused.verdict.code == "drain.floor"
    assert (lab.mask("be/s1"), lab.mask("be/s2")) == (0, 0)
    assert act(lab, "drain", ["s1", "s2"], min_available=0).verdict.passed
    assert lab.client().get() == "503"

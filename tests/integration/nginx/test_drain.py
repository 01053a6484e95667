# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What drain and ready do to traffic and to the configuration."""

from __future__ import annotations

import os
import socket
import threading
import time
import typing as t

import pytest

from tests.integration.haproxy.lab import Client, Web, until
from tests.integration.nginx.conftest import act
from tests.integration.nginx.lab import STREAM, Lab
from tests.ports import free_port

MakeLab = t.Callable[..., Lab]


def key(lab: Lab, name: str, upstream: str = "be") -> str:
    return "%s/%s" % (upstream, lab.web[name].address)


def test_drain_and_ready_put_back_exactly_what_was_there(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.write("upstream be { # our servers\r\n\tserver  '%(s1)s'   weight=3 # not this: server x down;\n ;server %(s2)s;}")
    (lab.upstreams / "be.conf").chmod(0o640)
    os.chown(lab.upstreams / "be.conf", 0, 12)
    os.setxattr(lab.upstreams / "be.conf", "user.osops", b"kept")
    lab.start()
    texts = lab.texts()
    drained = act(lab, "drain")
    assert drained.verdict.code == "drain.done", drained
    name = key(lab, "s1")
    assert (drained.before, drained.after) == ({name: {"admin": 0, "weight": 3}}, {name: {"admin": 1, "weight": 3}})
    assert drained.changed
    assert "weight=3 down # not this: server x down;\n ;" in lab.be()
    assert "server %s;" % lab.web["s2"].address not in drained.more["diff"]["prepared"]  # on the same line, and not changed
    assert lab.answers() == {"s2"}
    ready = act(lab, "ready", restore=drained.before, expect=drained.after)
    assert ready.verdict.passed, ready.verdict
    assert ready.changed
    assert ready.after == drained.before
    assert {name: text for name, text in lab.texts().items() if not name.startswith("notes")} == texts
    assert lab.answers() == {"s1", "s2"}
    kept = (lab.upstreams / "be.conf").stat()
    assert (kept.st_mode & 0o7777, kept.st_uid, kept.st_gid) == (0o640, 0, 12)
    assert os.getxattr(lab.upstreams / "be.conf", "user.osops") == b"kept"


def test_a_second_drain_and_a_second_ready_change_and_reload_nothing(lab: Lab) -> None:
    first = act(lab, "drain")
    workers = lab.workers()
    again = act(lab, "drain", expect=first.after)
    assert again.verdict.passed
    assert not again.changed
    assert lab.workers() == workers
    assert act(lab, "ready").changed
    workers = lab.workers()
    assert not act(lab, "ready").changed
    assert lab.workers() == workers


def test_the_server_has_no_request_while_it_is_drained(lab: Lab) -> None:
    stop, answers = threading.Event(), list[str]()

    def visit() -> None:
        while not stop.is_set():
            client = Client(lab.port)
            answers.append(client.get())
            client.close()

    thread = threading.Thread(target=visit)
    thread.start()
    try:
        assert act(lab, "drain").verdict.passed
        seen, first = lab.web["s1"].seen, len(answers)
        time.sleep(0.5)
        assert lab.web["s1"].seen == seen
        last = len(answers)
        assert act(lab, "ready").verdict.passed
        until(lambda: lab.web["s1"].seen > seen, what="it has traffic again")
    finally:
        stop.set()
        thread.join()
    assert set(answers[first:last]) == {"s2"}
    assert set(answers) == {"s1", "s2"}  # no request over a new connection failed


def test_request_in_progress_finishes_and_is_waited_for(lab: Lab) -> None:
    client = lab.slow_on("s1", 1.5)
    started = time.monotonic()
    drained = act(lab, "drain")
    assert drained.verdict.code == "drain.done", drained
    assert 0.5 < time.monotonic() - started < 4
    assert client.answer() == "s1"


def test_upload_that_reaches_the_server_late_is_waited_for(make_lab: MakeLab) -> None:
    """An old worker still reads the request while nothing is connected to the server; then it connects."""
    lab = make_lab()
    lab.write("upstream be { server %(s1)s weight=100; server %(s2)s; }")
    lab.start()
    client = lab.client()
    client.send("/slow/1.0", "Content-Length: 2")
    time.sleep(0.2)
    upload = threading.Timer(0.8, client.sock.sendall, [b"ab"])
    upload.start()
    drained = act(lab, "drain")
    seen = lab.web["s1"].seen
    upload.join()
    assert drained.verdict.code == "drain.done", drained
    assert seen == 1
    client.sock.settimeout(0.1)  # the answer is here already
    assert client.answer() == "s1"


def test_wait_gives_up_at_the_deadline_and_puts_back(lab: Lab) -> None:
    tunnel = lab.websocket_on("s1")
    text = lab.be()
    (old,) = lab.workers()
    drained = act(lab, "drain", deadline=4)
    assert drained.verdict.code == "drain.sessions_left"
    assert "old worker %d holds 1 connection." in drained.verdict.reason.replace(str(old), "%d")
    assert "shutdown" in drained.verdict.hint
    assert drained.verdict.evidence["old_workers"] == {str(old): 1}
    assert drained.after == drained.before
    assert not drained.changed
    assert lab.be() == text
    assert lab.answers() == {"s1", "s2"}
    assert tunnel.echoes()


def test_fail_does_not_wait(lab: Lab) -> None:
    lab.websocket_on("s1")
    started = time.monotonic()
    drained = act(lab, "drain", policy="fail", deadline=30)
    assert drained.verdict.code == "drain.sessions_left"
    assert time.monotonic() - started < 4
    assert not lab.down("s1")


def test_fail_passes_where_nothing_is_left(lab: Lab) -> None:
    client = lab.client()
    client.get()  # idle connections of clients are closed by the reload, and are nothing to wait for
    assert act(lab, "drain", policy="fail").verdict.passed


def test_shutdown_ends_the_tunnel_at_the_deadline_only(lab: Lab) -> None:
    tunnel = lab.websocket_on("s1")
    (old,) = lab.workers()
    started = time.monotonic()
    drained = act(lab, "drain", policy="shutdown", deadline=6)
    assert drained.verdict.code == "drain.shut_down", drained
    assert drained.verdict.evidence["ended"] == {"old worker %d" % old: 1}
    assert 3.5 < time.monotonic() - started < 6.5
    assert not tunnel.echoes()
    assert lab.down("s1")
    assert lab.old_workers() == []


def test_shutdown_spares_old_workers_that_serve_only_others(make_lab: MakeLab) -> None:
    """Where only their end would prove the drain it fails: what they do is not ours to end."""
    lab = make_lab()
    lab.write()
    (lab.upstreams / "z.conf").write_text(
        "upstream other { server %s; server %s; }" % (lab.web["s1"].address, lab.web["s2"].address)
    )
    lab.start()
    tunnel, text = lab.websocket_on("s2"), lab.be()
    (old,) = lab.workers()
    drained = act(lab, "drain", backends=["be"], policy="shutdown", deadline=4)
    assert drained.verdict.code == "drain.sessions_left", drained.verdict
    assert "old worker %d lives on" % old in drained.verdict.reason
    assert "policy shutdown does not end them" in drained.verdict.hint
    assert tunnel.echoes()
    assert lab.be() == text


def test_old_worker_that_serves_only_others_lives_on(lab: Lab) -> None:
    tunnel = lab.websocket_on("s2")
    (old,) = lab.workers()
    drained = act(lab, "drain")
    assert drained.verdict.code == "drain.done", drained
    assert drained.verdict.evidence["old_workers"] == [old]
    assert tunnel.echoes()


def test_tunnel_on_a_worker_that_somebody_elses_reload_left_is_seen(lab: Lab) -> None:
    tunnel = lab.websocket_on("s1")
    (old,) = lab.workers()
    lab.reload()
    drained = act(lab, "drain", deadline=4)
    assert drained.verdict.code == "drain.sessions_left"
    assert str(old) in drained.verdict.evidence["old_workers"]
    assert tunnel.echoes()


def test_idle_connections_to_the_server_are_no_sessions(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.write("upstream be { server %(s1)s; server %(s2)s; keepalive 8; }", location="proxy_set_header Connection '';")
    lab.start()
    assert lab.answers() == {"s1", "s2"}
    drained = act(lab, "drain", policy="fail")
    assert drained.verdict.code == "drain.done", drained


def test_in_every_upstream_and_file_that_holds_the_address(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.write()
    shared = lab.folder / "servers.inc"
    shared.write_text("server %s max_fails=2;\n" % lab.web["s1"].address)
    (lab.upstreams / "b.conf").write_text("upstream b { include servers.inc; server %s; }" % lab.web["s2"].address)
    (lab.upstreams / "c.conf").write_text("upstream c { server %s; include servers.inc; }" % lab.web["s2"].address)
    target = lab.folder / "elsewhere"
    target.write_text("upstream d { server %s; server %s; }" % (lab.web["s2"].address, lab.web["s1"].address))
    (lab.upstreams / "d.conf").symlink_to("../elsewhere")
    lab.start()
    texts = lab.texts()
    drained = act(lab, "drain", deadline=10)
    assert drained.verdict.passed, drained.verdict
    assert sorted(drained.after) == sorted(key(lab, "s1", upstream) for upstream in ("b", "be", "c", "d"))
    assert shared.read_text() == "server %s max_fails=2 down;\n" % lab.web["s1"].address
    assert (lab.upstreams / "d.conf").is_symlink()
    assert target.read_text().endswith("server %s down; }" % lab.web["s1"].address)
    assert act(lab, "ready", restore=drained.before).verdict.passed
    assert {name: text for name, text in lab.texts().items() if not name.startswith("notes")} == texts


def test_backends_leave_others_alone_and_need_the_end_of_old_workers(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.write()
    (lab.upstreams / "z.conf").write_text(
        "upstream other { server %s; server %s; }" % (lab.web["s1"].address, lab.web["s2"].address)
    )
    lab.start()
    tunnel = lab.websocket_on("s2")
    waited = act(lab, "drain", backends=["be"], deadline=4)
    assert waited.verdict.code == "drain.sessions_left"
    assert "lives on" in waited.verdict.reason
    tunnel.close()
    drained = act(lab, "drain", backends=["be"])
    assert drained.verdict.passed, drained.verdict
    assert list(drained.after) == [key(lab, "s1")]
    assert "down" not in (lab.upstreams / "z.conf").read_text()


def test_the_same_server_twice_in_one_upstream(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.write("upstream be { server %(s1)s; server %(s2)s; server %(s1)s weight=2; }")
    lab.start()
    text = lab.be()
    drained = act(lab, "drain")
    assert drained.after == {key(lab, "s1"): {"admin": 1, "weight": 3}}
    assert lab.be().count(" down;") == 2
    assert act(lab, "ready", restore=drained.before).verdict.passed
    assert lab.be() == text


def test_server_at_ipv6_by_name_and_without_port(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.web["six"] = Web("six", host="::1")
    lab.write("upstream be { server %(s2)s; server %(six)s; }")
    lab.start()
    assert list(act(lab, "drain", ["six"]).after) == [key(lab, "six")]
    assert "server %s down;" % lab.web["six"].address in lab.be()


def test_unix_socket_counts_as_a_server_and_a_zone_changes_nothing(make_lab: MakeLab) -> None:
    lab = make_lab(("s1",))
    path = lab.folder / "s.sock"
    lab.write("upstream be { zone be 64k; server %%(s1)s; server unix:%s; }" % path)
    lab.start()
    assert act(lab, "drain").verdict.code == "drain.floor"
    assert "down" not in lab.be()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        assert act(lab, "drain").verdict.code == "drain.done"
    assert "server %s down;" % lab.web["s1"].address in lab.be()
    assert act(lab, "ready").verdict.passed
    assert lab.web["s1"].seen == 0
    assert lab.client().get() == "s1"


def test_server_that_an_operator_has_taken_out_stays_out(make_lab: MakeLab) -> None:
    lab = make_lab(("s1", "s2", "s3"))
    lab.write("upstream be { server %(s1)s down weight=2; server %(s2)s; server %(s3)s; }")
    lab.start()
    text = lab.be()
    drained = act(lab, "drain", ["s1", "s2"])
    assert drained.verdict.passed
    assert "Out of traffic before this call: %s." % key(lab, "s1") in drained.verdict.reason
    ready = act(lab, "ready", ["s1", "s2"], restore=drained.before)
    assert ready.verdict.passed
    assert "%s stays out of traffic" % key(lab, "s1") in ready.verdict.reason
    assert lab.be() == text
    assert act(lab, "ready").verdict.passed  # without restore: in traffic
    assert "server %s weight=2;" % lab.web["s1"].address in lab.be()


def test_a_dead_server_gets_no_traffic(lab: Lab) -> None:
    assert act(lab, "drain").verdict.passed
    lab.web["s1"].die()
    refused = act(lab, "ready", deadline=3)
    assert refused.verdict.code == "ready.unhealthy"
    assert "Connection refused" in refused.verdict.reason
    assert not refused.changed
    assert lab.down("s1")
    assert refused.more["servers"][0]["health"] == "down"
    lab.web["s1"] = Web("s1", lab.web["s1"].port)
    assert act(lab, "ready").verdict.passed
    assert lab.answers() == {"s1", "s2"}


def test_ready_waits_for_the_server(lab: Lab) -> None:
    assert act(lab, "drain").verdict.passed
    port = lab.web["s1"].port
    lab.web["s1"].die()
    threading.Timer(1.0, lambda: lab.web.update(s1=Web("s1", port))).start()
    started = time.monotonic()
    assert act(lab, "ready").verdict.passed
    assert time.monotonic() - started > 0.9


def test_one_dead_server_does_not_keep_the_other_out(make_lab: MakeLab) -> None:
    lab = make_lab(("s1", "s2", "s3"))
    lab.write()
    lab.start()
    assert act(lab, "drain", ["s1", "s2"]).verdict.passed
    lab.web["s1"].die()
    ready = act(lab, "ready", ["s1", "s2"], deadline=3)
    assert ready.verdict.code == "ready.unhealthy"
    assert ready.changed
    assert (lab.down("s1"), lab.down("s2")) == (True, False)
    assert lab.answers() == {"s2", "s3"}


def test_all_servers_drained_is_502_and_needs_an_explicit_zero(lab: Lab) -> None:
    refused = act(lab, "drain", ["s1", "s2"])
    assert refused.verdict.code == "drain.floor"
    assert "down" not in lab.be()
    assert act(lab, "drain", ["s1", "s2"], min_available=0).verdict.passed
    assert lab.client().get() == "502"


@pytest.mark.skipif(not STREAM.exists(), reason="nginx's stream module is not installed")
def test_stream_upstream(make_lab: MakeLab) -> None:
    lab, port = make_lab(), free_port()
    lab.write(
        main="load_module %s;" % STREAM,
        end="stream { upstream tcp { server %%(s1)s; server %%(s2)s backup; } server { listen 127.0.0.1:%d; proxy_pass tcp; } }"
        % port,
    )
    lab.start()
    text = lab.config.read_bytes()
    through = Client(port)
    assert through.get() == "s1"
    failed = act(lab, "drain", backends=["tcp"], deadline=4)
    assert failed.verdict.code == "drain.sessions_left"
    assert through.get() == "s1"
    through.close()
    drained = act(lab, "drain")
    assert drained.verdict.passed, drained.verdict
    assert sorted(drained.after) == sorted([key(lab, "s1"), key(lab, "s1", "tcp")])
    other = Client(port)
    assert other.get() == "s2"
    other.close()
    assert act(lab, "ready", restore=drained.before).verdict.passed
    assert lab.config.read_bytes() == text

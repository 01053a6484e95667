# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reloads and restarts by somebody else, in the middle of an act of ours."""

from __future__ import annotations

import os
import signal
import threading
import typing as t

import pytest

from tests.integration.haproxy.lab import until
from tests.integration.nginx.conftest import act
from tests.integration.nginx.lab import Lab, pause

MakeLab = t.Callable[..., Lab]


def later(seconds: float, act_of_theirs: t.Callable[[], t.Any]) -> threading.Timer:
    timer = threading.Timer(seconds, act_of_theirs)
    timer.start()
    return timer


def test_a_reload_during_the_wait_keeps_the_drain(lab: Lab) -> None:
    client = lab.slow_on("s1", 3.0)
    timer = later(1.0, lab.reload)
    drained = act(lab, "drain")
    timer.join()
    assert drained.verdict.code == "drain.done", drained
    assert client.answer() == "s1"
    assert lab.answers() == {"s2"}


def test_a_reload_that_lost_the_drain_is_noticed(lab: Lab) -> None:
    """Somebody's tool wrote its own text, without our word, and loaded it: that is their decision, and it is left so."""
    text = lab.be()
    lab.websocket_on("s1")

    def rewrite() -> None:
        (lab.upstreams / "be.conf").write_text(text)
        lab.reload()

    timer = later(1.0, rewrite)
    drained = act(lab, "drain", deadline=20)
    timer.join()
    assert drained.verdict.code == "expect.foreign"
    assert "back into traffic" in drained.verdict.reason
    assert lab.be() == text
    assert lab.answers() == {"s1", "s2"}


def test_an_edit_that_drops_the_drain_and_is_not_loaded_is_somebody_elses_change(lab: Lab) -> None:
    """It keeps us from putting back, too; that follows from it, and is said beside it."""
    text = lab.be()
    lab.websocket_on("s1")
    timer = later(1.0, lambda: (lab.upstreams / "be.conf").write_text(text))
    drained = act(lab, "drain", deadline=20)
    timer.join()
    workers = lab.workers()
    assert drained.verdict.code == "expect.foreign", drained.verdict
    assert "back into traffic" in drained.verdict.reason
    assert "What was drained was not put back" in drained.verdict.hint
    assert "be.conf" in drained.verdict.hint
    assert drained.verdict.evidence["not_put_back"] == ["be/" + lab.web["s1"].address]
    assert (lab.be(), lab.workers()) == (text, workers)


def test_an_edit_during_the_wait_that_is_not_loaded_is_not_loaded_by_the_way_back(lab: Lab) -> None:
    """The drain fails; putting back would activate what somebody has half done. It is said, and not done."""
    lab.websocket_on("s1")
    (lab.upstreams / "z.conf").write_text("")
    lab.reload()
    pause(0.2)
    timer = later(1.0, lambda: (lab.upstreams / "z.conf").write_text("# half done\n"))
    drained = act(lab, "drain", deadline=4)
    timer.join()
    workers = lab.workers()
    assert drained.verdict.code == "drain.not_put_back"
    assert "z.conf" in drained.verdict.reason
    assert "may still say `down`" in drained.verdict.hint
    assert lab.down("s1")
    assert drained.changed
    assert lab.workers() == workers
    lab.reload()
    assert act(lab, "ready").verdict.passed


def test_a_restart_during_the_wait(lab: Lab) -> None:
    tunnel = lab.websocket_on("s1")

    def restart() -> None:
        assert lab.process
        lab.process.terminate()
        lab.process.wait()
        lab.start()

    timer = later(1.0, restart)
    drained = act(lab, "drain")
    timer.join()
    assert drained.verdict.code == "drain.done", drained
    assert not tunnel.echoes()
    assert drained.more["master"] == lab.master
    assert lab.answers() == {"s2"}


def test_nginx_is_stopped_during_the_wait(lab: Lab) -> None:
    lab.websocket_on("s1")
    assert lab.process
    timer = later(1.0, lab.process.terminate)
    drained = act(lab, "drain", deadline=4)
    timer.join()
    assert drained.verdict.code == "drain.not_put_back"
    assert "nginx does not run" in drained.verdict.reason
    assert "be/%s" % lab.web["s1"].address in drained.verdict.hint


def test_a_reload_that_began_before_our_text_does_not_confirm_ours(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their reload has read the old text when ours is written, and starts its workers after our signal: they know of no drain."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx import reload

    lab = make_lab()
    many = "\n".join("~^/%d(.*)(a|b)+[xyz]$ %d;" % (number, number) for number in range(6000))
    lab.write(main="pcre_jit on;", http="map $uri $slow { %s }" % many.replace("%", "%%"))
    lab.start()
    replace = reload.replace

    def in_between(real: str, data: bytes) -> None:
        os.kill(lab.master, signal.SIGHUP)
        pause(0.04)
        os.kill(lab.master, signal.SIGSTOP)  # the upstreams are read, the rest of the file is not
        assert lab.workers() == workers
        replace(real, data)
        timers.append(later(1.0, lambda: os.kill(lab.master, signal.SIGCONT)))

    workers, timers = lab.workers(), list[threading.Timer]()
    monkeypatch.setattr(reload, "replace", in_between)
    drained = act(lab, "drain")
    assert timers
    assert drained.verdict.passed, drained.verdict
    assert lab.answers() == {"s2"}


def test_worker_that_still_has_its_masters_title_is_no_second_master(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is a copy of its master before it names itself: seen here for the first look, as it is now and then in life."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx import balancer

    real, looks = balancer.processes, list[int]()

    def young() -> t.Any:
        looks.append(1)
        found = real()
        master = next(one for one in found if one.pid == lab.master)
        return [one._replace(title=master.title) if one.parent == lab.master and len(looks) == 1 else one for one in found]

    monkeypatch.setattr(balancer, "processes", young)
    assert act(lab, "drain").verdict.passed
    assert len(looks) > 1


def test_workers_of_a_reload_before_ours_are_told_from_ours(lab: Lab) -> None:
    """HUPs of theirs rain on the master while we drain and put back: every answer holds for what serves then."""
    stop = threading.Event()

    def rain() -> None:
        while not stop.wait(0.15):
            os.kill(lab.master, signal.SIGHUP)

    thread = threading.Thread(target=rain)
    thread.start()
    try:
        for _ in range(4):
            drained = act(lab, "drain")
            assert drained.verdict.passed, drained.verdict
            assert lab.answers(4) == {"s2"}
            ready = act(lab, "ready", restore=drained.before)
            assert ready.verdict.passed, ready.verdict
            until(lambda: "s1" in lab.answers(4))
    finally:
        stop.set()
        thread.join()
    until(lambda: not lab.old_workers())

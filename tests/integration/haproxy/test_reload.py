# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody reloads HAProxy: between two calls, in the middle of one, and with a state file."""

from __future__ import annotations

import os
import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.balancer import Balancer
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import Conversation
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.drain import Drain
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import Scope
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.traffic import Request
from tests.integration.haproxy.conftest import DEFAULTS, act
from tests.integration.haproxy.lab import Lab, until

MakeLab = t.Callable[..., Lab]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="reading the connections of HAProxy's processes needs root")


def test_drain_lost_by_a_reload_between_two_calls_is_mended(lab: Lab) -> None:
    first = act(lab, "drain")
    lab.reload()
    assert lab.mask("be/s1") == 0  # the fact itself: a reload forgets
    again = act(lab, "drain", expect=first.after)
    assert again.verdict.passed
    assert again.changed
    assert again.more["mended"] == ["be/s1"]
    assert lab.mask("be/s1") == 8


def test_drain_lost_by_a_reload_during_the_wait_is_mended(lab: Lab) -> None:
    tunnel = lab.websocket_on("s1")
    lab.raw("set server be/s1 weight 1")
    threading.Timer(0.5, lab.reload).start()
    threading.Timer(2.0, tunnel.close).start()
    drained = act(lab, "drain", deadline=15)
    assert drained.verdict.passed, drained.verdict
    assert drained.more["mended"] == ["be/s1"]
    assert lab.mask("be/s1") == 8


def test_weight_and_drain_lost_before_ready_are_not_foreign_and_come_back(lab: Lab) -> None:
    before = {"be/s1": {"admin": 0, "weight": 5}}
    lab.raw("set server be/s1 weight 5")
    drained = act(lab, "drain")
    assert drained.before == before
    lab.reload()
    until(lab.all_checked)
    assert lab.weight("be/s1") == 1
    ready = act(lab, "ready", expect=drained.after, restore=before)
    assert ready.verdict.passed
    assert (lab.mask("be/s1"), lab.weight("be/s1")) == (0, 5)


def test_server_added_by_a_reload_at_the_same_address_is_drained_too(lab: Lab) -> None:
    tunnel = lab.websocket_on("s1")

    def reconfigure() -> None:
        lab.config(
            "backend more\n  server new 127.0.0.1:%d\n  server spare 127.0.0.1:%d\n" % (lab.web["s1"].port, lab.web["s2"].port)
        )
        lab.reload()

    threading.Timer(0.5, reconfigure).start()
    threading.Timer(3.0, tunnel.close).start()
    drained = act(lab, "drain", deadline=15)
    assert drained.verdict.passed, drained.verdict
    assert lab.mask("more/new") == lab.mask("be/s1") == 8
    assert sorted(drained.after) == ["be/s1", "more/new"]


@pytest.mark.parametrize("master", [True, pytest.param(False, marks=needs_root)])
def test_a_conversation_with_a_worker_that_a_reload_has_replaced_does_not_count(make_lab: MakeLab, master: bool) -> None:
    """The old worker says `drained`, and no session is left; the new one gives the server traffic."""
    lab = make_lab(master=master)
    lab.config()
    lab.start()
    opened = []

    class Unlucky(Balancer):
        """HAProxy is reloaded between its second conversation, the first look after the drain, and the first word in it."""

        def open(self) -> Conversation:
            opened.append(super().open())
            if len(opened) == 2:
                lab.reload()
            return opened[-1]

    request = Request.from_params({**DEFAULTS, "servers": [lab.web["s1"].address], "deadline": 10})
    drained = Drain(Unlucky(lab.admin), request).run()
    assert drained.verdict.passed, drained.verdict
    assert drained.more["mended"] == ["be/s1"]
    assert lab.mask("be/s1") == 8
    until(lab.all_checked)
    assert {lab.client().get() for _ in range(4)} == {"s2"}


@pytest.mark.parametrize("master", [True, pytest.param(False, marks=needs_root)])
def test_what_a_replaced_worker_says_is_unknown_and_it_cannot_be_set(make_lab: MakeLab, master: bool) -> None:
    lab = make_lab(master=master)
    lab.config()
    lab.start()
    balancer = Balancer(lab.admin)
    with balancer.open() as talk:
        lab.reload()
        worker = balancer.look(talk)
        assert worker.pid != lab.worker()
        with pytest.raises(LifecycleError) as unknown:
            balancer.old(talk, worker, Scope(frozenset(server.endpoint for server in worker.servers)))
        with pytest.raises(LifecycleError) as refused:
            talk.do("set server be/s1 state drain")
    assert (unknown.value.code, refused.value.code) == ("haproxy.replaced", "haproxy.replaced")


def test_a_reload_that_fails_changes_nothing(lab: Lab) -> None:
    """The master then waits, without a new worker: the one that answers is still the one in charge."""
    config = lab.folder / "haproxy.cfg"
    config.write_text(config.read_text() + "nonsense\n")
    before = lab.worker()
    lab.raw("reload", lab.master)
    until(lambda: "nonsense" in lab.said(), what="HAProxy has read the configuration")
    until(lambda: lab.raw("show proc", lab.master), what="the master answers again")
    drained = act(lab, "drain")
    assert drained.verdict.passed, drained.verdict
    assert (lab.worker(), lab.mask("be/s1")) == (before, 8)


def with_state_file(lab: Lab) -> Lab:
    lab.config(glob="server-state-file " + lab.state_file)
    config = lab.folder / "haproxy.cfg"
    config.write_text(config.read_text().replace("  mode http\n", "  mode http\n  load-server-state-from-file global\n", 1))
    return lab


def test_state_file_makes_a_drain_survive_a_reload_and_a_ready_too(make_lab: MakeLab) -> None:
    lab = with_state_file(make_lab())
    Path(lab.state_file).write_text("")
    os.chmod(lab.state_file, 0o640)
    lab.start()
    drained = act(lab, "drain", state_file=lab.state_file)
    assert oct(os.stat(lab.state_file).st_mode & 0o777) == "0o640"
    lab.reload()
    assert lab.mask("be/s1") == 8
    again = act(lab, "drain", expect=drained.after, state_file=lab.state_file)
    assert not again.changed
    assert again.more["mended"] == []
    until(lab.all_checked)
    assert act(lab, "ready", restore=drained.before, state_file=lab.state_file).verdict.passed
    lab.reload()
    assert lab.mask("be/s1") == 0  # a stale file would drain it again
    assert list(lab.folder.glob(".osops-*")) == []


def test_state_file_that_cannot_be_written_is_found_before_any_change(lab: Lab) -> None:
    import pytest

    from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError

    for path, words in (
        ("relative/state", "not absolute"),
        (str(lab.folder / "nowhere" / "state"), "cannot be written to"),
        (str(lab.folder), "not a plain file"),
    ):
        with pytest.raises(BadInputError, match=words):
            act(lab, "drain", state_file=path)
    assert lab.mask("be/s1") == 0

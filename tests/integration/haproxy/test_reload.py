# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody reloads HAProxy: between two calls, in the middle of one, and with a state file."""

from __future__ import annotations

import os
import threading
import typing as t
from pathlib import Path

from tests.integration.haproxy.conftest import act
from tests.integration.haproxy.lab import Lab, until

MakeLab = t.Callable[..., Lab]


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

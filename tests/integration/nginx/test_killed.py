# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An act that is killed anywhere, and called again: it ends where an undisturbed one ends."""

from __future__ import annotations

import os
import signal
import traceback
import typing as t

import pytest

from tests.integration.nginx.conftest import act
from tests.integration.nginx.lab import Lab, pause

MakeLab = t.Callable[..., Lab]


def die(*_given: t.Any) -> t.NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("dead")


def at(point: str) -> None:
    """Let this process be killed at a point of an act."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx import reload as module
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.drain import Drain

    replace, kill = module.replace, os.kill
    count = 0

    def second(real: str, data: bytes) -> None:
        nonlocal count
        count += 1
        if point == "before the first file" or (point == "between two files" and count == 2):
            die()
        replace(real, data)

    def told(pid: int, number: int) -> None:
        if number == signal.SIGHUP:
            if point == "before the reload":
                kill(os.getpid(), signal.SIGKILL)
            kill(pid, number)
            if point == "right after the signal":
                kill(os.getpid(), signal.SIGKILL)
        else:
            kill(pid, number)

    module.replace = second  # type: ignore[assignment]
    module.os.kill = told  # type: ignore[assignment]
    if point == "after the reload, before it is noted":
        module._remember = die
    if point == "while it waits":
        Drain._progress = die  # type: ignore[method-assign, assignment]


def killed(point: str, lab: Lab, kind: str, **given: t.Any) -> None:
    """Run an act in a process of its own that is killed at ``point``."""
    pid = os.fork()
    if pid == 0:
        try:
            at(point)
            print(act(lab, kind, **given))
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL, "it was not killed at this point"


POINTS = (
    "before the first file",
    "between two files",
    "before the reload",
    "right after the signal",
    "after the reload, before it is noted",
)
DRAIN_POINTS = (*POINTS, "while it waits")


def two_files(make_lab: MakeLab) -> Lab:
    lab = make_lab()
    lab.write()
    (lab.upstreams / "z.conf").write_text("upstream z { server %s; server %s; }" % tuple(web.address for web in lab.web.values()))
    return lab.start()


def plain(lab: Lab) -> dict[str, bytes]:
    return {name: text for name, text in lab.texts().items() if not name.startswith(("notes", ".osops", "conf.d/.osops"))}


@pytest.mark.parametrize("point", DRAIN_POINTS)
def test_a_drain_that_was_killed_is_ended_by_the_next_call(make_lab: MakeLab, point: str) -> None:
    lab = two_files(make_lab)
    texts = plain(lab)
    before = act(lab, "drain", check_mode=True).before
    killed(point, lab, "drain", expect=before)
    again = act(lab, "drain", expect=before, resume=True)
    assert again.verdict.passed, again.verdict
    assert (again.before, again.changed) == (before, True)
    assert {state["admin"] for state in again.after.values()} == {1}
    assert lab.answers() == {"s2"}
    third = act(lab, "drain", expect=again.after)
    assert third.verdict.passed
    assert not third.changed
    assert act(lab, "ready", restore=before).verdict.passed
    assert plain(lab) == texts
    assert lab.answers() == {"s1", "s2"}


@pytest.mark.parametrize("point", DRAIN_POINTS)
def test_a_drain_that_was_killed_is_taken_back_by_ready(make_lab: MakeLab, point: str) -> None:
    """The way back of a run: it knows what was there before the drain, and expects nothing."""
    lab = two_files(make_lab)
    texts = plain(lab)
    before = act(lab, "drain", check_mode=True).before
    killed(point, lab, "drain")
    ready = act(lab, "ready", restore=before, resume=True)
    assert ready.verdict.passed, ready.verdict
    assert plain(lab) == texts
    assert lab.answers() == {"s1", "s2"}
    again = act(lab, "ready", restore=before)
    assert (again.verdict.passed, again.changed) == (True, False)


@pytest.mark.parametrize("point", DRAIN_POINTS)
def test_the_documented_playbook_again_after_a_kill_puts_back(make_lab: MakeLab, point: str) -> None:
    """It gives no expect, and to ready what its own drain has found."""
    lab = two_files(make_lab)
    texts = plain(lab)
    before = act(lab, "drain", check_mode=True).before
    killed(point, lab, "drain")
    assert act(lab, "drain", check_mode=True).before == before
    drained = act(lab, "drain")
    assert drained.verdict.passed, drained.verdict
    assert (drained.before, drained.changed) == (before, True)
    assert {state["admin"] for state in drained.after.values()} == {1}
    ready = act(lab, "ready", restore=drained.before)
    assert (ready.verdict.passed, ready.changed) == (True, True)
    assert plain(lab) == texts
    assert lab.answers() == {"s1", "s2"}


def test_a_drain_that_was_killed_in_its_wait_and_fails_when_it_is_called_again_is_put_back(make_lab: MakeLab) -> None:
    lab = two_files(make_lab)
    texts = plain(lab)
    tunnel = lab.websocket_on("s1")
    killed("while it waits", lab, "drain")
    assert lab.down("s1")
    again = act(lab, "drain", deadline=3)
    assert again.verdict.code == "drain.sessions_left", again.verdict
    assert again.after == again.before
    assert again.changed
    assert plain(lab) == texts
    assert lab.answers() == {"s1", "s2"}
    assert tunnel.echoes()


def test_what_was_found_by_a_drain_that_was_killed_in_its_wait_outlives_acts_on_other_servers(make_lab: MakeLab) -> None:
    lab = make_lab(("s1", "s2", "s3"))
    lab.write()
    lab.start()
    text = lab.be()
    killed("while it waits", lab, "drain")
    assert act(lab, "drain", ["s2"]).verdict.passed
    killed("before the reload", lab, "ready", names=["s2"])
    assert act(lab, "ready", ["s2"]).verdict.passed
    drained = act(lab, "drain")
    assert [state["admin"] for state in drained.before.values()] == [0]
    assert act(lab, "ready", restore=drained.before).verdict.passed
    assert lab.be() == text


def test_a_server_that_somebody_took_out_after_the_kill_is_theirs(make_lab: MakeLab) -> None:
    lab = two_files(make_lab)
    killed("while it waits", lab, "drain")
    (lab.upstreams / "be.conf").write_text(lab.be().replace(" down", "") + "# it is back\n")
    lab.reload()
    (lab.upstreams / "be.conf").write_text(lab.be().replace(";", " down;", 1))
    lab.reload()
    drained = act(lab, "drain")
    assert drained.verdict.passed
    assert drained.before["be/" + lab.web["s1"].address]["admin"] == 1


def test_a_drain_that_has_passed_is_not_taken_back_by_a_later_one(lab: Lab) -> None:
    assert act(lab, "drain").verdict.passed
    again = act(lab, "drain")
    assert [state["admin"] for state in again.before.values()] == [1]
    assert not again.changed


@pytest.mark.parametrize("point", POINTS)
def test_a_ready_that_was_killed_is_ended_by_the_next_call(make_lab: MakeLab, point: str) -> None:
    lab = two_files(make_lab)
    texts = plain(lab)
    drained = act(lab, "drain")
    killed(point, lab, "ready", restore=drained.before, expect=drained.after)
    ready = act(lab, "ready", restore=drained.before, expect=drained.after, resume=True)
    assert ready.verdict.passed, ready.verdict
    assert ready.after == drained.before
    assert plain(lab) == texts
    assert lab.answers() == {"s1", "s2"}


@pytest.mark.parametrize("point", POINTS[1:])
def test_an_act_on_other_servers_does_not_end_the_one_that_was_killed(make_lab: MakeLab, point: str) -> None:
    """Its drain was never checked against what these servers need."""
    lab = two_files(make_lab)
    before = act(lab, "drain", check_mode=True).before
    killed(point, lab, "drain")
    pause(0.5)  # what nginx was told of by the act that was killed is done then
    texts, workers = plain(lab), lab.workers()
    for kind, check_mode in (("drain", False), ("ready", False), ("drain", True)):
        refused = act(lab, kind, ["s2"], check_mode=check_mode, min_available=0)
        assert refused.verdict.code == "nginx.cut_act", refused.verdict
        assert all(name in refused.verdict.reason for name in before)
        assert refused.verdict.evidence["servers"] == sorted(before)
        assert not refused.changed
    assert act(lab, "drain", backends=["be"]).verdict.code == "nginx.cut_act"  # a part of it is not it
    assert (plain(lab), lab.workers()) == (texts, workers)
    assert act(lab, "drain").verdict.passed
    assert act(lab, "drain", ["s2"], min_available=0).verdict.passed


def test_what_somebody_else_edited_after_the_kill_is_not_ours(make_lab: MakeLab) -> None:
    lab = two_files(make_lab)
    killed("before the reload", lab, "drain")
    text = lab.be()
    (lab.upstreams / "be.conf").write_text(text + "# half done\n")
    refused = act(lab, "drain", resume=True)
    assert refused.verdict.code == "nginx.pending_change"
    assert "be.conf" in refused.verdict.reason
    (lab.upstreams / "be.conf").write_text(text)
    assert act(lab, "drain", resume=True).verdict.passed


def test_what_a_killed_trial_leaves_is_not_read_by_nginx_and_goes_with_the_next_act(lab: Lab) -> None:
    """Copies may hold secrets of the configuration."""
    left = lab.folder / "notes" / "trial-x"
    left.mkdir(parents=True)
    (left / "0.conf").write_text("x")
    (lab.folder / ".osops-nginx-trial").write_text("rubbish")
    lab.reload()
    assert act(lab, "drain").verdict.passed
    assert not left.exists()
    assert not (lab.folder / ".osops-nginx-trial").exists()


def test_two_acts_with_fences_of_different_names(lab: Lab) -> None:
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.files import Notes

    text = lab.be()
    with Notes(str(lab.config), str(lab.folder / "notes")).held(1.0):
        refused = act(lab, "drain", deadline=3)
    assert refused.verdict.code == "nginx.busy"
    assert lab.be() == text
    assert act(lab, "drain").verdict.passed


def test_a_note_that_cannot_be_read(lab: Lab) -> None:
    assert act(lab, "drain").verdict.passed
    (note,) = (lab.folder / "notes").glob("*.json")
    note.write_text("{")
    texts = plain(lab)
    refused = act(lab, "ready")
    assert refused.verdict.code == "unknown_answer"
    assert str(note) in refused.verdict.reason
    assert plain(lab) == texts
    note.unlink()
    assert act(lab, "ready").verdict.passed

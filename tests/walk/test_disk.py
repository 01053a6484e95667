# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store's disk is full: the kernel refuses every byte beyond a limit that is set while a run goes on."""

from __future__ import annotations

import resource
import subprocess

from tests.walk.conftest import Worlds
from tests.walk.told import Told, calls, ended, refused
from tests.walk.world import Result, World, descendants

SENTENCE = "Look at its disk space and its rights; the run goes on with the same command afterwards."


def full(process: subprocess.Popen[bytes]) -> None:
    """From now on, no file of this playbook grows; what is there can be read, and its output goes on through a pipe."""
    for pid in (process.pid, *descendants(process.pid)):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))


def finish(world: World, process: subprocess.Popen[bytes]) -> Result:
    out, _nothing = process.communicate(timeout=600)
    return Result(process.returncode, out.decode())


def test_disk_full_before_the_run_is_written(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    for name in ("ctl1", "lb1"):  # both drivers have been sent by then, which needs room on the control node too
        world.hosts[name].behave("look/" + ("app" if name == "ctl1" else "balancer"), {"hold": True})
    process = world.start("upgrade", piped=True)
    for name in ("ctl1", "lb1"):
        world.hosts[name].reached()
    full(process)
    for name in ("ctl1", "lb1"):
        world.hosts[name].release()
    result = finish(world, process)
    refused(world, result, "The store failed: ", SENTENCE)
    assert (world.versions(), world.masks()) == (["1.0", "1.0"], [0, 0])
    ended(world, world.run("upgrade"), 0, "succeeded")


def test_disk_full_in_the_middle_of_an_act(worlds: Worlds) -> None:
    """Nothing is done that cannot be journaled first; with room again, the same command finishes the job."""
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl2"].behave("app/active", {"hold": True})
    process = world.start("upgrade", piped=True)
    world.hosts["ctl2"].reached()
    full(process)
    world.hosts["ctl2"].release()
    result = finish(world, process)
    assert result.rc == 2, result.out[-4000:]
    assert "The store failed: " in result.out
    assert SENTENCE in result.out
    told = Told(world)
    assert (told.run.state, told.kinds()["echo-api@ctl2/change"]) == ("running", "intent")
    # The act in hand came to its end; after it, no step began.
    assert (world.versions(), world.masks()) == (["2.0", "2.0"], [0, 8])
    assert calls(world)["ctl2 probe/verify"] == 0
    assert calls(world)["lb1 balancer/ready"] == 1

    again = ended(world, world.run("upgrade"), 0, "succeeded")
    assert again.run.id == told.run.id
    assert (world.versions(), world.masks()) == (["2.0", "2.0"], [0, 0])
    assert [call["changed"] for call in world.hosts["ctl2"].calls if call["state"] == "active"] == [True, False]

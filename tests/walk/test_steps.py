# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps that fail, hang, or answer what nobody understands; and somebody else who changes things meanwhile."""

from __future__ import annotations

import json

import pytest

from tests.walk.conftest import Worlds
from tests.walk.told import Told, calls, ended, order, refused


def test_failure_in_the_second_batch_takes_everything_back_in_reverse(worlds: Worlds) -> None:
    world = worlds(apps=3, balancers=1)
    world.want("2.0", batches=[1, 2])
    world.hosts["ctl3"].behave("app/active", {"hang": 1, "fail": "No room for it."})
    # What a user's ansible.cfg may say must not reach the plays of a run.
    result = world.run("upgrade", ANSIBLE_ANY_ERRORS_FATAL="true", ANSIBLE_STRATEGY="free")
    told = ended(world, result, 2, "rolled_back", "echo-api@ctl3/change failed: No room for it. Ask for something else.")
    assert (world.versions(), world.masks()) == (["1.0", "1.0", "1.0"], [0, 0, 0])
    assert [name for name in told.begun("back") if name.endswith("/revert")] == [
        "echo-api@ctl3/revert", "echo-api@ctl2/revert", "echo-api@ctl1/revert",
    ]  # fmt: skip
    # ctl3 failed before its log line the first time; its way back finds nothing to do, and is proven all the same.
    assert [calls(world)["%s app/active" % name] for name in world.apps] == [2, 2, 1]
    # ctl2 was switched beside it, but the run had turned before its test: only the way back proved it.
    assert [calls(world)["%s probe/verify" % name] for name in world.apps] == [2, 1, 1]
    assert calls(world)["ctl1 data/expand"] == 1, "the way back never migrates"
    # On the way back each server returns as soon as it is proven, before the next one leaves.
    assert [line.split()[1:] for line in order(world, "balancer/ready")][-3:] == [
        ["balancer/ready", "['%s:5000']" % world.hosts[name].address] for name in ("ctl3", "ctl2", "ctl1")
    ]
    assert "echo-api@ctl3: 1.0" in result.lines
    assert result.lines[-1] == "next: mend what failed, then the same playbook again"

    ended(world, world.run("upgrade"), 0, "succeeded")
    assert (world.versions(), world.masks()) == (["2.0", "2.0", "2.0"], [0, 0, 0])
    assert calls(world)["ctl1 data/expand"] == 2


def test_failing_test_of_a_new_release(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl1"].behave("probe/verify", {"fail": "GET / answers 200, and the wrong thing."})
    result = world.run("upgrade")
    told = ended(world, result, 2, "rolled_back", "echo-api@ctl1/test failed: GET / answers 200, and the wrong thing.")
    assert told.kinds()["echo-api@ctl1/change"] == "done"
    assert "echo#2@lb1/admit" not in told.kinds(), "no request for what is not proven"
    assert [calls(world)["%s app/active" % name] for name in world.apps] == [2, 0]
    assert (world.versions(), world.masks()) == (["1.0", "1.0"], [0, 0])


def test_failing_way_back_freezes(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl2"].behave("probe/verify", {"fail": "It does not answer."}, {"fail": "It still does not answer."})
    result = world.run("upgrade")
    told = ended(world, result, 2, "frozen", "echo-api@ctl2/test failed: It does not answer.")
    assert "not taken back: echo-api@ctl2/test (It still does not answer.)" in told.run.reason
    # ctl2 stays out of traffic, so ctl1 is the last server: it is not drained below the floor, and its release is proven.
    assert "echo#2@lb1/drain (Only 0 servers would be left.)" in told.run.reason
    assert (world.versions(), world.masks()) == (["2.0", "1.0"], [0, 8])
    assert {"echo-api@ctl1: 2.0", "echo-api@ctl2: unknown", "out of traffic: echo-api/ctl2 on lb1"} <= set(result.lines)


@pytest.mark.parametrize(
    ("says", "what"),
    [
        ("Segmentation fault, or so\n", "answered what is not understood"),
        (json.dumps({"changed": True, "before": {}, "after": {}}) + "\n", "answered what is not understood"),
        (json.dumps({"changed": True, "verdict": {"outcome": "fine", "code": "x"}}) + "\n", "no usable verdict"),
    ],
    ids=["no-json", "no-verdict", "unusable-verdict"],
)
def test_rubbish_after_the_switch(worlds: Worlds, says: str, what: str) -> None:
    """The switch was done, the answer does not say so: unknown is not success, and it is taken back."""
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl1"].behave("app/active", {"says": says})
    told = ended(world, world.run("upgrade"), 2, "rolled_back", what)
    assert told.run.reason.startswith("echo-api@ctl1/change failed: ")
    assert told.kinds()["echo-api@ctl1/change"] == "unknown"
    assert [calls(world)["%s app/active" % name] for name in world.apps] == [2, 0]
    assert (world.versions(), world.masks()) == (["1.0", "1.0"], [0, 0])


def test_rubbish_at_the_look(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    world.hosts["lb1"].behave("look/balancer", {"says": "\x1b[31mhello\n"})
    refused(world, world.run("upgrade"), "share/echo@lb1: The driver osops_test.dummy.balancer answered what is not understood.")


def test_drain_that_hangs_past_its_deadline(worlds: Worlds) -> None:
    """The deadline of a step is the driver's to keep; one that cannot is cut 30 s later, and its late act does no harm."""
    world = worlds(apps=2, balancers=1)
    record = json.loads(json.dumps(world.record))
    record["services"]["echo"]["traffic"]["options"] = {"deadline": 1}
    world.put("cloud.yml", record)
    world.hosts["lb1"].behave("balancer/drain", {"hang": 32})
    told = ended(world, world.run("upgrade"), 2, "rolled_back", "echo#2@lb1/drain failed: The host gave no answer in 31 s")
    assert told.kinds()["echo#2@lb1/drain"] == "unknown"
    # The late drain came to its end under the host's lock, before the way back acted.
    assert [line.split()[1] for line in order(world, "balancer/drain", "balancer/ready")] == ["balancer/drain", "balancer/ready"]
    assert (world.versions(), world.masks()) == (["1.0", "1.0"], [0, 0])
    assert [calls(world)["%s app/active" % name] for name in world.apps] == [0, 0]


def test_somebody_else_sets_a_server_to_maintenance(worlds: Worlds) -> None:
    world = worlds(apps=3, balancers=2)
    world.hosts["ctl1"].behave("app/active", {"hold": True})
    begin = world.written()
    process = world.start("upgrade")
    world.hosts["ctl1"].reached()
    servers = world.hosts["lb2"].read("balancer.json")
    servers["echo-api/ctl2"]["admin"] = 1
    world.hosts["lb2"].write("balancer.json", servers)
    world.hosts["ctl1"].release()
    result = world.finish(process, begin)
    told = ended(
        world, result, 2, "frozen", "echo#3@lb2/drain failed: Somebody else changed echo-api/ctl2.admin since it was looked at."
    )
    # What was done stays, what they changed stays as they left it, and what we drained beside it gets its traffic back.
    assert world.versions() == ["2.0", "1.0", "1.0"]
    assert world.masks() == [0, 0, 0, 0, 1, 0]
    assert "echo-api@ctl2/change" not in told.kinds()
    assert [calls(world)["%s app/active" % name] for name in world.apps] == [1, 0, 0]
    assert world.hosts["lb2"].read("balancer.json")["echo-api/ctl2"]["weight"] == 100


def test_somebody_else_changes_a_version(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl1"].behave("app/active", {"hold": True})
    begin = world.written()
    process = world.start("upgrade")
    world.hosts["ctl1"].reached()
    theirs = {"release": "1.5", "version": "1.5", "running": True}
    world.hosts["ctl2"].write("app-echo-api.json", theirs)
    world.hosts["ctl1"].release()
    result = world.finish(process, begin)
    ended(
        world, result, 2, "frozen", "echo-api@ctl2/change failed: Somebody else changed release, version since it was looked at."
    )
    assert world.hosts["ctl2"].read("app-echo-api.json") == theirs
    assert world.versions() == ["2.0", "1.5"]
    # It ran in traffic before, and nothing of it was changed by this run.
    assert world.masks() == [0, 0]
    assert "echo-api@ctl1: 2.0" in result.lines


def test_somebody_else_ends_our_drain(worlds: Worlds) -> None:
    """A drain that somebody turned into maintenance is theirs: the instance is not switched, and the server stays as they left it."""
    world = worlds(apps=2, balancers=1)
    world.hosts["lb1"].behave("balancer/drain", {}, {"hold": True})
    begin = world.written()
    process = world.start("upgrade")
    world.hosts["lb1"].reached()
    servers = world.hosts["lb1"].read("balancer.json")
    servers["echo-api/ctl1"]["admin"] = 9
    world.hosts["lb1"].write("balancer.json", servers)
    world.hosts["lb1"].release()
    result = world.finish(process, begin)
    told = ended(world, result, 2, "frozen", "echo#2@lb1/confirm failed: Somebody else changed echo-api/ctl1.admin")
    assert "echo-api@ctl1/change" not in told.kinds()
    assert (world.versions(), world.masks()) == (["1.0", "1.0"], [9, 0])


def test_the_floor_is_counted_again_when_it_is_drained(worlds: Worlds) -> None:
    world = worlds(apps=3, balancers=1)
    world.want("2.0", floor=2)
    world.hosts["ctl1"].behave("data/expand", {"hold": True})
    begin = world.written()
    process = world.start("upgrade")
    world.hosts["ctl1"].reached()
    servers = world.hosts["lb1"].read("balancer.json")
    servers["echo-api/ctl3"]["health"] = "down"
    world.hosts["lb1"].write("balancer.json", servers)
    world.hosts["ctl1"].release()
    result = world.finish(process, begin)
    ended(world, result, 2, "rolled_back", "echo#2@lb1/drain failed: Only 1 servers would be left.")
    assert (world.versions(), world.masks()) == (["1.0", "1.0", "1.0"], [0, 0, 0])
    # The look of the next call sees it, and nothing begins.
    again = world.run("upgrade")
    assert again.rc == 2
    assert "the backend echo-api would have 1 healthy servers, the floor is 2." in " ".join(again.out.split())
    assert Told(world).run.id == told_id(result)


def told_id(result: object) -> str:
    """The run that a result is about, from its last lines."""
    return str(result.lines[0].split()[1].rstrip(","))  # type: ignore[attr-defined]

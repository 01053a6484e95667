# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in which nothing goes wrong: order, repetition, strategies, records, budget."""

from __future__ import annotations

import collections
import json

from tests.walk.conftest import Worlds
from tests.walk.told import Told, calls, ended, order


def test_upgrade_then_nothing_to_do_then_rollback_by_record(worlds: Worlds) -> None:
    world = worlds(apps=3, balancers=2)
    result = world.run("upgrade")
    told = ended(world, result, 0, "succeeded")
    assert "done: 32 of 32 steps" in result.lines
    assert set(told.kinds().values()) == {"done"}
    assert world.versions() == ["2.0", "2.0", "2.0"]
    assert world.masks() == [0] * 6
    once = {
        "%s %s" % (host, act): 1 for host in world.apps for act in ("app/present", "app/active", "probe/baseline", "probe/verify")
    }
    shares = {
        "%s balancer/%s" % (host, state): times * 3 for host in world.balancers for state, times in (("drain", 2), ("ready", 1))
    }
    assert calls(world) == {**once, **shares, "ctl1 data/preflight": 1, "ctl1 data/expand": 1}
    # The schema before the first drain, and one instance after another: out of traffic, switched, proven, back.
    acts = ["data/expand", "balancer/drain", "app/active", "probe/verify", "balancer/ready"]
    words = [line.split()[1] for line in order(world, *acts)]
    assert words == ["data/expand"] + 3 * (
        4 * ["balancer/drain"] + ["app/active", "probe/verify", "balancer/ready", "balancer/ready"]
    )

    before = calls(world)
    again = world.run("upgrade")
    ended(world, again, 0, "succeeded")
    assert "nothing to do: all that the record names runs already" in again.out
    assert "changed=0" in again.out
    assert not [line for line in again.out.splitlines() if "changed=" in line and "changed=0" not in line]
    assert calls(world) == before

    # The record still names 2.0: the release before is what the journal knows, and asking again leads nowhere else.
    back = world.run("rollback", "-e", "osops_prior=true")
    told = ended(world, back, 0, "succeeded")
    assert told.run.verb == "rollback"
    assert world.versions() == ["1.0", "1.0", "1.0"]
    assert "handoff: the record: services.echo.release is to name 1.0 (or the next upgrade takes this back)" in back.lines
    assert "nothing to do" in world.run("rollback", "-e", "osops_prior=true").out
    assert world.versions() == ["1.0", "1.0", "1.0"]
    assert world.masks() == [0] * 6
    assert (calls(world) - before)["ctl1 data/expand"] == 0, "a rollback never migrates"
    assert {"echo-api@%s: 1.0" % host for host in world.apps} <= set(back.lines)


def test_two_services_of_five_components_in_an_order_that_no_play_over_hosts_could_do(worlds: Worlds) -> None:
    services = {
        "compute": {"compute-conductor": 0, "compute-scheduler": 0, "compute-api": 8774},
        "echo": {"echo-worker": 0, "echo-api": 5000},
    }
    world = worlds(apps=3, balancers=1, services=services)
    world.want("2.0", batches=[3], floor=1)
    refusing = world.run("plan")
    assert refusing.rc == 0
    assert "would have 0 healthy servers, the floor is 1" in refusing.out
    world.want("2.0", batches=[1, 2], floor=1)
    result = world.run("upgrade", ANSIBLE_STRATEGY="free")
    ended(world, result, 0, "succeeded")
    switched = [line.split() for line in order(world, "app/active", "data/expand")]
    assert [what for _host, act, what in switched if act == "app/active"] == [
        component for components in services.values() for component in components for _ in range(3)
    ]
    # Each service: its data first, then component after component, on the same three hosts each time.
    assert [act for _host, act, _what in switched] == ["data/expand"] + 9 * ["app/active"] + ["data/expand"] + 6 * ["app/active"]
    for component in (name for components in services.values() for name in components):
        hosts = [host for host, _act, what in switched if what == component and _act == "app/active"]
        assert (hosts[0], sorted(hosts[1:])) == ("ctl1", ["ctl2", "ctl3"]), "a batch of one, then a batch of two"
        assert world.versions(component) == ["2.0", "2.0", "2.0"]
    # Between the drain of an API's batch and its return, exactly that batch is switched.
    story = [line.split()[1] for line in order(world, "app/active", "balancer/drain", "balancer/ready")]
    cycle = lambda size: ["balancer/drain"] * 2 + ["app/active"] * size + ["balancer/ready"]  # noqa: E731
    assert story == 6 * ["app/active"] + cycle(1) + cycle(2) + 3 * ["app/active"] + cycle(1) + cycle(2)
    assert world.masks() == [0] * 6


def test_two_clouds_share_a_store(worlds: Worlds) -> None:
    one = worlds(apps=2, balancers=1, cloud="one")
    two = worlds(apps=2, balancers=1, cloud="two", store=one.store)
    one.hosts["ctl1"].behave("app/active", {"mark": True, "hang": 600})
    process = one.start("upgrade")
    one.hosts["ctl1"].reached()
    # The run of the first cloud holds its service; the second cloud has a service of the same name and does not mind.
    ended(two, two.run("upgrade"), 0, "succeeded")
    assert (one.versions(), two.versions()) == (["1.0", "1.0"], ["2.0", "2.0"])
    shown = two.run("status")
    assert shown.rc == 0
    assert '"two at ' in shown.out
    assert Told(two).run.id in shown.out
    assert "SUCCEEDED" in shown.out
    assert Told(one).run.id not in shown.out
    assert Told(one).run.state == "running"
    assert process.poll() is None


def test_budget(worlds: Worlds) -> None:
    world = worlds(apps=3, balancers=2)
    world.want("2.0", batches=[1, 2])
    counted = world.folder / "counted.json"
    result = world.run("upgrade", ANSIBLE_CALLBACKS_ENABLED="osops_test.dummy.count", OSOPS_DUMMY_COUNT=str(counted))
    told = ended(world, result, 0, "succeeded")
    tasks: list[list[str]] = json.loads(counted.read_text(encoding="utf-8"))
    of_targets = [
        (task, host) for play, task, action, host in tasks if play in ("Fetch", "Walk") and action == "osops.lifecycle.step"
    ]
    per_target = collections.Counter(host for _task, host in of_targets)
    assert set(per_target) == {step.target for step in _steps(told)}
    assert max(per_target.values()) <= 6
    # Nothing else runs on a target but its steps, and the gate and its answer once a batch.
    others = collections.Counter(
        action for play, _task, action, _host in tasks if play in ("Fetch", "Walk")
    ) - collections.Counter({"osops.lifecycle.step": len(of_targets)})
    batches = len(told.plans["out"].batches)  # type: ignore[union-attr]
    assert others.pop("osops.lifecycle.gate") == batches == 3
    assert set(others) <= {"meta", "ansible.builtin.meta"}
    assert sum(others.values()) <= batches
    assert sum(calls(world).values()) == len(_steps(told)), "one call of a driver a step"


def _steps(told: Told) -> tuple[object, ...]:
    plan = told.plans["out"]
    assert plan is not None
    return plan.steps

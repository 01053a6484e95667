# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Strategy offline: announced, in the right order, and refused while it can still be refused without an outage."""

from __future__ import annotations

import copy
import dataclasses
import pathlib
import typing as t

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import knowledge, model
from ansible_collections.osops.lifecycle.plugins.plugin_utils.plan import plan
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store
from tests.walk.simulate import Walk, life, side_by_side


def walk(tmp_path: pathlib.Path, managed: bool = True, version: str = "24.1.0", balancers: int = 1) -> Walk:
    record, cloud = life(runs="23.0.2", version=version, managed=managed, balancers=balancers)
    record.services["keystone"] = dataclasses.replace(record.services["keystone"], strategy="offline")
    cloud.schemas["keystone"] = "expand"
    return Walk(record, {"keystone": knowledge.recipe("keystone")}, cloud, Store("sqlite:///%s" % (tmp_path / "store.db")))


def made(one: Walk, limit: tuple[str, ...] = (), **seen: t.Any) -> model.Plan:
    """The plan, with some answers of the hosts changed: KEY=dict(before=…, more=…, unknown=…)."""
    answers = one.look()
    for key, answer in seen.items():
        key = key.replace("_at_", "@").replace("_slash_", "/").replace("_", "-")
        answers[key] = dataclasses.replace(answers.get(key, model.Seen()), **answer)
    found = plan(one.record, one.recipes, answers, one.verb, limit=limit)
    side_by_side(found)
    return found


def needs(plan_: model.Plan, step: str) -> set[str]:
    """Everything that must be done before a step, also through others."""
    rows = {row.id: row for row in plan_.steps}
    found: set[str] = set()
    todo = [step]
    while todo:
        for name in rows[todo.pop()].needs:
            if name not in found:
                found.add(name)
                todo.append(name)
    return found


def test_the_outage_is_announced_and_everything_is_halted_before_the_schema_moves(tmp_path: pathlib.Path) -> None:
    plan_ = made(walk(tmp_path))
    assert any("outage of the whole service (strategy offline)" in note for note in plan_.notes)
    assert any("answer 503 with Retry-After 30" in note for note in plan_.notes)
    assert plan_.batches[0] == ("keystone.data",), "what can refuse is asked while all serve"
    assert "keystone.data/confirm" in needs(plan_, "keystone#2.1@lb1/drain")
    before = needs(plan_, "keystone.schema/init")
    assert {"keystone-api@ctl1/halt", "keystone-api@ctl2/halt", "keystone.database/confirm"} <= before
    assert {"keystone#2.1@lb1/confirm", "keystone#2.2@lb1/confirm"} <= before, "nothing is halted that still gets requests"
    for number, host in enumerate(("ctl1", "ctl2"), 1):
        proofs = needs(plan_, "keystone#2.%d@lb1/admit" % number)
        assert {"keystone-api@%s/test" % host, "keystone.answer@lb1/test", "keystone.schema/init"} <= proofs
        assert "keystone-api@%s/test" % ("ctl2" if host == "ctl1" else "ctl1") not in proofs, "what is proven serves at once"
    told = next(step for step in plan_.steps if step.id == "keystone.answer@lb1/halt")
    assert told.args["answer"] == {"status": 503, "retry_after": 30}
    assert "answer" not in (told.undo or {})


def test_a_balancer_of_somebody_else_is_only_drained(tmp_path: pathlib.Path) -> None:
    plan_ = made(walk(tmp_path, managed=False))
    assert not [step for step in plan_.steps if ".answer@" in step.target]
    assert not any("Retry-After" in note for note in plan_.notes)
    assert not plan_.refusals


@pytest.mark.parametrize(
    ("key", "answer", "says"),
    [
        ("keystone_api_at_ctl2", {"before": {}, "unknown": "ctl2 gave no answer"}, "ctl2 gave no answer"),
        ("share_slash_keystone_at_lb1", {"before": {}, "more": {}, "unknown": "lb1 gave no answer"}, "lb1 gave no answer"),
        ("share_slash_keystone_at_lb1", {"more": {"servers": {}}}, "lb1: no server of it has the address of"),
        ("balancer_slash_keystone_at_lb1", {"refused": "HAProxy does not read conf.d."}, "HAProxy does not read conf.d."),
        ("backup_slash_keystone", {"refused": "The disk is full."}, "The disk is full."),
    ],
)
def test_what_is_not_there_is_found_before_anything_stops(
    tmp_path: pathlib.Path, key: str, answer: dict[str, t.Any], says: str
) -> None:
    plan_ = made(walk(tmp_path), **{key: answer})
    assert plan_.steps == ()
    assert any(says in why for why in plan_.refusals), plan_.refusals


def test_what_makes_no_sense_is_refused(tmp_path: pathlib.Path) -> None:
    assert "osops_limit cannot be used with it" in made(walk(tmp_path), limit=("ctl1",)).refusals[0]
    assert "leaves out a release" in made(walk(tmp_path, version="29.0.2")).refusals[0]


def test_nothing_to_do_is_no_outage(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path, version="23.0.2")
    assert made(one).steps == ()
    assert made(one).notes == ()


def test_a_rollback_is_rolling(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path, version="23.0.2")
    one.verb = "rollback"
    for app in one.cloud.apps.values():
        app.update(release="24.1.0", version="24.1.0")
    words = {step.do for step in made(one).steps}
    assert "halt" not in words
    assert "revert" in words


def test_what_serves_already_is_drained_before_it_goes_back(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    one.cloud.fails = {"out:keystone#2.2@lb1/admit": LifecycleError("down", "ready.unhealthy")}
    run = one.playbook()
    assert run.state == "rolled_back"
    back = one.store.back(run.id)
    assert back is not None
    revert = next(step for step in back.steps if step.id == "keystone-api@ctl1/revert")
    assert set(revert.needs) == {"keystone#2.1@lb1/confirm", "keystone#2.2@lb1/confirm"}
    admit = next(step for step in back.steps if step.id == "keystone#2.1@lb1/admit")
    assert set(admit.needs) == {"keystone-api@ctl1/test", "keystone.answer@lb1/revert"}


def admins(one: Walk, balancer: str = "lb1") -> list[int]:
    return [server["admin"] for server in one.cloud.balancers[balancer].values()]


def runs(one: Walk) -> set[tuple[str, bool]]:
    return {(app["version"], app["running"]) for app in one.cloud.apps.values()}


def test_a_balancer_that_dies_in_the_outage_does_not_keep_the_others_empty(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path, balancers=2)
    one.cloud.fails = {
        "out:keystone-api@ctl2/test": LifecycleError("no", "probe.token"),
        "back:keystone.answer@lb2/revert": LifecycleError("no answer", "driver.unreachable"),
    }
    assert one.playbook().state == "frozen"
    assert runs(one) == {("23.0.2", True)}
    assert (admins(one), admins(one, "lb2")) == ([0, 0], [8, 8])


def test_a_balancer_that_dies_at_the_end_does_not_empty_the_others(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path, managed=False, balancers=2)
    one.cloud.fails = {
        "out:keystone#2.2@lb2/admit": LifecycleError("no answer", "driver.unreachable"),
        "back:keystone#2.1@lb2/drain": LifecycleError("no answer", "driver.unreachable"),
        "back:keystone#2.2@lb2/drain": LifecycleError("no answer", "driver.unreachable"),
    }
    assert one.playbook().state == "frozen"
    assert runs(one) == {("24.1.0", True)}, "what could not be drained everywhere was not stopped"
    assert admins(one) == [0, 0], "and what is proven serves"


def test_what_is_proven_is_left_when_something_else_freezes_the_run(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    one.cloud.fails = {"out:keystone#2.2@lb1/admit": LifecycleError("maintenance", "expect.foreign")}
    run = one.playbook()
    assert run.state == "frozen"
    assert runs(one) == {("24.1.0", True)}, "no second outage"
    assert admins(one) == [0, 8], "somebody's maintenance is not ended"
    back = one.store.back(run.id)
    assert back is not None
    assert back.notes == ("keystone#2.2@lb1 stays as somebody else has left it",)


def test_what_did_not_run_before_comes_back_as_the_former_release_and_proven(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    one.cloud.apps["keystone-api@ctl2"].update(version=None, running=False)
    one.cloud.fails = {"out:keystone#2.1@lb1/admit": LifecycleError("down", "ready.unhealthy")}
    assert one.playbook().state == "rolled_back"
    assert {app["release"] for app in one.cloud.apps.values()} == {"23.0.2"}
    (tmp_path / "again").mkdir()
    one = walk(tmp_path / "again")
    one.cloud.apps["keystone-api@ctl2"].update(version=None, running=False)
    one.cloud.fails = {"out:keystone.schema/init": LifecycleError("locked", "schema.act_failed")}
    before = copy.deepcopy(one.cloud.apps)
    assert one.playbook().state == "rolled_back"
    assert one.cloud.apps == before, "what was not started is not started by the way back"


def test_what_could_not_be_started_again_is_refused(tmp_path: pathlib.Path) -> None:
    answer = {"before": {"release": None, "version": "23.0.2", "running": True}}
    (why,) = made(walk(tmp_path), keystone_api_at_ctl2=answer).refusals
    assert why.startswith("keystone-api@ctl2 runs, but from which release is not known")


def test_a_balancer_file_that_somebody_changed_is_refused(tmp_path: pathlib.Path) -> None:
    (why,) = made(walk(tmp_path), balancer_slash_keystone_at_lb1={"would_change": True}).refusals
    assert why.startswith("lb1: our file in the balancer's configuration is not as the record says")


def test_the_rollback_of_an_offline_service_says_that_it_is_rolling(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path, version="23.0.2")
    one.verb = "rollback"
    for app in one.cloud.apps.values():
        app.update(release="24.1.0", version="24.1.0")
    assert any("for a while both releases run side by side" in note for note in made(one).notes)

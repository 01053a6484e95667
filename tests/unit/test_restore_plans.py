# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore as a way back: when it is chosen, what refuses it, and what a run that was cut leaves to the next one."""

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import doors, model, observed, restoring, status
from ansible_collections.osops.lifecycle.plugins.plugin_utils.draft import Contract
from ansible_collections.osops.lifecycle.plugins.plugin_utils.plan import plan, wanted_hash
from tests.walk.simulate import Walk, finalized

LOST = {
    "taken_at": "2026-05-01T03:00:00Z", "age_s": 3600,
    "tables": {"project": {"rows_now": 5, "rows_then": 2}, "user": {"rows_now": 1, "rows_then": 2}},
}  # fmt: skip


@pytest.fixture
def one(tmp_path: pathlib.Path) -> Walk:
    """A finalized 24.1.0 whose record wants 23.0.2 again."""
    walk = finalized(tmp_path)
    change(walk, release={"version": "23.0.2"})
    walk.verb = "rollback"
    return walk


def change(walk: Walk, **more: t.Any) -> None:
    walk.record.services["keystone"] = dataclasses.replace(walk.record.services["keystone"], **more)


def made(
    walk: Walk, consents: tuple[str, ...] = ("restore",), restore: str = "", limit: tuple[str, ...] = (), **seen: t.Any
) -> model.Plan:
    """The plan, with some answers of the hosts changed: KEY=dict(before=…, more=…, unknown=…)."""
    walk.consents, walk.restore = consents, restore
    answers = walk.look()
    for key, answer in seen.items():
        key = key.replace("_at_", "@").replace("_slash_", "/").replace("_", "-")
        answers[key] = dataclasses.replace(answers.get(key, model.Seen()), **answer)
    history = walk.history()
    return plan(
        walk.record, walk.recipes, answers, walk.verb, limit=limit, consents=consents, history=history, restore=restore, stamp="r"
    )  # fmt: skip


def test_what_is_lost_is_said_and_needs_consent(one: Walk) -> None:
    (why,) = made(one, consents=(), restore_slash_keystone={"more": {"lost": LOST}}).refusals
    assert why == (
        "keystone: its schema was finalized for 24.1.0, so the code of 23.0.2 can no longer use it. The only way back is a restore, "
        "which loses what was written since the backup. keystone: the restore of keystone from the backup keystone-run-1 loses what was "
        "written since 2026-05-01T03:00:00Z (3600 s ago); rows more than then: project +3, user -1. All of its instances stop meanwhile. "
        "It needs -e osops_consent=restore."
    )
    plan_ = made(one, restore_slash_keystone={"more": {"lost": LOST}})
    assert not plan_.refusals
    assert any("rows more than then: project +3, user -1" in note for note in plan_.notes)
    assert any("outage from its drain until the first instance is proven" in note for note in plan_.notes)
    assert any("live on without an owner" in note for note in plan_.notes), "what it does to other services stands in the recipe"


def test_what_could_not_be_counted_is_said() -> None:
    tables = {
        "a": {"rows_now": "unknown", "rows_then": 2},
        "b": {"rows_now": None, "rows_then": 2},
        "c": {"rows_now": 2, "rows_then": None},
    }
    assert restoring.loss({"taken_at": "then", "age_s": 1, "tables": tables}) == (
        "what was written since then (1 s ago); rows more than then: a (not counted in time), b (it is not there now), "
        "c (unknown to the backup)"
    )
    assert restoring.loss({}).startswith("what was written since a time that is not known (unknown s ago); no table has")


def test_the_backup_is_the_newest_from_before_contract(one: Walk) -> None:
    later = Walk(one.record, one.recipes, one.cloud, one.store, "backup")
    change(one, release={"version": "24.1.0"})
    assert later.playbook().state == "succeeded"
    change(one, release={"version": "23.0.2"})
    assert set(one.cloud.backups["keystone"]) == {"keystone-run-1", "keystone-run-2"}
    step = next(step for step in made(one).steps if step.do == "restore")
    assert step.args["id"] == "keystone-run-1", "the schema of the other one is contracted already"
    assert step.args["state"] == "restored"


def test_past_two_contracts_the_backup_is_from_before_the_first(one: Walk) -> None:
    """What lies between the two has lost what the oldest code needs, however much newer it is."""
    history = dataclasses.replace(one.history(), contracts={"keystone": (Contract("27.0.1", "new"), Contract("24.1.0", "old"))})
    for version, backup in (("23.0.2", "old"), ("24.1.0", "new"), ("25.0.0", "new")):
        change(one, release={"version": version})
        assert restoring.chosen(one.record, "rollback", history, ()) == {"keystone": backup}, version
    change(one, release={"version": "27.0.1"})
    assert restoring.chosen(one.record, "rollback", history, ()) == {}


def test_each_contract_remembers_the_backup_before_it(one: Walk) -> None:
    change(one, release={"version": "27.0.1"})
    for app in one.cloud.apps.values():
        app.update(release="27.0.1", version="27.0.1")
    one.cloud.schemas["keystone"], one.verb = "contract", "finalize"
    assert one.playbook().state == "succeeded"
    assert one.history().contracts == {
        "keystone": (Contract("27.0.1", "keystone-run-2"), Contract("24.1.0", "keystone-run-1")),
    }


def test_the_backup_before_it_pushes_none_out(one: Walk) -> None:
    base = one.record.services["keystone"].database
    assert base is not None
    change(one, database=dataclasses.replace(base, backup={"keep": 1}))
    step = next(step for step in made(one).steps if step.id == "keystone.database/confirm")
    assert step.args["keep"] > 1000
    assert step.args["id"] == "keystone-r"


@pytest.mark.parametrize(
    ("key", "answer", "says"),
    [
        ("restore_slash_keystone", {"before": {}, "unknown": "The dump of keystone-run-1 is damaged."}, "is damaged"),
        ("restore_slash_keystone", {"refused": "There is no proven backup keystone-run-1."}, "There is no proven backup"),
        ("backup_slash_keystone", {"before": {}, "unknown": "The disk is full."}, "backup/keystone: The disk is full."),
        ("share_slash_keystone_at_lb1", {"before": {}, "more": {}, "unknown": "lb1 gave no answer"}, "lb1 gave no answer"),
        ("share_slash_keystone_at_lb1", {"more": {"servers": {}}}, "lb1: no server of it has the address of keystone-api@ctl1"),
        ("keystone_api_at_ctl2", {"before": {}, "unknown": "ctl2 gave no answer"}, "keystone-api@ctl2: ctl2 gave no answer"),
    ],
)
def test_what_is_not_there_is_found_before_anything_stops(one: Walk, key: str, answer: dict[str, t.Any], says: str) -> None:
    plan_ = made(one, **{key: answer})
    assert not plan_.steps
    assert any(says in why for why in plan_.refusals), plan_.refusals


def test_what_cannot_be_restored_by_us(one: Walk) -> None:
    base = one.record.services["keystone"].database
    assert base is not None
    change(one, database=None)
    assert "does not say where its database is" in made(one).refusals[0]
    change(one, database=dataclasses.replace(base, backup={"kind": "external", "command": ["/bin/x"], "max_age": 9}))
    assert "-e osops_consent=data_restored" in made(one).refusals[0]
    plan_ = made(one, consents=("data_restored",))
    assert not plan_.refusals
    assert {step.do for step in plan_.steps} == {"fetch", "drain", "confirm", "revert", "test", "admit"}
    change(one, database=base)
    assert "osops_limit cannot be used with it" in made(one, limit=("ctl1",)).refusals[-1]


def test_a_store_that_knows_of_no_backup(one: Walk) -> None:
    history = dataclasses.replace(one.history(), contracts={"keystone": (Contract("24.1.0"),)})
    plan_ = plan(one.record, one.recipes, one.look(), "rollback", consents=("restore",), history=history)
    assert "Name one with -e osops_restore=ID" in plan_.refusals[0]
    named = plan(
        one.record, one.recipes, one.look(), "rollback", consents=("restore",), history=history, restore="keystone-run-1"
    )
    assert not [why for why in named.refusals if "osops_restore" in why]


def test_a_named_backup_is_restored_although_code_alone_could_go_back(one: Walk) -> None:
    change(one, release={"version": "24.1.0"})
    assert not made(one).steps
    plan_ = made(one, restore="keystone-run-1")
    assert plan_.moves == {"keystone-api@ctl1": ("24.1.0", "24.1.0"), "keystone-api@ctl2": ("24.1.0", "24.1.0")}
    assert "finalized" not in " ".join(made(one, consents=(), restore="keystone-run-1").refusals)


def test_after_a_restore_the_way_is_open_and_it_is_not_done_twice(one: Walk) -> None:
    one.consents = ("restore",)
    one.cloud.fails = {"out:keystone-api@ctl2/test": LifecycleError("no", "probe.token")}
    assert one.playbook().state == "frozen"
    one.cloud.contents["keystone"] = "written since"
    one.cloud.fails = {}
    # The first instance serves on the restored data; the second goes the plain way.
    again = made(one, restore="keystone-run-1")
    assert not again.refusals
    assert not [step for step in again.steps if step.do in ("halt", "restore")]
    assert any("has restored the backup keystone-run-1 already" in note for note in again.notes)
    assert not made(one).refusals


def test_a_torn_database_is_not_backed_up_but_restored_again(one: Walk) -> None:
    plan_ = made(
        one,
        restore_slash_keystone={"before": {"database": True, "restored": None, "torn": True}},
        backup_slash_keystone={"before": {}, "unknown": "half restored"},
    )
    assert not plan_.refusals
    assert [step.do for step in plan_.steps if step.target == "keystone.database"] == ["restore"]


def test_the_end_says_what_was_lost(one: Walk) -> None:
    one.consents = ("restore",)
    run = one.playbook()
    lines = status.last_lines(run, one.store.plan(run.id), None, one.store.entries(run.id))
    assert any(line.startswith("lost: ") for line in lines)
    paper = "\n".join(status.on_paper(one.store.plan(run.id)))
    assert "  halt     keystone-api@ctl1 (at most 270 s; way back: as it was)" in paper
    assert "  restore  keystone.database (at most 3600 s; way back: restore)" in paper


def test_a_halted_instance_is_said_to_be_stopped(one: Walk) -> None:
    one.consents = ("restore",)
    one.cloud.fails = {"out:keystone.database/restore": LifecycleError("full", "backup.load")}
    one.cloud.tears = tuple(one.cloud.fails)
    run = one.playbook()
    assert run.state == "frozen"
    stands = status.where_it_stands(one.store.plan(run.id), one.store.entries(run.id))
    assert stands == {"keystone-api@ctl1": "stopped", "keystone-api@ctl2": "stopped"}
    back = one.store.back(run.id)
    assert back is not None
    assert back.notes[0] == "keystone#1.1@lb1 stays out of traffic: keystone-api@ctl1 is not proven on the restored data"


def test_the_id_of_a_backup_is_checked() -> None:
    for wrong in ("latest", "../x", "a b", "-x", "x;y"):
        with pytest.raises(BadInputError, match="not the id of a backup"):
            doors._backup(wrong)
    assert doors._backup("keystone-20261120T133311Z-abc123") == "keystone-20261120T133311Z-abc123"
    assert doors._backup(None) == ""


def test_another_backup_is_another_goal(one: Walk) -> None:
    hashes = {wanted_hash(one.record, one.recipes, "rollback", restore=name) for name in ("", "a", "b")}
    assert len(hashes) == 3


def test_only_a_rollback_asks_for_it(one: Walk) -> None:
    history = one.history()
    assert restoring.chosen(one.record, "rollback", history, (), "") == {"keystone": "keystone-run-1"}
    assert restoring.chosen(one.record, "upgrade", history, (), "keystone-run-1") == {}
    keys = [look.key for look in observed.looks(one.record, one.recipes, "rollback", {"keystone": "x"})]
    assert {"restore/keystone", "backup/keystone"} <= set(keys)
    assert "restore/keystone" not in [look.key for look in observed.looks(one.record, one.recipes, "rollback")]

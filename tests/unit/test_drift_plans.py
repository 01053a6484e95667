# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook operational: what is called drift, what a policy lets it put right, and what it only tells."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import typing as t

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import _door, drift, knowledge, model, status
from ansible_collections.osops.lifecycle.plugins.plugin_utils.plan import plan
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store
from tests.walk.simulate import ROOT, Walk, life, side_by_side

RECIPES = {"keystone": knowledge.recipe("keystone")}
ALL = ("process", "files", "traffic", "version")
FILES = {
    "revision": "r1",
    "unit": "enabled",
    "files": {"/etc/keystone/keystone.conf": "edited", "/etc/keystone/uwsgi.ini": "ours"},
}


def walk(tmp_path: pathlib.Path, repair: tuple[str, ...] = (), hosts: int = 3, every: int = 0) -> Walk:
    record, cloud = life(hosts=hosts, runs="24.1.0")
    cloud.schemas["keystone"] = "contract"
    service = dataclasses.replace(record.services["keystone"], repair=repair, backup_every_s=every)
    record.services["keystone"] = service
    return Walk(record, RECIPES, cloud, Store("sqlite:///%s" % (tmp_path / "store.db")), "operational")


def made(one: Walk, answers: dict[str, dict[str, t.Any]] | None = None) -> model.Plan:
    """The plan, with some answers of the hosts changed."""
    seen = one.look()
    for key, change in (answers or {}).items():
        assert key in seen, key
        seen[key] = dataclasses.replace(seen[key], **change)
    found = plan(one.record, RECIPES, seen, one.verb)
    side_by_side(found)
    return found


def server(one: Walk, **change: t.Any) -> dict[str, t.Any]:
    """The answer of lb1 with its server of ctl2 changed."""
    share = one.look()["share/keystone@lb1"]
    before = {
        **share.before,
        "keystone/ctl2": {**share.before["keystone/ctl2"], **{k: v for k, v in change.items() if k == "admin"}},
    }
    servers = {**share.more["servers"], "keystone/ctl2": {**share.more["servers"]["keystone/ctl2"], **change}}
    return {"before": before, "more": {"servers": servers}}


DRIFTS: dict[str, tuple[dict[str, dict[str, t.Any]], str, str]] = {
    "killed": (
        {"keystone-api@ctl2": {"before": {"release": "24.1.0", "version": None, "running": False}}},
        "process", "keystone-api@ctl2 does not run",
    ),
    "changed behind our back": (
        {"keystone-api@ctl2": {"before": {"release": "25.0.0", "version": "25.0.0", "running": True}}},
        "version", "keystone-api@ctl2 runs 25.0.0, the record wants 24.1.0",
    ),
    "another build": (
        {"keystone-api@ctl2": {"before": {"release": "24.1.0-x", "version": "24.1.0", "running": True}, "would_change": True}},
        "version", "keystone-api@ctl2 runs 24.1.0-x, but not the build that the record names",
    ),
    "edited": (
        {"files/keystone-api@ctl2": {"before": FILES, "would_change": True}},
        "files", "the files of keystone-api@ctl2 are not as the record says: /etc/keystone/keystone.conf edited",
    ),
}  # fmt: skip
TOLD: dict[str, tuple[dict[str, dict[str, t.Any]], str]] = {
    "schema": ({"schema/keystone": {"would_change": True}}, "the schema of keystone is older than its code"),
    "newer schema": ({"schema/keystone": {"refused": "It belongs to a newer release."}}, "cannot be judged: It belongs to a newer"),
    "gone": (
        {"keystone-api@ctl2": {"before": {"release": None, "version": None, "running": False}}},
        "keystone-api@ctl2: nothing of it is there; the playbook deploy makes it",
    ),
    "layout": ({"keystone-api@ctl2": {"refused": "The unit does not start from our link."}}, "does not start from our link"),
    "no server": (
        {"share/keystone@lb1": {"before": {}, "more": {"servers": {}}}},
        "lb1: no server of it has the address of keystone-api@ctl2",
    ),
    "our file": ({"balancer/keystone@lb1": {"would_change": True}}, "our file in the balancer's configuration: it is not as the record"),
    "files unknown": ({"files/keystone-api@ctl2": {"unknown": "no answer"}}, "cannot be judged: no answer"),
}  # fmt: skip


def test_the_schema_of_records_knows_the_same_kinds() -> None:
    schema = json.loads((ROOT / "data" / "schemas" / "record.json").read_text(encoding="utf-8"))

    def enums(node: t.Any) -> t.Iterator[list[str]]:
        for name, value in node.items() if isinstance(node, dict) else ():
            if name == "repair":
                yield value["items"]["enum"]
            yield from enums(value)

    assert list(enums(schema)) == [list(drift.REPAIRABLE)]


def test_all_is_well(tmp_path: pathlib.Path) -> None:
    plan_ = made(walk(tmp_path, ALL))
    assert (plan_.steps, plan_.drift, plan_.refusals) == ((), (), ())
    assert status.on_paper(plan_)[-1] == "all is well: processes, versions, files, schema and balancers are as the record says"


@pytest.mark.parametrize("name", DRIFTS)
def test_drift_is_told_and_nothing_done_without_a_policy(tmp_path: pathlib.Path, name: str) -> None:
    answers, kind, says = DRIFTS[name]
    others = tuple(other for other in ALL if other != kind)
    for policy in ((), others):
        plan_ = made(walk(tmp_path, policy), answers)
        assert (plan_.steps, plan_.refusals) == ((), ())
        assert plan_.drift == (says,)
        assert "DRIFT: " + says in status.on_paper(plan_)


@pytest.mark.parametrize("name", DRIFTS)
def test_drift_is_put_right_out_of_traffic_where_the_policy_says_so(tmp_path: pathlib.Path, name: str) -> None:
    answers, kind, says = DRIFTS[name]
    plan_ = made(walk(tmp_path, (kind,)), answers)
    assert (plan_.drift, plan_.refusals) == ((), ())
    assert "put right: " + says in plan_.notes
    assert {step.target for step in plan_.steps} == {"keystone#1@lb1", "keystone-api@ctl2"}, "the others are not touched"
    words = [step.do for step in plan_.steps if step.target == "keystone-api@ctl2"]
    before = ["fetch"] if kind == "process" else ["fetch", "confirm"]
    assert words == [*before, *(["halt", "install"] if kind == "files" else []), "repair", "test"]
    repair = next(step for step in plan_.steps if step.do == "repair")
    assert "keystone#1@lb1/confirm" in repair.needs
    admit = next(step for step in plan_.steps if step.do == "admit")
    assert admit.needs == ("keystone-api@ctl2/test",)


@pytest.mark.parametrize("name", TOLD)
def test_what_no_policy_puts_right_is_told(tmp_path: pathlib.Path, name: str) -> None:
    answers, says = TOLD[name]
    plan_ = made(walk(tmp_path, ALL), answers)
    assert plan_.steps == ()
    assert any(says in drift for drift in plan_.drift), plan_.drift


def test_a_server_that_somebody_left_drained(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    answers = {"share/keystone@lb1": server(one, admin=8)}
    assert made(one, answers).drift == ("lb1: keystone/ctl2 is out of traffic",)
    mended = made(walk(tmp_path, ("traffic",)), answers)
    assert mended.drift == ()
    admit = next(step for step in mended.steps if step.do == "admit")
    assert admit.args["restore"] == {"keystone/ctl2": {"admin": 0, "weight": 100}}, "proven, and then back for everybody"
    assert admit.needs == ("keystone-api@ctl2/test",)


def test_a_server_that_fails_its_check_is_told(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path, ALL)
    assert made(one, {"share/keystone@lb1": server(one, health="down")}).drift == (
        "lb1: keystone/ctl2 fails its health check, although it runs",
    )


def test_what_the_policy_leaves_is_not_put_right_by_the_way(tmp_path: pathlib.Path) -> None:
    dead = {"before": {"release": "24.1.0", "version": None, "running": False}}
    answers = {"keystone-api@ctl2": dead, "files/keystone-api@ctl2": {"before": FILES, "would_change": True}}
    plan_ = made(walk(tmp_path, ("process",)), answers)
    assert plan_.steps == (), "started on files that nobody vouches for, it would be a change that nobody asked for"
    assert len(plan_.drift) == 2
    plan_ = made(walk(tmp_path, ("process", "files")), answers)
    assert not plan_.drift
    assert [step.do for step in plan_.steps if step.target == "keystone-api@ctl2"] == [
        "fetch",
        "halt",
        "install",
        "repair",
        "test",
    ]


def test_a_host_that_cannot_be_asked_is_not_well(tmp_path: pathlib.Path) -> None:
    for key in ("keystone-api@ctl2", "share/keystone@lb1"):
        assert made(walk(tmp_path, ALL), {key: {"before": {}, "more": {}, "unknown": "unreachable"}}).refusals == (
            "%s: unreachable" % key,
        )


def test_repairs_keep_the_floor(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path, ALL, hosts=1)
    (why,) = made(one, {"files/keystone-api@ctl1": {"before": FILES, "would_change": True}}).refusals
    assert "would have 0 healthy servers, the floor is 1" in why


def test_a_backup_is_taken_when_it_is_due(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path, every=3600)
    assert [step.id for step in made(one).steps] == ["keystone.database/confirm"]
    young, old = ({"backup/keystone": {"more": {"newest": {"id": "x", "age_s": age}}}} for age in (3599, 3600))
    assert made(one, young).steps == ()
    assert [step.id for step in made(one, old).steps] == ["keystone.database/confirm"]
    assert made(walk(tmp_path), old).steps == ()
    assert made(one, {"backup/keystone": {"refused": "The disk is full."}}).drift == (
        "no backup can be taken: backup/keystone: The disk is full.",
    )


def test_told_drift_fails_the_playbook_and_leaves_the_run_what_it_was(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    one.cloud.apps["keystone-api@ctl2"].update(version=None, running=False)
    run = one.playbook()
    assert run.state == "succeeded"
    lines = status.last_lines(run, one.store.plan(run.id), None, one.store.entries(run.id))
    assert "DRIFT: keystone-api@ctl2 does not run" in lines
    end = _door.closed(run, lines, one.store.plan(run.id).drift, "operational")
    assert (end["ok"], end["failed"]) == (False, True)
    assert _door.closed(run, lines, (), "operational")["ok"]


def test_a_killed_process_runs_again_and_serves(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path, ("process",))
    one.cloud.apps["keystone-api@ctl2"].update(version=None, running=False)
    assert one.playbook().state == "succeeded"
    assert one.cloud.apps["keystone-api@ctl2"]["running"]
    assert {item["admin"] for item in one.cloud.balancers["lb1"].values()} == {0}
    assert not one.plan().steps


def test_a_repair_that_fails_after_the_halt_starts_what_ran(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path, ("files",))
    one.cloud.fails = {"out:keystone-api@ctl2/install": LifecycleError("full", "files.full")}
    real = one.look

    def look() -> dict[str, model.Seen]:
        found = real()
        found["files/keystone-api@ctl2"] = model.Seen(FILES, would_change=True)
        return found

    one.look = look  # type: ignore[method-assign]
    run = one.playbook()
    assert run.state == "rolled_back", run.reason
    assert one.cloud.apps["keystone-api@ctl2"] == {"release": "24.1.0", "version": "24.1.0", "running": True}
    assert {item["admin"] for item in one.cloud.balancers["lb1"].values()} == {0}


def test_cleaning_up_asks_the_driver_and_touches_no_process(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    one.verb = "clean"
    one.record.services["keystone"] = dataclasses.replace(one.record.services["keystone"], keep_releases=3)
    answers = {"clean/keystone-api@ctl2": {"before": {"releases": ["a", "b"]}, "more": {"removed": ["a"]}, "would_change": True}}
    plan_ = made(one, answers)
    (step,) = plan_.steps
    assert (step.id, step.args["state"], step.args["keep"], step.expect) == (
        "keystone-api@ctl2/remove", "absent", 3, {"releases": ["a", "b"]},
    )  # fmt: skip
    assert "id" not in step.args["release"], "which of them are old is the host's to know"
    assert "version" not in step.args["release"]
    assert made(one).steps == ()
    assert made(one, {"clean/keystone-api@ctl2": {"unknown": "no answer"}}).refusals == ("clean/keystone-api@ctl2: no answer",)


def test_a_run_that_is_limited_tells_of_the_drift_that_it_may_not_reach(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path, repair=("process",))
    seen = one.look()
    killed = DRIFTS["killed"][0]["keystone-api@ctl2"]
    seen["keystone-api@ctl2"] = dataclasses.replace(seen["keystone-api@ctl2"], **killed)
    near, far = (plan(one.record, one.recipes, seen, "operational", limit=[host]) for host in ("ctl2", "ctl1"))
    assert (len(near.drift), len([note for note in near.notes if note.startswith("put right: ")])) == (0, 1)
    assert (len(far.drift), [note for note in far.notes if note.startswith("put right: ")], far.steps) == (1, [], ())


@pytest.mark.parametrize("verb", ["finalize", "backup"])
def test_what_is_for_a_whole_service_refuses_a_limit(tmp_path: pathlib.Path, verb: str) -> None:
    one = walk(tmp_path)
    refused = plan(one.record, one.recipes, one.look(), verb, limit=["ctl1"]).refusals
    assert "keystone: %s is for a whole service; osops_limit cannot be used with it." % verb in refused

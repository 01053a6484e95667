# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration that changes with a release: when an instance is halted for it, and what is left alone or refused."""

from __future__ import annotations

import copy
import dataclasses
import pathlib
import typing as t

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import _door, model, observed, status
from ansible_collections.osops.lifecycle.plugins.plugin_utils.plan import plan
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store
from tests.walk.simulate import DiedError, Walk, keystone, life, services, side_by_side
from tests.walk.world import recipe

FILES = "files/keystone-api@ctl2"
CONF, INI = "/etc/keystone/keystone.conf", "/etc/keystone/uwsgi.ini"


def walk(tmp_path: pathlib.Path, verb: str = "upgrade") -> Walk:
    old, new = ("23.0.2", "24.1.0") if verb == "upgrade" else ("24.1.0", "23.0.2")
    record, cloud = life(hosts=3, runs=old, version=new)
    cloud.schemas["keystone"] = "expand"
    return Walk(record, {"keystone": keystone()}, cloud, Store("sqlite:///%s" % (tmp_path / "store.db")), verb)


def made(one: Walk, **answer: t.Any) -> model.Plan:
    """The plan, with another answer about the files of ctl2."""
    seen = one.look()
    seen[FILES] = dataclasses.replace(seen[FILES], **answer)
    found = plan(one.record, one.recipes, seen, one.verb)
    side_by_side(found)
    return found


def files(revision: str | None = "r0", **words: str) -> dict[str, t.Any]:
    return {"revision": revision, "unit": "enabled", "files": {CONF: words.get("conf", "ours"), INI: words.get("ini", "ours")}}


def words(plan_: model.Plan, key: str) -> list[str]:
    return [step.do for step in plan_.steps if step.target == key]


@pytest.mark.parametrize(("verb", "word", "start"), [("upgrade", "install", "change"), ("rollback", "restore", "revert")])
def test_where_it_changes_the_instance_is_halted_first(tmp_path: pathlib.Path, verb: str, word: str, start: str) -> None:
    plan_ = made(walk(tmp_path, verb), before=files(), would_change=True)
    assert words(plan_, "keystone-api@ctl2") == ["fetch", "confirm", "halt", word, start, "test"]
    assert words(plan_, "keystone-api@ctl1") == ["fetch", "confirm", start, "test"], "nothing changes there"
    step = next(step for step in plan_.steps if step.do == word and step.target == "keystone-api@ctl2")
    assert step.undo is not None
    assert (step.undo["revision"], step.undo["state"]) == ("r0", "present")
    assert set(step.undo) == {"name", "owner", "state", "revision"}, "contents and secrets are not needed to go back"
    assert not step.loses
    assert plan_.outages == ()
    assert _door.group(plan_) == ("osops_halting" if verb == "upgrade" else "osops_targets")


def test_where_nothing_changes_nothing_is_halted(tmp_path: pathlib.Path) -> None:
    plan_ = made(walk(tmp_path))
    assert "halt" not in {step.do for step in plan_.steps}
    assert _door.group(plan_) == "osops_targets"


def test_what_somebody_removed_is_made_again(tmp_path: pathlib.Path) -> None:
    plan_ = made(walk(tmp_path), before=files(conf="missing"), would_change=True)
    assert "install" in words(plan_, "keystone-api@ctl2")


def test_what_somebody_edited_is_left_and_said(tmp_path: pathlib.Path) -> None:
    plan_ = made(walk(tmp_path), before=files(conf="edited"), would_change=True)
    assert "install" not in words(plan_, "keystone-api@ctl2")
    assert plan_.refusals == ()
    (note,) = [note for note in plan_.notes if CONF in note]
    assert "left as they are, because somebody edited them: %s edited" % CONF in note


def test_what_is_somebody_elses_is_not_looked_at(tmp_path: pathlib.Path) -> None:
    for answer in ({"would_change": True}, {"refused": "%s is somebody else's." % CONF}):
        plan_ = made(walk(tmp_path), before=files(None), **answer)
        assert "halt" not in {step.do for step in plan_.steps}
        assert plan_.refusals == ()


@pytest.mark.parametrize("answer", [{"unknown": "no answer"}, {"before": files(), "refused": "no answer"}])
def test_what_cannot_be_judged_is_refused_before_anything(tmp_path: pathlib.Path, answer: dict[str, t.Any]) -> None:
    (why,) = made(walk(tmp_path), **answer).refusals
    assert why == "the files of keystone-api@ctl2 cannot be judged: no answer"


def test_a_record_without_secrets_is_not_asked_about_files(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    one.record.services["keystone"] = dataclasses.replace(one.record.services["keystone"], secrets={})
    looks = observed.looks(one.record, one.recipes, "upgrade")
    assert not [look.key for look in looks if look.key.startswith(("files/", "balancer/"))]


def test_a_restore_brings_the_former_configuration_too(tmp_path: pathlib.Path) -> None:
    record, cloud = life(runs="24.1.0")
    cloud.schemas["keystone"] = "contract"
    one = Walk(record, {"keystone": keystone()}, cloud, Store("sqlite:///%s" % (tmp_path / "store.db")), "finalize")
    assert one.playbook().state == "succeeded"
    cloud.files = dict.fromkeys(cloud.files, "r0")
    record.services["keystone"] = dataclasses.replace(record.services["keystone"], release={"version": "23.0.2"})
    one.verb, one.consents = "rollback", ("restore",)
    run = one.playbook()
    assert run.state == "succeeded"
    assert set(cloud.files.values()) == {"r1"}
    assert {app["version"] for app in cloud.apps.values()} == {"23.0.2"}
    assert [step.target for step in one.store.plan(run.id).steps if step.loses] == ["keystone.database"]


def test_an_outage_of_one_service_does_not_change_the_way_back_of_another(tmp_path: pathlib.Path) -> None:
    """Two services in one run: one stops as a whole, the other one rolls, and fails when both have been changed already."""
    one = walk(tmp_path)
    one.record.services["keystone"] = dataclasses.replace(one.record.services["keystone"], strategy="offline")
    other, cloud = services("echo-api", hosts=3, balancers=1)
    one.record.services["echo"] = other.services["echo"]
    one.recipes["echo"] = model.Recipe("echo", recipe("echo", ["echo-api"]))
    one.cloud.apps.update(cloud.apps)
    one.cloud.balancers["lb1"].update(cloud.balancers["lb1"])
    before = copy.deepcopy((one.cloud.apps, one.cloud.balancers))
    one.cloud.fails = {"out:echo-api@ctl3/test": LifecycleError("no", "probe.token")}
    run = one.playbook()
    plan_, back = one.store.plan(run.id), one.store.back(run.id)
    assert back is not None
    assert [bool(set(plan_.batches[place]) & {"keystone-api@ctl1"}) for place in plan_.outages] == [True]
    assert run.state == "rolled_back"
    assert (one.cloud.apps, one.cloud.balancers) == before
    names = [target for batch in back.batches for target in batch]
    assert names.index("echo-api@ctl1") < names.index("keystone-api@ctl1"), "in reverse"


def configured(tmp_path: pathlib.Path) -> Walk:
    one = walk(tmp_path)
    one.cloud.files = dict.fromkeys(one.cloud.files, "r0")
    return one


def test_what_could_not_get_its_former_configuration_gets_no_request(tmp_path: pathlib.Path) -> None:
    one = configured(tmp_path)
    one.cloud.fails = {
        "out:keystone-api@ctl2/test": LifecycleError("no", "probe.token"),
        "back:keystone-api@ctl1/restore": LifecycleError("full", "files.full"),
    }
    run = one.playbook()
    assert run.state == "frozen"
    assert one.cloud.apps["keystone-api@ctl1"]["running"] is False
    assert one.cloud.balancers["lb1"]["keystone/ctl1"]["admin"] == 8
    stands = status.where_it_stands(one.store.plan(run.id), one.store.entries(run.id))
    assert stands["keystone-api@ctl1"] == "stopped"
    assert stands["keystone-api@ctl2"] == "23.0.2"


def test_what_was_only_stopped_starts_again_although_the_run_freezes(tmp_path: pathlib.Path) -> None:
    """Somebody wrote into a file between the look and the act: nothing was written, so the same release starts again."""
    one = configured(tmp_path)
    one.cloud.fails = {"out:keystone-api@ctl2/install": LifecycleError("who?", "expect.foreign")}
    run = one.playbook()
    assert run.state == "frozen"
    assert one.cloud.apps["keystone-api@ctl2"] == {"release": "23.0.2", "version": "23.0.2", "running": True}
    assert {server["admin"] for server in one.cloud.balancers["lb1"].values()} == {0}
    stands = status.where_it_stands(one.store.plan(run.id), one.store.entries(run.id))
    assert stands["keystone-api@ctl2"] == "23.0.2"


@pytest.mark.parametrize("traffic", [True, False])
def test_a_cancelled_run_starts_first_what_it_has_stopped(tmp_path: pathlib.Path, traffic: bool) -> None:
    """Killed while an instance is halted, then cancelled: the same command ends its batch, and no more."""
    one = configured(tmp_path)
    if not traffic:
        alone = dataclasses.replace(one.record.services["keystone"], traffic=None)
        one.record = dataclasses.replace(one.record, services={"keystone": alone})
    with pytest.raises(DiedError):
        one.playbook("after_end:out:keystone-api@ctl2/halt")
    assert one.cloud.apps["keystone-api@ctl2"]["running"] is False
    one.store.ask("run-1", "cancel")
    assert one.playbook().state == "cancelled"
    apps = {key: (app["version"], app["running"]) for key, app in one.cloud.apps.items()}
    assert apps == {
        "keystone-api@ctl1": ("24.1.0", True),
        "keystone-api@ctl2": ("24.1.0", True),
        "keystone-api@ctl3": ("23.0.2", True),
    }


def test_a_cancelled_finalize_ends_the_step_that_it_was_cut_in(tmp_path: pathlib.Path) -> None:
    """The migration may go on on its host: until it is known how it ended, the run is not over."""
    record, cloud = life(runs="24.1.0")
    cloud.schemas["keystone"] = "contract"
    one = Walk(record, {"keystone": keystone()}, cloud, Store("sqlite:///%s" % (tmp_path / "store.db")), "finalize")
    with pytest.raises(DiedError):
        one.playbook("after_intent:out:keystone.data/change")
    one.store.ask("run-1", "cancel")
    assert one.playbook().state == "succeeded"
    assert cloud.schemas["keystone"] == "current"


def test_what_a_removal_leaves_drained_does_not_keep_it_from_being_cancelled(tmp_path: pathlib.Path) -> None:
    """The balancer is somebody else's: its servers stay drained, and wait for nothing."""
    record, cloud = life(runs="24.1.0", managed=False)
    one = Walk(
        record, {"keystone": keystone()}, cloud, Store("sqlite:///%s" % (tmp_path / "store.db")), "remove", ("purge_data",)
    )
    drain = next(step for step in one.plan().steps if step.do == "drain")
    assert not [step for step in one.plan().steps if step.do in ("admit", "remove") and step.servers]
    with pytest.raises(DiedError):
        one.playbook("after_end:out:" + drain.id)
    one.store.ask("run-1", "cancel")
    assert one.playbook().state == "cancelled"
    assert all(app["running"] for app in cloud.apps.values())


def test_an_instance_that_the_record_no_longer_names_is_said(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    assert one.playbook().state == "succeeded"
    assert not [note for note in one.plan().notes if "no longer names" in note]
    service = one.record.services["keystone"]
    (api,) = service.components
    fewer = dataclasses.replace(service, components=(dataclasses.replace(api, hosts=api.hosts[:2]),))
    one.record = dataclasses.replace(one.record, services={"keystone": fewer})
    (note,) = [note for note in one.plan().notes if "no longer names" in note]
    assert note.startswith("keystone: the record no longer names keystone-api@ctl3, where a run left 24.1.0.")


def test_keys_that_rotate_meanwhile_are_nobody_elses_change(tmp_path: pathlib.Path) -> None:
    key = "/etc/keystone/fernet-keys/1"
    before = {**files(), "files": {CONF: "ours", key: "ours"}}
    plan_ = made(walk(tmp_path), before=before, would_change=True)
    step = next(step for step in plan_.steps if step.id == "keystone-api@ctl2/install")
    assert step.expect is not None
    assert step.expect["files"] == {CONF: "ours"}


def test_instances_that_are_no_part_of_the_run_are_left_alone(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    seen = one.look()
    seen[FILES] = dataclasses.replace(seen[FILES], before=files(conf="edited"), would_change=True)
    found = plan(one.record, one.recipes, seen, one.verb, limit=("ctl1",))
    assert not [note for note in found.notes if CONF in note]
    seen[FILES] = dataclasses.replace(seen[FILES], before=files(), unknown="no answer")
    assert plan(one.record, one.recipes, seen, one.verb, limit=("ctl1",)).refusals == ()


def test_what_only_gets_its_traffic_back_keeps_its_configuration(tmp_path: pathlib.Path) -> None:
    """An instance that a former run left drained is part of the run, and changes no release."""
    one = walk(tmp_path)
    one.cloud.balancers["lb1"]["keystone/ctl2"]["admin"] = 8
    seen = one.look()
    key = "keystone-api@ctl2"
    seen[key] = dataclasses.replace(
        seen[key], before={"release": "24.1.0", "version": "24.1.0", "running": True}, would_change=False
    )
    seen[FILES] = dataclasses.replace(seen[FILES], before=files(), would_change=True)
    left = {"share/keystone@lb1": {"keystone/ctl2": model.LeftOut({"admin": 0, "weight": 100}, {"admin": 8, "weight": 100})}}
    found = plan(one.record, one.recipes, seen, one.verb, leftovers=left)
    mine = words(found, key)
    assert "change" in mine, "it is part of the run"
    assert "halt" not in mine

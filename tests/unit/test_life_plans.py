# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans of deploy and remove in states that a calm life does not come to: what is foreign, left over, unknown or already serving."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import doors, knowledge, model
from ansible_collections.osops.lifecycle.plugins.plugin_utils.plan import plan
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store
from tests.walk.simulate import Walk, life

RECIPES = {"keystone": knowledge.recipe("keystone")}


def walk(tmp_path: t.Any, verb: str, runs: str = "", hosts: int = 2, managed: bool = True) -> Walk:
    record, cloud = life(hosts=hosts, runs=runs, version=runs or "24.1.0", managed=managed)
    return Walk(record, RECIPES, cloud, Store("sqlite:///%s" % (tmp_path / "store.db")), verb)


def made(one: Walk, consents: tuple[str, ...] = (), limit: tuple[str, ...] = (), **seen: t.Any) -> model.Plan:
    """The plan, with some answers of the hosts changed: KEY=dict(before=…, more=…, unknown=…)."""
    answers = one.look()
    for key, change in seen.items():
        key = key.replace("_at_", "@").replace("_slash_", "/").replace("_", "-")
        answers[key] = dataclasses.replace(answers.get(key, model.Seen()), **change)
    return plan(one.record, RECIPES, answers, one.verb, consents=consents, limit=limit)


def test_a_new_host_that_turns_bad_leaves_the_others_their_place(tmp_path: t.Any) -> None:
    one = walk(tmp_path, "deploy", runs="24.1.0", hosts=3)
    one.cloud.apps["keystone-api@ctl3"] = {"release": None, "version": None, "running": False}
    one.cloud.files["keystone-api@ctl3"] = None
    admit = next(step for step in made(one).steps if step.do == "admit")
    assert admit.undo is not None
    assert admit.undo["state"] == "present"
    assert [server["name"] for server in admit.undo["servers"]] == ["ctl1", "ctl2"]
    one.cloud.fails = {"out:keystone#1@lb1/admit": LifecycleError("no", "haproxy.refused")}
    assert one.playbook().state == "rolled_back"
    assert one.cloud.places == {"lb1": True}
    assert one.cloud.databases["keystone"]["database"]
    assert one.cloud.apps["keystone-api@ctl1"]["running"]
    # And what it left in the store is understood by every later call.
    call = doors.Call("deploy", doors.Settings("", "sqlite:///%s" % (tmp_path / "store.db")), one.record, RECIPES)
    assert not any(call._leftovers().values())


def test_a_deployment_that_has_served_is_not_taken_back_by_remove(tmp_path: t.Any) -> None:
    one = walk(tmp_path, "deploy")
    one.playbook()
    (run,) = one.store.runs("dummy")
    with pytest.raises(BadInputError, match="has given traffic to the service already"):
        doors._may_take_back(run, ("keystone",), one.store.entries(run.id))
    with pytest.raises(BadInputError, match="also holds keystone, which this call does not name"):
        doors._may_take_back(run, ("glance",), [])
    doors._may_take_back(run, ("keystone",), [])


def test_remove_is_for_a_whole_service(tmp_path: t.Any) -> None:
    one = walk(tmp_path, "remove", runs="24.1.0")
    assert any("osops_limit cannot be used with it" in why for why in made(one, limit=("ctl2",)).refusals)


def test_remove_drains_or_refuses(tmp_path: t.Any) -> None:
    one = walk(tmp_path, "remove", runs="24.1.0")
    lost = {"share_slash_keystone_at_lb1": {"more": {}, "unknown": "lb1 gave no answer"}}
    (why,) = made(one, **lost).refusals
    assert (
        "could not say which server is keystone-api@ctl1, keystone-api@ctl2, so its requests cannot be drained. lb1 gave" in why
    )
    # Where our file is gone already, there is nothing to drain.
    one.cloud.places = {"lb1": False}
    assert not made(one, **lost).refusals


def test_remove_takes_what_a_former_one_left(tmp_path: t.Any) -> None:
    one = walk(tmp_path, "remove", runs="24.1.0")
    one.cloud.apps = {key: {"release": None, "version": None, "running": False} for key in one.cloud.apps}
    one.cloud.files = dict.fromkeys(one.cloud.apps)
    assert [step.id for step in made(one).steps if step.do == "remove"] == ["keystone#1@lb1/remove"]
    one.cloud.places = {"lb1": False}
    assert not made(one).steps
    assert made(one).notes[-1] == "keystone: there is nothing that deploy made"
    purged = made(one, consents=("purge_data",))
    assert [step.id for step in purged.steps] == ["keystone.database/confirm", "keystone.database/purge"]


def test_a_stopped_service_of_somebody_else_is_not_ours(tmp_path: t.Any) -> None:
    one = walk(tmp_path, "remove", runs="24.1.0")
    one.cloud.files = dict.fromkeys(one.cloud.apps)
    stopped = {"before": {"release": "24.1.0", "running": False}, "more": {"releases": ["24.1.0"], "unit": {"exists": True}}}
    refused = made(one, keystone_api_at_ctl1=stopped, keystone_api_at_ctl2=stopped).refusals
    assert [why.partition(" was not made by this collection")[0] for why in refused] == ["keystone-api@ctl1", "keystone-api@ctl2"]
    left = {**stopped, "more": {"releases": ["24.1.0"], "unit": {"exists": False}}}
    assert not made(one, keystone_api_at_ctl1=left, keystone_api_at_ctl2=left).refusals


def test_deploy_on_data_that_stayed_looks_at_its_schema(tmp_path: t.Any) -> None:
    one = walk(tmp_path, "deploy")
    one.cloud.databases["keystone"] = {"database": True, "tables": 49}
    steps = {step.id: step for step in made(one).steps}
    assert "keystone.data/init" in steps
    assert steps["keystone.database/install"].undo is None, "what was there before is not this run's to take away"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"before": {"release": "24.1.0", "running": False}}, "keystone-api@ctl1 is installed, and does not run on ctl1:5000."),
        (
            {"before": {"release": None, "running": True}, "more": {"notes": ["python3 3.11"]}},
            "another program listens on ctl1:5000",
        ),
        ({"before": {"release": "23.0.2", "version": "23.0.2", "running": True}}, "keystone-api@ctl1 runs 23.0.2"),
    ],
)
def test_deploy_refuses_what_is_in_its_place(tmp_path: t.Any, answer: dict[str, t.Any], says: str) -> None:
    assert any(says in why for why in made(walk(tmp_path, "deploy"), keystone_api_at_ctl1=answer).refusals)


def test_deploy_refuses_servers_that_the_record_does_not_name_any_more(tmp_path: t.Any) -> None:
    strange = {"before": {"file": "ours", "servers": {"keystone/ctl1": {}, "keystone/ctl9": {}}}}
    (why,) = made(walk(tmp_path, "deploy"), balancer_slash_keystone_at_lb1=strange).refusals
    assert "lb1: our file there has keystone/ctl9, which the record does not name any more." in why


def test_the_owners_balancer_gets_the_lines_to_add(tmp_path: t.Any) -> None:
    one = walk(tmp_path, "deploy", managed=False)
    lost = {"share_slash_keystone_at_lb1": {"before": {}, "more": {}, "unknown": "No server has the address ctl1:5000."}}
    (why,) = made(one, **lost).refusals
    assert "lb1: add to the backend of keystone: server ctl1 ctl1:5000 check, server ctl2 ctl2:5000 check" in why


def test_servers_that_were_left_drained_serve_after_a_deployment(tmp_path: t.Any) -> None:
    one = walk(tmp_path, "deploy", managed=False)
    for servers in one.cloud.balancers.values():
        for server in servers.values():
            server["admin"] = 8
    assert one.playbook().state == "succeeded"
    assert {server["admin"] for servers in one.cloud.balancers.values() for server in servers.values()} == {0}


def test_keys_are_proven_against_the_others_without_being_asked(tmp_path: t.Any) -> None:
    test = next(step for step in made(walk(tmp_path, "deploy")).steps if step.do == "test")
    assert test.args["vars"]["peers"] == ["http://ctl1:5000", "http://ctl2:5000"]
    assert not [request for request in test.args["requests"] if "{baseline." in str(request)]


def test_an_address_of_a_database_is_bracketed(tmp_path: t.Any) -> None:
    one = walk(tmp_path, "deploy")
    one.record.addresses["db1"] = "2001:db8::5"
    install = next(step for step in made(one).steps if step.id == "keystone-api@ctl1/install")
    assert install.args["values"]["database_host"] == "[2001:db8::5]"


@pytest.mark.parametrize(
    ("consents", "named", "goes"), [(("purge_data",), True, True), ((), True, False), (("purge_data",), False, False)]
)
def test_rotated_keys_go_only_with_the_data_that_they_are_for(
    tmp_path: t.Any, consents: tuple[str, ...], named: bool, goes: bool
) -> None:
    """What stays could be read with today's keys alone, and a database that the record does not name stays."""
    one = walk(tmp_path, "remove", runs="24.1.0")
    if not named:
        service = dataclasses.replace(one.record.services["keystone"], database=None)
        one.record = dataclasses.replace(one.record, services={"keystone": service})
    purges = [step for step in made(one, consents=consents).steps if step.do == "purge" and "@" in step.target]
    assert [step.args.get("rotated", False) for step in purges] == [goes, goes]

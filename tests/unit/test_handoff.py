# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run says to people: the recipe's warnings in the plan of an upgrade, and the lines for another deployer at its end."""

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import model, status
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store
from tests.walk.simulate import Walk, keystone, life

LINE = (
    "handoff: OpenStack-Ansible, in /etc/openstack_deploy/user_variables.yml: keystone_git_install_branch: %s "
    "(or its next run takes this back)"
)


def walk(tmp_path: pathlib.Path, deployer: str = "openstack_ansible", **recipe: t.Any) -> Walk:
    record, cloud = life(runs="23.0.2", version="24.1.0")
    cloud.schemas["keystone"] = "expand"
    record.services["keystone"] = dataclasses.replace(record.services["keystone"], deployer=deployer)
    made = dataclasses.replace(keystone(), body={**keystone().body, **recipe})
    return Walk(record, {"keystone": made}, cloud, Store("sqlite:///%s" % (tmp_path / "store.db")))


def last_lines(one: Walk, run: model.Run) -> list[str]:
    return status.last_lines(run, one.store.plan(run.id), one.store.back(run.id), one.store.entries(run.id))


def test_a_run_ends_with_the_lines_for_the_other_deployer(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    assert LINE % "24.1.0" in last_lines(one, one.playbook())
    assert one.plan().handoff == (), "nothing moves, nothing is to be told"
    one.record.services["keystone"] = dataclasses.replace(one.record.services["keystone"], release={"version": "23.0.2"})
    one.verb = "rollback"
    assert LINE % "23.0.2" in last_lines(one, one.playbook())


def test_what_was_taken_back_is_not_handed_over(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    one.cloud.fails = {"out:keystone-api@ctl2/test": LifecycleError("no", "probe.token")}
    run = one.playbook()
    assert run.state == "rolled_back"
    assert not [line for line in last_lines(one, run) if line.startswith("handoff")]


def test_where_nobody_else_manages_it_nothing_is_said(tmp_path: pathlib.Path) -> None:
    assert walk(tmp_path, deployer="").plan().handoff == ()


def test_a_deployer_that_the_recipe_does_not_know_is_refused(tmp_path: pathlib.Path) -> None:
    (why,) = walk(tmp_path, deployer="puppet").plan().refusals
    assert why.startswith("keystone: its recipe does not say what to tell the deployer puppet. It knows openstack_ansible;")


def test_the_plan_of_an_upgrade_says_what_the_recipe_warns_of(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    assert {"keystone: %s" % sentence for sentence in keystone().body["limits"]} <= set(one.plan().notes)
    one.playbook()
    assert not one.plan().notes, "said when something changes"


@pytest.mark.parametrize(("since", "said"), [("23.0.2", False), ("24.0.0", True), ("24.1.0", True), ("25.0.0", False)])
def test_new_data_is_said_when_the_hop_comes_to_it(tmp_path: pathlib.Path, since: str, said: bool) -> None:
    row = {"what": "a hash of another kind", "since": since, "old_release": "it cannot be read"}
    notes = walk(tmp_path, new_data=[row]).plan().notes
    sentence = "keystone: a hash of another kind is written since %s. The former release: it cannot be read" % since
    assert (sentence in notes) is said

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The release before the newest upgrade: what a rollback goes to that is not told where."""

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import doors, model, past
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store
from tests.walk.simulate import DiedError, Walk, keystone, life

KEYS = ("keystone-api@ctl1", "keystone-api@ctl2")


def walk(tmp_path: pathlib.Path, runs: str = "23.0.2") -> Walk:
    record, cloud = life(runs=runs, version="24.1.0")
    cloud.schemas["keystone"] = "expand"
    return Walk(record, {"keystone": keystone()}, cloud, Store("sqlite:///%s" % (tmp_path / "store.db")))


def prior(one: Walk) -> dict[str, t.Any]:
    runs = [(run, one.store.plan(run.id), one.store.entries(run.id)) for run in one.store.runs("dummy")]
    return past.prior(runs, "keystone", KEYS)


def want(one: Walk, verb: str, **release: str) -> None:
    one.verb = verb
    one.record = dataclasses.replace(
        one.record, services={"keystone": dataclasses.replace(one.record.services["keystone"], release=dict(release))}
    )


def test_it_is_what_the_newest_upgrade_has_replaced(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    assert one.playbook().state == "succeeded"
    assert prior(one) == {"version": "23.0.2", "id": "23.0.2"}
    want(one, "rollback", **prior(one))
    assert one.playbook().state == "succeeded"
    assert {app["version"] for app in one.cloud.apps.values()} == {"23.0.2"}
    assert prior(one) == {"version": "23.0.2", "id": "23.0.2"}, "a rollback is nothing to go back from"
    assert not one.plan().steps


def test_an_upgrade_that_was_taken_back_has_replaced_nothing(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    one.cloud.fails = {"out:keystone-api@ctl2/test": LifecycleError("no", "probe.token")}
    assert one.playbook().state == "rolled_back"
    with pytest.raises(BadInputError, match="No upgrade of keystone has succeeded"):
        prior(one)


def test_two_releases_are_no_release_before(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    one.cloud.apps[KEYS[0]].update(version="23.0.1", release="23.0.1")
    assert one.playbook().state == "succeeded"
    with pytest.raises(BadInputError, match=r"were not all on one release \(23.0.1, 23.0.2\)"):
        prior(one)


def test_it_is_for_a_rollback_only(tmp_path: pathlib.Path) -> None:
    settings = doors.Settings("", "sqlite:///%s" % (tmp_path / "store.db"), prior=True)
    record: model.Record = walk(tmp_path).record
    with pytest.raises(BadInputError, match="this is upgrade"):
        doors._at_prior("upgrade", record, settings)
    with pytest.raises(BadInputError, match="No upgrade of keystone has succeeded"):
        doors._at_prior("rollback", record, settings)


def test_after_an_upgrade_with_an_outage(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    offline = dataclasses.replace(one.record.services["keystone"], strategy="offline")
    one.record = dataclasses.replace(one.record, services={"keystone": offline})
    assert one.playbook().state == "succeeded"
    assert prior(one) == {"version": "23.0.2", "id": "23.0.2"}


def test_an_upgrade_that_only_gave_traffic_back_has_replaced_nothing(tmp_path: pathlib.Path) -> None:
    """As after a frozen one whose instances had all changed: each is proven once more, and admitted."""
    one = walk(tmp_path)
    run = one.playbook()
    plan = one.store.plan(run.id)
    again = dataclasses.replace(plan, moves=dict.fromkeys(KEYS, ("24.1.0", "24.1.0")))
    same = [dataclasses.replace(entry, changed=False) for entry in one.store.entries(run.id)]
    runs = [(dataclasses.replace(run, id="newer"), again, same), (run, plan, one.store.entries(run.id))]
    assert past.prior(runs, "keystone", KEYS) == {"version": "23.0.2", "id": "23.0.2"}


def test_what_was_before_the_service_was_deployed_anew_is_over(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    assert one.playbook().state == "succeeded"
    one.verb, one.consents = "remove", ("purge_data",)
    assert one.playbook().state == "succeeded"
    with pytest.raises(BadInputError, match="No upgrade of keystone has succeeded"):
        prior(one)


def test_an_open_upgrade_is_taken_back_whatever_was_before(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    with pytest.raises(DiedError):
        one.playbook("after_act:out:keystone-api@ctl1/change")
    settings = doors.Settings("", one.store.url, prior=True)
    assert doors._at_prior("rollback", one.record, settings) is one.record

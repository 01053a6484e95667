"""Golden walks: plan and journal of each verb as text, so that a change of behaviour is read as a change of the story.

UPDATE_GOLDEN=1 writes them anew; look at the difference before you commit it.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import knowledge, model
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store
from tests.walk.simulate import Walk, finalized, life, services

HERE = pathlib.Path(__file__).resolve().parent / "golden"
FAILURE = {"out:keystone-api@ctl2/test": LifecycleError("GET /v3/auth/tokens answered 404", "probe.validate_before")}
WALKS = {
    "keystone-upgrade": ("upgrade", {}),
    "keystone-upgrade-taken-back": ("upgrade", FAILURE),
    "keystone-rollback": ("rollback", {}),
}


@pytest.mark.parametrize("name", WALKS)
def test_the_story_is_the_one_that_was_reviewed(tmp_path: pathlib.Path, name: str) -> None:
    verb, fails = WALKS[name]
    old, new = ("27.0.1", "29.0.2") if verb == "upgrade" else ("29.0.2", "27.0.1")
    record, cloud = services("keystone-api", version=new)
    service = record.services.pop("echo")
    record.services["keystone"] = model.Service(**{**service.__dict__, "name": "keystone"})
    for app in cloud.apps.values():
        app.update(release=old, version=old)
    cloud.fails = dict(fails)
    walk = Walk(record, {"keystone": knowledge.recipe("keystone")}, cloud, Store("sqlite:///%s" % (tmp_path / "store.db")), verb)
    walk.playbook()
    held_against(walk, name)


LIVES = {
    "keystone-deploy": ("deploy", "", {}, ()),
    "keystone-deploy-owner": ("deploy", "", {}, ()),
    "keystone-deploy-removed-again": (
        "deploy", "", {"out:keystone-api@ctl2/test": LifecycleError("GET /v3 answered 500", "probe.version")}, (),
    ),
    "keystone-remove": ("remove", "24.1.0", {}, ()),
    "keystone-remove-purged": ("remove", "24.1.0", {}, ("purge_data",)),
    "keystone-finalize": ("finalize", "24.1.0", {}, ()),
    "keystone-backup": ("backup", "24.1.0", {}, ()),
}  # fmt: skip


@pytest.mark.parametrize("name", LIVES)
def test_the_life_of_a_service_is_the_one_that_was_reviewed(tmp_path: pathlib.Path, name: str) -> None:
    verb, runs, fails, consents = LIVES[name]
    record, cloud = life(runs=runs, managed=not name.endswith("owner"))
    cloud.fails = dict(fails)
    if verb == "finalize":
        cloud.schemas["keystone"] = "contract"
    store = Store("sqlite:///%s" % (tmp_path / "store.db"))
    walk = Walk(record, {"keystone": knowledge.recipe("keystone")}, cloud, store, verb, consents)
    walk.playbook()
    held_against(walk, name)


def test_the_announced_outage_is_the_one_that_was_reviewed(tmp_path: pathlib.Path) -> None:
    record, cloud = life(runs="23.0.2", version="24.1.0")
    record.services["keystone"] = dataclasses.replace(record.services["keystone"], strategy="offline")
    cloud.schemas["keystone"] = "expand"
    walk = Walk(record, {"keystone": knowledge.recipe("keystone")}, cloud, Store("sqlite:///%s" % (tmp_path / "store.db")))
    walk.playbook()
    held_against(walk, "keystone-upgrade-offline")


def test_the_way_back_past_finalize_is_the_one_that_was_reviewed(tmp_path: pathlib.Path) -> None:
    walk = finalized(tmp_path)
    walk.record.services["keystone"] = dataclasses.replace(walk.record.services["keystone"], release={"version": "23.0.2"})
    walk.verb, walk.consents = "rollback", ("restore",)
    walk.playbook()
    held_against(walk, "keystone-restore")


def held_against(walk: Walk, name: str) -> None:
    story = "\n".join(walk.story()) + "\n"
    path = HERE / (name + ".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        HERE.mkdir(exist_ok=True)
        path.write_text(story, encoding="utf-8")
    assert story == path.read_text(encoding="utf-8")

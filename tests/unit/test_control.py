"""Run control: who may work on a cloud, what a lost end means, and what a former run left out of traffic."""

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import control, doors, holder, model
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store


def plan(*services: str) -> model.Plan:
    step = model.Step("a@h/change", "a@h", "h", "upgrade", "change", "some.driver.module", {})
    return model.Plan("cloud", "upgrade", services, "hash", (("a@h",),), (step,))


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Store:
    return Store("sqlite:///%s" % (tmp_path / "store.db"))


def test_one_working_run_a_cloud(store: Store) -> None:
    """Two runs of different services meet on the balancers; the newer token would shut the older run out of them."""
    first = store.open(plan("keystone"), "one", holder.current(), "me")
    with pytest.raises(BadInputError, match=r"The run one \(upgrade of keystone\) is running on this cloud"):
        store.open(plan("glance"), "two", holder.current(), "me")
    store.turn("one", first.token, "paused", "asked")
    store.open(plan("glance"), "two", holder.current(), "me")
    with pytest.raises(BadInputError, match="The run two"):
        store.take_over(store.run("one"), holder.current(), "running")
    other = dataclasses.replace(plan("keystone"), cloud="another")
    assert store.open(other, "three", holder.current(), "me").state == "running"


def test_only_one_takes_a_run_over(store: Store) -> None:
    run = store.open(plan("keystone"), "one", holder.current(), "me")
    assert store.take_over(run, holder.current()).token > run.token
    with pytest.raises(BadInputError, match="Somebody else has just taken the run one over"):
        store.take_over(run, holder.current())


def test_a_step_without_an_end_turns_the_run(store: Store) -> None:
    run = store.open(plan("keystone"), "one", holder.current(), "me")
    (step,) = plan("keystone").steps
    assert doors.turned_if_lost(store, run, run.token).state == "running"
    with store.beginning(step, "one") as beginning:
        beginning.intent(step, 1, holder.current())
    # Taken over, the step is called again: that is no loss.
    newer = store.take_over(run, holder.current())
    assert doors.turned_if_lost(store, newer, newer.token).state == "running"
    with store.beginning(step, "one") as beginning:
        beginning.intent(step, 2, holder.current())
    turned = doors.turned_if_lost(store, newer, newer.token)
    assert (turned.state, turned.ending) == ("rolling_back", "rolled_back")
    assert turned.reason == "a@h/change was begun, and its end could not be written"


def test_a_wish_to_cancel_outlives_the_process(store: Store) -> None:
    run = store.open(plan("keystone"), "one", holder.current(), "me")
    store.ask("one", "cancel")
    assert control.gate(store.take_over(run, holder.current()), run.token + 1, model.OUT).state == "cancelled"


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        ({}, False),
        ({"node": "elsewhere"}, None),
        ({"machine": "a clone"}, None),
        ({"space": 1}, None),
        ({"boot": "before"}, True),
        ({"start": "1"}, True),
        ({"pid": 2**22 + 1}, True),
    ],
)
def test_a_holder_is_gone_only_when_this_node_can_tell(change: dict[str, t.Any], gone: bool | None) -> None:
    assert holder.gone({**holder.current(), **change}) is gone


def test_what_somebody_changed_since_is_theirs() -> None:
    left = model.LeftOut({"admin": 0, "weight": 100}, {"admin": 8, "weight": 100})
    assert left.before({"admin": 8, "weight": 100}) == {"admin": 0, "weight": 100}
    assert left.before({"admin": 1, "weight": 100}) == {"admin": 1, "weight": 100}
    unknown = model.LeftOut({"admin": 0, "weight": 100}, None)
    assert unknown.before({"admin": 8, "weight": 100}) == {"admin": 0, "weight": 100}


def test_a_text_that_says_false_is_false() -> None:
    given = {"awx_job_id": 5, "osops_store": "sqlite:////tmp/x.db", "osops_store_is_durable": "false"}
    with pytest.raises(BadInputError, match="thrown away"):
        doors.Settings.read(given)
    assert doors.Settings.read({**given, "osops_store_is_durable": "true"}).store == "sqlite:////tmp/x.db"

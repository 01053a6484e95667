# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of consumers in plans: where they stand, what waits for them, and what becomes of a run when one of them fails."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
import typing as t

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import journaled, knowledge, model, observed, overview, status
from ansible_collections.osops.lifecycle.plugins.plugin_utils.plan import plan
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store
from tests.walk.simulate import DiedError, Walk, finalized, life, services
from tests.walk.world import recipe

BILLING = model.Check("billing", "client1", ("/opt/billing/check", "--once"), user="billing", secrets={"PASSWORD": "v_billing"})
PORTAL = model.Check("portal", "client2", url="{endpoint}/v3", status=300, timeout_s=10)
NO = LifecycleError("The check billing of echo-api@ctl2 failed: exit code 1: no token.", "check.failed")


@pytest.fixture
def memory() -> t.Iterator[pathlib.Path]:
    """Many small commits that need not outlive a power cut: in memory where there is such a place."""
    shared = pathlib.Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as name:
        yield pathlib.Path(name)


def walk(
    folder: pathlib.Path,
    verb: str = "upgrade",
    components: tuple[str, ...] = ("echo-api",),
    checks: tuple[model.Check, ...] = (BILLING,),
    probe: bool = True,
    **more: t.Any,
) -> Walk:
    folder.mkdir(exist_ok=True)
    record, cloud = services(*components, version="0.9" if verb == "rollback" else "2.0", **more)
    record.services["echo"] = dataclasses.replace(record.services["echo"], checks=checks)
    body = recipe("echo", components)
    body["modules"].pop("check", None)
    if not probe:
        del body["probe"]
    return Walk(record, {"echo": model.Recipe("echo", body)}, cloud, Store("sqlite:///%s" % (folder / "store.db")), verb)


def new_life(folder: pathlib.Path, checks: tuple[model.Check, ...] = (BILLING,), managed: bool = True) -> Walk:
    record, cloud = life(managed=managed)
    record.services["keystone"] = dataclasses.replace(record.services["keystone"], checks=checks)
    recipes = {"keystone": knowledge.recipe("keystone")}
    return Walk(record, recipes, cloud, Store("sqlite:///%s" % (folder / "store.db")), "deploy")


def rows(made: model.Plan) -> dict[str, model.Step]:
    return {step.id: step for step in made.steps}


def ended(one: Walk) -> tuple[dict[str, str], model.Run, list[str]]:
    """Kinds of the steps on the way back, the run, and its last lines."""
    run = one.store.runs(one.record.cloud)[0]
    entries = one.store.entries(run.id)
    lines = status.last_lines(run, one.store.plan(run.id), one.store.back(run.id), entries)
    return journaled.last_kinds(entries, model.BACK), run, lines


def out_of_traffic(one: Walk) -> set[str]:
    return {name for servers in one.cloud.balancers.values() for name, server in servers.items() if server["admin"]}


def begun(one: Walk, way: str = model.OUT) -> list[str]:
    run = one.store.runs(one.record.cloud)[0]
    return [entry.step for entry in one.store.entries(run.id) if entry.way == way and entry.kind == "intent"]


def test_an_instance_is_asked_while_it_is_out_of_traffic(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path, checks=(BILLING, PORTAL))
    made = one.plan()
    steps = rows(made)
    check = steps["echo-api@ctl2.billing/test"]
    assert (check.host, check.phase, check.do, check.of, check.way) == ("client1", "test", "test", "echo-api@ctl2", "out")
    assert check.needs == ("echo-api@ctl2/change",)
    assert check.module == "osops.lifecycle.consumer_check"
    assert check.args == {
        "state": "verify", "name": "billing", "command": ["/opt/billing/check", "--once"], "user": "billing", "timeout": 60,
        "endpoint": "http://ctl2:5000", "service": "echo", "component": "echo-api", "host": "ctl2", "version": "2.0",
        "secrets": {"PASSWORD": {"secret": "v_billing"}},
    }  # fmt: skip
    assert check.deadline_s == 120 + 60
    portal = steps["echo-api@ctl2.portal/test"]
    assert (portal.host, portal.args["url"], portal.args["status"]) == ("client2", "http://ctl2:5000/v3", 300)
    assert not {"command", "user"} & set(portal.args)
    tests = ("echo-api@ctl2/test", "echo-api@ctl2.billing/test", "echo-api@ctl2.portal/test")
    assert steps["echo#3@lb1/admit"].needs == steps["echo#3@lb2/admit"].needs == tests
    assert made.batches[2] == (
        "echo#3@lb1", "echo#3@lb2", "echo-api@ctl2", "echo-api@ctl2.billing", "echo-api@ctl2.portal",
    )  # fmt: skip
    assert made.real_hosts()["echo-api@ctl2.portal"] == "client2"

    assert one.playbook().state == "succeeded"
    order = begun(one)
    for host, number in (("ctl1", 2), ("ctl2", 3), ("ctl3", 4)):
        places = [order.index("echo-api@%s%s" % (host, what)) for what in ("/change", ".billing/test", ".portal/test")]
        assert places == sorted(places)
        assert places[-1] < order.index("echo#%d@lb1/admit" % number)
    _kinds, _run, lines = ended(one)
    assert "check billing: passed for echo-api@ctl1, echo-api@ctl2, echo-api@ctl3" in lines
    assert "check portal: passed for echo-api@ctl1, echo-api@ctl2, echo-api@ctl3" in lines


def test_only_what_has_an_address_is_asked(tmp_path: pathlib.Path) -> None:
    made = walk(tmp_path, components=("echo-worker", "echo-api"), hosts=2).plan()
    assert [step.target for step in made.steps if step.of] == ["echo-api@ctl1.billing", "echo-api@ctl2.billing"]


def test_a_check_may_wait_for_the_others_of_its_batch(tmp_path: pathlib.Path) -> None:
    made = walk(tmp_path, batches=(1, 2)).plan()
    assert [step.deadline_s for step in made.steps if step.of] == [180, 240, 240]


def test_without_checks_nothing_is_different(tmp_path: pathlib.Path) -> None:
    asked = walk(tmp_path / "asked").plan()
    plain = walk(tmp_path / "plain", checks=()).plan()
    assert [step for step in plain.steps if step.do != "admit"] == [
        step for step in asked.steps if not step.of and step.do != "admit"
    ]
    assert not [step for step in plain.steps if step.of]
    assert plain.batches == tuple(tuple(target for target in batch if "billing" not in target) for batch in asked.batches)


def test_how_the_instance_speaks_is_how_it_is_asked(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path, checks=(PORTAL, model.Check("status", "client2", url="https://status.example.org/echo")))
    service = one.record.services["echo"]
    speaks = {"scheme": "https", "ca_file": "/etc/ssl/ours.pem", "server_name": "api.example.org"}
    one.record.services["echo"] = dataclasses.replace(service, probe={"instance": speaks})
    steps = rows(one.plan())
    portal = steps["echo-api@ctl1.portal/test"].args
    assert (portal["endpoint"], portal["url"]) == ("https://ctl1:5000", "https://ctl1:5000/v3")
    assert (portal["ca_file"], portal["server_name"]) == ("/etc/ssl/ours.pem", "api.example.org")
    theirs = steps["echo-api@ctl1.status/test"].args
    assert (theirs["endpoint"], theirs["url"]) == ("https://ctl1:5000", "https://status.example.org/echo")
    assert not {"ca_file", "server_name"} & set(theirs), "the certificate of another site is not ours"


def test_a_failing_check_turns_the_run_as_a_failing_probe_does(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    one.cloud.fails = {"out:echo-api@ctl2.billing/test": NO}
    run = one.playbook()
    assert (run.state, run.reason) == (
        "rolled_back",
        "echo-api@ctl2.billing/test failed: The check billing of echo-api@ctl2 failed: exit code 1: no token.",
    )
    assert "echo#3@lb1/admit" not in begun(one), "no request for what a consumer cannot use"
    assert "echo-api@ctl3/change" not in begun(one)
    assert {app["version"] for app in one.cloud.apps.values()} == {"1.0"}
    assert out_of_traffic(one) == set()
    back = one.store.back(run.id)
    assert back is not None
    again = rows(back)["echo-api@ctl2.billing/test"]
    assert (again.args["version"], again.needs, again.way, again.host) == ("1.0", ("echo-api@ctl2/revert",), "back", "client1")
    assert "requests" not in again.args
    assert rows(back)["echo#3@lb1/admit"].needs == ("echo-api@ctl2/test", "echo-api@ctl2.billing/test")
    kinds, _run, lines = ended(one)
    assert kinds["echo-api@ctl2.billing/test"] == kinds["echo-api@ctl1.billing/test"] == "done"
    assert "check billing: passed for echo-api@ctl1" in lines
    assert "check billing: FAILED (check.failed) for echo-api@ctl2" in lines
    assert "check billing on the way back: passed for echo-api@ctl2, echo-api@ctl1" in lines


def test_what_is_not_proven_to_its_consumers_goes_back_below_the_floor(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    one.cloud.fails = {"out:echo-api@ctl2.billing/test": NO}
    back = one.store.back(one.playbook().id)
    assert back is not None
    floors = {step.target: step.args["min_available"] for step in back.steps if "servers" in step.args}
    assert floors == {"echo#3@lb1": 0, "echo#3@lb2": 0, "echo#2@lb1": 1, "echo#2@lb2": 1}


def test_a_check_that_fails_for_the_former_release_too_freezes(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    one.cloud.fails = {"%s:echo-api@ctl2.billing/test" % way: NO for way in ("out", "back")}
    run = one.playbook()
    assert run.state == "frozen"
    assert "not taken back: echo-api@ctl2.billing/test (The check billing" in run.reason
    assert {app["version"] for app in one.cloud.apps.values()} == {"1.0"}, "the release goes back all the same"
    assert out_of_traffic(one) == {"echo-api/ctl2"}
    assert "check billing on the way back: FAILED (check.failed) for echo-api@ctl2" in ended(one)[2]


def test_a_run_that_freezes_gives_no_traffic_to_what_failed_a_check(tmp_path: pathlib.Path) -> None:
    """A rollback by record freezes where it fails: what passed its probe and not its check stays out."""
    one = walk(tmp_path, "rollback")
    one.cloud.fails = {"out:echo-api@ctl2.billing/test": NO}
    assert one.playbook().state == "frozen"
    assert [app["version"] for app in one.cloud.apps.values()] == ["0.9", "0.9", "1.0"]
    assert out_of_traffic(one) == {"echo-api/ctl2"}
    assert "note: echo#2@lb1 stays out of traffic: echo-api@ctl2 is not proven" in ended(one)[2]


def test_after_a_rollback_they_are_asked_about_the_former_release(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path, "rollback")
    check = rows(one.plan())["echo-api@ctl1.billing/test"]
    assert (check.needs, check.args["version"]) == (("echo-api@ctl1/revert",), "0.9")
    assert one.playbook().state == "succeeded"
    assert "check billing: passed for echo-api@ctl1, echo-api@ctl2, echo-api@ctl3" in ended(one)[2]


def test_a_service_without_a_probe_is_proven_by_its_consumers(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path / "good", probe=False)
    assert rows(one.plan())["echo#2@lb1/admit"].needs == ("echo-api@ctl1.billing/test",)
    assert one.playbook().state == "succeeded"
    bad = walk(tmp_path / "bad", probe=False)
    bad.cloud.fails = {"out:echo-api@ctl2.billing/test": NO}
    run = bad.playbook()
    assert (run.state, out_of_traffic(bad)) == ("rolled_back", set())
    back = bad.store.back(run.id)
    assert back is not None
    assert rows(back)["echo#3@lb2/admit"].needs == ("echo-api@ctl2.billing/test",)
    assert rows(back)["echo#2@lb2/admit"].unless_begun == ("echo-api@ctl1/revert",), "its consumers have proven the new one"
    shown = overview.Shown(run, bad.store.plan(run.id), back, bad.store.entries(run.id), False)
    document = overview.document("dummy", [shown], 0.0)
    knowledge.validate(document, "status", "status")
    assert document["runs"][0]["checks"] == [
        {"check": "billing", "way": "out", "code": "", "instances": ["echo-api@ctl1"]},
        {"check": "billing", "way": "out", "code": "check.failed", "instances": ["echo-api@ctl2"]},
        {"check": "billing", "way": "back", "code": "", "instances": ["echo-api@ctl2", "echo-api@ctl1"]},
    ]
    assert "    check billing: FAILED (check.failed) for echo-api@ctl2" in overview.lines(document)


@pytest.mark.parametrize("managed", [True, False])
def test_a_new_instance_is_asked_before_its_first_request(tmp_path: pathlib.Path, managed: bool) -> None:
    one = new_life(tmp_path, managed=managed)
    made = one.plan()
    check = rows(made)["keystone-api@ctl1.billing/test"]
    assert (check.needs, check.host, check.way_back) == (("keystone-api@ctl1/change",), "client1", "removal")
    assert check.deadline_s == 120 + 2 * 60
    assert rows(made)["keystone#1@lb1/admit"].needs == (
        "keystone-api@ctl1/test", "keystone-api@ctl1.billing/test", "keystone-api@ctl2/test", "keystone-api@ctl2.billing/test",
    )  # fmt: skip
    assert {"keystone-api@ctl1.billing", "keystone-api@ctl2.billing"} <= set(made.batches[0])
    assert one.playbook().state == "succeeded"
    assert "check billing: passed for keystone-api@ctl1, keystone-api@ctl2" in ended(one)[2]


def test_a_deployment_that_a_consumer_cannot_use_is_removed_again(tmp_path: pathlib.Path) -> None:
    one = new_life(tmp_path)
    one.cloud.fails = {"out:keystone-api@ctl2.billing/test": NO}
    assert one.playbook().state == "rolled_back"
    assert not any(app["release"] for app in one.cloud.apps.values())
    assert one.cloud.places.get("lb1") is not True
    assert "keystone#1@lb1/admit" not in begun(one)
    assert not [name for name in begun(one, model.BACK) if "billing" in name]


def restoring(folder: pathlib.Path) -> Walk:
    """A finalized 24.1.0 with a check, whose record wants 23.0.2 and the data of then."""
    one = finalized(folder)
    service = dataclasses.replace(one.record.services["keystone"], release={"version": "23.0.2"}, checks=(BILLING,))
    one.record.services["keystone"] = service
    one.verb, one.consents = "rollback", ("restore",)
    return one


def test_after_a_restore_they_are_asked_too(tmp_path: pathlib.Path) -> None:
    one = restoring(tmp_path)
    made = one.plan()
    check = rows(made)["keystone-api@ctl1.billing/test"]
    assert (check.needs, check.args["version"]) == (("keystone-api@ctl1/revert",), "23.0.2")
    assert rows(made)["keystone#1.1@lb1/admit"].needs == ("keystone-api@ctl1/test", "keystone-api@ctl1.billing/test")
    assert one.playbook().state == "succeeded"
    assert "check billing: passed for keystone-api@ctl1, keystone-api@ctl2" in ended(one)[2]


def test_what_fails_a_check_on_the_restored_data_stays_out_of_traffic(tmp_path: pathlib.Path) -> None:
    one = restoring(tmp_path)
    one.cloud.fails = {"out:keystone-api@ctl2.billing/test": NO}
    assert one.playbook().state == "frozen"
    assert "keystone/ctl2" in out_of_traffic(one)
    notes = [line for line in ended(one)[2] if line.startswith("note: keystone#1.2@lb1 stays out of traffic")]
    assert notes == ["note: keystone#1.2@lb1 stays out of traffic: keystone-api@ctl2 is not proven on the restored data"]


def test_a_restore_that_touched_nothing_asks_them_about_what_still_runs(tmp_path: pathlib.Path) -> None:
    one = restoring(tmp_path)
    one.cloud.fails = {"out:keystone-api@ctl2/halt": LifecycleError("It does not end.", "artifact.stop")}
    run = one.playbook()
    back = one.store.back(run.id)
    assert back is not None
    check = rows(back)["keystone-api@ctl1.billing/test"]
    assert (check.needs, check.args["version"]) == (("keystone-api@ctl1/revert",), "24.1.0")
    assert "keystone-api@ctl1.billing/test" in rows(back)["keystone#1.1@lb1/admit"].needs
    assert out_of_traffic(one) == set()
    assert {app["version"] for app in one.cloud.apps.values()} == {"24.1.0"}


def test_what_is_put_right_in_operation_is_asked_too(tmp_path: pathlib.Path) -> None:
    record, cloud = life(hosts=3, runs="24.1.0")
    cloud.schemas["keystone"] = "contract"
    record.services["keystone"] = dataclasses.replace(record.services["keystone"], checks=(BILLING,), repair=("process",))
    one = Walk(
        record, {"keystone": knowledge.recipe("keystone")}, cloud, Store("sqlite:///%s" % (tmp_path / "store.db")), "operational"
    )
    assert not one.plan().steps, "nobody is asked about what is well"
    cloud.apps["keystone-api@ctl2"].update(version=None, running=False)
    made = one.plan()
    assert not made.refusals
    assert rows(made)["keystone-api@ctl2.billing/test"].needs == ("keystone-api@ctl2/repair",)
    assert rows(made)["keystone#1@lb1/admit"].needs == ("keystone-api@ctl2/test", "keystone-api@ctl2.billing/test")
    assert one.playbook().state == "succeeded"


def test_what_is_looked_at_before(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path, checks=(BILLING, PORTAL))
    for verb in ("upgrade", "rollback", "deploy", "operational"):
        found = {look.key: look for look in observed.looks(one.record, one.recipes, verb) if look.key.startswith("check/")}
        assert {key: look.host for key, look in found.items()} == {
            "check/echo.billing": "client1",
            "check/echo.portal": "client2",
        }
        billing = found["check/echo.billing"]
        assert billing.module == "osops.lifecycle.consumer_check"
        assert billing.args["secrets"] == {"PASSWORD": {"secret": "v_billing"}}
        assert (billing.args["scope"], billing.args["command"][0]) == ("dummy", "/opt/billing/check")
        assert found["check/echo.portal"].args["url"] == "http://ctl1:5000/v3"
    for verb in ("finalize", "backup", "remove"):
        assert not [look for look in observed.looks(one.record, one.recipes, verb) if look.key.startswith("check/")]


@pytest.mark.parametrize("verb", ["upgrade", "rollback", "deploy"])
@pytest.mark.parametrize(
    "answer",
    [
        {"failed": True, "msg": "the host client1 gave no answer: unreachable"},
        {
            "failed": True, "msg": "The check billing cannot be run on this host: there is no user billing.", "before": {}, "changed": False,
            "verdict": {"outcome": "fail", "code": "check.not_runnable", "reason": "…"},
        },
    ],
    ids=["host", "program"],
)  # fmt: skip
def test_a_check_that_cannot_be_run_refuses_before_anything_is_changed(
    tmp_path: pathlib.Path, verb: str, answer: dict[str, t.Any]
) -> None:
    one = new_life(tmp_path) if verb == "deploy" else walk(tmp_path, verb)
    key = "check/%s.billing" % next(iter(one.record.services))
    seen = {**one.look(), key: observed.seen(answer)}
    made = plan(one.record, one.recipes, seen, verb)
    assert "%s: %s" % (key, answer["msg"]) in made.refusals
    assert not made.steps
    nobody = {name: what for name, what in one.look().items() if name != key}
    assert "%s: nobody looked" % key in plan(one.record, one.recipes, nobody, verb).refusals


def test_the_plan_on_paper_names_the_checks(tmp_path: pathlib.Path) -> None:
    lines = status.on_paper(walk(tmp_path, hosts=2, balancers=1).plan())
    assert "  test     echo-api@ctl1.billing (at most 180 s; way back: code_only)" in lines
    assert lines.index("  test     echo-api@ctl1.billing (at most 180 s; way back: code_only)") < lines.index(
        "  admit    echo#2@lb1 (at most 120 s; way back: code_only)"
    )


def test_a_recipe_may_bring_another_module(tmp_path: pathlib.Path) -> None:
    one = walk(tmp_path)
    seen = one.look()
    one.recipes["echo"].body["modules"]["check"] = "some.other.check"
    made = plan(one.record, one.recipes, seen)
    assert rows(made)["echo-api@ctl1.billing/test"].module == "some.other.check"
    assert {look.module for look in observed.looks(one.record, one.recipes) if look.key.startswith("check/")} == {
        "some.other.check"
    }


CASES: dict[str, tuple[str, dict[str, LifecycleError], str]] = {
    "good": ("upgrade", {}, "succeeded"),
    "bad": ("upgrade", {"out:echo-api@ctl2.billing/test": NO}, "rolled_back"),
    "bad rollback": ("rollback", {"out:echo-api@ctl2.billing/test": NO}, "frozen"),
}


@pytest.mark.parametrize("case", CASES)
def test_dying_anywhere_ends_where_the_undisturbed_run_ends(memory: pathlib.Path, case: str) -> None:
    verb, fails, state = CASES[case]

    def make(name: str) -> Walk:
        made = walk(memory / name, verb, hosts=2, balancers=1)
        made.cloud.fails = dict(fails)
        return made

    calm = make("calm")
    assert calm.playbook().state == state
    (run,) = calm.store.runs("dummy")
    checks = dict.fromkeys("%s:%s" % (e.way, e.step) for e in calm.store.entries(run.id) if "billing" in e.step)
    assert len(checks) >= 2
    for number, point in enumerate("%s:%s" % (point, step) for step in checks for point in journaled.POINTS):
        one = make(str(number))
        with pytest.raises(DiedError):
            one.playbook(die_at=point)
        assert one.playbook().state == state, point
        assert one.cloud.state() == calm.cloud.state(), point

"""Promise 4: die at every point of every step, run the same playbook again, and stand where the undisturbed run stands."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
import pathlib
import sqlite3
import tempfile
import typing as t

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import journaled, model
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store
from tests.walk.simulate import DiedError, Walk, finalized, keystone, life, services
from tests.walk.world import recipe

CASES: dict[str, t.Any] = {
    "upgrade": ("upgrade", {}, "succeeded"),
    "a test fails": ("upgrade", {"out:echo-api@ctl2/test": LifecycleError("no token", "probe.token")}, "rolled_back"),
    "a drain fails": ("upgrade", {"out:echo#3@lb1/drain": LifecycleError("busy", "drain.sessions_left")}, "rolled_back"),
    "the schema fails": ("upgrade", {"out:echo.data/change": LifecycleError("locked", "schema.act_failed")}, "rolled_back"),
    "the pre-flight refuses": ("upgrade", {"out:echo.data/confirm": LifecycleError("no", "preflight.no")}, "refused"),
    "somebody else was there": ("upgrade", {"out:echo-api@ctl2/change": LifecycleError("who?", "expect.foreign")}, "frozen"),
    "rollback by record": ("rollback", {}, "succeeded"),
    "a rollback's test fails": ("rollback", {"out:echo-api@ctl2/test": LifecycleError("no token", "probe.token")}, "frozen"),
}


LIVES: dict[str, t.Any] = {
    "deploy": ("deploy", "", {}, "succeeded"),
    "a deployed one is unhealthy": (
        "deploy",
        "",
        {"out:keystone-api@ctl2/test": LifecycleError("no", "probe.token")},
        "rolled_back",
    ),
    "no place for the files": (
        "deploy",
        "",
        {"out:keystone-api@ctl1/install": LifecycleError("full", "files.full")},
        "rolled_back",
    ),
    "the balancer refuses": ("deploy", "", {"out:keystone#1@lb1/admit": LifecycleError("no", "haproxy.refused")}, "rolled_back"),
    "remove": ("remove", "1.0", {}, "succeeded"),
    "a drain fails": (
        "remove",
        "1.0",
        {"out:keystone#1@lb1/drain": LifecycleError("busy", "drain.sessions_left")},
        "rolled_back",
    ),
    "no backup": ("remove", "1.0", {"out:keystone.database/confirm": LifecycleError("full", "backup.disk")}, "rolled_back"),
    "software stays": ("remove", "1.0", {"out:keystone-api@ctl2/remove": LifecycleError("in use", "artifact.in_use")}, "frozen"),
    "finalize": ("finalize", "1.0", {}, "succeeded"),
    "contract fails": ("finalize", "1.0", {"out:keystone.data/change": LifecycleError("locked", "schema.act_failed")}, "frozen"),
}


# Of a service in operation: verb, what is not as the record says, what fails, and the end.
CARES: dict[str, t.Any] = {
    "a process is dead": ("operational", "process", {}, "succeeded"),
    "another version runs": ("operational", "version", {}, "succeeded"),
    "files were edited": ("operational", "files", {}, "succeeded"),
    "a server was left drained": ("operational", "traffic", {}, "succeeded"),
    "all at once": ("operational", "process files traffic", {}, "succeeded"),
    "a repair's drain fails": (
        "operational",
        "files",
        {"out:keystone#1@lb1/drain": LifecycleError("busy", "drain.sessions_left")},
        "rolled_back",
    ),
    "the files cannot be written": (
        "operational",
        "files",
        {"out:keystone-api@ctl2/install": LifecycleError("full", "files.full")},
        "rolled_back",
    ),
    "what was repaired is unhealthy": (
        "operational",
        "version",
        {"out:keystone-api@ctl2/test": LifecycleError("no", "probe.token")},
        "rolled_back",
    ),
    "clean": ("clean", "", {}, "succeeded"),
    "an old release stays": (
        "clean",
        "",
        {"out:keystone-api@ctl2/remove": LifecycleError("in use", "artifact.in_use")},
        "aborted",
    ),
}


RESTORES: dict[str, t.Any] = {
    "restore": ({}, "succeeded"),
    "a restore's drain fails": ({"out:keystone#1.2@lb1/drain": LifecycleError("busy", "drain.sessions_left")}, "rolled_back"),
    "a restore's backup fails": ({"out:keystone.database/confirm": LifecycleError("full", "backup.disk")}, "rolled_back"),
    "one does not stop": ({"out:keystone-api@ctl2/halt": LifecycleError("busy", "artifact.stop_deadline")}, "rolled_back"),
    "the restore tears": ({"out:keystone.database/restore": LifecycleError("full", "backup.load")}, "frozen"),
    "a session is open": ({"out:keystone.database/restore": LifecycleError("busy", "backup.in_use")}, "rolled_back"),
    "the former release fails": ({"out:keystone-api@ctl2/test": LifecycleError("no", "probe.token")}, "frozen"),
}


# Configuration that changes with the release: verb, strategy, what fails, and the end.
CONFIGURED: dict[str, t.Any] = {
    "upgrade": ("upgrade", "rolling", {}, "succeeded"),
    "the files cannot be written": (
        "upgrade",
        "rolling",
        {"out:keystone-api@ctl2/install": LifecycleError("full", "files.full")},
        "rolled_back",
    ),
    "it does not start on them": (
        "upgrade",
        "rolling",
        {"out:keystone-api@ctl2/change": LifecycleError("no", "artifact.start_failed")},
        "rolled_back",
    ),
    "it is unhealthy on them": (
        "upgrade",
        "rolling",
        {"out:keystone-api@ctl2/test": LifecycleError("no", "probe.token")},
        "rolled_back",
    ),
    "rollback": ("rollback", "rolling", {}, "succeeded"),
    "with an outage": ("upgrade", "offline", {}, "succeeded"),
    "unhealthy after an outage": (
        "upgrade",
        "offline",
        {"out:keystone-api@ctl2/test": LifecycleError("no", "probe.token")},
        "rolled_back",
    ),
}


OFFLINES: dict[str, t.Any] = {
    "offline": ({}, "succeeded"),
    "the pre-flight refuses": ({"out:keystone.data/confirm": LifecycleError("no", "preflight.no")}, "refused"),
    "one does not stop": ({"out:keystone-api@ctl2/halt": LifecycleError("busy", "artifact.stop_deadline")}, "rolled_back"),
    "the schema fails": ({"out:keystone.schema/init": LifecycleError("locked", "schema.act_failed")}, "rolled_back"),
    "a test fails": ({"out:keystone-api@ctl2/test": LifecycleError("no", "probe.token")}, "rolled_back"),
    "one is not admitted": ({"out:keystone#2.2@lb1/admit": LifecycleError("down", "ready.unhealthy")}, "rolled_back"),
}


@pytest.fixture
def folder() -> t.Iterator[pathlib.Path]:
    """Thousands of small commits that need not outlive a power cut: in memory where there is such a place."""
    memory = pathlib.Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield pathlib.Path(name)


def make(folder: pathlib.Path, case: str, components: tuple[str, ...] = ("echo-api",), **more: t.Any) -> Walk:
    verb, fails, _state = CASES[case]
    folder.mkdir(exist_ok=True)
    record, cloud = services(*components, version="0.9" if verb == "rollback" else "2.0", **more)
    cloud.fails = dict(fails)
    recipes = {"echo": model.Recipe("echo", recipe("echo", components))}
    return Walk(record, recipes, cloud, Store("sqlite:///%s" % (folder / "store.db")), verb)


def make_life(folder: pathlib.Path, case: str) -> Walk:
    verb, runs, fails, _state = LIVES[case]
    folder.mkdir(exist_ok=True)
    record, cloud = life(runs=runs, version="1.0")
    cloud.fails = dict(fails)
    if verb == "finalize":
        cloud.schemas["keystone"] = "contract"
    store = Store("sqlite:///%s" % (folder / "store.db"))
    return Walk(record, {"keystone": keystone()}, cloud, store, verb, ("purge_data",))


@pytest.mark.parametrize("case", LIVES)
def test_dying_anywhere_in_a_life_ends_where_the_undisturbed_run_ends(folder: pathlib.Path, case: str) -> None:
    state = LIVES[case][3]
    calm = make_life(folder / "calm", case)
    todo = left_by_deaths(calm, folder, state)
    assert len(todo) > 2 * (len(journaled.POINTS) - 1), "two steps at least"
    for point, walk in todo:
        assert walk.playbook().state == state, point
        assert walk.cloud.state() == calm.cloud.state(), point
        done = [act for act in walk.cloud.acts if not act.endswith("(fails)")]
        assert set(done) == {act for act in calm.cloud.acts if not act.endswith("(fails)")}, point


def make_care(folder: pathlib.Path, case: str) -> Walk:
    """Three instances; the one on ctl2 is not as the record says, or all have old releases on their disks."""
    verb, drift, fails, _state = CARES[case]
    folder.mkdir(exist_ok=True)
    record, cloud = life(hosts=3, runs="24.1.0")
    cloud.schemas["keystone"] = "contract"
    service = record.services["keystone"]
    record.services["keystone"] = dataclasses.replace(service, repair=tuple(drift.split()), keep_releases=2)
    key = "keystone-api@ctl2"
    if "process" in drift:
        cloud.apps[key].update(version=None, running=False)
    if "version" in drift:
        cloud.apps[key].update(version="24.0.0", release="24.0.0")
    if "files" in drift:
        cloud.files[key] = "edited"
    if "traffic" in drift:
        cloud.balancers["lb1"]["keystone/ctl2"]["admin"] = 8
    cloud.releases = {name: ["0.8", "0.9", "1.0"] for name in cloud.apps}
    cloud.fails = dict(fails)
    return Walk(record, {"keystone": keystone()}, cloud, Store("sqlite:///%s" % (folder / "store.db")), verb)


@pytest.mark.parametrize("case", CARES)
def test_dying_anywhere_in_operation_ends_where_the_undisturbed_run_ends(folder: pathlib.Path, case: str) -> None:
    verb, _drift, _fails, state = CARES[case]
    calm = make_care(folder / "calm", case)
    begun = calm.cloud.state()
    todo = left_by_deaths(calm, folder, state)
    if state == "rolled_back":
        assert calm.cloud.state() == begun, "what was there before is put back"
    elif verb == "clean":
        left = [len(there) for there in calm.cloud.releases.values()]
        assert left == ([2, 3, 3] if state == "aborted" else [2, 2, 2]), "one that failed, and what had not begun then, keeps all"
    else:
        assert calm.cloud.apps["keystone-api@ctl2"] == {"release": "24.1.0", "version": "24.1.0", "running": True}
        assert calm.cloud.files["keystone-api@ctl2"] == "r1"
        assert {server["admin"] for server in calm.cloud.balancers["lb1"].values()} == {0}
        assert not calm.plan().steps, "nothing is left to do"
    for point, walk in todo:
        assert walk.playbook().state == state, point
        assert walk.cloud.state() == calm.cloud.state(), point
        done = [act for act in walk.cloud.acts if not act.endswith("(fails)")]
        assert sorted(done) == sorted(set(done)), point


@pytest.mark.parametrize("case", RESTORES)
def test_dying_anywhere_in_a_restore_ends_where_the_undisturbed_run_ends(folder: pathlib.Path, case: str) -> None:
    state = RESTORES[case][1]
    calm = make_restore(folder / "calm", case)
    todo = left_by_deaths(calm, folder, state)
    served = [server["admin"] for server in calm.cloud.balancers["lb1"].values()]
    ran = {(app["version"], app["running"]) for app in calm.cloud.apps.values()}
    if state == "rolled_back":
        assert (served, ran, calm.cloud.contents) == ([0, 0], {("24.1.0", True)}, {"keystone": "now"})
    elif state == "succeeded":
        assert (served, ran, calm.cloud.contents) == ([0, 0], {("23.0.2", True)}, {"keystone": "then"})
    else:
        # Nothing of what is not proven on the restored data gets a request.
        assert served == ([0, 8] if "former" in case else [8, 8])
    for point, walk in todo:
        assert walk.playbook().state == state, point
        assert walk.cloud.state() == calm.cloud.state(), point
        done = [act for act in walk.cloud.acts if not act.endswith("(fails)")]
        assert sorted(done) == sorted(set(done)), point


@pytest.mark.parametrize("case", CONFIGURED)
def test_dying_anywhere_while_configuration_changes_ends_where_the_undisturbed_run_ends(folder: pathlib.Path, case: str) -> None:
    state = CONFIGURED[case][3]
    calm = make_configured(folder / "calm", case)
    before = (calm.cloud.apps, calm.cloud.files, calm.cloud.balancers)
    begun = copy.deepcopy(before)
    todo = left_by_deaths(calm, folder, state)
    if state == "rolled_back":
        assert before == begun, "the former release, on the former configuration"
    else:
        wanted = calm.record.services["keystone"].release["version"]
        assert {(app["version"], app["running"]) for app in calm.cloud.apps.values()} == {(wanted, True)}
        assert set(calm.cloud.files.values()) == {"r1"}
        assert {server["admin"] for server in calm.cloud.balancers["lb1"].values()} == {0}
    for point, walk in todo:
        assert walk.playbook().state == state, point
        assert walk.cloud.state() == calm.cloud.state(), point


def make_configured(folder: pathlib.Path, case: str) -> Walk:
    """A service whose files are not what the record makes of them for the wanted release."""
    verb, strategy, fails, _state = CONFIGURED[case]
    folder.mkdir(exist_ok=True)
    old, new = "23.0.2", "24.1.0"
    record, cloud = life(runs=new if verb == "rollback" else old, version=old if verb == "rollback" else new)
    record.services["keystone"] = dataclasses.replace(record.services["keystone"], strategy=strategy)
    cloud.schemas["keystone"] = "expand" if verb == "upgrade" else "current"
    cloud.files = dict.fromkeys(cloud.files, "r0")
    cloud.fails = dict(fails)
    return Walk(record, {"keystone": keystone()}, cloud, Store("sqlite:///%s" % (folder / "store.db")), verb)


@pytest.mark.parametrize("case", OFFLINES)
def test_dying_anywhere_in_an_outage_ends_where_the_undisturbed_run_ends(folder: pathlib.Path, case: str) -> None:
    fails, state = OFFLINES[case]
    calm = make_offline(folder / "calm", fails)
    todo = left_by_deaths(calm, folder, state)
    version = "24.1.0" if state == "succeeded" else "23.0.2"
    assert {(app["version"], app["running"]) for app in calm.cloud.apps.values()} == {(version, True)}
    assert {server["admin"] for server in calm.cloud.balancers["lb1"].values()} == {0}
    assert not calm.cloud.answers, "nobody is told to come back later any more"
    for point, walk in todo:
        assert walk.playbook().state == state, point
        assert walk.cloud.state() == calm.cloud.state(), point
        done = [act for act in walk.cloud.acts if not act.endswith("(fails)")]
        assert sorted(done) == sorted(set(done)), point


def make_offline(folder: pathlib.Path, fails: dict[str, LifecycleError]) -> Walk:
    """A service that is upgraded with an outage."""
    folder.mkdir(exist_ok=True)
    record, cloud = life(runs="23.0.2", version="24.1.0")
    record.services["keystone"] = dataclasses.replace(record.services["keystone"], strategy="offline")
    cloud.schemas["keystone"], cloud.fails = "expand", dict(fails)
    return Walk(record, {"keystone": keystone()}, cloud, Store("sqlite:///%s" % (folder / "store.db")))


def make_restore(folder: pathlib.Path, case: str) -> Walk:
    """A service that was finalized goes back to the release before, with consent."""
    folder.mkdir(exist_ok=True)
    walk = finalized(folder)
    walk.cloud.acts.clear()
    walk.cloud.fails = dict(RESTORES[case][0])
    walk.cloud.tears = tuple(walk.cloud.fails) if "tears" in case else ()
    walk.record.services["keystone"] = dataclasses.replace(walk.record.services["keystone"], release={"version": "23.0.2"})
    walk.verb, walk.consents = "rollback", ("restore",)
    return walk


def left_by_deaths(calm: Walk, folder: pathlib.Path, state: str) -> list[tuple[str, Walk]]:
    """Go the undisturbed walk, which ends as ``state``; every point of it, with a walk that begins from what a death there leaves."""
    left: dict[str, Walk] = {}

    def keep(point: str) -> None:
        path = folder / ("%d.db" % len(left))
        here, there = sqlite3.connect(calm.store.url.removeprefix("sqlite:///")), sqlite3.connect(path)
        with contextlib.closing(here), contextlib.closing(there):
            here.backup(there)
        left.setdefault(point, dataclasses.replace(calm, cloud=calm.cloud.copy(), store=Store("sqlite:///%s" % path)))

    assert calm.playbook(at=keep).state == state
    return [(point, left[point]) for point in points(calm)]


def points(walk: Walk) -> list[str]:
    """Every point of every step that the undisturbed run came to, out and back.

    Between the end of a step and the intent of the next one of its way nothing is written: one of the two points stands for both.
    """
    run = walk.store.runs("dummy")[0]
    seen = list(dict.fromkeys((entry.way, entry.step) for entry in walk.store.entries(run.id)))
    first = {step for step, former in zip(seen, [("", ""), *seen], strict=False) if step[0] != former[0]}
    return [
        "%s:%s:%s" % (point, *step) for step in seen for point in journaled.POINTS if point != "before_intent" or step in first
    ]


def die_everywhere(folder: pathlib.Path, case: str, **more: t.Any) -> None:
    state = CASES[case][2]
    calm = make(folder / "calm", case, **more)
    todo = left_by_deaths(calm, folder, state)
    assert len(todo) > 3 * (len(journaled.POINTS) - 1), "three steps at least"
    for point, walk in todo:
        assert walk.playbook().state == state, point
        if state == "frozen" and point in ("after_intent:out:echo-api@ctl2/change", "after_act:out:echo-api@ctl2/change"):
            # Whether the act that was cut did anything nobody knows: here, and only here, the server stays out of traffic.
            assert walk.cloud.apps == calm.cloud.apps
            assert [server["admin"] for server in walk.cloud.balancers["lb1"].values()] == [0, 8]
            assert [server["admin"] for server in calm.cloud.balancers["lb1"].values()] == [0, 0]
            continue
        assert walk.cloud.state() == calm.cloud.state(), point
        # What changes something was done once: a step whose act was done before the death found it done.
        done = [act for act in walk.cloud.acts if not act.endswith("(fails)")]
        assert sorted(done) == sorted(set(done)), point
        assert set(done) == {act for act in calm.cloud.acts if not act.endswith("(fails)")}, point


@pytest.mark.parametrize("case", CASES)
def test_dying_anywhere_ends_where_the_undisturbed_run_ends(folder: pathlib.Path, case: str) -> None:
    die_everywhere(folder, case, hosts=2, balancers=1)


def test_dying_anywhere_with_two_components(folder: pathlib.Path) -> None:
    die_everywhere(folder, "upgrade", components=("echo-worker", "echo-api"), hosts=2, balancers=1)


def test_dying_twice_in_a_row(folder: pathlib.Path) -> None:
    case = "a test fails"
    calm = make(folder / "calm", case, hosts=2)
    calm.playbook()
    todo = points(calm)
    for number, pair in enumerate(zip(todo[::5], todo[7::5], strict=False)):
        walk = make(folder / str(number), case, hosts=2)
        for point in pair:
            with contextlib.suppress(DiedError):
                walk.playbook(die_at=point)
        walk.playbook()
        assert walk.store.runs("dummy")[-1].state == "rolled_back", pair
        assert walk.cloud.state() == calm.cloud.state(), pair


def test_batches_go_back_one_by_one(folder: pathlib.Path) -> None:
    walk = make(folder, "upgrade", batches=(1, 2))
    walk.cloud.fails = {"out:echo-api@ctl3/test": LifecycleError("no token", "probe.token")}
    assert walk.playbook().state == "rolled_back"
    assert {app["version"] for app in walk.cloud.apps.values()} == {"1.0"}
    back = walk.store.back(walk.store.runs("dummy")[0].id)
    assert back is not None
    assert [batch[-1] for batch in back.batches] == ["echo-api@ctl3", "echo-api@ctl2", "echo-api@ctl1"]
    assert {step.args["servers"][0] for step in back.steps if "servers" in step.args} == {"ctl1:5000", "ctl2:5000", "ctl3:5000"}


def test_a_rollback_that_cannot_drain_gives_the_traffic_back(folder: pathlib.Path) -> None:
    walk = make(folder, "rollback by record")
    walk.cloud.fails = {"out:echo#2@lb2/drain": LifecycleError("busy", "drain.sessions_left")}
    assert walk.playbook().state == "frozen"
    assert [app["version"] for app in walk.cloud.apps.values()] == ["0.9", "1.0", "1.0"]
    assert {server["admin"] for servers in walk.cloud.balancers.values() for server in servers.values()} == {0}


def test_a_rollback_that_is_not_proven_keeps_that_instance_out_of_traffic(folder: pathlib.Path) -> None:
    walk = make(folder, "a rollback's test fails")
    assert walk.playbook().state == "frozen"
    assert [app["version"] for app in walk.cloud.apps.values()] == ["0.9", "0.9", "1.0"]
    out = {(host, name) for host, servers in walk.cloud.balancers.items() for name, server in servers.items() if server["admin"]}
    assert out == {("lb1", "echo-api/ctl2"), ("lb2", "echo-api/ctl2")}


def test_what_is_not_proven_goes_back_even_when_the_others_are_too_few(folder: pathlib.Path) -> None:
    walk = make(folder, "a test fails")
    walk.playbook()
    back = walk.store.back(walk.store.runs("dummy")[0].id)
    assert back is not None
    floors = {step.target: step.args["min_available"] for step in back.steps if "servers" in step.args}
    assert floors == {"echo#3@lb1": 0, "echo#3@lb2": 0, "echo#2@lb1": 1, "echo#2@lb2": 1}

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service from nothing to nothing: deploy, upgrade, finalize, backup, remove; what is not allowed is refused with a sentence."""

from __future__ import annotations

from tests.walk.conftest import Worlds
from tests.walk.told import Told, calls, ended
from tests.walk.world import SECRET, World, kill_tree

MADE = ("files-echo-api.json", "app-echo-api.json")


def left(world: World) -> dict[str, object]:
    """What there is of the service, anywhere."""
    found: dict[str, object] = {}
    for host in world.apps:
        files = {name: world.hosts[host].read(name) for name in (*MADE, "database-echo.json")}
        found.update(
            {"%s %s" % (host, name): state for name, state in files.items() if state.get("release") or state.get("owner")}
        )
    for host in world.balancers:
        found.update({"%s %s" % (host, name): True for name in world.hosts[host].read("balancer.json")})
    return found


def untouched(world: World, result_out: str, before: object) -> None:
    assert calls(world) == before
    assert not [line for line in result_out.splitlines() if "changed=" in line and "changed=0" not in line]


def test_a_whole_life(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1, bare=True)
    world.want("2.0")
    told = ended(world, world.run("deploy"), 0, "succeeded")
    assert world.versions() == ["2.0", "2.0"]
    assert world.hosts["lb1"].read("balancer.json").keys() == {"echo/ctl1", "echo/ctl2"}
    kinds = list(dict.fromkeys(name.rpartition("/")[2] for name in told.begun("out")))
    assert kinds == ["fetch", "install", "init", "change", "test", "admit"]
    assert told.begun("out")[-1] == "echo#1@lb1/admit", "no request before both are proven"
    assert calls(world)["ctl1 data/expand"] == 1

    before = calls(world)
    again = world.run("deploy")
    ended(world, again, 0, "succeeded")
    untouched(world, again.out, before)

    world.want("3.0")
    told = ended(world, world.run("upgrade"), 0, "succeeded")
    assert told.kinds()["echo.database/confirm"] == "done", "a proven backup stands before the schema is moved"
    assert world.versions() == ["3.0", "3.0"]

    told = ended(world, world.run("backup"), 0, "succeeded")
    assert told.begun("out") == ["echo.database/confirm"]

    ended(world, world.run("finalize"), 0, "succeeded")
    assert world.hosts["ctl1"].read("schema-echo.json") == {"schema": "contracted"}
    before = calls(world)
    again = world.run("finalize")
    ended(world, again, 0, "succeeded")
    untouched(world, again.out, before)

    world.want("2.0")
    refused = world.run("rollback")
    assert refused.rc == 2
    assert "The only way back is a restore" in refused.out
    untouched(world, refused.out, before)

    world.want("3.0")
    told = ended(world, world.run("remove"), 0, "succeeded")
    assert left(world) == {"ctl1 database-echo.json": world.hosts["ctl1"].read("database-echo.json")}
    assert "the database echo stays on ctl1" in (world.folder / "out.txt").read_text(encoding="utf-8")
    kinds = list(dict.fromkeys(name.rpartition("/")[2] for name in told.begun("out")))
    assert kinds == ["drain", "confirm", "purge", "remove"]
    before = calls(world)
    again = world.run("remove")
    ended(world, again, 0, "succeeded")
    untouched(world, again.out, before)


def admins(world: World) -> set[int]:
    """The states of all servers, on all balancers."""
    return {server["admin"] for host in world.balancers for server in world.hosts[host].read("balancer.json").values()}


def test_the_way_back_past_finalize_is_a_restore(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1, bare=True)
    world.want("2.0")
    ended(world, world.run("deploy"), 0, "succeeded")
    world.want("3.0")
    ended(world, world.run("upgrade"), 0, "succeeded")
    world.hosts["ctl1"].write("contents-echo.json", {"rows": 1})
    ended(world, world.run("finalize"), 0, "succeeded")
    world.hosts["ctl1"].write("contents-echo.json", {"rows": 2})
    world.want("2.0")

    # What is lost is said before, and nothing happens without consent.
    before = calls(world)
    refused = world.run("rollback")
    assert refused.rc == 2
    assert (
        "its schema was finalized for 3.0, so the code of 2.0 can no longer use it. The only way back is a restore" in refused.out
    )
    assert "loses what was written since 2026-05-01T03:00:00Z (3600 s ago); rows more than then: project +3." in refused.out
    assert "It needs -e osops_consent=restore." in refused.out
    untouched(world, refused.out, before)
    for wrong, says in (
        ("latest", "osops_restore is 'latest', which is not the id of a backup"),
        ("never-made", "There is no proven backup never-made."),
    ):
        refused = world.run("rollback", "-e", "osops_consent=restore", "-e", "osops_restore=" + wrong)
        assert refused.rc == 2
        assert says in refused.out
        untouched(world, refused.out, before)

    # Before the database is touched, a failure costs nothing but time.
    world.hosts["ctl2"].behave("app/halted", {"fail": "It does not end."})
    ended(
        world,
        world.run("rollback", "-e", "osops_consent=restore"),
        2,
        "rolled_back",
        "echo-api@ctl2/halt failed: It does not end.",
    )
    assert world.versions() == ["3.0", "3.0"]
    assert admins(world) == {0}
    world.hosts["ctl1"].behave("backup/restored", {"fail": "A session is open."})
    refused = world.run("rollback", "-e", "osops_consent=restore")
    ended(world, refused, 2, "rolled_back", "echo.database/restore failed: A session is open.")
    assert world.versions() == ["3.0", "3.0"]
    assert admins(world) == {0}
    # Once it was begun, nothing that is not proven gets a request, and a person decides.
    world.hosts["ctl1"].behave("backup/restored", {"tear": "The disk is full."})
    cut = world.run("rollback", "-e", "osops_consent=restore")
    told = ended(world, cut, 2, "frozen", "The disk is full.")
    assert admins(world) == {8}
    assert "out of traffic: echo/ctl1 on lb1, echo/ctl2 on lb1" in cut.lines

    accept = "osops_accept_frozen=" + told.run.id
    told = ended(world, world.run("rollback", "-e", "osops_consent=restore", "-e", accept), 0, "succeeded")
    kinds = list(dict.fromkeys(name.rpartition("/")[2] for name in told.begun("out")))
    assert kinds == ["fetch", "drain", "confirm", "halt", "restore", "revert", "test", "admit"]
    assert world.versions() == ["2.0", "2.0"]
    assert world.hosts["ctl1"].read("contents-echo.json") == {"rows": 1}
    assert world.hosts["ctl1"].read("schema-echo.json") == {"schema": "new"}
    kept = world.hosts["ctl1"].read("backup-echo.json")
    assert {"rows": 2} in [backup["contents"] for backup in kept.values()], "what was lost is in a backup of its own"
    assert admins(world) == {0}

    # The way is open again: nothing to restore, forward as ever, and back by code alone.
    world.want("3.0")
    ended(world, world.run("upgrade"), 0, "succeeded")
    world.want("2.0")
    told = ended(world, world.run("rollback"), 0, "succeeded")
    assert not [name for name in told.begun("out") if name.endswith(("/halt", "/restore"))]


def test_configuration_changes_and_goes_back_with_its_release(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1, bare=True)

    def revisions() -> list[object]:
        return [world.hosts[name].read("files-echo-api.json")["revision"] for name in world.apps]

    world.want("2.0")
    ended(world, world.run("deploy"), 0, "succeeded")
    first = revisions()
    world.want("3.0", config={"settings": {"DEFAULT": {"debug": "true"}}})
    told = ended(world, world.run("upgrade"), 0, "succeeded")
    mine = [name.rpartition("/")[2] for name in told.begun("out") if "api@ctl2" in name]
    assert mine == ["fetch", "confirm", "halt", "install", "change", "test"]
    second = revisions()
    assert len({*first, *second}) == 2, "both have the new configuration, and it is another one"
    assert admins(world) == {0}

    # What turns out bad goes back as one: release and configuration, on the instance that was changed before, too.
    world.want("4.0", config={"settings": {"DEFAULT": {"debug": "false"}}})
    world.hosts["ctl2"].behave("probe/verify", {"fail": "It answers 500."})
    told = ended(world, world.run("upgrade"), 2, "rolled_back", "echo-api@ctl2/test failed: It answers 500.")
    mine = [name.rpartition("/")[2] for name in told.begun("back") if "api@ctl1" in name]
    assert mine == ["halt", "restore", "revert", "test"]
    assert (revisions(), world.versions()) == (second, ["3.0", "3.0"])
    assert admins(world) == {0}

    # By record it goes back, too; and where nothing of it changes, nothing is halted.
    world.want("2.0")
    told = ended(world, world.run("rollback"), 0, "succeeded")
    assert (revisions(), world.versions()) == (first, ["2.0", "2.0"])
    world.want("3.0")
    told = ended(world, world.run("upgrade"), 0, "succeeded")
    assert not [name for name in told.begun("out") if name.endswith("/halt")]


def test_an_outage_is_walked_by_a_play_of_its_own(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1, bare=True)
    world.want("2.0")
    ended(world, world.run("deploy"), 0, "succeeded")
    world.want("3.0", strategy="offline")
    stopped = world.run("upgrade")
    told = ended(world, stopped, 0, "succeeded")
    assert (
        "echo: outage of the whole service (strategy offline), from its drain until the first instance is proven" in stopped.out
    )
    kinds = list(dict.fromkeys(name.rpartition("/")[2] for name in told.begun("out")))
    assert kinds == ["fetch", "confirm", "drain", "halt", "init", "change", "test", "admit"]
    begun = told.begun("out")
    assert begun.index("echo.data/confirm") < min(begun.index("echo#2.%d@lb1/drain" % number) for number in (1, 2)), (
        "what can refuse is asked while all serve"
    )
    halts = [name for name in begun if name.endswith("/halt")]
    assert set(halts) == {"echo-api@ctl1/halt", "echo-api@ctl2/halt", "echo.answer@lb1/halt"}
    assert begun.index("echo.schema/init") > max(begun.index(name) for name in halts)
    assert world.versions() == ["3.0", "3.0"]
    assert admins(world) == {0}
    assert world.hosts["lb1"].read("place-echo.json") == {"there": True, "answer": None}

    # What is proven bad goes back by itself, as ever: the former release, and the balancer's own answer is gone.
    world.want("4.0", strategy="offline")
    world.hosts["ctl2"].behave("probe/verify", {"fail": "It answers 500."})
    ended(world, world.run("upgrade"), 2, "rolled_back", "echo-api@ctl2/test failed: It answers 500.")
    assert world.versions() == ["3.0", "3.0"]
    assert admins(world) == {0}
    assert world.hosts["lb1"].read("place-echo.json") == {"there": True, "answer": None}

    # Killed in the middle of it, the same command ends it.
    world.hosts["ctl1"].behave("data/expand", {"hold": True})
    process = world.start("upgrade")
    world.hosts["ctl1"].reached()
    assert world.hosts["lb1"].read("place-echo.json")["answer"] == {"status": 503, "retry_after": 30}
    kill_tree(process)
    world.hosts["ctl1"].release()
    ended(world, world.run("upgrade"), 0, "succeeded")
    assert world.versions() == ["4.0", "4.0"]
    assert admins(world) == {0}
    assert world.hosts["lb1"].read("place-echo.json") == {"there": True, "answer": None}


def test_a_service_in_operation_is_held_against_its_record(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1, bare=True)
    world.want("2.0")
    ended(world, world.run("deploy"), 0, "succeeded")
    world.want("3.0")
    ended(world, world.run("upgrade"), 0, "succeeded")
    before = calls(world)
    well = world.run("operational")
    ended(world, well, 0, "succeeded")
    assert "all is well: processes, versions, files, schema and balancers are as the record says" in well.out
    untouched(world, well.out, before)

    # Told, and nothing else: no policy says that it may be put right.
    app = world.hosts["ctl2"].read("app-echo-api.json")
    world.hosts["ctl2"].write("app-echo-api.json", {**app, "version": None, "running": False})
    told = world.run("operational")
    ended(world, told, 2, "succeeded")
    assert "DRIFT: echo-api@ctl2 does not run" in told.lines
    untouched(world, told.out, before)

    world.want("3.0", operational={"repair": ["process", "traffic"], "backup_every": 3600})
    mended = ended(world, world.run("operational"), 0, "succeeded")
    assert world.hosts["ctl2"].read("app-echo-api.json") == app
    assert admins(world) == {0}
    assert mended.begun("out")[-1] == "echo.database/confirm", "and the backup that was due"
    assert not [name for name in mended.begun("out") if "ctl1" in name]

    # What cannot be put right is taken back, and stays out of traffic.
    world.hosts["ctl2"].write("app-echo-api.json", {**app, "version": None, "running": False})
    world.hosts["ctl2"].behave("app/active", *[{"fail": "It does not start."}] * 2)
    ended(world, world.run("operational"), 2, "frozen", "echo-api@ctl2/repair failed: It does not start.")
    assert world.masks() == [0, 8]


def test_old_releases_go_and_what_cannot_go_is_said(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    for host in ("ctl1", "ctl2"):
        world.hosts[host].write("releases.json", dict.fromkeys(["0.7", "0.8", "0.9", "1.0"], True))
    world.want("1.0", operational={"keep_releases": 2})
    before = world.masks()
    world.hosts["ctl2"].behave("app/absent", {"fail": "A process still uses 0.7."})
    told = ended(world, world.run("clean"), 2, "aborted", "echo-api@ctl2/remove failed: A process still uses 0.7.")
    assert {name.rpartition("/")[2] for name in told.begun("out")} == {"remove"}
    assert not told.begun("back")
    assert [sorted(world.hosts[host].read("releases.json")) for host in ("ctl1", "ctl2")] == [
        ["0.9", "1.0"],
        ["0.7", "0.8", "0.9", "1.0"],
    ]
    cleaned = world.run("clean")
    ended(world, cleaned, 0, "succeeded")
    assert "echo-api@ctl2: 0.7, 0.8" in cleaned.out
    assert sorted(world.hosts["ctl2"].read("releases.json")) == ["0.9", "1.0"]
    assert (world.masks(), world.versions()) == (before, ["1.0", "1.0"])
    before_calls = calls(world)
    ended(world, world.run("clean"), 0, "succeeded")
    untouched(world, "", before_calls)


def test_what_is_unhealthy_is_removed_again_and_only_that(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1, bare=True)
    world.hosts["ctl2"].behave("probe/verify", {"fail": "It answers 500."})
    told = ended(world, world.run("deploy"), 2, "rolled_back", "echo-api@ctl2/test failed: It answers 500.")
    assert left(world) == {}
    assert "echo#1@lb1/admit" not in told.kinds(), "it never got a request"
    assert calls(world)["lb1 place/present"] == 0
    assert calls(world)["ctl1 database/absent"] == 1

    # Mended, the same command makes it; and a database that was there before is not this run's to take away.
    ended(world, world.run("deploy"), 0, "succeeded")
    world.hosts["ctl2"].write("files-echo-api.json", {})
    world.hosts["ctl2"].write("app-echo-api.json", {})
    world.hosts["ctl2"].behave("app/active", {"fail": "It does not start."})
    told = ended(world, world.run("deploy"), 2, "rolled_back", "echo-api@ctl2/change failed: It does not start.")
    assert world.hosts["ctl1"].read("database-echo.json")["database"]
    assert world.hosts["ctl1"].read("app-echo-api.json")["running"], "the instance that served goes on serving"
    assert "echo.database/purge" not in told.kinds("back")


def test_removal_with_its_data_needs_consent(worlds: Worlds) -> None:
    world = worlds(apps=1, balancers=1, bare=True)
    ended(world, world.run("deploy"), 0, "succeeded")
    strange = world.run("remove", "-e", "osops_consent=purge_everything")
    assert "osops_consent names purge_everything. Known are: data_restored, no_soak, purge_data, restore." in strange.out
    ended(world, world.run("remove", "-e", "osops_consent=purge_data"), 0, "succeeded")
    assert left(world) == {}
    assert world.hosts["ctl1"].read("backup-echo.json"), "the last backup stays"


def test_edges_that_are_not_open(worlds: Worlds) -> None:
    world = worlds(apps=1, balancers=1, bare=True)
    before = calls(world)
    for verb in ("upgrade", "rollback", "finalize", "backup"):
        refused = world.run(verb)
        assert refused.rc == 2
        assert (
            "it stands in planning (nothing of it is installed), and %s begins in operational; use the playbook deploy." % verb
            in refused.out
        )
    ended(world, world.run("deploy"), 0, "succeeded")
    world.want("9.0")
    refused = world.run("deploy")
    assert refused.rc == 2
    assert "echo-api@ctl1 runs 2.0, and the record wants 9.0: deploy only adds what is missing" in refused.out
    finalize = world.run("finalize")
    assert "echo-api@ctl1: it is 2.0, and the record wants 9.0. Old code cannot live on a finalized schema" in finalize.out
    assert before == {}
    assert SECRET not in (world.folder / "out.txt").read_text(encoding="utf-8")


def test_soak_time_and_hold(worlds: Worlds) -> None:
    world = worlds(apps=1, balancers=0, bare=True)
    ended(world, world.run("deploy"), 0, "succeeded")
    world.want("2.0", soak=3600)
    early = world.run("finalize")
    assert "2.0 has not served long enough" in early.out
    ended(world, world.run("finalize", "-e", "osops_consent=no_soak"), 0, "succeeded")
    world.want("3.0", hold="waits for the fix of a customer's client")
    before = calls(world)
    held = world.run("upgrade")
    ended(world, held, 0, "succeeded")
    assert "echo is held: waits for the fix of a customer's client; it stays as it is" in held.out
    untouched(world, held.out, before)


def test_what_somebody_else_made_is_not_removed(worlds: Worlds) -> None:
    world = worlds(apps=1, balancers=1)
    refused = world.run("remove")
    assert refused.rc == 2
    assert "echo-api@ctl1 was not made by this collection, which takes away only what it made." in refused.out
    assert world.versions() == ["1.0"]
    assert calls(world) == {}


def test_a_deployment_that_was_killed_is_taken_back_by_remove(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1, bare=True)
    killed = world.run("deploy", OSOPS_TEST_DIE_AT="after_act:out:echo-api@ctl1/change")
    assert killed.rc != 0
    result = world.run("remove")
    assert (result.rc, Told(world).run.state) == (0, "rolled_back"), result.out[-3000:]
    assert left(world) == {}

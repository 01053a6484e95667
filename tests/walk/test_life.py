# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service from nothing to nothing: deploy, upgrade, finalize, backup, remove; what is not allowed is refused with a sentence."""

from __future__ import annotations

from tests.walk.conftest import Worlds
from tests.walk.told import Told, calls, ended
from tests.walk.world import SECRET, World

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
    assert "osops_consent names purge_everything. Known are: no_soak, purge_data." in strange.out
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

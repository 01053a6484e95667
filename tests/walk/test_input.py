# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input: each ends before anything changed, with one clear sentence; and secrets that never show."""

from __future__ import annotations

import contextlib
import pathlib
import typing as t

import pytest
import yaml

from tests.walk.conftest import Worlds
from tests.walk.told import ended, refused
from tests.walk.world import SECRET, Host, World


def unknown_key(record: dict[str, t.Any]) -> None:
    record["services"]["echo"]["components"]["echo-api"]["prot"] = 5000


def wrong_type(record: dict[str, t.Any]) -> None:
    record["services"]["echo"]["batches"] = [0]


def unknown_artifact_driver(record: dict[str, t.Any]) -> None:
    record["services"]["echo"]["release"]["driver"] = "osops_test.dummy.nonesuch"


def unknown_traffic_driver(record: dict[str, t.Any]) -> None:
    record["services"]["echo"]["traffic"]["driver"] = "nowhere.at.all"


def unknown_group(record: dict[str, t.Any]) -> None:
    record["services"]["echo"]["components"]["echo-api"]["hosts"] = "controllers"


def unknown_component(record: dict[str, t.Any]) -> None:
    record["services"]["echo"]["components"]["echo-batch"] = {"hosts": "apps"}


def missing_secret(record: dict[str, t.Any]) -> None:
    record["services"]["echo"]["probe"]["secrets"] = {"password": "nobodys_password"}


def no_server_of_ours(record: dict[str, t.Any]) -> None:
    record["services"]["echo"]["components"]["echo-api"]["port"] = 5001


BROKEN: dict[t.Callable[[dict[str, t.Any]], None], str] = {
    unknown_key: "at services.echo.components.echo-api: Additional properties are not allowed ('prot' was unexpected)",
    wrong_type: "at services.echo.batches.0: 0 is less than the minimum of 1",
    unknown_artifact_driver: "The driver osops_test.dummy.nonesuch cannot be run: The module osops_test.dummy.nonesuch was not found",
    unknown_traffic_driver: "The driver nowhere.at.all cannot be run: The module nowhere.at.all was not found",
    unknown_group: "at services.echo.components.echo-api.hosts: the inventory has no group controllers.",
    unknown_component: "echo: the recipe does not know the component echo-batch.",
    missing_secret: "The variable nobodys_password, which holds the secret password, is not set for ctl1.",
    no_server_of_ours: "lb1: no server of it has the address of ctl1.",
}


@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.__name__)
def test_bad_record(worlds: Worlds, breaks: t.Callable[[dict[str, t.Any]], None]) -> None:
    world = worlds(apps=2, balancers=1)
    breaks(world.record)
    world.put("cloud.yml", world.record)
    refused(world, world.run("upgrade"), BROKEN[breaks])
    assert (world.versions(), world.masks()) == (["1.0", "1.0"], [0, 0])


def test_unknown_service_and_missing_record(worlds: Worlds) -> None:
    world = worlds(apps=1, balancers=0)
    refused(world, world.run("upgrade", "-e", "osops_services=nova"), "has no service nova. It has: echo.")
    refused(
        world,
        world.run("upgrade", "-e", "osops_record=/nonexistent/cloud.yml"),
        "There is no record at /nonexistent/cloud.yml. Name it, or create it there.",
    )
    refused(
        world, world.run("upgrade", "-e", "osops_limit=ctl9"), "osops_limit names ctl9, which is no instance of these services."
    )
    (world.folder / "cloud.yml").write_text("cloud: dummy\nservices:\n  echo: [\n", encoding="utf-8")
    refused(world, world.run("upgrade"), "is not YAML: line ")


def test_only_one_healthy_server(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    servers = world.hosts["lb1"].read("balancer.json")
    servers["echo-api/ctl2"]["health"] = "down"
    world.hosts["lb1"].write("balancer.json", servers)
    refused(
        world,
        world.run("upgrade"),
        "lb1: with ctl1 out of traffic, the backend echo-api would have 0 healthy servers, the floor is 1.",
        "Repair the others",
    )
    assert world.masks() == [0, 0]


def test_a_limit_of_our_own_changes_those_hosts_only(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    ended(world, world.run("upgrade", "-e", "osops_limit=ctl2"), 0, "succeeded")
    assert (world.versions(), world.masks()) == (["1.0", "2.0"], [0, 0])
    assert world.hosts["ctl1"].calls == []


def test_secrets_never_show(worlds: Worlds) -> None:
    """Not in the output at -vvv, in no file of the control node or the hosts, in no command line, when it works and when it fails."""
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl1"].behave("probe/baseline", {"hold": True})
    world.hosts["ctl2"].behave("probe/verify", {"fail": "Wrong password."})
    begin = world.written()
    process = world.start("upgrade", "-vvv", "--diff")
    world.hosts["ctl1"].reached()
    assert holding(world.hosts["ctl1"]), "the probe that has the secret runs now"
    lines = processes()
    assert any(b"ansible-playbook" in line for line in lines)
    assert [line for line in lines if SECRET.encode() in line] == []
    world.hosts["ctl1"].release()
    result = world.finish(process, begin)
    ended(world, result, 2, "rolled_back", "echo-api@ctl2/test failed: Wrong password.")
    inventory = world.folder / "inventory.yml"
    assert SECRET in inventory.read_text(encoding="utf-8")
    files = [path for path in world.folder.rglob("*") if path.is_file() and path != inventory]
    assert {"out.txt", "store.db", "calls.log"} <= {path.name for path in files}
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def processes() -> list[bytes]:
    """Command line and environment of every process that is ours to read; some end while they are read."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found.append((folder / "cmdline").read_bytes() + b" " + (folder / "environ").read_bytes())
    return found


def holding(host: Host) -> bool:
    """Whether the probe waits here to be let go."""
    return not (host.root / "released").exists() and host.read("behave.json")["probe/baseline"] == []


def test_secret_of_the_wrong_value_shows_neither(worlds: Worlds) -> None:
    world: World = worlds(apps=2, balancers=1)
    path = world.folder / "inventory.yml"
    inventory = yaml.safe_load(path.read_text(encoding="utf-8"))
    inventory["all"]["vars"].update(echo_password="another-secret-in-no-log")  # noqa: S106
    world.put("inventory.yml", inventory)
    result = world.run("upgrade", "-vvv")
    ended(world, result, 2, "rolled_back", "echo-api@ctl1/confirm failed: The secret did not arrive.")
    assert "another-secret-in-no-log" not in result.out
    assert (world.versions(), world.masks()) == (["1.0", "1.0"], [0, 0])

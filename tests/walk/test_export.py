# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook export over real ssh: what it asks, what it refuses, and that it writes nothing but what it was told to."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import typing as t

import pytest
import yaml

from tests.integration.haproxy.lab import HAPROXY, Lab
from tests.ports import free_port
from tests.walk.conftest import Worlds
from tests.walk.world import Result, World

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the processes of others are looked at, which needs root")
# Tests run side by side on one machine, and each sees the processes of the others.
PACKAGE = "osops-walked-%d" % os.getpid()
SERVER = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print('up', flush=True); time.sleep(300)"


@pytest.fixture
def port(tmp_path: pathlib.Path) -> t.Iterator[int]:
    """The port of a real process from a real environment that holds the package; no unit has started it."""
    home = tmp_path / PACKAGE
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    told = next(home.glob("lib/python3*/site-packages")) / ("%s-1.2.3.dist-info" % PACKAGE.replace("-", "_"))
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: %s\nVersion: 1.2.3\n\n" % PACKAGE)
    time.sleep(1.1)
    number = free_port()
    process = subprocess.Popen([str(home / "bin" / "python"), "-c", SERVER, str(number)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    yield number
    process.kill()
    process.communicate()


def known(world: World, port: int) -> World:
    """The recipe of a world's service says how it is known, and its first host has the address at which the process listens."""
    path = world.folder / "recipes" / "echo.yml"
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe["discover"] = {"echo-api": {"package": PACKAGE, "ports": [port], "words": [PACKAGE]}}
    world.put("recipes/echo.yml", recipe)
    return world


def export(world: World, *more: str, **given: t.Any) -> Result:
    said = {"osops_cloud": "blue", "osops_services": "echo", "osops_export_hosts": "apps", **given}
    return world.run("export", "-e", json.dumps(said), *more)


def files(world: World) -> dict[str, bytes]:
    """All that lies in a world but for what an ansible-playbook always writes."""
    left_out = ("out.txt", "home/", "known_hosts")
    found = {str(path.relative_to(world.folder)): path for path in world.folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(left_out)}


def shown(result: Result) -> list[str]:
    """The draft as it was shown."""
    text = re.search(r'"osops_export\.lines": (\[\n.*?\n    \])', result.out, re.DOTALL)
    assert text is not None, result.out[-6000:]
    return t.cast("list[str]", json.loads(text[1]))


def test_what_runs_is_told_and_nothing_is_written(worlds: Worlds, port: int) -> None:
    world = known(worlds(apps=1, balancers=0), port)
    before = files(world)
    result = export(world)
    assert result.rc == 0, result.out[-6000:]
    lines = shown(result)
    assert "#   echo-api@ctl1: 1.2.3 in " in "\n".join(lines)
    assert "127.0.0.1:%d" % port in "\n".join(lines)
    (note,) = [line for line in lines if "no driver of this collection can change that yet" in line]
    assert "echo-api@ctl1: it runs 1.2.3 and no systemd unit has started it" in note
    assert lines[-1] == "# There is nothing that can be drafted."
    assert files(world) == before
    target = world.folder / "draft.yml"
    result = export(world, osops_export_to=str(target))
    assert result.rc == 2
    assert "Nothing was found that can be drafted." in result.out
    assert not target.exists()


def test_a_host_that_is_silent_is_named_and_fails_the_playbook(worlds: Worlds, port: int) -> None:
    world = known(worlds(apps=2, balancers=1), port)
    world.hosts["ctl2"].stop()
    target = world.folder / "draft.yml"
    result = export(
        world, osops_export_to=str(target), osops_export_balancers="lbs", osops_export_socket="/nonexistent/admin.sock"
    )
    assert result.rc == 2
    said = "\n".join(shown(result))
    assert re.search(r"# Not complete:\n#   ctl2: The host cannot be reached: .*\n#   lb1: .*/nonexistent/admin.sock", said), said
    assert "#   echo-api@ctl1: 1.2.3 in " in said, "what was seen is shown all the same"
    assert "The draft is not complete: ctl2: The host cannot be reached" in " ".join(result.out.split())
    assert not target.exists()


def test_a_real_balancer_is_understood(worlds: Worlds, port: int) -> None:
    """The answer of an info module has no verdict of its own."""
    if HAPROXY is None:
        pytest.skip("haproxy is not on this machine")
    # A short path: a socket's has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="osops-") as folder:
        lab = Lab(pathlib.Path(folder))
        try:
            lab.config()
            lab.start()
            world = known(worlds(apps=1, balancers=1), port)
            result = export(world, osops_export_balancers="lbs", osops_export_socket=lab.admin)
        finally:
            lab.stop()
    assert result.rc == 0, result.out[-6000:]
    assert "# Not complete:" not in shown(result)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"osops_services": "nonesuch"},
            "There is no recipe for the service nonesuch. Known are: echo, keystone, memcached, placement.",
        ),
        (
            {"osops_export_hosts": "nobody"},
            "osops_export_hosts names nobody, which is neither a group nor a host of the inventory.",
        ),
        ({"osops_cloud": ""}, "osops_cloud is not set."),
        ({"osops_export_to": __file__}, "which exists. A record is a person's work and is never overwritten: name another file."),
    ],
)
def test_bad_input_ends_before_any_host_is_asked(worlds: Worlds, given: dict[str, str], says: str) -> None:
    world = known(worlds(apps=1, balancers=0), 1)
    result = export(world, **given)
    assert result.rc == 2
    assert says in " ".join(result.out.split()), result.out[-6000:]
    assert "TASK [Look]" not in result.out


def test_a_service_whose_recipe_does_not_say_how_it_is_known(worlds: Worlds) -> None:
    result = export(worlds(apps=1, balancers=0))
    assert result.rc == 2
    assert "The recipe of echo does not say how it is known where somebody else deployed it." in " ".join(result.out.split())


def test_switches_that_would_leave_out_hosts_are_refused(worlds: Worlds) -> None:
    world = known(worlds(apps=2, balancers=0), 1)
    result = export(world, "--limit", "ctl1")
    assert result.rc == 2
    assert "--limit cannot be used with the playbooks of this collection" in result.out

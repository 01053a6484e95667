# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A check in real runs, with ansible-playbook and ssh: refused, passed, and failed. Only the service and its balancer are dummies."""

from __future__ import annotations

import http.server
import json
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store
from tests.walk.told import Told, ended, refused
from tests.walk.world import SECRET, Host, World


class Reached(World):
    """A world whose instances really listen: what the record says of them is where their host is."""

    def _host(self, name: str, number: int) -> Host:
        made = super()._host(name, number)
        made.address = made.ssh
        return made


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.skip("sshd and the fence of a host need root")
    cloud = "test-%s" % uuid.uuid4()
    made = Reached(tmp_path / "cloud", apps=2, balancers=1, cloud=cloud)
    servers = [http.server.ThreadingHTTPServer((made.hosts[name].address, 5000), Handler) for name in made.apps]
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield made
    made.close()
    for server in servers:
        server.shutdown()
        server.server_close()
    for path in Path("/var/lib/osops/fence").glob(cloud + "*"):
        path.unlink()


def install(world: World, *more: str) -> None:
    """The consumer's program: it notes whom it was asked about, and what the balancer had at that moment."""
    lines = [
        "#!/bin/sh",
        "echo \"$OSOPS_ENDPOINT $OSOPS_SERVICE/$OSOPS_COMPONENT $OSOPS_HOST $OSOPS_VERSION $(tr -d '\\n' < %s)\" >> %s"
        % (world.hosts["lb1"].root / "balancer.json", world.folder / "asked.log"),
        'test "$BILLING_PASSWORD" = %s || exit 9' % SECRET,
        *more,
    ]
    path = world.folder / "check"
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    path.chmod(0o755)


def asked(world: World) -> list[tuple[str, str, list[str]]]:
    """Host, version, and the servers that had traffic then, for each time that the program ran."""
    found = []
    for line in (world.folder / "asked.log").read_text(encoding="utf-8").splitlines():
        endpoint, what, host, version, balancer = line.split(" ", 4)
        assert (endpoint, what) == ("http://%s:5000" % world.hosts[host].address, "echo/echo-api")
        serving = [name for name, server in json.loads(balancer).items() if not server["admin"]]
        found.append((host, version, serving))
    return found


def test_a_consumer_has_a_say(world: World) -> None:
    check = {
        "name": "billing", "host": "lb1", "command": [str(world.folder / "check")], "user": "root", "timeout": 20,
        "secrets": {"BILLING_PASSWORD": "echo_password"},
    }  # fmt: skip
    world.want("2.0", checks=[check])
    why = "check/echo.billing: The check billing cannot be run on this host: %s/check: No such file or directory." % world.folder
    refused(world, world.run("upgrade"), why)

    install(world)
    result = world.run("upgrade", "-vvv", "--diff")
    ended(world, result, 0, "succeeded")
    assert asked(world) == [("ctl1", "2.0", ["echo-api/ctl2"]), ("ctl2", "2.0", ["echo-api/ctl1"])], (
        "each while it was out of traffic"
    )
    assert "check billing: passed for echo-api@ctl1, echo-api@ctl2" in result.lines
    assert (world.versions(), world.masks()) == (["2.0", "2.0"], [0, 0])

    (world.folder / "asked.log").unlink()
    install(world, 'test "$OSOPS_VERSION" != 3.0 || { echo "no such tenant, $BILLING_PASSWORD" >&2; exit 3; }')
    world.want("3.0", checks=[check])
    result = world.run("upgrade", "-vvv", "--diff")
    reason = "echo-api@ctl1.billing/test failed: The check billing of echo-api@ctl1 failed: exit code 3: no such tenant, ***."
    told = ended(world, result, 2, "rolled_back", reason)
    assert asked(world) == [("ctl1", "3.0", ["echo-api/ctl2"]), ("ctl1", "2.0", ["echo-api/ctl2"])]
    assert {
        "check billing: FAILED (check.failed) for echo-api@ctl1",
        "check billing on the way back: passed for echo-api@ctl1",
    } <= set(result.lines)
    (failed,) = [entry for entry in told.entries if entry.kind == "failed"]
    assert failed.verdict["evidence"]["stderr"] == "no such tenant, ***\n"
    assert failed.verdict["evidence"]["rc"] == 3
    assert (world.versions(), world.masks()) == (["2.0", "2.0"], [0, 0])
    assert len(Store(world.store).runs(world.cloud)) == 2
    assert told.unexplained() == []
    assert Told(world, 1).unexplained() == []

    written = [world.folder / "out.txt", *world.folder.glob("store.db*")]
    assert len(written) >= 2
    assert [path.name for path in written if SECRET.encode() in path.read_bytes()] == []

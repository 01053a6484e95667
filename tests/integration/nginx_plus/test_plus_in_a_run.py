# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver in real runs, with ansible-playbook and ssh, and in the playbook of its page. Only the service is a dummy."""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
import typing as t
import uuid
from pathlib import Path

import pytest
import yaml

from tests.integration.nginx_plus.fake import FakePlus, FakeServer, basic
from tests.integration.nginx_plus.lab import Backend, until
from tests.ports import free_port
from tests.walk.told import ended, refused
from tests.walk.world import SECRET, Host, World, kill_tree

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sshd and the fence of a host need root")


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

    def log_message(self, format: str, *args: t.Any) -> None:
        pass


@pytest.fixture
def plus() -> t.Iterator[FakePlus]:
    made = FakePlus()
    made.credentials = basic("osops", SECRET)
    yield made
    made.stop()
    assert made.breaches == []


@pytest.fixture
def world(tmp_path: Path, plus: FakePlus) -> t.Iterator[World]:
    cloud = "test-%s" % uuid.uuid4()
    made = Reached(tmp_path / "cloud", apps=2, balancers=1, cloud=cloud)
    servers = [http.server.ThreadingHTTPServer((made.hosts[name].address, 5000), Handler) for name in made.apps]
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    plus.add("http", "echo", *(FakeServer("%s:5000" % made.hosts[name].address, weight=3) for name in made.apps))
    yield made
    made.close()
    for server in servers:
        server.shutdown()
        server.server_close()
    for path in Path("/var/lib/osops/fence").glob(cloud + "*"):
        path.unlink()


def want(world: World, plus: FakePlus, version: str, **options: t.Any) -> None:
    world.want(version)
    world.record["services"]["echo"]["traffic"] = {
        "driver": "osops.lifecycle.nginx_plus_server",
        "hosts": "lbs",
        "backends": ["echo"],
        "options": {"url": plus.url, "username": "osops", "secrets": {"password": {"secret": "echo_password"}}, **options},
    }
    world.put("cloud.yml", world.record)


def sent(plus: FakePlus) -> list[tuple[str, t.Any]]:
    """What was set: number of the server and the fields."""
    return [(path.rpartition("/")[2], body) for method, path, body, _headers in plus.log if method == "PATCH"]


def nowhere(world: World) -> None:
    """The password is in no output and no journal."""
    written = [world.folder / "out.txt", *world.folder.glob("store.db*")]
    assert len(written) >= 2
    assert [path.name for path in written if SECRET.encode() in path.read_bytes()] == []


def test_an_upgrade_takes_each_instance_out_and_puts_it_back(world: World, plus: FakePlus) -> None:
    want(world, plus, "2.0")
    result = world.run("upgrade", "-vvv", "--diff")
    ended(world, result, 0, "succeeded")
    assert world.versions() == ["2.0", "2.0"]
    assert sent(plus) == [("0", {"drain": True}), ("0", {"drain": False}), ("1", {"drain": True}), ("1", {"drain": False})]
    assert [(server.drain, server.weight) for server in plus.upstreams["http"]["echo"].servers] == [(False, 3), (False, 3)]
    nowhere(world)


def test_below_the_floor_no_run_is_made(world: World, plus: FakePlus) -> None:
    want(world, plus, "2.0")
    (_one, other) = plus.upstreams["http"]["echo"].servers
    other.passed = False
    result = world.run("upgrade")
    refused(world, result, "the backend echo would have 0 healthy servers, the floor is 1")
    assert sent(plus) == []
    other.passed = True
    plus.credentials = basic("osops", "another")
    refused(world, world.run("upgrade"), "NGINX Plus asks for other credentials than it was given.")
    assert sent(plus) == []
    nowhere(world)


def test_sessions_that_do_not_end_send_the_run_back(world: World, plus: FakePlus) -> None:
    want(world, plus, "2.0", deadline=3)
    plus.upstreams["http"]["echo"].servers[0].active = 1
    result = world.run("upgrade")
    ended(world, result, 2, "rolled_back", "has 1 session")
    assert world.versions() == ["1.0", "1.0"]
    assert [(server.drain, server.weight) for server in plus.upstreams["http"]["echo"].servers] == [(False, 3), (False, 3)]
    assert "has 1 session" in (world.folder / "out.txt").read_text()
    nowhere(world)


def test_a_playbook_that_is_killed_in_a_drain_goes_on_where_it_stood(world: World, plus: FakePlus) -> None:
    """And a reload forgets the drain while nobody is there."""
    want(world, plus, "2.0")
    (one, _other) = plus.upstreams["http"]["echo"].servers
    one.active = 1
    process = world.start("upgrade")
    until(lambda: one.drain, 120, "the first instance is drained")
    kill_tree(process)
    with plus.lock:
        plus.reload()
    result = world.run("upgrade")
    ended(world, result, 0, "succeeded")
    assert world.versions() == ["2.0", "2.0"]
    assert [(server.drain, server.weight) for server in plus.upstreams["http"]["echo"].servers] == [(False, 3), (False, 3)]


def test_the_documented_playbook(tmp_path: Path, repository: Path) -> None:
    """As it stands in docs/nginx_plus.md, on two balancers and two nodes: it runs through, and a session on the second stops it."""
    port = free_port()
    nodes = {name: Backend("127.0.3.%d" % number, port) for number, name in ((1, "ctl1"), (2, "ctl2"))}
    balancers = [FakePlus(), FakePlus()]
    for plus in balancers:
        plus.add("http", "keystone", *(FakeServer(node.address, weight=5) for node in nodes.values()))
    found = re.search(r"```yaml\n(- name: Restart one node.*?)```", (repository / "docs" / "nginx_plus.md").read_text(), re.S)
    assert found
    (book,) = yaml.safe_load(found.group(1).replace(":5000", ":%d" % port))
    block, scope = book["tasks"][0], "documented-%s" % uuid.uuid4()
    for task, host in ((block["block"][0], "item"), (block["always"][0], "item.item")):
        task["osops.lifecycle.nginx_plus_server"].update(url="{{ hostvars[%s].api }}" % host, deadline=6, scope=scope)
    block["block"][1].pop("ansible.builtin.service")
    block["block"][1]["ansible.builtin.command"] = "touch {{ restarted }}"
    book["gather_facts"] = False
    inventory = {
        "all": {
            "vars": {
                "ansible_connection": "local",
                "ansible_python_interpreter": "/usr/bin/python3",
                "restarted": str(tmp_path / "done"),
            },
            "children": {
                "keystone": {"hosts": {name: {"ansible_host": node.host} for name, node in nodes.items()}},
                "loadbalancers": {"hosts": {"lb%d" % number: {"api": plus.url} for number, plus in enumerate(balancers)}},
            },
        }
    }
    (tmp_path / "inventory.json").write_text(json.dumps(inventory))
    (tmp_path / "book.yml").write_text(json.dumps([book]))
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [program, "-i", str(tmp_path / "inventory.json"), str(tmp_path / "book.yml")]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)

    try:
        done = run()
        assert done.returncode == 0, done.stdout
        assert done.stdout.count("changed: [ctl1 -> lb") == 4  # out and in, on two balancers
        (tmp_path / "done").unlink()
        balancers[1].upstreams["http"]["keystone"].servers[0].active = 1
        done = run()
        assert done.returncode != 0
        assert "has 1 session" in done.stdout
        assert not (tmp_path / "done").exists()
        assert "ctl2" not in done.stdout  # the next node was not begun
    finally:
        Path("/var/lib/osops/fence", scope).unlink(missing_ok=True)
        for plus in balancers:
            plus.stop()
    for plus in balancers:
        assert [(server.drain, server.weight) for server in plus.upstreams["http"]["keystone"].servers] == [
            (False, 5),
            (False, 5),
        ]
        assert plus.breaches == []

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook of docs/haproxy.md, as it stands there, on two balancers and two nodes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import typing as t
import uuid
from pathlib import Path

import pytest
import yaml

from tests.integration.haproxy.lab import Lab, Web
from tests.ports import free_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the fence lies below /var/lib/osops, which needs root")


@pytest.fixture
def balancers(make_lab: t.Callable[..., Lab]) -> list[Lab]:
    """Two balancers in front of the same two nodes, which differ by address and not by port."""
    port = free_port()
    nodes = {name: Web(name, port, "127.0.3.%d" % number) for number, name in ((1, "ctl1"), (2, "ctl2"))}
    labs = [make_lab(()) for _ in range(2)]
    for lab in labs:
        lab.config("".join("  server %s %s\n" % (web.name, web.address) for web in nodes.values()))
        lab.web = dict(nodes)
        lab.start()
    return labs


def run(labs: list[Lab], folder: Path, repository: Path, act: str) -> subprocess.CompletedProcess[str]:
    """Play the documented playbook; only what a test must set is set: sockets, the port, a short deadline, what the act is."""
    text = (repository / "docs" / "haproxy.md").read_text()
    found = re.search(r"```yaml\n(- name: Restart one node.*?)```", text, re.S)
    assert found
    (book,) = yaml.safe_load(found.group(1).replace(":5000", ":%d" % labs[0].web["ctl1"].port))
    block, scope = book["tasks"][0], "documented-%s" % uuid.uuid4()
    drain, act_task, ready = block["block"][0], block["block"][1], block["always"][0]
    for task, host in ((drain, "item"), (ready, "item.item")):
        task["osops.lifecycle.haproxy_server"].update(socket="{{ hostvars[%s].socket }}" % host, deadline=6, scope=scope)
    act_task.pop("ansible.builtin.service")
    act_task["ansible.builtin.command"] = act
    book["gather_facts"] = False
    local = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
    inventory = {
        "all": {
            "vars": local,
            "children": {
                "keystone": {"hosts": {name: {"ansible_host": web.address.split(":")[0]} for name, web in labs[0].web.items()}},
                "loadbalancers": {"hosts": {"lb%d" % number: {"socket": lab.admin} for number, lab in enumerate(labs)}},
            },
        }
    }
    (folder / "inventory.json").write_text(json.dumps(inventory))
    (folder / "book.yml").write_text(json.dumps([book]))
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        str(folder / "inventory.json"),
        str(folder / "book.yml"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=240, env={**os.environ, "ANSIBLE_PIPELINING": "1"}
    )
    Path("/var/lib/osops/fence", scope).unlink(missing_ok=True)
    return done


def masks(labs: list[Lab]) -> list[int]:
    return [lab.mask("be/" + name) for lab in labs for name in ("ctl1", "ctl2")]


def test_it_runs_through(balancers: list[Lab], folder: Path, repository: Path) -> None:
    balancers[1].raw("set server be/ctl2 weight 5")
    done = run(balancers, folder, repository, "true")
    assert done.returncode == 0, done.stdout
    assert masks(balancers) == [0, 0, 0, 0]
    assert balancers[1].weight("be/ctl2") == 5
    assert done.stdout.count("changed: [ctl1 -> lb") == 4  # out and in, on two balancers


def test_a_tunnel_on_the_second_balancer_stops_it_and_the_first_one_is_put_back(
    balancers: list[Lab], folder: Path, repository: Path
) -> None:
    tunnel = balancers[1].websocket_on("ctl1")
    done = run(balancers, folder, repository, "touch %s" % (folder / "restarted"))
    assert done.returncode != 0
    assert "1 tunnel" in done.stdout
    assert not (folder / "restarted").exists()
    assert masks(balancers) == [0, 0, 0, 0]
    assert tunnel.echoes()
    assert "ctl2" not in done.stdout  # the next node was not begun

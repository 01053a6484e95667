# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook of docs/nginx.md, as it stands there, on two balancers and two nodes."""

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

from tests.integration.haproxy.lab import Web
from tests.integration.nginx.lab import NGINX, Lab
from tests.ports import free_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the fence lies below /var/lib/osops, which needs root")


@pytest.fixture
def balancers(make_lab: t.Callable[..., Lab]) -> list[Lab]:
    """Two balancers in front of the same two nodes, which differ by address and not by port."""
    port = free_port()
    nodes = {name: Web(name, port, "127.0.4.%d" % number) for number, name in ((1, "ctl1"), (2, "ctl2"))}
    labs = [make_lab(()) for _ in range(2)]
    for lab in labs:
        lab.web = dict(nodes)
        lab.write()
        lab.start()
    return labs


def run(labs: list[Lab], folder: Path, repository: Path, act: str) -> subprocess.CompletedProcess[str]:
    """Play the documented playbook; only what a test must set is set: configurations, the port, a short deadline, what the act is."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.files import Notes

    text = (repository / "docs" / "nginx.md").read_text()
    found = re.search(r"```yaml\n(- name: Restart one node.*?)```", text, re.S)
    assert found
    (book,) = yaml.safe_load(found.group(1).replace(":5000", ":%d" % labs[0].web["ctl1"].port))
    block, scope = book["tasks"][0], "documented-%s" % uuid.uuid4()
    drain, act_task, ready = block["block"][0], block["block"][1], block["always"][0]
    for task, host in ((drain, "item"), (ready, "item.item")):
        task["osops.lifecycle.nginx_upstream"].update(
            config="{{ hostvars[%s].config }}" % host, program=NGINX, deadline=6, scope=scope
        )
    act_task.pop("ansible.builtin.service")
    act_task["ansible.builtin.command"] = act
    book["gather_facts"] = False
    local = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
    inventory = {
        "all": {
            "vars": local,
            "children": {
                "keystone": {"hosts": {name: {"ansible_host": web.address.split(":")[0]} for name, web in labs[0].web.items()}},
                "loadbalancers": {"hosts": {"lb%d" % number: {"config": str(lab.config)} for number, lab in enumerate(labs)}},
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
    for lab in labs:
        for ending in (".json", ".lock"):
            Path(Notes(str(lab.config)).path).with_suffix(ending).unlink(missing_ok=True)
    return done


def test_it_runs_through(balancers: list[Lab], folder: Path, repository: Path) -> None:
    texts = [lab.be() for lab in balancers]
    done = run(balancers, folder, repository, "true")
    assert done.returncode == 0, done.stdout
    assert [lab.be() for lab in balancers] == texts
    assert done.stdout.count("changed: [ctl1 -> lb") == 4  # out and in, on two balancers


def test_a_tunnel_on_the_second_balancer_stops_it_and_the_first_one_is_put_back(
    balancers: list[Lab], folder: Path, repository: Path
) -> None:
    texts = [lab.be() for lab in balancers]
    tunnel = balancers[1].websocket_on("ctl1")
    done = run(balancers, folder, repository, "touch %s" % (folder / "restarted"))
    assert done.returncode != 0
    assert "holds 1 connection." in done.stdout
    assert not (folder / "restarted").exists()
    assert [lab.be() for lab in balancers] == texts
    assert tunnel.echoes()
    assert "ctl2" not in done.stdout  # the next node was not begun

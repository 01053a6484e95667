# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Keystone that somebody else deployed: its record is drafted, it is upgraded under load, it goes back, and nothing tells of it."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.osops.lifecycle.plugins.plugin_utils import knowledge
from tests.rig import alien
from tests.rig.snapshot import difference, take
from tests.rig.theatre import BIN, Load, Rig

pytestmark = pytest.mark.rig
OLD, NEW = alien.VERSION, "24.1.0"
RECORD = "alien.yml"
HOME = "/opt/osops/keystone"
# A worker that a reload has left behind ends when its last connection does.
OLD_WORKER = "lb* process haproxy.service child *"
# What a change of its software may leave: other processes, what was written into its database meanwhile, and our own books.
LEAVES = [
    "green* process %s *" % alien.UNIT,
    "green* file /var/lib/osops*",
    "lb* file /var/lib/osops*",
    "db1 file /var/lib/osops*",
    "db1 table alien.*",
    OLD_WORKER,
]


@pytest.fixture
def may_change() -> list[str]:
    """What it leaves when all of it has been taken away: our own books, an empty folder, and balancers that were reloaded."""
    return [
        "green* file /var/lib/osops*",
        "green* file /opt/osops",
        "lb* file /var/lib/osops*",
        "db1 file /var/lib/osops*",
        OLD_WORKER,
    ]


@pytest.fixture
def rig(collections: Path, tmp_path: Path, rig_inventory: Path) -> t.Iterator[Rig]:
    """The rig with somebody else's Keystone on its bare hosts; it is gone afterwards."""
    found = Rig(rig_inventory.parent, tmp_path, collections, RECORD, "green")
    if found.inventory["all"]["vars"]["rig_haproxy"] != "debian":
        pytest.skip("HAProxy in the shape of Kolla reads no folder that a file of its own could be put into")
    try:
        alien.install(found)
        yield found
    finally:
        alien.remove(found)
        (found.folder / RECORD).unlink(missing_ok=True)


def play(rig: Rig, playbook: str, *more: str) -> tuple[int, str, dict[str, t.Any]]:
    """Run a playbook to its end: exit code, output, and what it handed on with set_stats."""
    environment = {**rig.environment(), "ANSIBLE_SHOW_CUSTOM_STATS": "true"}
    done = subprocess.run(
        rig.command("osops.lifecycle." + playbook, *more), cwd=rig.out, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    text = done.stdout + done.stderr
    stats = re.search(r"^\s*RUN: (\{.*\})\s*$", text, re.MULTILINE)
    return done.returncode, text, json.loads(stats[1]) if stats else {}


def export(rig: Rig, **more: str) -> tuple[int, str, dict[str, t.Any]]:
    given = {
        "osops_cloud": "alien",
        "osops_services": "keystone",
        "osops_export_hosts": rig.group,
        "osops_export_balancers": "lbs",
    }
    return play(rig, "export", "-e", json.dumps({**given, **more}))


def put(rig: Rig, record: dict[str, t.Any]) -> None:
    (rig.folder / RECORD).write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")


def without_our_releases(rig: Rig) -> None:
    """Take what we fetched: the driver's own way for an instance that runs none of our releases. Then the folder, with a link in it perhaps.

    There is no playbook for it: remove takes away only what deploy made.
    """
    for host, address in rig.hosts(rig.group).items():
        args = {
            "state": "absent",
            "release": {"package": "keystone"},
            "instance": {"component": "keystone-api", "path": HOME, "listen": "%s:%d" % (address, alien.PORT)},
            "scope": "alien",
        }
        command = [str(BIN / "ansible"), host, "-i", str(rig.folder / "inventory.yml"), "-m", "osops.lifecycle.artifact_source"]
        done = subprocess.run(
            [*command, "-a", json.dumps(args)], env=rig.environment(), capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert rig.on(host, "find %s -mindepth 1 ! -type l 2> /dev/null || true" % HOME) == ""
        rig.on(host, "rm -rf %s /opt/osops/.osops-made; rmdir --ignore-fail-on-non-empty /opt/osops 2> /dev/null || true" % HOME)


def test_adopt_upgrade_and_back(untouched: list[str], rig: Rig) -> None:
    assert set(alien.running(rig).values()) == {alien.PREFIX}
    files = alien.fingerprint(rig)
    before = take(rig.folder / "inventory.yml")

    # Drafted, read-only.
    target = rig.folder / RECORD
    rc, said, stats = export(rig, osops_export_to=str(target))
    assert rc == 0, said
    drafted = yaml.safe_load(target.read_text(encoding="utf-8"))
    assert stats["osops_export"] == drafted
    assert drafted == {
        "cloud": "alien",
        "services": {
            "keystone": {
                "release": {"driver": "osops.lifecycle.artifact_source", "version": OLD},
                "components": {
                    "keystone-api": {
                        "hosts": sorted(rig.hosts("green")),
                        "unit": alien.UNIT,
                        "port": alien.PORT,
                        "options": {"path": HOME, "adopt": alien.PREFIX},
                    }
                },
                "traffic": {
                    "driver": "osops.lifecycle.haproxy_server",
                    "hosts": sorted(rig.hosts("lbs")),
                    "backends": [alien.NAME],
                },
            }
        },
    }
    knowledge.validate(drafted, "record", "draft")
    secrets = [rig.inventory["all"]["vars"][name] for name in alien.PASSWORDS.values()]
    assert [secret for secret in secrets if secret in said] == []
    text = target.read_bytes()
    rc, said, _stats = export(rig, osops_export_to=str(target))
    assert (rc, target.read_bytes()) == (2, text), said
    assert "which exists" in said

    # Given to plan as it is, it asks for nothing.
    rc, said, stats = play(rig, "plan")
    assert rc == 0, said
    assert (stats["osops_plan"]["batches"], stats["osops_plan"]["refusals"], stats["osops_plan"]["steps"]) == ([], [], []), said
    assert difference(before, take(rig.folder / "inventory.yml"), [OLD_WORKER]) == [], (
        "to draft and to plan has changed something"
    )

    # Upgraded under load, with what a person adds to the draft.
    record = copy.deepcopy(drafted)
    record["services"]["keystone"].update(
        probe={"secrets": {"admin_password": alien.PASSWORDS["admin"]}},
        database={"hosts": "database", "name": alien.NAME, "user": alien.NAME, "backup": {"kind": "dump"}},
        soak=0,
        deployer="openstack_ansible",
    )
    wanted = copy.deepcopy(record)
    lock = "locks/keystone-%s.txt" % NEW
    digest = hashlib.sha256((rig.folder / lock).read_bytes()).hexdigest()
    index = rig.inventory["all"]["vars"]["rig_index_url"]
    wanted["services"]["keystone"]["release"].update(version=NEW, lock=lock, digest="sha256:" + digest, index=index)
    log = rig.out / "playbooks.log"
    with Load(rig, rig.out / "load", 10, alien.PORT, alien.PASSWORDS["admin"]) as load:
        time.sleep(2)
        put(rig, wanted)
        load.mark("upgrade")
        assert rig.play("osops.lifecycle.upgrade", log) == 0, log.read_text(encoding="utf-8")[-8000:]
        assert rig.last_run() == ("succeeded", "")
        told = "handoff: OpenStack-Ansible, in /etc/openstack_deploy/user_variables.yml: keystone_git_install_branch: %s"
        assert told % NEW in log.read_text(encoding="utf-8")
        ours = "%s/releases/%s-%s" % (HOME, NEW, digest[:12])
        assert set(alien.running(rig).values()) == {ours}

        # Back by the record that was exported: the environment that was adopted, without a lock.
        put(rig, record)
        load.mark("rollback")
        assert rig.play("osops.lifecycle.rollback", log) == 0, log.read_text(encoding="utf-8")[-8000:]
        assert told % OLD in log.read_text(encoding="utf-8")
        assert rig.last_run() == ("succeeded", "")
        assert set(alien.running(rig).values()) == {alien.PREFIX}
        load.mark("end")
        time.sleep(2)
    figures = load.report()
    assert figures["total"]["failed"] == 0, json.dumps(figures["failures"][:5], indent=1)
    assert figures["total"]["sent"] > 100

    # Nothing of ours is in the way of its owner any more.
    for host in rig.hosts(rig.group):
        shown = rig.on(host, "systemctl show -P DropInPaths -P NeedDaemonReload %s" % alien.UNIT).split()
        assert shown in (["no"], []), "the drop-in is still there: %s" % shown
    without_our_releases(rig)
    assert difference(before, take(rig.folder / "inventory.yml"), [*LEAVES, "green* file /opt/osops"]) == []
    assert alien.fingerprint(rig) == files

    # And the draft is still the truth.
    (rig.folder / RECORD).unlink()
    rc, said, stats = export(rig)
    assert (rc, stats["osops_export"]) == (0, drafted), said


def test_our_own_layout(untouched: list[str], collections: Path, tmp_path: Path, rig_inventory: Path) -> None:
    """What this collection has deployed is drafted as well, and with the folder of its locks the plan is empty."""
    rig = Rig(rig_inventory.parent, tmp_path, collections, "ours.yml")
    known = rig.inventory["all"]["vars"]
    lock = "locks/keystone-%s.txt" % known["rig_release"].rpartition("-")[0]
    digest = hashlib.sha256((rig.folder / lock).read_bytes()).hexdigest()
    target = rig.folder / "ours.yml"
    try:
        rc, said, stats = export(
            rig,
            osops_export_to=str(target),
            osops_export_locks=str(rig.folder / "locks"),
            osops_export_socket=known["rig_haproxy_socket"],
        )
        assert rc == 0, said
        service = stats["osops_export"]["services"]["keystone"]
        assert service["release"] == {
            "driver": "osops.lifecycle.artifact_source", "version": known["rig_release"].rpartition("-")[0], "lock": lock,
            "digest": "sha256:" + digest,
        }  # fmt: skip
        assert service["components"] == {
            "keystone-api": {
                "hosts": sorted(rig.hosts("keystone")),
                "unit": "keystone-api.service",
                "port": 5000,
                "options": {"path": HOME},
            }
        }
        assert service["traffic"]["backends"] == ["keystone"]
        rc, said, stats = play(rig, "plan")
        assert rc == 0, said
        assert (stats["osops_plan"]["batches"], stats["osops_plan"]["refusals"]) == ([], []), said
    finally:
        target.unlink(missing_ok=True)

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real security update of Debian's Keystone, and one of memcached, forward and back under load; and one that is bad, taken back by itself."""

from __future__ import annotations

import json
import time
import typing as t
from pathlib import Path

import pytest
import yaml

from tests.rig import packaged
from tests.rig.theatre import Load, Rig

pytestmark = pytest.mark.rig
RECORD = "packaged.yml"
KEPT = "/var/lib/osops/packages/"
# A worker that a reload has left behind ends when its last connection does.
OLD_WORKER = "lb* process haproxy.service child *"


@pytest.fixture
def may_change() -> list[str]:
    # Debian's script of Keystone makes an empty file for local rules of AppArmor when it runs on a host, as it did not in the image.
    apparmor = "deb* file /etc/apparmor.d/local*"
    return [apparmor, "deb* file /var/lib/osops*", "lb* file /var/lib/osops*", "db1 file /var/lib/osops*", OLD_WORKER]


@pytest.fixture
def rig(collections: Path, tmp_path: Path, rig_inventory: Path) -> t.Iterator[Rig]:
    """The rig with Debian's Keystone on its hosts for packages; it is gone afterwards."""
    found = Rig(rig_inventory.parent, tmp_path, collections, RECORD, "packaged")
    if found.inventory["all"]["vars"]["rig_haproxy"] != "debian":
        pytest.skip("HAProxy in the shape of Kolla reads no folder that a file of its own could be put into")
    try:
        packaged.remove(found)
        packaged.install(found)
        yield found
    finally:
        packaged.remove(found)
        (found.folder / RECORD).unlink(missing_ok=True)


def versions(rig: Rig) -> tuple[dict[str, str], dict[str, str]]:
    """Package -> version, the old ones and the new ones."""
    debs = rig.inventory["all"]["vars"]["rig_debs"]
    old, new = (dict(row.split("=", 1) for row in debs[age]) for age in ("old", "new"))
    return old, new


def want(rig: Rig, of: dict[str, str], **more: t.Any) -> None:
    """The record of the two services in these versions."""
    keystone: dict[str, t.Any] = {
        "release": {"driver": "osops.lifecycle.artifact_package", "version": of["keystone"]},
        "components": {
            "keystone-api": {"hosts": "packaged", "port": 5000, "unit": packaged.UNIT, "options": {"path": KEPT + "keystone"}}
        },
        "traffic": {"driver": "osops.lifecycle.haproxy_server", "hosts": "lbs", "backends": [packaged.NAME]},
        "probe": {"secrets": {"admin_password": packaged.PASSWORDS["admin"]}},
        "database": {"hosts": "database", "name": packaged.NAME, "user": packaged.NAME, "backup": {"kind": "none"}},
        **more,
    }
    memcached = {
        "release": {"driver": "osops.lifecycle.artifact_package", "version": of["memcached"]},
        "components": {
            "memcached": {"hosts": "packaged", "unit": "memcached.service",
                          "options": {"path": KEPT + "memcached", "listen": "127.0.0.1:11211"}}
        },
    }  # fmt: skip
    record = {"cloud": packaged.NAME, "services": {"keystone": keystone, "memcached": memcached}}
    (rig.folder / RECORD).write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")


def test_a_security_update_and_back(untouched: list[str], rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = versions(rig)
    log = rig.out / "playbooks.log"
    keystone, memcached = ("-e", "osops_services=keystone"), ("-e", "osops_services=memcached")
    took: dict[str, float] = {}

    def run(name: str, verb: str, of: dict[str, str], service: tuple[str, str], rc: int = 0, **more: t.Any) -> None:
        want(rig, of, **more)
        load.mark(name)
        begun = time.monotonic()
        ended = rig.play("osops.lifecycle." + verb, log, *service)
        took[name] = time.monotonic() - begun
        assert ended == rc, log.read_text(encoding="utf-8")[-8000:]

    want(rig, old)
    assert rig.play("osops.lifecycle.plan", log) == 0, log.read_text(encoding="utf-8")[-8000:]
    with Load(rig, rig.out / "load", 10, packaged.PORT, packaged.PASSWORDS["admin"]) as load:
        time.sleep(2)
        run("the update of Keystone", "upgrade", new, keystone)
        assert set(packaged.installed(rig, "keystone").values()) == {new["keystone"]}
        assert set(packaged.installed(rig, "python3-keystone").values()) == {new["python3-keystone"]}
        run("Keystone goes back", "rollback", old, keystone)
        assert set(packaged.installed(rig, "python3-keystone").values()) == {old["python3-keystone"]}
        # A consumer finds the new version bad, on the last instance: taken back by itself.
        command = ["/bin/sh", "-c", '[ "$OSOPS_VERSION" = "%s" ]' % old["keystone"]]
        asks = {"name": "billing", "host": "db1", "command": command, "timeout": 10}
        run("an update that a consumer refuses", "upgrade", new, keystone, rc=2, checks=[asks])
        assert rig.last_run()[0] == "rolled_back"
        assert set(packaged.installed(rig, "keystone").values()) == {old["keystone"]}
        run("the update of memcached", "upgrade", new, memcached)
        assert set(packaged.installed(rig, "memcached").values()) == {new["memcached"]}
        run("memcached goes back", "rollback", old, memcached)
        assert set(packaged.installed(rig, "memcached").values()) == {old["memcached"]}
        load.mark("end")
        time.sleep(2)
    figures = load.report()
    with capsys.disabled():
        for name, seconds in took.items():
            print("\n%s: %.1f s from command to end, all instances" % (name, seconds), end="")
        print("\n%d requests, %d failed" % (figures["total"]["sent"], figures["total"]["failed"]))
    assert figures["total"]["failed"] == 0, json.dumps(figures["failures"][:5], indent=1)
    assert figures["total"]["sent"] > 500

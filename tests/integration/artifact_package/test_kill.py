# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed anywhere in the middle, on the control node and on the host: called again it ends where it would have ended, or back."""

from __future__ import annotations

import os
import signal

import pytest

from tests.integration.artifact_package import toy
from tests.integration.artifact_package.conftest import DRIVER, NEW, OLD, Drive, seen
from tests.integration.artifact_source.rig import Rig

pytestmark = pytest.mark.rig
# The maintainer script waits there, the first time, until somebody lets it go on, so that a kill finds dpkg at exactly that place.
WAITS = """\
#!/bin/sh
set -e
[ ! -e /run/osops-toy.seen ] || exit 0
touch /run/osops-toy.waits /run/osops-toy.seen
for i in $(seq 60); do [ -e /run/osops-toy.waits ] || break; sleep .05; done
systemctl --system daemon-reload
"""
# What is seen on the host at the moment of the kill.
MOMENTS = {
    "it has begun": "test -e %s/.moving" % toy.PATH,
    "it stops": "! systemctl -q is-active %s" % toy.UNIT,
    "dpkg configures": "test -e /run/osops-toy.waits",
    "it is configured": "dpkg-query -W -f '${Version} ${Status}' osops-toy | grep -qx '2.0-1 install ok installed'",
}
# Everything of ours and of apt on the host dies, as with its power; or nothing does, and it works on while we are called again.
WAIT = "for i in $(seq 1500); do { %s; } && break; sleep .02; done\n"
KILL = """
kill -9 $(grep -l "APT_CONFIG=/run/osops-packages" /proc/[0-9]*/environ 2> /dev/null | cut -d / -f 3) 2> /dev/null
kill -9 $(find /proc/[0-9]*/fd -lname /var/lib/osops/fence/default 2> /dev/null | cut -d / -f 3) 2> /dev/null
rm -f /run/osops-toy.waits; echo killed
"""


@pytest.mark.parametrize(
    ("moment", "way", "dies"),
    [
        ("it stops", "forward", "host"),
        ("dpkg configures", "forward", "host"),
        ("dpkg configures", "back", "host"),
        ("it is configured", "forward", "host"),
        ("it has begun", "back", "control node"),
        ("it stops", "back", "control node"),
        ("dpkg configures", "forward", "control node"),
        ("dpkg configures", "back", "control node"),
    ],
)
def test_killed_and_called_again(rig: Rig, host: str, drive: Drive, moment: str, way: str, dies: str) -> None:
    toy.make(rig, host, toy.Toy(OLD, script=""), toy.Toy(NEW, script=WAITS))
    toy.install(rig, host)
    drive("present", NEW)
    before = drive("active", NEW, check=True)["before"]
    call = rig.start(host, DRIVER, toy.args("active", NEW, expect=before))
    rig.shell(host, WAIT % MOMENTS[moment])
    if dies == "host":
        assert rig.shell(host, KILL).endswith("killed")
    assert call.process.pid
    os.killpg(call.process.pid, signal.SIGKILL)
    call.said(30)
    version = NEW if way == "forward" else OLD
    again = drive("active", version, expect=before if way == "forward" else None, resume=True)
    assert again["after"] == seen(version, version), (
        again.get("msg"),
        again["verdict"],
        again.get("notes"),
        again.get("process"),
    )
    assert rig.shell(host, "dpkg --audit; ls /run/systemd/system | grep toy || true; ls -A %s" % toy.PATH).split() == [
        ".toy.former",
        "releases",
    ]
    assert rig.shell(host, "apt-mark showauto osops-toy osops-toy-data") == toy.DATA
    assert drive("active", version)["changed"] is False


def test_killed_while_it_fetches(rig: Rig, two: str, drive: Drive) -> None:
    call = rig.start(two, DRIVER, toy.args("present", NEW))
    rig.kill_module(two, "ls -d %s/releases/.fetching-*" % toy.PATH)
    call.said(60)
    assert drive("present", NEW, resume=True)["after"] == {"present": True}
    assert sorted(rig.shell(two, "ls -A %s/releases" % toy.PATH).split()) == [OLD, NEW]
    assert drive("active", NEW)["after"] == seen(NEW, NEW)

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot finds what promise 5 forbids: each kind of change, made for real, is one sentence, and nothing else is."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest

from tests.rig import snapshot
from tests.rig.theatre import Rig

pytestmark = pytest.mark.rig


class Change(t.NamedTuple):
    """A change on a host, how it is undone, what is said about it, and the patterns that stand for it."""

    host: str
    do: str
    undo: str
    said: tuple[str, ...]
    named: tuple[str, ...]


TELL = r"""
python3 -c '
import socket
with socket.socket(socket.AF_UNIX) as s:
    s.connect("/run/haproxy/admin.sock")
    s.sendall(b"set server keystone/ctl1 state %s\n")
    assert s.recv(100).strip() == b""
'
"""
PACKAGE = r"""
set -e
mkdir -p /root/eve/DEBIAN && cd /root
printf 'Package: rig-eve\nVersion: 1\nArchitecture: all\nMaintainer: rig <rig@localhost>\nDescription: nothing\n' > eve/DEBIAN/control
dpkg-deb --build eve eve.deb && dpkg --install eve.deb
"""
BACKEND = r"""
set -e
printf 'backend eve\n  server one 127.0.0.1:9 disabled\n' > /etc/haproxy/conf.d/eve.cfg
systemctl reload haproxy && sleep 1
"""
EDIT = """
set -e
cp -a /etc/adduser.conf /root/
printf X | dd of=/etc/adduser.conf conv=notrunc bs=1
touch -r /root/adduser.conf /etc/adduser.conf
"""
CHANGES = (
    # The size and the time of the file stay as they are.
    Change(
        "green1",
        EDIT,
        "mv /root/adduser.conf /etc/adduser.conf",
        (r"green1: file /etc/adduser\.conf changed: content \w+ -> \w+",),
        ("green1 file /etc/adduser.conf",),
    ),
    Change(
        "green2",
        "chmod 600 /etc/adduser.conf",
        "chmod 644 /etc/adduser.conf",
        (r"green2: file /etc/adduser\.conf changed: mode 100644 -> 100600",),
        ("green2 file /etc/adduser.conf",),
    ),
    Change(
        "ctl1",
        "useradd eve",
        "userdel eve",
        (r"ctl1: group eve is new \(.*\)", r"ctl1: user eve is new \(ids .*, shadow \w+\)"),
        ("ctl1 user eve", "ctl1 group eve"),
    ),
    Change(
        "ctl2",
        PACKAGE,
        "dpkg --purge rig-eve && rm -r /root/eve /root/eve.deb",
        (r"ctl2: package rig-eve is new \(version 1, state installed\)",),
        ("ctl2 package rig-eve",),
    ),
    Change(
        "ctl3",
        "systemctl mask fstrim.timer",
        "systemctl unmask fstrim.timer",
        (
            r"ctl3: file /etc/systemd/system/fstrim\.timer is new \(.*link /dev/null\)",
            r"ctl3: unit_file fstrim\.timer changed: enabled \w+ -> masked",
        ),
        ("ctl3 * *fstrim.timer",),
    ),
    Change(
        "lb1",
        TELL % "drain",
        TELL % "ready",
        (r"lb1: haproxy server keystone/ctl1 changed: .*admin_state 0 -> 8.*",),
        ("lb1 haproxy server keystone/ctl1",),
    ),
    # A reload is another worker under the same master, which also keeps the sockets.
    Change(
        "lb2",
        BACKEND,
        "rm /etc/haproxy/conf.d/eve.cfg && systemctl reload haproxy && sleep 1",
        (
            r"lb2: file /etc/haproxy/conf\.d/eve\.cfg is new \(.*\)",
            r"lb2: haproxy proxy eve BACKEND is new \(.*\)",
            r"lb2: haproxy section backend eve is new \(file /etc/haproxy/conf\.d/eve\.cfg, .*\)",
            r"lb2: haproxy server eve/one is new \(.*\)",
            r"lb2: process haproxy\.service child \d+ is gone \(.*\)",
            r"lb2: process haproxy\.service child \d+ is new \(.*\)",
        ),
        ("lb2 file /etc/haproxy/conf.d/eve.cfg", "lb2 haproxy *eve*", "lb2 process haproxy.service child *"),
    ),
    Change(
        "db1",
        "systemctl restart memcached && mariadb -e \"UPDATE keystone.region SET description = 'eve'\"",
        "mariadb -e \"UPDATE keystone.region SET description = ''\"",
        (
            r"db1: process memcached\.service main changed: pid \d+ -> \d+, started \d+ -> \d+",
            r"db1: table keystone\.region changed: rows \d+ -> \d+",
        ),
        ("db1 process memcached.service main", "db1 table keystone.region"),
    ),
    Change(
        "repo1",
        "systemd-run --unit eve python3 -m http.server --bind 127.0.0.1 8099 && sleep 1",
        "systemctl stop eve",
        (
            r"repo1: listen tcp 127\.0\.0\.1:8099 is new \(unit eve\.service\)",
            r"repo1: process eve\.service main is new \(.*\)",
            r"repo1: unit eve\.service is new \(.*\)",
        ),
        ("repo1 * eve.service*", "repo1 listen tcp 127.0.0.1:8099"),
    ),
)
# What the undoing does not bring back: the processes.
LASTING = (r"db1: process memcached\.service main changed: .*", r"lb2: process haproxy\.service child \d+ is (new|gone) .*")


def test_every_change_is_found_and_nothing_else(rig_inventory: Path, tmp_path: Path, collections: Path) -> None:
    rig = Rig(rig_inventory.parent, tmp_path, collections)
    before = snapshot.take(rig_inventory)
    assert snapshot.difference(before, snapshot.take(rig_inventory)) == []

    done: list[Change] = []
    try:
        for change in CHANGES:
            done.append(change)
            rig.on(change.host, change.do)
        after = snapshot.take(rig_inventory)
    finally:
        for change in done:
            rig.on(change.host, change.undo)
    found = snapshot.difference(before, after)
    expected = [text for change in CHANGES for text in change.said]
    assert [text for text in found if not any(re.fullmatch(one, text) for one in expected)] == []
    assert [one for one in expected if sum(bool(re.fullmatch(one, text)) for text in found) != 1] == []

    assert snapshot.difference(before, after, [name for change in CHANGES for name in change.named]) == []
    for change in CHANGES:
        others = [name for other in CHANGES if other is not change for name in other.named]
        left = snapshot.difference(before, after, others)
        assert len(left) == len(change.said), left
        assert all(text.startswith(change.host + ":") for text in left), left

    undone = snapshot.difference(before, snapshot.take(rig_inventory))
    assert [text for text in undone if not any(re.fullmatch(one, text) for one in LASTING)] == []


def test_what_may_change_need_not_be_read(rig_inventory: Path) -> None:
    whole = snapshot.take(rig_inventory)
    named = ["ctl* file /opt/osops/keystone/*", "ctl1 file /etc/s*", "lb1 file /etc/*/conf.d/*"]
    part = snapshot.take(rig_inventory, named)
    assert len(part.items) < len(whole.items) / 2
    assert part.minus(named).items == whole.minus(named).items


def test_what_a_test_changes_fails_it(rig_inventory: Path, tmp_path: Path, collections: Path) -> None:
    rig = Rig(rig_inventory.parent, tmp_path, collections)

    def a_test() -> None:
        with snapshot.untouched(rig_inventory, ["green2 file /etc/eve"]):
            rig.on("green1", "touch /etc/eve")
            rig.on("green2", "touch /etc/eve")

    try:
        with pytest.raises(AssertionError, match=r"1 things changed that should not:\ngreen1: file /etc/eve is new"):
            a_test()
    finally:
        rig.on("green1", "rm -f /etc/eve")
        rig.on("green2", "rm -f /etc/eve")


def test_a_host_that_does_not_answer_is_named(rig_inventory: Path, tmp_path: Path) -> None:
    broken = tmp_path / "inventory.yml"
    text = rig_inventory.read_text(encoding="utf-8")
    broken.write_text(re.sub(r"(green2: \{ansible_host: )[\d.]+", r"\g<1>127.0.0.255", text), encoding="utf-8")
    with pytest.raises(snapshot.SnapshotError, match="green2: exit code 255"):
        snapshot.take(broken)

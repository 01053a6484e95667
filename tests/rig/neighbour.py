# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second service on the hosts of the first one, whose libraries do not go with its own: a Placement beside a Keystone.

Keystone 23 and 24 need SQLAlchemy 1.4, Placement 13 and 15 need 2.0. Each goes up and down alone, and both are asked all the while.
"""

from __future__ import annotations

import re
import typing as t

from tests.rig.snapshot import Snapshot, difference, take
from tests.rig.theatre import Load, Rig

if t.TYPE_CHECKING:
    from tests.rig.life import Life

RECORD = "placement.yml"
OLD, NEW = "13.0.1", "15.0.0"
PORT = 8778
# What Placement may change, and nothing else (the form is the one of tests/rig/snapshot.py). Tables of the other services are written
# by the load on them.
ITS_OWN = [
    "* * *placement*",
    "green* listen tcp *:%d" % PORT,
    "lb* listen tcp *:%d" % PORT,
    "db1 table *",
    "* file /var/lib/osops*",
    "lb* process haproxy.service child *",
]
LIBRARY = "ls -d /opt/osops/%s/%s-api/lib/python3*/site-packages/[Ss][Qq][Ll][Aa]lchemy-*.dist-info"
SERIES = re.compile(r"/\w+-(\d+[.]\d+)[.][^/]*$", re.M)


def libraries(rig: Rig, host: str) -> list[str]:
    """The series of SQLAlchemy that Keystone and Placement have on a host."""
    return [series for name in ("keystone", "placement") for series in SERIES.findall(rig.on(host, LIBRARY % (name, name)))]


class Neighbour:
    """The flows of a Placement in the life of a Keystone."""

    def __init__(self, life: Life, rate: float) -> None:
        self.life = life
        self.rig = Rig(life.rig.folder, life.rig.out / "placement", life.rig.collections, RECORD, "green")
        self.rig.out.mkdir()
        self.identity = "http://%s:5002" % self.rig.hosts("lbs")["lb1"]
        words = ("--service", "placement", "--identity", self.identity)
        self.load = Load(self.rig, self.rig.out / "load", rate, PORT, "green_admin_password", words)

    def __enter__(self) -> Neighbour:
        """Deployed, asked from now on, and once up and down; Keystone is not touched."""
        before = take(self.rig.folder / "inventory.yml")
        self.rig.want(OLD)
        self._flow("deploy Placement %s on the same hosts" % OLD, "deploy")
        self.load.__enter__()
        self.life.loads.append(self.load)
        try:
            self._up_and_down(before)
        except BaseException:
            self.load.__exit__()
            raise
        return self

    def _up_and_down(self, before: Snapshot) -> None:
        self.rig.want(NEW)
        self._flow("upgrade Placement %s -> %s" % (OLD, NEW), "upgrade")
        self.rig.want(OLD)
        self._flow("rollback Placement %s -> %s" % (NEW, OLD), "rollback")
        hosts = self.rig.hosts(self.rig.group)
        self.life.hold("SQLAlchemy 1.4 and 2.0 side by side", all(libraries(self.rig, host) == ["1.4", "2.0"] for host in hosts))
        touched = difference(before, take(self.rig.folder / "inventory.yml"), ITS_OWN)
        self.life.hold("nothing else was touched: %s" % ("; ".join(touched) or "right"), not touched)

    def __exit__(self, *_: object) -> None:
        """No longer asked, and removed with its data."""
        self.life.loads.remove(self.load)
        self.load.mark("end")
        self.load.__exit__()
        self._flow("remove Placement, with its data", "remove", "-e", "osops_consent=purge_data")

    def _flow(self, name: str, verb: str, *more: str) -> None:
        self.life.flow(name, verb, "succeeded (exit 0)", *more, rig=self.rig)

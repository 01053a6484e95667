# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an artifact driver is held to its contract: a host of the rig with a service in an old release, and a new one to be had.

One class a driver. Another driver joins by one more class, here or in the collection that it belongs to.
"""

from __future__ import annotations

import abc
from typing import Any

from tests.integration.artifact_package import toy
from tests.integration.artifact_source.rig import Rig

PROCESS = "systemctl show -P MainPID %s"


class Bench(abc.ABC):
    """What the contract has to know of a driver; everything else of it is its own."""

    module: str
    host: str
    unit: str
    old: dict[str, Any]
    new: dict[str, Any]
    nowhere: dict[str, Any]
    """A release that is nowhere to be had."""
    versions: tuple[str, str]
    world: str
    """A script that prints everything which the driver could touch, and must be the same again when it has gone forward and back."""
    secret = ""
    """A word of the arguments that must be seen nowhere; empty where the driver has none."""
    deadline = 120

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    @abc.abstractmethod
    def make(self) -> None:
        """The old release is installed and runs; the new one can be fetched."""

    @abc.abstractmethod
    def clear(self) -> None:
        """As the host was."""

    @abc.abstractmethod
    def instance(self) -> dict[str, Any]:
        """The option ``instance``."""

    def args(self, state: str, release: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"state": state, "release": release, "instance": self.instance(), "deadline": self.deadline, **more}

    def call(self, state: str, release: dict[str, Any], check: bool = False, **more: Any) -> dict[str, Any]:
        return self.rig.module(self.host, self.module, self.args(state, release, **more), check)

    def seen(self) -> str:
        """Everything, and the process that serves."""
        return self.rig.shell(self.host, self.world + "\n" + PROCESS % self.unit)

    def without_process(self) -> str:
        return self.rig.shell(self.host, self.world)


class Tarball(Bench):
    """The driver of docs/write_a_driver.md, in a collection of its own."""

    module, host, unit = "osops_example.tarball.artifact_tarball", "green1", "ball.service"
    path, folder, listen = "/opt/ball", "/srv/balls", "127.0.0.1:5997"
    old, new = {"version": "1.0", "folder": folder}, {"version": "2.0", "folder": folder}
    nowhere, versions = {"version": "9.0", "folder": folder}, ("1.0", "2.0")
    world = (
        "readlink /opt/ball/current; find /opt/ball/1.0 /srv/balls -type f | sort | xargs sha256sum; cat /etc/systemd/system/ball.service; "
        "dpkg-query -W | sha256sum; ls /etc/systemd/system"
    )

    def make(self) -> None:
        self.clear()
        server = toy.SERVER.replace('"/usr/lib/osops-toy/library.so"', 'place + "/library"').replace("5998", "5997")
        lines = ["set -eu", "mkdir -p %s %s; cd %s" % (self.folder, self.path, self.folder)]
        for version in self.versions:
            # The file is opened by its real name, so the kernel knows from which release.
            text = "import os\nplace = os.path.dirname(os.path.realpath(__file__))\n" + server
            lines.append(
                "mkdir w; cat > w/serve.py <<'END'\n%sEND\nhead -c 9000 /dev/zero > w/library; tar -cf %s.tar -C w .; rm -r w"
                % (text, version)
            )
        lines.append("mkdir %s/1.0; tar -xf 1.0.tar -C %s/1.0; ln -s 1.0 %s/current" % (self.path, self.path, self.path))
        lines.append(
            # Slow enough for a kill in the middle.
            "printf '[Service]\\nExecStartPre=sleep 1\\nExecStart=/usr/bin/python3 %s/current/serve.py\\nExecStopPost=sleep 1\\n' "
            "> /etc/systemd/system/ball.service" % self.path
        )
        self.rig.shell(self.host, "\n".join([*lines, "systemctl daemon-reload; systemctl start ball"]))

    def clear(self) -> None:
        self.rig.shell(
            self.host,
            "systemctl stop ball 2> /dev/null; rm -rf %s %s /etc/systemd/system/ball.service; systemctl daemon-reload"
            % (self.path, self.folder),
        )

    def instance(self) -> dict[str, Any]:
        return {"component": "ball", "unit": self.unit, "listen": self.listen, "path": self.path}


class Package(Bench):
    """Debian packages of our own making, moved by the real apt."""

    module, host, unit = "osops.lifecycle.artifact_package", "deb1", toy.UNIT
    old, new = {"package": toy.NAME, "version": "1.0-1"}, {"package": toy.NAME, "version": "2.0-1"}
    nowhere, versions = {"package": toy.NAME, "version": "9.0-1"}, ("1.0-1", "2.0-1")
    world = (
        "dpkg-query -W -f '${binary:Package} ${Version} ${db:Status-Abbrev}\\n'; apt-mark showauto; apt-mark showhold; ls /var/lib/apt/lists; "
        "find /etc/apt /etc/osops-toy.conf /usr/lib/osops-toy /usr/share/osops-toy-data -type f | sort | xargs sha256sum; "
        "ls /etc/systemd/system /run/systemd/system"
    )

    def make(self) -> None:
        self.clear()
        toy.make(self.rig, self.host, toy.Toy("1.0-1"), toy.Toy("2.0-1", conf="greeting = good day\n"))
        toy.install(self.rig, self.host)

    def clear(self) -> None:
        toy.remove(self.rig, self.host)

    def instance(self) -> dict[str, Any]:
        return dict(toy.args("active", "1.0-1")["instance"])


class Source(Bench):
    """A real Keystone from a package index, in environments beside each other."""

    module, host, unit = "osops.lifecycle.artifact_source", "ctl3", "keystone-api.service"
    versions = ("27.0.1", "29.0.2")
    secret = "osopsSecretWord"  # noqa: S105 - it opens nothing
    deadline = 300
    world = (
        "readlink /opt/osops/keystone/keystone-api; find /etc/keystone /etc/systemd/system -type f | sort | xargs sha256sum; dpkg-query -W | sha256sum; "
        "ls /opt/osops; find /opt/osops/keystone/releases/27* -name METADATA | sort | xargs sha256sum | sha256sum"
    )

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig)
        self.old, self.new = rig.release("27.0.1"), rig.release("29.0.2")
        # The index of the rig asks for no password, so it takes any.
        index = str(self.new["index"])
        self.new["index"] = index.replace("http://", "http://somebody:%s@" % self.secret)
        lock = "keystone==9999 --hash=sha256:%s\n" % ("0" * 64)
        self.nowhere = {"version": "9999", "package": "keystone", "lock": lock, "index": index}

    def make(self) -> None:
        pass  # every host of the rig runs 27.0.1

    def clear(self) -> None:
        self.call("active", self.old)

    def instance(self) -> dict[str, Any]:
        return self.rig.instance(self.host)


BENCHES = {"tarball": Tarball, "package": Package, "source": Source}

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages made for one test each, with the real dpkg-deb, on a host of the rig: a small server, its data, its unit, its scripts.

Packages of Debian's archives cannot have the faults that are looked for here: dependencies that cannot be met, scripts that fail, files
that are too large for the disk.
"""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

from tests.integration.artifact_source.rig import Rig

NAME, DATA, UNIT, LISTEN = "osops-toy", "osops-toy-data", "osops-toy.service", "127.0.0.1:5998"
PATH = "/var/lib/osops/packages/osops-toy"
ARCHIVE = "/srv/toys"
SOURCES = "/etc/apt/sources.list.d/toys.list"
CONF = "/etc/osops-toy.conf"
# It maps a file of its package, as programs map their libraries.
SERVER = """\
import mmap, socket
library = open("/usr/lib/osops-toy/library.so", "rb")
mapped = mmap.mmap(library.fileno(), 0, prot=mmap.PROT_READ)
server = socket.create_server(("127.0.0.1", 5998))
while True:
    server.accept()[0].close()
"""
SERVICE = """\
[Service]
ExecStart=/usr/bin/python3 /usr/lib/osops-toy/serve.py
[Install]
WantedBy=multi-user.target
"""
# What debhelper writes: a service is restarted when its package is configured, if systemd and policies let it.
POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ]; then
  systemctl --system daemon-reload
  deb-systemd-invoke restart osops-toy.service > /dev/null || true
  echo "$(systemctl is-active osops-toy.service) at the configuration of VERSION" >> /run/osops-toy.seen
fi
"""


@dataclasses.dataclass(frozen=True)
class Toy:
    """One version of the pair. ``needs`` are further dependencies, ``script`` the maintainer script, ``mib`` of data that nothing compresses."""

    version: str
    needs: str = ""
    conf: str = "greeting = hello\n"
    script: str = POSTINST
    mib: int = 0
    breaks: str = ""


def make(rig: Rig, host: str, *toys: Toy, more: str = "") -> None:
    """Make the packages on the host, an archive of them, and let apt know it. ``more`` is a further script before the archive is indexed."""
    scripts = ["set -eu", "rm -rf %s; mkdir -p %s; cd %s" % (ARCHIVE, ARCHIVE, ARCHIVE)]
    scripts += [_built(toy) for toy in toys]
    scripts += [more, INDEX, "echo 'deb [trusted=yes] file:%s ./' > %s" % (ARCHIVE, SOURCES), "apt-get -qq update"]
    rig.shell(host, "\n".join(scripts))


INDEX = (
    """
cd %s
for file in *.deb; do
  dpkg-deb --field "$file"
  printf 'Filename: ./%%s\\nSize: %%s\\nSHA256: %%s\\n\\n' "$file" "$(stat -c %%s "$file")" "$(sha256sum "$file" | cut -d ' ' -f 1)"
done > Packages
"""
    % ARCHIVE
)


def package(
    name: str, version: str, fields: str = "", files: dict[str, str] | None = None, script: str = "", mib: int = 0
) -> str:
    """A shell script that makes one package file in the current folder."""
    control = "Package: %s\nVersion: %s\nSource: osops-toy\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n%sDescription: a toy\n"
    lines = ["rm -rf work; mkdir -p work/DEBIAN", _file("work/DEBIAN/control", control % (name, version, fields))]
    for path, text in (files or {}).items():
        lines += ["mkdir -p work%s" % path.rpartition("/")[0], _file("work" + path, text)]
    conffiles = [path for path in files or {} if path.startswith("/etc/")]
    lines += [_file("work/DEBIAN/conffiles", "".join(path + "\n" for path in conffiles))] if conffiles else []
    lines += [_file("work/DEBIAN/postinst", script), "chmod 755 work/DEBIAN/postinst"] if script else []
    lines += ["mkdir -p work/usr/share/%s; head -c %dM /dev/urandom > work/usr/share/%s/large" % (name, mib, name)] if mib else []
    # As debhelper does, which leaves configuration files out.
    lines.append("(cd work; find usr lib -type f 2> /dev/null | sort | xargs -r md5sum > DEBIAN/md5sums)")
    return "\n".join([*lines, "dpkg-deb --root-owner-group -Znone --build work . > /dev/null; rm -rf work"])


def _built(toy: Toy) -> str:
    fields = "Depends: python3, %s (= %s)%s\n" % (DATA, toy.version, toy.needs and ", " + toy.needs)
    fields += "Breaks: %s\n" % toy.breaks if toy.breaks else ""
    files = {
        "/usr/lib/osops-toy/serve.py": SERVER,
        "/usr/lib/osops-toy/library.so": "x" * 5000,
        "/lib/systemd/system/osops-toy.service": SERVICE,
        CONF: toy.conf,
    }
    data = package(DATA, toy.version, files={"/usr/share/%s/version" % DATA: toy.version + "\n"}, mib=toy.mib)
    return package(NAME, toy.version, fields, files, toy.script.replace("VERSION", toy.version)) + "\n" + data


def _file(path: str, text: str) -> str:
    return "printf %%s %s > %s" % (shlex.quote(text), path)


def install(rig: Rig, host: str, version: str = "1.0-1") -> None:
    """As an operator does, with the data chosen by apt."""
    rig.shell(
        host,
        "DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends %s=%s %s=%s > /dev/null; "
        "apt-mark auto %s > /dev/null; systemctl enable -q --now %s; "
        "for i in $(seq 100); do (: < /dev/tcp/127.0.0.1/5998) 2> /dev/null && break; sleep .05; done; rm -f /run/osops-toy.seen"
        % (NAME, version, DATA, version, DATA, UNIT),
    )


def remove(rig: Rig, host: str) -> None:
    """Whatever a test has left of it."""
    rig.shell(
        host,
        "apt-mark unhold %s %s > /dev/null 2>&1; systemctl stop %s 2> /dev/null; rm -rf /run/systemd/system/%s.d; "
        "dpkg --purge --force-all %s %s osops-toy-extra > /dev/null 2>&1; dpkg --configure -a > /dev/null 2>&1; "
        "rm -rf %s %s /var/lib/osops/packages %s* /run/osops-toy.seen /run/osops-toy.waits /var/lib/apt/lists/_srv_toys*; systemctl daemon-reload; "
        "rm -rf /usr/lib/osops-toy /usr/share/osops-toy*; systemctl reset-failed 2> /dev/null; true"
        % (NAME, DATA, UNIT, UNIT, NAME, DATA, ARCHIVE, SOURCES, CONF),
    )


def args(state: str, version: str | None, **more: Any) -> dict[str, Any]:
    """Arguments of the driver for the toy."""
    release = {"package": NAME, **({"version": version} if version else {}), **more.pop("release", {})}
    instance = {"component": "toy", "unit": UNIT, "listen": LISTEN, "path": PATH, "stop": 5}
    return {"state": state, "release": release, "instance": instance, "deadline": 60, **more}

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What dpkg says of this host: which packages are installed, of which source, in what state, and which files they own. Reads only."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._command import run
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import tail

DATABASE = "/var/lib/dpkg"
# Debian policy 5.6.1 and 5.6.12.
_NAME = re.compile(r"^[a-z0-9][a-z0-9+.-]{1,99}\Z")
_VERSION = re.compile(r"^(?:\d+:)?[0-9][A-Za-z0-9.+~-]{0,99}\Z")
_FIELDS = ("Package", "Version", "Architecture", "source:Package", "source:Version", "db:Status-Want", "db:Status-Eflag")
_FORMAT = "\\t".join("${%s}" % field for field in (*_FIELDS, "db:Status-Status")) + "\\n"
_UNIT = re.compile(r"^(?:/usr)?/lib/systemd/system/([A-Za-z0-9:_.\\-]+\.service)$")


@dataclasses.dataclass(frozen=True)
class Package:
    """One package as dpkg has it. ``wants`` is the selection (install, hold …), ``status`` how far it is installed."""

    name: str
    version: str
    arch: str
    source: str
    source_version: str
    wants: str
    error: str
    status: str

    @property
    def installed(self) -> bool:
        return self.status == "installed" and self.error == "ok"

    @property
    def held(self) -> bool:
        return self.wants == "hold"

    @property
    def half(self) -> bool:
        """True when dpkg was cut, or failed, in the middle of this package."""
        return self.error != "ok" or self.status not in ("installed", "config-files", "not-installed")


def check_name(name: str) -> str:
    """The name of a package itself, or BadInputError: a name never reaches apt unchecked."""
    if not _NAME.match(name):
        raise BadInputError(
            "%r is not the name of a Debian package." % (name,), "input.package", "It looks like python3-keystone."
        )
    return name


def check_version(version: str) -> str:
    """The version of a package itself, or BadInputError."""
    if not _VERSION.match(version):
        raise BadInputError(
            "%r is not the version of a Debian package." % (version,), "input.version", "It looks like 2:22.0.2-0+deb12u6."
        )
    return version


def packages() -> dict[str, Package]:
    """All packages that dpkg knows, by name. Raises LifecycleError where there is no dpkg."""
    done = run(["dpkg-query", "--show", "--showformat", _FORMAT], 60.0)
    if done.rc != 0:
        raise LifecycleError(
            "dpkg cannot be asked: %s" % " ".join(tail(done.err, 3)), "package.no_dpkg", "This driver is for Debian's packages."
        )
    rows = [line.split("\t") for line in done.out.splitlines()]
    own = _own_architectures()
    # Of a package that is installed for several architectures, the host's own one counts.
    rows.sort(key=lambda row: row[2] in own)
    return {row[0]: Package(*row) for row in rows if len(row) == 8}


def _own_architectures() -> tuple[str, str]:
    return (run(["dpkg", "--print-architecture"], 30.0).out.strip(), "all")


def moving_together(name: str, known: t.Mapping[str, Package]) -> list[Package]:
    """The installed packages that were built from the same source as ``name``: their versions belong together."""
    source = known[name].source
    return sorted(
        (row for row in known.values() if row.source == source and row.status != "config-files"), key=lambda row: row.name
    )


def interrupted() -> bool:
    """True when dpkg was cut while it wrote its own database."""
    folder = os.path.join(DATABASE, "updates")
    return any(name.isdigit() for name in (os.listdir(folder) if os.path.isdir(folder) else ()))


def lock_holder() -> str:
    """Who holds the lock of dpkg's front ends (apt, unattended-upgrades …); empty when nobody does."""
    path = os.path.join(DATABASE, "lock-frontend")
    if not os.path.exists(path):
        return ""
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return _holder(os.fstat(handle))
    finally:
        os.close(handle)
    return ""


def _holder(of: os.stat_result) -> str:
    """The process that has locked a file, from /proc/locks: device and inode stand there as ``08:01:131``."""
    wanted = "%02x:%02x:%d" % (os.major(of.st_dev), os.minor(of.st_dev), of.st_ino)
    with open("/proc/locks", encoding="ascii") as handle:
        for fields in (line.split() for line in handle):
            if len(fields) > 5 and fields[5] == wanted and fields[4].isdigit():
                try:
                    with open("/proc/%s/comm" % fields[4], encoding="utf-8", errors="replace") as name:
                        return "%s (process %s)" % (name.read().strip(), fields[4])
                except OSError:
                    return "process %s" % fields[4]
    return "a process that cannot be seen from here"


def _list_file(package: Package) -> str:
    """Where dpkg has the names of a package's files. Multi-arch packages have the architecture in the name."""
    plain = os.path.join(DATABASE, "info", package.name + ".list")
    return plain if os.path.exists(plain) else os.path.join(DATABASE, "info", "%s:%s.list" % (package.name, package.arch))


def files_of(package: Package) -> set[str]:
    """The paths that a package owns."""
    try:
        with open(_list_file(package), encoding="utf-8", errors="surrogateescape") as handle:
            return set(handle.read().splitlines())
    except FileNotFoundError:
        return set()


def unpacked_at(package: Package) -> float:
    """When dpkg put the package's files there (wall clock): its list of them is written then, and its ctime cannot be set."""
    try:
        return os.stat(_list_file(package)).st_ctime
    except FileNotFoundError:
        return 0.0


def units_of(rows: t.Iterable[Package]) -> set[str]:
    """The service units that packages bring, also those that systemd makes from their init scripts."""
    found = set()
    for path in (path for row in rows for path in files_of(row)):
        unit = _UNIT.match(path)
        if unit and not unit[1].endswith("@.service"):
            found.add(unit[1])
        elif os.path.dirname(path) == "/etc/init.d":
            found.add(os.path.basename(path) + ".service")
    return found


def refuse_unusable(rows: t.Iterable[Package], known: t.Mapping[str, Package], alone: bool = False) -> None:
    """Raise LifecycleError where apt would not, or should not, move these packages. ``alone``: dpkg's own books are not looked at."""
    half = sorted(row.name for row in known.values() if row.half)
    holder = "" if alone else lock_holder()
    if holder:
        raise LifecycleError("dpkg is in use by %s." % holder, "package.locked", "Wait for it, then run again.")
    if half or (not alone and interrupted()):
        raise LifecycleError(
            "dpkg was interrupted on this host; not fully installed: %s." % (", ".join(half) or "what dpkg --audit tells"),
            "package.half_configured",
            "Mend it first: dpkg --configure -a, then dpkg --audit must say nothing.",
        )
    held = [row.name for row in rows if row.held]
    if held:
        raise LifecycleError(
            "%s is held on this host." % ", ".join(held),
            "package.held",
            "Somebody wants it to stay as it is. Release it (apt-mark unhold %s), or put hold into the record." % " ".join(held),
        )

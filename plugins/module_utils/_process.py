# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Which version runs: proven from the process that listens, never from a link, a header or a file that we set.

Listening socket -> inode -> processes that hold it -> the environment that they were loaded from -> the metadata that is
installed there. A process in a container is followed through its own root, so the look works on most layouts.
"""

from __future__ import annotations

import dataclasses
import glob
import ipaddress
import os
import re
import sys
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.module_utils._release import normalise

PROC = "/proc"
_LISTEN = "0A"
_SITE = re.compile(r"^(?P<site>/.*?/(?:site|dist)-packages)/.*\.so(?: \(deleted\))?$")


@dataclasses.dataclass(frozen=True)
class Running:
    """What listens. ``version`` is None when it is not proven, and ``problem`` then says why.

    ``mixed`` when a process has loaded from two environments: then no other process can speak for it. ``started`` is the start
    of the oldest of the processes, on ``boot_clock``.
    """

    pids: tuple[int, ...] = ()
    version: str | None = None
    prefix: str = ""
    started: float = 0.0
    problem: str = ""
    mixed: bool = False

    @property
    def listening(self) -> bool:
        return bool(self.pids or self.problem)

    def facts(self) -> dict[str, t.Any]:
        return {"pids": list(self.pids), "version": self.version, "prefix": self.prefix, "problem": self.problem}


def split_listen(listen: str) -> tuple[str, int]:
    """``10.0.0.1:5000`` or ``[::1]:5000`` as address and port. Raises BadInputError."""
    host, _colon, port = listen.rpartition(":")
    try:
        address = str(ipaddress.ip_address(host.strip("[]")))
        number = int(port)
    except ValueError:
        number = 0
        address = ""
    if not 0 < number < 65536:
        raise BadInputError(
            "%r is not an address and a port." % (listen,), "input.listen", "It looks like 10.0.0.1:5000 or [2001:db8::1]:5000."
        )
    return address, number


def decode_address(text: str) -> tuple[str, int]:
    """An address of /proc/net/tcp or tcp6 (words in host byte order); IPv4 inside IPv6 comes out as IPv4."""
    words, _colon, port = text.partition(":")
    raw = b"".join(int(words[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(words), 8))
    address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(raw)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address), int(port, 16)


def listening_inodes(listen: str, tables: t.Iterable[str] | None = None) -> set[str]:
    """Inodes of the sockets that would take a connection to ``listen`` (on that address, or on every address)."""
    address, port = split_listen(listen)
    found = set()
    for table in tables if tables is not None else (PROC + "/net/tcp", PROC + "/net/tcp6"):
        try:
            with open(table, encoding="ascii") as handle:
                rows = handle.read().splitlines()[1:]
        except OSError:  # a host without IPv6 has no tcp6
            continue
        for row in rows:
            fields = row.split()
            if len(fields) > 9 and fields[3] == _LISTEN:
                here, at = decode_address(fields[1])
                if at == port and here in (address, "0.0.0.0", "::"):  # noqa: S104 - compared with, not bound to
                    found.add(fields[9])
    return found


def holders(inodes: set[str]) -> list[int]:
    """Processes that hold one of the sockets. systemd holds sockets that it passes on: left out when others have them."""
    wanted = {"socket:[%s]" % inode for inode in inodes}
    pids = []
    for name in os.listdir(PROC):
        if not name.isdigit():
            continue
        try:
            with os.scandir("%s/%s/fd" % (PROC, name)) as entries:
                if any(_readlink(entry.path) in wanted for entry in entries):
                    pids.append(int(name))
        except OSError:  # it ended, or is not ours to look into
            continue
    return [pid for pid in sorted(pids) if pid != 1] or sorted(pids)


def _readlink(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def site_folders(pid: int) -> list[str]:
    """The site-packages folders (inside the root of the process) that the process was loaded from, the surest first."""
    root = "%s/%d/root" % (PROC, pid)
    exe = _readlink("%s/%d/exe" % (PROC, pid)).replace(" (deleted)", "")
    prefixes = [os.path.dirname(os.path.dirname(exe))] if exe else []
    mapped = []
    for line in _text("%s/%d/maps" % (PROC, pid)).splitlines():
        found = _SITE.match(line.split(None, 5)[-1])
        if found and found.group("site") not in mapped:
            mapped.append(found.group("site"))
    for part in _text("%s/%d/cmdline" % (PROC, pid)).split("\0")[:3]:
        # A folder that is reached through a link proves nothing: the link may have been moved since the start.
        folder = os.path.dirname(part)
        if folder.startswith("/") and not _has_link(root, folder):
            prefixes.append(os.path.dirname(folder))
    environments = [prefix for prefix in prefixes if os.path.isfile(root + prefix + "/pyvenv.cfg")]
    sites = [
        path[len(root) :]
        for prefix in environments[:1]
        for path in sorted(glob.glob(root + prefix + "/lib/python3*/site-packages"))
    ]
    # An environment's own libraries before those of the host, which an environment may see as well.
    mapped.sort(key=lambda site: not os.path.isfile(root + _prefix_of(site) + "/pyvenv.cfg"))
    return sites + [site for site in mapped if site not in sites]


def _has_link(root: str, path: str) -> bool:
    """True when a part of ``path`` inside ``root`` is a symbolic link. (realpath would leave /proc/PID/root.)"""
    parts = path.split("/")
    return any(os.path.islink(root + "/".join(parts[: number + 1])) for number in range(1, len(parts)))


def _prefix_of(site: str) -> str:
    return re.sub(r"/lib(?:64)?/python3[^/]*/(?:site|dist)-packages$", "", site)


def _text(path: str) -> str:
    try:
        with open(path, "rb") as handle:
            return handle.read().decode("utf-8", "replace")
    except OSError:
        return ""


def installed_metadata(site: str, package: str) -> list[tuple[str, str]]:
    """(version, metadata file) of every installed copy of ``package`` in one site-packages folder; one is normal."""
    found = []
    pattern = re.sub(r"[-_.]", "[-_.]", normalise(package))
    for folder in os.listdir(site) if os.path.isdir(site) else []:
        if not re.match(r"(?i)^%s-[^-]+(?:-py\d[\d.]*)?\.(?:dist|egg)-info$" % pattern, folder):
            continue
        for name in ("METADATA", "PKG-INFO", ""):
            path = os.path.join(site, folder, name).rstrip("/")
            if os.path.isfile(path):
                version = re.search(r"(?m)^Version:\s*(\S+)", _text(path).split("\n\n")[0])
                if version:
                    found.append((version.group(1), path))
                break
    return found


def distributions(site: str) -> list[tuple[str, str, str]]:
    """(name as indexes compare it, version, metadata file) of everything that is installed in one site-packages folder."""
    found = []
    for folder in sorted(os.listdir(site)) if os.path.isdir(site) else []:
        # What pip has left of an installation that was cut begins with ~.
        if not folder.endswith((".dist-info", ".egg-info")) or folder.startswith("~"):
            continue
        paths = [os.path.join(site, folder, name).rstrip("/") for name in ("METADATA", "PKG-INFO", "")]
        path = next((path for path in paths if os.path.isfile(path)), "")
        head = _text(path).split("\n\n")[0] if path else ""
        fields = dict(re.findall(r"(?m)^(Name|Version):[ \t]*(\S+)", head))
        if len(fields) == 2:
            found.append((normalise(fields["Name"]), fields["Version"], path))
    return found


def started_at(pid: int) -> float:
    """When the process was started, in seconds since the host was (CLOCK_BOOTTIME); 0.0 when it is gone."""
    fields = _text("%s/%d/stat" % (PROC, pid)).rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK") if len(fields) > 19 else 0.0


def boot_clock() -> float:
    """Seconds since the host was started: the clock of process starts, which nobody can set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def prove(pid: int, package: str) -> Running:
    """The version of ``package`` that one process was loaded from."""
    root = "%s/%d/root" % (PROC, pid)
    sites = site_folders(pid)
    started = started_at(pid)
    for number, site in enumerate(sites):
        copies = installed_metadata(root + site, package)
        if len(copies) > 1:
            return Running((pid,), None, "", started, "%s is installed %d times in %s" % (package, len(copies), site))
        if copies:
            others = [_prefix_of(other) for other in sites[number + 1 :] if installed_metadata(root + other, package)]
            others = [other for other in others if other != _prefix_of(site) and os.path.isfile(root + other + "/pyvenv.cfg")]
            if others:
                # A server of one environment can be told by its configuration to load the other.
                both = "process %d has loaded libraries of two environments that hold %s: %s and %s"
                return Running((pid,), None, "", started, both % (pid, package, _prefix_of(site), others[0]), True)
            version, path = copies[0]
            # Files that were replaced under a running process say what the next start will be, not what runs.
            if os.stat(path).st_ctime - time.time() + boot_clock() > started + 1.0:
                return Running(
                    (pid,),
                    None,
                    _prefix_of(site),
                    started,
                    "%s in %s was replaced after process %d was started" % (package, site, pid),
                )
            return Running((pid,), version, _prefix_of(site), started)
    return Running(
        (pid,), None, "", started, "process %d was not loaded from a Python environment that holds %s" % (pid, package)
    )


def running(listen: str, package: str) -> Running:
    """What listens on ``listen``, with the version of ``package`` proven when all its processes agree."""
    inodes = listening_inodes(listen)
    if not inodes:
        return Running()
    pids = holders(inodes)
    if not pids:
        return Running(problem="%s is held by a process that cannot be seen from here" % listen)
    proofs = [prove(pid, package) for pid in pids]
    good = [proof for proof in proofs if proof.version is not None]
    # A web server that hands requests on to children: they are loaded from the environment, it is not.
    handed = [] if good else [prove(pid, package) for pid in children(pids)]
    good = good or [proof for proof in handed if proof.version is not None]
    started = min(proof.started for proof in proofs)
    mixed = [proof for proof in [*proofs, *handed] if proof.mixed]
    if mixed:
        return Running(tuple(pids), None, "", started, mixed[0].problem, True)
    if not good:
        return Running(tuple(pids), None, proofs[0].prefix, started, proofs[0].problem)
    if len({(proof.version, proof.prefix) for proof in good}) > 1:
        seen = ", ".join(sorted("%s from %s" % (proof.version, proof.prefix) for proof in good))
        return Running(tuple(pids), None, "", started, "processes of different releases hold %s: %s" % (listen, seen))
    return Running(tuple(pids), good[0].version, good[0].prefix, started)


def children(parents: t.Iterable[int]) -> list[int]:
    """The processes that the given ones have started directly."""
    wanted = {str(pid) for pid in parents}
    found = []
    for name in os.listdir(PROC):
        if name.isdigit():
            fields = _text("%s/%s/stat" % (PROC, name)).rpartition(")")[2].split()
            if len(fields) > 1 and fields[1] in wanted:
                found.append(int(name))
    return sorted(found)


def users_of(folder: str) -> list[int]:
    """Processes that were started from, or have loaded something from, a folder."""
    needle = os.path.realpath(folder) + "/"
    found = []
    for name in os.listdir(PROC):
        if name.isdigit() and (
            _readlink("%s/%s/exe" % (PROC, name)).startswith(needle)
            or needle in _text("%s/%s/maps" % (PROC, name))
            or needle in _text("%s/%s/cmdline" % (PROC, name))
        ):
            found.append(int(name))
    return sorted(found)

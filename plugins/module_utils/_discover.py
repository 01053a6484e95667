# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What runs of one Python project on this host, whoever deployed it: from every listening socket to its processes, and from them to the
environment that they were loaded from. Reads only.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import os
import pwd
import re
import stat
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _process
from ansible_collections.osops.lifecycle.plugins.module_utils._command import run
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._systemd import check_name

PROC = _process.PROC
_LISTEN = "0A"
_NAME = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$")
# What container engines call the control groups of their containers.
_ENGINE = re.compile(r"libpod|docker|kubepods|containerd|crio|lxc|machine\.slice")
# The folder whose bin a program lies in, in what systemd says of ExecStart.
_PROGRAM = re.compile(r"(?:^|[\s=])(/[^\s;]+?)/bin/")
MAX_CONFIG_BYTES = 16 * 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is looked for: a distribution, and by what one of its services is told from others that live in the same environment."""

    package: str
    service: str
    ports: tuple[int, ...] = ()
    words: tuple[str, ...] = ()

    @classmethod
    def from_args(cls, args: t.Mapping[str, t.Any]) -> Wanted:
        """Check the arguments of the module. Raises BadInputError with one sentence."""
        package, service = args["package"], args["service"] or args["package"]
        for name, value in (("package", package), ("service", service)):
            if not _NAME.match(value):
                raise BadInputError("%s %r is not a plain name." % (name, value), "input." + name, "It looks like keystone.")
        for port in args["ports"]:
            if not 0 < port < 65536:
                raise BadInputError("%r is not a port." % (port,), "input.ports", "It is a number from 1 to 65535.")
        if not all(word.strip() for word in args["words"]):
            raise BadInputError(
                "One of the words is empty.", "input.words", "An empty word would be found in every command line."
            )
        return cls(package, service, tuple(args["ports"]), tuple(args["words"] or [service]))


@dataclasses.dataclass(frozen=True)
class Process:
    """One process of this host: its control group (all that /proc says of it), the sockets it holds, and its network."""

    pid: int
    parent: int
    cgroup: str
    sockets: frozenset[str]
    net: str

    @property
    def unit(self) -> str:
        """The control group of the systemd service that it belongs to, or nothing: a session or a container is none."""
        parts = self.cgroup.split("/")
        services = [number for number, part in enumerate(parts, start=1) if part.endswith(".service")]
        return "/".join(parts[: services[-1]]) if services else ""


@dataclasses.dataclass
class Group:
    """Processes that share listening sockets, and the control group of their unit.

    ``loaded``: those that were loaded from the environment, each with the metadata that says so.
    """

    listen: set[str]
    pids: set[int]
    unit: str
    loaded: dict[int, str] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the unit."""
        return os.path.basename(self.unit)


def look(wanted: Wanted) -> dict[str, t.Any]:
    """All instances, what else holds one of the known ports, and where nobody can be seen who listens. Raises LifecycleError."""
    try:
        return _look(wanted)
    except OSError as exc:
        raise LifecycleError(
            "The host answered %s to a look at %s." % (exc.strerror or exc, exc.filename or "a process"),
            "discover.moved",
            "A process may have ended meanwhile: look again.",
        ) from exc


def _look(wanted: Wanted) -> dict[str, t.Any]:
    known = _processes()
    sockets = _listening(known)
    groups, unseen = _groups(known, sockets)
    if unseen and os.geteuid() != 0:
        raise LifecycleError(
            "The processes that listen on %s cannot be seen." % ", ".join(unseen),
            "discover.blind",
            "Only root may look at the processes of others: use become.",
        )
    for group in groups:
        group.loaded = _loaded(group, known, set(sockets), wanted.package)
    instances = _merged([group for group in groups if group.loaded])
    others = [group for group in groups if not group.loaded and _known_port(group, wanted)]
    return {
        "instances": [_instance(group, wanted) for group in instances],
        "others": [{**_who(group), "unit": group.name} for group in others],
        "unseen": unseen,
    }


def _processes() -> dict[int, Process]:
    found = {}
    for name in os.listdir(PROC):
        fields = _text("%s/%s/stat" % (PROC, name)).rpartition(")")[2].split() if name.isdigit() else []
        if len(fields) > 1:
            net = _readlink("%s/%s/ns/net" % (PROC, name))
            found[int(name)] = Process(int(name), int(fields[1]), _cgroup(name), _sockets(name), net)
    return found


def _cgroup(pid: str) -> str:
    """Its control group as systemd knows it: the unified hierarchy, or the named one where there are several."""
    rows = [line.split(":", 2) for line in _text("%s/%s/cgroup" % (PROC, pid)).splitlines()]
    paths = [row[2] for row in rows if len(row) == 3 and row[1] in ("", "name=systemd")]
    return max(paths, key=len, default="")


def _sockets(pid: str) -> frozenset[str]:
    try:
        with os.scandir("%s/%s/fd" % (PROC, pid)) as entries:
            targets = [_readlink(entry.path) for entry in entries]
    except OSError:  # it ended, or is not ours to look into; what it listens on is then told as unseen
        return frozenset()
    return frozenset(target[8:-1] for target in targets if target.startswith("socket:["))


def _listening(known: t.Mapping[int, Process]) -> dict[str, str]:
    """Inode of every listening socket, and where it listens: in every network that a process is in, not only in the host's."""
    networks = {process.net: str(pid) for pid, process in known.items()}
    networks[_readlink(PROC + "/self/ns/net")] = "self"
    found = {}
    for pid in networks.values():
        for table in ("tcp", "tcp6"):
            for row in _text("%s/%s/net/%s" % (PROC, pid, table)).splitlines()[1:]:
                fields = row.split()
                if len(fields) > 9 and fields[3] == _LISTEN:
                    address, port = _process.decode_address(fields[1])
                    found[fields[9]] = ("[%s]:%d" if ":" in address else "%s:%d") % (address, port)
    return found


def _groups(known: t.Mapping[int, Process], sockets: t.Mapping[str, str]) -> tuple[list[Group], list[str]]:
    """Who listens where, and where it cannot be seen who does."""
    groups: list[Group] = []
    unseen = set()
    for inode, listen in sockets.items():
        pids = {pid for pid, process in known.items() if inode in process.sockets}
        # systemd holds the sockets that it passes on.
        pids = pids - {1} or pids
        if not pids:
            unseen.add(listen)
            continue
        new = Group({listen}, pids, known[min(pids)].unit)
        groups = _merged([*groups, new], lambda one, other: bool(one.pids & other.pids))
    return sorted(groups, key=lambda group: sorted(group.listen)), sorted(unseen)


def _same_unit(one: Group, other: Group) -> bool:
    return bool(one.unit) and one.unit == other.unit


def _merged(groups: t.Iterable[Group], same: t.Callable[[Group, Group], bool] = _same_unit) -> list[Group]:
    """Groups that are the same in some way, as one: a unit that listens twice is one instance."""
    found: list[Group] = []
    for group in groups:
        for other in [other for other in found if same(group, other)]:
            group = Group(group.listen | other.listen, group.pids | other.pids, group.unit, {**group.loaded, **other.loaded})
            found.remove(other)
        found.append(group)
    return found


def _loaded(group: Group, known: t.Mapping[int, Process], sockets: set[str], package: str) -> dict[int, str]:
    """The processes of a group whose environment holds the package, each with the metadata that says so.

    A web server may hand requests on to children: they are loaded from the environment, it is not. What systemd or a supervisor has
    started is none of its children in this sense: it has a control group or sockets of its own.
    """
    found = {pid: _metadata(pid, package) for pid in sorted(group.pids)}
    if not any(found.values()) and 1 not in group.pids:
        children = [process for process in known.values() if process.parent in group.pids and not process.sockets & sockets]
        found = {
            process.pid: _metadata(process.pid, package) for process in children if process.cgroup == known[process.parent].cgroup
        }
    return {pid: path for pid, path in found.items() if path}


def _metadata(pid: int, package: str) -> str:
    """The metadata of the package that a process was loaded with, as a path inside the root of the process."""
    root = "%s/%d/root" % (PROC, pid)
    for site in _process.site_folders(pid):
        copies = _process.installed_metadata(root + site, package)
        if copies:
            return copies[0][1][len(root) :]
    return ""


def _instance(group: Group, wanted: Wanted) -> dict[str, t.Any]:
    first = min(group.loaded)
    root = "%s/%d/root" % (PROC, first)
    version, prefix, problem = _proof(group.loaded, wanted.package)
    pids = sorted(group.pids | set(group.loaded))
    lines = " ".join([group.name, *(_text("%s/%d/cmdline" % (PROC, pid)) for pid in pids)]).lower()
    named = any(word.lower() in lines for word in wanted.words)
    return {
        **_who(group),
        "pids": pids,
        "behind": "" if group.pids & set(group.loaded) else _who(group)["program"],
        "version": version,
        "problem": problem,
        "prefix": prefix,
        "virtual": bool(prefix) and os.path.isfile(root + prefix + "/pyvenv.cfg"),
        "known_by": ["port"] * _known_port(group, wanted) + ["word"] * named,
        "user": _user(first),
        "unit": unit_facts(group.name, prefix) if group.unit else None,
        "container": container(first),
        "package": package_owner(root, group.loaded[first]),
        "config": _configuration(pids, wanted.service),
    }


def _who(group: Group) -> dict[str, t.Any]:
    name = _text("%s/%d/comm" % (PROC, min(group.pids))).strip()
    return {"listen": sorted(group.listen), "pids": sorted(group.pids), "program": name}


def _known_port(group: Group, wanted: Wanted) -> bool:
    return any(int(listen.rpartition(":")[2]) in wanted.ports for listen in group.listen)


def _proof(pids: t.Iterable[int], package: str) -> tuple[str | None, str, str]:
    """Version, prefix of the environment, and why the version is not proven; as ``_process.running`` judges it."""
    proofs = [_process.prove(pid, package) for pid in pids]
    good = [proof for proof in proofs if proof.version is not None]
    if not good:
        return None, proofs[0].prefix, proofs[0].problem
    if len({(proof.version, proof.prefix) for proof in good}) > 1:
        seen = ", ".join(sorted({"%s from %s" % (proof.version, proof.prefix) for proof in good}))
        return None, "", "processes of different releases serve together: %s" % seen
    return good[0].version, good[0].prefix, ""


def unit_facts(name: str, prefix: str) -> dict[str, t.Any]:
    """What systemd says of the unit; where it cannot say, ``problem`` is the reason. Its command line is read, and not told."""
    facts: dict[str, t.Any] = {"name": name, "user": "", "fragment": "", "drop_ins": [], "starts_from": "", "problem": ""}
    properties = "--property=LoadState,User,FragmentPath,DropInPaths,ExecStart"
    try:
        done = run(["systemctl", "--no-ask-password", "show", properties, "--", check_name(name)], 30.0)
    except LifecycleError as exc:
        return {**facts, "problem": exc.msg}
    rows = [line.split("=", 1) for line in done.out.splitlines() if "=" in line]
    values = {row[0]: row[1] for row in rows if row[0] != "ExecStart"}
    if done.rc != 0 or "LoadState" not in values:
        return {**facts, "problem": "systemd cannot be asked about it"}
    facts.update(user=values.get("User") or "root", fragment=values.get("FragmentPath", ""))
    facts["drop_ins"] = values.get("DropInPaths", "").split()
    facts["starts_from"] = _named(prefix, [row[1] for row in rows if row[0] == "ExecStart"])
    if values["LoadState"] != "loaded":
        facts["problem"] = "systemd calls it %s, so it is perhaps a user's own unit" % values["LoadState"]
    return facts


def _named(prefix: str, starts: t.Iterable[str]) -> str:
    """The environment as the start of the unit names it, which may be by a link; empty when it does not name it."""
    folders = [folder for start in starts for folder in _PROGRAM.findall(start)] if prefix else []
    return next((folder for folder in folders if os.path.realpath(folder) == os.path.realpath(prefix)), "")


def container(pid: int) -> str:
    """What shows that a process lives in a container, one sentence; empty when it lives on the host itself.

    Compared with this program, which was started on the host; that may be a container itself, so its control groups begin where those
    of process 1 do. A mount namespace says nothing: units in a sandbox have one too.
    """
    here, top = _cgroup(str(pid)), _cgroup("1").rstrip("/")
    top = top[: -len("/init.scope")] if top.endswith("/init.scope") else top
    below = here[len(top) :] if here.startswith(top) else here
    if _ENGINE.search(below):
        return "its control group is %s" % below
    if _readlink("%s/%d/ns/pid" % (PROC, pid)) != _readlink(PROC + "/self/ns/pid"):
        return "it has process numbers of its own"
    roots = [os.stat("%s/%s/root/" % (PROC, one)) for one in (pid, "self")]
    if (roots[0].st_dev, roots[0].st_ino) != (roots[1].st_dev, roots[1].st_ino):
        return "it has a root folder of its own"
    return ""


def package_owner(root: str, path: str) -> str:
    """The Debian package that a file belongs to, from dpkg's own lists; empty when it belongs to none."""
    wanted = path.encode()
    for listing in sorted(glob.glob(root + "/var/lib/dpkg/info/*.list")):
        with open(listing, "rb") as handle:
            data = handle.read()
        if wanted in data and wanted in data.splitlines():
            return os.path.basename(listing)[: -len(".list")].partition(":")[0]
    return ""


def _configuration(pids: t.Sequence[int], service: str) -> list[dict[str, t.Any]]:
    """The configuration files of the service, as its processes were told of them; what they are told else is never read."""
    prefix = "OS_%s_CONFIG_" % re.sub(r"[-.]", "_", service).upper()
    named: dict[str, str] = {}
    for pid in pids:
        told = dict(line.split("=", 1) for line in _words(pid, "environ") if line.startswith(prefix) and "=" in line)
        folder = told.get(prefix + "DIR") or "/etc/" + service
        files = [name.strip() for name in told.get(prefix + "FILES", "").split(";") if name.strip()]
        if told.get(prefix + "DIR") and not files:
            files = [service + ".conf"]
        for name in files:
            named.setdefault(os.path.join(folder, name), "environment")
        words, here = _words(pid, "cmdline"), _readlink("%s/%d/cwd" % (PROC, pid))
        following = [after for word, after in zip(words, words[1:]) if word == "--config-file"]
        for name in following + [word.partition("=")[2] for word in words if word.startswith("--config-file=")]:
            named.setdefault(os.path.join(here, name), "command line")
    root = "%s/%d/root" % (PROC, pids[0])
    usual = "/etc/%s/%s.conf" % (service, service)
    if not named and os.path.lexists(root + usual):
        named[usual] = "default"
    return [{"path": path, "named_by": by, **_digest(root, path)} for path, by in named.items()]


def _digest(root: str, path: str) -> dict[str, t.Any]:
    """The SHA-256 of a file's content, or why there is none. Never the content."""
    try:
        handle = os.open(root + path, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe would wait for its writer
        try:
            seen = os.fstat(handle)
            if not stat.S_ISREG(seen.st_mode):
                return {"sha256": None, "problem": "it is not a file"}
            if seen.st_size > MAX_CONFIG_BYTES:
                return {"sha256": None, "problem": "it has %d bytes, which is no configuration" % seen.st_size}
            with os.fdopen(os.dup(handle), "rb") as content:
                return {"sha256": hashlib.sha256(content.read(MAX_CONFIG_BYTES)).hexdigest(), "problem": ""}
        finally:
            os.close(handle)
    except OSError as exc:
        return {"sha256": None, "problem": "it cannot be read: %s" % exc.strerror}


def _user(pid: int) -> str:
    try:
        number = os.stat("%s/%d" % (PROC, pid)).st_uid
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _words(pid: int, name: str) -> list[str]:
    return _text("%s/%d/%s" % (PROC, pid, name)).split("\0")


def _text(path: str) -> str:
    try:
        with open(path, "rb") as handle:
            return handle.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _readlink(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""

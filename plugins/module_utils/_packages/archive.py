# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What apt offers on this host, what it would do, and packages fetched from it. Nothing is installed here."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._command import run
from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError, UnknownAnswerError
from ansible_collections.osops.lifecycle.plugins.module_utils._packages import dpkg
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import scrub, tail

CACHE = "/var/cache/apt/archives"
# apt-get(8): a simulation prints one line for each act of dpkg: `Inst NAME [OLD] (NEW ORIGIN [ARCH])`, `Remv NAME [OLD]`, `Conf …`.
_ACT = re.compile(r"^(Inst|Remv|Conf) ([a-z0-9][a-z0-9+.:-]*)(?: \[([^\]]+)\])?(?: \(([^ )]+))?")
_LOCKED = re.compile(r"Could not get lock|Unable to (?:acquire|lock)")
# Two minutes for one answer of an archive that hangs; three tries.
_PATIENCE = ("-o", "Acquire::http::Timeout=30", "-o", "Acquire::https::Timeout=30", "-o", "Acquire::Retries=3")


@dataclasses.dataclass(frozen=True)
class Offer:
    """One version of a package that apt could get."""

    name: str
    version: str
    source: str
    source_version: str
    size: int
    installed_size: int
    sha256: str


def fields(text: str) -> t.Iterator[dict[str, str]]:
    """The paragraphs of a Debian control file, each as a dictionary of its one-line fields."""
    for paragraph in text.split("\n\n"):
        found = dict(line.split(":", 1) for line in paragraph.splitlines() if ":" in line and not line[0].isspace())
        if found:
            yield {name: value.strip() for name, value in found.items()}


def offers(name: str) -> list[Offer]:
    """Every version of a package that the lists of this host know and that can be fetched."""
    done = run(["apt-cache", "show", "--all-versions", dpkg.check_name(name)], 60.0)
    found = []
    for row in fields(done.out) if done.rc == 0 else ():
        if "Filename" in row and "Version" in row:
            # `Source: keystone (2:22.0.2-0+deb12u6)`; without it, the package's own name and version.
            source, _space, version = row.get("Source", name).partition(" ")
            found.append(
                Offer(name, row["Version"], source, version.strip("()") or row["Version"], int(row.get("Size", 0)),
                      int(row.get("Installed-Size", 0)) * 1024, row.get("SHA256", ""))
            )  # fmt: skip
    return found


def update(deadline: Deadline) -> None:
    """Let apt fetch the lists of its archives anew. Raises LifecycleError when it could not get all of them."""
    done = run(["apt-get", "-q", *_PATIENCE, "-o", "APT::Update::Error-Mode=any", "update"], deadline.remaining())
    if done.rc != 0:
        raise _failed("The lists of the package archives cannot be fetched", done.err, "package.archive")


def simulate(wanted: t.Mapping[str, str], config: str = "") -> dict[str, tuple[str, str]]:
    """What apt would do for these versions: package -> (act, version), acts ``Inst`` and ``Remv``. Raises LifecycleError."""
    argv = [
        "apt-get",
        "-q",
        "-s",
        "--no-install-recommends",
        "--only-upgrade",
        "--allow-downgrades",
        "--no-auto-remove",
        "install",
    ]
    specs = ["%s=%s" % row for row in sorted(wanted.items())]
    done = run([*argv, *specs], 120.0, env={"APT_CONFIG": config} if config else None)
    if done.rc != 0:
        raise LifecycleError(
            "apt cannot move %s: %s" % (", ".join(specs), _reason(done.out, done.err)),
            "package.unsatisfied",
            "Something that it needs or that breaks with it is in the way; see the evidence.",
            {"output": tail(scrub(done.out + done.err), 15)},
        )
    acts = [found for found in map(_ACT.match, done.out.splitlines()) if found]
    return {act[2].partition(":")[0]: (act[1], act[4] or act[3] or "") for act in acts if act[1] != "Conf"}


def _reason(out: str, err: str) -> str:
    """The lines of apt that say why not, as one text."""
    lines = [line.strip() for line in out.splitlines() if re.search(r"(Depends|Conflicts|Breaks|PreDepends|Recommends): ", line)]
    lines = lines or [line[3:].strip() for line in err.splitlines() if line.startswith("E: ")]
    return "; ".join(lines[:4]) or "it does not say why"


def fetch(wanted: t.Mapping[str, Offer], folder: str, deadline: Deadline) -> dict[str, str]:
    """Put the packages into ``folder``, from apt's own cache or its archives; package -> file. Raises LifecycleError.

    apt holds the digest of what it fetches against its signed lists; what lay in its cache is held against them here.
    """
    found = {name: _cached(offer, folder) for name, offer in wanted.items()}
    missing = [wanted[name] for name, file in found.items() if not file]
    if missing:
        specs = ["%s=%s" % (offer.name, offer.version) for offer in missing]
        done = run(["apt-get", "-q", *_PATIENCE, "download", *specs], deadline.remaining(), folder=folder)
        if done.rc != 0:
            full = shutil.disk_usage(folder).free < sum(offer.size for offer in missing)
            code = "package.no_space" if full else "package.archive"
            raise _failed("The packages %s cannot be fetched" % ", ".join(specs), done.err, code)
        found.update({offer.name: _named(folder, offer) for offer in missing})
    return found


def _cached(offer: Offer, folder: str) -> str:
    """A copy of what apt has fetched before, if it is what its lists name; empty otherwise."""
    if not offer.sha256 or not os.path.isdir(CACHE):
        return ""
    for name in os.listdir(CACHE):
        path = os.path.join(CACHE, name)
        if name.startswith(offer.name + "_") and name.endswith(".deb") and os.path.getsize(path) == offer.size:
            if digest(path) != offer.sha256:
                continue
            shutil.copyfile(path, os.path.join(folder, name))
            return name
    return ""


def _named(folder: str, offer: Offer) -> str:
    """The file that holds a version of a package, by what stands in it, not by its name."""
    for name in sorted(os.listdir(folder)):
        if name.endswith(".deb"):
            row = control(os.path.join(folder, name))
            if (row.get("Package"), row.get("Version")) == (offer.name, offer.version):
                if offer.sha256 and digest(os.path.join(folder, name)) != offer.sha256:
                    raise LifecycleError(
                        "%s is not what the lists of the archive name." % name,
                        "package.wrong_hash",
                        "Do not use it; look at the archive.",
                    )
                return name
    raise UnknownAnswerError("apt fetched %s %s, but it is not there." % (offer.name, offer.version))


def kept_by_apt(package: dpkg.Package, folder: str) -> str:
    """A copy of an installed version from apt's cache, where no archive offers it any more; empty when there is none.

    Its fields are compared, and its files by the digests that dpkg has of what is installed.
    """
    for name in sorted(os.listdir(CACHE)) if os.path.isdir(CACHE) else []:
        path = os.path.join(CACHE, name)
        if name.startswith(package.name + "_") and name.endswith(".deb"):
            row = control(path)
            named = (row.get("Package"), row.get("Version"), row.get("Architecture"))
            if named == (package.name, package.version, package.arch) and _same_files(path, package):
                shutil.copyfile(path, os.path.join(folder, name))
                return name
    return ""


def _same_files(path: str, package: dpkg.Package) -> bool:
    """Whether a package file has the digests of files that dpkg wrote down when it installed that version."""
    shown = run(["dpkg-deb", "--info", path, "md5sums"], 60.0)
    for name in ("%s.md5sums" % package.name, "%s:%s.md5sums" % (package.name, package.arch)):
        at = os.path.join(dpkg.DATABASE, "info", name)
        if os.path.exists(at):
            with open(at, encoding="utf-8", errors="replace") as handle:
                return shown.rc == 0 and sorted(shown.out.splitlines()) == sorted(handle.read().splitlines())
    return False


def control(path: str) -> dict[str, str]:
    """The fields of a package file; empty for what is none."""
    done = run(["dpkg-deb", "--field", path], 60.0)
    return next(fields(done.out), {}) if done.rc == 0 else {}


def digest(path: str) -> str:
    """SHA-256 of a file, in hex digits."""
    found = hashlib.sha256()
    with open(path, "rb") as handle:
        for piece in iter(lambda: handle.read(1 << 20), b""):
            found.update(piece)
    return found.hexdigest()


def _failed(what: str, err: str, code: str) -> LifecycleError:
    """An error with what apt said; addresses in it may hold a password."""
    said = [line[3:].strip() for line in scrub(err).splitlines() if line.startswith("E: ")]
    locked = _LOCKED.search(err)
    hint = "Somebody else uses apt now: wait for it." if locked else "See the evidence; apt-get update by hand shows the same."
    return LifecycleError(
        "%s: %s." % (what, (said or ["apt does not say why"])[0].rstrip(".")),
        "package.locked" if locked else code,
        "Make room on the disk." if code == "package.no_space" else hint,
        {"output": tail(scrub(err), 10)},
    )

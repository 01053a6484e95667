# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What a release is: a version, the lock text that pins all it consists of, and the name made of both."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError

_ID = re.compile(r"^(?P<version>[A-Za-z0-9][A-Za-z0-9.+!_]*)-[0-9a-f]{12}$")
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==\s*(?P<version>[A-Za-z0-9.+!_]+)(?=[\s;]|$)")
_HASH = re.compile(r"\s--hash=sha(?:256|384|512):[0-9a-f]+")


def release_id(version: str, lock_text: str) -> str:
    """The name of a release: its version, and 12 hex digits of the SHA-256 of the lock text as it is in the file."""
    return "%s-%s" % (version, hashlib.sha256(lock_text.encode("utf-8")).hexdigest()[:12])


def version_of(identifier: str) -> str:
    """The version inside a release id. Raises BadInputError when it is not one."""
    found = _ID.match(identifier)
    if not found:
        raise BadInputError(
            "%r is not the name of a release." % (identifier,),
            "artifact.id",
            "It looks like 29.0.2-0123456789ab: version, dash, 12 hex digits.",
        )
    return found.group("version")


def normalise(name: str) -> str:
    """A project name as package indexes compare it: Oslo.Config and oslo-config are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock_text: str) -> dict[str, tuple[str, str]]:
    """Read a lock: project name -> (version, its whole line). Every line pins one version and carries a hash.

    Options inside the lock (an index, an editable path) are refused: what is fetched from where is the record's to say.
    """
    found: dict[str, tuple[str, str]] = {}
    for line in _logical_lines(lock_text):
        if line.startswith("-"):
            raise _bad_lock(
                "holds the option %r" % line.split()[0],
                "Keep nothing but pinned requirements in it; the index belongs into the record.",
            )
        pin = _PIN.match(line)
        if not pin:
            raise _bad_lock(
                "does not pin %r to one version" % line.split(" --hash")[0][:80],
                "Write it with uv pip compile --generate-hashes.",
            )
        if not _HASH.search(line):
            raise _bad_lock("has no hash for %s" % pin.group("name"), "Write it with uv pip compile --generate-hashes.")
        found[normalise(pin.group("name"))] = (pin.group("version"), line)
    if not found:
        raise _bad_lock("is empty", "Write it with uv pip compile --generate-hashes.")
    return found


def _bad_lock(what: str, hint: str) -> BadInputError:
    return BadInputError("The lock %s." % what, "artifact.lock", hint)


def _logical_lines(text: str) -> t.Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"(^|\s)#.*$", "", line).strip()
        if line:
            yield line


@dataclasses.dataclass(frozen=True)
class Release:
    """One release as a hand is asked for it. ``lock`` is empty when only the ``id`` of an installed one was given.

    ``id`` is empty when an adopted environment is meant, whatever else is installed there.
    """

    id: str
    version: str
    package: str
    lock: str = ""
    index: str = ""
    python: str = "/usr/bin/python3"

    @classmethod
    def from_args(cls, args: t.Mapping[str, t.Any], adopted: bool = False) -> Release:
        """Check the option ``release`` of a module. Raises BadInputError with one sentence.

        ``adopted``: there is an environment of somebody else, which a version without a lock means.
        """
        lock, version, package = args.get("lock") or "", args.get("version") or "", args.get("package") or ""
        if not lock:
            if adopted and version and package and not args.get("id"):
                return cls("", version, package)
            if not args.get("id"):
                raise BadInputError("The release has neither an id nor a version with its lock.", "artifact.release")
            return cls(args["id"], version_of(args["id"]), package, "", args.get("index") or "")
        if not version or not package:
            raise BadInputError("A release with a lock also needs its version and its package.", "artifact.release")
        wanted = args.get("digest") or ""
        digest = "sha256:" + hashlib.sha256(lock.encode("utf-8")).hexdigest()
        if wanted and wanted != digest:
            raise BadInputError(
                "The lock is not the one that the record names.",
                "artifact.wrong_hash",
                "It has %s, wanted is %s." % (digest, wanted),
            )
        pinned = pins(lock).get(normalise(package))
        if pinned is None or pinned[0] != version:
            what = (
                "does not hold %s" % package
                if pinned is None
                else "holds %s %s, but %s is wanted" % (package, pinned[0], version)
            )
            raise _bad_lock(what, "The version of the record and the lock belong together.")
        identifier = release_id(version, lock)
        if args.get("id") not in (None, "", identifier):
            raise BadInputError(
                "The release id %s does not belong to this lock, whose id is %s." % (args["id"], identifier), "artifact.id"
            )
        return cls(identifier, version, package, lock, args.get("index") or "", args.get("python") or "/usr/bin/python3")

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only what the plan names is touched: everything on every host before and after, and what differs.

A pattern is three words: host, section, key; ``*`` stands for anything, in the key over spaces and slashes too. For example
``ctl* process keystone-api.service *``, ``lb* file /etc/haproxy/conf.d/green.cfg``, ``db1 table green.*``. Sections and keys:

=========  ====================================================================================
process    ``UNIT main``, ``UNIT child PID``; the sessions of ssh are left out
listen     ``tcp ADDRESS:PORT``, ``unix PATH``; the units that hold it
unit       active or failed services, sockets and timers: state, file, drop-ins
unit_file  enabled (something of /etc or /run wants it), disabled, masked
package    Debian packages: version and state
file       below /etc, /opt, /usr/local, /var/lib/osops and the unit folders; without bytecode
user       group likewise; they stand for /etc/passwd and its sisters
haproxy    ``server BACKEND/NAME``, ``proxy NAME FRONTEND|BACKEND``, ``section TITLE``
schema     table (structure, and CHECKSUM TABLE), account (``USER@HOST``), right (``USER@HOST DB``)
=========  ====================================================================================

By hand: ``python -m tests.rig.snapshot INVENTORY``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import json
import re
import shlex
import subprocess
import sys
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

PROGRAM = Path(__file__).with_name("snapshot_host.py")
LIMIT_S = 120

Fields = t.Mapping[str, str]


class Item(t.NamedTuple):
    """One thing on one host."""

    host: str
    section: str
    key: str

    def __str__(self) -> str:
        return "%s: %s %s" % (self.host, self.section, self.key)


class SnapshotError(Exception):
    """A host could not be looked at; the message names it and what it said."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Everything on every host, and how long looking took."""

    items: t.Mapping[Item, Fields]
    seconds: t.Mapping[str, float] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def hosts(self) -> set[str]:
        return {item.host for item in self.items}

    def minus(self, allowed: t.Sequence[str]) -> Snapshot:
        """The same without what a pattern stands for."""
        match = _matcher(allowed)
        return Snapshot({item: fields for item, fields in self.items.items() if not match(item)}, self.seconds)


def take(inventory: Path, without: t.Sequence[str] = ()) -> Snapshot:
    """Look at every host of a rig's inventory, at all of them at once; says how long it took.

    Folders whose files a pattern in ``without`` stands for (``ctl* file /opt/osops/keystone/*``) are not read: a release has
    thousands of them.
    """
    start = time.monotonic()
    logins = {host: [*words, "python3", "-", *_folders(host, without)] for host, words in logins_of(inventory).items()}
    program = PROGRAM.read_text(encoding="utf-8")
    with ThreadPoolExecutor(len(logins)) as pool:
        answers = dict(zip(logins, pool.map(lambda host: _look(host, logins[host], program), logins), strict=True))
    items = {
        Item(host, section, key): fields
        for host, answer in answers.items()
        for section, found in answer["items"].items()
        for key, fields in found.items()
    }
    seconds = {host: float(answer["seconds"]) for host, answer in answers.items()}
    slowest = max(seconds, key=seconds.__getitem__)
    print(
        "snapshot: %d things on %d hosts in %.1f s, of which %s took %.1f s"
        % (len(items), len(seconds), time.monotonic() - start, slowest, seconds[slowest])
    )
    return Snapshot(items, seconds)


def difference(before: Snapshot, after: Snapshot, may_change: t.Sequence[str] = ()) -> list[str]:
    """One sentence for everything that is new, gone or other, except for what a pattern in ``may_change`` stands for."""
    match = _matcher(may_change)
    said = []
    for item in sorted(before.items.keys() | after.items.keys()):
        old, new = before.items.get(item), after.items.get(item)
        if old == new or match(item):
            continue
        if old is None or new is None:
            fields = t.cast("Fields", new if old is None else old)
            said.append("%s is %s (%s)" % (item, "new" if old is None else "gone", _listed(fields)))
        else:
            names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
            changes = ("%s %s -> %s" % (name, old.get(name, "none"), new.get(name, "none")) for name in names)
            said.append("%s changed: %s" % (item, ", ".join(changes)))
    return said


@contextlib.contextmanager
def untouched(inventory: Path, may_change: t.Sequence[str] = ()) -> t.Iterator[list[str]]:
    """What is done inside changes nothing but ``may_change``, a list that may still grow inside; otherwise AssertionError."""
    allowed = list(may_change)
    before = take(inventory, may_change)
    yield allowed
    said = difference(before, take(inventory, may_change), allowed)
    assert not said, "%d things changed that should not:\n%s" % (len(said), "\n".join(said))


def _matcher(patterns: t.Sequence[str]) -> t.Callable[[Item], bool]:
    compiled = [[re.compile(fnmatch.translate(word)) for word in words] for words in _words(patterns)]
    return lambda item: any(all(one.match(word) for one, word in zip(three, item, strict=True)) for three in compiled)


def _words(patterns: t.Sequence[str]) -> list[list[str]]:
    """Three words each: the last takes the rest. A pattern that lacks one would allow more than its author meant: ValueError."""
    for pattern in patterns:
        if len(pattern.split(" ", 2)) != 3 or not all(pattern.split(" ", 2)):
            raise ValueError(
                "%r is not a pattern: it needs host, section and key, as in 'lb* file /etc/haproxy/conf.d/*'" % pattern
            )
    return [pattern.split(" ", 2) for pattern in patterns]


def _folders(host: str, patterns: t.Sequence[str]) -> list[str]:
    """The folders of which a host need not read what is below, as words of a shell."""
    named = [key for name, section, key in _words(patterns) if section == "file" and fnmatch.fnmatchcase(host, name)]
    ends = [key[:-2] for key in named if key.endswith("/*")]
    return [shlex.quote(folder) for folder in ends if not set(folder) & set("*?[")]


def _listed(fields: Fields) -> str:
    return ", ".join("%s %s" % pair for pair in fields.items())


def logins_of(inventory: Path) -> dict[str, list[str]]:
    """Host -> the words of ssh, as the rig's inventory has them; a command may follow."""
    known = yaml.safe_load(inventory.read_text(encoding="utf-8"))["all"]
    words = ["ssh", *known["vars"]["ansible_ssh_common_args"].split(), "-o", "BatchMode=yes", "-o", "ControlPath=none"]
    words += ["-i", known["vars"]["ansible_ssh_private_key_file"], "-l", known["vars"]["ansible_user"]]
    hosts = {host: told for group in known["children"].values() for host, told in group["hosts"].items()}
    return {host: [*words, told["ansible_host"]] for host, told in hosts.items()}


def _look(host: str, words: t.Sequence[str], program: str) -> dict[str, t.Any]:
    try:
        done = subprocess.run(words, input=program, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired as exc:
        raise SnapshotError("%s: no answer in %d s" % (host, LIMIT_S)) from exc
    if done.returncode != 0:
        raise SnapshotError("%s: exit code %d: %s" % (host, done.returncode, done.stderr.strip()[-500:]))
    return t.cast("dict[str, t.Any]", json.loads(done.stdout))


if __name__ == "__main__":
    for name, took in take(Path(sys.argv[1])).seconds.items():
        print("%-8s %.2f s" % (name, took))

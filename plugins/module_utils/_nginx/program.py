# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""nginx as a program: how it was built, and what it says of a configuration. The one that runs is asked, not one that replaced it."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import re
import shlex
import shutil
import tempfile
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._command import Done, run
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.tree import (
    Edit,
    Source,
    Tree,
    edited,
    included,
    is_include,
    plain,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import scrub, tail

# A configuration with thousands of certificates takes seconds to be read.
TEST_S = 60.0
OLDEST = (1, 9, 2)  # the first that has -T
_TRIAL = ".osops-nginx-trial"


@dataclasses.dataclass(frozen=True)
class Build:
    """What was decided when nginx was built."""

    version: str
    prefix: str
    config: str
    pid_file: str
    error_log: str


def parse_build(text: str) -> Build:
    """Read `nginx -V`. Raises LifecycleError."""
    found = re.search(r"^nginx version: \S+?/(\d+(?:\.\d+)+)", text, re.M)
    if not found:
        raise LifecycleError("The program does not say which nginx it is.", "unknown_answer", evidence={"answer": tail(text, 3)})
    arguments = re.search(r"^configure arguments:(.*)$", text, re.M)
    options: dict[str, str] = {}
    for word in shlex.split(arguments.group(1)) if arguments else []:
        name, sign, value = word.partition("=")
        if sign:
            options[name] = value
    prefix = options.get("--prefix", "/usr/local/nginx").rstrip("/") + "/"

    def path(option: str, default: str) -> str:
        return os.path.join(prefix, options.get(option, default))

    return Build(
        found.group(1),
        prefix,
        path("--conf-path", "conf/nginx.conf"),
        path("--pid-path", "logs/nginx.pid"),
        path("--error-log-path", "logs/error.log"),
    )


def build(program: str) -> Build:
    """How ``program`` was built. Raises LifecycleError."""
    try:
        done = run([program, "-V"], 20.0)
    except LifecycleError as exc:
        raise LifecycleError(exc.msg, "nginx.program", "Is nginx on this host, and is the option program right?") from exc
    found = parse_build(done.err + done.out)
    if tuple(int(number) for number in found.version.split(".")[:3]) < OLDEST:
        raise BadInputError("nginx %s is too old: %d.%d.%d or newer is needed." % (found.version, *OLDEST), "nginx.too_old")
    return found


@dataclasses.dataclass(frozen=True)
class Tester:
    """Asks one program what it makes of a configuration. ``options`` are those that the running nginx was started with (-p, -g, -e)."""

    program: str
    options: tuple[str, ...] = ()

    def _test(self, flag: str, config: str) -> Done:
        return run([self.program, flag, "-c", config, *self.options], TEST_S)

    def require_same(self, tree: Tree) -> None:
        """nginx accepts the configuration on disk, and it consists of the very files and bytes of ``tree``. Raises LifecycleError."""
        done = self._test("-T", tree.config)
        if done.rc != 0:
            raise broken("nginx does not accept the configuration that is on disk now", done)
        if plain(done.out) != tree.dump():
            raise LifecycleError(
                "nginx reads other files than this module has found, or somebody is writing them now.",
                "nginx.unlike",
                "Run it again. If it stays so, `nginx -T` shows what nginx reads: look for an include with an unusual pattern.",
            )

    def refusal(self, config: str) -> LifecycleError | None:
        """The error for a configuration that nginx does not accept; None for one that it does."""
        done = self._test("-t", config)
        return broken("nginx does not accept the configuration that is on disk now", done) if done.rc != 0 else None

    def try_out(self, tree: Tree, edits: t.Collection[Edit], folder: str) -> None:
        """Let nginx read the configuration with ``edits`` made, without touching any of its files. Raises LifecycleError.

        Copies of what changes lie in a private folder below ``folder``. Only the copy of the main file lies beside the original: what
        its relative paths mean depends on where it is. Its name begins with a dot, so no pattern finds it. An act that is cut here
        leaves that copy behind, and nothing that nginx reads.
        """
        trial = os.path.join(os.path.dirname(tree.config), _TRIAL)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        for left in glob.glob(os.path.join(glob.escape(folder), "trial-*")):  # by an act that was killed
            shutil.rmtree(left, ignore_errors=True)
        private = tempfile.mkdtemp(prefix="trial-", dir=folder)
        try:
            _Copies(tree, edits, private, trial).write()
            done = self._test("-t", trial)
            if done.rc != 0:
                raise broken("nginx does not accept the configuration with the changed lines", done)
        except OSError as exc:
            raise LifecycleError(
                "A copy to try the change with cannot be written: %s: %s." % (exc.filename, exc.strerror),
                "nginx.file",
                "Run the task with become.",
            ) from exc
        finally:
            shutil.rmtree(private, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.unlink(trial)


def broken(what: str, done: Done) -> LifecycleError:
    said = [line.partition("[emerg] ")[2] for line in (done.err + done.out).splitlines() if "[emerg] " in line]
    words = "; ".join(re.sub(r"^\d+#\d+: ", "", line) for line in said[:2] or tail(done.err, 2))
    words = scrub(words)[:400]
    return LifecycleError(
        "%s: %s." % (what, words.rstrip(".") or "it gives no reason"),
        "nginx.broken",
        "The running nginx goes on with what it has loaded, and the files are as they were. `nginx -t` shows it.",
    )


class _Copies:
    """Copies of the files that change, and of those that lead to them, each `include` on the way naming the copies."""

    def __init__(self, tree: Tree, edits: t.Collection[Edit], folder: str, trial: str) -> None:
        self.tree = tree
        self.edits = edits
        self.folder = folder
        self.trial = trial
        self.sources = tree.by_path
        self.changed = {edit.real for edit in edits}
        self.targets: dict[str, str] = {}
        self.leads: dict[str, bool] = {}
        self.includes: dict[str, dict[int, tuple[int, list[str]]]] = {}
        for place in tree.places:
            if is_include(place.directive):
                paths = included(tree.config, place.directive.values[0])
                listed = self.includes.setdefault(place.source.path, {})
                listed[place.directive.words[0].start] = (place.directive.end, paths)

    def write(self) -> None:
        self._copy(self.sources[self.tree.config], self.trial)

    def _leads(self, path: str) -> bool:
        """Whether the file, or one that it includes, changes."""
        if path not in self.leads:
            source = self.sources.get(path)
            deeper = [one for _end, paths in self.includes.get(path, {}).values() for one in paths]
            self.leads[path] = source is not None and (source.real in self.changed or any(self._leads(one) for one in deeper))
        return self.leads[path]

    def _copy(self, source: Source, target: str) -> None:
        edits = [edit for edit in self.edits if edit.real == source.real]
        for start, (end, paths) in self.includes.get(source.path, {}).items():
            if any(self._leads(path) for path in paths):
                lines = [b'include "%s";' % os.fsencode(_quoted(self._target(path))) for path in paths]
                edits.append(Edit(source.real, start, end, b" ".join(lines)))
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(edited(source.data, edits))

    def _target(self, path: str) -> str:
        """What to include instead of ``path``: a copy where something changes below it."""
        if not self._leads(path):
            return path
        if path not in self.targets:
            self.targets[path] = os.path.join(self.folder, "%d.conf" % len(self.targets))
            self._copy(self.sources[path], self.targets[path])
        return self.targets[path]


def _quoted(path: str) -> str:
    return path.replace("\\", "\\\\").replace('"', '\\"')

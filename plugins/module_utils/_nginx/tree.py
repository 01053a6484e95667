# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""All files of one nginx configuration, found by `include` as nginx finds them, and read once."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import os
import stat
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.lex import Directive, GrammarError, Word, parse

_GLOB_SIGNS = "*?["
_MAX_FILES = 10000
_MAX_INCLUDES = 32  # one inside the other: more is a circle

# device, inode, size, and the two times that change with the contents
Stamp = tuple[int, int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Source:
    """One file. ``path`` is what nginx calls it, ``real`` is where it is when symbolic links are followed."""

    path: str
    real: str
    data: bytes
    stamp: Stamp
    directives: tuple[Directive, ...]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


class Place(t.NamedTuple):
    """A directive where it takes effect: a file that is included twice gives two places. ``inside`` are the blocks around it."""

    source: Source
    directive: Directive
    inside: tuple[Directive, ...]

    @property
    def where(self) -> str:
        return "%s:%d" % (self.source.path, self.directive.line)


@dataclasses.dataclass(frozen=True)
class Tree:
    """A configuration. ``sources`` are in the order in which nginx opens them; ``folders`` are those that a pattern searches."""

    config: str
    sources: tuple[Source, ...]
    places: tuple[Place, ...]
    folders: tuple[str, ...]

    @property
    def by_path(self) -> dict[str, Source]:
        return {source.path: source for source in self.sources}

    @property
    def digests(self) -> dict[str, str]:
        """What is in the files, by the names that nginx has for them."""
        return {source.path: source.digest for source in self.sources}

    def dump(self) -> str:
        """What `nginx -T` prints of these files, with plain line ends: the proof that they are the ones it reads."""
        parts = [
            "# configuration file %s:\n%s\n" % (source.path, source.data.decode("utf-8", "replace")) for source in self.sources
        ]
        return plain("".join(parts))

    def main(self, name: str) -> list[Place]:
        """Directives outside of all blocks."""
        return [place for place in self.places if not place.inside and place.directive.name == name]


def plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def is_include(directive: Directive) -> bool:
    return directive.name == "include" and len(directive.words) == 2 and directive.block is None


def included(config: str, pattern: str) -> list[str]:
    """The files that an `include` names, as nginx does it: relative to the main file's folder, in the order of bytes."""
    path = os.path.join(os.path.dirname(config), pattern)
    if not any(sign in path for sign in _GLOB_SIGNS):
        return [path]
    return sorted(glob.glob(path), key=os.fsencode)


def stamp(path: str) -> Stamp:
    found = os.stat(path)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_tree(config: str) -> Tree:
    """Read ``config`` (an absolute path) and all that it includes. Raises GrammarError or LifecycleError."""
    return _Walk(config).tree()


class _Walk:
    def __init__(self, config: str) -> None:
        self.config = config
        self.known: dict[str, Source] = {}
        self.places: list[Place] = []
        self.folders: dict[str, None] = {}

    def tree(self) -> Tree:
        self._file(self.config, (), 0)
        return Tree(self.config, tuple(self.known.values()), tuple(self.places), tuple(self.folders))

    def _file(self, path: str, inside: tuple[Directive, ...], depth: int) -> None:
        if depth > _MAX_INCLUDES or len(self.known) > _MAX_FILES:
            raise GrammarError("%s is included by itself, or by too many files." % path, hint="Look at the include lines.")
        if path not in self.known:
            self.known[path] = _read(path)
        source = self.known[path]
        self._directives(source, source.directives, inside, depth)

    def _directives(self, source: Source, directives: t.Iterable[Directive], inside: tuple[Directive, ...], depth: int) -> None:
        for directive in directives:
            self.places.append(Place(source, directive, inside))
            if is_include(directive):
                pattern = directive.values[0]
                path = os.path.join(os.path.dirname(self.config), pattern)
                if any(sign in path for sign in _GLOB_SIGNS):
                    self.folders.update(dict.fromkeys(glob.glob(os.path.dirname(path))))
                for path in included(self.config, pattern):
                    self._file(path, inside, depth + 1)
            elif directive.block and not directive.lua:
                self._directives(source, directive.block, (*inside, directive), depth)


def _read(path: str) -> Source:
    try:
        with open(path, "rb") as handle:
            found = os.fstat(handle.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise LifecycleError("%s is not a file." % path, "nginx.unreadable", "nginx needs a plain file there.")
            data = handle.read()
    except OSError as exc:
        raise LifecycleError(
            "The configuration file %s cannot be read: %s." % (path, exc.strerror),
            "nginx.unreadable",
            "Is `config` right? Run the task with become, on the balancer's host.",
        ) from exc
    mark = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return Source(path, os.path.realpath(path), data, mark, parse(data, path))


class Edit(t.NamedTuple):
    """Bytes ``start`` to ``end`` of a file (by its real path) become ``new``."""

    real: str
    start: int
    end: int
    new: bytes


def edited(data: bytes, edits: t.Iterable[Edit]) -> bytes:
    """The text with all edits made. They do not overlap."""
    for edit in sorted(set(edits), key=lambda one: one.start, reverse=True):
        data = data[: edit.start] + edit.new + data[edit.end :]
    return data


def add_word(real: str, directive: Directive, word: str) -> Edit:
    """Put a word behind the last one of a directive."""
    end = directive.words[-1].end
    return Edit(real, end, end, b" " + word.encode("ascii"))


def drop_word(real: str, data: bytes, directive: Directive, word: Word) -> Edit:
    """Take a word out, with the blanks before it. Where a comment stands before it, only the word: its line end is needed."""
    before = directive.words[directive.words.index(word) - 1]
    blank = data[before.end : word.start]
    return Edit(real, word.start if blank.strip(b" \t\r\n") else before.end, word.end, b"")

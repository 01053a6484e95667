# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""nginx's own grammar: words, quotes, escapes, comments, `;` and blocks, with byte offsets. Pure.

It does what nginx's own reader does (ngx_conf_file.c), character by character: also where that is odd, such as a `}` inside of a word, a
`#` that does not begin one, or `${` which does not open a block. What nginx refuses is refused here. Nothing is guessed.
"""

from __future__ import annotations

import bisect
import dataclasses
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.lua import LuaError, skip

_BLANK = " \t\r\n"
_LUA = "_by_lua_block"
_MAX_DEPTH = 64


class GrammarError(LifecycleError):
    """A text that nginx would not read either, or that cannot be read without more knowledge."""

    code = "nginx.grammar"


class Word(t.NamedTuple):
    """One word: what it means, and the bytes that it takes in the file, quotes included."""

    value: str
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Directive:
    """One directive. ``block`` is None for one that ends with `;`. ``end`` is the offset behind its `;` or `}`."""

    words: tuple[Word, ...]
    line: int
    end: int
    block: tuple[Directive, ...] | None = None
    lua: bool = False

    @property
    def name(self) -> str:
        return self.words[0].value

    @property
    def values(self) -> tuple[str, ...]:
        """The words after the name."""
        return tuple(word.value for word in self.words[1:])


def parse(data: bytes, path: str) -> tuple[Directive, ...]:
    """Read a whole file. ``path`` is for messages. Raises GrammarError."""
    return _Reader(data, path).directives(0)


def unescape(raw: str) -> str:
    """What nginx makes of the bytes of a word: an escaped quote or backslash loses its backslash, and t, r, n become what they stand for."""
    if "\\" not in raw:
        return raw
    out, at = [], 0
    while at < len(raw):
        follower = raw[at + 1 : at + 2]
        if raw[at] == "\\" and follower and follower in "\"'\\trn":
            out.append({"t": "\t", "r": "\r", "n": "\n"}.get(follower, follower))
            at += 2
        else:
            out.append(raw[at])
            at += 1
    return "".join(out)


class _Reader:
    """Latin-1 gives one character for each byte, so that places in the text are places in the file."""

    def __init__(self, data: bytes, path: str) -> None:
        self.text = data.decode("latin-1")
        self.path = path
        self.at = 0
        self._breaks = [place for place, byte in enumerate(data) if byte == 0x0A]

    def line(self, place: int) -> int:
        return bisect.bisect_left(self._breaks, place) + 1

    def bad(self, what: str, place: int) -> GrammarError:
        return GrammarError(
            "%s:%d: %s." % (self.path, self.line(place), what), hint="`nginx -t` says what it makes of it. Nothing was changed."
        )

    def directives(self, depth: int) -> tuple[Directive, ...]:
        """All up to the end of the file (``depth`` 0) or of the block."""
        if depth > _MAX_DEPTH:
            raise self.bad("blocks are nested deeper than %d" % _MAX_DEPTH, self.at)
        found: list[Directive] = []
        while True:
            words, ending = self.statement()
            if ending == "":
                if depth:
                    raise self.bad("the file ends inside of a block", len(self.text))
                return tuple(found)
            if ending == "}":
                if not depth:
                    raise self.bad("a `}` closes no block", self.at - 1)
                return tuple(found)
            line = self.line(words[0].start)
            if ending == ";":
                found.append(Directive(words, line, self.at))
            elif words[0].value.endswith(_LUA):
                try:
                    self.at = skip(self.text, self.at)
                except LuaError:
                    raise self.bad("the end of the Lua code is not found", words[0].start) from None
                found.append(Directive(words, line, self.at, (), lua=True))
            else:
                block = self.directives(depth + 1)
                found.append(Directive(words, line, self.at, block))

    def statement(self) -> tuple[tuple[Word, ...], str]:
        """The words up to `;`, `{`, `}` or the end of the file (an empty ending)."""
        words: list[Word] = []
        while True:
            self._skip()
            if self.at >= len(self.text):
                if words:
                    raise self.bad("the file ends in the middle of a directive", words[0].start)
                return (), ""
            sign = self.text[self.at]
            if sign in ";{}":
                if (sign == "}") == bool(words):
                    raise self.bad("a `%s` is not expected here" % sign, self.at)
                self.at += 1
                return tuple(words), sign
            words.append(self._word())

    def _skip(self) -> None:
        """Pass blanks and comments. A `#` begins a comment only where a word could begin."""
        while self.at < len(self.text):
            if self.text[self.at] == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end + 1
            elif self.text[self.at] in _BLANK:
                self.at += 1
            else:
                return

    def _word(self) -> Word:
        start = self.at
        quote = self.text[start] if self.text[start] in "\"'" else ""
        end = self._end_of_word(start + 1 if quote else start, quote)
        raw = self.text[start + 1 : end] if quote else self.text[start:end]
        self.at = end + 1 if quote else end
        if quote:
            follower = self.text[self.at : self.at + 1]
            # A `)` may follow, for `if ($a = "b")`; it begins a word of its own.
            if follower and follower not in _BLANK + ";{)":
                raise self.bad("%r follows a closing quote" % follower, self.at)
        value = unescape(raw).encode("latin-1").decode("utf-8", "surrogateescape")
        return Word(value, start, self.at)

    def _end_of_word(self, at: int, quote: str) -> int:
        """Where the word ends: at the closing quote, or at what cannot be part of a bare word."""
        begun, variable = at, False
        while at < len(self.text):
            sign = self.text[at]
            if sign == "{" and variable:  # ${name}: nginx stays in the word, however many `{` follow
                at += 1
                continue
            variable = False
            if sign == "\\":
                at += 1  # whatever follows belongs to the word
            elif sign == "$":
                variable = True
            elif sign == quote if quote else (sign in _BLANK or sign in ";{"):
                return at
            at += 1
        raise self.bad("a quote is not closed" if quote else "the file ends in the middle of a word", begun)

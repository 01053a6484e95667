# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Find the end of a block of Lua code (`content_by_lua_block { … }`), which does not follow nginx's grammar. Pure."""

from __future__ import annotations


class LuaError(Exception):
    """The code does not end."""


def skip(text: str, at: int) -> int:
    """Return the offset behind the `}` that closes the block whose `{` stands right before ``at``.

    Braces in strings and comments do not count. Raises LuaError.
    """
    depth = 1
    while at < len(text):
        sign = text[at]
        if sign in "\"'":
            at = _string(text, at)
            continue
        comment = text.startswith("--", at)
        level = _long_bracket(text, at + 2 if comment else at)
        if level >= 0:
            closing = "]%s]" % ("=" * level)
            end = text.find(closing, at)
            if end < 0:
                raise LuaError
            at = end + len(closing)
        elif comment:
            end = text.find("\n", at)
            at = len(text) if end < 0 else end + 1
        else:
            depth += {"{": 1, "}": -1}.get(sign, 0)
            at += 1
            if depth == 0:
                return at
    raise LuaError


def _long_bracket(text: str, at: int) -> int:
    """The number of `=` in a `[==[` that begins here; -1 where none does."""
    if text[at : at + 1] != "[":
        return -1
    end = at + 1
    while text[end : end + 1] == "=":
        end += 1
    return end - at - 1 if text[end : end + 1] == "[" else -1


def _string(text: str, at: int) -> int:
    """Return the offset behind a quoted string."""
    quote, at = text[at], at + 1
    while at < len(text):
        if text[at] == "\\":
            at += 2
        elif text[at] == quote:
            return at + 1
        elif text[at] == "\n":
            raise LuaError
        else:
            at += 1
    raise LuaError

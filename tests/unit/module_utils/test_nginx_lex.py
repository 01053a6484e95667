# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nginx's grammar, row by row; and Lua code, of which only the end is looked for."""

from __future__ import annotations

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.lex import Directive, GrammarError, parse


def words(text: str) -> list[list[str]]:
    return [[one.name, *one.values] for one in parse(text.encode("utf-8", "surrogateescape"), "nginx.conf")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\r\n# only a comment", []),
        ("a;", [["a"]]),
        ("a b;c d;", [["a", "b"], ["c", "d"]]),
        ("a\r\n b # c;\n ;", [["a", "b"]]),
        ("a b#c;", [["a", "b#c"]]),
        ("a }b;", None),
        ("a b};", [["a", "b}"]]),
        ("a 'b c' \"d;{}\";", [["a", "b c", "d;{}"]]),
        ("a 'b\"c' \"d'e\";", [["a", 'b"c', "d'e"]]),
        ("a b'c d';", [["a", "b'c", "d'"]]),
        (r"a \"b c;", [["a", '"b', "c"]]),
        (r"a 'it\'s' \; \n x\y;", [["a", "it's", r"\;", "\n", r"x\y"]]),
        (r"a b\ c;", [["a", r"b\ c"]]),
        ("a ${b}c;", [["a", "${b}c"]]),
        ("a $b{c} ;", None),
        ("a ${{b;", [["a", "${{b"]]),
        ('if ($a = "b") {}', [["if", "($a", "=", "b", ")"]]),
        ("a 'b'c;", None),
        ("a 'b';", [["a", "b"]]),
        ("'a' b;", [["a", "b"]]),
        ("a", None),
        ("a b", None),
        ("a 'b", None),
        ("a \\", None),
        (";", None),
        ("{}", None),
        ("}", None),
        ("a {", None),
        ("a { b; ", None),
        ("a { b }", None),
        ("a ä;", [["a", "ä"]]),
        ("a \udcff;", [["a", "\udcff"]]),
        ("\ufeffa;", [["\ufeffa"]]),
    ],
)
def test_words(text: str, expected: list[list[str]] | None) -> None:
    if expected is None:
        with pytest.raises(GrammarError) as error:
            words(text)
        assert error.value.msg.startswith("nginx.conf:1: ")
        assert error.value.msg.endswith(".")
    else:
        assert words(text) == expected


def test_blocks_lines_and_places() -> None:
    text = b"a;\nhttp {\n  # \xff }\n  b 'c\nd';\n  e { }\n}\n"
    first, http = parse(text, "x")
    assert (first.block, first.line, http.line) == (None, 1, 2)
    inner, empty = http.block or ()
    assert (inner.name, inner.values, inner.line, empty.line) == ("b", ("c\nd",), 4, 6)
    assert empty.block == ()
    assert text[inner.words[1].start : inner.words[1].end] == b"'c\nd'"
    assert text[: inner.end].endswith(b"d';")
    assert text[: http.end].endswith(b"\n}")


def test_lines_are_counted_up_to_the_mistake() -> None:
    with pytest.raises(GrammarError) as error:
        words("a;\n\nb 'c\n;\n")
    assert error.value.msg == "nginx.conf:3: a quote is not closed."
    with pytest.raises(GrammarError) as error:
        words("{" * 3)
    assert "a `{` is not expected here" in error.value.msg
    with pytest.raises(GrammarError, match="nested deeper"):
        words("a {" * 100)


@pytest.mark.parametrize(
    "code",
    [
        "",
        "return { a = {} }",
        "local s = '}' .. \"}\" .. '\\'}'",
        "-- a } in a comment\n",
        "--[[ } \n } ]] return",
        "--[==[ ]] } ]==] x()",
        "s = [[ } ]] t = [=[ ]] } ]=]",
        "a[b[1]] = 2 - -1",
        "a['}'] = {['{'] = 1}",
    ],
)
def test_lua_code_is_passed_over(code: str) -> None:
    (lua, after) = parse(("content_by_lua_block {%s}\nb;" % code).encode(), "x")
    assert (lua.lua, lua.block, after.name) == (True, (), "b")


@pytest.mark.parametrize("code", ["", "'", "[[ }", "--[[ }", "{ }", "'\n}", "'\\"])
def test_lua_code_without_end(code: str) -> None:
    with pytest.raises(GrammarError, match="the end of the Lua code is not found"):
        parse(("x_by_lua_block {" + code).encode(), "x")


def test_lua_as_a_string_is_a_string() -> None:
    (one,) = parse(b"content_by_lua 'return {';", "x")
    assert isinstance(one, Directive)
    assert not one.lua

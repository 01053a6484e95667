# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader of nginx's grammar beside two others: nginx itself, and crossplane; and edits that can be taken back to the byte."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.osops.lifecycle.plugins.module_utils._nginx import program
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.lex import Directive, GrammarError, parse
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.tree import edited, read_tree
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.upstreams import entries

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
SHIPPED = Path("/etc/nginx/nginx.conf")
needs_nginx = pytest.mark.skipif(not NGINX, reason="nginx is not installed")
SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])

# All that means something to nginx, and a little that does not.
ODD = st.text(alphabet=st.sampled_from("ab1 \t\r\n;{}\"'\\$#()nt\x01\xe4"), max_size=24)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="osops-") as folder:
        yield Path(folder) / "nginx.conf"


def nginx_says(place: Path, text: str) -> str:
    place.write_bytes(text.encode())
    command = [str(NGINX), "-t", "-e", "stderr", "-p", str(place.parent), "-c", str(place)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=30)
    assert done.returncode != 0, text
    return done.stderr.decode("utf-8", "replace")


def first(text: str) -> Directive | None:
    """The first directive of a text that need not go on well; None for a text without one."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.lex import _Reader

    reader = _Reader(text.encode(), "nginx.conf")
    words, ending = reader.statement()
    if ending == "}":
        raise GrammarError("a block that was not opened")
    return Directive(words, 1, reader.at, () if ending == "{" else None) if words else None


@needs_nginx
@SLOW
@given(ODD)
def test_the_first_word_is_what_nginx_takes_it_for(place: Path, text: str) -> None:
    said = nginx_says(place, text)
    unknown = re.search(r'\[emerg\](?: \d+#\d+:)? unknown directive "(.*)" in ', said, re.S)
    try:
        found = first(text)
    except GrammarError:
        assert unknown is None, (text, said)
        assert re.search(r"unexpected |too long parameter", said), (text, said)
        return
    if found is None:
        assert 'no "events" section' in said, (text, said)
    else:
        assert unknown is not None, (text, said)
        assert unknown.group(1) == found.name


@needs_nginx
@SLOW
@given(ODD)
def test_words_endings_and_values_are_what_nginx_takes_them_for(place: Path, text: str) -> None:
    """`daemon` takes one word, and says which one it was given."""
    said = nginx_says(place, "daemon " + text)
    try:
        found = first("daemon " + text)
    except GrammarError:
        assert re.search(r"unexpected |too long parameter", said), (text, said)
        return
    assert found is not None
    if found.name != "daemon":  # `daemon` and the text are one word
        assert "unknown directive" in said, (text, said)
    elif found.block is not None:
        assert 'directive "daemon" is not terminated by ";"' in said, (text, said)
    elif len(found.values) != 1:
        assert 'invalid number of arguments in "daemon"' in said, (text, said)
    else:
        value = re.search(r'invalid value "(.*)" in "daemon" directive', said, re.S)
        assert value is not None, (text, said)
        assert value.group(1) == found.values[0]


# Where crossplane and nginx agree: no `}` inside of words, no `${`, no escape but that of a quote in quotes.
BARE = st.from_regex(r"[a-z0-9_./:*=~^$-][a-z0-9_./:*=~^-]{0,8}", fullmatch=True)
QUOTED = st.builds(
    lambda quote, parts: quote + "".join(part.replace("Q", "\\" + quote) for part in parts) + quote,
    st.sampled_from("\"'"),
    st.lists(st.sampled_from(["a", " ", ";", "{", "}", "#", "Q", "$x", "\n"]), max_size=5),
)
BLANK = st.sampled_from([" ", "\n", "\t", "  ", " # a ; } ' comment\n", "\r\n"])
WORDS = st.lists(BARE | QUOTED, min_size=0, max_size=3)
NAME = st.from_regex(r"[a-z_]{2,9}", fullmatch=True).filter(lambda word: word not in ("include", "if"))


@st.composite
def blocks(draw: st.DrawFn, depth: int = 0) -> str:
    parts = []
    for _ in range(draw(st.integers(0, 3))):
        parts.append(draw(BLANK) + draw(NAME))
        parts += [draw(BLANK) + word for word in draw(WORDS)]
        if depth < 2 and draw(st.booleans()):
            parts.append(draw(BLANK) + "{" + draw(blocks(depth + 1)) + draw(BLANK) + "}")
        else:
            parts.append(draw(st.sampled_from(["", " ", "\n"])) + ";")
    return "".join(parts) + draw(st.sampled_from(["", "\n"]))


def shape(directives: t.Iterable[Directive]) -> list[t.Any]:
    return [[one.name, *one.values, *([shape(one.block)] if one.block is not None else [])] for one in directives]


def crossplane_shape(path: Path) -> list[t.Any]:
    crossplane = pytest.importorskip("crossplane")
    parsed = crossplane.parse(str(path), single=True, check_ctx=False, check_args=False, comments=False)
    assert parsed["status"] == "ok", parsed["errors"]

    def walk(listed: list[dict[str, t.Any]]) -> list[t.Any]:
        real = [one for one in listed if one["directive"] != "#"]  # a comment inside of a directive is reported all the same
        return [[one["directive"], *one["args"], *([walk(one["block"])] if "block" in one else [])] for one in real]

    return walk(parsed["config"][0]["parsed"])


@SLOW
@given(blocks())
def test_blocks_and_words_are_those_that_crossplane_finds(place: Path, text: str) -> None:
    place.write_bytes(text.encode())
    assert shape(parse(text.encode(), "x")) == crossplane_shape(place)


@needs_nginx
def test_what_debian_ships_is_read_as_crossplane_reads_it() -> None:
    if not SHIPPED.exists():
        pytest.skip("nginx's own configuration is not installed")
    files = sorted(path for path in SHIPPED.parent.rglob("*") if path.is_file() and not path.name.endswith(".dpkg-dist"))
    assert len(files) > 8
    for path in files:
        assert shape(parse(path.read_bytes(), str(path))) == crossplane_shape(path), path


@needs_nginx
def test_what_debian_ships_consists_of_the_files_that_nginx_reads() -> None:
    if not SHIPPED.exists():
        pytest.skip("nginx's own configuration is not installed")
    tree = read_tree(str(SHIPPED))
    assert len(tree.sources) > 2
    program.Tester(str(NGINX)).require_same(tree)


@SLOW
@given(ODD)
def test_a_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    found: tuple[Directive, ...] = ()
    sentence = ""
    try:
        found = parse(text.encode(), "nginx.conf")
    except GrammarError as exc:
        sentence = exc.msg
    assert not sentence or re.fullmatch(r"nginx\.conf:\d+: .+\.", sentence, re.S)
    _check_places(text.encode(), found)


def _check_places(data: bytes, directives: t.Iterable[Directive]) -> None:
    for one in directives:
        for word in one.words:
            raw = data[word.start : word.end]
            assert raw.strip(b" \t\r\n"), (data, word)
            assert data[word.start - 1 : word.start].strip(b" \t\r\n;{}\n") in (b"", b'"', b"'"), (data, word)
        assert data[one.end - 1 : one.end] in (b";", b"}")
        assert data[: one.words[0].start].count(b"\n") == one.line - 1
        _check_places(data, one.block or ())


BETWEEN = st.sampled_from([" ", "\t", "\n", "\r\n", "  \n ", " # server x down;\n", "\n#\n\n"])
PARAMETER = st.sampled_from(["weight=5", "max_fails=0", "backup", "'fail_timeout=3s'", '"weight=2"', "down", "drain", "'down'"])
ADDRESS = st.sampled_from(["127.0.0.1:80", "'127.0.0.1:80'", "[::1]:80", "a.example", "unix:/run/x"])


@st.composite
def upstreams(draw: st.DrawFn) -> str:
    lines = []
    for _ in range(draw(st.integers(1, 4))):
        words = [draw(ADDRESS), *draw(st.lists(PARAMETER, max_size=3))]
        lines.append("server" + "".join(draw(BETWEEN) + word for word in words) + draw(BETWEEN | st.just("")) + ";")
    inner = draw(BETWEEN) + draw(BETWEEN).join(lines)
    return "http { upstream u {%s } }" % inner


@SLOW
@given(upstreams(), st.data())
def test_a_word_that_is_put_in_can_be_taken_out_to_the_byte(place: Path, text: str, data: st.DataObject) -> None:
    place.write_bytes(text.encode())
    tree = read_tree(str(place))
    found = entries(tree)
    chosen = [entry for entry in found if not entry.out and data.draw(st.booleans())]
    drained = edited(text.encode(), [edit for entry in chosen for edit in entry.take_out()])
    assert len(drained) == len(text.encode()) + len(chosen) * len(" down")
    place.write_bytes(drained)
    after = entries(read_tree(str(place)))
    assert [entry.out for entry in after] == [entry.out or entry in chosen for entry in found]
    assert [(entry.key, entry.weight, entry.backup) for entry in after] == [(e.key, e.weight, e.backup) for e in found]
    back = [edit for entry, was in zip(after, found, strict=True) if was in chosen for edit in entry.bring_in()]
    assert edited(drained, back) == text.encode()


@SLOW
@given(upstreams())
def test_any_server_can_be_put_into_traffic_and_the_rest_stays(place: Path, text: str) -> None:
    place.write_bytes(text.encode())
    found = entries(read_tree(str(place)))
    cleared = edited(text.encode(), [edit for entry in found for edit in entry.bring_in()])
    place.write_bytes(cleared)
    after = entries(read_tree(str(place)))
    assert not any(entry.out for entry in after)
    assert cleared.count(b"#") == text.count("#")  # comments stay
    assert [(entry.key, entry.weight, entry.backup) for entry in after] == [(e.key, e.weight, e.backup) for e in found]
    assert shape(parse(cleared, "x"))[0][0] == "http"

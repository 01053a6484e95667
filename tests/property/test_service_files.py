# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold for every text and every set of files: filling, and that what was made goes without a trace."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.module_utils._files.wanted import ini_text
from ansible_collections.osops.lifecycle.plugins.module_utils._fill import fill, fill_text
from tests.integration.service_files.desk import Desk, tree

NAMES = st.from_regex(r"[a-z][a-z0-9_.]{0,5}", fullmatch=True)
TEXT = st.text(max_size=30)
BRACES = st.text(alphabet="{}ab \n", max_size=12)


def doubled(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


@given(st.lists(st.tuples(TEXT | BRACES, NAMES, TEXT | BRACES)), TEXT)
def test_text_and_values_come_out_as_they_are(parts: list[tuple[str, str, str]], end: str) -> None:
    known = {name: value for _before, name, value in parts}
    template = "".join("%s{%s}" % (doubled(before), name) for before, name, _value in parts) + doubled(end)
    plain = "".join(before + known[name] for before, name, _value in parts) + end
    assert fill_text(template, known.__getitem__, "here") == plain


@given(BRACES)
def test_braces_are_filled_or_refused_and_never_kept_by_mistake(text: str) -> None:
    """Against a second, slower way to read it: from the left, one sign after the other."""
    out, rest, wrong = "", text, False
    while rest and not wrong:
        name = rest[1 : rest.find("}")] if rest[0] == "{" and "}" in rest else ""
        if rest[:2] in ("{{", "}}"):
            out, rest = out + rest[0], rest[2:]
        elif name and set(name) <= set("ab"):
            out, rest = out + "<%s>" % name, rest[len(name) + 2 :]
        elif rest[0] in "{}":
            wrong = True
        else:
            out, rest = out + rest[0], rest[1:]
    if wrong:
        with pytest.raises(BadInputError, match="a lone"):
            fill_text(text, "<{}>".format, "here")
    else:
        assert fill_text(text, "<{}>".format, "here") == out


@given(st.recursive(TEXT | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)))
def test_what_has_no_place_is_kept(value: Any) -> None:
    if "{" not in repr(value).replace("{'", "").replace("{}", "").replace('{"', ""):
        assert fill(value, {}.__getitem__) == value


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, st.integers() | st.booleans(), min_size=1), min_size=1), st.randoms())
def test_ini_does_not_depend_on_the_order_of_what_is_given(sections: dict[str, dict[str, Any]], random: Any) -> None:
    def shuffled(mapping: dict[str, Any]) -> dict[str, Any]:
        keys = list(mapping)
        random.shuffle(keys)
        return {key: mapping[key] for key in keys}

    other = {name: shuffled(options) for name, options in shuffled(sections).items()}
    assert ini_text(sections, lambda text, _where: text, "x") == ini_text(other, lambda text, _where: text, "x")


PARTS = st.sampled_from(["a", "b", "c"])
MODES = st.sampled_from(["0600", "0640", "0644", "0755", "0000"])


@st.composite
def services(draw: st.DrawFn) -> dict[str, Any]:
    """Folders, each with the ones above it, and files in them."""
    deep = draw(st.sets(st.lists(PARTS, min_size=1, max_size=3).map(tuple), max_size=4))
    folders = sorted({path[:end] for path in deep for end in range(1, len(path) + 1)})
    files = draw(st.sets(st.tuples(st.sampled_from([(), *folders]), st.sampled_from(["x", "y", ".z"])), min_size=1, max_size=5))
    return {
        "folders": [{"path": "/".join(path), "mode": draw(MODES)} for path in folders],
        "files": [
            {"path": "/".join((*folder, name)), "mode": draw(MODES), "once": draw(st.booleans()), "content": doubled(draw(TEXT))}
            for folder, name in sorted(files)
        ],
    }


def below(desk: Desk, service: dict[str, Any]) -> dict[str, Any]:
    return {option: [{**row, "path": "%s/%s" % (desk.etc, row["path"])} for row in rows] for option, rows in service.items()}


@pytest.mark.skipif(os.geteuid() != 0, reason="files are given owners, which needs root")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(services(), services(), st.booleans())
def test_there_and_back_leaves_every_byte_as_it_was(first: dict[str, Any], second: dict[str, Any], edit: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(os.path.realpath(folder)))
        (desk.etc / "theirs").mkdir()
        (desk.etc / "theirs" / "file").write_text("theirs")
        empty = tree(desk.etc)
        desk.call(**below(desk, first))
        one = tree(desk.etc)
        assert desk.call(**below(desk, first))["changed"] is False
        changed = desk.call(**below(desk, second))
        assert changed["verdict"]["outcome"] == "pass", changed
        two = tree(desk.etc)
        if edit:
            Path(below(desk, second)["files"][0]["path"]).write_text("by hand")
        if changed["changed"]:
            desk.call(**changed["undo"])
            # What is written once is nobody's to take back while it is there.
            kept = {row["path"] for service in (first, second) for row in service["files"] if row["once"]}
            now = tree(desk.etc)
            assert {name: row for name, row in now.items() if name not in kept} == {
                name: row for name, row in one.items() if name not in kept
            }
            assert set(now) == set(one)
        else:
            assert two == one
        assert desk.absent()["left_over"] == []
        assert tree(desk.etc) == empty

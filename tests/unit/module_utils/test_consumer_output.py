# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of a check's output: its end, without secrets, wherever the cut goes through."""

from __future__ import annotations

import random

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._consumer import SHOWN, excerpt, hidden
from ansible_collections.osops.lifecycle.plugins.module_utils._supervised import KEPT, Tail

SECRETS = {
    "periodic": "abcdefghij" * 25,
    "of one letter": "a" * 60,
    "random": "".join(random.Random(7).choice("abcdefghij") for _each in range(120)),  # noqa: S311 - no real one
    "short": "abc",
}


def tail(text: str, piece: int) -> Tail:
    """As it is read: piece by piece."""
    kept, data = Tail(), text.encode()
    for start in range(0, len(data), piece):
        kept.add(data[start : start + piece])
    return kept


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("more", range(0, 300, 23))
def test_no_part_of_a_secret_is_left_where_the_output_was_cut(name: str, more: int) -> None:
    secret = SECRETS[name]
    kept = tail(secret * (KEPT // len(secret) + 3) + "." * more, 4096)
    assert kept.cut
    shown = excerpt(kept, hidden([secret]))
    assert 0 < len(shown) <= SHOWN
    assert set(shown) <= {"*", "."}
    assert shown.endswith("." * min(more, SHOWN))


def test_what_was_not_cut_is_whole() -> None:
    kept = tail("first\nPassword s3cret and\n" + "x" * 100, 7)
    assert not kept.cut
    assert excerpt(kept, hidden(["s3cret\n"])) == "first\nPassword *** and\n" + "x" * 100


def test_the_last_of_much_is_shown() -> None:
    kept = tail("begin" + "x" * KEPT + "end", 65536)
    shown = excerpt(kept, ())
    assert (len(shown), shown[-4:]) == (SHOWN, "xend")


def test_what_is_hidden_of_a_secret() -> None:
    assert hidden(["one\n", "", "first line\nab\nthe second line\n"]) == [
        "first line", "first line\nab\nthe second line", "first line\nab\nthe second line\n", "one", "one\n", "the second line",
    ]  # fmt: skip

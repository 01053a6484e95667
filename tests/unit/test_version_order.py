# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions of a package index and of Debian are put in order alike, and held against each other."""

from __future__ import annotations

import itertools
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.osops.lifecycle.plugins.plugin_utils.hops import newer, order

REVISION = st.text("019az~+.", min_size=1, max_size=8)


def test_in_order() -> None:
    rising = [
        "22.0.2", "2:22.0.2-0~bpo12+1", "2:22.0.2-0", "2:22.0.2-0+deb12u3", "2:22.0.2-0+deb12u6", "2:22.0.2-0+deb12u10", "2:22.1.0-1",
        "23.0.0rc1", "23.0.0",
    ]  # fmt: skip
    for low, high in itertools.pairwise(rising):
        assert order(low) < order(high), (low, high)


def test_two_of_debian_are_in_the_order_of_dpkg() -> None:
    assert newer("3:25.0.0+git2023-0", "3:25.0.0-0")
    assert newer("2:1.0-1", "1:9.0-1")
    assert not newer("2:22.0.2-0~bpo1", "2:22.0.2-0")


def test_an_epoch_is_left_out() -> None:
    assert order("2:22.0.2") == order("22.0.2")
    assert order("2:22.0.2-0")[0] == (1, 22, "")


@pytest.mark.skipif(not shutil.which("dpkg"), reason="dpkg, whose order is the truth, is not on this machine")
@settings(max_examples=150, deadline=None)
@given(REVISION, REVISION)
def test_revisions_are_in_the_order_of_dpkg(one: str, other: str) -> None:
    low, high = "1:1.0%s-0%s" % (other, one), "1:1.0%s-0%s" % (other, other)
    before = subprocess.run(["dpkg", "--compare-versions", low, "lt", high], check=False).returncode == 0
    after = subprocess.run(["dpkg", "--compare-versions", low, "gt", high], check=False).returncode == 0
    if before or after:  # for dpkg, `a` and `a0` are one
        assert (newer(high, low), newer(low, high)) == (before, after)

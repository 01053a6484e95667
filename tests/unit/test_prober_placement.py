# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the prober takes for a right answer of Placement."""

from __future__ import annotations

import typing as t

import pytest

from tests.rig.prober.keystone import UnusableError
from tests.rig.prober.placement import NAMES, Placement


@pytest.mark.parametrize(
    ("operation", "status", "body", "cause"),
    [
        ("version", 200, {"versions": [{"id": "v1.0"}]}, ""),
        ("version", 200, {"versions": []}, "wrong_answer"),
        ("version", 200, None, "wrong_answer"),
        ("version", 503, None, "http_503"),
        ("read", 200, {"resource_classes": [{"name": "VCPU"}]}, ""),
        ("read", 200, {}, "wrong_answer"),
        ("read", 401, None, "http_401"),
        ("write", 201, None, ""),
        ("write", 204, None, ""),
        ("write", 200, None, "http_200"),
    ],
)
def test_an_answer(operation: str, status: int, body: t.Any, cause: str) -> None:
    assert Placement("t0ken").judge(operation, status, {}, body, "p-1") == cause


def test_what_is_sent() -> None:
    asked = Placement("t0ken")
    assert asked.request(next(iter(asked.weights)), "p-0").headers == {}, "the first operation needs no token"
    assert asked.request("read", "p-1").headers["X-Auth-Token"] == "t0ken"
    paths = [asked.request("write", "p-%d" % number).path for number in range(2 * NAMES)]
    assert len(set(paths)) == NAMES, "what writes leave behind has an end"
    with pytest.raises(UnusableError):
        asked.request("token", "p-2")

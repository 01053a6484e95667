# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table that the fake answers by: derived, of facts only, and of exactly the calls that the driver makes."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
import yaml

from tests.integration.nginx_plus.derive import CALLS, derive
from tests.integration.nginx_plus.fake import TABLE, FakeServer
from tests.integration.nginx_plus.lab import Lab, act

SPECIFICATION = os.environ.get("OSOPS_NGINX_API", "")


def texts(value: t.Any) -> t.Iterator[str]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)
    elif isinstance(value, str):
        yield value


def test_it_holds_no_prose() -> None:
    assert [text for text in texts(TABLE) if " " in text] == []
    assert {"http://", "https://"} & {text[:8] for text in texts(TABLE)} == set()


@pytest.mark.skipif(not SPECIFICATION, reason="OSOPS_NGINX_API names no file: the specification of the API is not part of this collection")
def test_it_is_what_the_specification_gives() -> None:
    assert derive(yaml.safe_load(Path(SPECIFICATION).read_text(encoding="utf-8"))) == TABLE


def test_every_call_of_it_is_made(lab: Lab) -> None:
    """And no other: the fake keeps those in its breaches."""
    lab.plus.add("stream", "tcp", *(FakeServer(lab.address(name)) for name in ("s1", "s2")))
    assert act(lab, "drain", backends=["gone"]).verdict.code == "nginx_plus.unknown_upstream"
    assert act(lab, "drain").verdict.passed
    made = {(method, _template(path)) for method, path, _body, _headers in lab.plus.log}
    assert made == {(call["method"], call["path"]) for call in TABLE["calls"]}
    assert len(made) == len(CALLS)


def _template(path: str) -> str:
    parts = path.partition("?")[0][len("/api/9") :].split("/")
    if "upstreams" in parts:
        at = parts.index("upstreams")
        parts[at + 1 :] = ["{name}" if n == 0 and one else "{id}" if one.isdigit() else one for n, one in enumerate(parts[at + 1 :])]
    return "/".join(parts)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/http/upstreams/be/servers/0", b""),
        ("GET", "/http/upstreams/be/servers/?fields=id", b""),
        ("GET", "/http/caches/", b""),
        ("PATCH", "/http/upstreams/be/servers/0", b'{"id": 3}'),
        ("PATCH", "/http/upstreams/be/servers/0", b'{"backup": true}'),
        ("PATCH", "/http/upstreams/be/servers/0", b'{"drain": "false"}'),
        ("PATCH", "/http/upstreams/be/servers/0", b'{"drain": {"a": 1}}'),
        ("PATCH", "/stream/upstreams/tcp/servers/0", b'{"drain": true}'),
    ],
)
def test_the_fake_holds_the_driver_to_the_specification(lab: Lab, method: str, path: str, body: bytes) -> None:
    lab.lawless = True
    lab.plus.add("stream", "tcp", FakeServer(lab.address("s1")))
    lab.plus.answer(method, "/api/9" + path, {}, body)
    assert len(lab.plus.breaches) == 1
    assert lab.flags() == {(False, False)}


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/http/upstreams/be/servers/0", b"{", 415, "JsonError"),
        ("/http/upstreams/be/servers/9", b"{}", 404, "UpstreamServerNotFound"),
        ("/http/upstreams/be/servers/x", b"{}", 400, "UpstreamBadServerId"),
        ("/http/upstreams/be/servers/0", b'{"weight": 0}', 400, "UpstreamBadWeight"),
        ("/http/upstreams/nobe/servers/0", b"{}", 404, "UpstreamNotFound"),
        ("/http/upstreams/fixed/servers/0", b"{}", 400, "UpstreamStatic"),
    ],
)
def test_what_the_fake_refuses(lab: Lab, path: str, body: bytes, status: int, code: str) -> None:
    lab.plus.add("http", "fixed", FakeServer("127.0.0.1:1"), static=True)
    answered, said = lab.plus.answer("PATCH", "/api/9" + path, {}, body)
    assert (answered, said["error"]["code"]) == (status, code)

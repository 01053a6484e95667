# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table that the fake answers by: derived, of facts only, and of exactly the calls that the driver makes."""

from __future__ import annotations

import typing as t

import pytest

from tests.integration.nginx_plus.derive import CALLS, derive
from tests.integration.nginx_plus.fake import TABLE, FakeServer
from tests.integration.nginx_plus.lab import Lab, act


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


def swagger() -> t.Any:
    """A specification that says no more than the table does."""
    names = {"/http/": "http", "/stream/": "stream"}
    paths: dict[str, t.Any] = {}
    for call in TABLE["calls"]:
        kind = next((word for begin, word in names.items() if call["path"].startswith(begin)), "")
        path = call["path"].replace("{name}", "{%sUpstreamName}" % kind).replace("{id}", "{%sUpstreamServerId}" % kind)
        given: list[t.Any] = [{"in": "query", "name": name} for name in call["query"]]
        given += [{"in": "body", "name": "it", "schema": schema(call["body"])}] if call["body"] else []
        answers = {
            status: {
                "description": " and ".join("a *word*, an *ID* (*%s*)" % code for code in said.get("codes", [])),
                "schema": schema(said["type"]),
            }
            for status, said in call["answers"].items()
        }
        paths.setdefault(path, {})[call["method"].lower()] = {"parameters": given, "responses": answers}
    return {"basePath": TABLE["base"], "paths": paths, "definitions": {name: schema(one) for name, one in TABLE["types"].items()}}


def schema(shape: t.Any) -> t.Any:
    if isinstance(shape, str):
        return {"type": shape, "description": "prose"}
    if "ref" in shape:
        return {"$ref": "#/definitions/" + shape["ref"]}
    if "list" in shape:
        return {"type": "array", "items": schema(shape["list"])}
    if "map" in shape:
        return {"type": "object", "additionalProperties": schema(shape["map"])}
    if "one_of" in shape:
        return {"type": "string", "enum": shape["one_of"]}
    fixed = shape.get("fixed", [])
    fields = {name: {**schema(one), **({"readOnly": True} if name in fixed else {})} for name, one in shape["fields"].items()}
    return {"type": "object", "properties": fields}


def test_it_is_derived() -> None:
    """The specification is not part of this collection; what the table takes from it is read back from one that says the same."""
    assert derive(swagger()) == TABLE


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
        parts[at + 1 :] = [
            "{name}" if n == 0 and one else "{id}" if one.isdigit() else one for n, one in enumerate(parts[at + 1 :])
        ]
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

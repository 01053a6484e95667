# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a recipe's requests mean, and what an answer says."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils import _prober
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._http import HttpError, Reply
from ansible_collections.osops.lifecycle.plugins.module_utils._probe import failure, fill, judge, parse, saved_values, starting

TOKEN = {"x-token": "t"}
INSTANCE = {"component": "api", "listen": "127.0.0.1:9", "scheme": "https", "ca_file": "", "server_name": ""}


def reply(status: int = 200, body: Any = None, **headers: str) -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, headers, data, 0.1)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"name": "a", "path": "/", "methd": "GET"}, "unknown key methd"),
        ({"name": "a", "path": "/", "expect": {"code": 200}}, "unknown key expect.code"),
        ({"name": "A b", "path": "/"}, "a name of its own"),
        ({"path": "/"}, "a name of its own"),
        ({"name": "a"}, "either path or url"),
        ({"name": "a", "path": "/", "url": "http://x/"}, "either path or url"),
        ({"name": "a", "path": "/", "save": {"t": {"cookie": "x"}}}, "either header or json"),
    ],
)
def test_a_request_that_is_none_is_named(row: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInputError, match="requests\\[0\\]") as caught:
        parse([row])
    assert says in caught.value.msg


def test_names_are_there_once() -> None:
    with pytest.raises(BadInputError, match=r"requests\[1\] \(a\)"):
        parse([{"name": "a", "path": "/"}, {"name": "a", "path": "/"}])


def test_fill_goes_through_everything_and_keeps_types() -> None:
    known = {"port": 5000, "user": "admin", "baseline.token": "t"}
    assert fill({"a": ["{user}@{port}", {"b": "{port}"}], "c": 7, "d": "{baseline.token}"}, known) == {
        "a": ["admin@5000", {"b": 5000}],
        "c": 7,
        "d": "t",
    }
    # What was filled in is not filled again: a password may look like a place.
    assert fill("{user}", {"user": "{port}", "port": 1}) == "{port}"


@pytest.mark.parametrize(("text", "code"), [("{nobody}", "probe.unknown_name"), ("{baseline.token}", "probe.no_baseline")])
def test_a_name_without_a_value(text: str, code: str) -> None:
    with pytest.raises(LifecycleError) as caught:
        fill(text, {})
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("expect", "answer", "why"),
    [
        ({}, reply(), ""),
        ({"status": [200, 300]}, reply(300), ""),
        ({"status": 201}, reply(401), "it answered 401 instead of 201"),
        ({"json": {"version.id": "v3.14"}}, reply(body={"version": {"id": "v3.14"}}), ""),
        ({"json": {"version.id": True}}, reply(body={"version": {"id": "v3.14"}}), ""),
        ({"json": {"version.id": True}}, reply(body={"version": {}}), "version.id in its answer is None instead of True"),
        (
            {"json": {"versions.0.id": "v3"}},
            reply(body={"versions": [{"id": "v2"}]}),
            "versions.0.id in its answer is 'v2' instead of 'v3'",
        ),
        ({"json": {"a": 1}}, reply(body=b"<html>"), "a in its answer is None instead of 1"),
        ({"json": {"user": "{user}"}}, reply(body={"user": "admin"}), ""),
        ({"header": {"X-Token": True}}, reply(**TOKEN), ""),
        ({"header": {"X-Token": True}}, reply(), "its header X-Token is None instead of True"),
        ({"contains": "stable"}, reply(body=b"deprecated"), "its answer does not contain 'stable'"),
    ],
)
def test_judge(expect: dict[str, Any], answer: Reply, why: str) -> None:
    assert judge(parse([{"name": "a", "path": "/", "expect": expect}])[0], answer, {"user": "admin"}) == why


def test_what_is_to_be_kept_must_be_there() -> None:
    wanted = parse([{"name": "issue", "path": "/", "save": {"token": {"header": "X-Token"}, "id": {"json": "a.b"}}}])[0]
    assert saved_values(wanted, reply(body={"a": {"b": 7}}, **TOKEN)) == {"token": "t", "id": "7"}
    with pytest.raises(LifecycleError) as caught:
        saved_values(wanted, reply(body={"a": {"b": 7}}))
    assert caught.value.code == "probe.issue"


def test_a_failure_shows_the_answer_without_secrets() -> None:
    wanted = parse([{"name": "issue", "path": "/"}])[0]
    error = failure(
        wanted, "it answered 401 for hunter2", reply(401, b"no: hunter2 at mysql://a:b@c/d " + b"x" * 900), ["hunter2"]
    )
    assert (error.code, error.msg) == ("probe.issue", "The probe issue failed: it answered 401 for ***.")
    assert error.evidence["body"].startswith("no: *** at mysql://***@c/d xxx")
    assert len(error.evidence["body"]) == 400


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (HttpError("refused", "x"), True),
        (HttpError("timeout", "x"), True),
        (HttpError("tls", "x"), False),
        (reply(503), True),
        (reply(500), False),
        (reply(404), False),
    ],
)
def test_only_what_a_starting_server_says_is_waited_out(outcome: Reply | HttpError, expected: bool) -> None:
    assert starting(outcome) is expected


@pytest.mark.parametrize(("peer", "port"), [("http://peer", 80), ("https://peer", 443), ("https://peer:5000", 5000)])
def test_a_peer_is_tried_on_the_port_of_its_scheme(peer: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, int]] = []

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        tried.append(address)
        return socket.socket()

    monkeypatch.setattr(_prober.socket, "create_connection", connect)  # the well-known ports are not ours to listen on
    prober = _prober._Prober(
        {
            "instance": INSTANCE,
            "state": "verify",
            "requests": [{"name": "a", "path": "/"}],
            "timeout": 5,
            "package": "",
            "version": "",
            "secrets": {},
            "vars": {"peers": [peer]},
            "scope": "run",
        }
    )
    assert prober._peer() == {"peer": peer}
    assert tried == [("peer", port)]

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows from what the API says: addresses, health, the floor, and what a change is made of."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, UnknownAnswerError
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.address import canonical, is_at, parse_endpoint, place
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.model import Conf, Group, Info, Peer, Seen, Server
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.old import Proc, is_here, old_workers
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.parse import parse_conf, parse_groups, parse_info
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.refusals import KNOWN, refusal
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.rules import excuse, health, patch, select, shortages

TABLE = json.loads((Path(__file__).parents[2] / "integration" / "nginx_plus" / "api_v9.json").read_text(encoding="utf-8"))


def server(number: int = 1, kind: str = "http", upstream: str = "be", **more: t.Any) -> Server:
    """A server as one look found it; ``down`` and ``drain`` are of its configuration, the rest of its status."""
    flags = {name: more.pop(name, default) for name, default in (("down", False), ("drain", False))}
    address = "10.0.0.%d:80" % number
    shown = {"state": "down" if flags["down"] else "draining" if flags["drain"] else "up", "passed": True, **more}
    peer = Peer(
        **{"id": number, "address": address, "name": address, "backup": False, "weight": 1, "active": 0, "total": 0, **shown}
    )
    return Server(Group(kind, upstream, 0, (peer,)), peer, Conf(number, address, peer.weight, flags["down"], flags["drain"]))


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("10.0.0.1:80", "10.0.0.1:80"),
        ("[0:0:0:0:0:0:0:1]:80", "[::1]:80"),
        ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
        ("Ctl1.Example:80", "ctl1.example:80"),
        ("unix:/run/a.sock", "unix:/run/a.sock"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_addresses_have_one_form(text: str, form: str) -> None:
    assert canonical(text) == form


@pytest.mark.parametrize(
    ("text", "found"),
    [("10.0.0.1:80", ("10.0.0.1", 80)), ("[::1]:80", ("::1", 80)), ("0.0.0.0:80", None), ("unix:/a", None), ("a:80", None)],
)
def test_what_can_be_connected_to(text: str, found: tuple[str, int] | None) -> None:
    assert place(text) == found


@pytest.mark.parametrize(
    ("asked", "here"),
    [
        ("10.0.0.1:80", True), ("10.0.0.1:81", False), ("10.0.0.2:80", False), ("ctl1.example:80", True), ("CTL1.example:80", True),
        ("other.example:80", True), ("other.example:81", False), ("third.example:80", False),
    ],
)  # fmt: skip
def test_a_server_is_meant_by_address_by_its_configured_name_or_by_a_name_of_its_address(asked: str, here: bool) -> None:
    def resolve(name: str) -> set[str]:
        return {"10.0.0.1"} if name == "other.example" else set()

    assert is_at("10.0.0.1:80", "ctl1.example:80", parse_endpoint(asked), resolve) is here
    assert not is_at("unix:/run/a.sock", "", parse_endpoint(asked), resolve)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "up"),
        ({"passed": None}, "unchecked"),
        ({"passed": False}, "undecided"),  # up, yet its last check failed: on its way down
        ({"state": "checking", "passed": None}, "undecided"),
        ({"state": "unavail", "passed": None}, "down"),
        ({"state": "unhealthy", "passed": False}, "down"),
        ({"state": "unavail", "passed": True}, "down"),
        ({"drain": True}, "up"),
        ({"drain": True, "passed": None}, "unchecked"),
        ({"drain": True, "passed": False}, "down"),
        ({"down": True, "passed": False}, "down"),
        ({"down": True, "passed": None}, "unchecked"),
    ],
)
def test_health(given: dict[str, t.Any], expected: str) -> None:
    assert health(server(**given)) == expected


def test_drain_is_taken_from_the_status_where_the_configuration_does_not_say() -> None:
    seen = server(state="draining")
    silent = Server(seen.group, seen.peer, Conf(1, seen.peer.address, 1, False, None))
    assert (seen.admin, silent.admin) == (0, 8)


@pytest.mark.parametrize("flags", [{"down": True}, {"drain": True}])
def test_one_that_was_taken_out_a_moment_ago_carries_nothing(flags: dict[str, bool]) -> None:
    """The status is asked for before the configuration, so it may still say up."""
    servers = [server(1), server(2, state="up", **flags)]
    assert shortages(_seen(*servers), {servers[0].key}, 1) == {"be": 0}


def _seen(*servers: Server) -> Seen:
    groups: dict[tuple[str, str], list[Server]] = {}
    for one in servers:
        groups.setdefault((one.kind, one.group.name), []).append(one)
    return Seen(Info("1", "r", 1, 2, 3), servers[:1], tuple((found[0].group, tuple(found)) for found in groups.values()))


@pytest.mark.parametrize(
    ("others", "left"),
    [
        ([{}], 1),
        ([{}, {}], 2),
        ([{"drain": True}], 0),
        ([{"down": True}], 0),
        ([{"passed": False}], 0),
        ([{"state": "unavail"}], 0),
        ([{"state": "checking"}], 0),
        ([{"backup": True}], 1),
        ([{"backup": True}, {"backup": True}], 2),
        ([{"backup": True}, {}], 1),
        ([{"backup": True}, {"drain": True}], 1),
    ],
)
def test_the_floor_counts_who_carries_traffic(others: list[dict[str, t.Any]], left: int) -> None:
    servers = [server(1), *(server(number, **given) for number, given in enumerate(others, 2))]
    assert shortages(_seen(*servers), {servers[0].key}, 99) == {"be": left}
    assert shortages(_seen(*servers), {servers[0].key}, left) == {}


def test_the_floor_holds_for_each_upstream_of_each_kind() -> None:
    servers = [server(1), server(2), server(1, "stream", "tcp"), server(2, "stream", "be", passed=False, state="unhealthy")]
    assert shortages(_seen(*servers), {"be/10.0.0.1:80", "tcp/10.0.0.1:80"}, 1) == {"be (stream)": 0, "tcp (stream)": 0}


@pytest.mark.parametrize(
    ("given", "wanted", "body"),
    [
        ({}, {"admin": 8}, {"drain": True}),
        ({"drain": True}, {"admin": 8}, {}),
        ({"drain": True}, {"admin": 0}, {"drain": False}),
        ({"down": True}, {"admin": 8}, {"down": False, "drain": True}),
        ({"drain": True}, {"admin": 9}, {"down": True}),
        ({}, {"admin": 1, "weight": 3}, {"down": True, "weight": 3}),
        ({}, {"weight": 1}, {}),
        ({}, {}, {}),
    ],
)
def test_a_change_is_one_request_of_what_differs(given: dict[str, t.Any], wanted: dict[str, int], body: dict[str, t.Any]) -> None:
    assert patch(server(**given), wanted) == body


@pytest.mark.parametrize(
    ("kind", "given", "expect", "lost"),
    [
        ("http", {}, {"admin": 8}, True),
        ("http", {"drain": True}, {"admin": 8}, False),
        ("http", {}, {"admin": 1}, False),  # somebody set it down, and somebody took that back
        ("http", {"down": True}, {"admin": 8}, False),
        ("stream", {}, {"admin": 1}, True),
        ("http", {}, {"weight": 1}, False),
    ],
)
def test_what_a_reload_explains(kind: str, given: dict[str, t.Any], expect: dict[str, int], lost: bool) -> None:
    one = server(kind=kind, **given)
    excused, found = excuse([one], {one.key: expect})
    assert found == ([one.key] if lost else [])
    assert excused == {one.key: {"admin": 0} if lost else expect}
    assert excuse([one], None) == (None, [])


def test_every_documented_error_code_has_a_sentence() -> None:
    documented = {code for call in TABLE["calls"] for said in call["answers"].values() for code in said.get("codes", [])}
    assert len(documented) > 15
    assert documented - set(KNOWN) == set()
    assert set(KNOWN) - documented == {"PathNotFound"}  # nginx answers it for a path that it does not have


@pytest.mark.parametrize("code", sorted(KNOWN))
def test_sentences(code: str) -> None:
    made = refusal(400, {"error": {"status": 400, "text": "t", "code": code}}, "be/10.0.0.1:80", "t")
    assert made.msg.endswith("(it says: t).")
    assert "%" not in made.msg
    assert made.hint.endswith((".", "?"))
    assert made.code.startswith("nginx_plus.")
    assert made.evidence == {"status": 400, "error": code}


def test_a_code_that_is_no_code_is_not_repeated() -> None:
    made = refusal(400, {"error": {"code": "<b>x</b>"}}, "be", "")
    assert isinstance(made, UnknownAnswerError)
    assert made.evidence == {"status": 400, "error": ""}


@pytest.mark.parametrize(
    ("endpoints", "backends", "keys"),
    [
        (["10.0.0.1:80"], [], ["be/10.0.0.1:80", "other/10.0.0.1:80"]),
        (["10.0.0.1:80"], ["other"], ["other/10.0.0.1:80"]),
        (["10.0.0.1:80", "10.0.0.2:80"], ["be"], ["be/10.0.0.1:80", "be/10.0.0.2:80"]),
        (["10.0.0.1:80", "10.0.0.1:80"], ["be"], ["be/10.0.0.1:80"]),
    ],
)
def test_select(endpoints: list[str], backends: list[str], keys: list[str]) -> None:
    peers = tuple(server(number).peer for number in (1, 2))
    groups = [Group("http", "be", 0, peers), Group("http", "other", 0, peers[:1])]
    found = select(groups, [parse_endpoint(text) for text in endpoints], backends, lambda _name: set())
    assert ["%s/%s" % (group.name, peer.address) for group, peer in found] == keys


def test_select_names_what_is_missing() -> None:
    group = Group("http", "be", 0, (server(1).peer,))
    with pytest.raises(BadInputError, match=r"no server 10\.0\.0\.9:80"):
        select([group], [parse_endpoint("10.0.0.1:80"), parse_endpoint("10.0.0.9:80")], [], lambda _name: set())


PEER = {
    "id": 0,
    "server": "10.0.0.1:80",
    "backup": False,
    "weight": 1,
    "state": "up",
    "active": 0,
    "requests": 1,
    "connections": 1,
}
CONF = {"id": 0, "server": "10.0.0.1:80", "weight": 1, "down": False}


@pytest.mark.parametrize("field", ["id", "server", "backup", "weight", "state", "active", "requests"])
@pytest.mark.parametrize("value", ["missing", None, 1.5, []])
def test_a_status_that_is_not_as_documented_is_an_error(field: str, value: t.Any) -> None:
    peer = {**PEER, field: value}
    if value == "missing":
        del peer[field]
    with pytest.raises(UnknownAnswerError) as caught:
        parse_groups("http", {"be": {"peers": [peer], "zombies": 0}})
    assert field in caught.value.msg


@pytest.mark.parametrize("field", ["id", "server", "weight", "down", "drain"])
def test_a_configuration_that_is_not_as_documented_is_an_error(field: str) -> None:
    with pytest.raises(UnknownAnswerError):
        parse_conf({**CONF, field: None}, "be")


def test_draining_is_no_state_of_a_stream_server() -> None:
    assert parse_groups("http", {"be": {"peers": [{**PEER, "state": "draining"}], "zombies": 0}})[0].peers[0].state == "draining"
    with pytest.raises(UnknownAnswerError):
        parse_groups("stream", {"be": {"peers": [{**PEER, "state": "draining"}], "zombies": 0}})


NGINX = {"version": "1.21.6", "build": "nginx-plus-r27", "generation": 3, "pid": 12, "ppid": 11}


def test_the_release() -> None:
    assert parse_info(NGINX) == Info("1.21.6", "nginx-plus-r27", 3, 12, 11)
    for field in NGINX:
        with pytest.raises(UnknownAnswerError):
            parse_info({**NGINX, field: None})


MASTER, WORKER = Proc(11, 1, 11, "nginx: master process"), Proc(12, 11, 12, "nginx: worker process")
LEFT = Proc(13, 11, 13, "nginx: worker process is shutting down")
OTHER = [Proc(21, 1, 21, "nginx: master process"), Proc(22, 21, 22, LEFT.title)]
INSIDE = [Proc(101, 100, 11, MASTER.title), Proc(102, 101, 12, WORKER.title), Proc(103, 101, 13, LEFT.title)]


@pytest.mark.parametrize(
    ("known", "old"),
    [
        ([MASTER, WORKER], []),
        ([MASTER, WORKER, LEFT, *OTHER], [13]),
        (INSIDE, [103]),  # a container numbers them anew
        ([MASTER, WORKER, LEFT, *INSIDE], None),  # either may be meant
        ([MASTER, LEFT], None),
        (OTHER, None),
        ([], None),
    ],
)
def test_old_workers_are_those_of_the_nginx_that_has_answered(known: list[Proc], old: list[int] | None) -> None:
    found = old_workers(known, 12, 11)
    assert (found if found is None else [process.pid for process in found]) == old


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8080/api", True),
        ("https://127.9.9.9/api", True),
        ("http://192.0.2.7:8080/api", False),  # a network that is nobody's (RFC 5737)
        ("http://no-such-host.invalid/api", False),
    ],
)
def test_whose_address_it_is(url: str, here: bool) -> None:
    assert is_here(url) is here

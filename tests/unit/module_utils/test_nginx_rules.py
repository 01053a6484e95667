# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which servers are meant, what a configuration says of them, and what an upstream can still carry."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.rules import beside, parse_endpoint, select, shortages
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.tree import Tree, included, read_tree
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.upstreams import (
    Address,
    Server,
    address_of,
    directs,
    entries,
    group,
    lua_balancers,
    require_no_lua,
)

NAMES = {"one.example": {"192.0.2.1"}, "two.example": {"192.0.2.1", "192.0.2.2"}}


def resolve(name: str) -> set[str]:
    return NAMES.get(name, set())


def tree(folder: Path, text: str, **more: str) -> Tree:
    (folder / "nginx.conf").write_text(text)
    for name, content in more.items():
        (folder / (name + ".conf")).write_text(content)
    return read_tree(str(folder / "nginx.conf"))


def servers(folder: Path, text: str, **more: str) -> list[Server]:
    return group(entries(tree(folder, text, **more)))


def chosen(found: list[Server], *texts: str, backends: t.Collection[str] = ()) -> list[str]:
    names = {server.first.upstream for server in found}
    return [server.key for server in select(found, names, [parse_endpoint(text) for text in texts], backends, resolve)]


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("192.0.2.1", ("192.0.2.1", 80), "192.0.2.1:80"),
        ("192.0.2.1:5000", ("192.0.2.1", 5000), "192.0.2.1:5000"),
        ("[2001:DB8::1]:5000", ("2001:db8::1", 5000), "[2001:db8::1]:5000"),
        ("[2001:db8::1]", ("2001:db8::1", 80), "[2001:db8::1]:80"),
        ("[::ffff:192.0.2.1]:1", ("192.0.2.1", 1), "192.0.2.1:1"),
        ("CTL1.example:5000", ("ctl1.example", 5000), "ctl1.example:5000"),
        ("unix:/run/x.sock", ("/run/x.sock", 0), "unix:/run/x.sock"),
        ("UNIX:/run/x.sock:/uri", ("/run/x.sock", 0), "unix:/run/x.sock"),
    ],
)
def test_addresses(text: str, expected: tuple[str, int], shown: str) -> None:
    assert address_of(text, 80) == Address(*expected)
    assert address_of(text, 80).text == shown


def test_words_of_a_server_line(tmp_path: Path) -> None:
    text = """http { upstream a { server one.example:80 weight=3 'backup' resolve; server 192.0.2.9 "down"; server 192.0.2.8 drain weight=x;
      server unix:/x; keepalive 3; } server { listen 1; } }
      stream { upstream a { server 192.0.2.9:1; } }"""
    first, second, third, fourth, fifth = servers(tmp_path, text)
    assert (first.stable, first.backup, first.first.dynamic) == ({"admin": 0, "weight": 3}, True, True)
    assert (second.key, second.stable, second.backup) == ("a/192.0.2.9:80", {"admin": 1, "weight": 1}, False)
    assert third.stable == {"admin": 1, "weight": 1}
    assert fourth.key == "a/unix:/x"
    assert (fifth.first.kind, fifth.key) == ("stream", "a/192.0.2.9:1")


def test_names_and_addresses_find_each_other(tmp_path: Path) -> None:
    found = servers(tmp_path, "http { upstream a { server one.example:80; server 192.0.2.1:81; server 192.0.2.7:80; } }")
    assert chosen(found, "ONE.example:80") == ["a/one.example:80"]
    assert chosen(found, "192.0.2.1:80") == ["a/one.example:80"]
    assert chosen(found, "one.example:81") == ["a/192.0.2.1:81"]
    with pytest.raises(BadInputError, match=r"nginx has no server 192\.0\.2\.1:82 in any upstream"):
        chosen(found, "192.0.2.7:80", "192.0.2.1:82")


def test_a_name_with_two_addresses_is_taken_out_by_its_name_only(tmp_path: Path) -> None:
    found = servers(tmp_path, "http { upstream a { server two.example:80; } }")
    with pytest.raises(BadInputError, match="stands for 2 addresses") as error:
        chosen(found, "192.0.2.1:80")
    assert error.value.code == "nginx.many_addresses"
    assert chosen(found, "two.example:80") == ["a/two.example:80"]


@pytest.mark.parametrize("lua", ["balancer_by_lua_block { x = '}' }", "balancer_by_lua_file /etc/nginx/which.lua;"])
@pytest.mark.parametrize("kind", ["http", "stream"])
def test_lua_in_the_upstream_of_a_server_is_refused_and_elsewhere_passed_over(tmp_path: Path, kind: str, lua: str) -> None:
    elsewhere = "%s { server { content_by_lua_block { x = '}' } } upstream b { server 192.0.2.1:80; }" % kind
    read = tree(tmp_path, elsewhere + " upstream a { server 0.0.0.1:80;\n %s } }" % lua)
    found = {server.key: server for server in group(entries(read))}
    assert sorted(found) == ["a/0.0.0.1:80", "b/192.0.2.1:80"]
    require_no_lua([found["b/192.0.2.1:80"]], lua_balancers(read))
    with pytest.raises(BadInputError, match=r"nginx\.conf:2: Lua code decides in upstream a which server is asked") as error:
        require_no_lua(found.values(), lua_balancers(read))
    assert error.value.code == "nginx.lua"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("proxy_pass http://a", []),
        ("proxy_pass http://A/path", []),
        ("proxy_pass https://192.0.2.1", ["192.0.2.1:443"]),
        ("proxy_pass http://192.0.2.1/a/$uri", ["192.0.2.1:80"]),
        ("proxy_pass http://[::1]:81/", ["[::1]:81"]),
        ("proxy_pass http://unix:/run/x.sock:/a", ["unix:/run/x.sock"]),
        ("uwsgi_pass 192.0.2.1:9000", ["192.0.2.1:9000"]),
        ("grpc_pass grpc://192.0.2.1", ["192.0.2.1:80"]),
        ("proxy_pass http://$backend", [None]),
        ("proxy_pass $backend", [None]),
        ("proxy_pass $scheme://192.0.2.1", [None]),
        ("fastcgi_pass a", []),
    ],
)
def test_ways_past_the_upstreams(tmp_path: Path, line: str, expected: list[str | None]) -> None:
    found = directs(tree(tmp_path, "http { upstream a { server 192.0.2.3; } server { location / { %s; } } }" % line), {"a"})
    assert [way.address.text if way.address else None for way in found] == expected


def test_what_else_sends_requests_to_an_address(tmp_path: Path) -> None:
    read = tree(
        tmp_path,
        "http { upstream a { server 192.0.2.1:80; } upstream b { server one.example; server 192.0.2.5; }"
        " server { proxy_pass http://192.0.2.1; } server { proxy_pass http://192.0.2.5; } }",
    )
    found = group(entries(read))
    others, ways = beside(found[:1], found, directs(read, {"a", "b"}), resolve)
    assert [other.key for other in others] == ["b/one.example:80"]
    assert [way.place.where for way in ways] == ["%s/nginx.conf:1" % tmp_path]


def test_floor(tmp_path: Path) -> None:
    found = servers(
        tmp_path,
        "http { upstream a { server 192.0.2.1; server 192.0.2.2; server 192.0.2.3 down; server 192.0.2.4 backup; server 192.0.2.5 backup; }"
        " upstream b { server 192.0.2.1; server 192.0.2.9; } upstream c { server 192.0.2.2; } }",
    )
    one = [server for server in found if server.address.host == "192.0.2.1"]
    assert shortages(found, one, 1, []) == {}
    assert shortages(found, one, 2, []) == {"a": 1, "b": 1}
    assert shortages(found, one, 1, ["b/192.0.2.9:80"]) == {"b": 0}
    assert shortages(found, one, 2, ["a/192.0.2.2:80"]) == {"b": 1}  # both backups of a carry traffic then
    assert shortages(found, one, 0, [server.key for server in found]) == {}


def test_includes_are_found_as_nginx_finds_them(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in ("b.conf", "a.conf", "Z.conf", ".hidden.conf", "other.txt"):
        (tmp_path / "d" / name).write_text("# %s\n" % name)
    config = str(tmp_path / "nginx.conf")
    assert [Path(path).name for path in included(config, "d/*.conf")] == ["Z.conf", "a.conf", "b.conf"]
    assert included(config, "d/missing.conf") == ["%s/d/missing.conf" % tmp_path]
    assert included(config, "/nowhere/*") == []
    read = tree(tmp_path, "http { include d/[ab].conf; include d/[ab].conf; include one.conf; }", one="include d/Z.conf;")
    assert [Path(source.path).name for source in read.sources] == ["nginx.conf", "a.conf", "b.conf", "one.conf", "Z.conf"]
    assert read.folders == (str(tmp_path / "d"),)
    assert read.dump().endswith("# configuration file %s/d/Z.conf:\n# Z.conf\n\n" % tmp_path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LifecycleError, match="is included by itself"):
        tree(tmp_path, "include nginx.conf;")
    with pytest.raises(LifecycleError, match=r"missing\.conf cannot be read: No such file or directory\."):
        tree(tmp_path, "include missing.conf;")
    with pytest.raises(LifecycleError, match="is not a file"):
        tree(tmp_path, "include /dev/null;")

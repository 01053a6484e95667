# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold for every balancer, name and answer, not only for the recorded ones."""

from __future__ import annotations

import contextlib
import re

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, UnknownAnswerError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy import parse, rules
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import check_key, check_name
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import FORCED_DRAIN, Server, ServerStat, ServerState

PARSERS = (parse.parse_servers_state, parse.parse_stat, parse.parse_proc, parse.parse_sessions, parse.parse_info)
HEADERS = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state\n",
    "# pxname,svname,type\n",
    "#<PID> <type>\n",
    "Name: HAProxy\n",
    "",
)


@st.composite
def balancers(draw: st.DrawFn) -> list[Server]:
    servers = []
    for number in range(draw(st.integers(1, 8))):
        backend, name = draw(st.sampled_from(["a", "b"])), "s%d" % number
        op_state, admin = draw(st.integers(0, 3)), draw(st.sampled_from([0, 0, 0, 1, 2, 5, 8, 0x10, 0x18, 0x20]))
        health = draw(st.sampled_from([4, 4, 3]))
        state = ServerState(
            backend,
            name,
            "192.0.2.1",
            80,
            "",
            op_state,
            admin,
            draw(st.integers(0, 2)),
            1,
            3,
            health,
            draw(st.sampled_from([0, 6])),
        )
        tracked = draw(st.sampled_from(["", "", *[server.key for server in servers]]))
        stat = ServerStat(backend, name, "UP", 0, 0, 0, draw(st.booleans()), tracked, "L4OK", 4, "", 0)
        servers.append(Server(state, stat))
    return servers


@given(balancers(), st.data())
def test_draining_more_never_leaves_more(servers: list[Server], data: st.DataObject) -> None:
    keys = [server.key for server in servers]
    fewer = data.draw(st.sets(st.sampled_from(keys)))
    more = fewer | data.draw(st.sets(st.sampled_from(keys)))
    left, later = rules.capacity(servers, fewer), rules.capacity(servers, more)
    assert all(later[backend] <= left[backend] for backend in left)
    assert all(count == 0 for count in rules.capacity(servers, keys).values())


@given(balancers(), st.integers(0, 8))
def test_the_stricter_view_of_health_never_allows_more(servers: list[Server], floor: int) -> None:
    keys = [servers[0].key]
    lenient = rules.shortages(servers, keys, floor, (*rules.HEALTHY, rules.UNDECIDED))
    assert set(lenient) <= set(rules.shortages(servers, keys, floor))


@given(balancers(), st.sampled_from([0, 1, 8]), st.integers(0, 256))
def test_commands_lead_to_what_is_wanted(servers: list[Server], admin: int, weight: int) -> None:
    server = servers[0]
    now = dict(server.stable)
    for command in rules.commands(server, {"admin": admin, "weight": weight}):
        _set, _server, key, what, value = command.split(" ")
        assert key == server.key
        now["weight" if what == "weight" else "admin"] = (
            int(value) if what == "weight" else {"ready": 0, "maint": 1, "drain": FORCED_DRAIN}[value]
        )
    assert now == {"admin": admin, "weight": weight}


@given(st.text(max_size=30))
def test_no_accepted_name_can_end_a_command(name: str) -> None:
    for check in (lambda text: check_name(text, "server"), check_key):
        try:
            accepted = check(name)
        except BadInputError:
            continue
        assert accepted == name
        assert re.fullmatch(r"[A-Za-z0-9_.:/-]+", name)


@given(st.text(max_size=30) | st.from_regex(r"[0-9a-f.:\[\]]{1,20}:[0-9]{1,6}"))
def test_an_endpoint_is_an_address_or_name_and_a_port(text: str) -> None:
    try:
        endpoint = rules.parse_endpoint(text)
    except BadInputError:
        return
    assert 0 < endpoint.port < 65536
    assert re.fullmatch(r"[A-Za-z0-9._:%-]+", endpoint.host)


@given(st.sampled_from(HEADERS), st.text(alphabet=st.sampled_from('0123456789abc,"#- \n:[]=xs'), max_size=120))
def test_any_answer_is_understood_or_refused(header: str, text: str) -> None:
    for parser in PARSERS:
        with contextlib.suppress(UnknownAnswerError):
            parser(header + text)

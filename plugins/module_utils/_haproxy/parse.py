# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Texts of the runtime API to data. Pure; whatever is not understood is an UnknownAnswerError."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import UnknownAnswerError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.model import (
    Process,
    Server,
    ServerStat,
    ServerState,
    Session,
    Worker,
)

_SESSION = re.compile(
    r"^(0x[0-9a-f]+): .*? be=(\S+) srv=(\S+) .*? age=(\S*) .*? rq\[[^]]*?an=([0-9a-f]+)h.*? rp\[[^]]*?an=([0-9a-f]+)h"
)
# The column "type" counts 0 frontend, 1 backend, 2 server; the argument of the command is a mask, where 4 means servers.
_SERVER_ROW = "2"


def _unknown(command: str, text: str, why: str) -> UnknownAnswerError:
    return UnknownAnswerError(
        "HAProxy's answer to `%s` is not understood: %s." % (command, why),
        hint="Nothing was concluded from it. Please report the version of HAProxy and this answer.",
        evidence={"answer": text[:400]},
    )


def _columns(row: t.Mapping[str, str], text: str, command: str) -> t.Callable[[str], str]:
    def column(name: str) -> str:
        try:
            return row[name]
        except KeyError:
            raise _unknown(command, text, "it has no column %s" % name) from None

    return column


def parse_servers_state(text: str) -> list[ServerState]:
    """Read ``show servers state`` (format 1). The columns are found by their names."""
    command = "show servers state"
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or lines[0].strip() != "1" or not lines[1].startswith("# be_id"):
        raise _unknown(command, text, "it does not begin with the format 1 and a header")
    header = lines[1][2:].split()
    found = []
    for line in lines[2:]:
        column = _columns(dict(zip(header, line.split(" "))), text, command)
        try:
            found.append(
                ServerState(
                    backend=column("be_name"),
                    name=column("srv_name"),
                    address=column("srv_addr"),
                    port=int(column("srv_port")),
                    fqdn="" if column("srv_fqdn") == "-" else column("srv_fqdn"),
                    op_state=int(column("srv_op_state")),
                    admin=int(column("srv_admin_state")),
                    weight=int(column("srv_uweight")),
                    initial_weight=int(column("srv_iweight")),
                    check_result=int(column("srv_check_result")),
                    check_health=int(column("srv_check_health")),
                    check_state=int(column("srv_check_state")),
                )
            )
        except ValueError as exc:
            raise _unknown(command, line, str(exc)) from None
    return found


def _csv(line: str) -> list[str]:
    """Split one CSV line; HAProxy quotes a field only when it holds a comma, a quote or a blank."""
    if '"' not in line:
        return line.split(",")
    cells = re.findall(r'(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))', line)
    return [quoted.replace('""', '"') or plain for quoted, plain in cells]


def parse_stat(text: str) -> list[ServerStat]:
    """Read the server rows of ``show stat``; other rows are passed over."""
    command = "show stat"
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or not lines[0].startswith("# pxname,"):
        raise _unknown(command, text, "it does not begin with a CSV header")
    header = lines[0][2:].split(",")
    found = []
    for line in lines[1:]:
        row = dict(zip(header, _csv(line)))
        column = _columns(row, text, command)
        if column("type") != _SERVER_ROW:
            continue
        try:
            found.append(
                ServerStat(
                    backend=column("pxname"),
                    name=column("svname"),
                    status=column("status"),
                    sessions=int(column("scur")),
                    queued=int(column("qcur")),
                    sessions_total=int(column("stot")),
                    backup=column("bck") == "1",
                    tracked=column("tracked"),
                    # "* L4OK": a check is under way, the word is the result of the one before.
                    check_status=column("check_status").lstrip("* "),
                    full_health=int(column("check_rise")) + int(column("check_fall")) - 1 if column("check_rise") else None,
                    cookie=column("cookie"),
                    idle_connections=int(row.get("idle_conn_cur") or 0),
                )
            )
        except ValueError as exc:
            raise _unknown(command, line, str(exc)) from None
    return found


def join(states: t.Iterable[ServerState], stats: t.Iterable[ServerStat]) -> tuple[Server, ...]:
    """Bring states and counts of the same servers together; a server that only one of the two lists is not shown."""
    counts = {(stat.backend, stat.name): stat for stat in stats}
    return tuple(Server(state, counts[state.backend, state.name]) for state in states if (state.backend, state.name) in counts)


def parse_info(text: str) -> dict[str, str]:
    """Read ``show info``: `Name: value` lines. What does not come from HAProxy is an error."""
    info = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    if info.get("Name") != "HAProxy":
        raise _unknown("show info", text, "the program behind the socket does not call itself HAProxy")
    return info


def parse_worker(info: str, states: str, stats: str) -> Worker:
    """Put one look at a worker together from the answers to show info, show servers state and show stat."""
    known = parse_info(info)
    try:
        return Worker(
            version=known["Version"],
            pid=int(known["Pid"]),
            uptime_s=int(known["Uptime_sec"]),
            processes=int(known.get("Nbproc", "1")),
            servers=join(parse_servers_state(states), parse_stat(stats)),
        )
    except (KeyError, ValueError) as exc:
        raise _unknown("show info", info, "%s is missing or no number" % (exc,)) from None


def parse_proc(text: str) -> list[Process]:
    """Read ``show proc`` of the master socket: its workers, current and old (left by a reload)."""
    lines = text.splitlines()
    if not lines or not lines[0].startswith("#<PID>"):
        raise _unknown("show proc", text, "it does not begin with its header")
    found, section = [], ""
    for line in lines[1:]:
        if line.startswith("#"):
            section = line.lstrip("# ").strip()
            continue
        words = line.split()
        if len(words) >= 2 and words[0].isdigit():
            found.append(Process(int(words[0]), words[1], section == "old workers"))
    return found


def parse_sessions(text: str) -> list[Session]:
    """Read ``show sess``: the streams that have a server. No analyser left on either side means a tunnel (or TCP mode)."""
    found = []
    for line in text.splitlines():
        match = _SESSION.match(line)
        if match and match.group(3) != "<none>":
            tunnel = int(match.group(5), 16) == 0 and int(match.group(6), 16) == 0
            found.append(Session(match.group(1), match.group(2), match.group(3), match.group(4), tunnel))
    return found

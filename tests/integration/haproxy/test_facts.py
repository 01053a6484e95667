# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What HAProxy does by itself, asked without the collection: the reasons for what the collection does."""

from __future__ import annotations

import time
import typing as t

from tests.integration.haproxy.lab import Lab, Web, until

MakeLab = t.Callable[..., Lab]


def _die(lab: Lab, name: str) -> int:
    port = lab.web[name].port
    lab.web[name].die()
    return port


def test_maintenance_to_ready_sends_traffic_to_a_dead_server(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.config("  retries 0\n", default="check inter 1000 rise 2 fall 3")
    lab.start()
    lab.raw("set server be/s1 state maint")
    _die(lab, "s1")
    lab.raw("set server be/s1 state ready")
    assert lab.status("be/s1") == "UP 1/3"
    assert "503" in {lab.client().get() for _ in range(4)}


def test_drain_to_ready_keeps_a_dead_server_out(lab: Lab) -> None:
    lab.raw("set server be/s1 state drain")
    port = _die(lab, "s1")
    until(lambda: lab.status("be/s1") == "DOWN")
    lab.raw("set server be/s1 state ready")
    assert lab.status("be/s1") == "DOWN"
    assert {lab.client().get() for _ in range(4)} == {"s2"}
    lab.web["s1"] = Web("s1", port)
    until(lambda: lab.status("be/s1") == "UP")


def test_tunnel_survives_drain_and_maintenance(lab: Lab) -> None:
    tunnel = lab.websocket_on("s1")
    for state in ("drain", "maint"):
        lab.raw("set server be/s1 state " + state)
        time.sleep(0.3)
        assert tunnel.echoes()
        assert lab.sessions("be/s1") == 1
    lab.raw("shutdown sessions server be/s1")
    until(lambda: not tunnel.echoes())


def test_on_marked_down_ends_tunnels_at_maintenance_but_not_at_drain(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.config(default="check inter 100 rise 2 fall 3 on-marked-down shutdown-sessions")
    lab.start()
    tunnel = lab.websocket_on("s1")
    lab.raw("set server be/s1 state drain")
    time.sleep(0.3)
    assert tunnel.echoes()
    lab.raw("set server be/s1 state maint")
    until(lambda: not tunnel.echoes())


def test_request_in_progress_survives_maintenance(lab: Lab) -> None:
    client = lab.slow_on("s1", 0.5)
    lab.raw("set server be/s1 state maint")
    assert client.answer() == "s1"
    until(lambda: lab.sessions("be/s1") == 0)


def test_cookie_brings_old_and_new_connections_back_until_maintenance(make_lab: MakeLab) -> None:
    from tests.integration.haproxy.test_drain import cookie_lab

    lab, port = cookie_lab(make_lab)
    from tests.integration.haproxy.lab import Client

    kept = Client(port)
    while kept.get() != "s1":
        kept.close()
        kept = Client(port)
    new = Client(port)
    new.cookie = kept.cookie
    lab.raw("set server persistent/s1 state drain")
    assert (kept.get(), new.get()) == ("s1", "s1")
    lab.raw("set server persistent/s1 state maint")
    assert (kept.get(), new.get()) == ("s2", "s2")
    kept.close()
    new.close()


def test_reload_with_a_stale_state_file_drains_again(make_lab: MakeLab) -> None:
    from pathlib import Path

    from tests.integration.haproxy.test_reload import with_state_file

    lab = with_state_file(make_lab())
    lab.start()
    lab.raw("set server be/s1 state drain")
    Path(lab.state_file).write_text(lab.raw("show servers state"))
    lab.raw("set server be/s1 state ready")
    lab.reload()
    assert lab.mask("be/s1") == 8

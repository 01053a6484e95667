# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switching a real Keystone to another release and back: proof, crashes in the middle, and starts that fail."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.artifact_source.rig import HOST, MOMENTS, PATH, Rig

pytestmark = pytest.mark.rig
DROP_IN = "/etc/systemd/system/keystone-api.service.d"


def state(release: dict[str, Any], version: str, running: bool = True) -> dict[str, Any]:
    return {"release": release["id"], "version": version, "running": running}


@pytest.fixture
def drop_in(rig: Rig) -> Iterator[str]:
    """A folder for settings of the unit that are taken away again."""
    rig.shell(HOST, "mkdir -p %s" % DROP_IN)
    yield DROP_IN
    rig.shell(HOST, "rm -rf %s; systemctl daemon-reload" % DROP_IN)


@pytest.fixture
def other(rig: Rig, old: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A unit of our own whose manners a test can choose: it runs the environment's Python."""
    rig.shell(HOST, "mkdir -p /opt/other && ln -sfn %s/releases /opt/other/releases" % PATH)
    yield {"component": "other", "unit": "other.service", "listen": "127.0.0.1:5999", "path": "/opt/other", "stop": 3}
    rig.shell(
        HOST,
        "systemctl kill -s KILL other; rm -rf /etc/systemd/system/other.service /opt/other; systemctl daemon-reload",
    )


def write_unit(rig: Rig, code: str, *settings: str) -> None:
    """Make other.service, which runs ``code`` with the Python of its release."""
    text = '[Service]\nExecStart=/opt/other/other/bin/python -c "%s"\n%s\n' % (code, "\n".join(settings))
    answer = rig.module(
        HOST, "ansible.builtin.copy", {"dest": "/etc/systemd/system/other.service", "content": text, "mode": "0644"}
    )
    assert answer["changed"] is True
    rig.shell(HOST, "systemctl daemon-reload")


# One library with compiled code, as every OpenStack service has: it shows which environment was loaded.
DEAF = (
    "import _cffi_backend, signal, socket, time; signal.signal(15, signal.SIG_IGN); "
    "s = socket.create_server(('127.0.0.1', 5999)); time.sleep(600)"
)


def test_forward_and_back(rig: Rig, old: dict[str, Any], new: dict[str, Any]) -> None:
    look = rig.source("active", new, check=True)
    assert look["before"] == state(old, "27.0.1")
    forward = rig.source("active", new, expect=look["before"])
    assert (forward["before"], forward["after"], forward["changed"]) == (state(old, "27.0.1"), state(new, "29.0.2"), True)
    assert forward["link"] == new["id"]
    assert {old["id"], new["id"]} <= set(forward["releases"]), "the former release is kept"
    assert not set(forward["process"]["pids"]) & set(look["process"]["pids"])
    assert forward["stop"]["killed"] is False
    assert rig.source("active", new)["changed"] is False
    back = rig.source("active", old, expect=forward["after"])
    assert (back["after"], back["changed"]) == (state(old, "27.0.1"), True)


def test_a_link_is_no_proof(rig: Rig, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Somebody moves the link and does not restart: what runs is what was loaded."""
    rig.shell(HOST, "ln -sfn releases/%s %s/keystone-api" % (new["id"], PATH))
    seen = rig.source("active", new, check=True)
    assert seen["before"] == state(old, "27.0.1")
    assert seen["link"] == new["id"]
    # And the other way round: running what is wanted from a link that would start something else is not done.
    mended = rig.source("active", old)
    assert (mended["changed"], mended["link"]) == (True, old["id"])


def test_somebody_else_changed_it(rig: Rig, old: dict[str, Any], new: dict[str, Any]) -> None:
    before = rig.source("active", old, check=True)["process"]
    answer = rig.source("active", new, expect={"release": "28.0.0-0123456789ab"})
    assert answer["verdict"]["code"] == "expect.foreign"
    assert rig.source("active", old, check=True)["process"] == before


def test_an_older_holder_is_refused(rig: Rig, old: dict[str, Any], new: dict[str, Any]) -> None:
    scope = "trial-%d" % time.time()
    assert rig.source("active", old, scope=scope, token=8)["verdict"]["outcome"] == "pass"
    answer = rig.source("active", new, scope=scope, token=7)
    assert answer["verdict"]["code"] == "fence.stale_token"
    assert rig.source("active", old, check=True)["before"] == state(old, "27.0.1")


@pytest.mark.parametrize("cut", ["stop", "link", "half a link", "start"])
def test_cut_between_two_acts(rig: Rig, old: dict[str, Any], new: dict[str, Any], cut: str) -> None:
    """What each cut leaves behind, made by hand; the same call with resume ends where it should."""
    begun = time.monotonic()
    left = ["systemctl stop keystone-api"]
    if cut == "half a link":
        left.append("ln -s releases/%s %s/.keystone-api.new" % (new["id"], PATH))
    if cut in ("link", "start"):
        left.append("ln -sfn releases/%s %s/keystone-api" % (new["id"], PATH))
    if cut == "start":
        left.append("systemctl start --no-block keystone-api")
    rig.shell(HOST, "; ".join(left))
    answer = rig.source("active", new, expect=state(old, "27.0.1"), resume=True)
    assert answer["after"] == state(new, "29.0.2"), answer
    assert time.monotonic() - begun < 60, "what was starting is waited for; a stop would take the unit's whole time-out"
    assert rig.shell(HOST, "ls -A %s | grep -c new || true" % PATH) == "0"


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment(rig: Rig, old: dict[str, Any], new: dict[str, Any], moment: str) -> None:
    args = {"state": "active", "release": new, "instance": rig.instance(HOST), "expect": state(old, "27.0.1"), "deadline": 60}
    first = rig.start(HOST, "osops.lifecycle.artifact_source", args)
    rig.kill_module(HOST, MOMENTS[moment].replace("%s", "keystone-api"))
    first.said(60)
    answer = rig.source("active", new, expect=state(old, "27.0.1"), resume=True)
    assert answer["after"] == state(new, "29.0.2"), answer


def test_a_start_that_fails_says_why_without_secrets(rig: Rig, old: dict[str, Any], new: dict[str, Any], drop_in: str) -> None:
    says = "connecting to mysql+pymysql://keystone:Swordfish4711@db/keystone failed"
    setting = '[Service]\\nExecStartPre=/bin/sh -c "echo %s; exit 3"\\nRestartSec=100ms\\n' % says
    rig.shell(HOST, "printf '%s' > %s/x.conf; systemctl daemon-reload" % (setting, drop_in))
    answer = rig.source("active", new, expect=state(old, "27.0.1"), deadline=60)
    assert answer["verdict"]["code"] == "artifact.start_failed", answer
    journal = "\n".join(answer["verdict"]["evidence"]["journal"])
    assert "mysql+pymysql://***@db/keystone failed" in journal
    assert "Swordfish4711" not in str(answer)
    assert answer["after"] == {"release": new["id"], "version": None, "running": False}
    # The way back is the same act with the former release: what it finds is half way from where the first act went to.
    rig.shell(HOST, "rm %s/x.conf; systemctl daemon-reload" % drop_in)
    assert rig.source("active", old, expect=state(new, "29.0.2"), resume=True)["after"] == state(old, "27.0.1")


def test_a_unit_that_never_listens(rig: Rig, old: dict[str, Any], other: dict[str, Any]) -> None:
    write_unit(rig, "import time; time.sleep(600)")
    answer = rig.source("active", old, instance=other, deadline=4)
    assert answer["verdict"]["code"] == "artifact.start_deadline", answer
    assert "does not listen on 127.0.0.1:5999" in answer["verdict"]["reason"]


def test_a_port_that_somebody_else_holds(rig: Rig, old: dict[str, Any], other: dict[str, Any]) -> None:
    before = rig.source("active", old, check=True)
    write_unit(rig, "import time; time.sleep(600)")
    answer = rig.source("active", old, instance={**other, "listen": rig.listen(HOST)}, resume=True)
    assert answer["verdict"]["code"] == "artifact.port_held", answer
    assert str(before["process"]["pids"][0]) in answer["verdict"]["reason"]
    assert rig.source("active", old, check=True)["process"] == before["process"]


def test_a_stop_that_systemd_cuts_short_is_said(rig: Rig, old: dict[str, Any], other: dict[str, Any]) -> None:
    write_unit(rig, DEAF, "TimeoutStopSec=2")
    instance = {**other, "stop": 30}
    assert rig.source("active", old, instance=instance, deadline=20)["after"] == state(old, "27.0.1")
    rig.shell(HOST, "ln -sfn releases/nowhere /opt/other/other")
    answer = rig.source("active", old, instance=instance, deadline=20)
    assert answer["stop"]["killed"] is True, answer
    assert any("kills other.service 2 s after" in note for note in answer["notes"])
    assert any("did not stop by itself" in note for note in answer["notes"])


def test_a_stop_that_does_not_end(rig: Rig, old: dict[str, Any], other: dict[str, Any]) -> None:
    write_unit(rig, DEAF, "TimeoutStopSec=infinity")
    assert rig.source("active", old, instance=other, deadline=20)["after"] == state(old, "27.0.1")
    rig.shell(HOST, "ln -sfn releases/nowhere /opt/other/other")
    answer = rig.source("active", old, instance=other, deadline=20)
    assert answer["verdict"]["code"] == "artifact.stop_deadline", answer
    assert answer["unit"]["stop_timeout_s"] is None


@pytest.mark.parametrize(
    ("more", "code"),
    [({"unit": "nobody.service"}, "artifact.unit_unknown"), ({"component": "elsewhere"}, "artifact.foreign_layout")],
)
def test_a_layout_that_is_not_ours_is_seen_but_not_changed(
    rig: Rig, old: dict[str, Any], more: dict[str, Any], code: str
) -> None:
    for check in (True, False):
        answer = rig.source("active", old, instance=rig.instance(HOST, **more), check=check)
        assert answer["verdict"]["code"] == code
        assert answer["changed"] is False
        assert answer["before"] == state(old, "27.0.1")


def test_files_replaced_under_a_running_process_prove_nothing(rig: Rig, old: dict[str, Any]) -> None:
    """What apt or pip does in place: the metadata says what the next start will be."""
    metadata = "%s/releases/%s/lib/python3.11/site-packages/keystone-27.0.1.dist-info/METADATA" % (PATH, old["id"])
    rig.shell(HOST, "sleep 2; cp -a %s %s.new && mv %s.new %s" % (metadata, metadata, metadata, metadata))
    answer = rig.source("active", old, check=True)
    assert answer["before"]["version"] is None
    assert "was replaced after process" in answer["process"]["problem"]
    assert rig.source("active", old)["after"] == state(old, "27.0.1"), "a restart makes it true again"

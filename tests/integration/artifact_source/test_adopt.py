# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Keystone under a real systemd that somebody else has installed: adopted, changed, killed in between, and given back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.artifact_source.rig import HOST, MOMENTS, PATH, Rig

pytestmark = pytest.mark.rig
UNIT = "keystone-wsgi.service"
DROP_IN = "/etc/systemd/system/%s.d/50-osops.conf" % UNIT
VENV = "/srv/keystone/venv"
# An environment elsewhere: its programs name their interpreter by its path.
COPY = r"""
mkdir -p $(dirname %(to)s) && cp -a %(path)s/releases/%(release)s %(to)s
grep -lI '^#!' %(to)s/bin/* | xargs sed -i '1s|%(path)s/releases/%(release)s|%(to)s|'
"""
SETUP = r"""
sed 's/^http-socket = .*/http-socket = 127.0.0.1:5999/' /etc/keystone/uwsgi.ini > /srv/keystone/uwsgi.ini
chmod 0644 /srv/keystone/uwsgi.ini
cat > /etc/systemd/system/keystone-wsgi.service <<'UNIT'
[Unit]
Description=Keystone as somebody else runs it
[Service]
Type=notify
NotifyAccess=all
User=keystone
Group=keystone
KillMode=mixed
TimeoutStopSec=90
Environment=OS_KEYSTONE_CONFIG_FILES=/etc/keystone/keystone.conf "PATH=/srv/keystone/venv/bin:/usr/bin" NOTE='a b'
ExecStartPre=-/srv/keystone/venv/bin/python -c "import sys; print('%N from', sys.prefix)"
ExecStart=/srv/keystone/venv/bin/uwsgi \
    --ini /srv/keystone/uwsgi.ini \
# a comment in between
    --set-placeholder 'environment=/srv/keystone/venv'
UNIT
systemctl daemon-reload && systemctl start keystone-wsgi
"""


def state(release: dict[str, Any], version: str) -> dict[str, Any]:
    return {"release": release["id"], "version": version, "running": True}


def files(rig: Rig) -> str:
    """Everything that the driver could leave behind, but for the releases."""
    find = "find /etc/systemd /srv/keystone /opt/adopted -path '*/venv/*' -prune -o -path '*/releases/*' -prune"
    return rig.shell(HOST, find + r" -o -printf '%p %y %m %u %l\n' -type f -exec sha256sum {} +")


@pytest.fixture
def instance(rig: Rig, old: dict[str, Any], new: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The instance of the other tool. Our releases lie in a folder of their own, for a service with one instance more."""
    rig.shell(HOST, COPY % {"path": PATH, "release": old["id"], "to": VENV})
    rig.shell(HOST, COPY % {"path": PATH, "release": new["id"], "to": "/opt/adopted/releases/" + new["id"]})
    rig.shell(HOST, SETUP)
    yield {
        "component": "keystone-wsgi", "unit": UNIT, "listen": "127.0.0.1:5999", "path": "/opt/adopted", "stop": 60, "adopt": VENV,
    }  # fmt: skip
    rig.shell(
        HOST,
        "systemctl stop keystone-wsgi; rm -rf /srv/keystone /opt/adopted /etc/systemd/system/keystone-wsgi.service*; "
        "systemctl daemon-reload; systemctl reset-failed keystone-wsgi || true",
    )


@pytest.fixture
def theirs(rig: Rig, instance: dict[str, Any]) -> dict[str, Any]:
    """What the other tool has installed, as a release."""
    seen = rig.source("active", {"version": "27.0.1", "package": "keystone"}, instance=instance, check=True)
    assert (seen["changed"], seen["before"]["version"]) == (False, "27.0.1"), seen
    return {"id": seen["before"]["release"], "package": "keystone"}


def test_forward_and_back(rig: Rig, instance: dict[str, Any], theirs: dict[str, Any], new: dict[str, Any]) -> None:
    before = files(rig)
    look = rig.source("active", new, instance=instance, check=True)
    assert (look["before"], look["after"], look["changed"]) == (state(theirs, "27.0.1"), state(new, "29.0.2"), True)
    forward = rig.source("active", new, instance=instance, expect=look["before"])
    assert (forward["after"], forward["changed"]) == (state(new, "29.0.2"), True), forward
    assert forward["process"]["prefix"] == "/opt/adopted/releases/" + new["id"]
    assert forward["adopted"]["drop_in"] == DROP_IN
    shown = rig.shell(HOST, "systemctl show -p ExecStart -p ExecStartPre -p Environment " + UNIT)
    assert "path=/opt/adopted/keystone-wsgi/bin/uwsgi" in shown
    assert "ignore_errors=yes" in shown, "the dash before the first command is still there"
    assert "PATH=/opt/adopted/keystone-wsgi/bin:/usr/bin" in shown
    assert VENV not in shown
    assert rig.source("active", new, instance=instance)["changed"] is False
    answers = rig.shell(HOST, "python3 -c \"import urllib.request as r; print(r.urlopen('http://127.0.0.1:5999/v3').status)\"")
    assert answers == "200"
    back = rig.source("active", theirs, instance=instance, expect=forward["after"])
    assert (back["after"], back["changed"]) == (state(theirs, "27.0.1"), True), back
    assert files(rig) == before


@pytest.mark.parametrize("moment", ["it stops", "it loads"])
def test_killed_at_any_moment(
    rig: Rig, instance: dict[str, Any], theirs: dict[str, Any], new: dict[str, Any], moment: str
) -> None:
    before = files(rig)
    for release, other, goal in ((new, state(theirs, "27.0.1"), "29.0.2"), (theirs, state(new, "29.0.2"), "27.0.1")):
        args = {"state": "active", "release": release, "instance": instance, "expect": other, "deadline": 60}
        first = rig.start(HOST, "osops.lifecycle.artifact_source", args)
        rig.kill_module(HOST, MOMENTS[moment].replace("%s", "keystone-wsgi"))
        first.said(60)
        answer = rig.source("active", release, instance=instance, expect=other, resume=True)
        assert answer["after"] == state(release, goal), answer
    assert files(rig) == before


def test_the_run_of_their_tool_is_noticed(
    rig: Rig, instance: dict[str, Any], theirs: dict[str, Any], new: dict[str, Any]
) -> None:
    before = files(rig)
    rig.source("active", new, instance=instance)
    rig.shell(HOST, "rm -r %s; systemctl daemon-reload; systemctl restart keystone-wsgi" % DROP_IN.rpartition("/")[0])
    seen = rig.source("active", new, instance=instance, check=True)
    assert (seen["before"], seen["link"]) == (state(theirs, "27.0.1"), new["id"])
    assert any("is gone while our link names" in note for note in seen["notes"])
    assert rig.source("active", theirs, instance=instance)["after"] == state(theirs, "27.0.1")
    assert files(rig) == before


def test_a_transient_unit_is_refused(rig: Rig, old: dict[str, Any], instance: dict[str, Any]) -> None:
    rig.shell(HOST, "systemd-run --unit adopted-transient %s/bin/python -c 'import time; time.sleep(600)'" % VENV)
    try:
        refused = rig.source("active", old, instance={**instance, "unit": "adopted-transient.service"}, check=True)
    finally:
        rig.shell(HOST, "systemctl stop adopted-transient")
    assert refused["verdict"]["code"] == "artifact.foreign_layout", refused
    assert "is made by a program" in refused["msg"]

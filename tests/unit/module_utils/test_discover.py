# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What /proc and systemd say, read: units and containers by their control groups, on hosts that this machine is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils import _discover
from ansible_collections.osops.lifecycle.plugins.module_utils._command import Done
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError

SCOPE = "/machine.slice/libpod-0123.scope"


def process(cgroup: str) -> _discover.Process:
    return _discover.Process(7, 1, cgroup, frozenset(), "net:[1]")


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("/system.slice/keystone.service", "/system.slice/keystone.service"),
        ("/system.slice/system-keystone.slice/keystone@5000.service", "/system.slice/system-keystone.slice/keystone@5000.service"),
        ("/system.slice/keystone.service/libpod-payload-0123", "/system.slice/keystone.service"),
        ("/user.slice/user-0.slice/user@0.service/app.slice/mine.service", "/user.slice/user-0.slice/user@0.service/app.slice/mine.service"),
        ("/user.slice/user-0.slice/session-3.scope", ""),
        (SCOPE, ""),
        ("/init.scope", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_the_unit_of_a_control_group(cgroup: str, unit: str) -> None:
    assert process(cgroup).unit == unit


@pytest.mark.parametrize(
    ("first", "here", "says"),
    [
        ("/init.scope", "/system.slice/keystone.service", ""),
        ("/init.scope", SCOPE, "its control group is " + SCOPE),
        ("/init.scope", "/system.slice/docker-0123.scope", "its control group is /system.slice/docker-0123.scope"),
        ("/init.scope", "/kubepods.slice/cri-containerd-1.scope", "its control group is /kubepods.slice/cri-containerd-1.scope"),
        # A host that is a container itself, and whose control groups are those of the machine below it.
        (SCOPE + "/init.scope", SCOPE + "/system.slice/keystone.service", ""),
        (SCOPE, SCOPE + "/system.slice/keystone.service", ""),
        (SCOPE + "/init.scope", SCOPE + "/machine.slice/libpod-4567.scope", "its control group is /machine.slice/libpod-4567.scope"),
    ],
)  # fmt: skip
def test_a_container_by_its_control_group(monkeypatch: pytest.MonkeyPatch, first: str, here: str, says: str) -> None:
    monkeypatch.setattr(_discover, "_cgroup", lambda pid: first if pid == "1" else here)
    monkeypatch.setattr(_discover, "_readlink", lambda path: "pid:[1]")
    monkeypatch.setattr(_discover.os, "stat", lambda path: type("Root", (), {"st_dev": 1, "st_ino": 2}))
    assert _discover.container(7) == says


def answers(monkeypatch: pytest.MonkeyPatch, out: str, rc: int = 0) -> list[list[str]]:
    asked: list[list[str]] = []

    def run(argv: list[str], _timeout_s: float) -> Done:
        asked.append(argv)
        return Done(rc, out, "", 0.0)

    monkeypatch.setattr(_discover, "run", run)
    return asked


def test_what_systemd_says_of_a_unit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "venv-27").mkdir()
    (tmp_path / "current").symlink_to("venv-27")
    start = (
        "{ path=/usr/bin/env ; argv[]=/usr/bin/env %s/current/bin/uwsgi --password=Swordfish4711 ; ignore_errors=no }" % tmp_path
    )
    says = "LoadState=loaded\nUser=keystone\nFragmentPath=/etc/systemd/system/k.service\nDropInPaths=/etc/a.conf /etc/b.conf\n"
    asked = answers(monkeypatch, says + "ExecStart=%s\n" % start)
    assert _discover.unit_facts("k.service", str(tmp_path / "venv-27")) == {
        "name": "k.service", "user": "keystone", "fragment": "/etc/systemd/system/k.service", "drop_ins": ["/etc/a.conf", "/etc/b.conf"],
        "starts_from": str(tmp_path / "current"), "problem": "",
    }  # fmt: skip
    assert asked[0][-2:] == ["--", "k.service"]
    assert _discover.unit_facts("k.service", str(tmp_path / "other"))["starts_from"] == ""
    assert _discover.unit_facts("k.service", "")["starts_from"] == ""


@pytest.mark.parametrize(
    ("says", "rc", "problem"),
    [
        (
            "LoadState=not-found\nUser=\nFragmentPath=\nDropInPaths=\n",
            0,
            "systemd calls it not-found, so it is perhaps a user's own unit",
        ),
        ("", 1, "systemd cannot be asked about it"),
        ("hello\n", 0, "systemd cannot be asked about it"),
    ],
)
def test_what_systemd_does_not_say(monkeypatch: pytest.MonkeyPatch, says: str, rc: int, problem: str) -> None:
    answers(monkeypatch, says, rc)
    assert _discover.unit_facts("k.service", "/x")["problem"] == problem


def test_a_host_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_args: object) -> Done:
        raise LifecycleError("systemctl cannot be started: No such file or directory.", "command.start")

    monkeypatch.setattr(_discover, "run", run)
    assert _discover.unit_facts("k.service", "/x")["problem"] == "systemctl cannot be started: No such file or directory."


def test_a_unit_that_listens_twice_is_one_instance() -> None:
    one = _discover.Group({"0.0.0.0:5000"}, {1, 2}, "/system.slice/keystone.service", {1: "a"})
    two = _discover.Group({"0.0.0.0:35357"}, {3}, "/system.slice/keystone.service", {3: "a"})
    elsewhere = _discover.Group({"0.0.0.0:5000"}, {4}, "/machine.slice/x.service/system.slice/keystone.service", {4: "a"})
    session = [_discover.Group({"0.0.0.0:%d" % number}, {number}, "", {number: "a"}) for number in (5, 6)]
    merged = _discover._merged([one, two, elsewhere, *session])
    assert [(sorted(group.listen), sorted(group.pids), group.loaded, group.name) for group in merged] == [
        (["0.0.0.0:35357", "0.0.0.0:5000"], [1, 2, 3], {1: "a", 3: "a"}, "keystone.service"),
        (["0.0.0.0:5000"], [4], {4: "a"}, "keystone.service"),
        (["0.0.0.0:5"], [5], {5: "a"}, ""),
        (["0.0.0.0:6"], [6], {6: "a"}, ""),
    ]

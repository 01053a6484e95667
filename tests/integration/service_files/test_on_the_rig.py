# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users and units on a real host with systemd: made, enabled, stopped, and gone without a trace."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.artifact_source.rig import Rig
from tests.integration.service_files.desk import PASSWORD, example

pytestmark = pytest.mark.rig
# Not that of the tests of artifact_source, which run at the same time.
HOST = "ctl2"
USER, UNIT = "osops-trial", "osops-trial.service"
SCOPE = {"scope": "trial"}
WHO = {"owner": "trial/trial/trial", "name": "trial", **SCOPE}


@pytest.fixture(scope="session")
def rig(repository: Path) -> Rig:
    """The running rig, or a skip that says what is missing."""
    inventory = os.environ.get("OSOPS_RIG_INVENTORY")
    if not inventory:
        pytest.skip("OSOPS_RIG_INVENTORY does not name the inventory of a running rig")
    return Rig(Path(inventory).resolve(), repository)


def trial(user: str = USER, seconds: int = 600, kill: str = "control-group") -> dict[str, Any]:
    """The example of the documentation under names of its own, with a unit that does nothing for a while."""
    text = json.dumps({key: value for key, value in example().items() if key not in ("owner", "name")})
    text = text.replace("/etc/keystone", "/etc/osops-trial").replace("/var/lib/keystone", "/var/lib/osops-trial")
    args = json.loads(text.replace("keystone-api.service", UNIT))
    args["user"]["name"] = user
    for row in [*args["folders"], *args["files"]]:
        row.update({key: user for key in ("owner", "group") if row.get(key) == "keystone"})
    args["files"][-1]["content"] = (
        "[Service]\nUser=%s\nExecStart=/bin/sleep %d\nKillMode=%s\n[Install]\nWantedBy=multi-user.target\n"
        % (user, seconds, kill)
    )
    return {**WHO, **args}


def call(rig: Rig, args: dict[str, Any], check: bool = False) -> dict[str, Any]:
    answer = rig.module(HOST, "osops.lifecycle.service_files", args, check)
    assert PASSWORD not in json.dumps(answer)
    return answer


def picture(rig: Rig) -> str:
    """Everything of the host that could have changed, with hashes, modes and owners, but without the books."""
    return rig.shell(
        HOST,
        "getent passwd; getent group; find /etc/osops-trial* /etc/systemd/system -printf '%p %m %u %g %l\\n' 2>/dev/null | sort;"
        "find /etc/osops-trial* /etc/systemd/system -type f -exec sha256sum {} + 2>/dev/null | sort;"
        "systemctl list-unit-files --no-legend --no-pager; systemctl list-units --failed --no-legend --no-pager",
    )


@pytest.fixture
def before(rig: Rig) -> Iterator[str]:
    """The host as it was, and is again afterwards, whatever a test did."""
    clean = (
        "systemctl disable --now %s 2>/dev/null; rm -rf /etc/osops-trial /etc/systemd/system/%s /var/lib/osops/owned/trial;"
        "systemctl daemon-reload; systemctl reset-failed; pkill -u %s; sleep .2; userdel %s 2>/dev/null; userdel osops-other 2>/dev/null; true"
    ) % (UNIT, UNIT, USER, USER)
    rig.shell(HOST, clean)
    yield picture(rig)
    rig.shell(HOST, clean)


def test_from_nothing_to_nothing_on_a_real_host(rig: Rig, before: str) -> None:
    looked = call(rig, trial(), check=True)
    assert (looked["before"]["user"], looked["before"]["unit"], looked["after"]["unit"]) == (False, "missing", "enabled")
    assert picture(rig) == before
    made = call(rig, trial())
    assert (made["verdict"]["outcome"], made["after"]) == ("pass", looked["after"]), made
    assert rig.shell(HOST, "systemctl is-enabled %s; systemctl is-active %s || true" % (UNIT, UNIT)) == "enabled\ninactive"
    account = rig.shell(HOST, "getent passwd %s" % USER).split(":")
    assert (int(account[2]) < 1000, account[5], os.path.basename(account[6])) == (True, "/var/lib/osops-trial", "nologin")
    assert rig.shell(HOST, "stat -c '%U %G %a' /etc/osops-trial/fernet-keys/0") == "%s %s 600" % (USER, USER)
    assert call(rig, trial())["changed"] is False
    gone = call(rig, {**WHO, "state": "absent", "expect": made["after"]})
    assert (gone["verdict"]["outcome"], gone["left_over"], gone["after"]["user"]) == ("pass", [], False), gone
    assert picture(rig) == before


def test_a_running_unit_is_stopped_first_and_proven_gone(rig: Rig, before: str) -> None:
    call(rig, trial())
    rig.shell(HOST, "systemctl start %s" % UNIT)
    looked = call(rig, {**WHO, "state": "absent"}, check=True)
    assert looked["after"]["user"] is False
    assert rig.shell(HOST, "systemctl is-active %s" % UNIT) == "active", "a look stops nothing"
    gone = call(rig, {**WHO, "state": "absent"})
    assert (gone["after"], gone["left_over"]) == (looked["after"], [])
    assert picture(rig) == before
    back = call(rig, gone["undo"])
    assert (back["after"]["unit"], back["after"]["revision"]) == ("enabled", gone["before"]["revision"])
    assert rig.shell(HOST, "systemctl is-active %s || true" % UNIT) == "inactive", "it is never started here"


def test_a_unit_that_leaves_processes_behind_keeps_everything(rig: Rig, before: str) -> None:
    args = trial(kill="none")
    call(rig, args)
    rig.shell(HOST, "systemctl start %s" % UNIT)
    there = picture(rig)
    answer = call(rig, {**WHO, "state": "absent", "deadline": 10})
    assert (answer["verdict"]["outcome"], answer["verdict"]["code"]) == ("fail", "files.unit_stop"), answer
    assert picture(rig) == there
    assert call(rig, {**WHO, "state": "absent", "deadline": 10})["verdict"]["code"] == "files.unit_stop"
    rig.shell(HOST, "pkill -u %s; sleep .5" % USER)
    gone = call(rig, {**WHO, "state": "absent"})
    assert (gone["verdict"]["outcome"], gone["left_over"]) == ("pass", [])
    assert picture(rig) == before


def test_a_user_that_is_in_use_stays_until_it_is_not(rig: Rig, before: str) -> None:
    call(rig, trial())
    rig.shell(HOST, "systemd-run --unit=osops-other --uid=%s sleep 300" % USER)
    try:
        gone = call(rig, {**WHO, "state": "absent"})
    finally:
        rig.shell(HOST, "systemctl stop osops-other.service")
    assert (gone["after"]["user"], gone["changed"]) == (True, True)
    assert [left.split(":")[0] for left in gone["left_over"]] == ["user %s" % USER]
    assert call(rig, {**WHO, "state": "absent"})["left_over"] == []
    assert picture(rig) == before


def test_a_user_that_was_there_stays(rig: Rig, before: str) -> None:
    rig.shell(HOST, "useradd --system --user-group %s" % USER)
    there = picture(rig)
    made = call(rig, trial())
    assert made["before"]["user"] is True
    assert call(rig, {**WHO, "state": "absent"})["after"]["user"] is True
    assert picture(rig) == there


def test_a_group_that_was_there_stays(rig: Rig, before: str) -> None:
    rig.shell(HOST, "groupadd --system --gid 790 %s" % USER)
    try:
        there = picture(rig)
        made = call(rig, trial())
        assert (made["before"]["user"], made["after"]["user"]) == (False, True)
        assert rig.shell(HOST, "id -gn %s; id -g %s" % (USER, USER)).split() == [USER, "790"]
        assert call(rig, {**WHO, "state": "absent"})["after"]["user"] is False
        assert picture(rig) == there
    finally:
        rig.shell(HOST, "getent group %s && groupdel %s || true" % (USER, USER))


def test_a_user_that_two_services_need_goes_with_the_last(rig: Rig, before: str) -> None:
    second = {**WHO, "name": "second", "user": trial()["user"]}
    call(rig, trial())
    call(rig, second)
    gone = call(rig, {**WHO, "state": "absent"})
    assert (gone["after"]["user"], gone["left_over"]) == (True, ["user %s: trial/second needs it too." % USER])
    assert call(rig, {**second, "state": "absent"})["after"]["user"] is False
    assert picture(rig) == before


def test_a_changed_unit_is_read_again_by_systemd_and_goes_back(rig: Rig, before: str) -> None:
    call(rig, trial())
    changed = call(rig, trial(seconds=900))
    shown = "systemctl show --property=ExecStart,NeedDaemonReload --value %s" % UNIT
    assert "sleep 900" in rig.shell(HOST, shown)
    assert "no" in rig.shell(HOST, shown).splitlines(), "systemd has read it again"
    call(rig, changed["undo"])
    assert "sleep 600" in rig.shell(HOST, shown)
    rig.shell(HOST, "systemctl disable %s" % UNIT)
    drifted = call(rig, trial(), check=True)
    assert (drifted["changed"], drifted["before"]["unit"], drifted["after"]["unit"]) == (True, "disabled", "enabled")
    assert call(rig, trial(), check=False)["after"]["unit"] == "enabled"


@pytest.mark.parametrize("state", ["present", "absent"])
def test_killed_on_a_real_host_and_called_again(rig: Rig, before: str, state: str) -> None:
    if state == "absent":
        call(rig, trial())
        rig.shell(HOST, "systemctl start %s" % UNIT)
    args = trial() if state == "present" else {**WHO, "state": "absent"}
    look = call(rig, args, check=True)
    goal = look["after"]
    for pause in (0.0, 0.05, 0.1, 0.2, 0.3, 0.5):
        process = rig.start(HOST, "osops.lifecycle.service_files", {**args, "expect": look["before"], "resume": True})
        rig.shell(
            HOST,
            "for i in $(seq 300); do pid=$(find /proc/[0-9]*/fd -lname /var/lib/osops/fence/trial 2>/dev/null | cut -d/ -f3 | sort -n | head -1);"
            'test -n "$pid" && break; sleep .02; done; sleep %s; kill -9 $pid 2>/dev/null || true' % pause,
        )
        process.said(60)
        time.sleep(0.5)  # useradd or systemctl, which it had started, may still be at work
    done = call(rig, {**args, "expect": look["before"], "resume": True})
    assert done["verdict"]["outcome"] == "pass", done
    assert (call(rig, args)["changed"], done["left_over"]) == (False, [])
    if state == "absent":
        assert picture(rig) == before
    else:
        assert call(rig, args, check=True)["before"] == goal
        call(rig, {**WHO, "state": "absent"})
        assert picture(rig) == before

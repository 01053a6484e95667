# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract of artifact drivers (docs/drivers.md), the same tests for every one of them, ours or another collection's."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

import pytest

from tests.contract.benches import Bench

pytestmark = pytest.mark.rig
# When a driver is killed: what is seen on the host then.
MOMENTS = {
    "it has begun": "true",
    "it has stopped": "! systemctl -q is-active %s",
    "it starts": "test -e /run/contract.down && systemctl show -P ActiveState %s | grep -qx -e activating -e active",
}
# Whoever holds the fence acts; an action may have another module at work meanwhile. A moment is what is seen on the host, not a time.
HOLDERS = "find /proc/[0-9]*/fd -lname /var/lib/osops/fence/contract 2> /dev/null | cut -d / -f 3"
KILL = """
rm -f /run/contract.down
for i in $(seq 1500); do
  who="$(%(holders)s) $(grep -l APT_CONFIG=/run/osops-packages /proc/[0-9]*/environ 2> /dev/null | cut -d / -f 3)"
  systemctl -q is-active %(unit)s || touch /run/contract.down
  if [ "$who" != " " ] && { %(moment)s; } > /dev/null 2>&1; then kill -9 $who 2> /dev/null && echo killed; break; fi
  sleep .01
done
rm -f /run/contract.down
"""


def state(bench: Bench, which: int, running: bool = True) -> dict[str, Any]:
    """What `before` and `after` say of an instance, but for the release's own name."""
    return {"version": bench.versions[which], "running": running}


def without_release(answer: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in answer[key].items() if name != "release"}


def whole(answer: dict[str, Any]) -> dict[str, Any]:
    """Every answer has the same shape, also that of a failure."""
    assert set(answer["verdict"]) == {"outcome", "code", "reason", "hint", "evidence"}, answer
    assert isinstance(answer["changed"], bool)
    assert isinstance(answer["before"], dict)
    assert isinstance(answer["after"], dict)
    assert answer["verdict"]["outcome"] in ("pass", "fail", "inconclusive", "error")
    if answer["verdict"]["outcome"] != "pass":
        assert answer["msg"].strip().endswith((".", ")", "?")), answer["msg"]
        assert "Traceback" not in answer["msg"]
    return answer


def test_a_look_changes_nothing(bench: Bench) -> None:
    everything = bench.seen()
    look = whole(bench.call("active", bench.new, check=True))
    assert without_release(look, "before") == state(bench, 0)
    assert without_release(look, "after") == state(bench, 1)
    assert look["changed"] is True
    assert whole(bench.call("present", bench.new, check=True))["after"] == {"present": True}
    assert bench.seen() == everything


def test_to_fetch_touches_nothing_that_runs(bench: Bench) -> None:
    everything = bench.seen()
    whole(bench.call("absent", bench.new))
    predicted = whole(bench.call("present", bench.new, check=True))
    fetched = whole(bench.call("present", bench.new))
    assert fetched["changed"] is predicted["changed"] is True
    assert fetched["after"] == predicted["after"] == {"present": True}
    assert any(bench.versions[1] in name for name in fetched["releases"])
    assert bench.seen() == everything
    again = whole(bench.call("present", bench.new))
    assert (again["changed"], again["after"]) == (False, {"present": True})


def test_forward_and_back_byte_for_byte(bench: Bench) -> None:
    whole(bench.call("present", bench.new))
    everything = bench.without_process()
    predicted = whole(bench.call("active", bench.new, check=True))
    moved = whole(bench.call("active", bench.new, expect=predicted["before"]))
    assert (moved["before"], moved["after"], moved["changed"]) == (predicted["before"], predicted["after"], True)
    again = whole(bench.call("active", bench.new, expect=predicted["before"]))
    assert (again["changed"], again["before"], again["after"]) == (False, moved["after"], moved["after"])
    # As a plan takes it back: by the name that the look gave it.
    former = {"id": moved["before"]["release"], **({"package": bench.old["package"]} if "package" in bench.old else {})}
    back = whole(bench.call("active", former, expect=moved["after"]))
    assert (back["after"], back["changed"]) == (moved["before"], True)
    assert bench.without_process() == everything


def test_halted_and_started_again(bench: Bench) -> None:
    anyone = {"package": bench.old["package"]} if "package" in bench.old else {}
    predicted = whole(bench.call("halted", anyone, check=True))
    halted = whole(bench.call("halted", anyone))
    assert halted["after"] == predicted["after"]
    assert halted["after"]["running"] is False
    assert whole(bench.call("halted", anyone))["changed"] is False
    assert without_release(whole(bench.call("active", bench.old)), "after") == state(bench, 0)


def test_a_change_of_somebody_else_is_refused(bench: Bench) -> None:
    whole(bench.call("present", bench.new))
    everything = bench.seen()
    for check in (True, False):
        refused = whole(bench.call("active", bench.new, check=check, expect={"version": "0.0.0", "running": True}))
        assert (refused["verdict"]["code"], refused["changed"]) == ("expect.foreign", False)
    assert bench.seen() == everything


def test_a_run_that_was_taken_over_is_refused(bench: Bench) -> None:
    whole(bench.call("present", bench.new, token=8, scope="contract"))
    everything = bench.seen()
    refused = whole(bench.call("active", bench.new, token=7, scope="contract"))
    assert (refused["verdict"]["code"], refused["changed"]) == ("fence.stale_token", False)
    assert bench.seen() == everything


def test_a_release_that_is_nowhere_is_one_sentence(bench: Bench) -> None:
    everything = bench.seen()
    for name in ("present", "active"):
        refused = whole(bench.call(name, bench.nowhere))
        assert (refused["verdict"]["outcome"] in ("fail", "error"), refused["changed"]) == (True, False)
    assert bench.seen() == everything


@pytest.mark.parametrize("moment", list(MOMENTS))
def test_killed_and_called_again(bench: Bench, moment: str) -> None:
    whole(bench.call("present", bench.new))
    before = whole(bench.call("active", bench.new, check=True))["before"]
    call = bench.rig.start(bench.host, bench.module, bench.args("active", bench.new, expect=before, scope="contract"))
    seen = MOMENTS[moment]
    script = KILL % {"holders": HOLDERS, "unit": bench.unit, "moment": seen % bench.unit if "%s" in seen else seen}
    assert bench.rig.shell(bench.host, script).endswith("killed")
    # The control node dies with it.
    assert call.process.pid
    with contextlib.suppress(ProcessLookupError):
        os.killpg(call.process.pid, signal.SIGKILL)
    call.said(60)
    again = whole(bench.call("active", bench.new, expect=before, resume=True, scope="contract"))
    assert without_release(again, "after") == state(bench, 1)
    assert whole(bench.call("active", bench.new))["changed"] is False

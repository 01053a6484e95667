# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""api_probe against a real Keystone, before and after its release is switched."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.integration.artifact_source.rig import HOST, Rig

pytestmark = pytest.mark.rig
BASELINE = "/run/osops/probe/default/keystone-api-5000.json"


def test_a_token_survives_the_change_and_the_way_back(rig: Rig, old: dict[str, Any], new: dict[str, Any]) -> None:
    before = rig.probe("baseline")
    assert (before["verdict"]["outcome"], before["saved"]) == ("pass", ["token"]), before
    token = rig.shell(HOST, "stat -c '%%a %%U' %s; cat %s" % (BASELINE, BASELINE))
    assert token.startswith("600 root")
    assert token.split('"')[3] not in str(before), "the token stays on the host"
    peers = {**rig.recipe["probe"]["vars"], "peers": ["http://%s" % rig.listen(host) for host in (HOST, "ctl2")]}
    for release, version in ((new, "29.0.2"), (old, "27.0.1")):
        rig.source("active", release)
        answer = rig.probe("verify", package="keystone", version=version, vars=peers)
        assert answer["verdict"]["outcome"] == "pass", answer
        assert answer["process"]["version"] == version
        assert [row["name"] for row in answer["requests"]] == [row["name"] for row in rig.recipe["probe"]["verify"]]
        assert answer["left_out"] == []
        assert token.split('"')[3] not in str(answer)


def test_foreign_keys_are_found_behind_a_healthy_version_page(rig: Rig) -> None:
    """The instance answers GET /v3 with 200 and the right version, and issues tokens: only the old token tells."""
    assert rig.probe("baseline")["verdict"]["outcome"] == "pass"
    rig.shell(
        HOST,
        "cp -a /etc/keystone/fernet-keys /etc/keystone/fernet-away; "
        "for key in 0 1; do python3 -c 'import base64,os; print(base64.urlsafe_b64encode(os.urandom(32)).decode(), end=\"\")' "
        "> /etc/keystone/fernet-keys/$key; done; systemctl restart keystone-api",
    )
    try:
        answer = rig.probe("verify")
    finally:
        rig.shell(
            HOST,
            "rm -r /etc/keystone/fernet-keys; mv /etc/keystone/fernet-away /etc/keystone/fernet-keys; systemctl restart keystone-api",
        )
    assert answer["verdict"]["code"] == "probe.validate_before", answer
    assert {row["name"]: row["outcome"] for row in answer["requests"]} == {
        "version": "pass",
        "issue": "pass",
        "validate": "pass",
        "validate_before": "fail",
    }
    assert rig.vars["keystone_admin_password"] not in str(answer)
    assert rig.probe("verify")["verdict"]["outcome"] == "pass"


def test_a_baseline_that_is_gone(rig: Rig) -> None:
    """After a reboot: the token of another instance proves the keys, and the answer names what was left out."""
    rig.shell(HOST, "rm -f %s" % BASELINE)
    peers = {**rig.recipe["probe"]["vars"], "peers": ["http://%s" % rig.listen(host) for host in (HOST, "ctl2")]}
    answer = rig.probe("verify", vars=peers)
    assert answer["verdict"]["code"] == "probe.passed", answer
    assert answer["left_out"] == ["validate_before"]
    assert "left out: validate_before" in answer["verdict"]["reason"], answer
    assert {row["name"]: row["outcome"] for row in answer["requests"]}["validate_peer"] == "pass"
    asks = [{key: value for key, value in row.items() if key != "needs"} for row in rig.recipe["probe"]["verify"]]
    answer = rig.probe("verify", vars=peers, requests=asks)
    assert answer["verdict"]["code"] == "probe.no_baseline", answer


def test_a_wrong_password_is_not_shown(rig: Rig) -> None:
    answer = rig.probe("baseline", secrets={"admin_password": "Swordfish4711"})
    assert answer["verdict"]["code"] == "probe.issue_before"
    assert answer["verdict"]["evidence"]["status"] == 401
    assert "Swordfish4711" not in str(answer)


def test_an_instance_that_does_not_answer(rig: Rig) -> None:
    rig.shell(HOST, "systemctl stop keystone-api")
    begun = time.monotonic()
    answer = rig.probe("verify", deadline=3)
    assert answer["verdict"]["code"] == "probe.not_ready", answer
    assert "refused the connection" in answer["verdict"]["reason"]
    assert 3 <= time.monotonic() - begun < 15


def test_an_instance_that_is_still_starting_is_waited_for(rig: Rig) -> None:
    assert rig.probe("baseline")["verdict"]["outcome"] == "pass"
    # Without an accuracy of its own a timer comes up to a minute later.
    timer = "systemd-run --quiet --on-active=4 --timer-property=AccuracySec=100ms"
    rig.shell(HOST, "systemctl stop keystone-api; %s systemctl start keystone-api" % timer)
    answer = rig.probe("verify")
    assert answer["verdict"]["outcome"] == "pass", answer


def test_another_version_than_the_one_that_should_run(rig: Rig) -> None:
    answer = rig.probe("verify", package="keystone", version="29.0.2")
    assert answer["verdict"]["code"] == "probe.version", answer
    assert "27.0.1" in answer["verdict"]["reason"]

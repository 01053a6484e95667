# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""haproxy_config on a balancer as Debian has it: stock unit, ssh, systemctl reload."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.artifact_source.rig import Rig

pytestmark = pytest.mark.rig


@pytest.fixture
def rig(repository: Path) -> Rig:
    if not os.environ.get("OSOPS_RIG_INVENTORY"):
        pytest.skip("OSOPS_RIG_INVENTORY does not name the inventory of a running rig (tests/rig)")
    return Rig(Path(os.environ["OSOPS_RIG_INVENTORY"]).resolve(), repository)


def test_with_debians_unit(rig: Rig) -> None:
    """On a balancer of the rig, whose HAProxy reads conf.d: through ssh, become and systemctl reload."""
    name = "osops.lifecycle.haproxy_config"
    given = {
        "service": "echo", "owner": "rig/echo", "frontends": [{"name": "echo", "bind": ["127.0.0.1:18999"]}],
        "backend": {"name": "echo"}, "servers": [{"name": "self", "address": "127.0.0.1:22"}], "min_up": 1,
    }  # fmt: skip
    try:
        predicted = rig.module("lb1", name, given, check=True)
        made = rig.module("lb1", name, given)
        again = rig.module("lb1", name, given)
    finally:
        gone = rig.module("lb1", name, {"service": "echo", "owner": "rig/echo", "state": "absent"})
    assert predicted["verdict"]["outcome"] == "pass", predicted
    assert (made["changed"], made["reloads"], made["after"]["loaded"]) == (True, 1, True), made
    assert (again["changed"], again["reloads"]) == (False, 0)
    assert (gone["changed"], gone["after"]["file"], gone["after"]["loaded"]) == (True, "missing", False), gone
    assert rig.shell("lb1", "ls -A /etc/haproxy/conf.d | grep -c echo || true") == "0"

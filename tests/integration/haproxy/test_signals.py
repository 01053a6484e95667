# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as a process of its own, as Ansible starts it under a terminal, and what ends such a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.integration.haproxy.lab import Lab, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the fence lies below /var/lib/osops, which needs root")


def start(lab: Lab, scope: str, collection: Path, **given: object) -> subprocess.Popen[bytes]:
    arguments = {"socket": lab.admin, "scope": scope, "servers": [lab.web["s1"].address], "deadline": 30, **given}
    # As ansible-core calls a module: its arguments on the standard input. Whoever started these tests may ignore signals (nohup does),
    # and what is ignored stays ignored.
    heard = ["env", "--default-signal=HUP,INT,TERM"]
    process = subprocess.Popen(
        [*heard, sys.executable, "-m", "ansible_collections.osops.lifecycle.plugins.modules.haproxy_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(collection)},
    )
    assert process.stdin
    process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
    process.stdin.close()
    process.stdin = None
    return process


@pytest.mark.parametrize("ending", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_drain_that_is_ended_puts_back_what_it_drained(lab: Lab, collections: Path, ending: signal.Signals) -> None:
    lab.raw("set server be/s1 weight 5")
    tunnel = lab.websocket_on("s1")
    scope = "test-%s" % uuid.uuid4()
    process = start(lab, scope, collections, state="drain")
    try:
        until(lambda: lab.mask("be/s1") == 8 or process.poll() is not None, what="it is drained")
        assert process.poll() is None, process.communicate()
        time.sleep(0.3)  # into the wait for the session
        process.send_signal(ending)
        process.send_signal(ending)  # the second one must not cut what the first one begins
        said = process.communicate(timeout=10)[0]
    finally:
        process.kill()
        (Path("/var/lib/osops/fence") / scope).unlink(missing_ok=True)
    assert process.returncode == 143, said
    assert (lab.mask("be/s1"), lab.weight("be/s1")) == (0, 5)
    assert tunnel.echoes()


def test_a_ready_that_is_ended_puts_maintenance_back(lab: Lab, collections: Path) -> None:
    lab.raw("set server be/s1 state maint")
    lab.web["s1"].die()
    scope = "test-%s" % uuid.uuid4()
    process = start(lab, scope, collections, state="ready")
    try:
        until(lambda: lab.mask("be/s1") == 8 or process.poll() is not None, what="it is being checked")
        process.send_signal(signal.SIGHUP)
        said = process.communicate(timeout=10)[0]
    finally:
        process.kill()
        (Path("/var/lib/osops/fence") / scope).unlink(missing_ok=True)
    assert process.returncode == 143, said
    assert lab.mask("be/s1") == 1

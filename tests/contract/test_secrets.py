# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract of artifact drivers, for those that are given a secret: it is seen nowhere."""

from __future__ import annotations

import json

import pytest

from tests.contract.benches import BENCHES, Bench
from tests.contract.test_artifact_drivers import whole

pytestmark = pytest.mark.rig


@pytest.mark.parametrize("bench", [name for name, made in BENCHES.items() if made.secret], indirect=True)
def test_a_secret_is_seen_nowhere(bench: Bench) -> None:
    whole(bench.call("absent", bench.new))
    call = bench.rig.start(bench.host, bench.module, bench.args("present", bench.new))
    argv = bench.rig.shell(
        bench.host,
        "for i in $(seq 300); do cat /proc/[0-9]*/cmdline 2> /dev/null | tr '\\0' ' '; "
        "pgrep -f osops-job > /dev/null || [ $i -lt 40 ] || break; sleep .05; done; echo",
    )
    said = call.said(300)
    answer = whole(bench.call("present", bench.new))
    assert "osops-job" in argv, "nothing was seen of the act at all"
    assert bench.secret not in argv + said + json.dumps({name: value for name, value in answer.items() if name != "invocation"})
    journal = bench.rig.shell(
        bench.host,
        "journalctl --no-pager --since -10min | grep -c %s || true; grep -rl %s /var/lib/osops /var/log 2> /dev/null || true"
        % (bench.secret, bench.secret),
    )
    assert journal == "0"

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The start of an instance, awaited until what listens is proven to be what was meant; whoever installed it."""

from __future__ import annotations

import os
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _process, _systemd
from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

# systemd starts a crashing unit again and again; this many restarts of one start are a crash loop, not a slow start.
CRASH_LOOP = 2


def start(
    name: str,
    listen: str,
    prove: t.Callable[[], _process.Running],
    right: t.Callable[[_process.Running], bool],
    what: str,
    earliest: float,
    deadline: Deadline,
) -> _process.Running:
    """Start the unit ``name`` and wait until processes that are ``right`` listen, all started after ``earliest`` (boot clock).

    ``prove`` finds out what listens, ``what`` names it in sentences. Raises LifecycleError (``artifact.*``) with the journal.
    """
    since = time.time()
    _systemd.forget_failure(name)
    _systemd.order("start", name)
    # The kernel tells starts in ticks, cut off.
    earliest -= 1.0 / os.sysconf("SC_CLK_TCK")

    def seen() -> tuple[_systemd.Unit, _process.Running]:
        unit = _systemd.show(name)
        # Finding out who listens reads the files of every process: not before systemd calls the unit started.
        return unit, prove() if unit.active == "active" else _process.Running()

    def up(pair: tuple[_systemd.Unit, _process.Running]) -> bool:
        unit, running = pair
        return unit.active == "active" and running.version is not None and right(running) and running.started >= earliest

    def down(pair: tuple[_systemd.Unit, _process.Running]) -> str:
        unit, running = pair
        if unit.active == "failed":
            return "%s failed (%s)" % (name, unit.result)
        if unit.restarts >= CRASH_LOOP:
            return "%s ends right after its start, again and again (%d restarts)" % (name, unit.restarts)
        if running.version is not None and not up(pair):
            return "%s runs %s %s from %s" % (name, what, running.version, running.prefix)
        return ""

    waited = wait(seen, up, deadline.remaining(), down, poll_s=0.2)
    if waited.reached:
        return waited.last[1]
    unit, running = waited.last
    evidence = {"journal": _systemd.journal(name, since), "unit": unit.facts(), "process": running.facts()}
    if waited.failed:
        code = "artifact.wrong_version" if running.version is not None else "artifact.start_failed"
        raise LifecycleError(
            "The start did not succeed: %s." % waited.reason, code, "The last lines of its journal are in the evidence.", evidence
        )
    so_far = "is still %s" % unit.active if unit.active != "active" else running.problem or "does not listen on %s" % listen
    raise LifecycleError(
        "%s was started %.0f s ago, but it %s." % (name, waited.elapsed_s, so_far),
        "artifact.start_deadline",
        "The last lines of its journal are in the evidence.",
        evidence,
    )

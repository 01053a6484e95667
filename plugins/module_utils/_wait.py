# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The one wait: a goal, a failure predicate, a deadline on the monotonic clock, and a reason at the end."""

from __future__ import annotations

import dataclasses
import time
import typing as t

T = t.TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Waited(t.Generic[T]):
    """How a wait ended. ``reason`` is empty when the goal was reached; seconds are monotonic."""

    reached: bool
    failed: bool
    reason: str
    elapsed_s: float
    polls: int
    last: T


def wait(
    look: t.Callable[[], T],
    goal: t.Callable[[T], bool],
    deadline_s: float,
    failure: t.Callable[[T], str] | None = None,
    describe: t.Callable[[T], str] = repr,
    poll_s: float = 0.1,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> Waited[T]:
    """Look until ``goal`` holds, ``failure`` names a reason, or ``deadline_s`` seconds have passed.

    It always looks at least once, and once more at the deadline, so that a slow look cannot miss the goal.
    """
    start = clock()
    polls = 0
    while True:
        seen = look()
        polls += 1
        elapsed = clock() - start
        if goal(seen):
            return Waited(True, False, "", elapsed, polls, seen)
        why = failure(seen) if failure is not None else ""
        if why:
            return Waited(False, True, why, elapsed, polls, seen)
        if elapsed >= deadline_s:
            return Waited(False, False, "not reached in %.1f s: %s" % (deadline_s, describe(seen)), elapsed, polls, seen)
        sleep(min(poll_s, max(deadline_s - elapsed, 0.0)))

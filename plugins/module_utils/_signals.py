# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""A lost connection, ^C or a task's time-out must not leave a half-done act: the process undoes it, and then ends."""

from __future__ import annotations

import contextlib
import signal
import types
import typing as t

# What Ansible's terminal sends when it goes away (HUP), and what a person or a supervisor sends.
ENDING = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
_EXIT = 128 + signal.SIGTERM


def _end(number: int, frame: types.FrameType | None) -> t.NoReturn:
    for ending in ENDING:  # Once is enough: what is being undone is not to be cut by a second one.
        signal.signal(ending, signal.SIG_IGN)
    raise SystemExit(_EXIT)


def end_in_order() -> None:
    """From now on these signals raise SystemExit in the main thread, so that handlers run. One that is ignored stays so."""
    for ending in ENDING:
        if signal.getsignal(ending) is not signal.SIG_IGN:
            signal.signal(ending, _end)


@contextlib.contextmanager
def held_back() -> t.Iterator[None]:
    """Let these signals wait until the block is done."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)

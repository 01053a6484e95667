# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Run a program that is not ours: bounded in time and in what is kept of its output, and nothing of its process group outlives it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import selectors
import signal
import subprocess
import time
import typing as t

KEPT = 65536
_POLL_S = 0.05
# How long what was killed may take to be gone; a process that waits for a dead disk does not go, and nobody waits for it.
_GONE_S = 5.0


@dataclasses.dataclass
class Tail:
    """The last bytes of an output; ``cut`` when there was more before them."""

    data: bytes = b""
    cut: bool = False

    def add(self, piece: bytes) -> None:
        self.data += piece
        if len(self.data) > KEPT:
            self.data, self.cut = self.data[-KEPT:], True


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a program ended: negative ``rc`` is the signal that ended it, ``late`` when that was ours at the deadline."""

    rc: int
    late: bool
    seconds: float
    out: Tail
    err: Tail


def run(argv: t.Sequence[str], timeout_s: float, become: t.Mapping[str, t.Any], env: t.Mapping[str, str]) -> Ended:
    """Run ``argv`` with exactly ``env`` and no input, in a session of its own, as ``become`` says (see ``_command.identity``).

    Its process group is killed at the deadline, when it has ended, and when we are ended ourselves. Raises OSError when it cannot begin.
    """
    begun = time.monotonic()
    # run_command of AnsibleModule has no time limit.
    process = subprocess.Popen(  # pylint: disable=ansible-bad-function
        list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", env=dict(env),
        start_new_session=True, **become,
    )  # fmt: skip
    out, err = Tail(), Tail()
    try:
        late = _follow(process, begun + timeout_s, out, err)
    finally:
        # Not reaped yet, so the number of the group is still its own.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GONE_S)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    return Ended(-signal.SIGKILL if process.returncode is None else process.returncode, late, time.monotonic() - begun, out, err)


def _follow(process: subprocess.Popen[bytes], end: float, out: Tail, err: Tail) -> bool:
    """Read what it writes until it ends; True when it had to be killed first. What others write into its pipes keeps nobody waiting."""
    late = False
    pipes = [(stream, kept) for stream, kept in ((process.stdout, out), (process.stderr, err)) if stream is not None]
    with selectors.DefaultSelector() as selector:
        for stream, kept in pipes:
            os.set_blocking(stream.fileno(), False)
            selector.register(stream.fileno(), selectors.EVENT_READ, kept)
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            left = end - time.monotonic()
            if left <= 0 and not late:
                late = True
                os.killpg(process.pid, signal.SIGKILL)
            if left < -_GONE_S:
                break
            _read(selector, _POLL_S if late else min(left, _POLL_S))
        # It has ended; the pipes hold at most what fits into them, and only what they hold now is of interest.
        for _each in range(64):
            if not _read(selector, 0):
                break
    return late


def _read(selector: selectors.BaseSelector, wait_s: float) -> bool:
    """Take one piece from each pipe that has one; False when there was none."""
    ready = selector.select(wait_s)
    for key, _events in ready:
        with contextlib.suppress(BlockingIOError):
            piece = os.read(key.fd, 65536)
            if piece:
                key.data.add(piece)
            else:
                selector.unregister(key.fd)
    return bool(ready)

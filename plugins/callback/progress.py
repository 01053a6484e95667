# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: notification
short_description: Show how far a run is
version_added: 1.0.0
description:
  - Shows how far a run of this collection is. It reads the run store for it, and nothing of the run depends on it.
  - On a terminal, and if the Python library rich is on the control node, three lines below the output of Ansible show the batch, the
    steps done, what is in flight and for how long, and about how long the rest takes. That last figure is an estimate from those
    batches of this run that are finished.
  - Everywhere else (a pipe, a file, AWX, E(TERM)=dumb) it writes one plain line when the run begins, one for each finished batch,
    and one at the end, without any control character.
  - Where it cannot read the store it gives one warning, and is quiet from then on.
  - It shows ids, states and reasons that stand in the journal, and nothing else.
requirements:
  - Enable it with C(callbacks_enabled=osops.lifecycle.progress) in ansible.cfg.
options:
  store:
    description:
      - The run store, as an SQLAlchemy URL.
      - Without it, what the variable C(osops_store) has for localhost.
    type: str
    env:
      - name: OSOPS_PROGRESS_STORE
    ini:
      - section: callback_osops_progress
        key: store
  interval:
    description: The store is read at most once in so many seconds, and once more at the end of the run.
    type: float
    default: 2
    env:
      - name: OSOPS_PROGRESS_INTERVAL
    ini:
      - section: callback_osops_progress
        key: interval
  width:
    description: Columns of the lines on a terminal; V(0) for those that it has. Plain lines are never cut.
    type: int
    default: 0
    env:
      - name: OSOPS_PROGRESS_WIDTH
    ini:
      - section: callback_osops_progress
        key: width
  no_color:
    description: Any text turns colours and bold off.
    type: str
    env:
      - name: NO_COLOR
seealso:
  - name: Operating
    description: What it looks like.
    link: https://opendev.org/osops/lifecycle/src/branch/main/docs/operating.md
author:
  - the osops.lifecycle authors (@osops)
"""

EXAMPLES = r"""
ansible.cfg: |
  [defaults]
  callbacks_enabled = osops.lifecycle.progress
  [callback_osops_progress]
  interval = 5
"""

import atexit
import contextlib
import functools
import io
import os
import shutil
import sys
import threading
import time
import typing as t

from ansible.plugins.callback import CallbackBase

RUN = "osops.lifecycle.run"
STEP = "osops.lifecycle.step"
F = t.TypeVar("F", bound=t.Callable[..., None])


def quiet(method: F) -> F:
    """Whatever goes wrong in a hook is one warning, and the last thing that this callback says."""

    @functools.wraps(method)
    def guarded(self: CallbackModule, *args: t.Any, **more: t.Any) -> None:
        if self.off:
            return
        try:
            method(self, *args, **more)
        except Exception as exc:
            self.off = True
            self.leave()
            # Only our own errors are said in full: the text of any other may hold the store's URL.
            self._display.warning(
                "osops.lifecycle.progress shows nothing more: %s" % (getattr(exc, "msg", "") or type(exc).__name__)
            )

    return t.cast("F", guarded)


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "osops.lifecycle.progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.off = False
        self.live: Live | None = None
        self.play: t.Any = None
        self.run = ""
        self.told = 0
        """finished batches that have had their line, of the way ``way``"""
        self.way = "out"
        self.read_at = 0.0
        self.store: t.Any = None
        self.plan: t.Any = None
        self.back: t.Any = None
        self.seen: t.Any = None
        self.flying: dict[tuple[str, str], float] = {}

    # -- hooks of Ansible ------------------------------------------------------------------------------------------

    @quiet
    def v2_playbook_on_play_start(self, play: t.Any) -> None:
        self.play = play

    @quiet
    def v2_runner_on_start(self, host: t.Any, task: t.Any) -> None:
        if self.run and _is(task, STEP):
            self.flying[host.get_name(), str(task.args.get("do"))] = time.monotonic()

    @quiet
    def _ended(self, result: t.Any, **_more: t.Any) -> None:
        task = result._task
        if _is(task, RUN):
            state, answer = task.args.get("state"), result._result
            if state == "opened" and answer.get("run") and not answer.get("failed"):
                self._open(str(answer["run"]))
            elif state == "closed" and self.run:
                self._close()
        elif self.run and _is(task, STEP):
            self.flying.pop((result._host.get_name(), str(task.args.get("do"))), None)
            if time.monotonic() - self.read_at >= self.get_option("interval"):
                self._read()

    v2_runner_on_ok = v2_runner_on_failed = v2_runner_on_skipped = v2_runner_on_unreachable = _ended

    @quiet
    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        if self.run:
            self._close()

    # -- what they do ----------------------------------------------------------------------------------------------

    def _open(self, run: str) -> None:
        """Begin to show a run. The mind is imported here: what is wrong with it is a warning, like anything else."""
        from ansible_collections.osops.lifecycle.plugins.plugin_utils import progress
        from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store

        self.store = Store(self._url(), watch=True)
        self.plan, self.run = self.store.plan(run), run
        self._look()
        # What was finished before this playbook has had its line then.
        self.told = len(self.seen.finished)
        self._display.display("progress: " + progress.first_line(self.seen, self.plan))
        if live_is_possible():
            self.live = Live(self._lines, self.get_option("width"), colored=not self.get_option("no_color"))
            self.live.start()

    def _url(self) -> str:
        from ansible.template import Templar

        from ansible_collections.osops.lifecycle.plugins.plugin_utils import doors

        given = self.get_option("store")
        if not given:
            manager = self.play.get_variable_manager()
            known = manager.get_vars(play=self.play, host=manager._inventory.get_host("localhost"))
            given = Templar(loader=manager._loader, variables=known).template(known.get("osops_store") or "")
        return str(given or "sqlite:///" + os.path.expanduser(doors.DEFAULT_STORE))

    def _look(self) -> float:
        """Look at the store once; return the time."""
        from ansible_collections.osops.lifecycle.plugins.plugin_utils import progress

        self.read_at = time.monotonic()
        run, entries = self.store.progress(self.run)
        if self.back is None and any(entry.way == "back" for entry in entries):
            self.back = self.store.back(self.run)
        now = float(self.store.clock())
        self.seen = progress.progress(run, self.plan, self.back, entries, now)
        if self.seen.way != self.way:
            self.way, self.told = self.seen.way, 0
        return now

    def _read(self) -> None:
        """Look, and say what is finished."""
        from ansible_collections.osops.lifecycle.plugins.plugin_utils import progress

        if self.live and self.live.problem:
            raise self.live.problem
        now = self._look()
        if not self.live:
            for batch in self.seen.finished[self.told :]:
                self._display.display("progress: " + progress.batch_line(batch, self.seen, now))
            self.told = len(self.seen.finished)

    def _close(self) -> None:
        from ansible_collections.osops.lifecycle.plugins.plugin_utils import progress

        self.flying.clear()
        self._read()
        self.leave()
        self._display.display("progress: " + progress.end_line(self.seen))
        self.run = ""

    def leave(self) -> None:
        """Give the terminal back."""
        if self.live:
            self.live.stop()
            self.live = None

    def _lines(self) -> list[str]:
        from ansible_collections.osops.lifecycle.plugins.plugin_utils import progress

        now = time.monotonic()
        flying = {key: now - since for key, since in sorted(self.flying.copy().items(), key=lambda item: item[1])}
        return progress.live_lines(self.seen, flying, now - self.read_at, self.store.clock())


def _is(task: t.Any, action: str) -> bool:
    return action in (task.action, getattr(task, "resolved_action", None))


def live_is_possible() -> bool:
    """Whether there is a terminal that can move its cursor, and rich to draw with."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") in ("", "dumb"):
        return False
    try:
        import rich.console  # noqa: F401
    except ImportError:
        return False
    return True


class Live:
    """Lines that stay below what is written: erased before each text that goes to the terminal, and drawn again after it.

    Nobody but the playbook's own process draws. A worker is a fork of it, and gets its own output back as it was.
    """

    def __init__(self, lines: t.Callable[[], list[str]], width: int, colored: bool) -> None:
        self.lines, self.width, self.colored = lines, width, colored
        self.lock = threading.RLock()
        self.ended = threading.Event()
        self.drawn = 0
        self.open_line = False
        self.problem: Exception | None = None
        self.real = (sys.stdout, sys.stderr)
        self.fd = sys.stdout.fileno()
        self.thread = threading.Thread(target=self._tick, daemon=True)

    def start(self) -> None:
        os.register_at_fork(after_in_child=self._in_child)
        atexit.register(self.stop)
        self.real[0].flush()
        sys.stdout = t.cast("t.TextIO", Above(self, self.real[0]))
        if self.real[1].isatty():
            sys.stderr = t.cast("t.TextIO", Above(self, self.real[1]))
        # Once here before the thread does: whatever rich imports is imported by then.
        self.draw()
        self.thread.start()

    def stop(self) -> None:
        """Erase the lines for good; once more does nothing."""
        if not self.ended.is_set():
            self.ended.set()
            with self.lock:
                sys.stdout, sys.stderr = self.real
                self._erase()

    def write(self, stream: t.Any, text: str) -> int:
        """Write a text of somebody else above the lines. While it is on its way nothing is drawn, and no lock is held."""
        with self.lock:
            self.open_line = True
            self._erase()
        count = int(stream.write(text))
        stream.flush()
        with self.lock:
            self.open_line = not text.endswith("\n")
        self.draw()
        return count

    def draw(self) -> None:
        """Draw anew, unless somebody's line is not at its end. What goes wrong is kept for the next hook to say."""
        with self.lock:
            if self.ended.is_set() or self.open_line:
                return
            try:
                drawn = self.rendered()
                self._erase()
                self._send("\n".join(drawn) + "\r")
                self.drawn = len(drawn)
            except Exception as exc:
                self.problem = exc
                self.stop()

    def rendered(self) -> list[str]:
        """The lines, cut to the terminal, the first one bold."""
        import rich.console
        import rich.text

        width = (self.width or shutil.get_terminal_size().columns) - 1
        kind = "standard" if self.colored else None
        out = io.StringIO()
        console = rich.console.Console(
            file=out, width=max(width, 20), force_terminal=True, color_system=kind, legacy_windows=False
        )
        for number, line in enumerate(self.lines()):
            style = "bold" if number == 0 else "cyan" if number == 1 else ""
            console.print(rich.text.Text(line, style=style), no_wrap=True, overflow="ellipsis", crop=True)
        return out.getvalue().splitlines()

    def _erase(self) -> None:
        if self.drawn:
            text = "\r" + "\033[A" * (self.drawn - 1) + "\033[J"
            self.drawn = 0
            self._send(text)

    def _send(self, text: str) -> None:
        # Past Python's own buffer: its lock could be held by this thread while Ansible forks.
        with contextlib.suppress(OSError):
            os.write(self.fd, text.encode(self.real[0].encoding or "utf-8", "replace"))

    def _tick(self) -> None:
        while not self.ended.wait(1):
            self.draw()

    def _in_child(self) -> None:
        if not self.ended.is_set():
            self.lock = threading.RLock()
            self.drawn = 0
            self.ended = threading.Event()
            self.ended.set()
            sys.stdout, sys.stderr = self.real


class Above:
    """A stream whose texts appear above the lines."""

    def __init__(self, live: Live, stream: t.Any) -> None:
        self._live, self._stream = live, stream

    def write(self, text: str) -> int:
        return self._live.write(self._stream, text)

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._stream, name)

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person sees while a run is going on: the callback on a terminal and on a pipe, and that nothing depends on it."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
import typing as t

import pytest

from ansible_collections.osops.lifecycle.plugins.plugin_utils import knowledge
from tests.walk.conftest import Worlds
from tests.walk.told import Told, ended
from tests.walk.world import World

ON = {"ANSIBLE_CALLBACKS_ENABLED": "osops.lifecycle.progress", "OSOPS_PROGRESS_INTERVAL": "0.2"}
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
ESCAPE = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b\[[\d;]*m")


def start_on_terminal(
    world: World, verb: str, columns: int = 150, on: t.Mapping[str, str] = ON, **environment: str
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a verb on a pseudo terminal; return it and the terminal's other end."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, columns))
    program = pathlib.Path(sys.executable).parent / "ansible-playbook"
    process = subprocess.Popen(
        [str(program), "-i", str(world.folder / "inventory.yml"), "osops.lifecycle." + verb],
        cwd=world.folder,
        env=world.environment(**{"TERM": "xterm", **on, **environment}),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    world.started.append(process)
    return process, ours


def read(terminal: int, until: t.Callable[[str], bool], found: str = "") -> str:
    """What a terminal shows until something is there, or it is closed."""
    deadline = time.monotonic() + 240
    while not until(found):
        assert time.monotonic() < deadline, found[-3000:]
        if select.select([terminal], [], [], 1)[0]:
            try:
                part = os.read(terminal, 65536)
            except OSError:  # Linux says so when the last process has closed its end
                break
            found += part.decode()
    return found


def on_terminal(world: World, verb: str, **how: t.Any) -> tuple[int, str]:
    process, terminal = start_on_terminal(world, verb, **how)
    try:
        shown = read(terminal, lambda _text: False)
        return process.wait(60), shown
    finally:
        os.close(terminal)


def screen(text: str) -> list[str]:
    """What is left on a terminal of endless height: cursor up, erase below, carriage return, and colours."""
    lines, row, column, place = [""], 0, 0, 0
    while place < len(text):
        escape = ESCAPE.match(text, place)
        char = text[place]
        place = escape.end() if escape else place + 1
        if escape:
            kind = escape[2]
            assert kind in ("A", "J", "m", None), "an escape that this terminal does not know: %r" % escape[0]
            if kind == "A":
                row = max(row - int(escape[1] or 1), 0)
            elif kind == "J":
                lines[row:] = [lines[row][:column]]
        elif char == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif char == "\r":
            column = 0
        else:
            assert char.isprintable(), repr(char)
            lines[row] = lines[row][:column].ljust(column) + char + lines[row][column + 1 :]
            column += 1
    return lines


def told_by_progress(lines: t.Iterable[str]) -> list[str]:
    return [re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{6}", "RUN", line) for line in lines if line.startswith("progress: ")]


def without(lines: t.Iterable[str]) -> list[str]:
    """Output without what the callback adds, and without what differs from run to run."""
    kept = (line for line in lines if not line.startswith("progress: "))
    return [re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{6}", "RUN", line).rstrip() for line in kept]


def test_a_pipe_gets_plain_lines(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    result = world.run("upgrade", **ON)
    ended(world, result, 0, "succeeded")
    lines = told_by_progress(result.out.splitlines())
    assert [re.sub(r"\d+ s\b", "N s", line) for line in lines] == [
        "progress: run RUN: upgrade of echo on dummy, 3 batches, 16 steps",
        "progress: run RUN: batch 1 of 3 done in N s: echo.data; 4 of 16 steps",
        "progress: run RUN: batch 2 of 3 done in N s: echo#2@lb1 echo-api@ctl1; 10 of 16 steps, about N s left (estimate)",
        "progress: run RUN: batch 3 of 3 done in N s: echo#3@lb1 echo-api@ctl2; 16 of 16 steps",
        "progress: run RUN: SUCCEEDED after N s, 16 of 16 steps",
    ]
    assert CONTROL.search(result.out) is None


def test_a_run_that_is_taken_back(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl2"].behave("probe/verify", {"fail": "answered\x1b[2J 404"})
    result = world.run("upgrade", **ON)
    ended(world, result, 2, "rolled_back", "404")
    lines = told_by_progress(result.out.splitlines())
    assert any("batch 1 of 2 of the way back done in" in line for line in lines)
    assert any("batch 2 of 2 of the way back done in" in line for line in lines)
    assert "ROLLED_BACK" in lines[-1]
    assert "why: echo-api@ctl2/test failed: answered [2J 404" in lines[-1]
    assert CONTROL.search("".join(lines)) is None


def test_a_terminal_gets_live_lines_that_leave_nothing_behind(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl1"].behave("app/active", {"hold": True})
    process, terminal = start_on_terminal(world, "upgrade")
    # It is alive: the seconds of the step in flight go on, though Ansible says nothing.
    shown = read(terminal, lambda text: "in flight: echo-api@ctl1 change 2 s" in text)
    assert "in flight: echo-api@ctl1 change 1 s" in shown
    last = screen(shown)[-3:]
    assert re.match(r"run \S+: upgrade of echo on dummy, \d+ s$", last[0])
    assert re.match(r"batch 2 of 3, \d+ of 16 steps$", last[1]), last
    world.hosts["ctl1"].release()
    shown = read(terminal, lambda _text: False, shown)
    os.close(terminal)
    ended_with = process.wait(60)
    assert ended_with == 0
    assert "(estimate)" in shown
    assert "\x1b[1m" in shown, "the first line is bold"
    left = screen(shown)
    assert not [line for line in left if "in flight" in line or line.startswith(("batch ", "run "))]
    assert re.match(r"progress: run RUN: SUCCEEDED after \d+ s, 16 of 16 steps$", told_by_progress(left)[-1])
    assert Told(world).run.state == "succeeded"


def test_what_others_write_is_the_same_on_a_terminal(worlds: Worlds) -> None:
    """A world that changes nothing tells the same story each time: with live lines, without them, and with a narrow terminal."""
    world = worlds(apps=1, balancers=0)
    assert world.run("upgrade").rc == 0
    for columns, width in ((150, "0"), (40, "30")):
        rc, plain = on_terminal(world, "upgrade", columns=columns, on={})
        assert rc == 0
        rc, shown = on_terminal(world, "upgrade", columns=columns, OSOPS_PROGRESS_WIDTH=width)
        assert rc == 0
        assert "\x1b[J" in shown, "there were live lines"
        assert without(screen(shown)) == without(screen(plain))


@pytest.mark.parametrize("why", ["dumb", "no rich", "no color"])
def test_terminals_that_get_less(worlds: Worlds, tmp_path: pathlib.Path, why: str) -> None:
    world = worlds(apps=2, balancers=0)
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "rich.py").write_text("raise ImportError\n", encoding="utf-8")
    environment = {
        "dumb": {"TERM": "dumb", "NO_COLOR": "1"},
        "no rich": {"PYTHONPATH": str(tmp_path / "blocked"), "NO_COLOR": "1"},
        "no color": {"NO_COLOR": "1"},
    }[why]
    rc, shown = on_terminal(world, "upgrade", **environment)
    assert rc == 0
    lines = told_by_progress(screen(shown))
    assert "SUCCEEDED" in lines[-1]
    if why == "no color":
        assert "\x1b[J" in shown
        assert re.search(r"\x1b\[[\d;]*m", shown) is None
    else:
        assert "\x1b" not in shown
        assert any("batch 2 of 3 done in" in line for line in lines)


def test_nothing_depends_on_it(worlds: Worlds, tmp_path: pathlib.Path) -> None:
    """A store that is missing, broken or not known: one warning, and everything else is as without the callback."""
    world = worlds(apps=1, balancers=0)
    assert world.run("upgrade").rc == 0
    plain = world.run("upgrade")
    assert plain.rc == 0
    (tmp_path / "broken.db").write_bytes(b"this is no database" * 100)
    stores = {
        "sqlite:///%s" % (tmp_path / "away.db"): "The store failed: unable to open database file.",
        "sqlite:///%s" % (tmp_path / "broken.db"): "The store failed: file is not a database.",
        "nothing://me:hidden@db/osops": "The store's URL cannot be read.",
        "postgresql+nodriver://me:hidden@127.0.0.1/osops": "The store's URL cannot be read.",
    }
    for store, says in stores.items():
        result = world.run("upgrade", **ON, OSOPS_PROGRESS_STORE=store)
        assert result.rc == 0
        warning = "[WARNING]: osops.lifecycle.progress shows nothing more: " + says
        words = " ".join(result.out.split())
        assert words.count("[WARNING]") == 1
        assert warning in words, result.out
        assert "hidden" not in result.out
        assert _words(words.replace(warning, "")) == _words(plain.out)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.endswith(".db")) == ["broken.db"]


def _words(text: str) -> list[str]:
    return re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{6}", "RUN", text).split()


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_a_store_that_vanishes_in_the_middle(worlds: Worlds, tmp_path: pathlib.Path, terminal: bool) -> None:
    """The run has its store; the callback sees it through a link that is taken away."""
    world = worlds(apps=2, balancers=0)
    link = tmp_path / "link.db"
    link.symlink_to(world.folder / "store.db")
    environment = {"OSOPS_PROGRESS_STORE": "sqlite:///%s" % link}
    world.hosts["ctl1"].behave("app/active", {"hold": True})
    if terminal:
        process, other = start_on_terminal(world, "upgrade", **environment)
        with contextlib.closing(os.fdopen(other, "rb", closefd=True)):
            shown = read(other, lambda text: "in flight: echo-api@ctl1 change 1 s" in text)
            link.unlink()
            world.hosts["ctl1"].release()
            shown = read(other, lambda _text: False, shown)
        rc, out = process.wait(60), "\n".join(screen(shown))
    else:
        process = world.start("upgrade", **ON, **environment)
        world.hosts["ctl1"].reached()
        link.unlink()
        world.hosts["ctl1"].release()
        result = world.finish(process)
        rc, out = result.rc, result.out
    assert (rc, Told(world).run.state) == (0, "succeeded")
    assert out.count("[WARNING]") == 1
    assert "osops.lifecycle.progress shows nothing more: The store failed: unable to open database file." in " ".join(out.split())
    assert "in flight" not in out
    assert "progress: run" not in out.split("[WARNING]")[1]
    assert not link.exists()


def test_an_interrupted_run_gives_the_terminal_back_and_goes_on(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=0)
    world.hosts["ctl1"].behave("app/active", {"hold": True})
    process, terminal = start_on_terminal(world, "upgrade")
    shown = read(terminal, lambda text: "in flight: echo-api@ctl1 change 1 s" in text)
    os.killpg(process.pid, signal.SIGINT)
    world.hosts["ctl1"].release()
    shown = read(terminal, lambda _text: False, shown)
    os.close(terminal)
    assert process.wait(60) == 99
    assert "in flight" not in "\n".join(screen(shown))
    done = sum(kind == "done" for kind in Told(world).kinds().values())
    again = world.run("upgrade", **ON)
    ended(world, again, 0, "succeeded")
    lines = told_by_progress(again.out.splitlines())
    assert lines[0] == "progress: run RUN: upgrade of echo on dummy, 3 batches, 10 steps, goes on at %d of 10 steps" % done
    assert [line.split(": ")[2].split(" done")[0] for line in lines[1:-1]] == ["batch 2 of 3", "batch 3 of 3"]


def test_a_bad_setting_is_no_failure(worlds: Worlds) -> None:
    world = worlds(apps=1, balancers=0)
    result = world.run("upgrade", **{**ON, "OSOPS_PROGRESS_INTERVAL": "often"})
    ended(world, result, 0, "succeeded")
    assert result.out.count("[WARNING]") == 1


def test_it_reads_no_more_often_than_it_may(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    result = world.run("upgrade", **{**ON, "OSOPS_PROGRESS_INTERVAL": "3600"})
    assert result.rc == 0
    # Two looks: one when the run begins, one at its end, which knows of all batches.
    lines = told_by_progress(result.out.splitlines())
    assert [line.split(": ")[2].split(" done")[0] for line in lines[1:-1]] == ["batch 1 of 3", "batch 2 of 3", "batch 3 of 3"]
    place = result.out.index
    assert place("batch 1 of 3 done") > place("TASK [Close the run]"), "it looked before an hour was over"


def test_status_while_it_runs_and_after(worlds: Worlds) -> None:
    world = worlds(apps=2, balancers=1)
    world.hosts["ctl2"].behave("app/active", {"hold": True})
    process = world.start("upgrade")
    world.hosts["ctl2"].reached()
    status = status_of(world)
    (run,) = status["runs"]
    assert (run["state"], run["held"], run["batch"]) == ("running", True, {"number": 3, "of": 3})
    assert [act["step"] for act in run["in_hand"]] == ["echo-api@ctl2/change"]
    (component,) = status["components"]
    assert (component["old"], component["new"], component["unknown"]) == (0, 1, ["echo-api@ctl2"])
    assert world.versions() == ["2.0", "1.0"]
    table = world.run("status", "-e", "osops_runs=1")
    assert table.rc == 0
    assert re.search(r'"echo-api +1\.0 +2\.0 +0 +1 +1 +%s",' % run["id"], table.out)
    assert "in hand: echo-api@ctl2/change for" in table.out
    world.hosts["ctl2"].release()
    assert process.wait(240) == 0
    status = status_of(world)
    assert (status["runs"][0]["state"], status["components"][0]["new"]) == ("succeeded", 2)


def status_of(world: World) -> dict[str, t.Any]:
    """The JSON document, as shown and as handed on; they are the same."""
    result = world.run(
        "status", "-e", "osops_format=json", ANSIBLE_SHOW_CUSTOM_STATS="true", ANSIBLE_CALLBACK_RESULT_FORMAT="json"
    )
    assert result.rc == 0, result.out
    body = re.search(r"^ok: \[localhost\] => (\{\n.*?^\})", result.out, re.MULTILINE | re.DOTALL)
    assert body is not None, result.out
    shown: dict[str, t.Any] = json.loads(body[1])["msg"]
    stats = re.search(r"RUN: (\{.*\})", result.out)
    assert stats is not None
    assert json.loads(stats[1])["osops_status"] == shown
    knowledge.validate(shown, "status", "status")
    return shown

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed with SIGKILL at every place where it changes something, and called again: it ends as if it had not been killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.service_files.desk import Desk, tree

# A process of its own; its audit hook kills it right before the N-th change of a file or folder.
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
given = json.load(sys.stdin)
from tests.integration.service_files.desk import Desk
desk = Desk.__new__(Desk)
desk.etc, desk.root = Path(given["etc"]), Path(given["root"])
left = given["left"]
CHANGES = {"os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.chown"}
def seen(event, args):
    global left
    opened = event == "open" and isinstance(args[2], int) and args[2] & os.O_CREAT
    if event in CHANGES or opened:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(seen)
answer = desk.call(**given["args"])
print(json.dumps(answer))
"""


def call(desk: Desk, collections: Path, left: int, args: dict[str, Any]) -> dict[str, Any] | None:
    """The call in a process that dies before its change number ``left``; None when it died."""
    repository = Path(__file__).resolve().parents[3]
    given = {"etc": str(desk.etc), "root": str(desk.root), "left": left, "args": args}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(given),
        env={**os.environ, "PYTHONPATH": "%s:%s" % (collections, repository), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def fresh(tmp_path: Path, name: str) -> Desk:
    folder = tmp_path / name
    folder.mkdir()
    return Desk(folder)


def start(desk: Desk, kind: str) -> str:
    """What is there before the call that is killed; the name of the first revision."""
    if kind == "first":
        return ""
    first = str(desk.call(**desk.wanted())["after"]["revision"])
    if kind == "repair":
        desk.path("uwsgi.ini").write_text("by hand")
    if kind == "undo":
        desk.call(**desk.wanted("true"))
    return first


def arguments(desk: Desk, kind: str, first: str) -> dict[str, Any]:
    if kind in ("absent", "forget"):
        return {"state": "absent", "keep": 10 if kind == "absent" else 0}
    if kind == "undo":
        return {"revision": first}
    wanted = desk.wanted("true" if kind == "change" else "false")
    if kind == "change":
        wanted["folders"][0]["mode"] = "0711"
        wanted["files"][1]["path"] += ".new"
    return wanted


# Every place is met with OSOPS_EVERY_KILL=1, in some minutes; otherwise each fifth one, another fifth for every kind.
STRIDE = 1 if os.environ.get("OSOPS_EVERY_KILL") else 5
KINDS = ["first", "change", "repair", "undo", "absent", "forget"]


def killed_everywhere(tmp_path: Path, collections: Path, kind: str) -> Iterator[tuple[Desk, dict[str, Any], dict[str, Any], str]]:
    """Hosts on which the call was killed, each at another place, with what was there before and the call's arguments."""
    if os.geteuid() != 0:
        pytest.skip("files are given owners, which needs root")
    for left in range(KINDS.index(kind) % STRIDE, 1000, STRIDE):
        desk = fresh(tmp_path, "at%d" % left)
        first = start(desk, kind)
        args = arguments(desk, kind, first)
        look = desk.call(check=True, **args)["before"]
        if call(desk, collections, left, {"expect": look, **args}) is not None:
            assert left > 20, "it was hardly killed anywhere"
            return
        yield desk, look, args, first
    raise AssertionError("it never came to its end")


def leftovers(desk: Desk) -> list[Path]:
    return [path for folder in (desk.root, desk.etc) for path in folder.rglob("*") if path.name.endswith((".json.new", "-new"))]


@pytest.mark.parametrize("kind", KINDS)
def test_called_again_it_ends_as_if_it_had_not_been_killed(tmp_path: Path, collections: Path, kind: str) -> None:
    whole = fresh(tmp_path, "whole")
    first = start(whole, kind)
    done = whole.call(**arguments(whole, kind, first))
    for desk, look, args, _first in killed_everywhere(tmp_path, collections, kind):
        again = desk.call(expect=look, resume=True, **args)
        assert again["verdict"]["outcome"] == "pass", again
        assert tree(desk.etc) == tree(whole.etc)
        # What had gone before the kill may not be named any more.
        words = whole.words(done, "after")
        assert {**{name: word for name, word in words.items() if word == "missing"}, **desk.words(again, "after")} == words
        assert len(again["revisions"]) == len(done["revisions"])
        assert (desk.call(**args)["changed"], leftovers(desk)) == (False, [])


@pytest.mark.parametrize("kind", KINDS)
def test_killed_it_can_be_taken_back(tmp_path: Path, collections: Path, kind: str) -> None:
    before = fresh(tmp_path, "before")
    first = start(before, kind if kind != "repair" else "change")
    current = before.call(check=True, revision=first)["before"]["revision"] if first else None
    there = tree(before.etc)
    for desk, look, _args, _first in killed_everywhere(tmp_path, collections, kind):
        if kind == "forget":
            continue  # nothing is kept to bring back
        back = desk.call(**({"revision": look["revision"]} if look["revision"] else {"state": "absent"}))
        assert back["verdict"]["outcome"] == "pass", back
        assert tree(desk.etc) == there
        assert (current is None) == (look["revision"] is None)
        assert leftovers(desk) == []

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Which revisions of a schema a release's own files name, read as text: no code of the release runs."""

from __future__ import annotations

import ast
import glob
import os
import typing as t

BRANCHES = ("expand", "contract")


def branches(folder: str, heads: t.Mapping[str, str]) -> tuple[dict[str, str], set[str]]:
    """The revision that each branch must have, as files of the release name it, and all revisions that the release knows."""
    wanted = {}
    for branch in BRANCHES:
        with open(os.path.join(folder, heads[branch]), encoding="ascii") as handle:
            wanted[branch] = handle.read().strip()
    names = {name for _root, _folders, names in os.walk(folder) for name in names}
    return wanted, {name.partition("_")[0] for name in names if name.endswith(".py")}


def _named(text: str) -> dict[str, t.Any]:
    """How a file of Alembic names itself and what it is built on. Raises ValueError where that is no plain value."""
    found = {}
    try:
        for node in ast.parse(text).body:
            if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
                continue
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name) and target.id in ("revision", "down_revision"):
                    found[target.id] = ast.literal_eval(node.value)
    except SyntaxError as exc:
        raise ValueError(str(exc)) from None
    return found


def single_branch(folder: str) -> tuple[dict[str, str], set[str]]:
    """The same as ``branches`` for a release with one row of revisions, which all add: it must have the one that no other is built on.

    Raises ValueError where the files are no such row.
    """
    known: set[str] = set()
    former: set[t.Any] = set()
    for path in glob.glob(os.path.join(folder, "*.py")):
        with open(path, encoding="utf-8") as handle:
            found = _named(handle.read())
        if "revision" in found:
            known.add(str(found["revision"]))
            down = found.get("down_revision")
            former.update(down if isinstance(down, (tuple, list)) else [down])
    last = known - former
    if len(last) != 1:
        raise ValueError(folder)
    return {"expand": last.pop()}, known

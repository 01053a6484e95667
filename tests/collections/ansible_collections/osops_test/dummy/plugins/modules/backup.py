#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dummy of proven backups: how many there are, and the token of the newest, in a JSON file."""

from __future__ import annotations

from ansible_collections.osops_test.dummy.plugins.module_utils import world


def look(args: world.State) -> world.State:
    return {"newest": world.read("backup-%s.json" % args["database"]).get("newest")}


def wanted(args: world.State, before: world.State) -> world.State:
    return {"newest": args["token"]}


def act(args: world.State, goal: world.State) -> None:
    world.write("backup-%s.json" % args["database"], goal)


def main() -> None:
    spec = {name: {"type": "str"} for name in ("database", "service", "kind", "place")}
    spec.update(
        server={"type": "dict"}, keep={"type": "int"}, max_age_s={"type": "int"}, command={"type": "list", "elements": "str"}
    )
    world.run("backup", spec, ["present"], look, wanted, act)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dummy of a database server: databases with an owner's mark in a JSON file."""

from __future__ import annotations

from ansible_collections.osops_test.dummy.plugins.module_utils import world


def look(args: world.State) -> world.State:
    state = world.read("database-%s.json" % args["database"]["name"])
    if state.get("owner") not in (None, args["owner"]):
        raise world.LifecycleError("The database %s was not made by us." % args["database"]["name"], "database.foreign")
    return {"database": bool(state), "tables": state.get("tables", 0)}


def wanted(args: world.State, before: world.State) -> world.State:
    return {"database": True, "tables": before["tables"]} if args["state"] == "present" else {"database": False, "tables": 0}


def act(args: world.State, goal: world.State) -> None:
    world.write("database-%s.json" % args["database"]["name"], {"owner": args["owner"], **goal} if goal["database"] else {})


def main() -> None:
    spec = {name: {"type": "dict"} for name in ("database", "server")}
    spec.update(secrets={"type": "dict", "no_log": True}, owner={"type": "str"})
    world.run("database", spec, ["present", "absent"], look, wanted, act)


if __name__ == "__main__":
    main()

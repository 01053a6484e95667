#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dummy of proven backups: by their ids, what was written in the database and its schema, in a JSON file."""

from __future__ import annotations

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops_test.dummy.plugins.module_utils import world


def _file(args: world.State) -> str:
    return "backup-%s.json" % args["database"]


def _now(args: world.State) -> world.State:
    return {kind: world.read("%s-%s.json" % (kind, args["service"])) for kind in ("schema", "contents")}


def look(args: world.State) -> world.State:
    there = world.read(_file(args))
    if args["state"] == "restored":
        if args["id"] not in there:
            raise LifecycleError("There is no proven backup %s." % args["id"], "backup.missing")
        return {"database": True, "restored": args["id"] if there[args["id"]] == _now(args) else None}
    return {"backup": args["id"] if args["id"] in there else None}


def wanted(args: world.State, before: world.State) -> world.State:
    return {"database": True, "restored": args["id"]} if args["state"] == "restored" else {"backup": args["id"] or "new"}


def act(args: world.State, goal: world.State) -> None:
    there = world.read(_file(args))
    if args["state"] == "restored":
        for kind, state in there[args["id"]].items():
            world.write("%s-%s.json" % (kind, args["service"]), state)
    else:
        world.write(_file(args), {**there, args["id"]: _now(args)})


def more(args: world.State) -> world.State:
    lost = {"taken_at": "2026-05-01T03:00:00Z", "age_s": 3600, "tables": {"project": {"rows_now": 5, "rows_then": 2}}}
    return {"lost": lost} if args["state"] == "restored" else {}


def main() -> None:
    spec = {name: {"type": "str"} for name in ("database", "service", "kind", "place", "id")}
    spec.update(
        server={"type": "dict"}, keep={"type": "int"}, max_age_s={"type": "int"}, command={"type": "list", "elements": "str"}
    )
    world.run("backup", spec, ["present", "restored"], look, wanted, act, more)


if __name__ == "__main__":
    main()

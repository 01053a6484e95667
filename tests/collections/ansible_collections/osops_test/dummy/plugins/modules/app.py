#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dummy artifact driver: a component's release is a line in a JSON file."""

from __future__ import annotations

from ansible_collections.osops_test.dummy.plugins.module_utils import world


def _file(args: world.State) -> str:
    return "app-%s.json" % args["instance"]["component"]


def look(args: world.State) -> world.State:
    if args["state"] == "present":
        return {"present": _id(args) in world.read("releases.json")}
    if args["keep"]:
        return {"releases": sorted(world.read("releases.json"))}
    state = world.read(_file(args))
    return {"release": state.get("release"), "version": state.get("version"), "running": bool(state.get("running"))}


def wanted(args: world.State, before: world.State) -> world.State:
    if args["state"] == "present":
        return {"present": True}
    if args["keep"]:
        return {"releases": [name for name in before["releases"] if name not in _old(args)]}
    if args["state"] == "absent":
        return {"release": None, "version": None, "running": False}
    if args["state"] == "halted":
        return {**before, "version": None, "running": False}
    return {"release": _id(args), "version": _id(args), "running": True}


def _old(args: world.State) -> list[str]:
    """Releases that are neither the newest nor what runs."""
    names = sorted(world.read("releases.json"))
    return [name for name in names[: -args["keep"]] if name != world.read(_file(args)).get("release")]


def more(args: world.State) -> world.State:
    return {"removed": _old(args)} if args["keep"] else {}


def act(args: world.State, goal: world.State) -> None:
    if args["keep"]:
        world.write("releases.json", dict.fromkeys(goal["releases"], True))
    elif args["state"] == "present":
        world.write("releases.json", dict(world.read("releases.json"), **{_id(args): True}))
    else:
        world.write(_file(args), goal)


def _id(args: world.State) -> str:
    return args["release"].get("id") or args["release"]["version"]


def main() -> None:
    spec = {
        "release": {"type": "dict", "required": True},
        "instance": {"type": "dict", "required": True},
        "keep": {"type": "int"},
    }
    world.run("app", spec, ["present", "active", "halted", "absent"], look, wanted, act, more)


if __name__ == "__main__":
    main()

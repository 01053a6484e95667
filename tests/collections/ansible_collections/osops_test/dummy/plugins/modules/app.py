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
    state = world.read(_file(args))
    return {"release": state.get("release"), "version": state.get("version"), "running": bool(state.get("running"))}


def wanted(args: world.State, before: world.State) -> world.State:
    if args["state"] == "present":
        return {"present": True}
    if args["state"] == "absent":
        return {"release": None, "version": None, "running": False}
    return {"release": _id(args), "version": _id(args), "running": True}


def act(args: world.State, goal: world.State) -> None:
    if args["state"] == "present":
        world.write("releases.json", dict(world.read("releases.json"), **{_id(args): True}))
    else:
        world.write(_file(args), goal)


def _id(args: world.State) -> str:
    return args["release"].get("id") or args["release"]["version"]


def main() -> None:
    spec = {"release": {"type": "dict", "required": True}, "instance": {"type": "dict", "required": True}}
    world.run("app", spec, ["present", "active", "absent"], look, wanted, act)


if __name__ == "__main__":
    main()

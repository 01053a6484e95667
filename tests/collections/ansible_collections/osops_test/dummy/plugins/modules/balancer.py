#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dummy traffic driver: servers with an admin mask and a weight in a JSON file."""

from __future__ import annotations

from ansible_collections.osops_test.dummy.plugins.module_utils import world


def _ours(args: world.State) -> world.State:
    return {name: server for name, server in world.read("balancer.json").items() if server["address"] in args["servers"]}


def look(args: world.State) -> world.State:
    return {name: {"admin": server["admin"], "weight": server["weight"]} for name, server in _ours(args).items()}


def wanted(args: world.State, before: world.State) -> world.State:
    restore = args["restore"] or {}
    if args["state"] == "drain":
        # A mask that is neither the expected one nor that one drained is somebody else's, even where it includes a drain.
        found = {name: (args["expect"] or {}).get(name, server)["admin"] for name, server in before.items()}
        return {name: {"admin": found[name] | 8, "weight": server["weight"]} for name, server in before.items()}
    return {name: restore.get(name, {"admin": 0, "weight": server["weight"]}) for name, server in before.items()}


def act(args: world.State, goal: world.State) -> None:
    servers = world.read("balancer.json")
    if args["state"] == "drain":
        left = [name for name, server in servers.items() if server["health"] == "up" and not server["admin"] and name not in goal]
        if len(left) < args["min_available"]:
            raise world.LifecycleError("Only %d servers would be left." % len(left), "floor", "Wait.")
    for name, state in goal.items():
        servers[name].update(state)
    world.write("balancer.json", servers)


def more(args: world.State) -> world.State:
    servers = world.read("balancer.json")
    return {"servers": [{"server": name, "address": each["address"], "health": each["health"]} for name, each in servers.items()]}


def main() -> None:
    spec = {
        "servers": {"type": "list", "elements": "str"}, "backends": {"type": "list", "elements": "str"},
        "min_available": {"type": "int", "default": 1}, "restore": {"type": "dict"}, "policy": {"type": "str"},
    }  # fmt: skip
    world.run("balancer", spec, ["drain", "ready"], look, wanted, act, more)


if __name__ == "__main__":
    main()

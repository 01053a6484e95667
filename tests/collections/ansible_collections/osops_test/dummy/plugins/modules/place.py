#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dummy of our own file in a load balancer's configuration: with it the servers of the service are there, without it they are not."""

from __future__ import annotations

from ansible_collections.osops_test.dummy.plugins.module_utils import world


def look(args: world.State) -> world.State:
    return {"file": "ours" if world.read("place-%s.json" % args["service"]) else "missing"}


def wanted(args: world.State, before: world.State) -> world.State:
    return {"file": "ours" if args["state"] == "present" else "missing"}


def act(args: world.State, goal: world.State) -> None:
    servers = {name: server for name, server in world.read("balancer.json").items() if not name.startswith(args["service"] + "/")}
    if goal["file"] == "ours":
        for server in args["servers"]:
            fresh = {"address": server["address"], "admin": 0, "weight": 100, "health": "up"}
            servers["%s/%s" % (args["service"], server["name"])] = fresh
    world.write("balancer.json", servers)
    world.write("place-%s.json" % args["service"], {"there": True} if goal["file"] == "ours" else {})


def main() -> None:
    spec = {name: {"type": "str"} for name in ("service", "owner")}
    spec.update({name: {"type": "list", "elements": "dict"} for name in ("frontends", "servers")})
    spec.update(backend={"type": "dict"}, answer={"type": "dict"}, min_up={"type": "int"})
    world.run("place", spec, ["present", "absent"], look, wanted, act)


if __name__ == "__main__":
    main()

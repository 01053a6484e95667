#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dummy of our own file in a load balancer's configuration: with it the servers of the service are there, without it they are not."""

from __future__ import annotations

from ansible_collections.osops_test.dummy.plugins.module_utils import world


def look(args: world.State) -> world.State:
    there = world.read("place-%s.json" % args["service"])
    answering = {"answering": bool(there.get("answer"))} if there.get("answer") or args["answer"] else {}
    return {"file": "ours" if there else "missing", **answering}


def wanted(args: world.State, before: world.State) -> world.State:
    answering = {"answering": bool(args["answer"])} if "answering" in before else {}
    return {"file": "ours" if args["state"] == "present" else "missing", **answering}


def act(args: world.State, goal: world.State) -> None:
    known = world.read("balancer.json")
    servers = {name: server for name, server in known.items() if not name.startswith(args["service"] + "/")}
    if goal["file"] == "ours":
        for server in args["servers"]:
            name = "%s/%s" % (args["service"], server["name"])
            servers[name] = known.get(name) or {"address": server["address"], "admin": 0, "weight": 100, "health": "up"}
    world.write("balancer.json", servers)
    there = {"there": True, "answer": args["answer"]} if goal["file"] == "ours" else {}
    world.write("place-%s.json" % args["service"], there)


def main() -> None:
    spec = {name: {"type": "str"} for name in ("service", "owner")}
    spec.update({name: {"type": "list", "elements": "dict"} for name in ("frontends", "servers")})
    spec.update(backend={"type": "dict"}, answer={"type": "dict"}, min_up={"type": "int"})
    world.run("place", spec, ["present", "absent"], look, wanted, act)


if __name__ == "__main__":
    main()

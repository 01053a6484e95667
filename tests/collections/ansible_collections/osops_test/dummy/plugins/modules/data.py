#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dummy migration: the schema of a service is a word in a JSON file."""

from __future__ import annotations

from ansible_collections.osops_test.dummy.plugins.module_utils import world


def look(args: world.State) -> world.State:
    return {"schema": world.read("schema-%s.json" % args["service"]).get("schema", "old")}


def wanted(args: world.State, before: world.State) -> world.State:
    if args["state"] == "preflight" or before["schema"] not in args["act"]["when"]:
        return dict(before)
    return {"schema": args["act"]["accept"][0]}


def act(args: world.State, goal: world.State) -> None:
    world.write("schema-%s.json" % args["service"], goal)


def main() -> None:
    names = ("release", "instance", "config", "commands", "act")
    spec = {name: {"type": "dict"} for name in names}
    spec.update(secrets={"type": "dict", "no_log": True})
    spec.update(service={"type": "str"}, checks={"type": "list", "elements": "dict"})
    world.run("data", spec, ["preflight", "expand"], look, wanted, act)


if __name__ == "__main__":
    main()

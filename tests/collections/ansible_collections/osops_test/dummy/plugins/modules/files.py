#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dummy of what a service needs on its host: an owner and a revision in a JSON file. Taking it away ends the app, as a stopped unit would."""

from __future__ import annotations

import hashlib
import json

from ansible_collections.osops_test.dummy.plugins.module_utils import world


def look(args: world.State) -> world.State:
    state = world.read("files-%s.json" % args["name"])
    if state.get("owner") not in (None, args["owner"]):
        raise world.LifecycleError("The files of %s are another owner's (%s)." % (args["name"], state["owner"]), "files.foreign")
    return {"revision": state.get("revision"), "unit": "enabled" if state.get("revision") else "missing"}


def wanted(args: world.State, before: world.State) -> world.State:
    if args["state"] == "absent":
        return {"revision": None, "unit": "missing"}
    if args["revision"]:
        if args["revision"] not in world.read("files-%s.json" % args["name"]).get("kept", []):
            raise world.LifecycleError("There is no revision %s." % args["revision"], "files.revision")
        return {"revision": args["revision"], "unit": "enabled"}
    if (args["secrets"] or {}).get("password") != "not-in-any-log":
        raise world.LifecycleError("The secret did not arrive.", "files.secret")
    text = json.dumps(args["files"], sort_keys=True)
    return {"revision": hashlib.sha256(text.encode()).hexdigest()[:8], "unit": "enabled"}


def act(args: world.State, goal: world.State) -> None:
    kept = world.read("files-%s.json" % args["name"]).get("kept", [])
    made = {"owner": args["owner"], **goal, "kept": [*kept, goal["revision"]]}
    if goal["revision"] and world.read("app-%s.json" % args["name"]).get("running"):
        raise world.LifecycleError("%s runs while its files change." % args["name"], "files.running")
    world.write("files-%s.json" % args["name"], made if goal["revision"] else {})
    if not goal["revision"]:
        app = world.read("app-%s.json" % args["name"])
        world.write("app-%s.json" % args["name"], {**app, "running": False})


def main() -> None:
    spec = {name: {"type": "list", "elements": "dict"} for name in ("folders", "files")}
    spec.update({name: {"type": "dict"} for name in ("user", "values")}, secrets={"type": "dict", "no_log": True})
    spec.update({name: {"type": "str"} for name in ("name", "owner", "unit", "revision")})
    spec["rotated"] = {"type": "bool", "default": False}
    world.run("files", spec, ["present", "absent"], look, wanted, act)


if __name__ == "__main__":
    main()

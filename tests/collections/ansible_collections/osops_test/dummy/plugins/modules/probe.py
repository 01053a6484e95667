#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dummy probe: passes when the component that runs has the version that is wanted."""

from __future__ import annotations

from ansible_collections.osops_test.dummy.plugins.module_utils import world


def look(args: world.State) -> world.State:
    state = world.read("app-%s.json" % args["instance"]["component"])
    if args["state"] == "verify" and (state.get("version") != args["version"] or not state.get("running")):
        raise world.LifecycleError("%s runs, not %s." % (state.get("version"), args["version"]), "probe.version")
    if (args["secrets"] or {}).get("password") != "not-in-any-log":
        raise world.LifecycleError("The secret did not arrive.", "probe.secret")
    return {}


def main() -> None:
    spec = {name: {"type": "dict"} for name in ("instance", "vars")}
    spec.update(secrets={"type": "dict", "no_log": True}, requests={"type": "list", "elements": "dict"})
    spec.update(package={"type": "str"}, version={"type": "str"})
    world.run("probe", spec, ["baseline", "verify"], look, lambda args, before: dict(before), lambda args, goal: None)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact_tarball
short_description: Run a service from a tar file
description: Releases are unpacked into PATH/VERSION, the link PATH/current names the one that the unit starts from.
author: [the osops.lifecycle authors (@osops)]
options:
  state:
    description: As docs/drivers.md of osops.lifecycle says.
    choices: [present, active, halted, absent]
    default: active
    type: str
  release:
    description: C(version) or C(id), and C(folder), where VERSION.tar lies on the host.
    type: dict
    required: true
  instance:
    description: C(component), C(unit), C(listen), C(path).
    type: dict
    required: true
extends_documentation_fragment: [osops.lifecycle.driver]
"""

import glob
import os
import re
import shutil
import socket
import subprocess
import tarfile
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.osops.lifecycle.plugins.module_utils.driver import (
    DRIVER_ARGS,
    Act,
    BadInputError,
    LifecycleError,
    Report,
    Terms,
    Verdict,
    play,
    settle,
    wait,
)


class Instance:
    """One service from a tar file. What runs is asked of the kernel: which files the unit's process has mapped."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        release, instance = params["release"], params["instance"]
        self.state: str = params["state"]
        self.path, self.unit, self.listen = instance["path"], instance["unit"], instance["listen"]
        self.version: str = release.get("version") or release.get("id") or ""
        self.folder: str = release.get("folder") or ""
        if self.version and not re.match(r"[0-9][0-9A-Za-z.]*\Z", self.version):
            raise BadInputError("%r is not a version." % self.version, "input.version", "It looks like 1.0.")
        if not self.version and self.state != "halted":
            raise BadInputError("The release has no version.", "input.version")

    def releases(self) -> list[str]:
        return sorted(name for name in os.listdir(self.path) if name[0].isdigit()) if os.path.isdir(self.path) else []

    def look(self) -> dict[str, t.Any]:
        link = os.path.join(self.path, "current")
        shown = subprocess.run(
            ["systemctl", "show", "--value", "--property=MainPID", self.unit], capture_output=True, text=True, check=True
        )
        mapped = ""
        if shown.stdout.strip() != "0":
            with open("/proc/%s/maps" % shown.stdout.strip(), encoding="utf-8") as handle:
                mapped = handle.read()
        runs = re.search(re.escape(self.path) + r"/([0-9][0-9A-Za-z.]*)/", mapped)
        return {
            "release": os.path.basename(os.readlink(link)) if os.path.islink(link) else None,
            "version": runs[1] if runs else None,
            "running": self._answers(),
        }

    def _answers(self) -> bool:
        host, _colon, port = self.listen.rpartition(":")
        try:
            socket.create_connection((host, int(port)), 1.0).close()
        except OSError:
            return False
        return True

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        report.more["releases"] = self.releases()
        if self.state in ("present", "absent"):
            return self._kept(terms, report, self.state == "present")
        report.before = report.after = self.look()
        active = {"release": self.version, "version": self.version, "running": True}
        wanted = active if self.state == "active" else {"running": False}
        if not settle(report.before, wanted, terms.expect, terms.resume):
            return Verdict("pass", "artifact." + self.state, "It is so.")
        if self.state == "active" and self.version not in report.more["releases"] and not terms.check:
            raise LifecycleError(
                "Release %s is not on this host." % self.version, "artifact.not_present", "Fetch it first (state present)."
            )
        report.changed = True
        report.after = active if self.state == "active" else {**report.before, "version": None, "running": False}
        if terms.check:
            return Verdict("pass", "artifact." + self.state, "It would be made so.")
        try:
            self._systemctl("stop", terms)
            if self.state == "active":
                fresh = os.path.join(self.path, ".current")
                if os.path.lexists(fresh):  # left by an act that was cut
                    os.unlink(fresh)
                os.symlink(self.version, fresh)
                os.replace(fresh, os.path.join(self.path, "current"))
                self._systemctl("start", terms)
                reached = wait(self.look, lambda seen: seen == active, terms.deadline.remaining(), poll_s=0.1)
                if not reached.reached:
                    raise LifecycleError("%s was started, but %s." % (self.unit, reached.last), "artifact.start_deadline")
        finally:
            report.after = self.look()
        return Verdict("pass", "artifact." + self.state, "It was made so.")

    def _systemctl(self, verb: str, terms: Terms) -> None:
        done = subprocess.run(
            ["systemctl", verb, "--", self.unit],
            capture_output=True,
            text=True,
            check=False,
            timeout=max(1.0, terms.deadline.remaining()),
        )
        if done.returncode != 0:
            raise LifecycleError("systemctl %s failed: %s" % (verb, done.stderr.strip()), "artifact.start_failed")

    def _kept(self, terms: Terms, report: Report, present: bool) -> Verdict:
        folder = os.path.join(self.path, self.version)
        report.before = report.after = {"present": os.path.isdir(folder)}
        if not settle(report.before, {"present": present}, terms.expect, terms.resume):
            return Verdict("pass", "artifact.kept", "It is so.")
        if not present and self.version in self.look().values():
            raise LifecycleError("Release %s is in use." % self.version, "artifact.in_use", "Make another one active first.")
        file = os.path.join(self.folder, self.version + ".tar")
        if present and not os.path.isfile(file):
            raise BadInputError(
                "There is no %s on this host." % file,
                "artifact.version",
                "There are: %s." % " ".join(glob.glob(self.folder + "/*.tar")),
            )
        report.changed, report.after = True, {"present": present}
        if not terms.check:
            fresh = os.path.join(self.path, ".fresh-" + self.version)
            shutil.rmtree(fresh, ignore_errors=True)  # left by an act that was cut
            if present:
                os.makedirs(self.path, exist_ok=True)
                with tarfile.open(file) as archive:
                    archive.extractall(fresh, filter="data") if hasattr(tarfile, "data_filter") else archive.extractall(fresh)  # noqa: S202 - the operator put it there
                os.rename(fresh, folder)
            else:
                os.rename(folder, fresh)
                shutil.rmtree(fresh)
            report.more["releases"] = self.releases()
        return Verdict("pass", "artifact.kept", "It was made so.")


def prepare(params: t.Mapping[str, t.Any]) -> Act:
    return Instance(params)


def main() -> None:
    states = {"type": "str", "choices": ["present", "active", "halted", "absent"], "default": "active"}
    spec = {
        **DRIVER_ARGS,
        "state": states,
        "release": {"type": "dict", "required": True},
        "instance": {"type": "dict", "required": True},
    }
    play(AnsibleModule(argument_spec=spec, supports_check_mode=True), prepare)


if __name__ == "__main__":
    main()

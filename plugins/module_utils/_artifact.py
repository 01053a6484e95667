# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The states of the driver artifact_source: present, active, absent."""

from __future__ import annotations

import contextlib
import json
import os
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _environment, _instance, _probe, _process
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Act, Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._release import Release
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict

RELEASE_OPTIONS: dict[str, dict[str, t.Any]] = {
    "id": {"type": "str"},
    "version": {"type": "str"},
    "package": {"type": "str"},
    "lock": {"type": "str"},
    "digest": {"type": "str"},
    "index": {"type": "str", "no_log": True},  # it may hold a password
    "python": {"type": "path", "default": "/usr/bin/python3"},
}


def prepare(params: t.Mapping[str, t.Any]) -> Act:
    """Check the arguments of the module and say what will act. Raises BadInputError."""
    _environment.check_path(params["instance"]["path"])
    if params["state"] == "absent" and not (params["release"]["id"] or params["release"]["version"]):
        return _Gone(params)
    release = Release.from_args(params["release"])
    if params["state"] == "active":
        return _Active(release, _instance.Instance.from_args(params["instance"]))
    if params["state"] == "present":
        return _Present(release, params["instance"]["path"], params["job"] or "fetch-" + release.id)
    return _Absent(release, params["instance"]["path"])


class _Present:
    """The release is on the host, complete; nothing that runs is touched."""

    def __init__(self, release: Release, path: str, job: str) -> None:
        self.release, self.path, self.job = release, path, job

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        there = _environment.is_complete(self.path, self.release.id)
        report.before = report.after = {"present": there}
        report.more["releases"] = _environment.complete_releases(self.path)
        if not settle(report.before, {"present": True}, terms.expect, terms.resume):
            return Verdict("pass", "artifact.present", "Release %s is on this host." % self.release.id)
        if not self.release.lock:
            raise _not_present(self.release, self.path)
        report.changed = True
        report.after = {"present": True}
        if terms.check:
            return Verdict("pass", "artifact.present", "Release %s would be installed." % self.release.id)
        try:
            seconds = _environment.build(self.release, self.path, self.job, terms.deadline, terms.resume, os.environ)
        except LifecycleError:
            # A failed build leaves the host as it was.
            report.changed, report.after = False, {"present": False}
            raise
        finally:
            report.more["releases"] = _environment.complete_releases(self.path)
        return Verdict("pass", "artifact.present", "Release %s was installed in %.0f s." % (self.release.id, seconds))


class _Absent:
    """The release is not on the host; one that is linked or that runs is refused."""

    def __init__(self, release: Release, path: str) -> None:
        self.release, self.path = release, path

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        folder = os.path.join(_environment.releases_folder(self.path), self.release.id)
        report.before = report.after = {"present": os.path.lexists(folder)}
        report.more["releases"] = _environment.complete_releases(self.path)
        if not settle(report.before, {"present": False}, terms.expect, terms.resume):
            return Verdict("pass", "artifact.absent", "Release %s is not on this host." % self.release.id)
        users = [
            name for name in sorted(os.listdir(self.path)) if _environment.linked_release(self.path, name) == self.release.id
        ]
        users += ["process %d" % pid for pid in _process.users_of(folder)]
        if users:
            raise LifecycleError(
                "Release %s is in use by %s." % (self.release.id, ", ".join(users)),
                "artifact.in_use",
                "Make another release active first.",
            )
        report.changed, report.after = True, {"present": False}
        if not terms.check:
            _environment.remove(self.path, self.release.id)
            report.more["releases"] = _environment.complete_releases(self.path)
        return Verdict(
            "pass", "artifact.absent", "Release %s %s removed." % (self.release.id, "would be" if terms.check else "was")
        )


class _Active:
    """The instance runs the release, proven from its processes; the former release stays on the host."""

    def __init__(self, release: Release, instance: _instance.Instance) -> None:
        self.release, self.instance = release, instance

    def _look(self, report: Report, package: str) -> _instance.Look:
        seen = _instance.look(self.instance, package)
        report.after = dict(seen.state)
        report.more.update(
            releases=_environment.complete_releases(self.instance.path),
            link=seen.link,
            process=seen.running.facts(),
            unit=seen.unit.facts(),
            notes=seen.notes,
        )
        return seen

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        release, instance = self.release, self.instance
        complete = _environment.is_complete(instance.path, release.id)
        package = release.package or _package_of(instance.path, release.id)
        seen = self._look(report, package)
        report.before = dict(seen.state)
        if seen.refusal is not None:
            raise seen.refusal
        if not complete and not (terms.check and release.lock):
            raise _not_present(release, instance.path)
        wanted = {"release": release.id, "version": release.version, "running": True}
        to_do = settle(seen.state, wanted, terms.expect, terms.resume)
        if not to_do and seen.link == release.id and seen.unit.active == "active":
            return Verdict("pass", "artifact.active", "%s runs %s." % (instance.component, release.id))
        report.changed, report.after = True, wanted
        if terms.check:
            return Verdict("pass", "artifact.active", "%s would be switched to %s." % (instance.component, release.id))
        report.after = {}
        try:
            report.more["stop"] = _instance.stop(instance, terms.deadline)
            switched = _process.boot_clock()
            _instance.switch(instance, release)
            _instance.start(instance, release, package, terms.deadline, switched)
        finally:
            self._look(report, package)
        if report.more["stop"]["killed"]:
            report.more["notes"].append("%s did not stop by itself; systemd killed it." % instance.unit)
        return Verdict("pass", "artifact.active", "%s runs %s." % (instance.component, release.id))


class _Gone:
    """Nothing of the instance is left: not its link, and no release that nothing else uses."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        instance = params["instance"]
        self.path, self.component = instance["path"], instance["component"]
        # A token that a probe kept of it is a secret of something that is gone.
        port = _process.split_listen(instance["listen"])[1] if instance["listen"] else 0
        self.kept_by_probes = _probe.baseline_file(params["scope"], self.component, port)

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        report.before = report.after = self._look()
        if not terms.check:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.kept_by_probes)
        kept = self._kept()
        if not settle(report.before, {"release": None, "releases": kept}, terms.expect, terms.resume):
            return Verdict("pass", "artifact.absent", "There is no release of %s on this host." % self.component)
        folder = _environment.releases_folder(self.path)
        busy = [
            "process %d" % pid
            for name in report.before["releases"]
            if name not in kept
            for pid in _process.users_of(os.path.join(folder, name))
        ]
        if busy:
            raise LifecycleError("Its releases are in use by %s." % ", ".join(busy), "artifact.in_use", "Stop it first.")
        report.changed, report.after = True, {"release": None, "releases": kept}
        if not terms.check:
            if report.before["release"] is not None:
                os.unlink(os.path.join(self.path, self.component))
            for name in report.before["releases"]:
                if name not in kept:
                    _environment.remove(self.path, name)
            for empty in (folder, self.path):
                with contextlib.suppress(OSError):
                    os.rmdir(empty)
            report.after = self._look()
        says = "The software of %s %s removed" % (self.component, "would be" if terms.check else "was")
        return Verdict(
            "pass",
            "artifact.absent",
            says + ("; kept, because other components use them: %s." % ", ".join(kept) if kept else "."),
        )

    def _look(self) -> dict[str, t.Any]:
        link = _environment.linked_release(self.path, self.component)
        return {"release": link, "releases": _environment.our_releases(self.path)}

    def _kept(self) -> list[str]:
        """All of them while another component is linked here: which it goes back to, or forward, is not ours to know."""
        others = os.listdir(self.path) if os.path.isdir(self.path) else []
        linked = [name for name in others if name != self.component and _environment.linked_release(self.path, name)]
        return _environment.our_releases(self.path) if linked else []


def _not_present(release: Release, path: str) -> LifecycleError:
    return LifecycleError(
        "Release %s is not on this host (below %s/releases), or not complete." % (release.id, path),
        "artifact.not_present",
        "Fetch it first (state present, with its version and its lock).",
    )


def _package_of(path: str, identifier: str) -> str:
    """The project that an installed release is, from its marker."""
    try:
        with open(os.path.join(_environment.releases_folder(path), identifier, _environment.MARKER), encoding="utf-8") as handle:
            return str(json.load(handle)["package"])
    except (OSError, ValueError, KeyError):
        raise BadInputError(
            "release.package is needed: release %s is not on this host to say it." % identifier, "artifact.release"
        ) from None

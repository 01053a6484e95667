# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The states of the driver artifact_source: present, active, halted, absent."""

from __future__ import annotations

import json
import os
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _adopted, _environment, _instance, _process, _systemd
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._halt import Halted
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Act, Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._release import Release
from ansible_collections.osops.lifecycle.plugins.module_utils._removal import Gone, Keep
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
    adopt = params["instance"].get("adopt") or ""
    if adopt:
        _adopted.check_prefix(adopt, params["instance"]["path"])
    keep, all_of_them = params.get("keep"), not (params["release"]["id"] or params["release"]["version"])
    if keep is not None and (params["state"] != "absent" or not all_of_them):
        raise BadInputError(
            "keep is given, but not for the releases of an instance.",
            "input.keep",
            "It belongs to state absent without a release.",
        )
    if params["state"] == "absent" and all_of_them:
        return Gone(params) if keep is None else Keep(params)
    if params["state"] == "halted":
        return Halted(_instance.Instance.from_args(params["instance"]), params["release"]["package"] or "")
    release = Release.from_args(params["release"], bool(adopt))
    if params["state"] == "active":
        return _Active(release, _instance.Instance.from_args(params["instance"]))
    if params["state"] == "present":
        return _Present(release, params["instance"]["path"], params["job"] or "fetch-" + release.id, adopt)
    return _Absent(release, params["instance"]["path"], adopt)


class _Present:
    """The release is on the host, complete; nothing that runs is touched."""

    def __init__(self, release: Release, path: str, job: str, adopt: str) -> None:
        self.release, self.path, self.job, self.adopt = release, path, job, adopt

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        there = bool(self.release.id) and _environment.is_complete(self.path, self.release.id)
        report.before = report.after = {"present": there}
        report.more["releases"] = _environment.complete_releases(self.path)
        if self.adopt and not there:
            foreign = _adopted.Foreign.look(self.adopt)
            self.release = foreign.wanted(self.release)
            report.before = report.after = {"present": foreign.has_id(self.release.id)}
        if not settle(report.before, {"present": True}, terms.expect, terms.resume):
            return Verdict("pass", "artifact.present", "Release %s is on this host." % self.release.id)
        if not self.release.lock:
            raise _not_present(self.release, self.path, self.adopt)
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

    def __init__(self, release: Release, path: str, adopt: str) -> None:
        self.release, self.path, self.adopt = release, path, adopt

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        report.more["releases"] = _environment.complete_releases(self.path)
        if self.adopt:
            foreign = _adopted.Foreign.look(self.adopt)
            self.release = foreign.wanted(self.release)
            if foreign.has_id(self.release.id):
                report.before = report.after = {"present": True}
                raise LifecycleError(
                    "Release %s is what %s holds." % (self.release.id, self.adopt),
                    "artifact.in_use",
                    "Only the tool that made it may remove it.",
                )
        folder = os.path.join(_environment.releases_folder(self.path), self.release.id)
        report.before = report.after = {"present": os.path.lexists(folder)}
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
        if seen.adopted is not None:
            report.more["adopted"] = seen.adopted.facts(package)
        return seen

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        instance = self.instance
        package = self.release.package or _package_of(instance.path, self.release.id)
        seen = self._look(report, package)
        report.before = dict(seen.state)
        release, theirs = self._wanted(seen, terms)
        wanted = {"release": release.id, "version": release.version, "running": True}
        to_do = settle(seen.state, wanted, terms.expect, terms.resume)
        runs = not to_do and seen.unit.active == "active"
        if runs and _is_settled(instance, seen, release, theirs):
            return Verdict("pass", "artifact.active", "%s runs %s." % (instance.component, release.id))
        report.changed, report.after = True, wanted
        if terms.check:
            return Verdict("pass", "artifact.active", "%s would be switched to %s." % (instance.component, release.id))
        report.after = {}
        try:
            if seen.adopted is not None and seen.unit.needs_reload:
                # What is rewritten is what counts from now on.
                _systemd.reload(terms.deadline.remaining())
                seen = self._look(report, package)
                self._wanted(seen, terms)
            if runs and theirs:
                # It runs what it is to run, and what is left of ours can go without a restart.
                _instance.give_back(instance, seen, terms.deadline)
            else:
                self._switch(seen, release, theirs, package, terms, report)
        finally:
            self._look(report, package)
        if report.more.get("stop", {}).get("killed"):
            report.more["notes"].append("%s did not stop by itself; systemd killed it." % instance.unit)
        return Verdict("pass", "artifact.active", "%s runs %s." % (instance.component, release.id))

    def _wanted(self, seen: _instance.Look, terms: Terms) -> tuple[Release, bool]:
        """The release, and whether it is the adopted one. Raises LifecycleError when it cannot become active."""
        release, adopted = self.release, seen.adopted
        if seen.refusal is not None:
            raise seen.refusal
        if adopted is not None and adopted.foreign is not None:
            release = adopted.foreign.wanted(release)
            if adopted.foreign.has_id(release.id):
                return release, True
        folder = os.path.join(_environment.releases_folder(self.instance.path), release.id)
        complete = _environment.is_complete(self.instance.path, release.id)
        if not complete and not (terms.check and release.lock):
            raise _not_present(release, self.instance.path, self.instance.adopt)
        if adopted is not None:
            adopted.check(release.id, folder if complete else "")
        return release, False

    def _switch(self, seen: _instance.Look, release: Release, theirs: bool, package: str, terms: Terms, report: Report) -> None:
        instance, adopted = self.instance, seen.adopted
        if terms.resume and seen.unit.active == "activating" and _is_settled(instance, seen, release, theirs):
            # Cut while it started. A program that still loads hears no stop, and systemd would wait for all of its time-out.
            _instance.start(instance, release, package, terms.deadline, 0.0, instance.adopt if theirs else "")
            return
        report.more["stop"] = _instance.stop(instance, terms.deadline)
        switched = _process.boot_clock()
        if theirs:
            _instance.give_back(instance, seen, terms.deadline)
        else:
            back = adopted.foreign.id(package) if adopted is not None and adopted.foreign is not None else None
            _instance.switch(instance, release, back or "")
            if adopted is not None and adopted.take(seen.unit):
                _systemd.reload(terms.deadline.remaining())
        _instance.start(instance, release, package, terms.deadline, switched, instance.adopt if theirs else "")


def _is_settled(instance: _instance.Instance, seen: _instance.Look, release: Release, theirs: bool) -> bool:
    """True when the next start would be of the release that runs, too."""
    adopted = seen.adopted
    if theirs and adopted is not None:
        return adopted.is_left(seen.unit) and not _environment.has_traces(instance.path, instance.component)
    return seen.link == release.id and (adopted is None or adopted.is_in_place(seen.unit))


def _not_present(release: Release, path: str, adopt: str = "") -> LifecycleError:
    return LifecycleError(
        "Release %s is not on this host (below %s/releases%s), or not complete."
        % (release.id, path, " or in %s" % adopt if adopt else ""),
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

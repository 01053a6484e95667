# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The state absent of the driver artifact_source without a release: all of an instance, or all but the newest releases."""

from __future__ import annotations

import contextlib
import os
import shutil
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import (
    _adopted,
    _environment,
    _instance,
    _probe,
    _process,
    _systemd,
)
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict


def _settle(seen: dict[str, t.Any], wanted: dict[str, t.Any], terms: Terms) -> bool:
    """Compare and set, for a list that shrinks: a removal that was cut left something between all and what stays."""
    expected = (terms.expect or {}).get("releases")
    if terms.resume and isinstance(expected, list) and set(wanted["releases"]) < set(seen["releases"]) <= set(expected):
        seen = {**seen, "releases": expected}
    return settle(seen, wanted, terms.expect, terms.resume)


class Gone:
    """Nothing of the instance is left: not its link, not its drop-in, and no release that nothing else uses."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        instance = params["instance"]
        self.path, self.component = instance["path"], _instance.check_component(instance["component"])
        # A token that a probe kept of it is a secret of something that is gone.
        port = _process.split_listen(instance["listen"])[1] if instance["listen"] else 0
        self.kept_by_probes = _probe.baseline_file(params["scope"], self.component, port)
        unit = instance.get("unit")
        self.drop_in = _adopted.drop_in_of(_systemd.check_name(unit), self.path, self.component) if unit else None

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        report.before = report.after = self._look()
        if not terms.check:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.kept_by_probes)
        kept = self._kept()
        wanted = {"release": None, "releases": kept}
        if not _settle(report.before, wanted, terms) and not self._has_traces():
            return Verdict("pass", "artifact.absent", "There is no release of %s on this host." % self.component)
        busy = self._busy(kept)
        if busy:
            raise LifecycleError("Its releases are in use by %s." % ", ".join(busy), "artifact.in_use", "Stop it first.")
        report.changed, report.after = True, wanted
        if not terms.check:
            self._remove(kept)
            report.after = self._look()
        says = "The software of %s %s removed" % (self.component, "would be" if terms.check else "was")
        return Verdict(
            "pass",
            "artifact.absent",
            says + ("; kept, because other components use them: %s." % ", ".join(kept) if kept else "."),
        )

    def _remove(self, kept: list[str]) -> None:
        if self.drop_in is not None and not self.drop_in.is_clean():
            self.drop_in.remove()
            _systemd.reload()
        _environment.forget(self.path, self.component)
        for name in _environment.our_releases(self.path):
            if name not in kept:
                _environment.remove(self.path, name)
        for half in _environment.half_removed(self.path):
            shutil.rmtree(half)
        _environment.remove_place(self.path)

    def _look(self) -> dict[str, t.Any]:
        link = _environment.linked_release(self.path, self.component)
        return {"release": link, "releases": _environment.our_releases(self.path)}

    def _has_traces(self) -> bool:
        ours = self.drop_in is not None and not self.drop_in.is_clean()
        return ours or _environment.has_traces(self.path, self.component) or bool(_environment.half_removed(self.path))

    def _busy(self, kept: list[str]) -> list[str]:
        folder = _environment.releases_folder(self.path)
        going = [os.path.join(folder, name) for name in _environment.our_releases(self.path) if name not in kept]
        users = {pid for release in going for pid in _process.users_of(release)}
        if self.drop_in is not None and self.drop_in.is_ours():
            # Their unit runs on without our drop-in; one that runs from our link must be given back first.
            started = set(_systemd.processes_of(_systemd.show(self.drop_in.unit).cgroup))
            users |= started.intersection(_process.users_of(folder)) if started else set()
        return ["process %d" % pid for pid in sorted(users)]

    def _kept(self) -> list[str]:
        """All of them while another component is linked here: which it goes back to, or forward, is not ours to know."""
        others = os.listdir(self.path) if os.path.isdir(self.path) else []
        linked = [name for name in others if name != self.component and _environment.linked_release(self.path, name)]
        return _environment.our_releases(self.path) if linked else []


class Keep:
    """The newest releases stay, and every one that is in use or that a component goes back to; the others are removed."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        self.path, self.keep = params["instance"]["path"], params["keep"]
        if self.keep < 1:
            raise BadInputError("keep is %d." % self.keep, "input.keep", "Keep at least 1 release.")

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        installed = _environment.installed_at(self.path)
        report.before = report.after = {"releases": sorted(installed)}
        kept = self._kept(installed)
        going = [name for name in sorted(installed) if name not in kept]
        halves = _environment.half_removed(self.path)
        report.more.update(releases=_environment.complete_releases(self.path), kept=kept, removed=[], freed_bytes=0)
        if not _settle(report.before, {"releases": sorted(kept)}, terms) and not halves:
            return Verdict("pass", "artifact.kept", "There is no release to remove: %s." % (", ".join(sorted(kept)) or "none"))
        report.changed = True
        if terms.check:
            folders = [os.path.join(_environment.releases_folder(self.path), name) for name in going]
            report.after = {"releases": sorted(kept)}
            report.more.update(removed=going, freed_bytes=sum(map(_size, [*halves, *folders])))
            return Verdict("pass", "artifact.kept", "Releases would be removed: %s." % (", ".join(going) or "what was half gone"))
        try:
            self._remove(going, halves, report)
        finally:
            report.after = {"releases": sorted(_environment.installed_at(self.path))}
            report.more["releases"] = _environment.complete_releases(self.path)
        return Verdict("pass", "artifact.kept", "Releases were removed: %s." % (", ".join(going) or "what was half gone"))

    def _remove(self, going: list[str], halves: list[str], report: Report) -> None:
        for half in halves:
            size = _size(half)
            shutil.rmtree(half)
            report.more["freed_bytes"] += size
        for name in going:
            size = _size(os.path.join(_environment.releases_folder(self.path), name))
            _environment.remove(self.path, name)
            report.more["removed"].append(name)
            report.more["freed_bytes"] += size

    def _kept(self, installed: t.Mapping[str, float]) -> dict[str, str]:
        """What stays, and why."""
        newest = sorted(installed, key=lambda name: (installed[name], name), reverse=True)
        links = _environment.links(self.path)
        known = {name: _environment.former(self.path, name) for name in links if not name.startswith(".")}
        why = {release: "%s names it" % name for name, release in links.items()}
        for name, release in known.items():
            if release is not None:
                why.setdefault(release, "%s goes back to it" % name)
        for release in newest[: self.keep]:
            why.setdefault(release, "one of the newest")
        if not known or None in known.values():
            for release in newest[:2]:
                why.setdefault(release, "one of the newest two, and the way back is not known")
        for release in newest:
            users = [] if release in why else _process.users_of(os.path.join(_environment.releases_folder(self.path), release))
            if users:
                why[release] = "process %d uses it" % users[0]
        return {release: reason for release, reason in why.items() if release in installed}


def _size(folder: str) -> int:
    """Bytes on the disk that a removal frees: files that are hard links to others free none."""
    total = 0
    for here, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            with contextlib.suppress(FileNotFoundError):
                seen = os.lstat(os.path.join(here, name))
                total += seen.st_blocks * 512 if name in folders or seen.st_nlink == 1 else 0
    return total

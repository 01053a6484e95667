# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The state absent of artifact_package: kept versions go. Packages that are installed stay: this driver did not install them."""

from __future__ import annotations

import os
import shutil
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _environment
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._packages import dpkg, kept
from ansible_collections.osops.lifecycle.plugins.module_utils._packages.instance import Wanted
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict


def _installed(package: str) -> str:
    """The version that is installed, empty when there is none."""
    row = dpkg.packages().get(package)
    return row.version if row is not None and row.status not in ("not-installed", "config-files") else ""


class Absent:
    """One version is not kept any more. What is installed can then not be installed again, so that one is refused."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        wanted = self.wanted
        folder = kept.folder_of(wanted.path, wanted.version)
        report.before = report.after = {"present": os.path.lexists(folder)}
        report.more["releases"] = kept.versions(wanted.path)
        if not settle(report.before, {"present": False}, terms.expect, terms.resume):
            return Verdict(
                "pass", "artifact.absent", "Version %s of %s is not kept on this host." % (wanted.version, wanted.package)
            )
        if _installed(wanted.package) == wanted.version:
            raise LifecycleError(
                "Version %s of %s is installed: what is kept of it is the way back to it." % (wanted.version, wanted.package),
                "artifact.in_use",
                "Make another version active first.",
            )
        report.changed, report.after = True, {"present": False}
        if not terms.check:
            _environment.remove(wanted.path, os.path.basename(folder))
            report.more["releases"] = kept.versions(wanted.path)
        return Verdict(
            "pass", "artifact.absent", "Version %s %s removed." % (wanted.version, "would be" if terms.check else "was")
        )


class Keep:
    """The newest versions stay kept, and the installed one; without a number none stays, once the package itself is gone."""

    def __init__(self, wanted: Wanted, keep: int | None) -> None:
        if keep is not None and keep < 1:
            raise BadInputError("keep is %d." % keep, "input.keep", "Keep at least 1 release.")
        self.wanted, self.keep = wanted, keep

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        path = self.wanted.path
        at = {kept.version_of(name): when for name, when in _environment.installed_at(path).items()}
        installed = _installed(self.wanted.package)
        why: dict[str, str] = {installed: "it is installed"} if installed in at else {}
        former = _environment.former(path, self.wanted.component)
        if former is not None and kept.version_of(former) in at:
            why.setdefault(kept.version_of(former), "%s goes back to it" % self.wanted.component)
        for version in sorted(at, key=lambda each: (at[each], each), reverse=True)[: self.keep or 0]:
            why.setdefault(version, "one of the newest")
        report.before = report.after = {"releases": sorted(at)}
        if self.keep is None:
            why = {}
            report.before = report.after = {"release": installed or None, "releases": sorted(at)}
            if installed:
                raise LifecycleError(
                    "%s %s is installed on this host, and this driver did not install it." % (self.wanted.package, installed),
                    "package.not_ours",
                    "Remove it with the tool that installed it (apt), then run this again for what is kept of it.",
                )
        else:
            report.more.update(kept=why, removed=[], freed_bytes=0)
        report.more["releases"] = kept.versions(path)
        going = sorted(set(at) - set(why))
        goal = {"releases": sorted(why)}
        if not settle(report.before, goal, terms.expect, terms.resume) and not _environment.half_removed(path):
            return Verdict("pass", "artifact.kept", "There is no version to remove: %s." % (", ".join(sorted(why)) or "none"))
        report.changed, report.after = True, {**report.before, **goal}
        self._remove(going, terms, report)
        return Verdict(
            "pass",
            "artifact.kept",
            "Versions %s removed: %s." % ("would be" if terms.check else "were", ", ".join(going) or "halves"),
        )

    def _remove(self, going: t.Sequence[str], terms: Terms, report: Report) -> None:
        path = self.wanted.path
        for version in going:
            size = sum(
                os.lstat(os.path.join(here, name)).st_size
                for here, _f, names in os.walk(kept.folder_of(path, version))
                for name in names
            )
            if not terms.check:
                _environment.remove(path, kept.folder_name(version))
            if self.keep is not None:
                report.more["removed"].append(version)
                report.more["freed_bytes"] += size
        if not terms.check:
            for half in _environment.half_removed(path):
                shutil.rmtree(half)
            if self.keep is None:
                _environment.forget(path, self.wanted.component)
            _environment.remove_place(path)
            report.more["releases"] = kept.versions(path)

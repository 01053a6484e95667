# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The state present of artifact_package: a version is kept on the host, and so is the one that is installed."""

from __future__ import annotations

import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._packages import archive, dpkg, kept
from ansible_collections.osops.lifecycle.plugins.module_utils._packages.instance import Wanted
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict


class Present:
    """All packages of the version are on the host, and all of the way back; nothing is installed."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        wanted = self.wanted
        if not terms.check:
            kept.wait_for_others(wanted.path, terms.deadline)
        known = dpkg.packages()
        main = known.get(wanted.package)
        if main is None or main.status in ("not-installed", "config-files"):
            raise BadInputError(
                "The package %s is not installed on this host, and this driver changes only what is." % wanted.package,
                "package.not_installed",
                "Install it first, or correct release.package.",
            )
        rows = dpkg.moving_together(main.name, known)
        there = kept.packages_of(wanted.path, wanted.version)
        present = {row.name for row in rows} <= set(there)
        needed = {row.name for row in rows} | {name for name in there if name in known}
        back = wanted.version == main.version or self._is_kept(main, needed, known)
        report.before = report.after = {"present": present and back}
        report.more.update(releases=kept.versions(wanted.path), packages={row.name: row.version for row in rows})
        if not settle(report.before, {"present": True}, terms.expect, terms.resume):
            return Verdict("pass", "artifact.present", "Version %s of %s is on this host." % (wanted.version, main.name))
        dpkg.refuse_unusable([*rows, *(known[name] for name in wanted.also if name in known)], known)
        report.changed, report.after = True, {"present": True}
        if terms.check:
            offered = wanted.version in {offer.version for offer in archive.offers(main.name)}
            says = "" if present or offered else " (the lists of this host do not know it yet; they are fetched first)"
            return Verdict("pass", "artifact.present", "Version %s of %s would be fetched%s." % (wanted.version, main.name, says))
        report.changed, report.after = False, dict(report.before)
        if not present:
            going = self._moving(main, rows, known, terms)
            needed |= set(going)
            kept.keep(wanted.path, wanted.version, main.name, going, {}, terms.deadline)
            report.changed = True
        if main.version != wanted.version and not self._is_kept(main, needed, known):
            self._keep_installed(main, [known[name] for name in sorted(needed)], terms)
            report.changed = True
        report.after = {"present": True}
        report.more["releases"] = kept.versions(wanted.path)
        return Verdict(
            "pass", "artifact.present", "Version %s of %s was fetched, and so was %s." % (wanted.version, main.name, main.version)
        )

    def _is_kept(self, main: dpkg.Package, names: t.Iterable[str], known: t.Mapping[str, dpkg.Package]) -> bool:
        """Whether all of these are kept as they are installed."""
        there = kept.packages_of(self.wanted.path, main.version)
        return all(there.get(name) == known[name].version for name in names)

    def _moving(
        self, main: dpkg.Package, rows: t.Sequence[dpkg.Package], known: t.Mapping[str, dpkg.Package], terms: Terms
    ) -> dict[str, archive.Offer]:
        """The packages that move together, each in its version. Raises LifecycleError when more would move than is allowed."""
        version = self.wanted.version
        chosen = self._offer(main.name, version)
        if chosen is None:
            archive.update(terms.deadline)
            chosen = self._offer(main.name, version)
        if chosen is None:
            known_versions = ", ".join(offer.version for offer in archive.offers(main.name)) or "none"
            raise BadInputError(
                "No archive of this host offers %s %s." % (main.name, version),
                "package.version",
                "Offered are: %s." % known_versions,
            )
        going = {}
        for row in rows:
            same = [
                each
                for each in archive.offers(row.name)
                if (each.source, each.source_version) == (chosen.source, chosen.source_version)
            ]
            if not same:
                raise LifecycleError(
                    "%s is installed, and no archive offers it in version %s, with which %s would move."
                    % (row.name, chosen.source_version, main.name),
                    "package.vanished",
                    "Remove it first if nothing needs it.",
                )
            going[row.name] = same[0]
        acts = archive.simulate({name: offer.version for name, offer in going.items()})
        for name, (act, new) in sorted(acts.items()):
            if name in going:
                continue
            installed = name in known and known[name].installed
            if act == "Remv" or not installed or name not in self.wanted.also:
                raise _more_would_move(main.name, version, act, name, new, installed)
            found = next((offer for offer in archive.offers(name) if offer.version == new), None)
            if found is None:
                raise BadInputError("No archive of this host offers %s %s." % (name, new), "package.version")
            going[name] = found
        return going

    @staticmethod
    def _offer(name: str, version: str) -> archive.Offer | None:
        return next((offer for offer in archive.offers(name) if offer.version == version), None)

    def _keep_installed(self, main: dpkg.Package, rows: t.Sequence[dpkg.Package], terms: Terms) -> None:
        """Keep what is installed: from an archive that still offers it, otherwise from apt's cache. Raises when neither has it."""
        offered = {row.name: offer for row in rows for offer in archive.offers(row.name) if offer.version == row.version}
        others = {row.name: row for row in rows if row.name not in offered}
        kept.keep(self.wanted.path, main.version, main.name, offered, others, terms.deadline)


def _more_would_move(main: str, version: str, act: str, name: str, new: str, installed: bool) -> LifecycleError:
    what = "remove %s" % name if act == "Remv" else "move %s to %s" % (name, new) if installed else "install %s" % name
    hint = "See what else needs it. When it may move with %s, name it in release.packages." % main
    if not installed or act == "Remv":
        hint = "Do that by hand first, when nothing else needs it as it is: the way back could not undo it."
    return LifecycleError("%s %s would also %s, which others on this host may use." % (main, version, what), "package.more", hint)

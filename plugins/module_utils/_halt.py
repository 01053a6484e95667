# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The state halted of an artifact driver: the process ends, and what it was started from stays as it is."""

from __future__ import annotations

from ansible_collections.osops.lifecycle.plugins.module_utils import _instance
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict


class Halted:
    """The unit is stopped and its port is free; release, link and unit are not touched, so the next ``active`` starts it again."""

    def __init__(self, instance: _instance.Instance, package: str) -> None:
        self.instance, self.package = instance, package

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        seen = self._look(report)
        report.before = dict(seen.state)
        if seen.refusal is not None:
            raise seen.refusal
        wanted = {"running": False}
        if not settle(seen.state, wanted, terms.expect, terms.resume) and seen.unit.stopped:
            return Verdict("pass", "artifact.halted", "%s does not run." % self.instance.component)
        report.changed, report.after = True, {**seen.state, "version": None, "running": False}
        if terms.check:
            return Verdict("pass", "artifact.halted", "%s would be stopped." % self.instance.component)
        report.after = {}
        try:
            report.more["stop"] = _instance.stop(self.instance, terms.deadline)
        finally:
            self._look(report)
        return Verdict("pass", "artifact.halted", "%s was stopped." % self.instance.component)

    def _look(self, report: Report) -> _instance.Look:
        seen = _instance.look(self.instance, self.package)
        report.after = dict(seen.state)
        report.more.update(link=seen.link, process=seen.running.facts(), unit=seen.unit.facts(), notes=seen.notes)
        return seen

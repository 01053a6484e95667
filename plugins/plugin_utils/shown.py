# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbook status reads: the newest runs of a cloud, and nothing of the others."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import doors, overview, record

NEWEST = 5
FORMATS = ("table", "json")


def answer(given: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The result of the door: the status as lines and as a document. Writes nothing anywhere."""
    settings = doors.Settings.read(given)
    form, newest = _asked(given)
    cloud = record.cloud_of(settings.record)
    shown: list[overview.Shown] = []
    now, store = time.time(), doors.watched(settings.store)
    if store is not None:
        for run in store.runs(cloud, settings.services, newest):
            made, back, entries = store.plan(run.id), store.back(run.id), store.entries(run.id)
            shown.append(overview.Shown(run, made, back, entries, doors.alive(run, now)))
    told = overview.document(cloud, shown, now)
    lines = overview.lines(told) if store is not None else ["no run has been made with this store"]
    return {"changed": False, "format": form, "status": told, "lines": lines}


def _asked(given: t.Mapping[str, t.Any]) -> tuple[str, int]:
    form = str(given.get("osops_format") or FORMATS[0]).strip().lower()
    if form not in FORMATS:
        raise BadInputError("osops_format is %s; it can be %s." % (form, " or ".join(FORMATS)), "input.format")
    asked = str(given.get("osops_runs", NEWEST)).strip()
    if not asked.isascii() or not asked.isdigit() or not 1 <= int(asked) <= 1000:
        raise BadInputError("osops_runs is %s; it must be a number from 1 to 1000." % asked, "input.runs")
    return form, int(asked)

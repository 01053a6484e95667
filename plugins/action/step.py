# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Door: step. The only line of a playbook at which a run does something to a host."""

from __future__ import annotations

import os
import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import _door, journaled, model
from ansible_collections.osops.lifecycle.plugins.plugin_utils.doors import Settings
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store

LATE_S = 30
"""Seconds beyond a step's own deadline that its driver has to say so itself."""


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp: t.Any = None, task_vars: t.Any = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        playbook = os.getppid()
        _spec, args = self.validate_argument_spec({"do": {"required": True}})
        key = task_vars["osops_key"]

        def act(step: model.Step, arguments: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any]:
            resolved = _door.with_secrets(arguments, step.host, task_vars)
            return _door.call(self, step.module, resolved, task_vars, step.deadline_s + LATE_S)

        try:
            store = Store(Settings.read(task_vars).store)
            outcome = journaled.perform(
                store, key["run"], key["token"], key["way"], task_vars["inventory_hostname"], args["do"], act
            )
        except LifecycleError as exc:
            return _door.told(_door.failure(exc), playbook)
        result = {"changed": outcome.changed, "msg": outcome.message, "outcome": outcome.kind, "verdict": outcome.verdict}
        if outcome.kind in ("skipped", "refused"):
            return _door.told({**result, "skipped": True, "skip_reason": outcome.message}, playbook)
        diff = {"diff": outcome.diff} if outcome.diff and self._task.diff else {}
        return _door.told({**result, **diff, "failed": outcome.kind in ("failed", "unknown")}, playbook)

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Door: gate. The question at the head of each batch."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import _door, doors
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: t.Any = None, task_vars: t.Any = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        self.validate_argument_spec({})
        try:
            key = task_vars["osops_key"]
            answer = doors.gate(Store(doors.Settings.read(task_vars).store), key["run"], key["token"], key["way"])
            return {"changed": False, "go": answer.go, "msg": answer.reason or "go"}
        except LifecycleError as exc:
            return {**_door.failure(exc), "go": False}

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Door: look. Asks one host what the plan wants to know, each driver in check mode; silence is an answer too."""

from __future__ import annotations

import os
import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import _door

LOOK_S = 90


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp: t.Any = None, task_vars: t.Any = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        playbook = os.getppid()
        self._task.check_mode = True
        answers: dict[str, t.Any] = {}
        unreachable = ""
        for question in _door.questions(task_vars):
            if unreachable:
                answers[question["key"]] = {"failed": True, "msg": unreachable}
                continue
            try:
                args = _door.with_secrets(question["args"], task_vars["inventory_hostname"], task_vars)
                answers[question["key"]] = _door.call(self, question["module"], args, task_vars, LOOK_S)
            except LifecycleError as exc:
                answers[question["key"]] = {"failed": True, "msg": exc.msg}
                unreachable = exc.msg if exc.code == "unreachable" else ""
        return _door.told({"changed": False, "answers": answers}, playbook)

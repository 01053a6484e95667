# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Door: decide. Reads the record, says which hosts are asked what, and turns their answers into a plan on paper."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import _door, status
from ansible_collections.osops.lifecycle.plugins.plugin_utils.doors import Call, Settings


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: t.Any = None, task_vars: t.Any = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        _spec, args = self.validate_argument_spec(
            {"state": {"choices": ["guarded", "asked", "planned"], "default": "planned"}, "verb": {"default": "upgrade"}}
        )
        try:
            if args["state"] == "guarded":
                return _door.guard(task_vars)
            call = Call.make(args["verb"], *_door.given(task_vars))
            if args["state"] == "asked":
                Settings.read(task_vars)
                questions = call.questions()
                _door.secrets_are_set(questions, call.record, task_vars)
                return {"changed": False, "hosts": sorted(questions), "questions": questions}
            made = call.plan(_door.answers(task_vars))
            return {"changed": False, "refused": bool(made.refusals), "lines": status.on_paper(made), "plan": _door.summary(made)}
        except LifecycleError as exc:
            return _door.failure(exc)

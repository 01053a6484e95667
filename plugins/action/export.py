# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Door: export. Says which hosts are asked what, asks them, and makes the draft of a record from their answers."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.osops.lifecycle.plugins.action.look import ActionModule as Look
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import _door, exported


class ActionModule(Look):
    TRANSFERS_FILES = False

    def run(self, tmp: t.Any = None, task_vars: t.Any = None) -> dict[str, t.Any]:
        _spec, args = self.validate_argument_spec(
            {"state": {"choices": ["asked", "looked", "drafted", "written"], "default": "drafted"}}
        )
        if args["state"] == "looked":
            return super().run(tmp, task_vars)
        ActionBase.run(self, tmp, task_vars)
        try:
            given, groups, address = _door.given(task_vars)
            export = exported.Export.read(given, groups)
            if args["state"] == "asked":
                questions = export.questions()
                return {"changed": False, "hosts": sorted(questions), "questions": questions}
            made = export.draft(address, _door.answers(task_vars))
            if args["state"] == "written":
                return {"changed": export.write(made, self._task.check_mode), "path": str(export.target or "")}
            return {
                "changed": False, "lines": exported.lines(made), "record": made.record,
                "notes": made.notes, "refusals": made.refusals, "refused": bool(made.refusals),
            }  # fmt: skip
        except LifecycleError as exc:
            return _door.failure(exc)

    def _execute_module(self, *args: t.Any, **named: t.Any) -> dict[str, t.Any]:
        """What an info module tells is its whole verdict; drivers bring one of their own."""
        answer: dict[str, t.Any] = super()._execute_module(*args, **named)
        if not answer.get("failed") and not answer.get("unreachable"):
            answer.setdefault("verdict", {"outcome": "pass", "code": "info"})
        return answer

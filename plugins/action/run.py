# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Door: run. Opens, turns, closes and steers runs; all of it on the control node."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import _door, doors, shown
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store

STATES = ["opened", "back", "closed", "paused", "cancelled", "shown"]


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: t.Any = None, task_vars: t.Any = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        _spec, args = self.validate_argument_spec(
            {
                "state": {"choices": STATES, "required": True},
                "verb": {"default": "upgrade"},
                "run": {"default": ""},
                "token": {"type": "int", "default": 0},
            }
        )
        settings = None
        try:
            settings = doors.Settings.read(task_vars)
            if args["state"] == "opened":
                return _door.opened(args["verb"], task_vars, check_mode=self._task.check_mode)
            if args["state"] == "shown":
                return shown.answer(task_vars)
            if args["state"] in ("paused", "cancelled"):
                return _door.steered(args["state"], task_vars, self._task.check_mode)
            if not args["run"]:
                return _door.nothing_opened()
            store = Store(settings.store)
            if args["state"] == "back":
                return {"changed": False, **doors.go_back(store, args["run"], args["token"])}
            return _door.closed(*doors.close(store, args["run"], args["token"]), args["verb"])
        except LifecycleError as exc:
            return _door.failure(exc)

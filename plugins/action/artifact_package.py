# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The driver artifact_package: ansible.builtin.apt moves the packages, between the two halves of our own module."""

from __future__ import annotations

import os
import time
import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.osops.lifecycle.plugins.plugin_utils import halves

MODULE = "osops.lifecycle.artifact_package"
DEADLINE_S = 120
"""That of the module (doc fragment driver)."""


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp: t.Any = None, task_vars: t.Any = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        playbook = os.getppid()
        args = dict(self._task.args)
        end = time.monotonic() + int(args.get("deadline") or DEADLINE_S)

        def ours(**more: t.Any) -> dict[str, t.Any]:
            _unless_alone(playbook)
            left = max(1, round(end - time.monotonic()))
            return dict(
                self._execute_module(module_name=MODULE, module_args={**args, "deadline": left, **more}, task_vars=task_vars)
            )

        begun = ours()
        if "apt" not in begun:
            return begun
        _unless_alone(playbook)
        failed = self._apt(begun["apt"], task_vars)
        if not failed:
            return halves.whole(begun, ours(stage="finish", expect=None))
        # What was there is put back by the same way. It has the time that it needs: half of it would be worse than late.
        end = max(end, time.monotonic() + DEADLINE_S)
        former = {**args["release"], "version": begun["before"]["release"], "id": None}
        ran = begun["before"]["running"]
        # apt may have failed before it did anything; what had not run before is not started for that.
        back = {"failed": True} if ran else ours(release=former, stage="settle", expect=None)
        if back.get("failed"):
            back = halves.UNKNOWN if former["version"] is None else ours(release=former, expect=None, resume=True)
        if "apt" in back:
            _unless_alone(playbook)
            again = self._apt(back["apt"], task_vars)
            stage = "finish" if ran else "settle"
            back = {"failed": True, "msg": again} if again else ours(release=former, stage=stage, expect=None)
        return halves.whole(begun, {**back, **halves.why(failed, back, ran), "changed": bool(back.get("failed"))})

    def _apt(self, asked: dict[str, t.Any], task_vars: t.Any) -> str:
        """Let apt do it with nothing but what is kept; returns why it failed, empty when it did not."""
        environment = self._task.environment
        self._task.environment = [*(environment or []), asked["environment"]]
        try:
            done = self._execute_module(module_name="ansible.builtin.apt", module_args=asked["arguments"], task_vars=task_vars)
        finally:
            self._task.environment = environment
        return halves.failure(done)


def _unless_alone(playbook: int) -> None:
    """End here when the playbook was killed: a worker of ansible-core outlives it, and whoever goes on must find nobody at work."""
    if os.getppid() != playbook:
        os._exit(1)

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes down every host-task of a playbook: [play, task, action, host], in the file that OSOPS_DUMMY_COUNT names."""

from __future__ import annotations

import json
import os
import typing as t

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: count
type: notification
short_description: Write down every host-task of a playbook
description: For tests of the budget. The file is named by the environment variable OSOPS_DUMMY_COUNT.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "osops_test.dummy.count"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.play = ""
        self.tasks: list[list[str]] = []

    def v2_playbook_on_play_start(self, play: t.Any) -> None:
        self.play = play.get_name()

    def _note(self, result: t.Any, **_more: t.Any) -> None:
        self.tasks.append([self.play, result._task.get_name(), result._task.action, result._host.get_name()])

    v2_runner_on_ok = v2_runner_on_failed = v2_runner_on_skipped = v2_runner_on_unreachable = _note

    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        with open(os.environ["OSOPS_DUMMY_COUNT"], "w", encoding="utf-8") as handle:
            json.dump(self.tasks, handle)

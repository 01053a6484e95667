#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Documentation only: what it does is in plugins/action/step.py, on the control node.

from __future__ import annotations

DOCUMENTATION = r"""
module: step
short_description: Carry out one step of a run, and write down what came of it
version_added: 1.0.0
description:
  - Takes a step of the plan for this target, writes into the journal what it is about to do, runs the driver, and writes what was seen.
  - A step whose conditions do not hold is not begun, and one that the plan does not have for this target is skipped.
  - This is a part of the playbooks of this collection, not meant for tasks of your own. Its options can change with any release.
options:
  do:
    description: Name of the step, one of the step words of C(data/lifecycle.yml).
    type: str
    choices: [fetch, drain, confirm, halt, restore, install, init, change, repair, revert, purge, remove, test, admit]
    required: true
extends_documentation_fragment:
  - osops.lifecycle.attributes
attributes:
  check_mode:
    support: none
    details: A run in check mode ends before its first step.
  diff_mode:
    support: full
    details: Returns what the driver says was there before and after.
  idempotent:
    support: full
    details: A step that is done is not done again.
seealso:
  - module: osops.lifecycle.gate
  - module: osops.lifecycle.run
author:
  - the osops.lifecycle authors (@osops)
"""

EXAMPLES = r"""
- name: Take the servers of this batch out of traffic
  osops.lifecycle.step:
    do: drain
"""

RETURN = r"""
outcome:
  description: What became of the step, V(done), V(failed), V(unknown), V(refused) or V(skipped).
  returned: always
  type: str
  sample: done
msg:
  description: The same in a sentence.
  returned: always
  type: str
  sample: "keystone-api@ctl1/switch: done"
verdict:
  description: What the driver concluded, with its C(outcome), C(code), C(reason), C(hint) and C(evidence).
  returned: when the driver ran
  type: dict
  sample: {"outcome": "pass", "code": "artifact.active", "reason": "", "hint": "", "evidence": {}}
code:
  description: A stable word for the reason, such as V(input.switch).
  returned: failure
  type: str
  sample: run.busy
hint:
  description: What to do about it.
  returned: failure
  type: str
  sample: Wait for it, or look at its status.
"""

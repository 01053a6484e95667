#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Documentation only: what it does is in plugins/action/run.py, on the control node.

from __future__ import annotations

DOCUMENTATION = r"""
module: run
short_description: Open, turn, close and steer a run
version_added: 1.0.0
description:
  - Opens a run in the run store, or goes on with the one that was cut. Turns it to the way back where a step failed, and closes it.
  - Pauses and cancels a run that is going on, and shows what has been done.
  - This is a part of the playbooks of this collection, not meant for tasks of your own. Its options can change with any release.
options:
  state:
    description:
      - V(opened) makes the plan and opens the run, or takes up the one that was cut.
      - V(back) lists the targets of the way back, which are none when nothing failed.
      - V(closed) gives the run the state it ends in. The task fails unless that is what O(verb) asked for, or a pause.
      - V(paused) and V(cancelled) take effect before the next batch.
      - V(shown) returns the newest runs, and how many instances run which version. The variables C(osops_runs) and C(osops_format) say
        how many runs, and which of RV(lines) and RV(status) the playbook shows.
    type: str
    choices: [opened, back, closed, paused, cancelled, shown]
    required: true
  verb:
    description: What the run is to do, as the playbooks are called.
    type: str
    default: upgrade
  run:
    description: Id of the run, as O(state=opened) returned it in RV(run).
    type: str
    default: ""
  token:
    description: Fencing token of the run, as O(state=opened) returned it in RV(token).
    type: int
    default: 0
extends_documentation_fragment:
  - osops.lifecycle.attributes
attributes:
  check_mode:
    support: partial
    details: With O(state=opened) it shows the plan and opens nothing.
  diff_mode:
    support: N/A
    details: It changes no host.
  idempotent:
    support: full
    details: A run that is open, closed or asked already is left as it is.
seealso:
  - module: osops.lifecycle.plan
  - module: osops.lifecycle.gate
  - module: osops.lifecycle.step
author:
  - the osops.lifecycle authors (@osops)
"""

EXAMPLES = r"""
- name: Show the newest runs
  osops.lifecycle.run:
    state: shown
  register: osops_runs
"""

RETURN = r"""
run:
  description: Id of the run.
  returned: when O(state=opened) or O(state=closed)
  type: str
  sample: 20261120T071500-1a2b
token:
  description: Fencing token of the run.
  returned: when O(state=opened)
  type: int
  sample: 7
targets:
  description: What becomes a host of the next play, in the order of the plan.
  returned: when O(state=opened) or O(state=back)
  type: list
  elements: dict
  sample: []
serial:
  description: The sizes of the batches.
  returned: when O(state=opened) or O(state=back)
  type: list
  elements: int
  sample: [1, 3, 4]
state:
  description: The state in which the run ended.
  returned: when O(state=closed)
  type: str
  sample: succeeded
lines:
  description: The plan, the last lines of a run, or its history, for people.
  returned: when not O(state=back)
  type: list
  elements: str
  sample: ["keystone runs 29.0.2 on 3 of 3 hosts"]
status:
  description: The newest runs of the cloud, and its components with the number of instances of each version; see C(data/schemas/status.json).
  returned: when O(state=shown)
  type: dict
  sample: {"cloud": "rig", "at": "2026-11-20T10:15:52Z", "runs": [], "components": []}
format:
  description: What C(osops_format) asked for, V(table) or V(json).
  returned: when O(state=shown)
  type: str
  sample: table
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

#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Documentation only: what it does is in plugins/action/plan.py, on the control node.

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Turn the record and what was seen into a plan
version_added: 1.0.0
description:
  - Reads the deployment record, says which hosts have to be asked what, and makes a plan of the answers. Nothing is written anywhere.
  - This is a part of the playbooks of this collection, not meant for tasks of your own. Its options can change with any release.
options:
  state:
    description:
      - V(guarded) refuses switches of ansible-playbook that would leave out parts of a run silently, such as C(--limit).
      - V(asked) returns the hosts to look at, and what they are asked.
      - V(planned) returns the plan.
    type: str
    choices: [guarded, asked, planned]
    default: planned
  verb:
    description: What the run is to do, as the playbooks are called.
    type: str
    default: upgrade
extends_documentation_fragment:
  - osops.lifecycle.attributes
attributes:
  check_mode:
    support: full
    details: It only reads, in check mode as well.
  diff_mode:
    support: N/A
    details: It changes no host.
  idempotent:
    support: full
    details: It only reads, in check mode as well.
seealso:
  - module: osops.lifecycle.look
  - module: osops.lifecycle.run
author:
  - the osops.lifecycle authors (@osops)
"""

EXAMPLES = r"""
- name: Show what an upgrade would do
  osops.lifecycle.plan:
    state: planned
    verb: upgrade
  register: osops_plan
"""

RETURN = r"""
hosts:
  description: The hosts to look at.
  returned: when O(state=asked)
  type: list
  elements: str
  sample: [ctl1, lb1]
questions:
  description: What each host is asked.
  returned: when O(state=asked)
  type: dict
  sample: {}
lines:
  description: The plan for people.
  returned: when O(state=planned)
  type: list
  elements: str
  sample: ["keystone: 27.0.1 -> 29.0.2"]
refused:
  description: Whether the plan cannot be carried out. The lines say why.
  returned: when O(state=planned)
  type: bool
  sample: false
plan:
  description: The plan for programs, without the arguments of its steps.
  returned: when O(state=planned)
  type: dict
  sample: {}
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

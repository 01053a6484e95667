#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Documentation only: what it does is in plugins/action/gate.py, on the control node.

from __future__ import annotations

DOCUMENTATION = r"""
module: gate
short_description: The question at the head of each batch
version_added: 1.0.0
description:
  - Asks the run store whether the next batch may begin. The answer is no when the run was paused or cancelled, when a step failed, or when
    another control node has taken the run over.
  - This is a part of the playbooks of this collection, not meant for tasks of your own. Its options can change with any release.
options: {}
extends_documentation_fragment:
  - osops.lifecycle.attributes
attributes:
  check_mode:
    support: none
    details: A run in check mode ends before its first batch.
  diff_mode:
    support: N/A
    details: It changes no host.
  idempotent:
    support: full
    details: Asking twice gives the same answer.
seealso:
  - module: osops.lifecycle.run
  - module: osops.lifecycle.step
author:
  - the osops.lifecycle authors (@osops)
"""

EXAMPLES = r"""
- name: Ask whether this batch may begin
  osops.lifecycle.gate:
  register: osops_gate
"""

RETURN = r"""
go:
  description: Whether the batch may begin.
  returned: always
  type: bool
  sample: true
msg:
  description: Why it may not, or V(go).
  returned: always
  type: str
  sample: go
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

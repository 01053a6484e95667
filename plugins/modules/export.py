#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Documentation only: what it does is in plugins/action/export.py, on the control node.

from __future__ import annotations

DOCUMENTATION = r"""
module: export
short_description: Draft a deployment record from what runs
version_added: 1.0.0
description:
  - Asks hosts which services run on them, whoever deployed these, and makes the draft of a deployment record of the answers.
  - Hosts are only read. The one thing that can be written is the draft itself, on the control node, where no file is yet.
  - This is a part of the playbooks of this collection, not meant for tasks of your own. Its options can change with any release.
options:
  state:
    description:
      - V(asked) returns the hosts to look at, and what they are asked.
      - V(looked) asks the host of the task, and returns its answers.
      - V(drafted) returns the draft, complete or not.
      - V(written) fails when the draft is not complete, and otherwise writes it where C(osops_export_to) says, if anywhere.
    type: str
    choices: [asked, looked, drafted, written]
    default: drafted
extends_documentation_fragment:
  - osops.lifecycle.attributes
attributes:
  check_mode:
    support: full
    details: It only reads, but for V(written), which writes nothing in check mode.
  diff_mode:
    support: N/A
    details: It changes no host.
  idempotent:
    support: partial
    details: It only reads, but for V(written), which never writes over a file that exists.
seealso:
  - module: osops.lifecycle.service_info
  - module: osops.lifecycle.haproxy_info
  - module: osops.lifecycle.plan
author:
  - the osops.lifecycle authors (@osops)
"""

EXAMPLES = r"""
- name: Show the draft of a record
  osops.lifecycle.export:
    state: drafted
  register: osops_export
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
answers:
  description: What each module returned, by the key of the question.
  returned: when O(state=looked)
  type: dict
  sample: {}
lines:
  description: The draft as lines of YAML, with all that is to be said about it as comments on top.
  returned: when O(state=drafted)
  type: list
  elements: str
  sample: ["cloud: rig"]
record:
  description: The draft for programs, empty when there is nothing that can be drafted.
  returned: when O(state=drafted)
  type: dict
  sample: {}
notes:
  description: What a person has to know about the draft.
  returned: when O(state=drafted)
  type: list
  elements: str
  sample: []
refusals:
  description: Why the draft is not complete.
  returned: when O(state=drafted)
  type: list
  elements: str
  sample: []
refused:
  description: Whether the draft is not complete. The refusals say why.
  returned: when O(state=drafted)
  type: bool
  sample: false
path:
  description: The file that was written, or an empty text.
  returned: when O(state=written)
  type: str
  sample: cloud.yml
code:
  description: A stable word for the reason, such as V(input.group).
  returned: failure
  type: str
  sample: export.incomplete
hint:
  description: What to do about it.
  returned: failure
  type: str
  sample: Name the group of the hosts to search.
"""

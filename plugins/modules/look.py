#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Documentation only: what it does is in plugins/action/look.py, on the control node.

from __future__ import annotations

DOCUMENTATION = r"""
module: look
short_description: See what a plan wants to know of one host
version_added: 1.0.0
description:
  - Runs each driver that the record names for this host in check mode, and returns what they saw.
  - A host that does not answer is an answer too. It becomes an unknown of the plan, not a failed task.
  - This is a part of the playbooks of this collection, not meant for tasks of your own. Its options can change with any release.
options: {}
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
  - module: osops.lifecycle.plan
author:
  - the osops.lifecycle authors (@osops)
"""

EXAMPLES = r"""
- name: Look at what runs on this host
  osops.lifecycle.look:
  register: osops_seen
"""

RETURN = r"""
answers:
  description: What each driver returned, by the key of the question.
  returned: always
  type: dict
  sample: {"keystone-api@ctl1": {"before": {"release": "27.0.1-0123456789ab", "running": true}}}
"""

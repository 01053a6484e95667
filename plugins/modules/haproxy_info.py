#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: haproxy_info
short_description: See the servers, sessions and processes of an HAProxy
version_added: 1.0.0
description:
  - Reads what an HAProxy knows, through its runtime API. A socket of level user is enough.
options:
  backends:
    description: Only show these backends. When empty, all.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - osops.lifecycle.attributes
  - osops.lifecycle.attributes.info_module
  - osops.lifecycle.haproxy
seealso:
  - module: osops.lifecycle.haproxy_server
author:
  - the osops.lifecycle authors (@osops)
"""

EXAMPLES = r"""
- name: See who takes traffic
  osops.lifecycle.haproxy_info:
    backends: [keystone]
  register: balancer

- name: Fail when a server is not healthy
  ansible.builtin.assert:
    that: item.health == 'up'
  loop: "{{ balancer.servers }}"
  loop_control:
    label: "{{ item.server }}"
"""

RETURN = r"""
version:
  description: HAProxy's version.
  returned: success
  type: str
  sample: 2.6.12-1+deb12u4
level:
  description: What the socket may do, V(user), V(operator) or V(admin). M(osops.lifecycle.haproxy_server) needs V(admin).
  returned: success
  type: str
  sample: admin
worker:
  description: Process number of the worker that answered, as it numbers itself.
  returned: success
  type: int
  sample: 812
uptime:
  description: Seconds since that worker was started or reloaded.
  returned: success
  type: int
  sample: 86400
old_workers:
  description:
    - Workers that a reload has left behind (C(pids)), and how they are seen (C(seen_by)), which is V(master_socket) or V(processes).
    - C(unknown) is a sentence when they cannot be seen, otherwise empty.
  returned: success
  type: dict
  sample: {"seen_by": "master_socket", "pids": [], "unknown": ""}
backends:
  description:
    - By backend, how many servers it has, how many of them are healthy, how many carry traffic (C(available), what C(min_available) of
      M(osops.lifecycle.haproxy_server) is compared with), and the sessions on this worker.
  returned: success
  type: dict
  sample: {"keystone": {"servers": 3, "healthy": 3, "available": 2, "sessions": 4}}
servers:
  description:
    - The servers with their live figures.
    - C(health) is V(up) (the last check passed, full health), V(unchecked) (no health check), V(undecided) (takes traffic, but its last
      check failed or none has ended yet) or V(down). C(admin) is HAProxy's whole admin mask.
  returned: success
  type: list
  elements: dict
  sample:
    - server: keystone/ctl1
      address: 10.0.0.11:5000
      status: UP
      health: up
      admin: 0
      weight: 100
      initial_weight: 100
      backup: false
      follows: ""
      sessions: 2
      queued: 0
      idle_connections: 1
      old_worker_sessions: 0
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.args import BALANCER_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.balancer import Balancer
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import check_name
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.inspect import inspect
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict


def main() -> None:
    spec = dict(BALANCER_ARGS, backends={"type": "list", "elements": "str", "default": []})
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    given = module.params
    try:
        backends = [check_name(name, "backend") for name in given["backends"]]
        seen = inspect(Balancer(given["socket"], given["master_socket"], given["socket_timeout"]), backends)
    except LifecycleError as exc:
        module.fail_json(msg=" ".join(part for part in (exc.msg, exc.hint) if part), verdict=Verdict.from_error(exc).to_dict())
    module.exit_json(changed=False, **seen)


if __name__ == "__main__":
    main()

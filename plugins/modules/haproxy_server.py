#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: haproxy_server
short_description: Take servers out of HAProxy's traffic and put them back, with proof
version_added: 1.0.0
description:
  - Drains servers of an HAProxy through its runtime API, waits until no session is left on them, and puts them back to exactly what
    they were.
  - Runs on the balancer's host. With several balancers, run it on each of them, also on a passive one, because drains are not
    shared between balancers.
  - A drain is refused when a backend would keep fewer than O(min_available) healthy servers. When the drain fails later, everything that
    this call drained is put back.
  - All servers of one call are drained over one connection, in every backend that holds their address.
  - Sessions on workers that a reload of HAProxy has left behind are counted too. A drain that a reload has undone meanwhile is set again.
  - A server that has not passed its health check, or does not take a TCP connection from the balancer's host, never gets
    traffic from O(state=ready). It stays drained, and the module fails.
options:
  state:
    description:
      - V(drain) takes the servers out of traffic and waits until their sessions have ended.
      - V(ready) waits until the servers are healthy and take connections, and puts them back to what O(restore) says.
    type: str
    choices: [drain, ready]
    required: true
  servers:
    description:
      - The servers, as C(address:port). Write an IPv6 address in brackets. A host name is compared with the name that HAProxy has, and
        with the addresses that the name has on the balancer's host.
      - An address that no backend holds is an error.
    type: list
    elements: str
    required: true
  backends:
    description: Only look in these backends. When empty, in all.
    type: list
    elements: str
    default: []
  min_available:
    description:
      - How many healthy servers every backend concerned must keep. A server counts when it has passed its last health check, has
        full health, takes traffic and has a weight. One without health check counts as healthy, as HAProxy treats it. Backup servers
        count only when no other server is left, and then as one.
      - Set to V(0) to allow the last server of a backend to be drained, after which HAProxy answers every request with 503.
    type: int
    default: 1
  policy:
    description:
      - What happens to sessions that do not end by themselves, such as websockets, TCP connections, or clients that a cookie brings back.
      - V(wait) waits until O(deadline), then fails and puts back what was drained.
      - V(shutdown) waits, and shortly before O(deadline) ends what is left, also on old workers when there is a master socket.
      - V(fail) does not wait. When a session is left right after the drain, the module fails and puts back what was drained.
    type: str
    choices: [wait, shutdown, fail]
    default: wait
  restore:
    description:
      - What RV(before) of the drain was. O(state=ready) puts exactly that back, so a server that an operator had
        drained or put into maintenance before is so again.
      - A server that is not in it becomes ready with the weight of HAProxy's configuration.
    type: dict
  state_file:
    description:
      - HAProxy's C(server-state-file). When set, the file is rewritten after each change, so that a drain survives a reload, and one that
        is over does not come back. HAProxy reads it only when its configuration says C(load-server-state-from-file global).
    type: path
attributes:
  check_mode:
    support: full
    details: Checks the level of the socket and O(min_available) too, but does not wait for sessions or health.
  diff_mode:
    support: full
  idempotent:
    support: full
    details: A second drain changes nothing, but checks O(min_available) and the sessions again.
extends_documentation_fragment:
  - osops.lifecycle.attributes
  - osops.lifecycle.driver
  - osops.lifecycle.haproxy
seealso:
  - module: osops.lifecycle.haproxy_info
author:
  - the osops.lifecycle authors (@osops)
"""

EXAMPLES = r"""
- name: Restart one service node at a time without losing a request
  hosts: keystone
  serial: 1
  max_fail_percentage: 0
  tasks:
    - name: Restart this node out of traffic
      block:
        - name: Take it out of traffic on every balancer
          osops.lifecycle.haproxy_server:
            state: drain
            servers: ["{{ ansible_host }}:5000"]
          delegate_to: "{{ item }}"
          loop: "{{ groups['loadbalancers'] }}"
          register: drained

        - name: Restart the service
          ansible.builtin.service:
            name: keystone
            state: restarted
      always:
        - name: Put it back as it was, as soon as it is healthy
          osops.lifecycle.haproxy_server:
            state: ready
            servers: ["{{ ansible_host }}:5000"]
            restore: "{{ item.before }}"
          delegate_to: "{{ item.item }}"
          loop: "{{ drained.results | selectattr('before', 'defined') | selectattr('before') }}"
          loop_control:
            label: "{{ item.item }}"

- name: Take a node of Kolla out of traffic
  hosts: loadbalancers
  tasks:
    - name: Drain it, and end what is left after two minutes
      osops.lifecycle.haproxy_server:
        state: drain
        servers: ["10.0.0.11:6080"]
        socket: /var/lib/docker/volumes/haproxy_socket/_data/haproxy.sock
        policy: shutdown
        deadline: 120
"""

RETURN = r"""
before:
  description:
    - What was set before, by C(BACKEND/SERVER). Give it as O(restore) to put it back. Returned on failure too.
    - C(admin) is V(0) (ready), V(1) (maintenance) or V(8) (drained), the bits of HAProxy's admin mask that can be set.
  returned: when HAProxy was reached
  type: dict
  sample: {"keystone/ctl1": {"admin": 0, "weight": 100}}
after:
  description: The same, at the end. On failure, what is there then. In check mode, what would be.
  returned: when HAProxy was reached
  type: dict
  sample: {"keystone/ctl1": {"admin": 8, "weight": 100}}
verdict:
  description:
    - How it ended, with C(outcome) (V(pass), V(fail), V(error)), C(code), C(reason), C(hint) and C(evidence). Returned on failure too.
    - Codes of a failed drain are V(drain.floor), V(drain.sessions_left), V(drain.tunnel_open), V(drain.not_put_back), of a failed
      ready V(ready.unhealthy), V(ready.inherited), of both V(expect.foreign), and V(haproxy.level), V(haproxy.socket_missing) and others
      that begin with C(haproxy.) for a HAProxy that cannot be used.
  returned: always
  type: dict
  sample:
    outcome: pass
    code: drain.done
    reason: 1 server is drained, and no session is left.
    hint: ""
    evidence: {}
servers:
  description: The servers with their live figures, at the last look. Returned on failure too.
  returned: when HAProxy was reached
  type: list
  elements: dict
  sample:
    - server: keystone/ctl1
      address: 10.0.0.11:5000
      status: DRAIN
      health: up
      admin: 8
      weight: 100
      initial_weight: 100
      backup: false
      follows: ""
      sessions: 0
      queued: 0
      idle_connections: 1
      old_worker_sessions: 0
mended:
  description: Servers whose drain or weight was lost meanwhile, by a reload or by hand, and was set again.
  returned: always
  type: list
  elements: str
  sample: []
version:
  description: HAProxy's version.
  returned: when HAProxy was reached
  type: str
  sample: 2.6.12-1+deb12u4
worker:
  description: Process number of the worker that answered, as it numbers itself.
  returned: when HAProxy was reached
  type: int
  sample: 812
old_workers:
  description:
    - The workers that a reload has left behind (C(pids)), and how they are seen (C(seen_by)), which is V(master_socket) or V(processes).
  returned: always
  type: dict
  sample: {"seen_by": "master_socket", "pids": []}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import play
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.args import BALANCER_ARGS, TRAFFIC_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.hand import prepare


def main() -> None:
    spec = dict(DRIVER_ARGS, **BALANCER_ARGS, **TRAFFIC_ARGS, state_file={"type": "path"})
    play(AnsibleModule(argument_spec=spec, supports_check_mode=True), prepare)


if __name__ == "__main__":
    main()

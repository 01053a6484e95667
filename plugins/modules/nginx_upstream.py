#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_upstream
short_description: Take servers out of nginx's traffic and put them back, with proof
version_added: 1.0.0
description:
  - Drains servers of an open-source nginx by the word C(down) in their C(server) lines and a graceful reload, waits until nginx holds
    no connection to them, and takes exactly that word away again.
  - Every reload of nginx before 1.27.4 closes idle keep-alive connections of clients, all of them, of every site. A client that sends a
    request at that moment sees its connection end. The page C(docs/nginx.md) of the collection says how many and what helps.
  - Runs on the balancer's host. With several balancers, run it on each of them, also on a passive one.
  - A drain is refused when an upstream would keep fewer than O(min_available) servers that take connections. When the drain fails
    later, everything that this call drained is put back.
  - The new text is tried on copies (C(nginx -t)) before any file is replaced, and nginx is told only when it accepts the result. A reload
    counts when all workers that take requests were started after it.
  - A configuration that somebody else has changed and not loaded is never loaded by this module. It fails with V(nginx.pending_change).
  - A server that does not take a TCP connection from the balancer's host never gets traffic from O(state=ready).
options:
  state:
    description:
      - V(drain) takes the servers out of traffic and waits until their connections have ended.
      - V(ready) waits until the servers take connections, and puts them back to what O(restore) says.
    type: str
    choices: [drain, ready]
    required: true
  servers:
    description:
      - The servers, as C(address:port). Write an IPv6 address in brackets. A host name is compared with the name in the server line, and
        with the addresses that the name has on the balancer's host.
      - An address that no upstream holds is an error.
    type: list
    elements: str
    required: true
  backends:
    description:
      - Only look in these upstreams. When empty, in all, of C(http) and C(stream).
      - When other upstreams use the same address, the drain is proven only when all old workers of nginx have ended.
    type: list
    elements: str
    default: []
  min_available:
    description:
      - How many servers every upstream concerned must keep. A server counts when it is neither C(down) nor C(drain) and takes a TCP
        connection from the balancer's host now. Backup servers count only when no other server is left.
      - Set to V(0) to allow the last server of an upstream to be drained, after which nginx answers every request with 502.
    type: int
    default: 1
  policy:
    description:
      - What happens to connections that do not end by themselves, such as websockets, long downloads, or TCP connections.
      - V(wait) waits until O(deadline), then fails and puts back what was drained.
      - V(shutdown) waits, and shortly before O(deadline) ends the old workers that still hold connections to the servers. That also ends
        what these workers do for other servers.
      - V(fail) does not wait. When a connection is left right after the reload, the module fails and puts back what was drained.
    type: str
    choices: [wait, shutdown, fail]
    default: wait
  restore:
    description:
      - What RV(before) of the drain was. O(state=ready) puts exactly that back, so a server that an operator had set C(down) before stays so.
      - A server that is not in it gets traffic. Weights are never changed.
    type: dict
  config:
    description: nginx's main configuration file, as the running nginx was started with it.
    type: path
    default: /etc/nginx/nginx.conf
  program:
    description: The nginx program, to ask for its compiled-in paths. A configuration is tested with the program that runs.
    type: str
    default: nginx
  pid_file:
    description: The file with the master's process number. When not set, what the configuration says, or what is compiled in.
    type: path
attributes:
  check_mode:
    support: full
    details: Lets nginx test the configuration that is there (C(nginx -T)) and checks O(min_available) too, but does not wait for anything.
  diff_mode:
    support: full
    details: Shows the changed lines of the configuration, and no others.
  idempotent:
    support: full
    details: A second drain changes nothing and reloads nothing, but checks O(min_available) and the connections again.
extends_documentation_fragment:
  - osops.lifecycle.attributes
  - osops.lifecycle.driver
seealso:
  - module: osops.lifecycle.haproxy_server
author:
  - the osops.lifecycle authors (@osops)
"""

EXAMPLES = r"""
- name: Restart one service node at a time, out of traffic
  hosts: keystone
  serial: 1
  max_fail_percentage: 0
  tasks:
    - name: Restart this node out of traffic
      block:
        - name: Take it out of traffic on every balancer
          osops.lifecycle.nginx_upstream:
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
        - name: Put it back as it was, as soon as it takes connections
          osops.lifecycle.nginx_upstream:
            state: ready
            servers: ["{{ ansible_host }}:5000"]
            restore: "{{ item.before }}"
          delegate_to: "{{ item.item }}"
          loop: "{{ drained.results | selectattr('before', 'defined') | selectattr('before') }}"
          loop_control:
            label: "{{ item.item }}"

- name: Take a console proxy out of traffic
  hosts: loadbalancers
  tasks:
    - name: Drain it, and end what is left after two minutes
      osops.lifecycle.nginx_upstream:
        state: drain
        servers: ["10.0.0.11:6080"]
        backends: [novnc]
        policy: shutdown
        deadline: 120
"""

RETURN = r"""
before:
  description:
    - What was there before, by C(UPSTREAM/ADDRESS:PORT). Give it as O(restore) to put it back. Returned on failure too.
    - C(admin) is V(0) (in traffic) or V(1) (the line says C(down) or C(drain)). C(weight) is that of the line.
  returned: when the configuration was read
  type: dict
  sample: {"keystone/10.0.0.11:5000": {"admin": 0, "weight": 1}}
after:
  description: The same, at the end. On failure, what is there then. In check mode, what would be.
  returned: when the configuration was read
  type: dict
  sample: {"keystone/10.0.0.11:5000": {"admin": 1, "weight": 1}}
verdict:
  description:
    - How it ended, with C(outcome) (V(pass), V(fail), V(error)), C(code), C(reason), C(hint) and C(evidence). Returned on failure too.
    - Codes of a failed drain are V(drain.floor), V(drain.sessions_left), V(drain.not_put_back), of a failed ready V(ready.unhealthy), of
      both V(expect.foreign), and V(nginx.pending_change), V(nginx.broken), V(nginx.reload_refused), V(nginx.reload_unconfirmed) and others
      that begin with C(nginx.) for an nginx that cannot be driven safely.
  returned: always
  type: dict
  sample:
    outcome: pass
    code: drain.done
    reason: 1 server is drained, and no connection of nginx to what was drained is left.
    hint: ""
    evidence: {}
servers:
  description: The servers with what was seen of them, at the last look. Returned on failure too.
  returned: when the configuration was read
  type: list
  elements: dict
  sample:
    - server: keystone/10.0.0.11:5000
      address: 10.0.0.11:5000
      health: up
      admin: 1
      weight: 1
      backup: false
      lines: ["/etc/nginx/conf.d/keystone.conf:2"]
      connections: 0
mended:
  description: Servers for which an act that had been cut was made up for, by its reload or by its end.
  returned: always
  type: list
  elements: str
  sample: []
version:
  description: Version of the nginx that runs.
  returned: always
  type: str
  sample: 1.22.1
master:
  description: Process number of nginx's master, 0 when it was not found.
  returned: always
  type: int
  sample: 812
old_workers:
  description: The workers that a reload has left behind and that were still there at the last look (C(pids)).
  returned: always
  type: dict
  sample: {"pids": []}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import play
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.args import NGINX_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.hand import prepare


def main() -> None:
    spec = dict(DRIVER_ARGS, **NGINX_ARGS)
    play(AnsibleModule(argument_spec=spec, supports_check_mode=True), prepare)


if __name__ == "__main__":
    main()

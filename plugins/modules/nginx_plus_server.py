#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_plus_server
short_description: Take servers out of the traffic of NGINX Plus and put them back, with proof
version_added: 1.0.0
description:
  - Drains servers of an NGINX Plus through its HTTP API (version 9), waits until no session is left on them, and puts them back to
    exactly what they were.
  - Runs on the balancer's host, or on any other that reaches its API and the servers. With several balancers, use it for each of
    them, also for a passive one, because drains are not shared between balancers.
  - A drain is refused when an upstream would keep fewer than O(min_available) healthy servers. When the drain fails later,
    everything that this call drained is put back.
  - Servers of upstreams in C(http) are drained, those of upstreams in C(stream) know no drain and are set down, which lets their
    connections go on and gives them no new ones.
  - A drain that a reload of NGINX Plus has undone meanwhile is set again. Sessions on workers that a reload has left behind do not
    show in the API. They are counted where the task runs on the balancer's own host, as root; elsewhere they are not seen.
  - A server that is not healthy, or does not take a TCP connection from the host that the task runs on, never gets traffic from
    O(state=ready). It stays as it is, and the module fails.
  - Tested against a server that is made from the specification of the API, because a licence of NGINX Plus could not be had.
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
      - The servers, as C(address:port). Write an IPv6 address in brackets. A host name is compared with the name in the
        configuration of NGINX Plus, and with the addresses that the name has on the host that the task runs on.
      - An address that no upstream holds is an error. An upstream without C(zone) cannot be seen.
    type: list
    elements: str
    required: true
  backends:
    description: Only look in these upstreams. When empty, in all.
    type: list
    elements: str
    default: []
  min_available:
    description:
      - How many healthy servers every upstream concerned must keep. A server counts when its state is C(up), it takes traffic and
        its last health check passed. One without health check counts as healthy, as NGINX Plus treats it. Backup servers count
        only when no other server is left.
      - Set to V(0) to allow the last server of an upstream to be drained, after which NGINX Plus answers its requests with 502.
    type: int
    default: 1
  policy:
    description:
      - What happens to sessions that do not end by themselves, such as websockets, TCP connections, or clients that C(sticky) brings
        back.
      - V(wait) waits until O(deadline), then fails and puts back what was drained.
      - V(fail) does not wait. When a session is left right after the drain, the module fails and puts back what was drained.
      - V(shutdown) is refused, because the API has no call that ends a session.
    type: str
    choices: [wait, shutdown, fail]
    default: wait
  restore:
    description:
      - What RV(before) of the drain was. O(state=ready) puts exactly that back, so a server that an operator had drained or set down
        before is so again.
      - A server that is not in it becomes ready, with the weight that it has.
    type: dict
  url:
    description:
      - Where the API is, up to and without its version, such as C(https://lb1.example:8443/api).
      - Redirects are not followed, and no proxy is used.
    type: str
    required: true
  username:
    description: User for basic authentication, where the location of the API asks for it.
    type: str
    default: ""
  secrets:
    description:
      - C(password) is the password of O(username).
      - C(authorization) is a whole C(Authorization) header instead, such as C(Bearer) and a token.
      - With either, O(url) must be of https, except for an address of the host itself (127.0.0.1, ::1, localhost).
    type: dict
    default: {}
  ca_file:
    description: Authorities that may sign the certificate of the API, on the host that the task runs on, instead of the host's own.
    type: path
  server_name:
    description: The name that the certificate of the API must have, where O(url) has another or an address.
    type: str
    default: ""
  timeout:
    description: Seconds to wait for one answer of the API.
    type: int
    default: 10
attributes:
  check_mode:
    support: full
    details:
      - Checks O(min_available) too, but does not wait for sessions or health. Sends questions (GET) only, so an API that is read only is
        not found out.
  diff_mode:
    support: full
  idempotent:
    support: full
    details: A second drain changes nothing, but checks O(min_available) and the sessions again.
extends_documentation_fragment:
  - osops.lifecycle.attributes
  - osops.lifecycle.driver
seealso:
  - module: osops.lifecycle.haproxy_server
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
          osops.lifecycle.nginx_plus_server:
            state: drain
            servers: ["{{ ansible_host }}:5000"]
            url: http://127.0.0.1:8080/api
          delegate_to: "{{ item }}"
          loop: "{{ groups['loadbalancers'] }}"
          register: drained

        - name: Restart the service
          ansible.builtin.service:
            name: keystone
            state: restarted
      always:
        - name: Put it back as it was, as soon as it is healthy
          osops.lifecycle.nginx_plus_server:
            state: ready
            servers: ["{{ ansible_host }}:5000"]
            url: http://127.0.0.1:8080/api
            restore: "{{ item.before }}"
          delegate_to: "{{ item.item }}"
          loop: "{{ drained.results | selectattr('before', 'defined') | selectattr('before') }}"
          loop_control:
            label: "{{ item.item }}"

- name: Take a node out of traffic through an API that asks for a password
  hosts: localhost
  tasks:
    - name: Drain it in one upstream
      osops.lifecycle.nginx_plus_server:
        state: drain
        servers: ["10.0.0.11:5000"]
        backends: [keystone]
        url: https://lb1.example:8443/api
        ca_file: /etc/ssl/certs/ours.pem
        username: osops
        secrets:
          password: "{{ nginx_api_password }}"
        deadline: 300
"""

RETURN = r"""
before:
  description:
    - What was set before, by C(UPSTREAM/ADDRESS:PORT). Give it as O(restore) to put it back. Returned on failure too.
    - C(admin) is V(0) (ready), V(8) (draining), V(1) (down) or V(9) (both).
  returned: when NGINX Plus was reached
  type: dict
  sample: {"keystone/10.0.0.11:5000": {"admin": 0, "weight": 1}}
after:
  description: The same, at the end. On failure, what is there then. In check mode, what would be.
  returned: when NGINX Plus was reached
  type: dict
  sample: {"keystone/10.0.0.11:5000": {"admin": 8, "weight": 1}}
verdict:
  description:
    - How it ended, with C(outcome) (V(pass), V(fail), V(error)), C(code), C(reason), C(hint) and C(evidence). Returned on failure too.
    - Codes of a failed drain are V(drain.floor), V(drain.sessions_left), V(drain.not_drained), V(drain.not_put_back), of a failed ready
      V(ready.unhealthy), V(ready.not_put_back), of both V(expect.foreign), and others that begin with C(nginx_plus.) for an API that
      cannot be used.
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
  returned: when NGINX Plus was reached
  type: list
  elements: dict
  sample:
    - server: keystone/10.0.0.11:5000
      address: 10.0.0.11:5000
      kind: http
      status: draining
      health: up
      admin: 8
      weight: 1
      backup: false
      checked: true
      sessions: 0
      served: 667231
      zombies: 0
mended:
  description: Servers whose drain was lost meanwhile, by a reload or by hand, and was set again.
  returned: always
  type: list
  elements: str
  sample: []
version:
  description: The release of NGINX Plus, and the nginx it is made of.
  returned: when NGINX Plus was reached
  type: str
  sample: nginx-plus-r27 (1.21.6)
reloads:
  description: How many reloads of NGINX Plus were seen during this call.
  returned: always
  type: int
  sample: 0
old_workers:
  description:
    - The workers that a reload has left behind (C(pids)), and how they are seen (C(seen_by)), which is V(processes) on the balancer's
      own host, and empty when it is not known whether there are any. Only O(state=drain) looks for them.
  returned: always
  type: dict
  sample: {"seen_by": "processes", "pids": []}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import play
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.args import TRAFFIC_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.args import API_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.hand import prepare


def main() -> None:
    spec = dict(DRIVER_ARGS, **TRAFFIC_ARGS, **API_ARGS)
    play(AnsibleModule(argument_spec=spec, supports_check_mode=True), prepare)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: haproxy_config
short_description: Give a service its own file in HAProxy's configuration folder, checked, reloaded and proven
version_added: 1.0.0
description:
  - Keeps one file, C(osops-SERVICE.cfg), with the frontends and the backend of one service, in a folder that HAProxy reads.
    No other file is ever changed.
  - HAProxy checks the new configuration in a copy of the folder before anything is changed. After the reload its worker is asked which
    version of the file it has read. When the reload fails, or the servers do not come up, the file is put back as it was
    and read again.
  - A reload forgets what was set at run time. Drains, maintenance and weights of all other servers are read before and put back after it.
  - A file that this module did not write, or that names another owner, is refused.
  - Runs on the balancer's host. With several balancers, run it on each of them.
options:
  state:
    description: V(present) writes the file and lets HAProxy read it. V(absent) removes it again.
    type: str
    choices: [present, absent]
    default: present
  service:
    description: Plain name of the service (a-z, 0-9, C(_) and C(-)), part of the file's name.
    type: str
    required: true
  owner:
    description: Whose file it is, as C(CLOUD/SERVICE). It stands in the first line of the file.
    type: str
    required: true
  folder:
    description:
      - Folder for the file. The running HAProxy must read it, which means that it was started with C(-f) and this folder.
        When not, the module fails and says which line to add where.
    type: path
    default: /etc/haproxy/conf.d
  binary:
    description: The HAProxy program that checks the configuration.
    type: path
    default: /usr/sbin/haproxy
  reload:
    description: The systemd unit that is reloaded.
    type: str
    default: haproxy.service
  frontends:
    description: Where the service listens. Required for O(state=present).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the frontend.
        type: str
        required: true
      bind:
        description: Addresses and ports as C(address:port), or C(*:port). Nobody else may listen there.
        type: list
        elements: str
        required: true
      bind_options:
        description: What follows the address in each C(bind) line, such as C(ssl crt /etc/haproxy/certs/cloud.pem).
        type: str
        default: ""
      options:
        description: More lines of the frontend. One that begins with a section's name, or is not one line, is refused.
        type: list
        elements: str
        default: []
  backend:
    description: What stands behind the frontends. Required for O(state=present).
    type: dict
    suboptions:
      name:
        description: Name of the backend.
        type: str
        required: true
      balance:
        description: How requests are spread.
        type: str
        default: roundrobin
      check:
        description: The HTTP health check. Without it, a check of O(backend.server_options) only connects.
        type: dict
        suboptions:
          path:
            description: Path that is asked with GET.
            type: str
            required: true
          status:
            description: Status codes that are good, such as V(200) or V(200,300).
            type: str
            default: "200"
      server_options:
        description: What follows the address in each C(server) line.
        type: str
        default: check inter 2s fall 2 rise 2
      options:
        description: More lines of the backend, with the same rules as those of a frontend.
        type: list
        elements: str
        default: []
  servers:
    description: The servers of the backend. Required for O(state=present).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the server.
        type: str
        required: true
      address:
        description: Its C(address:port). Write an IPv6 address in brackets.
        type: str
        required: true
  answer:
    description: While given, the frontends answer every request by themselves, and no request reaches a server.
    type: dict
    suboptions:
      status:
        description: Status of the answer, V(400) to V(599).
        type: int
        default: 503
      retry_after:
        description: Seconds for the header C(Retry-After). V(0) leaves it out.
        type: int
        default: 0
  min_up:
    description:
      - How many servers must have passed a health check and take traffic before O(deadline). When that does not
        happen, the file as it was before is put back.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
    details: Refuses all that would be refused, and lets HAProxy check the configuration.
  diff_mode:
    support: full
  idempotent:
    support: full
    details: A second call does not reload.
extends_documentation_fragment:
  - osops.lifecycle.attributes
  - osops.lifecycle.driver
  - osops.lifecycle.haproxy
notes:
  - Do not put secrets into options. The file is readable for everybody on the host.
  - The servers in RV(before) are not compared with O(expect), because drains between two looks are not changes of the file.
seealso:
  - module: osops.lifecycle.haproxy_server
  - module: osops.lifecycle.haproxy_info
author:
  - the osops.lifecycle authors (@osops)
"""

EXAMPLES = r"""
- name: Put a service behind the balancers, one balancer at a time
  hosts: loadbalancers
  serial: 1
  become: true
  tasks:
    - name: Frontend and backend of Keystone
      osops.lifecycle.haproxy_config:
        service: keystone
        owner: prod/keystone
        frontends:
          - name: keystone
            bind: ["192.0.2.10:5000"]
            options: ["option httplog"]
        backend:
          name: keystone
          check: {path: /v3, status: "200"}
        servers:
          - {name: ctl1, address: "10.0.0.11:5000"}
          - {name: ctl2, address: "10.0.0.12:5000"}
        min_up: 1

- name: Take it away again
  hosts: loadbalancers
  serial: 1
  become: true
  tasks:
    - name: No frontend, no backend, no file
      osops.lifecycle.haproxy_config:
        state: absent
        service: keystone
        owner: prod/keystone
"""

RETURN = r"""
before:
  description:
    - What was there. C(file) is V(missing), V(ours), V(edited) (ours, and changed by hand since) or V(foreign). C(digest) is the version
      that the file carries. C(loaded) says whether HAProxy's worker has read that version. C(servers) has the admin mask (V(0) ready,
      V(1) maintenance, V(8) drained) and weight of the backend's servers. Returned on failure too.
  returned: always
  type: dict
  sample: {"file": "missing", "digest": "", "loaded": false, "servers": {}}
after:
  description: The same, at the end. On failure, what is there then. In check mode, what would be.
  returned: always
  type: dict
  sample:
    file: ours
    digest: 6f1f3cc64e4cbb6a2d3b2a6f9b0a5d1e
    loaded: true
    servers: {"keystone/ctl1": {"admin": 0, "weight": 1}}
verdict:
  description:
    - How it ended, with C(outcome) (V(pass), V(fail), V(error)), C(code), C(reason), C(hint) and C(evidence). Returned on failure too.
    - Codes of refusals, where nothing was done, are V(haproxy.foreign_file), V(haproxy.bad_line), V(haproxy.bad_name),
      V(haproxy.folder_not_read), V(haproxy.pending_edits), V(haproxy.bind_in_use), V(haproxy.config_refused), V(haproxy.config_broken),
      V(haproxy.no_master), V(haproxy.other_files), V(expect.foreign).
    - Codes of failures after which all was put back are V(haproxy.reload_failed), V(haproxy.not_loaded), V(haproxy.min_up) and
      V(haproxy.state_lost). V(haproxy.not_put_back) is the one that needs a person.
  returned: always
  type: dict
  sample:
    outcome: pass
    code: haproxy.config_present
    reason: /etc/haproxy/conf.d/osops-keystone.cfg is now there and read.
    hint: ""
    evidence: {}
servers:
  description: The backend's servers with their live figures, as M(osops.lifecycle.haproxy_server) tells them. Returned on failure too.
  returned: when HAProxy was reached
  type: list
  elements: dict
  sample: []
config_file:
  description: The file.
  returned: when the arguments were good
  type: str
  sample: /etc/haproxy/conf.d/osops-keystone.cfg
reloads:
  description: How many reloads this call has made, V(0) when nothing was to do, V(2) when it took itself back.
  returned: when the arguments were good
  type: int
  sample: 1
reload_s:
  description:
    - Seconds from the last look that still saw the former worker until every drain and weight that others had set was back
      and proven. In between, a server that somebody had drained could get traffic.
  returned: when the arguments were good
  type: float
  sample: 0.21
put_back:
  description: Servers whose drain, maintenance or weight the reload had lost, and that have it again.
  returned: when the arguments were good
  type: list
  elements: str
  sample: [glance/ctl2]
notes:
  description: What HAProxy warned of when it checked the configuration.
  returned: when the arguments were good
  type: list
  elements: str
  sample: []
version:
  description: HAProxy's version.
  returned: when HAProxy was reached
  type: str
  sample: 2.6.12-1+deb12u4
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import play
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.args import BALANCER_ARGS, CONFIG_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.config import prepare


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(DRIVER_ARGS, **BALANCER_ARGS, **CONFIG_ARGS),
        required_if=[("state", "present", ["frontends", "backend", "servers"])],
        supports_check_mode=True,
    )
    play(module, prepare)


if __name__ == "__main__":
    main()

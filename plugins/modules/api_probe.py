#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: api_probe
short_description: Ask one instance of an API itself whether it works, before and after a change
version_added: 0.1.0
author:
  - The osops.lifecycle authors (@osops)
description:
  - Sends the requests of a recipe to the instance (O(instance.listen)), not through a load balancer.
  - With O(state=baseline) the values that requests save, such as a token, are kept in a file in memory on the host, readable by
    root only.
    With O(state=verify) later requests use them, so that what was issued before a change is proven to be accepted after it.
  - The first request is repeated until the instance answers at all, for as long as O(deadline) allows. After that each request
    is sent once,
    and the first one that does not answer as expected fails the module.
  - There are no redirects, no proxies and no retries, and TLS is verified.
options:
  state:
    description: V(baseline) before the change, V(verify) after it.
    type: str
    choices: [baseline, verify]
    default: verify
  instance:
    description: The instance on this host.
    type: dict
    required: true
    suboptions:
      component:
        description: Name of the component.
        type: str
        required: true
      listen:
        description: Address and port on which it listens.
        type: str
        required: true
      scheme:
        description: Whether it speaks TLS itself.
        type: str
        choices: [http, https]
        default: http
      ca_file:
        description: File with the authorities to verify it with, instead of the host's own.
        type: path
      server_name:
        description: The name that its certificate must have, instead of its address.
        type: str
      unit:
        description: Not used here, accepted so that one value serves several modules.
        type: str
      path:
        description: Not used here, accepted so that one value serves several modules.
        type: path
      stop:
        description: Not used here, accepted so that one value serves several modules.
        type: int
  requests:
    description:
      - The requests, sent in order. Each has a C(name), C(method) (C(GET)), C(path) below the instance or a whole C(url),
        C(headers) and C(json).
      - C(expect) says what must come back, C(status) (one or a list, 200), C(json) (value by dotted path), C(header) (value by
        name) and
        C(contains). The value V(true) asks only that something is there.
      - C(save) keeps values by name, each from a C(header) or from a C(json) path.
      - C(needs) lists names. When one has no value the request is left out, and named in RV(left_out).
      - C({name}) in any string is replaced with a value of O(vars), of O(secrets), or one that was saved before.
        C({baseline.name}) is a value that
        O(state=baseline) has saved.
    type: list
    elements: dict
    required: true
  vars:
    description:
      - Values for the requests.
      - From a list C(peers) of addresses, the first one of another instance that takes connections is given to requests as
        C({peer}).
    type: dict
    default: {}
  secrets:
    description: Values for the requests that are never shown.
    type: dict
    default: {}
  package:
    description: The project, or the Debian package, whose version is proven from the process that listens.
    type: str
  installed_by:
    description: What knows the version of O(package), the metadata of a Python environment (V(index)) or dpkg.
    type: str
    choices: [index, dpkg]
    default: index
  version:
    description: The version of O(package) that must run.
    type: str
  timeout:
    description: Seconds that one request may take, connecting included.
    type: int
    default: 10
attributes:
  check_mode:
    support: full
    details: In check mode no request is sent.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: V(baseline) always takes a new one.
seealso:
  - module: osops.lifecycle.artifact_source
extends_documentation_fragment:
  - osops.lifecycle.attributes
  - osops.lifecycle.driver
"""

EXAMPLES = r"""
- name: Keep a token of the old release
  osops.lifecycle.api_probe:
    state: baseline
    instance:
      component: keystone-api
      listen: "{{ ansible_host }}:5000"
    secrets:
      admin_password: "{{ keystone_admin_password }}"
    requests:
      - name: issue
        method: POST
        path: /v3/auth/tokens
        json:
          auth:
            identity:
              methods: [password]
              password: {user: {name: admin, domain: {id: default}, password: "{admin_password}"}}
        expect: {status: 201}
        save: {token: {header: X-Subject-Token}}

- name: The new release must accept it
  osops.lifecycle.api_probe:
    state: verify
    package: keystone
    version: 29.0.2
    instance:
      component: keystone-api
      listen: "{{ ansible_host }}:5000"
    requests:
      - name: version
        path: /v3
        expect: {json: {version.status: stable}}
      - name: validate
        path: /v3/auth/tokens
        headers: {X-Auth-Token: "{baseline.token}", X-Subject-Token: "{baseline.token}"}
"""

RETURN = r"""
before:
  description: Always empty, because nothing that lasts is changed.
  returned: always
  type: dict
after:
  description: Always empty.
  returned: always
  type: dict
verdict:
  description:
    - Outcome, code, reason, hint and evidence. The code of a failed request is C(probe.) and its name.
    - The evidence has the status and the begin of the answer, without secrets.
  returned: always
  type: dict
requests:
  description: One row for each request that was sent, with name, outcome, status and seconds.
  returned: when requests were sent
  type: list
  elements: dict
left_out:
  description: Names of the requests that were left out because a value that they need was not given.
  returned: when requests were sent
  type: list
  elements: str
saved:
  description: Names (not values) of what was kept.
  returned: with O(state=baseline)
  type: list
  elements: str
process:
  description: The processes that listen, and the version proven from them.
  returned: with O(state=verify) and O(package)
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import play
from ansible_collections.osops.lifecycle.plugins.module_utils._prober import prepare

INSTANCE_OPTIONS = {
    "component": {"type": "str", "required": True},
    "listen": {"type": "str", "required": True},
    "scheme": {"type": "str", "choices": ["http", "https"], "default": "http"},
    "ca_file": {"type": "path"},
    "server_name": {"type": "str"},
    "unit": {"type": "str"},
    "path": {"type": "path"},
    "stop": {"type": "int"},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **DRIVER_ARGS,
            "state": {"type": "str", "choices": ["baseline", "verify"], "default": "verify"},
            "instance": {"type": "dict", "required": True, "options": INSTANCE_OPTIONS},
            "requests": {"type": "list", "elements": "dict", "required": True},
            "vars": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "package": {"type": "str"},
            "installed_by": {"type": "str", "choices": ["index", "dpkg"], "default": "index"},
            "version": {"type": "str"},
            "timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    play(module, prepare)


if __name__ == "__main__":
    main()

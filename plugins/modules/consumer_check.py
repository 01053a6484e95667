#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: consumer_check
short_description: Run a consumer's own check against one instance of a service
version_added: 0.1.0
author:
  - The osops.lifecycle authors (@osops)
description:
  - Runs a program of a third party on its own host, or asks an address of it, to prove that what it depends on still works. The
    instance is asked itself (O(endpoint)), not through a load balancer, so it can be proven before it serves anybody.
  - The program runs without a shell, as O(user), in a session of its own, without input and with a clean environment. It finds
    what it is to talk to in C(OSOPS_ENDPOINT), C(OSOPS_SERVICE), C(OSOPS_COMPONENT), C(OSOPS_HOST) and C(OSOPS_VERSION).
    Exit code 0 is a pass.
  - It is begun when the instance answers this host at all. After O(timeout) seconds its whole process group is killed, and what
    is left of the group is killed too when the program has ended by itself.
options:
  state:
    description: V(verify) runs the check.
    type: str
    choices: [verify]
    default: verify
  name:
    description: The name of the check.
    type: str
    required: true
  command:
    description: The program with its whole path, and its arguments. Exactly one of O(command) and O(url) is needed.
    type: list
    elements: str
  url:
    description: An address that must answer a GET with O(status). There are no redirects, no proxies and no retries.
    type: str
  status:
    description: The status that O(url) must answer.
    type: int
    default: 200
  timeout:
    description: Seconds that the program or the request may take.
    type: int
    default: 60
  user:
    description: The user that the program runs as.
    type: str
    default: nobody
  secrets:
    description:
      - Values by the name of an environment variable. They reach the program in its environment only, and are taken out of what
        it says.
      - Other processes of O(user) can read them, so a check with secrets needs a user of its own.
    type: dict
    default: {}
  endpoint:
    description: Where the instance answers, an http or https address. When it is not set, nothing is waited for.
    type: str
  service:
    description: The service that is checked.
    type: str
  component:
    description: The component of the instance.
    type: str
  host:
    description: The host of the instance.
    type: str
  version:
    description: The version that the instance is to run.
    type: str
  ca_file:
    description: File on this host with the authorities to verify O(url) with, instead of the host's own.
    type: path
  server_name:
    description: The name that the certificate behind O(url) must have, instead of its address.
    type: str
attributes:
  check_mode:
    support: full
    details: In check mode nothing is run and nothing is sent. That the program is there and that the user may execute it is verified.
  diff_mode:
    support: full
  idempotent:
    support: N/A
    details: It changes nothing. What the program does is its own business.
seealso:
  - module: osops.lifecycle.api_probe
extends_documentation_fragment:
  - osops.lifecycle.attributes
  - osops.lifecycle.driver
"""

EXAMPLES = r"""
- name: The billing agent can still read what it reads every night
  osops.lifecycle.consumer_check:
    name: billing
    command: [/opt/billing/bin/can-read-tokens, --once]
    user: billing
    endpoint: http://192.0.2.11:5000
    secrets:
      BILLING_PASSWORD: "{{ billing_password }}"
  delegate_to: billing1

- name: The portal's own view of the instance is good
  osops.lifecycle.consumer_check:
    name: portal
    url: http://192.0.2.60:8080/health?identity=192.0.2.11
    timeout: 10
  delegate_to: portal1
"""

RETURN = r"""
before:
  description: Always empty, because nothing is changed.
  returned: always
  type: dict
after:
  description: Always empty.
  returned: always
  type: dict
verdict:
  description:
    - Outcome, code, reason, hint and evidence. The code is C(check.passed), C(check.failed), C(check.deadline),
      C(check.not_runnable), C(check.not_ready) or C(check.input), and C(check.not_run) in check mode.
    - The evidence of a program has C(rc), C(seconds), and the last 2000 characters of C(stdout) and C(stderr), that of an address
      has C(status), C(seconds) and the begin of its C(body), all without secrets.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.osops.lifecycle.plugins.module_utils._consumer import prepare
from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import play


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **DRIVER_ARGS,
            "state": {"type": "str", "choices": ["verify"], "default": "verify"},
            "name": {"type": "str", "required": True},
            "command": {"type": "list", "elements": "str"},
            "url": {"type": "str"},
            "status": {"type": "int", "default": 200},
            "timeout": {"type": "int", "default": 60},
            "user": {"type": "str", "default": "nobody"},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "endpoint": {"type": "str"},
            "service": {"type": "str"},
            "component": {"type": "str"},
            "host": {"type": "str"},
            "version": {"type": "str"},
            "ca_file": {"type": "path"},
            "server_name": {"type": "str"},
        },
        supports_check_mode=True,
    )
    # A check changes nothing: nobody who acts on this host waits for it, and it asks one instance after the other.
    module.params["scope"] += ":" + module.params["name"]
    play(module, prepare)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_info
short_description: Find what runs of a Python service on a host, whoever deployed it
version_added: 1.0.0
description:
  - Looks at every listening TCP socket of the host, at the processes that hold it, and at the Python environment that these were loaded
    from. Where that environment holds O(package), it is an instance, on whichever port it listens.
  - Networks of containers are searched as well. Services that are reached by a socket in the file system only are not found.
  - The version is proven from the process, as M(osops.lifecycle.artifact_source) proves it.
  - It reads only. Configuration files are told by their name and the SHA-256 of their content. Contents are never told, and neither are
    command lines or environments, which may hold secrets.
options:
  package:
    description: The project on a package index that the service is.
    type: str
    required: true
  service:
    description:
      - Name of the service, from which the names of its configuration files and variables are made (C(/etc/keystone/keystone.conf),
        E(OS_KEYSTONE_CONFIG_FILES)).
      - When not set, O(package).
    type: str
  ports:
    description: The ports that the service usually has.
    type: list
    elements: int
    default: []
  words:
    description:
      - Words by which it is told from other services that live in the same environment. One of them has to stand in a command line or in
        the name of the unit, in whatever case.
      - When empty, the name of the service.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - osops.lifecycle.attributes
  - osops.lifecycle.attributes.info_module
seealso:
  - module: osops.lifecycle.haproxy_info
  - module: osops.lifecycle.artifact_source
author:
  - the osops.lifecycle authors (@osops)
"""

EXAMPLES = r"""
- name: See which Keystone runs here, and from where
  osops.lifecycle.service_info:
    package: keystone
    ports: [5000, 35357]
  become: true
  register: found

- name: Say so
  ansible.builtin.debug:
    msg: "{{ item.version }} in {{ item.prefix }}, {{ item.listen | join(', ') }}, {{ item.unit.name | default('no unit') }}"
  loop: "{{ found.instances }}"
  loop_control:
    label: "{{ item.program }}"
"""

RETURN = r"""
instances:
  description:
    - What was found, one entry for each unit, or for processes that share sockets where there is no unit.
    - C(version) is null when it is not proven, and C(problem) then says why. C(prefix) is the environment, C(virtual) whether it is a virtual
      environment.
    - C(behind) is the program that listens when it is another one, such as a web server, that hands requests on to its children. Its unit
      may serve others as well. Otherwise it is empty.
    - C(known_by) says what shows that it is this service, V(port) or V(word). When it is empty, the environment holds the package, and
      nothing else speaks for it.
    - C(unit) is null for processes that no service unit has started. C(unit.starts_from) is the environment as its C(ExecStart) names it,
      perhaps by a link, and empty when it does not.
    - C(container) is a sentence when it runs in a container, otherwise empty.
    - C(package) is the Debian package that installed it, otherwise empty.
    - C(config) lists the configuration files that its processes were told of (C(named_by) V(environment) or V(command line)), or the
      V(default) one. C(sha256) is null when C(problem) says why it could not be read.
  returned: success
  type: list
  elements: dict
  sample:
    - listen: ["10.0.0.11:5000"]
      pids: [812, 815, 816]
      program: uwsgi
      behind: ""
      version: 27.0.1
      problem: ""
      prefix: /srv/keystone/venv
      virtual: true
      known_by: [port, word]
      user: keystone
      unit:
        name: keystone-wsgi.service
        user: keystone
        fragment: /etc/systemd/system/keystone-wsgi.service
        drop_ins: []
        starts_from: /srv/keystone/venv
        problem: ""
      container: ""
      package: ""
      config:
        - path: /etc/keystone/keystone.conf
          named_by: environment
          sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
          problem: ""
others:
  description: What else holds one of O(ports), and was not loaded from an environment with O(package).
  returned: success
  type: list
  elements: dict
  sample: [{"listen": ["10.0.0.10:5000"], "pids": [633], "program": "haproxy", "unit": "haproxy.service"}]
unseen:
  description: Where something listens and no process can be seen that does, as it is with sockets of the kernel.
  returned: success
  type: list
  elements: str
  sample: ["0.0.0.0:2049"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.osops.lifecycle.plugins.module_utils._discover import Wanted, look
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "package": {"type": "str", "required": True},
            "service": {"type": "str"},
            "ports": {"type": "list", "elements": "int", "default": []},
            "words": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        seen = look(Wanted.from_args(module.params))
    except LifecycleError as exc:
        module.fail_json(msg=" ".join(part for part in (exc.msg, exc.hint) if part), verdict=Verdict.from_error(exc).to_dict())
    module.exit_json(changed=False, **seen)


if __name__ == "__main__":
    main()

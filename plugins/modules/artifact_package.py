#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact_package
short_description: Move a service that is installed from Debian packages to another version of them, and back
version_added: 1.0.0
author:
  - The osops.lifecycle authors (@osops)
description:
  - Artifact driver for services that are Debian packages. The packages are moved by M(ansible.builtin.apt).
  - All installed packages that were built from the same source move together, because their versions belong together. When apt would
    move, install or remove anything else, the module fails before anything is changed and names it.
  - With O(state=present) the packages of the version are fetched and kept in C(PATH/releases), and so are those that are installed
    now, which are the way back. Without a way back nothing is ever changed.
  - With O(state=active) the unit is stopped, the packages are moved, and the unit is started. While they move, apt knows nothing but
    what is kept, so it cannot touch anything else and needs no network. A condition in C(/run) keeps the units
    of the packages down meanwhile, so that no maintainer script starts one.
  - The version is proven from the process that listens. The files that it was loaded from belong to the package, and it was started
    after dpkg put them there.
  - When the packages cannot be moved, those that were there are installed again, the unit is started on them, and the module fails.
  - Only packages that are installed are moved. A package that is not installed is never installed.
options:
  state:
    description:
      - V(present) keeps the version on the host, V(active) makes the instance run it.
      - V(halted) stops the unit and sees that its port is free. Nothing else is touched, and V(active) starts it again.
      - V(absent) removes what is kept of a version. Installed packages are never removed.
      - V(active) in check mode is how to look at an instance.
    type: str
    choices: [present, active, halted, absent]
    default: active
  release:
    description: The version.
    type: dict
    required: true
    suboptions:
      package:
        description: The Debian package that the service is.
        type: str
        required: true
      version:
        description: Its version as dpkg writes it, with epoch and revision.
        type: str
      id:
        description: The same as O(release.version).
        type: str
      packages:
        description:
          - Further installed packages that may move with it, when apt cannot move it without them.
          - Without it only what was built from the same source moves.
        type: list
        elements: str
        default: []
  instance:
    description: The instance on this host.
    type: dict
    required: true
    suboptions:
      component:
        description: Name of the component.
        type: str
        required: true
      unit:
        description: The systemd unit that runs it. Needed with O(state=active) and O(state=halted).
        type: str
      listen:
        description: Address and port on which it listens. Needed with O(state=active) and O(state=halted).
        type: str
      path:
        description: The folder in which package files are kept.
        type: path
        required: true
      stop:
        description: Seconds that a graceful stop may take.
        type: int
        default: 60
  keep:
    description:
      - Only with O(state=absent) and without a version. How many of the kept versions stay, the newest ones by the time at which they
        were fetched. The installed one always stays.
    type: int
  stage:
    description:
      - Half of O(state=active). It is set by the action of the same name, which runs M(ansible.builtin.apt) between V(begin) and
        V(finish), or V(settle) where the unit did not run before. Leave it alone.
    type: str
    choices: [begin, finish, settle]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
seealso:
  - module: ansible.builtin.apt
  - module: osops.lifecycle.artifact_source
extends_documentation_fragment:
  - osops.lifecycle.attributes
  - osops.lifecycle.driver
"""

EXAMPLES = r"""
- name: Fetch the security update while the old version serves
  osops.lifecycle.artifact_package:
    state: present
    release:
      package: keystone
      version: "2:22.0.2-0+deb12u6"
    instance:
      component: keystone-api
      path: /var/lib/osops/packages/keystone

- name: Switch the instance to it
  osops.lifecycle.artifact_package:
    state: active
    release:
      package: keystone
      version: "2:22.0.2-0+deb12u6"
    instance:
      component: keystone-api
      unit: keystone.service
      listen: "{{ ansible_host }}:5000"
      path: /var/lib/osops/packages/keystone
    deadline: 300

- name: See what runs
  osops.lifecycle.artifact_package:
    release:
      package: memcached
      version: 1.6.18-1+deb12u1
    instance:
      component: memcached
      unit: memcached.service
      listen: 127.0.0.1:11211
      path: /var/lib/osops/packages/memcached
  check_mode: true

- name: Keep the newest two versions, and the installed one
  osops.lifecycle.artifact_package:
    state: absent
    release:
      package: keystone
    keep: 2
    instance:
      component: keystone-api
      path: /var/lib/osops/packages/keystone
"""

RETURN = r"""
before:
  description:
    - What was found. For V(present) and V(absent) with a version only C(present), otherwise the C(releases) that are kept.
    - C(release) is what is installed, and null while packages of the set are in different versions or only half there. C(version) is
      what runs, and null when it is not proven.
    - On failure too, as far as it was seen.
  returned: always
  type: dict
  sample: {"release": "2:22.0.2-0+deb12u3", "version": "2:22.0.2-0+deb12u3", "running": true}
after:
  description: The same after the act, or as predicted in check mode.
  returned: always
  type: dict
  sample: {"release": "2:22.0.2-0+deb12u6", "version": "2:22.0.2-0+deb12u6", "running": true}
verdict:
  description: Outcome, code, reason, hint and evidence. A failed start has the last journal lines in C(evidence.journal).
  returned: always
  type: dict
grain:
  description: Always V(host), because apt moves all that the packages hold on a host at once.
  returned: with O(state=active) and O(state=halted), when the host could be looked at
  type: str
  sample: host
installed_by:
  description: Always V(dpkg), which is what knows the version (option O(osops.lifecycle.api_probe#module:installed_by)).
  returned: with O(state=active) and O(state=halted), when the host could be looked at
  type: str
  sample: dpkg
packages:
  description: The installed packages that move together, with their versions.
  returned: when the host could be looked at
  type: dict
  sample: {"keystone": "2:22.0.2-0+deb12u3", "python3-keystone": "2:22.0.2-0+deb12u3"}
releases:
  description: The versions that are kept on the host.
  returned: when the host could be looked at
  type: list
  elements: str
  sample: ["2:22.0.2-0+deb12u3", "2:22.0.2-0+deb12u6"]
process:
  description: The processes that listen, the version proven from them, and why a version is not proven.
  returned: with O(state=active) and O(state=halted), when the host could be looked at
  type: dict
unit:
  description: What systemd says of the unit; C(exists) is false where there is none.
  returned: with O(state=active) and O(state=halted), when the host could be looked at
  type: dict
stop:
  description: Seconds that the stop took, and whether systemd had to kill the unit.
  returned: when the unit was stopped
  type: dict
notes:
  description:
    - Sentences worth reading that stop nothing. One is told for each configuration file that was edited on this host and that the new
      version brings changed too; the edited one stays.
  returned: with O(state=active), when the host could be looked at
  type: list
  elements: str
kept:
  description: The versions that stay, and why.
  returned: with O(keep)
  type: dict
removed:
  description: The versions that were removed, or would be.
  returned: with O(keep)
  type: list
  elements: str
freed_bytes:
  description: What that frees on the disk.
  returned: with O(keep)
  type: int
apt:
  description: With O(stage=begin), what M(ansible.builtin.apt) is to do (C(arguments)), and the C(environment) that it is to have.
  returned: between the stages
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import play
from ansible_collections.osops.lifecycle.plugins.module_utils._packages.driver import prepare

RELEASE_OPTIONS = {
    "package": {"type": "str", "required": True},
    "version": {"type": "str"},
    "id": {"type": "str"},
    "packages": {"type": "list", "elements": "str", "default": []},
}
INSTANCE_OPTIONS = {
    "component": {"type": "str", "required": True},
    "unit": {"type": "str"},
    "listen": {"type": "str"},
    "path": {"type": "path", "required": True},
    "stop": {"type": "int", "default": 60},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **DRIVER_ARGS,
            "state": {"type": "str", "choices": ["present", "active", "halted", "absent"], "default": "active"},
            "release": {"type": "dict", "required": True, "options": RELEASE_OPTIONS},
            "instance": {"type": "dict", "required": True, "options": INSTANCE_OPTIONS},
            "keep": {"type": "int"},
            "stage": {"type": "str", "choices": ["begin", "finish", "settle"]},
        },
        supports_check_mode=True,
    )
    play(module, prepare)


if __name__ == "__main__":
    main()

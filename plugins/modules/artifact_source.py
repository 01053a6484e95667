#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact_source
short_description: Install a release of a Python service beside the running one, and switch an instance to it
version_added: 0.1.0
author:
  - The osops.lifecycle authors (@osops)
description:
  - Artifact driver for services that are installed from a package index, one virtual environment for each release.
  - Releases lie in C(PATH/releases/ID). The link C(PATH/COMPONENT) names the one that an instance starts from, and its unit
    starts
    C(PATH/COMPONENT/bin/…).
  - With O(state=present) a release is installed from a lock in which every package has a hash. Nothing that runs is touched.
  - With O(state=active) the unit is stopped, the link switched by a rename, and the unit started. The module ends when the
    processes that
    listen on the port are proven to have been loaded from that release. The former release stays for the way back.
  - The version is proven from the listening process (socket, process, the environment it was loaded from, the metadata
    installed there), never
    from the link.
  - A service that somebody else installed, with a unit and an environment of its own, is adopted with O(instance.adopt). Its
    files stay as they are. A drop-in beside its unit, C(50-osops.conf), lets the unit start from our link, and is gone again
    when the adopted environment is active.
options:
  state:
    description:
      - V(present) installs the release, V(active) makes the instance run it, V(absent) removes it unless it is linked or runs.
      - V(halted) stops the unit and sees that its port is free. Nothing else is touched, and V(active) starts it again. Of
        O(release) only the package counts.
      - V(absent) with neither O(release.id) nor O(release.version) removes the instance's link and every release that this module
        installed and that no other component uses. With O(instance.adopt) the drop-in goes, too. With O(keep) only old releases
        go.
      - V(active) in check mode is how to look at an instance. It also works on hosts that this driver did not lay out. It then
        fails with the
        code V(artifact.foreign_layout) or V(artifact.unit_unknown), and RV(before) says what runs.
    type: str
    choices: [present, active, halted, absent]
    default: active
  release:
    description:
      - The release. Either O(release.version) with O(release.lock) and O(release.package), or O(release.id) of one that is
        on the host.
      - With O(instance.adopt), O(release.version) and O(release.package) without a lock mean the adopted environment, which must
        hold that version. Only the tool that made it can change it. Its O(release.id) means it as well.
    type: dict
    required: true
    suboptions:
      id:
        description:
          - Its name on the host, the version, a dash, and the first 12 hex digits of the SHA-256 of the lock.
          - Of an adopted environment, the hash is that of the sorted lines C(name==version) of all that is installed there. So it
            is the same on all hosts with the same content, and another one when the content changes.
        type: str
      version:
        description: The version of O(release.package). The lock must pin the same one.
        type: str
      package:
        description: The project on the package index that the service is.
        type: str
      lock:
        description:
          - The text of a pip requirements file that pins every package to one version and carries a hash for each. It holds
            no options.
        type: str
      digest:
        description: C(sha256:) and the hex digest of the lock's text, refused when it does not match.
        type: str
      index:
        description:
          - Address of the package index (C(…/simple/)). Without it the host's own pip configuration counts.
          - A password inside it stays out of the process list, of results and of logs. TLS is verified, unless the address
            itself is plain http.
        type: str
      python:
        description: The interpreter that the environment is made with.
        type: path
        default: /usr/bin/python3
  instance:
    description: The instance on this host.
    type: dict
    required: true
    suboptions:
      component:
        description: Name of the component, which is also the name of its link below O(instance.path).
        type: str
        required: true
      unit:
        description: The systemd unit that runs it. Needed with O(state=active) and O(state=halted).
        type: str
      listen:
        description: Address and port on which it listens. Needed with O(state=active).
        type: str
      path:
        description: The folder of the service's releases and links.
        type: path
        required: true
      adopt:
        description:
          - The environment that the unit of somebody else starts from, as its C(ExecStart) names it. It lies outside
            O(instance.path).
          - With it the unit needs to know nothing of our layout. To run a release of ours, a drop-in repeats the unit's own
            C(Exec…) lines and variables that name this path, with our link in its place.
          - A unit that does not name this path in C(ExecStart), that a program has generated, that has a C(50-osops.conf) of
            somebody else, or where another drop-in would win over ours, is refused before anything is changed.
        type: path
        version_added: 1.0.0
      stop:
        description: Seconds that a graceful stop may take.
        type: int
        default: 60
  keep:
    description:
      - Only with O(state=absent) and without a release. How many of the releases that this module has installed below
        O(instance.path) stay, the newest ones by the time of their installation.
      - More may stay. A release is never removed that a link names, that a process has loaded, or that a component ran before the
        one that its link names now (its way back). Where the way back is not known, the newest two stay.
      - Which of the components is named makes no difference.
    type: int
    version_added: 1.0.0
  job:
    description:
      - Name of the transient systemd unit (C(osops-job-NAME)) that installs the release, and of its folder in
        C(/var/lib/osops/jobs).
      - When a job of this name with the same work is running, the module waits for it. With O(resume=true) the result of one
        that has ended counts.
      - Made from the release id when not set.
    type: str
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
seealso:
  - module: osops.lifecycle.schema_step
  - module: osops.lifecycle.api_probe
extends_documentation_fragment:
  - osops.lifecycle.attributes
  - osops.lifecycle.driver
"""

EXAMPLES = r"""
- name: Fetch the release while the old one serves
  osops.lifecycle.artifact_source:
    state: present
    release:
      version: 29.0.2
      package: keystone
      lock: "{{ lookup('ansible.builtin.file', 'locks/keystone-29.0.2.txt', rstrip=false) }}"
      index: https://index.example.org/simple/
    instance:
      component: keystone-api
      path: /opt/osops/keystone
    deadline: 900

- name: Switch the instance to it
  osops.lifecycle.artifact_source:
    state: active
    release:
      id: 29.0.2-4d0f5a7c1b2e
      package: keystone
    instance:
      component: keystone-api
      unit: keystone-api.service
      listen: "{{ ansible_host }}:5000"
      path: /opt/osops/keystone

- name: See what a service runs that another tool has installed
  osops.lifecycle.artifact_source:
    state: active
    release:
      version: 27.0.1
      package: keystone
    instance:
      component: keystone-api
      unit: keystone-wsgi.service
      listen: "{{ ansible_host }}:5000"
      path: /opt/osops/keystone
      adopt: /srv/keystone/venv
  check_mode: true

- name: Let its unit start a release of ours, which lies beside it
  osops.lifecycle.artifact_source:
    state: active
    release:
      id: 29.0.2-4d0f5a7c1b2e
      package: keystone
    instance:
      component: keystone-api
      unit: keystone-wsgi.service
      listen: "{{ ansible_host }}:5000"
      path: /opt/osops/keystone
      adopt: /srv/keystone/venv

- name: Give it back as it was
  osops.lifecycle.artifact_source:
    state: active
    release:
      version: 27.0.1
      package: keystone
    instance:
      component: keystone-api
      unit: keystone-wsgi.service
      listen: "{{ ansible_host }}:5000"
      path: /opt/osops/keystone
      adopt: /srv/keystone/venv

- name: Keep the newest three releases, and all that are still needed
  osops.lifecycle.artifact_source:
    state: absent
    release: {}
    keep: 3
    instance:
      component: keystone-api
      path: /opt/osops/keystone

- name: Remove the release before the last one
  osops.lifecycle.artifact_source:
    state: absent
    release:
      id: 27.0.1-0123456789ab
    instance:
      component: keystone-api
      path: /opt/osops/keystone
"""

RETURN = r"""
before:
  description:
    - What was found. For V(present) and V(absent) only C(present); for V(absent) without a release the linked C(release) and the
      C(releases) that this module installed, and with O(keep) those C(releases) alone.
    - With O(instance.adopt) the C(release) of the adopted environment is null when something was installed or replaced there after
      the processes were started, because what is there is then not what they have loaded.
    - On failure too, as far as it was seen.
  returned: always
  type: dict
  sample: {"release": "27.0.1-8b7e1f0c2d3a", "version": "27.0.1", "running": true}
after:
  description: The same after the act, or as predicted in check mode.
  returned: always
  type: dict
  sample: {"release": "29.0.2-4d0f5a7c1b2e", "version": "29.0.2", "running": true}
verdict:
  description: Outcome, code, reason, hint and evidence. A failed start has the last journal lines in C(evidence.journal).
  returned: always
  type: dict
releases:
  description: Ids of the complete releases on the host.
  returned: when the host could be looked at
  type: list
  elements: str
adopted:
  description:
    - The adopted environment as it is on the disk (C(path), its C(release) id and C(version)), and our C(drop_in), or null where
      there is none.
  returned: with O(state=active) and O(instance.adopt), when the host could be looked at
  type: dict
  sample: {"path": "/srv/keystone/venv", "release": "27.0.1-3c5a9d0e7f12", "version": "27.0.1", "drop_in": null}
kept:
  description: The releases that stay, and why.
  returned: with O(keep)
  type: dict
  sample: {"29.0.2-4d0f5a7c1b2e": "keystone-api names it", "27.0.1-8b7e1f0c2d3a": "keystone-api goes back to it"}
removed:
  description: The releases that were removed, or would be.
  returned: with O(keep)
  type: list
  elements: str
freed_bytes:
  description: What that frees on the disk.
  returned: with O(keep)
  type: int
link:
  description: The release that the link of the component names, or null.
  returned: with O(state=active), when the host could be looked at
  type: str
process:
  description:
    - The processes that listen, the version proven from them, the environment they were loaded from, and why a version is
      not proven.
  returned: with O(state=active), when the host could be looked at
  type: dict
unit:
  description: What systemd says of the unit; C(exists) is false where there is none.
  returned: with O(state=active), when the host could be looked at
  type: dict
stop:
  description: Seconds that the stop took, and whether systemd had to kill the unit.
  returned: when the unit was stopped
  type: dict
notes:
  description: Sentences worth reading that stop nothing, such as a stop time-out of the unit that is shorter than the recipe's.
  returned: with O(state=active), when the host could be looked at
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.osops.lifecycle.plugins.module_utils._artifact import RELEASE_OPTIONS, prepare
from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import play

INSTANCE_OPTIONS = {
    "component": {"type": "str", "required": True},
    "unit": {"type": "str"},
    "listen": {"type": "str"},
    "path": {"type": "path", "required": True},
    "adopt": {"type": "path"},
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
            "job": {"type": "str"},
        },
        supports_check_mode=True,
    )
    play(module, prepare)


if __name__ == "__main__":
    main()

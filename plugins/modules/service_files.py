#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_files
short_description: Make, change, take back and remove what a service needs on its host before it can start
version_added: 1.0.0
author:
  - The osops.lifecycle authors (@osops)
description:
  - Keeps the system user, the folders, the configuration files, the keys and the systemd unit of one service as one unit with an owner.
  - What it made stands in C(/var/lib/osops/owned/SCOPE/NAME.json). What stands there is changed, brought back and removed, and nothing
    else. A path that is there and was made by somebody else is refused before anything is written, unless it already is what is wanted.
  - Former contents are kept as revisions below C(/var/lib/osops/owned/SCOPE/NAME/), readable by root only, and can be brought back byte
    for byte.
  - Services are never started here. With O(state=absent) the unit is stopped.
options:
  state:
    description:
      - V(present) makes everything as described, or as it was in O(revision).
      - V(absent) removes what the manifest of O(name) names, and needs no other option than O(name) and O(owner).
    type: str
    choices: [present, absent]
    default: present
  owner:
    description: Who keeps these files, as a text. A call with another owner than the one that made them is refused.
    type: str
    required: true
  name:
    description: Name of the service on this host, such as V(keystone-api).
    type: str
    required: true
  user:
    description:
      - A system user that is made when it is missing, with a group of the same name and without a home folder.
      - A group of that name that is there already becomes its group, and stays when the user goes.
      - One that is there already is left as it is, and not removed with O(state=absent).
    type: dict
    suboptions:
      name:
        description: Its name.
        type: str
        required: true
      home:
        description: Its home. Name it in O(folders) when it is to be made.
        type: str
        required: true
  folders:
    description: Folders. One that is made needs a folder above it, in this list or on the host.
    type: list
    elements: dict
    suboptions:
      path:
        description: Absolute path.
        type: str
        required: true
      mode:
        description: Four octal digits, in quotes.
        type: str
        default: "0755"
      owner:
        description: Name of its user.
        type: str
        default: root
      group:
        description: Name of its group.
        type: str
        default: root
  files:
    description: Files. Each needs exactly one of C(content), C(ini) and C(key).
    type: list
    elements: dict
    suboptions:
      path:
        description: Absolute path.
        type: str
        required: true
      mode:
        description: Four octal digits, in quotes. A file with a secret in it must not be open to everybody.
        type: str
        default: "0640"
      owner:
        description: Name of its user.
        type: str
        default: root
      group:
        description: Name of its group.
        type: str
        default: root
      once:
        description:
          - Write the file when it is missing, and leave it alone afterwards, whatever it holds then. This is for keys that are rotated.
          - When the file was taken away later, and others of the same folder that are written once are there, it stays away.
          - With O(state=absent) it goes. What a rotation has put beside it goes with O(rotated) only.
        type: bool
        default: false
      content:
        description: Its text. C({name}) becomes a value of O(values) or O(secrets), C({{) and C(}}) are braces.
        type: str
      ini:
        description:
          - Sections with options and values, written sorted, C([DEFAULT]) first. A list of values is written as that many lines.
          - Values may hold C({name}), as in O(files[].content).
        type: dict
      key:
        description: A key made from a secret, the url-safe Base64 of HMAC-SHA256, which is the form of a Fernet key.
        type: dict
        suboptions:
          secret:
            description: Name of the entry of O(secrets).
            type: str
            required: true
          label:
            description: What the key is for. The same secret gives another key for another label.
            type: str
            required: true
  unit:
    description:
      - Name of a service unit. Its file C(/etc/systemd/system/UNIT) must be among O(files). It is enabled, and not started.
      - With O(state=absent) it is stopped, and proven to be gone, before any file is removed.
    type: str
  values:
    description: Values for C({name}) in files.
    type: dict
  secrets:
    description: Values for C({name}) in files, and secrets for keys, that are never shown.
    type: dict
  revision:
    description: Bring back this revision, as C(revision) in RV(before), and RV(revisions), name it, instead of O(files) and the others.
    type: str
  rotated:
    description:
      - With O(state=absent) also take away what the service itself has put beside files that are written once, as a rotation puts a new
        key beside the old ones, that is files with owner, group and mode of one of them, in a folder of O(folders) in which all of
        O(files) are written once.
      - Only where the data that they are for goes too. Otherwise they are the only way to read it.
    type: bool
    default: false
  keep:
    description: How many former revisions are kept. With V(0) nothing can be brought back, and nothing is left after O(state=absent).
    type: int
    default: 10
attributes:
  check_mode:
    support: full
    details: This is how to look at a host. C(files) in RV(before) tells drift.
  diff_mode:
    support: full
    details: The lines of files that hold a secret are never shown.
  idempotent:
    support: full
seealso:
  - module: osops.lifecycle.artifact_source
extends_documentation_fragment:
  - osops.lifecycle.attributes
  - osops.lifecycle.driver
"""

EXAMPLES = r"""
- name: What Keystone needs before it can start
  osops.lifecycle.service_files:
    owner: cloud1/keystone/keystone-api
    name: keystone-api
    user: {name: keystone, home: /var/lib/keystone}
    folders:
      - {path: /etc/keystone, mode: "0750", group: keystone}
      - {path: /etc/keystone/fernet-keys, mode: "0700", owner: keystone, group: keystone}
    files:
      - path: /etc/keystone/keystone.conf
        group: keystone
        ini:
          database: {connection: "mysql+pymysql://keystone:{database_password}@{database_host}/keystone"}
          token: {provider: fernet}
      - path: /etc/keystone/fernet-keys/0
        mode: "0600"
        owner: keystone
        group: keystone
        once: true
        key: {secret: fernet_secret, label: keystone/fernet/0}
      - path: /etc/systemd/system/keystone-api.service
        mode: "0644"
        content: |
          [Service]
          User=keystone
          ExecStart=/opt/osops/keystone/keystone-api/bin/uwsgi --ini /etc/keystone/uwsgi.ini
          [Install]
          WantedBy=multi-user.target
    unit: keystone-api.service
    values: {database_host: 192.0.2.20}
    secrets:
      database_password: "{{ keystone_database_password }}"
      fernet_secret: "{{ keystone_fernet_secret }}"
  register: made

- name: As it was before
  osops.lifecycle.service_files: "{{ made.undo }}"
  when: made.undo is defined

- name: Remove all of it
  osops.lifecycle.service_files:
    state: absent
    owner: cloud1/keystone/keystone-api
    name: keystone-api
"""

RETURN = r"""
before:
  description:
    - What was found. C(revision) is a short name of all that we own, or null. C(files) has a word for each path.
    - V(ours) we made it, and it is as we made it. V(edited) we made it, and somebody changed it. V(same) somebody else made it, and it
      is as wanted. V(foreign) somebody else made it. V(missing) it is not there.
    - C(unit) is V(enabled), V(disabled) or V(missing).
    - On failure too, as far as it was seen.
  returned: always
  type: dict
  sample: {"revision": "0c1d94e2ab57", "files": {"/etc/keystone/keystone.conf": "edited"}, "user": true, "unit": "enabled"}
after:
  description: The same after the act, or as predicted in check mode.
  returned: always
  type: dict
  sample: {"revision": "0c1d94e2ab57", "files": {"/etc/keystone/keystone.conf": "ours"}, "user": true, "unit": "enabled"}
verdict:
  description: Outcome, code, reason, hint and evidence.
  returned: always
  type: dict
undo:
  description: The options with which this module takes back what it did.
  returned: when something was changed, or would be, and can be taken back
  type: dict
  sample: {"state": "present", "name": "keystone-api", "owner": "cloud1/keystone/keystone-api", "revision": "0c1d94e2ab57"}
left_over:
  description: What should have gone and stays, with the reason.
  returned: when the host could be looked at
  type: list
  elements: str
revisions:
  description: The revisions that are kept on the host, the oldest first.
  returned: when the host could be looked at
  type: list
  elements: str
kept:
  description: The revisions that were kept because of this change, the last one being what somebody had edited.
  returned: when something was changed
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._files.act import prepare
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import play

# Paths are texts here: the type path would put variables and ~ of root's environment into them.
PATH_OPTIONS = {
    "path": {"type": "str", "required": True},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
}
FILE_OPTIONS = {
    **PATH_OPTIONS,
    "mode": {"type": "str", "default": "0640"},
    "once": {"type": "bool", "default": False},
    "content": {"type": "str"},
    "ini": {"type": "dict"},
    "key": {
        "type": "dict",
        "no_log": False,
        "options": {"secret": {"type": "str", "required": True, "no_log": False}, "label": {"type": "str", "required": True}},
    },
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **DRIVER_ARGS,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "owner": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "user": {"type": "dict", "options": {name: {"type": "str", "required": True} for name in ("name", "home")}},
            "folders": {
                "type": "list",
                "elements": "dict",
                "options": {**PATH_OPTIONS, "mode": {"type": "str", "default": "0755"}},
            },
            "files": {"type": "list", "elements": "dict", "options": FILE_OPTIONS},
            "unit": {"type": "str"},
            "values": {"type": "dict"},
            "secrets": {"type": "dict", "no_log": True},
            "revision": {"type": "str"},
            "keep": {"type": "int", "default": 10},
            "rotated": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    play(module, prepare)


if __name__ == "__main__":
    main()

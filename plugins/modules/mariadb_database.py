#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mariadb_database
short_description: Make and drop the database of one service, with its accounts, and nothing else
version_added: 0.1.0
author:
  - The osops.lifecycle authors (@osops)
description:
  - Makes a database, the accounts of its service and their rights on it, and writes into the comment of the database who owns
    it and which accounts were made with it (the mark).
  - What has no mark, or the mark of another owner, is never changed and never dropped. The module fails with the code
    V(database.foreign) instead.
  - Runs on the database's host, over the server's local socket, with MariaDB's own client. No password is in a command line,
    and the service's password is not sent to the server either, only what MariaDB keeps of it.
  - A server that is read-only, or a replica, is refused before anything is changed.
requirements:
  - MariaDB 10.5 or newer, and its client C(mariadb), on the host
options:
  state:
    description:
      - V(present) makes what is missing, and mends the password and the rights of the accounts. The password is proven by a
        login where an account covers this host, and otherwise by what MariaDB keeps of it.
      - V(absent) drops the accounts that the mark names, and the database.
    type: str
    choices: [present, absent]
    default: present
  database:
    description: The database and who uses it.
    type: dict
    required: true
    suboptions:
      name:
        description: Its name, of letters, digits, C(_) and C(-).
        type: str
        required: true
      charset:
        description: Its default character set, when it is made.
        type: str
        default: utf8mb4
      user:
        description: The name of the service's accounts.
        type: str
        required: true
      from:
        description:
          - The hosts that the service connects from, as MariaDB's accounts have them.
          - An account of a host that is no longer in the list stays until the database is dropped.
        type: list
        elements: str
        default: ["%"]
  owner:
    description: Whose database it is, as C(CLOUD/SERVICE).
    type: str
    required: true
  server:
    description: How the server is reached.
    type: dict
    default: {}
    suboptions:
      socket:
        description: Its socket on this host.
        type: path
        default: /run/mysqld/mysqld.sock
      user:
        description: The account to act as.
        type: str
        default: root
  secrets:
    description:
      - C(password) is the password of the service's accounts, of letters, digits and C(. _ ~ -) only, because it will stand
        in a database address. Needed for O(state=present).
      - C(admin_password) is the password of O(server.user), where it does not log in by unix_socket.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
seealso:
  - module: osops.lifecycle.mariadb_backup
extends_documentation_fragment:
  - osops.lifecycle.attributes
  - osops.lifecycle.driver
"""

EXAMPLES = r"""
- name: The database of Keystone
  osops.lifecycle.mariadb_database:
    state: present
    database:
      name: keystone
      user: keystone
      from: ["10.0.0.%"]
    owner: east/keystone
    secrets:
      password: "{{ keystone_database_password }}"

- name: Keystone was removed, and its database is not needed any more
  osops.lifecycle.mariadb_database:
    state: absent
    database:
      name: keystone
      user: keystone
      from: ["10.0.0.%"]
    owner: east/keystone
"""

RETURN = r"""
before:
  description: Whether the database is there, whose it is (null without a mark), its accounts, and how many tables it has.
  returned: when the server could be asked
  type: dict
  sample: {"database": true, "owner": "east/keystone", "accounts": {"keystone@10.0.0.%": true}, "tables": 45}
after:
  description: The same after the act, or as predicted in check mode.
  returned: when the server could be asked
  type: dict
  sample: {"database": false, "owner": null, "accounts": {"keystone@10.0.0.%": false}, "tables": 0}
verdict:
  description: Outcome, code, reason, hint and evidence.
  returned: always
  type: dict
  sample: {"outcome": "pass", "code": "database.made", "reason": "The database keystone and its accounts were made."}
server:
  description: Which server answered, by the name that it has for its host, and its version.
  returned: when the server could be asked
  type: dict
  sample: {"node": "db1", "version": "10.11.19-MariaDB-0+deb12u1"}
drift:
  description: What was not as it should be with accounts that were there (C(password), C(grants)).
  returned: with O(state=present), when the server could be asked
  type: dict
  sample: {"keystone@10.0.0.%": ["password"]}
login:
  description: How the password of each account is known to be right. V(proven) by a login, or V(stored) as MariaDB keeps it.
  returned: with O(state=present), not in check mode
  type: dict
  sample: {"keystone@10.0.0.%": "stored"}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import play
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.args import SECRETS, SERVER
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.database import prepare

DATABASE_OPTIONS = {
    "name": {"type": "str", "required": True},
    "charset": {"type": "str", "default": "utf8mb4"},
    "user": {"type": "str", "required": True},
    "from": {"type": "list", "elements": "str", "default": ["%"]},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **DRIVER_ARGS,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "database": {"type": "dict", "required": True, "options": DATABASE_OPTIONS},
            "owner": {"type": "str", "required": True},
            "server": SERVER,
            "secrets": SECRETS,
        },
        supports_check_mode=True,
    )
    play(module, prepare)


if __name__ == "__main__":
    main()

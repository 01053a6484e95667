#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mariadb_backup
short_description: Take a backup of a service's database and prove it, and restore it
version_added: 0.1.0
author:
  - The osops.lifecycle authors (@osops)
description:
  - With O(state=present) the database is dumped as of one moment, without locking it. The dump is then loaded into a second
    server of the same binary that exists for the proof only, dumped again and compared, and the rows of every table are
    counted. Only then is it a backup.
  - With O(state=restored) the manifest and the digest of the dump are verified first, in check mode too. Then the database is
    dropped, made again with the same character set and comment, loaded, and counted. From right before the drop until that is
    verified a file beside the backups says that the database is half restored. Until a restore has come to its end it is then
    refused to take a backup of it, and to remove the one that it is restored from.
  - What takes long runs in a job on the host, which outlives the connection. When the module is cut, the same call takes it up.
  - Runs on the database's host, over the server's local socket, with MariaDB's own programs. No password is in a command line.
  - FLOAT columns are written into a dump with six digits. A database in which that would change a value is refused.
  - A look (check mode) with O(state=present) and without O(id) tells the newest proven backup and its age in RV(newest).
requirements:
  - MariaDB 10.5 or newer, with C(mariadb), C(mariadb-dump), C(mariadb-install-db) and C(mariadbd), on the host
  - systemd
options:
  state:
    description:
      - V(present) takes and proves a backup, unless the one of that id is there and intact.
      - V(restored) makes the database what the backup has. It is refused while sessions use the database; check mode only tells
        of them (RV(notes)).
      - V(absent) removes the backup O(id).
    type: str
    choices: [present, restored, absent]
    default: present
  database:
    description: The name of the database.
    type: str
    required: true
  service:
    description: The service whose database it is.
    type: str
    required: true
  kind:
    description:
      - V(dump) is made by this module.
      - V(external) is made by something else, such as a backup tool of the site. O(command) says when the newest good one was
        made, and one that is too old is refused. It is restored with that tool.
    type: str
    choices: [dump, external]
    default: dump
  id:
    description:
      - The name of the backup. With O(state=present) made of service, database and O(token) when not set, or of the time when
        there is no token.
      - V(latest) is the newest one that is proven and intact. It is for O(state=restored) only, and what is meant there when
        this is not set. RV(backup) tells which one it is.
    type: str
  place:
    description: The folder on this host. It is made for its owner only, and refused when others can look into it.
    type: path
    default: /var/backups/osops
  scratch:
    description:
      - The folder in which the server for the proof lives for as long as it is needed. It is for proofs alone, as what lies there
        is swept; one that holds something else, or that others may write to, is refused.
    type: path
    default: /var/lib/osops/proof
  keep:
    description:
      - How many proven backups of this database and service stay after one was taken. The newest proven one always stays, and
        files that are not ours are never removed.
    type: int
    default: 10
  command:
    description:
      - The command for O(kind=external), as a list. It prints one time, in seconds since 1970 or as ISO 8601 with a time zone,
        and ends with 0. It runs in check mode too.
    type: list
    elements: str
  max_age_s:
    description: How many seconds old the newest good backup may be, for O(kind=external).
    type: int
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
    description: C(admin_password) is the password of O(server.user), where it does not log in by unix_socket.
    type: dict
    default: {}
  resources:
    description: What dump and proof together may take of the host.
    type: dict
    default: {}
    suboptions:
      memory_mb:
        description: Megabytes of memory, at least 128.
        type: int
        default: 256
      io_weight:
        description: Weight of its disk and processor time, where 100 is what every other unit has.
        type: int
        default: 20
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
seealso:
  - module: osops.lifecycle.mariadb_database
extends_documentation_fragment:
  - osops.lifecycle.attributes
  - osops.lifecycle.driver
"""

EXAMPLES = r"""
- name: A proven backup before the upgrade
  osops.lifecycle.mariadb_backup:
    database: keystone
    service: keystone
    id: before-29.0.2
    deadline: 1800

- name: How old is the newest one?
  osops.lifecycle.mariadb_backup:
    database: keystone
    service: keystone
  check_mode: true
  register: look

- name: What would a restore from the newest one lose?
  osops.lifecycle.mariadb_backup:
    state: restored
    database: keystone
    service: keystone
  check_mode: true

- name: Back to what it was (stop the service everywhere first)
  osops.lifecycle.mariadb_backup:
    state: restored
    database: keystone
    service: keystone
    id: before-29.0.2
    deadline: 1800

- name: The site has its own backups. Is the newest one fresh enough?
  osops.lifecycle.mariadb_backup:
    database: nova
    service: nova
    kind: external
    command: [/usr/local/bin/newest-good-backup, nova]
    max_age_s: 86400
"""

RETURN = r"""
before:
  description:
    - With O(state=present) and O(state=absent) C(backup), the id that is there (without an id the newest one; for
      O(kind=external) the time of the newest one).
    - With O(state=restored) C(database), whether it is there; C(restored), the id if the database is already what that backup
      has; C(torn), the id of the backup from which a restore was cut; C(last_restore), the id and the time of the last
      one that came to its end. O(expect) compares them, except C(restored), as rows come and go while a service serves.
    - With O(resume=true) a restore that ended after C(last_restore) of O(expect) counts as this one, and is not done again.
  returned: always
  type: dict
  sample: {"database": true, "restored": null, "torn": null, "last_restore": null}
after:
  description: The same after the act, or as predicted in check mode.
  returned: always
  type: dict
  sample:
    {"database": true, "restored": "before-29.0.2", "torn": null,
     "last_restore": "before-29.0.2 2026-05-01T04:00:00.123456Z"}
verdict:
  description: Outcome, code, reason, hint and evidence.
  returned: always
  type: dict
  sample: {"outcome": "fail", "code": "backup.missing", "reason": "There is no proven backup x in /var/backups/osops."}
backup:
  description: The backup in question.
  returned: when it is there
  type: dict
  sample:
    {"id": "before-29.0.2", "made_at": "2026-05-01T03:00:00Z", "age_s": 12, "bytes": 81234, "tables": 45, "rows": 1210,
     "seconds": {"dump": 0.2, "proof": 4.1}}
newest:
  description: The newest proven backup, null when there is none.
  returned: when the place could be looked into
  type: dict
backups:
  description: The ids of all proven backups of this database and service, the newest first.
  returned: when the place could be looked into
  type: list
  elements: str
pruned:
  description: The ids of the backups that were removed because of O(keep).
  returned: when one was taken
  type: list
  elements: str
lost:
  description:
    - What a restore undoes, or has undone. C(taken_at) is when the backup was taken, in UTC, and C(age_s) how many seconds
      before now, or before the database was dropped.
    - C(tables) has each table whose number of rows differs, with C(rows_now), counted right before the drop or now, and
      C(rows_then), counted from the backup. It is null where there is no such table, and V(unknown) where it could not be
      counted in time. Rows that were changed in place are not seen in it.
  returned: with O(state=restored), when the backup is good
  type: dict
  sample:
    {"taken_at": "2026-05-01T03:00:00Z", "age_s": 3600,
     "tables": {"project": {"rows_now": 13, "rows_then": 10}, "newer": {"rows_now": 2, "rows_then": null}}}
notes:
  description: What has to be known before a restore, such as the sessions that use the database now. A sentence each.
  returned: with O(state=restored)
  type: list
  elements: str
  sample: ["The database keystone is in use by keystone@10.0.0.5 (Sleep, session 41). They have to be gone before the restore."]
server:
  description: Which server answered, by the name that it has for its host, and its version.
  returned: when the server was asked
  type: dict
  sample: {"node": "db1", "version": "10.11.19-MariaDB-0+deb12u1"}
output:
  description: The last lines of what the job wrote, without secrets.
  returned: when a job was started
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import play
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.args import RESOURCES, SECRETS, SERVER
from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb.restore import prepare


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **DRIVER_ARGS,
            "state": {"type": "str", "choices": ["present", "restored", "absent"], "default": "present"},
            "database": {"type": "str", "required": True},
            "service": {"type": "str", "required": True},
            "kind": {"type": "str", "choices": ["dump", "external"], "default": "dump"},
            "id": {"type": "str"},
            "place": {"type": "path", "default": "/var/backups/osops"},
            "scratch": {"type": "path", "default": "/var/lib/osops/proof"},
            "keep": {"type": "int", "default": 10},
            "command": {"type": "list", "elements": "str"},
            "max_age_s": {"type": "int"},
            "server": SERVER,
            "secrets": SECRETS,
            "resources": RESOURCES,
        },
        supports_check_mode=True,
    )
    play(module, prepare)


if __name__ == "__main__":
    main()

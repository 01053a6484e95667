#!/usr/bin/python
# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: schema_step
short_description: Check and expand the database schema of a service with the tools of the new release
version_added: 0.1.0
author:
  - The osops.lifecycle authors (@osops)
description:
  - Runs the commands that a recipe names, from the environment of the new release, as the user of the service. The tools of the
    old release
    are never run, because on a newer schema they fail.
  - A return code means what the recipe says. A code that the recipe does not know stops the run.
  - With O(state=preflight) every check of O(checks) is run, and nothing is changed. The database is asked through the service's
    own
    interpreter, configuration and user.
  - With O(state=expand) the schema is checked, moved by a job on the host that outlives the connection, and checked again.
options:
  state:
    description: V(preflight) only reads. V(expand) takes the step that O(act) describes.
    type: str
    choices: [preflight, expand]
    default: preflight
  service:
    description: Name of the service, used in the name of the job.
    type: str
    required: true
  release:
    description: The new release. Either O(release.id), or O(release.version) with O(release.lock) and O(release.package).
    type: dict
    required: true
    suboptions:
      id:
        description: Its name on the host.
        type: str
      version:
        description: Its version.
        type: str
      package:
        description: The project on the package index that the service is.
        type: str
      lock:
        description: The text of its lock.
        type: str
      digest:
        description: C(sha256:) and the hex digest of the lock's text.
        type: str
      index:
        description: Not used here, accepted so that one value serves several modules.
        type: str
      python:
        description: Not used here, accepted so that one value serves several modules.
        type: path
        default: /usr/bin/python3
  instance:
    description: The instance of the service on this host.
    type: dict
    required: true
    suboptions:
      path:
        description: The folder of the service's releases.
        type: path
        required: true
      unit:
        description: The unit that runs the service. Commands run as its user.
        type: str
      user:
        description: The user that commands run as, instead of the user of O(instance.unit).
        type: str
      component:
        description: Not used here, accepted so that one value serves several modules.
        type: str
  config:
    description: The configuration of the service.
    type: dict
    required: true
    suboptions:
      files:
        description: Its configuration files, in order.
        type: list
        elements: path
        required: true
      option:
        description: The option that hands a configuration file to a command.
        type: str
        default: --config-file
  commands:
    description:
      - The commands of the recipe by name, each with C(argv) and C(rc). The first word of C(argv) is a program of the release,
        and the word
        C({config}) becomes the configuration files.
      - With C(option) a command gets them by another option than that of O(config.option).
      - C(rc) gives each return code a word out of V(done), V(current), V(expand), V(contract), V(refuse), V(ok), V(warning) and
        V(failure).
    type: dict
    required: true
  checks:
    description:
      - The checks of the recipe. Each has a C(name), and either C(command) with the words to C(accept) and what others mean
        (C(explain)), or C(database) with C(section), C(option), C(grants) and C(refuse_in_url).
      - One that C(needs) others is not run when they did not pass.
    type: list
    elements: dict
  act:
    description:
      - The schema step of the recipe. C(check) and C(act) are names of commands, C(when) lists what the check says when there
        is something to
        do, and C(accept) what it says when it is done. C(then) lists commands that follow once.
    type: dict
  secrets:
    description: Values of the secrets that commands name in C(env). They reach a command in its environment only.
    type: dict
  database_host:
    description: The node that the service must reach, as the database itself calls it.
    type: str
  job:
    description:
      - Name of the transient systemd unit (C(osops-job-NAME)) that moves the schema. Made from service, step and release
        when not set.
    type: str
attributes:
  check_mode:
    support: full
    details: The read-only commands run in check mode too.
  diff_mode:
    support: full
  idempotent:
    support: full
seealso:
  - module: osops.lifecycle.artifact_source
extends_documentation_fragment:
  - osops.lifecycle.attributes
  - osops.lifecycle.driver
"""

EXAMPLES = r"""
- name: Can this cloud go to 29.0.2?
  osops.lifecycle.schema_step:
    state: preflight
    service: keystone
    release:
      id: 29.0.2-4d0f5a7c1b2e
    instance:
      path: /opt/osops/keystone
      unit: keystone-api.service
    config:
      files: [/etc/keystone/keystone.conf]
    commands:
      schema_check:
        argv: [keystone-manage, "{config}", db_sync, --check]
        rc: {0: current, 1: refuse, 2: expand, 4: contract}
    checks:
      - name: schema
        command: schema_check
        accept: [current, expand]
      - name: database
        database:
          section: database
          option: connection
          grants: [CREATE, ALTER, INDEX]
"""

RETURN = r"""
before:
  description:
    - What the check says of the schema, and its revisions. The revisions are there when O(checks) says where the database
      is.
  returned: always
  type: dict
  sample: {"schema": "expand", "head": "29e87d24a316,c88cdce8f248"}
after:
  description: The same after the act, or as predicted in check mode.
  returned: always
  type: dict
  sample: {"schema": "current", "head": "742c857f1dfb,c88cdce8f248"}
verdict:
  description: Outcome, code, reason, hint and evidence.
  returned: always
  type: dict
checks:
  description: One row for each check, with its outcome, and for a failed one the code and the reason.
  returned: with O(state=preflight), when the release is on the host
  type: list
  elements: dict
output:
  description: The last lines of what the step wrote, without secrets.
  returned: with O(state=expand), when the step was begun
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.osops.lifecycle.plugins.module_utils._artifact import RELEASE_OPTIONS
from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import play
from ansible_collections.osops.lifecycle.plugins.module_utils._schema import prepare

INSTANCE_OPTIONS = {
    "path": {"type": "path", "required": True},
    "unit": {"type": "str"},
    "user": {"type": "str"},
    "component": {"type": "str"},
}
CONFIG_OPTIONS = {
    "files": {"type": "list", "elements": "path", "required": True},
    "option": {"type": "str", "default": "--config-file"},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **DRIVER_ARGS,
            "state": {"type": "str", "choices": ["preflight", "expand"], "default": "preflight"},
            "service": {"type": "str", "required": True},
            "release": {"type": "dict", "required": True, "options": RELEASE_OPTIONS},
            "instance": {"type": "dict", "required": True, "options": INSTANCE_OPTIONS},
            "config": {"type": "dict", "required": True, "options": CONFIG_OPTIONS},
            "commands": {"type": "dict", "required": True},
            "checks": {"type": "list", "elements": "dict"},
            "act": {"type": "dict"},
            "secrets": {"type": "dict", "no_log": True},
            "database_host": {"type": "str"},
            "job": {"type": "str"},
        },
        required_if=[("state", "preflight", ["checks"]), ("state", "expand", ["act"])],
        supports_check_mode=True,
    )
    play(module, prepare)


if __name__ == "__main__":
    main()

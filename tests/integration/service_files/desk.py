# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host below a temporary folder: real files with real modes and owners, and books of its own."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, NoReturn

import yaml

from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import answer
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._files import act
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict

OWNER = "cloud1/keystone/keystone-api"
NAME = "keystone-api"
PASSWORD = "p-4f1c9a7b"  # noqa: S105 - no real one
SECRETS = {"database_password": PASSWORD, "fernet_secret": "f-66d0e1c2"}
VALUES = {"database_host": "192.0.2.20"}


def example() -> dict[str, Any]:
    """The first example of the module's documentation, with secrets instead of variables."""
    from ansible_collections.osops.lifecycle.plugins.modules.service_files import EXAMPLES

    args = dict(yaml.safe_load(EXAMPLES)[0]["osops.lifecycle.service_files"])
    assert set(args["secrets"]) == set(SECRETS)
    return dict(args, secrets=SECRETS)


class _Answered(Exception):
    """The end of a module, not an error."""


class _Module:
    """Keeps what a module would have printed."""

    def exit_json(self, **said: Any) -> NoReturn:
        raise _Answered(said)

    def fail_json(self, msg: str, **said: Any) -> NoReturn:
        raise _Answered({"msg": msg, **said})


def complete(args: dict[str, Any]) -> dict[str, Any]:
    """The arguments with the defaults of the module."""
    rows = {"folders": {"mode": "0755"}, "files": {"mode": "0640", "once": False}}
    params: dict[str, Any] = dict.fromkeys(("user", "folders", "files", "unit", "values", "secrets", "revision"))
    params.update(state="present", owner=OWNER, name=NAME, keep=10, scope="default", rotated=False, **args)
    for option, defaults in rows.items():
        params[option] = params[option] and [{"owner": "root", "group": "root", **defaults, **row} for row in params[option]]
    return params


class Desk:
    """``etc`` is the host's side, ``root`` the books'."""

    def __init__(self, folder: Path) -> None:
        self.etc = folder / "etc"
        self.root = folder / "owned"
        self.etc.mkdir()

    def call(
        self, check: bool = False, expect: dict[str, Any] | None = None, resume: bool = False, **args: Any
    ) -> dict[str, Any]:
        """One call of the hand; its whole answer."""
        report = Report()
        verdict: Verdict | LifecycleError
        try:
            given = {key: value for key, value in args.items() if key in ("state", "owner", "name", "keep", "scope", "rotated")}
            params = {**complete({key: value for key, value in args.items() if key not in given}), **given}
            acting = act.prepare(params, str(self.root))
            verdict = acting(Terms(check, expect, resume, Deadline(30)), report)
        except LifecycleError as exc:
            verdict = exc
        try:
            answer(_Module(), report.before, report.after, verdict, report.changed, **report.more)
        except _Answered as said:
            return dict(said.args[0])

    def wanted(self, debug: str = "false") -> dict[str, Any]:
        """A small service: two folders, a configuration with a secret, one without, and two keys."""
        etc = str(self.etc)
        keys = [
            {
                "path": "%s/keystone/fernet-keys/%d" % (etc, number),
                "mode": "0600",
                "once": True,
                "key": {"secret": "fernet_secret", "label": "keystone/fernet/%d" % number},
            }
            for number in (0, 1)
        ]
        return {
            "folders": [
                {"path": etc + "/keystone", "mode": "0750"},
                {"path": etc + "/keystone/fernet-keys", "mode": "0700"},
            ],
            "files": [
                {
                    "path": etc + "/keystone/keystone.conf",
                    "ini": {
                        "database": {"connection": "mysql+pymysql://keystone:{database_password}@{database_host}/keystone"},
                        "DEFAULT": {"debug": debug},
                    },
                },
                {"path": etc + "/keystone/uwsgi.ini", "mode": "0644", "content": "[uwsgi]\ndebug = %s\n" % debug},
                *keys,
            ],
            "values": VALUES,
            "secrets": SECRETS,
        }

    def absent(self, **more: Any) -> dict[str, Any]:
        return self.call(state="absent", **more)

    def path(self, name: str) -> Path:
        return self.etc / "keystone" / name

    def words(self, answer: dict[str, Any], when: str = "before") -> dict[str, str]:
        """The words of the files, by their path below etc/keystone."""
        top = str(self.etc / "keystone")
        return {os.path.relpath(path, top): word for path, word in answer[when]["files"].items()}


def tree(folder: Path) -> dict[str, tuple[str, str, int, int]]:
    """Everything below a folder: content, mode and owner."""
    found = {}
    for path in sorted(folder.rglob("*")):
        there = path.lstat()
        content = path.read_bytes().decode("latin-1") if stat.S_ISREG(there.st_mode) else ""
        content = "-> " + os.readlink(path) if path.is_symlink() else content
        found[str(path.relative_to(folder))] = (content, "%04o" % stat.S_IMODE(there.st_mode), there.st_uid, there.st_gid)
    return found


def refused(answer: dict[str, Any], code: str) -> str:
    """The answer is a failure with this code that changed nothing and says what to do; its sentence."""
    verdict = answer["verdict"]
    assert (verdict["outcome"], verdict["code"]) == ("fail", code), answer
    assert answer["changed"] is False
    assert verdict["reason"].endswith("."), verdict
    assert PASSWORD not in repr(answer)
    return str(verdict["reason"])

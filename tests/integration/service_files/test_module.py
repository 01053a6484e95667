# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as a process of its own, as Ansible starts it: its defaults, its example, and what it never says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._files.wanted import parse
from tests.integration.service_files.desk import NAME, OWNER, PASSWORD, SECRETS, Desk, complete, example, tree

OWNED = Path("/var/lib/osops/owned")


@pytest.fixture
def scope(desk: Desk) -> Iterator[str]:
    """A scope of its own in the real books of this machine, removed afterwards."""
    name = "test-%s" % uuid.uuid4()
    yield name
    shutil.rmtree(OWNED / name, ignore_errors=True)
    (Path("/var/lib/osops/fence") / name).unlink(missing_ok=True)


def run(collections: Path, args: dict[str, Any], **more: Any) -> tuple[dict[str, Any], str]:
    """One run of the module: its answer, and everything that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.osops.lifecycle.plugins.modules.service_files"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {**args, **more}}),
        env={**os.environ, "PYTHONPATH": str(collections)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return dict(json.loads(done.stdout)), done.stdout + done.stderr


def test_from_nothing_to_nothing(desk: Desk, scope: str, collections: Path) -> None:
    args = {"name": NAME, "owner": OWNER, "scope": scope, **desk.wanted()}
    looked, _said = run(collections, args, _ansible_check_mode=True)
    assert (looked["changed"], tree(desk.etc)) == (True, {})
    made, said = run(collections, args, _ansible_diff=True, _ansible_verbosity=4)
    assert (made["verdict"]["outcome"], made["after"]) == ("pass", looked["after"])
    keys = [desk.path("fernet-keys/%d" % number).read_text() for number in (0, 1)]
    assert desk.path("keystone.conf").read_text().count(PASSWORD) == 1
    assert not [secret for secret in (*SECRETS.values(), *keys) if secret in said]
    assert (OWNED / scope / (NAME + ".json")).stat().st_mode & 0o777 == 0o600
    changed, said = run(collections, {**args, **desk.wanted("true")}, expect=made["after"], token=7)
    assert (changed["verdict"]["outcome"], PASSWORD in said) == ("pass", False)
    stale, _said = run(collections, {**args, **desk.wanted()}, token=6)
    assert stale["verdict"]["code"] == "fence.stale_token"
    undone, _said = run(collections, changed["undo"])
    assert (undone["after"], desk.path("uwsgi.ini").read_text()) == (made["after"], "[uwsgi]\ndebug = false\n")
    gone, _said = run(collections, {"state": "absent", "name": NAME, "owner": OWNER, "scope": scope, "keep": 0})
    assert (gone["changed"], tree(desk.etc), tree(OWNED / scope)) == (True, {}, {})


def test_a_failure_tells_no_secret(desk: Desk, scope: str, collections: Path) -> None:
    desk.path("").mkdir()
    desk.path("keystone.conf").write_text("theirs, with %s in it" % PASSWORD)
    answer, said = run(collections, {"name": NAME, "owner": OWNER, "scope": scope, **desk.wanted()}, _ansible_diff=True)
    assert (answer["failed"], answer["verdict"]["code"], PASSWORD in said) == (True, "files.foreign", False)
    assert desk.words(answer)["keystone.conf"] == "foreign"


def test_the_tests_use_the_modules_defaults(desk: Desk, scope: str, collections: Path) -> None:
    path = str(desk.etc / "a")
    args = {
        "name": NAME,
        "owner": OWNER,
        "scope": scope,
        "folders": [{"path": path}],
        "files": [{"path": path + "/b", "content": "b"}],
    }
    answer, _said = run(collections, args)
    made = {key: value[1:] for key, value in tree(desk.etc).items()}
    ours = complete({key: args[key] for key in ("folders", "files")})
    assert answer["invocation"]["module_args"]["keep"] == ours["keep"]
    assert made == {"a": (ours["folders"][0]["mode"], 0, 0), "a/b": (ours["files"][0]["mode"], 0, 0)}


def test_the_example_is_good_input() -> None:
    """What the documentation shows passes every check. (It is made for real on the rig.)"""
    args = example()
    wanted = parse(complete({key: value for key, value in args.items() if key not in ("name", "owner")}))
    assert sorted(wanted.owned.entries) == [
        "/etc/keystone",
        "/etc/keystone/fernet-keys",
        "/etc/keystone/fernet-keys/0",
        "/etc/keystone/keystone.conf",
        "/etc/systemd/system/keystone-api.service",
    ]
    assert wanted.data["/etc/keystone/keystone.conf"] == (
        b"[database]\nconnection = mysql+pymysql://keystone:p-4f1c9a7b@192.0.2.20/keystone\n\n[token]\nprovider = fernet\n"
    )
    assert wanted.owned.unit == "keystone-api.service"

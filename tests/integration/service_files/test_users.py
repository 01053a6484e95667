# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""System users, made and removed by the real useradd and userdel, on a copy of /etc that only the test's process sees."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import json, os, pwd, subprocess, sys
from pathlib import Path
from tests.integration.service_files.desk import Desk, tree
desk = Desk(Path(sys.argv[1]))
USER = "osops-trial"
def accounts():
    return [Path("/etc", name).read_text() for name in ("passwd", "group", "shadow", "gshadow")]
def wanted(**more):
    args = desk.wanted()
    args["files"][0].update(owner=USER, group=USER)
    return dict(args, user={"name": USER, "home": "/var/lib/osops-trial"}, **more)
def is_there():
    return any(entry.pw_name == USER for entry in pwd.getpwall())
before = accounts()
def same():
    import difflib
    for one, other in zip(before, accounts()):
        print("\\n".join(difflib.unified_diff(one.splitlines(), other.splitlines(), lineterm="")), file=sys.stderr)
    return accounts() == before
"""


def inside(tmp_path: Path, collections: Path, repository: Path, script: str) -> None:
    """Run a script in a mount namespace of its own, where /etc is a copy."""
    etc = tmp_path / "copy"
    etc.mkdir()
    for name in ("passwd", "group", "shadow", "gshadow", "login.defs", "nsswitch.conf", "subuid", "subgid", "machine-id"):
        if Path("/etc", name).exists():
            shutil.copy2(Path("/etc", name), etc / name)
    shutil.copytree("/etc/pam.d", etc / "pam.d") if Path("/etc/pam.d").is_dir() else None
    shutil.copytree("/etc/default", etc / "default") if Path("/etc/default").is_dir() else None
    unshare = ["unshare", "--mount", "--propagation", "private", "--"]
    argv = [*unshare, "sh", "-c", 'mount --bind "$1" /etc && shift && exec "$@"', "sh", str(etc)]
    environment = {**os.environ, "PYTHONPATH": "%s:%s" % (collections, repository), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*argv, sys.executable, "-c", HEAD + script, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "osops-trial" not in Path("/etc/passwd").read_text(), "the machine itself was changed"


@pytest.fixture(autouse=True)
def needs() -> None:
    if os.geteuid() != 0 or not shutil.which("useradd") or not shutil.which("unshare"):
        pytest.skip("making users needs root, useradd and unshare")
    allowed = subprocess.run(["unshare", "--mount", "--", "true"], capture_output=True, check=False)
    if allowed.returncode != 0:
        pytest.skip("this machine allows no mount namespaces: %s" % allowed.stderr.decode())


def test_made_when_missing_and_gone_without_a_trace(tmp_path: Path, collections: Path, repository: Path) -> None:
    inside(
        tmp_path,
        collections,
        repository,
        """
looked = desk.call(check=True, **wanted())
assert (looked["before"]["user"], looked["after"]["user"], is_there()) == (False, True, False), looked
made = desk.call(**wanted())
assert made["after"] == looked["after"], made
account = pwd.getpwnam(USER)
assert (account.pw_uid < 1000, account.pw_dir, account.pw_gecos) == (True, "/var/lib/osops-trial", "osops.lifecycle")
assert account.pw_shell.endswith("nologin")
assert not Path(account.pw_dir).exists()
there = desk.path("keystone.conf").stat()
assert (there.st_uid, there.st_gid) == (account.pw_uid, account.pw_gid)
assert desk.call(**wanted())["changed"] is False
gone = desk.absent()
assert (gone["after"]["user"], gone["left_over"], tree(desk.etc), accounts()) == (False, [], {}, before), gone
back = desk.call(**gone["undo"])
assert (back["after"]["user"], is_there()) == (True, True), back
""",
    )


def test_one_that_was_there_stays(tmp_path: Path, collections: Path, repository: Path) -> None:
    inside(
        tmp_path,
        collections,
        repository,
        """
subprocess.run(["useradd", "--system", "--user-group", USER], check=True)
theirs = accounts()
assert desk.call(**wanted())["before"]["user"] is True
gone = desk.absent()
assert (gone["after"]["user"], gone["left_over"], accounts()) == (True, [], theirs), gone
""",
    )


def test_in_use_it_stays_until_it_is_not(tmp_path: Path, collections: Path, repository: Path) -> None:
    inside(
        tmp_path,
        collections,
        repository,
        """
desk.call(**wanted())
account = pwd.getpwnam(USER)
busy = subprocess.Popen(["sleep", "60"], user=account.pw_uid, group=account.pw_gid, extra_groups=[])
try:
    gone = desk.absent()
finally:
    busy.kill()
    busy.wait()
assert (gone["verdict"]["outcome"], gone["after"]["user"]) == ("pass", True), gone
assert gone["left_over"] == ["user osops-trial: process %d runs as it." % busy.pid], gone
assert tree(desk.etc) == {}
again = desk.absent()
assert (again["changed"], again["left_over"], accounts()) == (True, [], before), again
assert desk.absent()["changed"] is False
""",
    )


def test_it_stays_with_what_belongs_to_it(tmp_path: Path, collections: Path, repository: Path) -> None:
    inside(
        tmp_path,
        collections,
        repository,
        """
args = wanted()
args["folders"][1].update(owner=USER, group=USER)
desk.call(**args)
desk.path("fernet-keys/2").write_text("rotated")
looked = desk.absent(check=True)
gone = desk.absent()
assert (gone["verdict"]["outcome"], gone["after"]) == ("pass", looked["after"]), gone
assert gone["left_over"][-1] == "user osops-trial: %s belongs to it." % desk.path("fernet-keys"), gone
assert (is_there(), desk.absent()["changed"]) == (True, False)
desk.path("fernet-keys/2").unlink()
last = desk.absent()
assert (last["left_over"], tree(desk.etc), same()) == ([], {}, True), last
""",
    )


def test_needed_by_two_it_goes_with_the_last(tmp_path: Path, collections: Path, repository: Path) -> None:
    inside(
        tmp_path,
        collections,
        repository,
        """
desk.call(**wanted())
desk.call(name="second", scope="other", user={"name": USER, "home": "/var/lib/osops-trial"})
gone = desk.absent()
assert gone["left_over"] == ["user osops-trial: other/second needs it too."], gone
assert (gone["after"]["user"], is_there(), desk.absent()["changed"]) == (True, True, False)
last = desk.absent(name="second", scope="other")
assert (last["after"]["user"], accounts()) == (False, before), last
""",
    )


def test_undo_of_what_brought_the_user_takes_it_away(tmp_path: Path, collections: Path, repository: Path) -> None:
    inside(
        tmp_path,
        collections,
        repository,
        """
desk.call(**desk.wanted())
there = tree(desk.etc)
changed = desk.call(**wanted())
assert changed["after"]["user"] is True
undone = desk.call(expect=changed["after"], **changed["undo"])
assert (undone["verdict"]["outcome"], undone["after"]["user"]) == ("pass", False), undone
assert (tree(desk.etc), accounts()) == (there, before)
""",
    )


def test_a_user_that_cannot_be_made_is_said_and_mended(tmp_path: Path, collections: Path, repository: Path) -> None:
    inside(
        tmp_path,
        collections,
        repository,
        """
lock = Path("/etc/passwd.lock")
lock.write_text(str(os.getpid()))  # as another useradd that is at work
answer = desk.call(**wanted())
assert answer["verdict"]["code"] == "files.user", answer
assert "useradd could not make the user osops-trial" in answer["msg"], answer
assert tree(desk.etc) == {}
lock.unlink()
mended = desk.call(resume=True, expect=answer["before"], **wanted())
assert mended["after"]["user"] is True, mended
desk.absent()
assert same()
""",
    )

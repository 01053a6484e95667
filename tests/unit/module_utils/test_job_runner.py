# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Short commands, and the runner of long ones, as real processes. (Jobs under a real systemd: tests/integration/artifact_source.)"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._command import run
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, DeadlineError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._fence import fence
from ansible_collections.osops.lifecycle.plugins.module_utils._job import RUNNER, Job, output
from ansible_collections.osops.lifecycle.plugins.module_utils._systemd import check_name, processes_of
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait


def runner(folder: Path, commands: list[list[str]], env: dict[str, str] | None = None) -> dict[str, object]:
    """Do what the transient unit does: the runner, on a job's folder. Its result."""
    folder.mkdir()
    job = {"commands": commands, "env": {"PATH": os.environ["PATH"], **(env or {})}, "become": {}, "hash": "h"}
    (folder / "job.json").write_text(json.dumps(job))
    (folder / "run.py").write_text(RUNNER)
    subprocess.run([sys.executable, "-I", str(folder / "run.py"), str(folder)], check=True)
    result: dict[str, object] = json.loads((folder / "result.json").read_text())
    return result


def test_commands_run_in_order_until_one_fails(tmp_path: Path) -> None:
    commands = [["sh", "-c", "echo one; echo two >&2"], ["sh", "-c", "exit 7"], ["sh", "-c", "echo never"]]
    assert runner(tmp_path / "trial", commands) == {"rc": 7, "hash": "h"}
    assert output(Job("trial", (), root=str(tmp_path))) == "one\ntwo\n"


def test_a_program_that_is_not_there_is_a_failure_with_its_name(tmp_path: Path) -> None:
    assert runner(tmp_path / "trial", [["/nowhere/program"]])["rc"] == 127
    assert output(Job("trial", (), root=str(tmp_path))) == "/nowhere/program: No such file or directory\n"


def test_the_environment_does_not_stay_on_the_disk(tmp_path: Path) -> None:
    index = "http://reader:Swordfish4711@repo/simple/"
    assert runner(tmp_path / "trial", [["sh", "-c", 'test -n "$PIP_INDEX_URL"']], {"PIP_INDEX_URL": index})["rc"] == 0
    assert not [path for path in (tmp_path / "trial").iterdir() if "Swordfish" in path.read_text()]


def test_a_job_is_known_by_its_work_not_by_its_password() -> None:
    job = Job("a", (("pip", "install"),), {"PIP_INDEX_URL": "http://a:1@x/"}, files={"lock": "1"})
    assert job.hash == Job("b", (("pip", "install"),), {"PIP_INDEX_URL": "http://a:2@x/"}, files={"lock": "1"}).hash
    assert job.hash != Job("a", (("pip", "install"),), files={"lock": "2"}).hash
    assert job.hash != Job("a", (("pip", "install"),), user="keystone", files={"lock": "1"}).hash


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "-a", "a\n", "../x", "a b", "a/b", "x" * 151, "a;b"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(BadInputError):
        Job(name, ())


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "a\n", "a/b", "x" * 201])
def test_a_lock_that_is_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError), fence(name, 1, root=str(tmp_path)):
        raise AssertionError("it was taken")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "keystone", "a b.service", "a/b.service", "--now.service;", "a.socket"])
def test_a_unit_that_is_none(name: str) -> None:
    with pytest.raises(BadInputError):
        check_name(name)


def test_a_command_answers_with_all_it_said() -> None:
    done = run(["sh", "-c", "cat; echo warning >&2; exit 3"], 10, stdin="question")
    assert (done.rc, done.out, done.err) == (3, "question", "warning\n")


def test_a_command_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(DeadlineError):
        run(["sh", "-c", "sleep 61 & echo $! > %s; wait" % (tmp_path / "pid")], 0.7)
    assert time.monotonic() - begun < 10
    state = Path("/proc/%s/stat" % (tmp_path / "pid").read_text().strip())

    def over() -> bool:
        # Gone, or a zombie that the init of this machine has not buried yet.
        try:
            return state.read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return True

    # SIGKILL has been sent; the kernel delivers it when the process runs next.
    assert wait(over, bool, 5.0, poll_s=0.02).reached


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(LifecycleError, match=r"/nowhere cannot be started: No such file or directory\."):
        run(["/nowhere"], 5)


def test_a_user_that_is_not_there() -> None:
    with pytest.raises(BadInputError, match="nobody-here does not exist"):
        run(["true"], 5, user="nobody-here")


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
def test_a_command_of_another_user() -> None:
    assert run(["id", "-un"], 10, user="daemon").out == "daemon\n"


def test_processes_of_a_control_group_in_any_hierarchy(tmp_path: Path) -> None:
    for place, pids in (("system.slice/a.service", "7\n"), ("unified/system.slice/a.service/child", "8\n9\n")):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "cgroup.procs").write_text(pids)
    assert processes_of("/system.slice/a.service", str(tmp_path)) == [7, 8, 9]
    assert processes_of("/system.slice/b.service", str(tmp_path)) == []
    assert processes_of("/", str(tmp_path)) == []

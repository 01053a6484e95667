# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole upgrade, and the way back by record, as AWX starts them: through ansible-runner, no terminal, a fresh home."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
import typing as t
from pathlib import Path

import ansible_runner
import pytest

from tests.rig.theatre import BIN, Load, Rig

pytestmark = pytest.mark.rig
OLD, NEW = "27.0.1", "29.0.2"


class Job(t.NamedTuple):
    """How a job ended, what it showed (colours and all), and its events."""

    status: str
    rc: int
    out: str
    events: list[dict[str, t.Any]]


@pytest.fixture
def may_change() -> list[str]:
    """What an upgrade of Keystone and the way back leave: its processes are others, the new release lies there, and its indexes."""
    return [
        "ctl* process keystone-api.service *",
        "ctl* file /opt/osops/keystone/*",
        "ctl* file /var/lib/osops*",
        "lb* file /var/lib/osops*",
        "db1 table keystone.*",
    ]


@pytest.fixture
def rig(collections: Path, tmp_path: Path, rig_inventory: Path) -> t.Iterator[Rig]:
    """The running rig; whatever happens to it here, it runs the old release afterwards."""
    found = Rig(rig_inventory.parent, tmp_path, collections)
    assert set(found.versions().values()) == {OLD}
    yield found
    if set(found.versions().values()) != {OLD}:
        found.want(OLD)
        assert found.play("osops.lifecycle.rollback", tmp_path / "home.log") == 0, (tmp_path / "home.log").read_text(
            encoding="utf-8"
        )


def run(rig: Rig, playbook: str) -> Job:
    """Run a playbook of the installed collection as AWX would; all that it leaves is kept below ``rig.out``."""
    # A short path, as jobs have: ssh's control socket lies below the home, and a socket's path has at most 107 characters.
    home = Path(tempfile.mkdtemp(prefix="job-"))
    (home / "home").mkdir()
    runner = ansible_runner.run(
        private_data_dir=str(home),
        ident="job",
        playbook=playbook,
        inventory=str(rig.folder / "inventory.yml"),
        extravars={"osops_record": str(rig.folder / "cloud.yml"), "osops_store": "sqlite:///%s" % rig.store},
        envvars={
            "HOME": str(home / "home"),
            "PATH": "%s:/usr/bin:/bin" % BIN,
            "ANSIBLE_COLLECTIONS_PATH": str(rig.collections),
            "LC_ALL": "C.UTF-8",
        },
        settings={"runner_mode": "subprocess"},
        suppress_env_files=True,
        timeout=900,
        quiet=True,
    )
    job = Job(runner.status, runner.rc, runner.stdout.read(), list(runner.events))
    shutil.move(home, rig.out)
    return job


def test_upgrade_and_rollback_as_jobs(untouched: list[str], rig: Rig) -> None:
    with Load(rig, rig.out / "load", 15) as load:
        for version, playbook in ((NEW, "osops.lifecycle.upgrade"), (OLD, "osops.lifecycle.rollback")):
            rig.want(version)
            rig.settled()
            load.mark(version)
            job = run(rig, playbook)
            assert (job.status, job.rc) == ("successful", 0), job.out
            assert rig.last_run()[0] == "succeeded"
            assert set(rig.versions().values()) == {version}
            assert [event["event_data"]["task"] for event in job.events if event["event"] == "runner_on_unreachable"] == []
            failed = [event["event_data"] for event in job.events if event["event"] == "runner_on_failed"]
            assert [data["task"] for data in failed if not data.get("ignore_errors")] == []
            # The last lines are there for a person who sees nothing but this.
            assert version in job.out[job.out.rindex("PLAY [Close") :]
            warned = re.findall(r"\[(?:WARNING|DEPRECATION WARNING)\]: ([^\x1b\n]*)", job.out)
            assert warned == []
        time.sleep(1)
    figures = load.report()
    assert figures["total"]["failed"] == 0, json.dumps(figures["failures"][:5], indent=1)
    secret = rig.inventory["all"]["vars"]["keystone_admin_password"]
    told = [path for path in rig.out.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert [path for path in told if "inventory" not in path.name] == []

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both hands as users call them, over ssh, on the rig's database host: Debian's MariaDB, a real systemd, Keystone's own database."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.artifact_source.rig import Rig

pytestmark = pytest.mark.rig
HOST = "db1"
# Its own, and of no other test: the journal of the hosts is searched for it.
PASSWORD = "Backup%s" % secrets.token_hex(8)
UNIT = "osops-job-backup-one.service"
THERE = {"database": True, "restored": None, "torn": None, "last_restore": None}


@pytest.fixture(scope="module")
def rig(repository: Path) -> Rig:
    inventory = os.environ.get("OSOPS_RIG_INVENTORY")
    if not inventory:
        pytest.skip("OSOPS_RIG_INVENTORY does not name the inventory of a running rig (tests/rig/rig up writes it)")
    return Rig(Path(inventory).resolve(), repository)


@pytest.fixture(autouse=True)
def server(rig: Rig) -> Iterator[None]:
    """Nobody makes the server read-only meanwhile."""
    with rig.database():
        yield


@pytest.fixture
def trial(rig: Rig) -> Iterator[Rig]:
    """A database of its own, with enough rows that a proof can be watched; nothing of it stays."""
    answer = database(rig, "present")
    assert answer["after"]["owner"] == "rig/trial", answer
    rows = "CREATE TABLE a (id INT PRIMARY KEY, b VARCHAR(100)); INSERT INTO a SELECT seq, SHA2(seq, 256) FROM seq_1_to_60000"
    rig.shell(HOST, 'mariadb trial -e "%s"' % rows)
    yield rig
    rig.shell(HOST, "systemctl stop 'osops-job-*-one.service'; rm -rf /var/backups/osops-trial /var/lib/osops/jobs/*-one")
    assert database(rig, "absent")["after"]["database"] is False


def database(rig: Rig, state: str) -> dict[str, Any]:
    args = {"database": {"name": "trial", "user": "trial"}, "owner": "rig/trial", "secrets": {"password": PASSWORD}}
    return rig.module(HOST, "osops.lifecycle.mariadb_database", {"state": state, **args})


def arguments(state: str, **more: Any) -> dict[str, Any]:
    place = "/var/backups/osops-trial"
    return {"state": state, "database": "trial", "service": "trial", "id": "one", "place": place, "deadline": 300, **more}


def backup(rig: Rig, state: str = "present", check: bool = False, **more: Any) -> dict[str, Any]:
    return rig.module(HOST, "osops.lifecycle.mariadb_backup", arguments(state, **more), check)


def digest(rig: Rig, name: str) -> str:
    return rig.shell(HOST, "mariadb-dump --skip-dump-date --order-by-primary %s | sha256sum" % name)


def proofs(rig: Rig) -> str:
    """Users of the servers that run for a proof, and what is left in their folder."""
    return rig.shell(
        HOST, "ps -eo user=,args= | grep '[d]atadir=/var/lib/osops/proof' | cut -d' ' -f1; ls /var/lib/osops/proof || true"
    )


def test_a_backup_and_back_again(trial: Rig) -> None:
    before, keystone = digest(trial, "trial"), digest(trial, "keystone")
    answer = backup(trial, expect={"backup": None}, token=1, scope="trial")
    assert (answer["verdict"]["code"], answer["backup"]["rows"]) == ("backup.taken", 60000), answer
    assert proofs(trial) == ""
    assert trial.shell(HOST, "stat -c %a /var/backups/osops-trial /var/backups/osops-trial/*").split() == ["700", "600", "600"]
    trial.shell(HOST, "mariadb trial -e 'DELETE FROM a LIMIT 10; CREATE TABLE newer (a INT)'")
    looked = backup(trial, "restored", id="latest", check=True)
    assert looked["lost"]["tables"] == {
        "a": {"rows_now": 59990, "rows_then": 60000},
        "newer": {"rows_now": 0, "rows_then": None},
    }
    answer = backup(trial, "restored", id="latest", expect=THERE)
    assert answer["verdict"]["code"] == "backup.restored", answer
    assert (digest(trial, "trial"), digest(trial, "keystone")) == (before, keystone)
    assert backup(trial, "restored", id="latest")["changed"] is False
    assert PASSWORD not in trial.shell(HOST, "journalctl --no-pager -o cat")


def test_the_proof_is_bounded_and_not_root(trial: Rig) -> None:
    process = trial.start(HOST, "osops.lifecycle.mariadb_backup", arguments("present"))
    seen = trial.shell(
        HOST,
        # With its socket there, it has become the user that it runs as.
        "for i in $(seq 1200); do test -S /var/lib/osops/proof/*/s && break; sleep .05; done; "
        "pid=$(pgrep -f '[s]ocket=/var/lib/osops/proof' | head -1); "
        "ps -o user= -p $pid; systemctl show -p MemoryMax,IOWeight,CPUWeight %s; cat /proc/$pid/cgroup" % UNIT,
    )
    assert "CHANGED" in process.said(300)
    for word in ("mysql", "MemoryMax=268435456", "IOWeight=20", "CPUWeight=20", UNIT):
        assert word in seen, seen


def test_killed_in_the_middle_of_the_proof(trial: Rig) -> None:
    process = trial.start(HOST, "osops.lifecycle.mariadb_backup", arguments("present"))
    trial.shell(
        HOST,
        "for i in $(seq 600); do test -S /var/lib/osops/proof/*/s && break; sleep .05; done; systemctl kill -s KILL %s" % UNIT,
    )
    assert "job.cut" in process.said(300)
    assert "mysql" not in proofs(trial), "systemd ended all of it"
    answer = backup(trial, expect={"backup": None}, resume=True)
    assert (answer["after"], proofs(trial)) == ({"backup": "one"}, ""), answer


def test_a_module_that_is_killed_does_not_end_the_job(trial: Rig) -> None:
    # No dump gets past this lock, so the job is at work when the module is killed, and when it is called again.
    trial.shell(HOST, "setsid mariadb trial -e 'LOCK TABLES a WRITE; DO SLEEP(20)' > /dev/null 2>&1 < /dev/null & sleep 1")
    process = trial.start(HOST, "osops.lifecycle.mariadb_backup", arguments("present"))
    trial.shell(HOST, "for i in $(seq 600); do test -e /var/backups/osops-trial/one.sql && break; sleep .05; done")
    trial.kill_module(HOST)
    assert "CHANGED" not in process.said(60)
    assert "ActiveState=active" in trial.shell(HOST, "systemctl show -p ActiveState %s" % UNIT)
    answer = backup(trial, expect={"backup": None}, resume=True)
    assert answer["after"] == {"backup": "one"}, answer
    assert trial.shell(HOST, "grep -c 'dump of trial' /var/lib/osops/jobs/backup-one/output") == "1", (
        "it was taken up, not begun anew"
    )


def test_a_restore_that_is_cut_converges(trial: Rig) -> None:
    assert backup(trial)["changed"]
    before = digest(trial, "trial")
    trial.shell(HOST, "mariadb trial -e 'CREATE TABLE newer (a INT)'")
    process = trial.start(HOST, "osops.lifecycle.mariadb_backup", arguments("restored", expect=THERE))
    trial.shell(
        HOST,
        "for i in $(seq 600); do test -e /var/backups/osops-trial/trial.restoring && ! test -e /var/lib/mysql/trial/newer.frm && break; "
        "sleep .02; done; systemctl kill -s KILL osops-job-restore-one.service",
    )
    assert "job.cut" in process.said(300)
    answer = backup(trial, "restored", expect=THERE, resume=True)
    assert (answer["after"]["restored"], answer["after"]["torn"]) == ("one", None), answer
    assert answer["lost"]["tables"] == {"newer": {"rows_now": 0, "rows_then": None}}
    assert digest(trial, "trial") == before


def test_the_database_of_a_service_that_runs(trial: Rig) -> None:
    given = {"database": "keystone", "service": "keystone"}
    taken = backup(trial, **given)
    assert taken["verdict"]["code"] == "backup.taken", taken
    assert taken["backup"]["tables"] > 40
    trial.shell(HOST, "mariadb keystone -e 'CREATE TABLE osops_trial (a INT)'")
    try:
        refused = backup(trial, "restored", **given)
    finally:
        trial.shell(HOST, "mariadb keystone -e 'DROP TABLE osops_trial'")
    assert refused["verdict"]["code"] == "backup.in_use", refused
    assert "keystone@" in refused["verdict"]["reason"]
    answer = trial.module(
        HOST, "osops.lifecycle.mariadb_database",
        {"state": "absent", "database": {"name": "keystone", "user": "keystone"}, "owner": "rig/keystone"},
    )  # fmt: skip
    assert answer["verdict"]["code"] == "database.foreign", "the rig made it, not we"

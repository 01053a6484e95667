# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores from proven backups on a real MariaDB: what is lost is said, what cannot be verified is refused, a cut one converges."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import typing as t

import pytest

from tests.integration.mariadb.lab import PASSWORD, Lab, Maria, failed, until

THERE = {"database": True, "restored": None}
BACK = {"database": True, "restored": "one"}
# A newer schema: a table that the dump does not know, one that is gone, rows that came and rows that went.
LATER = """USE key_stone; CREATE TABLE newer (a INT); INSERT INTO newer VALUES (1), (2); DROP TABLE empty;
INSERT INTO project (name) VALUES ('late'), ('later'); DELETE FROM `odd ``name` LIMIT 1"""


@pytest.fixture(scope="module")
def kept(maria: Maria, tmp_path_factory: pytest.TempPathFactory, collections: t.Any) -> t.Iterator[Lab]:
    """A backup that all tests of this file copy: the proof of each would be the same."""
    found = Lab(maria, tmp_path_factory.mktemp("kept"), collections)
    found.database()
    found.fill(2000)
    assert found.backup(id="one")["verdict"]["code"] == "backup.taken"
    found.maria.sql("DROP DATABASE key_stone; DROP USER keystone@'%', keystone@'10.0.0.%'")
    yield found
    found.end()


@pytest.fixture
def filled(lab: Lab, kept: Lab) -> Lab:
    """The database as the backup has it, the backup, and then a newer database."""
    assert lab.database()["changed"]
    shutil.copytree(kept.place, lab.place)
    assert lab.backup("restored", id="one")["verdict"]["code"] == "backup.restored"
    shutil.rmtree(lab.jobs)
    return lab


def test_the_database_is_as_it_was_and_what_is_lost_is_said(filled: Lab) -> None:
    before, comment = filled.dump(), "SELECT * FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'key_stone'"
    schema = filled.maria.sql(comment)
    assert filled.backup("restored", id="one")["changed"] is False
    filled.maria.sql(LATER)
    newer = filled.dump()
    looked = filled.backup("restored", id="latest", check=True)
    assert (looked["changed"], looked["before"], looked["after"]) == (True, THERE, BACK)
    assert looked["lost"]["rows"] == {"newer": 2, "odd `name": -1, "project": 2}
    assert (looked["lost"]["tables"], looked["lost"]["since"]) == (["newer"], looked["backup"]["made_at"])
    assert 0 <= looked["lost"]["seconds"] < 600
    assert filled.dump() == newer, "check mode changes nothing"
    answer = filled.backup("restored", id="latest", expect=THERE)
    assert (answer["verdict"]["code"], answer["changed"], answer["after"]) == ("backup.restored", True, BACK), answer
    assert answer["lost"]["rows"] == looked["lost"]["rows"]
    assert filled.dump() == before
    assert filled.maria.sql(comment) == schema, "character set, and the mark of the owner"
    again = filled.backup("restored", id="one", expect=THERE)
    assert (again["changed"], again["before"], again["lost"]["rows"]) == (False, BACK, {})
    assert filled.database()["changed"] is False, "the service can log in as before"
    filled.maria.sql("UPDATE key_stone.project SET extra = NULL WHERE id = 7")
    assert filled.backup("restored", id="one", check=True)["before"] == THERE, "the same number of rows is not the same data"


def test_a_database_that_is_gone(filled: Lab) -> None:
    before = filled.dump()
    filled.maria.sql("DROP DATABASE key_stone")
    answer = filled.backup("restored", id="one")
    assert (answer["before"], answer["after"]) == ({"database": False, "restored": None}, BACK)
    assert answer["lost"]["rows"]["project"] == -2000
    assert filled.dump() == before
    assert filled.database("present", check=True)["before"]["owner"] == "east/keystone", "the mark came back too"


def edit(lab: Lab, **values: t.Any) -> None:
    path = lab.place / "one.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("harm", "id_", "code", "says"),
    [
        (lambda lab: None, "two", "backup.missing", "There is no proven backup two in"),
        (lambda lab: edit(lab, proven=False), "one", "backup.missing", "There is no proven backup one in"),
        (lambda lab: edit(lab, proven=False), "latest", "backup.missing", "There is no proven backup of key_stone in"),
        (lambda lab: shutil.rmtree(lab.place), "latest", "backup.missing", "There is no proven backup of key_stone in"),
        (lambda lab: (lab.place / "one.sql").unlink(), "one", "backup.corrupt", "is not the one that was proven"),
        (lambda lab: os.truncate(lab.place / "one.sql", 5000), "one", "backup.corrupt", "is not the one that was proven"),
        (
            lambda lab: (lab.place / "one.sql").write_bytes(
                (lab.place / "one.sql").read_bytes().replace(b"project", b"pr0ject", 1)
            ),
            "one",
            "backup.corrupt",
            "is not the one that was proven",
        ),
        (lambda lab: (lab.place / "one.json").write_text("{"), "one", "backup.foreign", "has a manifest that cannot be read"),
        (lambda lab: edit(lab, database="nova"), "one", "backup.foreign", "is of the database nova of keystone"),
        (lambda lab: edit(lab, mark="another"), "one", "backup.foreign", "was not made by osops.lifecycle"),
        (lambda lab: edit(lab, version="11.8.2-MariaDB"), "one", "backup.newer", "which is newer than"),
    ],
)
def test_what_cannot_be_verified_is_refused_before_anything_is_touched(
    filled: Lab, harm: t.Callable[[Lab], t.Any], id_: str, code: str, says: str
) -> None:
    filled.maria.sql(LATER)
    before = filled.dump()
    harm(filled)
    for check in (True, False):
        answer = filled.backup("restored", id=id_, check=check)
        verdict = failed(answer, code)
        assert says in verdict["reason"]
        assert "Nothing was" in verdict["hint"] or "Nothing was touched" in answer["msg"]
        assert (answer["changed"], answer["before"]) == (False, THERE)
    assert filled.dump() == before
    assert not filled.jobs.exists()


def test_sessions_that_use_it_are_named(filled: Lab) -> None:
    filled.maria.sql(LATER)
    before = filled.dump()
    session = subprocess.Popen(
        [*filled.maria.argv("SELECT SLEEP(60)", "keystone"), "key_stone"], env={**os.environ, "MYSQL_PWD": PASSWORD}
    )
    until(lambda: "SLEEP" in filled.maria.sql("SELECT INFO FROM information_schema.PROCESSLIST WHERE USER = 'keystone'"))
    try:
        for check in (True, False):
            answer = filled.backup("restored", id="one", check=check)
            verdict = failed(answer, "backup.in_use")
            assert "in use by keystone@localhost (Query, session " in verdict["reason"]
            assert (answer["before"], answer["lost"]["tables"]) == (THERE, ["newer"])
        assert filled.dump() == before
    finally:
        session.kill()
        session.wait()
        filled.maria.sql("KILL USER keystone")
    assert filled.backup("restored", id="one")["after"] == BACK


def test_a_reader_is_refused(filled: Lab) -> None:
    filled.maria.sql(LATER)
    filled.maria.sql("SET GLOBAL read_only = 1")
    failed(filled.backup("restored", id="one"), "database.read_only")
    assert filled.maria.sql("SELECT COUNT(*) FROM key_stone.newer") == "2"


def test_somebody_restored_it_since_the_look(filled: Lab) -> None:
    filled.maria.sql(LATER)
    failed(filled.backup("restored", id="one", expect={"database": False}), "expect.foreign")
    assert filled.maria.sql("SELECT COUNT(*) FROM key_stone.newer") == "2"


@pytest.mark.parametrize("whole", [True, False])
def test_killed_in_the_middle(lab: Lab, whole: bool) -> None:
    lab.database()
    lab.fill(30000)  # enough that the load takes longer than the look that decides when it is killed
    assert lab.backup(id="one")["changed"]
    good = lab.dump()
    lab.maria.sql(LATER)
    process = lab.start("mariadb_backup", lab.backup_args("restored", id="one", expect=THERE))
    until(lambda: (lab.place / "one.restoring").exists())
    there = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'key_stone' AND TABLE_NAME = 'newer'"
    until(lambda: lab.maria.sql(there) == "0")
    os.killpg(int((lab.jobs / "osops-job-restore-one.service.pid").read_text()), signal.SIGKILL)
    if whole:
        process.kill()
        process.communicate()
    else:
        failed(json.loads(process.communicate(timeout=60)[0]), "job.cut")
    assert (lab.place / "one.restoring").exists()
    look = lab.backup("restored", id="one", check=True)
    assert look["before"]["restored"] is None
    assert look["lost"]["rows"] == {"newer": 2, "odd `name": -1, "project": 2}, "what was lost is still known"
    answer = lab.backup("restored", id="one", expect=THERE, resume=True)
    assert (answer["after"], answer["changed"]) == (BACK, True), answer
    assert lab.dump() == good
    assert not (lab.place / "one.restoring").exists()
    assert lab.backup("restored", id="one")["changed"] is False


def test_a_lost_connection_does_not_end_it(filled: Lab) -> None:
    good = filled.dump()
    filled.maria.sql(LATER)
    process = filled.start("mariadb_backup", filled.backup_args("restored", id="one"))
    until(lambda: (filled.jobs / "osops-job-restore-one.service.pid").exists())
    process.kill()
    process.communicate()
    answer = filled.backup("restored", id="one", expect=THERE, resume=True)
    assert (answer["verdict"]["outcome"], answer["after"]) == ("pass", BACK), answer["verdict"]
    assert filled.dump() == good

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores from proven backups on a real MariaDB: what is lost is said, what cannot be verified is refused, a cut one converges."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._mariadb import worker
from tests.integration.mariadb.lab import PASSWORD, Lab, Maria, failed, until

THERE = {"database": True, "restored": None, "torn": None, "last_restore": None}
BACK = {"database": True, "restored": "one", "torn": None}
# A newer schema: a table that the dump does not know, one that is gone, rows that came and rows that went.
LATER = """USE key_stone; CREATE TABLE newer (a INT); INSERT INTO newer VALUES (1), (2); DROP TABLE empty;
INSERT INTO project (name) VALUES ('late'), ('later'); DELETE FROM `odd ``name` LIMIT 1"""


# What of it a restore of "one" undoes, by the rows now and then.
UNDONE = {
    "empty": {"rows_now": None, "rows_then": 0},
    "newer": {"rows_now": 2, "rows_then": None},
    "odd `name": {"rows_now": 2, "rows_then": 3},
    "project": {"rows_now": 2002, "rows_then": 2000},
}


def timeless(state: dict[str, t.Any]) -> dict[str, t.Any]:
    """Without the time of the last restore."""
    return {name: value for name, value in state.items() if name != "last_restore"}


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
    (lab.place / "key_stone.restored").unlink()
    return lab


def test_the_database_is_as_it_was_and_what_is_lost_is_said(filled: Lab) -> None:
    before, comment = filled.dump(), "SELECT * FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'key_stone'"
    schema = filled.maria.sql(comment)
    assert filled.backup("restored", id="one")["changed"] is False
    filled.maria.sql(LATER)
    newer = filled.dump()
    looked = filled.backup("restored", check=True)
    assert (looked["changed"], timeless(looked["before"]), looked["after"]) == (True, timeless(THERE), BACK)
    assert (looked["backup"]["id"], looked["notes"]) == ("one", []), "without an id it is the newest one"
    assert (looked["lost"]["tables"], looked["lost"]["taken_at"]) == (UNDONE, looked["backup"]["made_at"])
    assert 0 <= looked["lost"]["age_s"] < 600
    assert filled.dump() == newer, "check mode changes nothing"
    answer = filled.backup("restored", id="latest", expect=looked["before"])
    assert (answer["verdict"]["code"], answer["changed"], timeless(answer["after"])) == ("backup.restored", True, BACK), answer
    assert (answer["backup"]["id"], answer["lost"]["tables"]) == ("one", UNDONE)
    assert filled.dump() == before
    assert filled.maria.sql(comment) == schema, "character set, and the mark of the owner"
    assert sorted(path.name for path in filled.place.iterdir()) == ["key_stone.restored", "one.json", "one.sql"]
    again = filled.backup("restored", id="one", expect=answer["after"])
    assert (again["changed"], again["before"], again["lost"]["tables"]) == (False, answer["after"], {})
    assert again["after"]["last_restore"].startswith("one 2")
    assert filled.database()["changed"] is False, "the service can log in as before"
    filled.maria.sql("UPDATE key_stone.project SET extra = NULL WHERE id = 7")
    assert filled.backup("restored", id="one", check=True)["before"]["restored"] is None, (
        "the same number of rows is not the same data"
    )


def test_a_database_that_is_gone(filled: Lab) -> None:
    before = filled.dump()
    filled.maria.sql("DROP DATABASE key_stone")
    answer = filled.backup("restored", id="one")
    assert (answer["before"], timeless(answer["after"])) == ({**THERE, "database": False}, BACK)
    assert answer["lost"]["tables"]["project"] == {"rows_now": None, "rows_then": 2000}
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
        (lambda lab: edit(lab, proven=False), "latest", "backup.missing", "There is no good and proven backup of key_stone in"),
        (lambda lab: shutil.rmtree(lab.place), "latest", "backup.missing", "There is no good and proven backup of key_stone in"),
        (lambda lab: (lab.place / "one.sql").unlink(), "one", "backup.corrupt", "is not the one that was proven"),
        (
            lambda lab: (lab.place / "one.sql").unlink(),
            "latest",
            "backup.missing",
            "There is no good and proven backup of key_stone in",
        ),
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


def test_the_newest_is_the_newest_good_one(filled: Lab) -> None:
    data = json.loads((filled.place / "one.json").read_text())
    (filled.place / "two.json").write_text(json.dumps({**data, "id": "two", "made_epoch": data["made_epoch"] + 60}))
    (filled.place / "two.sql").write_bytes((filled.place / "one.sql").read_bytes().replace(b"project", b"pr0ject", 1))
    filled.maria.sql(LATER)
    answer = filled.backup("restored", check=True)
    assert (answer["backup"]["id"], answer["after"]) == ("one", BACK)
    assert answer["notes"] == ["Newer backups are damaged and were passed over: two."]
    failed(filled.backup("restored", id="two", check=True), "backup.corrupt")


@contextlib.contextmanager
def session(lab: Lab, statement: str, user: str = "root", database: str = "") -> t.Iterator[None]:
    """Somebody who sleeps after a statement."""
    argv = [*lab.maria.argv(statement + "; SELECT SLEEP(60)", user), *([database] if database else [])]
    process = subprocess.Popen(argv, env={**os.environ, "MYSQL_PWD": PASSWORD}, stdout=subprocess.DEVNULL)
    there = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP%'"
    try:
        until(lambda: lab.maria.sql(there) == "1")
        yield
    finally:
        process.kill()
        process.wait()
        for number in lab.maria.sql("SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP%'").split():
            lab.maria.sql("KILL %s" % number)
        until(lambda: lab.maria.sql(there) == "0")


@pytest.mark.parametrize(("user", "database"), [("keystone", "key_stone"), ("keystone", ""), ("root", "key_stone")])
def test_sessions_that_use_it_are_named(filled: Lab, user: str, database: str) -> None:
    filled.maria.sql(LATER)
    before, said = filled.dump(), "The database key_stone is in use by %s@localhost (Query, session " % user
    with session(filled, "SELECT 1", user, database):
        answer = filled.backup("restored", id="one")
        assert said in failed(answer, "backup.in_use")["reason"]
        assert (answer["changed"], answer["before"], answer["lost"]["tables"]) == (False, THERE, UNDONE)
        looked = filled.backup("restored", id="one", check=True)
        assert (looked["verdict"]["code"], looked["after"]) == ("backup.predicted", BACK), (
            "the service serves while it is planned"
        )
        assert len(looked["notes"]) == 1
        assert looked["notes"][0].startswith(said)
        assert filled.dump() == before
    assert timeless(filled.backup("restored", id="one")["after"]) == BACK


def work(lab: Lab, **more: t.Any) -> dict[str, t.Any]:
    """The job's program on its own, past what the module checks before it starts it."""
    spec = {
        "act": "restore",
        "id": "one",
        "database": "key_stone",
        "place": str(lab.place),
        "bin": {"mariadb": "/usr/bin/mariadb"},
    }
    path = lab.folder / "spec.json"
    path.write_text(json.dumps({**spec, "socket": lab.maria.socket, "user": "root", **more}))
    done = subprocess.run([sys.executable, "-I", worker.__file__, str(path)], capture_output=True, text=True, check=False)
    answer: dict[str, t.Any] = json.loads(done.stdout.splitlines()[-1][len(worker.ANSWER) :])
    assert done.returncode == (0 if answer.get("ok") else 1), done.stderr
    return answer


def test_a_session_that_comes_after_the_look(filled: Lab) -> None:
    filled.maria.sql(LATER)
    before = filled.dump()
    with session(filled, "SELECT 1", "keystone", "key_stone"):
        answer = work(filled)
        assert (answer["code"], len(answer["evidence"]["sessions"])) == ("backup.in_use", 1)
        assert "Nothing was touched." in answer["hint"]
        assert filled.dump() == before
        assert not (filled.place / "key_stone.restoring").exists()
    (filled.place / "one.sql").write_bytes(b"")
    assert work(filled)["code"] == "backup.corrupt"
    assert filled.dump() == before


def test_a_lock_that_is_held(filled: Lab) -> None:
    """A transaction of somebody who is in no database at all: no session says so, only the lock does."""
    filled.maria.sql(LATER)
    before, begun = filled.dump(), time.monotonic()
    with session(filled, "SET autocommit = 0; SELECT COUNT(*) FROM key_stone.project"):
        answer = filled.backup("restored", id="one")
        verdict = failed(answer, "backup.locked")
        assert time.monotonic() - begun < 60
        assert "could not be dropped within 10 s" in verdict["reason"]
        assert (answer["changed"], answer["after"]) == (False, THERE)
        assert filled.dump() == before
        assert not (filled.place / "key_stone.restoring").exists()
    assert timeless(filled.backup("restored", id="one")["after"]) == BACK


def test_what_cannot_be_counted_in_time_is_unknown(filled: Lab) -> None:
    filled.maria.sql(LATER)
    with session(filled, "LOCK TABLES key_stone.project WRITE"):
        looked = filled.backup("restored", id="one", check=True, deadline=8)
    assert looked["verdict"]["outcome"] == "pass", looked
    assert looked["lost"]["tables"] == {**UNDONE, "project": {"rows_now": "unknown", "rows_then": 2000}}


def test_a_reader_is_refused(filled: Lab) -> None:
    filled.maria.sql(LATER)
    filled.maria.sql("SET GLOBAL read_only = 1")
    failed(filled.backup("restored", id="one"), "database.read_only")
    assert filled.maria.sql("SELECT COUNT(*) FROM key_stone.newer") == "2"


def test_somebody_restored_it_since_the_look(filled: Lab) -> None:
    filled.maria.sql(LATER)
    failed(filled.backup("restored", id="one", expect={"database": False}), "expect.foreign")
    assert filled.maria.sql("SELECT COUNT(*) FROM key_stone.newer") == "2"


def test_rows_that_come_after_the_look_are_no_change_of_somebody_else(filled: Lab) -> None:
    look = filled.backup("restored", id="one", check=True)
    assert look["before"] == {**THERE, "restored": "one"}
    filled.maria.sql(LATER)
    assert filled.backup("restored", id="one", expect=look["before"])["verdict"]["code"] == "backup.restored"


def test_what_was_done_is_not_done_again(filled: Lab) -> None:
    filled.maria.sql(LATER)
    planned = filled.backup("restored", id="one", check=True)["before"]
    first = filled.backup("restored", id="one", expect=planned)
    filled.maria.sql("INSERT INTO key_stone.project (name) VALUES ('written since')")
    since = filled.dump()
    for more in ({"expect": planned}, {"expect": {"database": True}}, {}, {"id": "latest", "expect": planned}):
        again = filled.backup("restored", resume=True, **{"id": "one", **more})
        assert (again["verdict"]["code"], again["changed"], again["after"]) == ("backup.done", False, first["after"]), again
        assert again["lost"] == first["lost"]
    assert filled.dump() == since, "what the service has written since stays"
    failed(filled.backup("restored", id="one", expect=planned), "expect.foreign")
    assert filled.dump() == since
    # A new act, which was looked at since and then cut before it came here, is another one.
    look = filled.backup("restored", id="one", check=True)["before"]
    assert filled.backup("restored", id="one", expect=look, resume=True)["verdict"]["code"] == "backup.restored"
    assert filled.maria.sql("SELECT COUNT(*) FROM key_stone.project") == "2000"


def test_another_restore_since_the_look_is_a_change_of_somebody_else(filled: Lab) -> None:
    other(filled, "two", 60)
    filled.maria.sql(LATER)
    planned = filled.backup("restored", id="one", check=True)["before"]
    assert filled.backup("restored", id="two")["changed"]
    filled.maria.sql(LATER)
    for resume in (False, True):
        failed(filled.backup("restored", id="one", expect=planned, resume=resume), "expect.foreign")
    assert filled.maria.sql("SELECT COUNT(*) FROM key_stone.newer") == "2"


def other(lab: Lab, id_: str, seconds: int) -> None:
    """A copy of the backup, that many seconds newer."""
    data = json.loads((lab.place / "one.json").read_text())
    (lab.place / (id_ + ".json")).write_text(json.dumps({**data, "id": id_, "made_epoch": data["made_epoch"] + seconds}))
    shutil.copy(lab.place / "one.sql", lab.place / (id_ + ".sql"))


def end_job(lab: Lab, id_: str = "one", number: int = signal.SIGKILL) -> None:
    os.killpg(int((lab.jobs / ("osops-job-restore-%s.service.pid" % id_)).read_text()), number)


def begun(lab: Lab, **more: t.Any) -> subprocess.Popen[str]:
    """A restore of "one" that has dropped, and loads."""
    process = lab.start("mariadb_backup", lab.backup_args("restored", id="one", **more))
    until(lambda: (lab.place / "key_stone.restoring").exists())
    there = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'key_stone' AND TABLE_NAME = 'newer'"
    until(lambda: lab.maria.sql(there) == "0")
    return process


@pytest.fixture
def large(lab: Lab) -> Lab:
    """A backup so large that a kill, or a stop, comes in the middle of its load; and then a newer database."""
    lab.database()
    lab.fill(30000)
    assert lab.backup(id="one")["changed"]
    lab.maria.sql(LATER)
    return lab


@pytest.fixture
def torn(large: Lab) -> Lab:
    """A database that is half restored."""
    process = begun(large)
    end_job(large)
    process.communicate(timeout=60)
    return large


def test_nothing_else_is_done_with_a_database_that_is_half_restored(torn: Lab, tmp_path: Path) -> None:
    other(torn, "two", 60)
    said = "The database key_stone is half restored from the backup one: that restore was cut."
    for check in (True, False):
        for answer in (
            torn.backup(check=check),
            torn.backup(id="one", check=check),
            torn.backup("absent", id="one", check=check),
            torn.backup(kind="external", command=["/bin/date", "+%s"], max_age_s=60, check=check),
        ):
            assert failed(answer, "backup.torn")["reason"] == said
            assert answer["changed"] is False
        verdict = failed(torn.backup("restored", check=check), "backup.torn")
        assert verdict["reason"] == "The database key_stone is half restored from one, and two is newer."
    assert torn.backup(id="one", database="other", check=True)["verdict"]["code"] == "backup.foreign", "its own, not everybody's"
    assert torn.backup("absent", id="two")["changed"], "a backup that nobody needs may go"
    assert (torn.place / "one.sql").exists()


def test_a_half_restored_database_is_finished_from_any_good_backup(torn: Lab) -> None:
    other(torn, "two", 60)
    (torn.place / "one.sql").unlink()
    failed(torn.backup("restored", id="one", check=True), "backup.corrupt")
    look = torn.backup("restored", id="two", check=True)
    assert (look["before"]["torn"], look["after"]["torn"]) == ("one", None)
    assert look["lost"]["tables"]["newer"] == {"rows_now": 2, "rows_then": None}, "known from before the first attempt"
    answer = torn.backup("restored", id="two", expect=look["before"])
    assert (answer["verdict"]["code"], answer["after"]["torn"]) == ("backup.restored", None), answer
    assert not (torn.place / "key_stone.restoring").exists()
    assert torn.maria.sql("SELECT COUNT(*) FROM key_stone.project") == "30000"
    assert torn.database("present", check=True)["before"]["owner"] == "east/keystone", "the mark came back"
    assert torn.backup("absent", id="one")["changed"], "and what is damaged may go"


def test_a_flag_that_cannot_be_read_counts(filled: Lab) -> None:
    (filled.place / "key_stone.restoring").write_text("{")
    failed(filled.backup(id="three"), "backup.torn")
    look = filled.backup("restored", id="one", check=True)
    assert (look["before"]["torn"], look["lost"]["tables"]["project"]) == (
        "unknown",
        {"rows_now": "unknown", "rows_then": 2000},
    )
    assert timeless(filled.backup("restored", id="one")["after"]) == BACK
    assert filled.backup(id="three")["changed"]


def test_cut_between_its_last_two_acts_it_is_done(filled: Lab) -> None:
    filled.maria.sql(LATER)
    planned = filled.backup("restored", id="one", check=True)["before"]
    filled.backup("restored", id="one")
    shutil.copy(filled.place / "key_stone.restored", filled.place / "key_stone.restoring")
    again = filled.backup("restored", id="one", expect=planned, resume=True)
    assert (again["verdict"]["code"], again["after"]["torn"]) == ("backup.done", None), again


@pytest.mark.parametrize("whole", [True, False])
def test_killed_in_the_middle(large: Lab, whole: bool) -> None:
    lab, process = large, begun(large, expect=THERE)
    end_job(lab)
    if whole:
        process.kill()
        process.communicate()
    else:
        answer = json.loads(process.communicate(timeout=60)[0])
        assert "is half restored: the same call again finishes it." in failed(answer, "job.cut")["hint"]
        assert (answer["changed"], answer["after"]) == (True, {"restored": None, "torn": "one"})
    assert (lab.place / "key_stone.restoring").exists()
    look = lab.backup("restored", id="one", check=True)
    assert (look["before"]["restored"], look["before"]["torn"]) == (None, "one")
    expected = {**UNDONE, "project": {"rows_now": 30002, "rows_then": 30000}}
    assert look["lost"]["tables"] == expected, "what was lost is still known"
    failed(lab.backup("restored", id="one", expect=THERE), "expect.foreign")
    answer = lab.backup("restored", id="one", expect=THERE, resume=True)
    assert (timeless(answer["after"]), answer["changed"]) == (BACK, True), answer
    assert answer["lost"]["tables"] == expected
    again = lab.backup("restored", id="one", check=True)
    assert again["before"]["restored"] == "one", "its dump says the same as the backup's"
    assert not (lab.place / "key_stone.restoring").exists()
    assert lab.backup("restored", id="one")["changed"] is False


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.4, 0.7])
def test_killed_anywhere(filled: Lab, delay: float) -> None:
    """Without the flag nothing was touched, or all is done; with it the database is refused to all but a restore."""
    good = filled.dump()
    filled.maria.sql(LATER)
    newer = filled.dump()
    process = filled.start("mariadb_backup", filled.backup_args("restored", id="one", expect=THERE))
    until(lambda: (filled.jobs / "osops-job-restore-one.service.pid").exists())
    time.sleep(delay)
    with contextlib.suppress(ProcessLookupError):
        end_job(filled)
    answer = json.loads(process.communicate(timeout=60)[0])
    if (filled.place / "key_stone.restoring").exists():
        assert answer["after"] == {"restored": None, "torn": "one"}
        failed(filled.backup(id="three"), "backup.torn")
    else:
        assert (filled.dump(), answer["changed"]) in ((newer, False), (good, True)), answer
        assert filled.backup(check=True)["changed"], "a backup can be taken"
    assert timeless(filled.backup("restored", id="one", expect=THERE, resume=True)["after"]) == BACK
    assert filled.dump() == good


def test_a_restore_that_is_at_work_is_left_alone(large: Lab) -> None:
    """Its module is gone, and it is in the middle: the same call takes it up, everybody else has to wait."""
    other(large, "two", 60)
    process = begun(large)
    end_job(large, number=signal.SIGSTOP)
    process.kill()
    process.communicate()
    try:
        for given in ({"state": "restored", "id": "two"}, {"state": "present", "id": "three"}, {"state": "absent", "id": "two"}):
            for check in (True, False):
                assert "at work" in failed(large.backup(check=check, **given), "backup.busy")["reason"]
        failed(large.backup("restored", id="one", expect=THERE), "backup.busy")
    finally:
        end_job(large, number=signal.SIGCONT)
    answer = large.backup("restored", id="one", expect=THERE, resume=True)
    assert (answer["verdict"]["outcome"], timeless(answer["after"])) == ("pass", BACK), answer
    assert len(list(large.jobs.glob("*restore*.pid"))) == 1


def test_a_lost_connection_does_not_end_it(filled: Lab) -> None:
    good = filled.dump()
    filled.maria.sql(LATER)
    process = filled.start("mariadb_backup", filled.backup_args("restored", id="one"))
    until(lambda: (filled.jobs / "osops-job-restore-one.service.pid").exists())
    process.kill()
    process.communicate()
    answer = filled.backup("restored", id="one", expect=THERE, resume=True)
    assert (answer["verdict"]["outcome"], timeless(answer["after"])) == ("pass", BACK), answer["verdict"]
    assert filled.dump() == good

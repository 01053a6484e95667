# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups that are proven on a second server, on a real MariaDB: taken, kept, pruned, refused, cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import typing as t
from pathlib import Path

import pytest

from tests.integration.mariadb.lab import ADMIN, Lab, failed, forgotten_options, until


@pytest.fixture
def filled(lab: Lab) -> Lab:
    """A database with tables, a view, a trigger, a routine and an event."""
    assert lab.database()["changed"]
    lab.fill()
    return lab


def copies(lab: Lab, *ids: str) -> None:
    """More backups, each older than the one before: copies of the first, proven one."""
    first = json.loads((lab.place / (ids[0] + ".json")).read_text())
    dump = (lab.place / (ids[0] + ".sql")).read_bytes()
    for number, id_ in enumerate(ids[1:], start=1):
        older = {**first, "id": id_, "made_epoch": first["made_epoch"] - number * 3600}
        (lab.place / (id_ + ".json")).write_text(json.dumps(older))
        (lab.place / (id_ + ".sql")).write_bytes(dump)


def test_a_backup_is_taken_and_proven(filled: Lab) -> None:
    looked = filled.backup(check=True)
    assert (looked["changed"], looked["before"], looked["newest"]) == (True, {"backup": None}, None)
    assert not filled.place.exists(), "check mode makes no folder"
    answer = filled.backup(id="one", expect={"backup": None})
    assert answer["verdict"]["code"] == "backup.taken", answer
    assert (answer["changed"], answer["before"], answer["after"]) == (True, {"backup": None}, {"backup": "one"})
    assert (answer["backup"]["tables"], answer["backup"]["rows"]) == (3, 53)
    manifest = json.loads((filled.place / "one.json").read_text())
    assert manifest["tables"] == {"empty": 0, "odd `name": 3, "project": 50}
    assert (manifest["proven"], manifest["service"], manifest["charset"]) == (True, "keystone", "utf8mb4")
    assert manifest["comment"] == filled.maria.sql(
        "SELECT SCHEMA_COMMENT FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'key_stone'"
    )
    assert manifest["version"] == filled.maria.sql("SELECT @@version")
    assert manifest["position"]["gtid"] == filled.maria.sql("SELECT @@gtid_binlog_pos")
    assert manifest["bytes"] == (filled.place / "one.sql").stat().st_size == answer["backup"]["bytes"]
    assert oct(filled.place.stat().st_mode)[-3:] == "700"
    assert {oct(path.stat().st_mode)[-3:] for path in filled.place.iterdir()} == {"600"}
    assert sorted(path.name for path in filled.place.iterdir()) == ["one.json", "one.sql"]
    assert "--property=MemoryMax=256M" in (filled.jobs / "osops-job-backup-one.service.properties").read_text()
    assert filled.leftovers() == []
    again = filled.backup(id="one", expect={"backup": "one"})
    assert (again["changed"], again["verdict"]["code"], again["backup"]["sha256"]) == (
        False,
        "backup.present",
        manifest["sha256"],
    )
    failed(filled.backup(id="two", expect={"backup": "two"}), "expect.foreign")


def test_temporary_tables_of_the_server_that_serves_stay(filled: Lab) -> None:
    """A MariaDB that starts, or is only made, removes all temporary tables of its tmpdir: the proof has a folder of its own for them."""
    theirs = Path(tempfile.gettempdir()) / "#sql-temptable-osops-test.MAI"
    theirs.touch()
    try:
        assert filled.backup(id="one")["verdict"]["code"] == "backup.taken"
        assert theirs.exists()
    finally:
        theirs.unlink(missing_ok=True)


def test_without_a_name(filled: Lab) -> None:
    of_a_run = filled.backup(token=7)
    assert of_a_run["after"] == {"backup": "keystone-key_stone-7"}
    assert filled.backup(token=7)["changed"] is False, "a step that is done again finds its own"
    of_a_person = filled.backup()
    assert of_a_person["after"]["backup"].startswith("keystone-key_stone-2")
    assert of_a_person["after"]["backup"].endswith("Z")
    look = filled.backup(check=True)
    assert look["newest"]["id"] == look["before"]["backup"] == of_a_person["after"]["backup"]
    assert 0 <= look["newest"]["age_s"] < 60
    assert look["backups"] == [of_a_person["after"]["backup"], "keystone-key_stone-7"]


def test_old_ones_go_and_what_is_not_ours_stays(filled: Lab) -> None:
    filled.backup(id="a")
    copies(filled, "a", "b", "c", "d", "other")
    other = json.loads((filled.place / "other.json").read_text())
    (filled.place / "other.json").write_text(json.dumps({**other, "database": "nova", "service": "nova"}))
    (filled.place / "notes.txt").write_text("a person's")
    (filled.place / "by-hand.sql").write_text("a person's")
    answer = filled.backup(id="e", keep=2)
    assert answer["pruned"] == ["b", "c", "d"]
    assert answer["backups"] == ["e", "a"]
    left = {"by-hand.sql", "notes.txt", *(name + end for name in ("a", "e", "other") for end in (".sql", ".json"))}
    assert {path.name for path in filled.place.iterdir()} == left


def test_the_newest_that_is_whole_is_never_pruned(filled: Lab) -> None:
    filled.backup(id="a")
    copies(filled, "a", "b", "c")
    for name in ("a", "b"):
        (filled.place / (name + ".sql")).unlink()
    look = filled.backup(check=True)
    assert look["newest"]["id"] == "c"


def test_one_is_removed_by_its_id(filled: Lab) -> None:
    filled.backup(id="a")
    assert filled.backup("absent", id="a", check=True)["changed"] is True
    failed(filled.backup("absent", id="a", database="nova"), "backup.foreign")
    assert filled.backup("absent", id="a")["after"] == {"backup": None}
    assert list(filled.place.iterdir()) == []
    assert filled.backup("absent", id="a")["changed"] is False
    (filled.place / "a.sql").write_text("a person's")
    failed(filled.backup("absent", id="a"), "backup.foreign")
    assert failed(filled.backup(id="a"), "backup.foreign")["reason"].endswith("has no manifest.")


def test_a_damaged_one_is_not_taken_again_under_the_same_name(filled: Lab) -> None:
    filled.backup(id="a")
    with open(filled.place / "a.sql", "r+b") as file:
        file.seek(1000)
        file.write(b"\0")
    failed(filled.backup(id="a"), "backup.corrupt")


def test_a_disk_that_is_too_full(filled: Lab) -> None:
    filled.place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=700", "none", str(filled.place)], check=False)
    assert mounted.returncode == 0, "this test needs root"
    try:
        for check in (True, False):
            verdict = failed(filled.backup(id="a", check=check), "backup.disk")
            assert "has 12 MiB free; the backup and its proof need 16 MiB" in verdict["reason"]
        assert list(filled.place.iterdir()) == []
    finally:
        subprocess.run(["umount", str(filled.place)], check=True)


def test_a_disk_that_gets_full_on_the_way(filled: Lab) -> None:
    filled.place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "none", str(filled.place)], check=False)
    assert mounted.returncode == 0, "this test needs root"
    try:
        holder = held(filled)
        process = filled.start("mariadb_backup", filled.backup_args("present", id="a"))
        until(lambda: (filled.place / "a.sql").exists())
        subprocess.run(["dd", "if=/dev/zero", "of=%s" % (filled.place / "ball"), "bs=4k"], check=False, capture_output=True)
        release(holder)
        verdict = failed(json.loads(process.communicate(timeout=60)[0]), "host.os_error")
        assert "No space left on device" in verdict["reason"]
        assert [path.name for path in filled.place.iterdir()] == ["ball"]
    finally:
        subprocess.run(["umount", str(filled.place)], check=True)


def test_a_disk_that_does_not_keep_what_was_written(filled: Lab) -> None:
    process = filled.start("mariadb_backup", filled.backup_args("present", id="a"))
    until(lambda: list(filled.scratch.glob("*/data")))
    path = filled.place / "a.sql"
    with open(path, "r+b") as file:
        file.seek(path.read_bytes().index(b"no comment"))
        file.write(b"on")
    verdict = failed(json.loads(process.communicate(timeout=60)[0]), "backup.unproven")
    assert verdict["reason"] == "What was loaded from the dump is not what was dumped."
    assert (list(filled.place.iterdir()), filled.leftovers()) == ([], [])


def test_a_place_that_others_can_look_into(filled: Lab) -> None:
    filled.place.mkdir(mode=0o755)
    assert "only its owner" in failed(filled.backup(id="a"), "backup.place")["reason"]


@pytest.mark.parametrize(
    ("harm", "code", "says"),
    [
        ("CREATE TABLE key_stone.old (a INT) ENGINE=MyISAM", "backup.engine", "The table old of key_stone (MyISAM, BASE TABLE)"),
        ("CREATE TABLE key_stone.old (a INT) WITH SYSTEM VERSIONING", "backup.engine", "SYSTEM VERSIONED"),
        (
            "CREATE VIEW key_stone.broken AS SELECT * FROM key_stone.empty; DROP TABLE key_stone.empty",
            "backup.dump",
            "mariadb-dump did not come to its end",
        ),
        (
            "CREATE TABLE key_stone.tight (a INT CHECK (a > 0)); SET check_constraint_checks = 0; INSERT INTO key_stone.tight VALUES (-1)",
            "backup.load",
            "The dump could not be loaded",
        ),
        ("DROP DATABASE key_stone", "backup.no_database", "There is no database key_stone"),
    ],
)
def test_what_cannot_be_backed_up(filled: Lab, harm: str, code: str, says: str) -> None:
    filled.maria.sql(harm)
    answer = filled.backup(id="a")
    assert says in failed(answer, code)["reason"]
    assert (answer["after"], filled.leftovers()) == ({"backup": None}, [])
    assert not filled.place.exists() or list(filled.place.iterdir()) == []


def test_a_view_whose_account_is_gone(filled: Lab) -> None:
    filled.maria.sql("DROP USER keystone@'%'")
    assert filled.backup(id="a")["verdict"]["code"] == "backup.taken"


def held(lab: Lab) -> subprocess.Popen[bytes]:
    """A session that no dump gets past."""
    holder = subprocess.Popen(lab.maria.argv("LOCK TABLES key_stone.project WRITE; SELECT SLEEP(60)"))
    until(lambda: "SLEEP" in lab.maria.sql("SELECT INFO FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP%'"))
    return holder


def release(holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    holder.wait()


def test_a_deadline_ends_it_and_leaves_nothing(filled: Lab) -> None:
    holder = held(filled)
    try:
        failed(filled.backup(id="a", deadline=4), "job.deadline")
    finally:
        release(holder)
    until(lambda: list(filled.place.iterdir()) == [])
    assert filled.leftovers() == []


def kill_job(lab: Lab, name: str, whole: bool = True) -> None:
    """Kill -9 what the job runs: all of it, or only the programs of ours and not the servers that they have started."""
    leader = int((lab.jobs / ("osops-job-%s.service.pid" % name)).read_text())
    if whole:
        os.killpg(leader, signal.SIGKILL)
        return
    children = Path("/proc/%d/task/%d/children" % (leader, leader)).read_text().split()
    for pid in (leader, *map(int, children)):
        os.kill(pid, signal.SIGKILL)


def test_killed_in_the_middle_of_the_dump(filled: Lab) -> None:
    holder = held(filled)
    process = filled.start("mariadb_backup", filled.backup_args("present", id="a"))
    until(lambda: (filled.place / "a.sql").exists())
    kill_job(filled, "backup-a")
    answer = json.loads(process.communicate(timeout=60)[0])
    failed(answer, "job.cut")
    release(holder)
    assert filled.backup(check=True)["newest"] is None, "what is not proven is no backup"
    answer = filled.backup(id="a", expect={"backup": None}, resume=True)
    assert (answer["after"], answer["backup"]["rows"]) == ({"backup": "a"}, 53), answer
    assert filled.leftovers() == []


def test_killed_in_the_middle_of_the_proof(filled: Lab) -> None:
    process = filled.start("mariadb_backup", filled.backup_args("present", id="a"))
    until(lambda: list(filled.scratch.glob("*/s")) and [line for line in filled.leftovers() if "mariadbd" in line])
    kill_job(filled, "backup-a", whole=False)
    failed(json.loads(process.communicate(timeout=60)[0]), "job.cut")
    assert filled.leftovers() != [], "the server of the proof is an orphan now"
    answer = filled.backup(id="b")
    assert answer["after"] == {"backup": "b"}, answer
    assert filled.leftovers() == [], "and any later proof ends it"
    assert filled.backup(id="a", resume=True)["after"] == {"backup": "a"}


def test_a_lost_connection_does_not_end_it(filled: Lab) -> None:
    process = filled.start("mariadb_backup", filled.backup_args("present", id="a"))
    until(lambda: (filled.jobs / "osops-job-backup-a.service.pid").exists())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    answer = filled.backup(id="a", expect={"backup": None}, resume=True)
    assert answer["after"] == {"backup": "a"}, answer
    assert len(list(filled.jobs.glob("*.pid"))) == 1


def test_no_secret_in_any_command_line_or_file(filled: Lab) -> None:
    quoted = ADMIN.replace("\\", "\\\\").replace("'", "''")
    filled.maria.sql(
        "CREATE USER keyboss@localhost IDENTIFIED BY '%s'; GRANT ALL ON *.* TO keyboss@localhost WITH GRANT OPTION" % quoted
    )
    seen: set[bytes] = set()
    over = threading.Event()

    def sample() -> None:
        while not over.is_set():
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    seen.add(Path("/proc/%s/cmdline" % pid).read_bytes())
                except OSError:
                    continue
            time.sleep(0.002)

    sampler = threading.Thread(target=sample)
    sampler.start()
    given = {"server": {"socket": filled.maria.socket, "user": "keyboss"}, "secrets": {"admin_password": ADMIN}}
    try:
        taken = filled.backup(id="a", **given)
        assert taken["verdict"]["code"] == "backup.taken", taken
        filled.maria.sql("DROP TABLE key_stone.empty")
        back = filled.backup("restored", id="a", **given)
        assert back["verdict"]["code"] == "backup.restored", back
    finally:
        over.set()
        sampler.join()
    assert [line for line in seen if line.startswith(b"/usr/bin/mariadb-dump\0--defaults-file=")], "the programs were seen"
    assert not [line for line in seen if b"4711" in line]
    kept = [path for folder in (filled.place, filled.jobs) for path in folder.rglob("*") if path.is_file()]
    assert len(kept) > 8
    assert not [path for path in kept if b"4711" in path.read_bytes()]
    assert forgotten_options() == []


def test_a_server_that_does_not_answer_or_refuses(lab: Lab) -> None:
    lab.database()
    for state in ("present", "restored"):
        for check in (True, False):
            away = lab.backup(state, check=check, id="a", server={"socket": "/nowhere/s"})
            assert "No MariaDB answers at the socket /nowhere/s" in failed(away, "database.unreachable")["reason"]
            refused = lab.backup(state, check=check, id="a", server={"socket": lab.maria.socket, "user": "nobody"})
            assert "Access denied for user 'nobody'@'localhost'" in failed(refused, "database.refused")["reason"]
    assert not lab.place.exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"database": "a`b"}, "is not the name of a database"),
        ({"database": "a'b"}, "is not the name of a database"),
        ({"database": "../a"}, "is not the name of a database"),
        ({"database": "information_schema"}, "belongs to MariaDB itself"),
        ({"server": {"socket": "/tmp/a'b"}}, "is not the path of a socket"),
        ({"server": {"socket": "/tmp/s", "user": "a b"}}, "is not the name of an account"),
        ({"id": "../a"}, "is not the name of a backup"),
        ({"id": "a.sql"}, "is not the name of a backup"),
        ({"id": "a'b"}, "is not the name of a backup"),
        ({"id": "latest"}, "id latest is for state restored only"),
        ({"state": "absent", "id": "latest"}, "id latest is for state restored only"),
        ({"state": "absent"}, "state absent needs id"),
        ({"id": "a.restored"}, "is not the name of a backup"),
        ({"keep": 0}, "keep is 0"),
        ({"place": "backups\n"}, "is not the absolute path"),
        ({"service": "a b"}, "is not the name of a service"),
        ({"resources": {"memory_mb": 64}}, "needs at least 128"),
        ({"resources": {"io_weight": 0}}, "goes from 1 to 10000"),
        ({"scratch": "/" + "s" * 90}, "at most 80 letters"),
        ({"kind": "external"}, "kind external needs command"),
        ({"kind": "external", "command": ["true"], "max_age_s": 9}, "kind external needs command"),
        ({"kind": "external", "state": "restored", "id": "a"}, "is restored with the tool that makes it"),
    ],
)
def test_input_that_cannot_be_used(lab: Lab, given: dict[str, t.Any], says: str) -> None:
    code = "database.input" if "database" in given or "server" in given else "backup.input"
    verdict = failed(lab.backup(**given), code)
    assert says in verdict["reason"]
    assert not lab.place.exists()


@pytest.mark.parametrize("kind", ["full", "open", "link"])
def test_a_folder_of_somebody_else_is_not_swept(filled: Lab, tmp_path: Path, kind: str) -> None:
    """What lies in the folder for proofs is removed without a question, so it is ours alone or refused."""
    theirs = tmp_path / "data"
    (theirs / "0123456789abcdef").mkdir(parents=True)
    (theirs / "0123456789abcdef" / "precious").write_text("x")
    if kind == "open":
        (theirs / ".osops-proof").touch()
        theirs.chmod(0o777)
    place = tmp_path / "link" if kind == "link" else theirs
    if kind == "link":
        place.symlink_to(theirs)
    mode = theirs.stat().st_mode
    verdict = failed(filled.backup(scratch=str(place)), "backup.scratch")
    assert "holds something else, or others may write to it" in verdict["reason"]
    assert (theirs / "0123456789abcdef" / "precious").read_text() == "x"
    assert theirs.stat().st_mode == mode


def test_a_row_that_the_server_would_not_take_back_is_no_backup(filled: Lab) -> None:
    filled.maria.sql("SET GLOBAL max_allowed_packet = 1048576")
    try:
        filled.maria.sql("CREATE TABLE key_stone.big (id INT PRIMARY KEY, b LONGBLOB) ENGINE=InnoDB")
        filled.maria.sql("INSERT INTO key_stone.big VALUES (1, REPEAT('x', 900000))")
        verdict = failed(filled.backup(), "backup.load")
        assert "could not be loaded" in verdict["reason"]
    finally:
        filled.maria.sql("DROP TABLE IF EXISTS key_stone.big; SET GLOBAL max_allowed_packet = 16777216")


@pytest.mark.parametrize(
    "form", ["date +%s", "date +%s.%N | cut -c1-14", "date -u +%Y-%m-%dT%H:%M:%SZ", "date -Iseconds", "date --rfc-3339=seconds"]
)
def test_a_backup_of_somebody_else(lab: Lab, form: str) -> None:
    given = {"kind": "external", "command": ["/bin/sh", "-c", form], "max_age_s": 60}
    answer = lab.backup(**given)
    assert (answer["changed"], answer["verdict"]["code"]) == (False, "backup.fresh"), answer
    assert answer["newest"]["age_s"] <= 5
    stale = failed(
        lab.backup(**{**given, "command": ["/bin/sh", "-c", form.replace("date", "date -d '2 hours ago'")]}), "backup.stale"
    )
    assert "at most 60 s are allowed" in stale["reason"]


@pytest.mark.parametrize(
    "said",
    [
        "echo soon",
        "true",
        "date +%s; exit 1",
        "date +%s; date +%s",
        "date +%Y-%m-%dT%H:%M:%S",
        "date -d tomorrow +%s",
        "echo nan",
    ],
)
def test_an_answer_that_is_not_understood(lab: Lab, said: str) -> None:
    answer = lab.backup(kind="external", command=["/bin/sh", "-c", said], max_age_s=60)
    failed(answer, "backup.unreadable")


def test_values_of_float_columns(filled: Lab) -> None:
    """A dump has six digits of them: where they are enough it is a backup, and where they are not there is none."""
    filled.maria.sql(
        "CREATE TABLE key_stone.ratio (id INT PRIMARY KEY, `a ``b` FLOAT, c FLOAT(7,2), d DOUBLE);"
        "INSERT INTO key_stone.ratio VALUES (1, 16.0, 1.50, 1/3), (2, 0.9, 12345.67, 1e300), (3, NULL, NULL, NULL), (4, 1e-20, -0.01, PI())"
    )
    assert filled.backup(id="a")["verdict"]["code"] == "backup.taken"
    filled.maria.sql("UPDATE key_stone.ratio SET `a ``b` = 1.2345678 WHERE id = 1")
    for check in (True, False):
        reason = failed(filled.backup(id="b", check=check), "backup.float")["reason"]
        assert reason == "A dump writes six digits of a FLOAT, so it would change values of ratio.a `b (1 rows)."


def test_a_float_that_is_written_while_the_backup_is_taken(filled: Lab) -> None:
    filled.maria.sql("CREATE TABLE key_stone.ratio (id INT PRIMARY KEY, a FLOAT); INSERT INTO key_stone.ratio VALUES (1, 16)")
    holder = held(filled)
    process = filled.start("mariadb_backup", filled.backup_args("present", id="a"))
    until(lambda: (filled.place / "a.sql").exists())
    filled.maria.sql("UPDATE key_stone.ratio SET a = 1.2345678")
    release(holder)
    failed(json.loads(process.communicate(timeout=60)[0]), "backup.float")
    assert (list(filled.place.iterdir()), filled.leftovers()) == ([], [])

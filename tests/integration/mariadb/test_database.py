# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mariadb_database on a real MariaDB: it makes, mends and drops its own, and never touches anything else."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import typing as t
from pathlib import Path

import pytest

from tests.integration.mariadb.lab import ADMIN, PASSWORD, Lab, failed, forgotten_options, until

BOTH = {"keystone@%": True, "keystone@10.0.0.%": True}
NONE = dict.fromkeys(BOTH, False)
EMPTY = {"database": False, "owner": None, "accounts": NONE, "tables": 0}
MADE = {"database": True, "owner": "east/keystone", "accounts": BOTH, "tables": 0}


def everything(lab: Lab) -> str:
    """All databases with their comments, and all accounts with their rights."""
    accounts = lab.maria.sql("SELECT QUOTE(User), '@', QUOTE(Host) FROM mysql.global_priv").replace("\t", "").splitlines()
    grants = "".join(lab.maria.sql("SHOW GRANTS FOR %s" % account) for account in accounts if "mariadb.sys" not in account)
    return lab.maria.sql("SELECT * FROM information_schema.SCHEMATA ORDER BY SCHEMA_NAME") + grants


def login(lab: Lab, statement: str, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "MYSQL_PWD": password}
    return subprocess.run(lab.maria.argv(statement, "keystone"), env=environ, capture_output=True, text=True, check=False)


def test_make_then_nothing_to_do_then_drop(lab: Lab) -> None:
    at_first = everything(lab)
    predicted = lab.database(check=True)
    assert (predicted["changed"], predicted["before"], predicted["after"]) == (True, EMPTY, MADE)
    assert everything(lab) == at_first, "check mode changes nothing"
    made = lab.database(expect=EMPTY, token=3)
    assert (made["changed"], made["before"], made["after"]) == (True, EMPTY, MADE), made
    assert made["verdict"]["code"] == "database.made"
    assert made["server"]["node"] == lab.maria.sql("SELECT @@hostname")
    assert made["login"] == {"keystone@%": "proven", "keystone@10.0.0.%": "stored"}
    assert login(lab, "CREATE TABLE key_stone.trial (a INT)").returncode == 0
    again = lab.database(expect=MADE, token=3)
    assert (again["changed"], again["after"]) == (False, {**MADE, "tables": 1})
    assert failed(lab.database("absent", token=2), "fence.stale_token")
    looked = lab.database("absent", check=True)
    assert (looked["changed"], looked["after"]) == (True, EMPTY)
    gone = lab.database("absent", expect={"owner": "east/keystone"}, secrets={})
    assert (gone["changed"], gone["after"]) == (True, EMPTY)
    assert everything(lab) == at_first, "it leaves nothing, and took nothing else"
    assert lab.database("absent")["changed"] is False


def test_the_rights_end_at_the_database(lab: Lab) -> None:
    # The _ of a name stands for any letter in a GRANT, unless it is escaped.
    lab.maria.sql("CREATE DATABASE keyXstone; CREATE TABLE keyXstone.a (a INT)")
    try:
        lab.database()
        refused = login(lab, "SELECT * FROM keyXstone.a")
    finally:
        lab.maria.sql("DROP DATABASE keyXstone")
    assert "denied" in refused.stderr, refused


@pytest.mark.parametrize(
    ("harm", "drift"),
    [
        ("ALTER USER keystone@'%' IDENTIFIED BY 'other'", {"keystone@%": ["password"]}),
        ("ALTER USER keystone@'10.0.0.%' IDENTIFIED VIA unix_socket", {"keystone@10.0.0.%": ["password"]}),
        ("REVOKE DROP ON `key\\_stone`.* FROM keystone@'%'", {"keystone@%": ["grants"]}),
    ],
)
def test_drift_is_mended(lab: Lab, harm: str, drift: dict[str, list[str]]) -> None:
    lab.database()
    lab.maria.sql(harm)
    looked = lab.database(check=True)
    assert (looked["changed"], looked["drift"]) == (True, drift)
    mended = lab.database()
    assert (mended["changed"], mended["verdict"]["code"], mended["drift"]) == (True, "database.mended", drift)
    assert (lab.database()["changed"], lab.database()["drift"]) == (False, {})


def test_an_account_that_was_removed_and_one_more_host(lab: Lab) -> None:
    lab.database()
    lab.maria.sql("DROP USER keystone@'%'")
    wider = {"database": {"from": ["%", "10.0.0.%", "localhost"]}}
    answer = lab.database(**wider)
    assert answer["before"]["accounts"] == {**BOTH, "keystone@%": False, "keystone@localhost": False}
    assert answer["login"]["keystone@localhost"] == "proven"
    assert lab.database("absent")["before"]["accounts"] == {**BOTH, "keystone@localhost": True}, "what the mark names, all of it"
    assert lab.maria.sql("SELECT COUNT(*) FROM mysql.global_priv WHERE User = 'keystone'") == "0"


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ("CREATE DATABASE key_stone", "was not made by osops.lifecycle"),
        ("CREATE DATABASE key_stone COMMENT 'osops.lifecycle {\"owner\"'", "was not made by osops.lifecycle"),
        (
            'CREATE DATABASE key_stone COMMENT \'osops.lifecycle {"accounts":[],"owner":"west/keystone"}\'',
            "belongs to west/keystone, not to east/keystone",
        ),
        ("CREATE USER keystone@'10.0.0.%'", "The account keystone@10.0.0.% was not made with the database"),
    ],
)
def test_what_is_not_ours_stays(lab: Lab, there: str, says: str) -> None:
    lab.maria.sql(there)
    before = everything(lab)
    for state in ("present", "absent"):
        for check in (True, False):
            answer = lab.database(state, check=check)
            assert says in failed(answer, "database.foreign")["reason"]
            assert answer["before"] not in ({}, EMPTY)
    assert everything(lab) == before


def test_accounts_of_others_are_not_dropped_on_the_word_of_a_comment(lab: Lab) -> None:
    """The service has all rights on its database, so it may write the comment that holds the mark."""
    lab.database()
    comment = lab.maria.sql("SELECT SCHEMA_COMMENT FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'key_stone'").strip()
    lab.maria.sql("CREATE USER nova@localhost")
    assert '"accounts":[' in comment, comment
    forged = comment.replace('"accounts":[', '"accounts":["nova@localhost",')
    lab.maria.sql("ALTER DATABASE key_stone COMMENT '%s'" % forged)
    try:
        reason = failed(lab.database("absent"), "database.foreign")["reason"]
        assert "names accounts of others: nova@localhost" in reason
        assert lab.maria.sql("SELECT User FROM mysql.global_priv WHERE User = 'nova'").strip() == "nova"
        assert lab.maria.sql("SHOW DATABASES LIKE 'key%'").strip() == "key_stone"
    finally:
        lab.maria.sql("DROP USER nova@localhost; ALTER DATABASE key_stone COMMENT '%s'" % comment)
        lab.database("absent")


def test_somebody_changed_it_since_the_look(lab: Lab) -> None:
    failed(lab.database(expect=MADE), "expect.foreign")
    assert lab.maria.sql("SHOW DATABASES LIKE 'key%'") == ""


def test_a_reader_is_refused_and_named(lab: Lab) -> None:
    lab.maria.sql("SET GLOBAL read_only = 1")
    answer = lab.database()
    reason = failed(answer, "database.read_only")["reason"]
    assert lab.maria.sql("SELECT @@hostname") in reason
    assert lab.maria.sql("SELECT @@version") in reason
    lab.maria.sql("SET GLOBAL read_only = 0; CHANGE MASTER TO MASTER_HOST = '192.0.2.1', MASTER_USER = 'nobody'")
    try:
        assert "a replica" in failed(lab.database(), "database.read_only")["reason"]
    finally:
        lab.maria.sql("RESET SLAVE ALL")


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ({"database": {"name": "a`b"}}, "database.input", "is not the name of a database"),
        ({"database": {"name": "a'; DROP DATABASE mysql; --"}}, "database.input", "is not the name of a database"),
        ({"database": {"name": "mysql"}}, "database.input", "belongs to MariaDB itself"),
        ({"database": {"user": "a'b"}}, "database.input", "is not the name of an account"),
        ({"database": {"user": "root"}}, "database.input", "belongs to MariaDB itself"),
        ({"database": {"from": ["10.0.0.1'"]}}, "database.input", "is not a host pattern"),
        ({"database": {"from": []}}, "database.input", "database.from is empty"),
        ({"database": {"charset": "utf8 COMMENT 'x'"}}, "database.input", "is not the name of a character set"),
        ({"database": {"charset": "utf99"}}, "database.sql", "Unknown character set"),
        ({"database": {"from": ["10.%d.%%" % number for number in range(100)]}}, "database.input", "does not fit"),
        ({"owner": "keystone"}, "database.input", "is not of the form CLOUD/SERVICE"),
        ({"owner": "east/key'stone"}, "database.input", "is not of the form CLOUD/SERVICE"),
        ({"secrets": {}}, "database.input", "secrets.password, the password of the service's account, is not set"),
        ({"secrets": {"pasword": "x"}}, "database.input", "unknown key pasword"),
        ({"secrets": {"password": "a%b"}}, "database.password", "holds a %, which crashes Keystone's migration tool"),
        ({"secrets": {"password": "a@b/c"}}, "database.password", "special in an address"),
        ({"server": {"socket": "mysqld.sock"}}, "database.input", "is not the path of a socket"),
        ({"server": {"socket": "/nowhere/mysqld.sock"}}, "database.unreachable", "No MariaDB answers at the socket"),
    ],
)  # fmt: skip
def test_input_that_cannot_be_used(lab: Lab, given: dict[str, t.Any], code: str, says: str) -> None:
    before = everything(lab)
    answer = lab.database(**given)
    assert says in failed(answer, code)["reason"]
    assert answer["msg"].startswith(answer["verdict"]["reason"])
    assert "a%b" not in str(answer)
    assert everything(lab) == before


def test_an_administrator_with_a_password(lab: Lab) -> None:
    quoted = ADMIN.replace("\\", "\\\\").replace("'", "''")
    lab.maria.sql(
        "CREATE USER keyboss@localhost IDENTIFIED BY '%s'; GRANT ALL ON *.* TO keyboss@localhost WITH GRANT OPTION" % quoted
    )
    server = {"socket": lab.maria.socket, "user": "keyboss"}
    refused = failed(lab.database(server=server, secrets={"password": PASSWORD, "admin_password": "wrong"}), "database.refused")
    assert "Access denied for user 'keyboss'@'localhost'" in refused["reason"]
    answer = lab.database(server=server, secrets={"password": PASSWORD, "admin_password": ADMIN})
    assert answer["after"] == MADE, answer


def test_another_account_that_takes_the_login(lab: Lab) -> None:
    lab.database()
    lab.maria.sql("CREATE USER keystone@localhost IDENTIFIED BY 'other'")
    verdict = failed(lab.database(), "database.login")
    assert "cannot log in" in verdict["reason"]
    lab.maria.sql("ALTER USER keystone@localhost IDENTIFIED BY '%s'" % PASSWORD)
    assert "keystone@localhost, which is not one of its accounts" in failed(lab.database(), "database.login")["reason"]


def test_killed_between_the_database_and_its_accounts(lab: Lab) -> None:
    # CREATE USER waits for this lock, CREATE DATABASE does not.
    holder = subprocess.Popen(
        [*lab.maria.argv("")[:-2], "--unbuffered", "-e", "LOCK TABLES mysql.global_priv READ; SELECT 1; SELECT SLEEP(60)"],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    args = {"database": {"name": "key_stone", "user": "keystone", "from": ["%", "10.0.0.%"]}, "owner": "east/keystone"}
    process = lab.start("mariadb_database", {**args, "secrets": {"password": PASSWORD}})
    until(lambda: "CREATE USER" in lab.maria.sql("SHOW PROCESSLIST"))
    options = list(Path("/run").glob("osops-mariadb-%d-*" % process.pid))
    assert [oct(path.stat().st_mode)[-3:] for path in options] == ["700"]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    clients = lab.maria.sql("SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'CREATE USER%'").split()
    lab.maria.sql("KILL %s" % clients[0])
    holder.kill()
    holder.communicate()
    seen = lab.database(check=True)["before"]
    assert (seen["database"], seen["owner"], seen["accounts"]) == (True, "east/keystone", NONE), "half way"
    failed(lab.database(expect=EMPTY), "expect.foreign")
    answer = lab.database(expect=EMPTY, resume=True)
    assert answer["after"] == MADE, answer
    assert not [path for path in options if path.exists()], "the next call removes what a killed one has left"


def test_no_secret_anywhere(lab: Lab) -> None:
    log = lab.maria.folder / "general.log"
    begun, seen = log.stat().st_size, set[bytes]()
    over = threading.Event()

    def sample() -> None:
        while not over.is_set():
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    seen.add(Path("/proc/%s/cmdline" % pid).read_bytes())
                except OSError:
                    continue

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        assert lab.database()["changed"]
        lab.maria.sql("ALTER USER keystone@'%' IDENTIFIED BY 'other'")
        assert lab.database()["changed"]
    finally:
        over.set()
        sampler.join()
    assert [line for line in seen if b"--defaults-file=" in line], "the client was seen"
    assert not [line for line in seen if PASSWORD.encode() in line]
    logged = log.read_bytes()[begun:]
    assert b"CREATE USER 'keystone'@'%' IDENTIFIED" in logged
    assert PASSWORD.encode() not in logged, "nor does the server log it"
    assert forgotten_options() == []

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""schema_step with the real tools of Keystone 27 and 29 on a real MariaDB, in a database of its own for each test."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.artifact_source.rig import HOST, PATH, Rig

pytestmark = pytest.mark.rig
DATABASE = "db1"
CONFIG = "/etc/keystone/trial.conf"
PASSWORD = "Trial4711secret"  # noqa: S105


def sql(rig: Rig, statement: str) -> str:
    return rig.shell(DATABASE, 'mariadb -N -e "%s"' % statement)


def configure(rig: Rig, user: str = "trial", password: str = PASSWORD, server: str = "") -> None:
    """Point the trial configuration to the trial database, with another user, password or server on demand."""
    script = "s|^connection.*|connection = mysql+pymysql://%s:%s@%s/trial?charset=utf8mb4|" % (user, password, server or r"\1")
    rig.shell(
        HOST,
        "server=$(sed -nE 's|^connection.*@([^/]*)/.*|\\1|p' /etc/keystone/keystone.conf); "
        'sed -E "$(echo \'%s\' | sed "s|\\\\\\\\1|$server|")" /etc/keystone/keystone.conf > %s; chgrp keystone %s; chmod 640 %s'
        % (script, CONFIG, CONFIG, CONFIG),
    )


@pytest.fixture(scope="module")
def empty_27(rig: Rig, old: dict[str, Any]) -> str:
    """A dump of an empty database that Keystone 27 has made."""
    sql(rig, "DROP DATABASE IF EXISTS trial; CREATE DATABASE trial; CREATE OR REPLACE USER trial IDENTIFIED BY '%s'" % PASSWORD)
    sql(rig, "GRANT ALL ON trial.* TO trial")
    configure(rig)
    rig.shell(
        HOST, "runuser -u keystone -- %s/releases/%s/bin/keystone-manage --config-file %s db_sync" % (PATH, old["id"], CONFIG)
    )
    rig.shell(DATABASE, "mariadb-dump trial > /tmp/trial.sql")
    return "/tmp/trial.sql"


@pytest.fixture
def trial(rig: Rig, new: dict[str, Any], empty_27: str) -> Iterator[dict[str, Any]]:
    """The trial database as 27 left it, and the arguments that name it."""
    sql(rig, "DROP DATABASE IF EXISTS trial; CREATE DATABASE trial; GRANT ALL ON trial.* TO trial")
    rig.shell(DATABASE, "mariadb trial < %s" % empty_27)
    configure(rig)
    yield {"release": new, "config": {"files": [CONFIG]}, "job": "trial-schema"}
    rig.shell(HOST, "rm -f %s" % CONFIG)


@pytest.fixture(scope="module", autouse=True)
def nothing_left(rig: Rig) -> Iterator[None]:
    yield
    sql(rig, "DROP DATABASE IF EXISTS trial; DROP USER IF EXISTS trial, poor; FLUSH PRIVILEGES")


def failed(answer: dict[str, Any], code: str) -> dict[str, Any]:
    """The answer is a failure with this code; no password is in it, and a person is told what to do."""
    verdict = dict(answer["verdict"])
    assert verdict["outcome"] != "pass", answer
    assert verdict["code"] == code, answer
    assert verdict["hint"]
    assert PASSWORD not in str(answer)
    return verdict


def test_preflight_then_expand_then_nothing_to_do(rig: Rig, trial: dict[str, Any]) -> None:
    before = rig.shell(DATABASE, "mariadb-dump --skip-comments trial | sha256sum")
    answer = rig.schema("preflight", **trial)
    assert answer["verdict"]["outcome"] == "pass", answer
    assert (answer["changed"], answer["before"]["schema"]) == (False, "expand")
    assert [row["name"] for row in answer["checks"]] == ["database", "config_check", "upgrade_check", "schema_check"]
    assert answer["verdict"]["reason"] == "4 checks passed."
    assert answer["checks"][0]["node"] == DATABASE
    predicted = rig.schema("expand", check=True, **trial)
    assert (predicted["changed"], predicted["after"]["schema"]) == (True, "current")
    assert rig.shell(DATABASE, "mariadb-dump --skip-comments trial | sha256sum") == before, (
        "preflight and check mode change nothing"
    )
    moved = rig.schema("expand", expect={"schema": "expand"}, **trial)
    assert (moved["before"]["schema"], moved["after"]["schema"], moved["changed"]) == ("expand", "current", True), moved
    assert moved["after"]["head"] == "742c857f1dfb,c88cdce8f248"
    again = rig.schema("expand", expect={"schema": "expand"}, **trial)
    assert (again["changed"], again["verdict"]["code"]) == (False, "schema.current")


def test_an_option_that_the_new_release_does_not_know_is_said(rig: Rig, trial: dict[str, Any]) -> None:
    """Oslo reads no such option, so what it was for happens no more, in silence."""
    rig.shell(HOST, "sed -i '/^.token.$/a gone_since_29 = 1' %s" % CONFIG)
    answer = rig.schema("preflight", **trial)
    assert answer["verdict"]["outcome"] == "pass", answer
    assert "config_check warns: " in answer["verdict"]["reason"]
    assert "token/gone_since_29 is not part of" in answer["verdict"]["reason"]
    assert PASSWORD not in str(answer)


def test_the_tools_of_the_old_release_are_refused_by_the_new_schema(rig: Rig, trial: dict[str, Any], old: dict[str, Any]) -> None:
    rig.schema("expand", **trial)
    answer = rig.schema("expand", **{**trial, "release": old})
    failed(answer, "schema.refused")
    assert answer["before"]["schema"] == "refuse"
    answer = rig.schema("preflight", **{**trial, "release": old})
    assert "even newer release" in failed(answer, "preflight.schema_check")["reason"]


def test_killed_in_the_middle_of_expand(rig: Rig, trial: dict[str, Any]) -> None:
    recipe = rig.recipe
    args = {
        "state": "expand",
        "service": "keystone",
        "instance": {"path": PATH, "unit": "keystone-api.service"},
        "commands": recipe["commands"],
        "checks": recipe["preflight"],
        "act": recipe["schema"]["expand"],
        "deadline": 120,
        **trial,
    }
    rig.shell(HOST, "rm -rf /var/lib/osops/jobs/trial-schema")
    first = rig.start(HOST, "osops.lifecycle.schema_step", args)
    rig.kill_module(HOST, "test -e /var/lib/osops/jobs/trial-schema/output")
    assert "CHANGED" not in first.said(60)
    answer = rig.schema("expand", resume=True, expect={"schema": "expand"}, **trial)
    assert answer["after"]["schema"] == "current", answer


def test_a_database_that_is_down(rig: Rig, trial: dict[str, Any]) -> None:
    configure(rig, server=rig.listen(HOST).split(":")[0])  # nothing listens there
    answer = rig.schema("preflight", **trial)
    verdict = failed(answer, "preflight.database")
    assert "cannot be reached from this host" in verdict["reason"]
    # Keystone's own programs would go on trying for minutes.
    assert [row["outcome"] for row in answer["checks"]] == ["fail", "pass", "not_run", "not_run"]


def test_a_user_that_the_database_refuses(rig: Rig, trial: dict[str, Any]) -> None:
    configure(rig, password="Wrong4711")  # noqa: S106
    answer = rig.schema("preflight", **trial)
    assert "refuses the service's user" in failed(answer, "preflight.database")["reason"]
    assert "Wrong4711" not in str(answer)


def test_a_user_without_rights(rig: Rig, trial: dict[str, Any]) -> None:
    sql(
        rig,
        "CREATE OR REPLACE USER poor IDENTIFIED BY '%s'; GRANT SELECT, INSERT, UPDATE, DELETE, ALTER ON trial.* TO poor"
        % PASSWORD,
    )
    configure(rig, user="poor")
    answer = rig.schema("preflight", **trial)
    verdict = failed(answer, "preflight.database")
    assert "lacks CREATE, DROP, INDEX, REFERENCES on its database trial" in verdict["reason"]
    assert "IDENTIFIED BY PASSWORD" not in str(answer)


def test_a_read_only_database(rig: Rig, trial: dict[str, Any]) -> None:
    with rig.database(alone=True):
        sql(rig, "SET GLOBAL read_only = 1")
        try:
            answer = rig.schema("preflight", **trial)
        finally:
            sql(rig, "SET GLOBAL read_only = 0")
    assert "is read-only" in failed(answer, "preflight.database")["reason"]


def test_a_percent_sign_in_the_address(rig: Rig, trial: dict[str, Any], new: dict[str, Any]) -> None:
    sql(rig, "CREATE OR REPLACE USER trial IDENTIFIED BY '%s@'; GRANT ALL ON trial.* TO trial" % PASSWORD)
    configure(rig, password=PASSWORD + "%40")
    try:
        # The reason for the refusal: Keystone itself connects with such an address, and its migration tool crashes.
        crash = rig.shell(
            HOST,
            "%s/releases/%s/bin/keystone-manage --config-file %s db_sync --check 2>&1; echo rc=$?" % (PATH, new["id"], CONFIG),
        )
        verdict = failed(rig.schema("preflight", **trial), "preflight.database")
    finally:
        sql(rig, "CREATE OR REPLACE USER trial IDENTIFIED BY '%s'" % PASSWORD)
    assert "rc=1" in crash
    assert "invalid interpolation syntax" in crash
    assert "holds '%'" in verdict["reason"]


def test_another_node_than_the_one_that_was_named(rig: Rig, trial: dict[str, Any]) -> None:
    verdict = failed(rig.schema("preflight", database_host="db7", **trial), "preflight.database")
    assert "reaches the database node db1, not db7" in verdict["reason"]


def test_a_return_code_that_the_recipe_does_not_know(rig: Rig, trial: dict[str, Any]) -> None:
    commands = copy.deepcopy(rig.recipe["commands"])
    # Keystone's own check, which its recipe does not use (docs/decisions/schema-heads.md).
    argv = ["keystone-manage", "{config}", "db_sync", "--check"]
    commands["schema_check"] = {"argv": argv, "rc": {0: "current", 1: "refuse", 4: "contract"}}
    for state in ("preflight", "expand"):
        answer = rig.schema(state, commands=commands, **trial)
        verdict = failed(answer, "unknown_answer")
        assert "ended with 2, which the recipe does not know" in verdict["reason"]
        assert answer["changed"] is False


def test_a_release_that_is_not_here_yet(rig: Rig, trial: dict[str, Any]) -> None:
    answer = rig.schema("preflight", **{**trial, "release": {"id": "28.0.0-0123456789ab"}})
    failed(answer, "schema.release_not_present")

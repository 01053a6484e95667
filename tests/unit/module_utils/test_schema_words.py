# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a recipe says about commands and databases is read strictly; rights are read from real lines of SHOW GRANTS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.osops.lifecycle.plugins.module_utils import _database
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._grants import missing
from ansible_collections.osops.lifecycle.plugins.module_utils._probe import parse
from ansible_collections.osops.lifecycle.plugins.module_utils._schema import parse_commands
from ansible_collections.osops.lifecycle.plugins.module_utils._systemd import parse_show, seconds_of

NEEDED = ["CREATE", "ALTER", "INDEX"]


@pytest.mark.parametrize(
    ("rows", "lacks"),
    [
        (["GRANT USAGE ON *.*", "GRANT ALL PRIVILEGES ON `keystone`.*"], []),
        (["GRANT ALL PRIVILEGES ON *.*"], []),
        (["GRANT SELECT, CREATE ON `keystone`.*", "GRANT ALTER, INDEX ON *.*"], []),
        (["GRANT SELECT, CREATE, ALTER ON `keystone`.*"], ["INDEX"]),
        (["GRANT ALL PRIVILEGES ON `nova`.*"], NEEDED),
        (["GRANT ALL PRIVILEGES ON `key%`.*"], []),
        (["GRANT ALL PRIVILEGES ON `keyston_`.*"], []),
        ([r"GRANT ALL PRIVILEGES ON `key\_stone`.*"], NEEDED),
        (["GRANT ALL PRIVILEGES ON `keystone`.`project`"], NEEDED),
        (["GRANT SELECT (id, CREATE), ALTER ON `keystone`.*"], ["CREATE", "INDEX"]),
        (["GRANT `dba`"], NEEDED),
        ([], NEEDED),
    ],
)
def test_rights(rows: list[str], lacks: list[str]) -> None:
    assert missing(rows, "keystone", NEEDED) == lacks


def test_an_escaped_name_is_the_name() -> None:
    assert missing([r"GRANT ALL PRIVILEGES ON `key\_stone`.*"], "key_stone", NEEDED) == []


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"argv": ["keystone-manage"], "rc": {"0": "fine"}}, "unknown word fine"),
        ({"argv": ["keystone-manage"], "rc": {"zero": "ok"}}, "not a number"),
        ({"argv": ["/usr/bin/keystone-manage"], "rc": {0: "ok"}}, "plain name of a program"),
        ({"argv": [], "rc": {0: "ok"}}, "needs argv"),
        ({"argv": ["keystone-manage"], "rc": {}}, "and rc"),
    ],
)
def test_a_command_that_is_none_is_named(row: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInputError, match=r"commands\.check") as caught:
        parse_commands({"check": row})
    assert says in caught.value.msg


def facts(**more: Any) -> dict[str, Any]:
    return {
        "backend": "mysql",
        "database": "keystone",
        "user": "keystone",
        "node": "db1",
        "characters": "+:/@?=",
        "grants": [],
        **more,
    }


@pytest.mark.parametrize(
    ("seen", "wanted", "code"),
    [
        (facts(characters="%+:/@"), _database.Wanted("d", "c", (), ("%",)), "database.url"),
        (facts(node="db2"), _database.Wanted("d", "c", (), (), "db1"), "database.node"),
        (facts(read_only=True), _database.Wanted("d", "c"), "database.read_only"),
        (facts(), _database.Wanted("d", "c", ("CREATE",)), "database.grants"),
    ],
)
def test_what_a_database_must_be(seen: dict[str, Any], wanted: _database.Wanted, code: str) -> None:
    with pytest.raises(LifecycleError) as caught:
        _database.judge(seen, wanted)
    assert caught.value.code == code


def test_a_database_that_is_as_it_must_be() -> None:
    _database.judge(
        facts(grants=["GRANT ALL PRIVILEGES ON `keystone`.*"]), _database.Wanted("d", "c", ("CREATE",), ("%",), "db1")
    )


def test_the_recipe_of_keystone_is_understood(collection: Path) -> None:
    """By the hands' own strict readers, and each name in it means something."""
    recipe = yaml.safe_load((collection / "data" / "recipes" / "keystone.yml").read_text(encoding="utf-8"))
    commands = parse_commands(recipe["commands"])
    named = [check["command"] for check in recipe["preflight"] if "command" in check]
    named += [step[key] for step in recipe["schema"].values() for key in ("check", "act")]
    assert set(named) == set(commands)
    for check in recipe["preflight"]:
        if "command" in check:
            rest = set(commands[check["command"]].rc.values()) - set(check["accept"])
            assert rest == set(check["explain"]), "every answer that stops a run is explained"
        assert set(check.get("needs", ())) <= {other["name"] for other in recipe["preflight"]}
    baseline, verify = parse(recipe["probe"]["baseline"]), parse(recipe["probe"]["verify"])
    assert {"token"} == {name for request in baseline for name in request.save}
    assert [request.name for request in verify][:4] == ["version", "issue", "validate", "validate_before"]


@pytest.mark.parametrize(
    ("span", "seconds"), [("1min 30s", 90), ("500ms", 0.5), ("2h 5min", 7500), ("0", 0), ("infinity", float("inf"))]
)
def test_time_spans_of_systemd(span: str, seconds: float) -> None:
    assert seconds_of(span) == seconds


def test_what_systemd_shows() -> None:
    text = (
        "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nResult=exit-code\nNRestarts=3\nMainPID=0\nUser=keystone\n"
        "TimeoutStopUSec=1min 30s\nControlGroup=/system.slice/keystone-api.service\n"
        "ExecStart={ path=/opt/a/bin/uwsgi ; argv[]=/opt/a/bin/uwsgi --ini x=y ; ignore_errors=no }\n"
    )
    unit = parse_show("keystone-api.service", text)
    assert (unit.restarts, unit.user, unit.stop_timeout_s, unit.stopped, unit.exists) == (3, "keystone", 90.0, False, True)
    assert "argv[]=/opt/a/bin/uwsgi --ini x=y" in unit.starts[0]
    with pytest.raises(LifecycleError, match="does not say"):
        parse_show("x.service", "Failed to connect to bus\n")

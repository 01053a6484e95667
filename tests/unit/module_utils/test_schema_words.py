# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a recipe says about commands and databases is read strictly; rights are read from real lines of SHOW GRANTS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils import _database
from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._grants import missing
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._probe import parse
from ansible_collections.osops.lifecycle.plugins.module_utils._schema import Tools, parse_commands
from ansible_collections.osops.lifecycle.plugins.module_utils._systemd import parse_show, seconds_of
from ansible_collections.osops.lifecycle.plugins.plugin_utils import knowledge

COMPARED = ("current", "expand", "contract", "refuse")
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


HEADS = {"folder": "keystone/versions", "expand": "EXPAND_HEAD", "contract": "CONTRACT_HEAD"}


@pytest.mark.parametrize(
    "row",
    [{}, {"folder": "x", "expand": "y"}, {**HEADS, "folder": "/etc"}, {**HEADS, "expand": "../../x"}, {**HEADS, "more": "x"}],
    ids=str,
)
def test_heads_that_are_none_are_named(row: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match=r"commands\.check\.heads"):
        parse_commands({"check": {"heads": row}})


@pytest.mark.parametrize(
    ("there", "word"),
    [
        ([], "expand"),
        (["29e8", "e25f"], "expand"),
        (["11c3", "e25f"], "contract"),
        (["11c3", "c88c"], "current"),
        (["29e8", "c88c"], "expand"),
        (["742c", "c88c"], "refuse"),
    ],
)
def test_the_schema_is_judged_by_its_revisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: list[str], word: str
) -> None:
    """A database whose revision the release does not know is of a newer one, whatever else stands in it."""
    place = tmp_path / "releases" / "24.1.0-0123456789ab" / "lib" / "python3.11" / "site-packages" / "keystone" / "versions"
    for branch, names in (("expand", ("29e8_initial", "11c3_more")), ("contract", ("e25f_initial", "c88c_more"))):
        (place / "any" / branch).mkdir(parents=True)
        for name in names:
            (place / "any" / branch / (name + ".py")).touch()
    (place / "EXPAND_HEAD").write_text("11c3\n", encoding="ascii")
    (place / "CONTRACT_HEAD").write_text("c88c\n", encoding="ascii")
    checks = [{"name": "database", "database": {"section": "database", "option": "connection", "grants": []}}]
    params = {
        "release": {"id": "24.1.0-0123456789ab"}, "instance": {"path": str(tmp_path), "unit": "", "user": ""}, "secrets": None,
        "config": {"files": ["/etc/keystone.conf"], "option": "--config-file"}, "commands": {"check": {"heads": HEADS}}, "checks": checks,
        "database_host": None,
    }  # fmt: skip
    tools = Tools(params)
    monkeypatch.setattr(tools, "database", lambda _wanted, _terms: {"heads": there})
    assert tools.ask("check", Terms(False, None, False, Deadline(5)))[0] == word


ROW = [
    ("aa_first", 'revision = "aa"\ndown_revision = None\n'),
    ("bb_second", "revision: str = 'bb'\ndown_revision: str = 'aa'\n"),
]


@pytest.mark.parametrize(
    ("rows", "there", "word"),
    [
        (ROW, [], "expand"),
        (ROW, ["aa"], "expand"),
        (ROW, ["bb"], "current"),
        (ROW, ["cc"], "refuse"),
        (
            [
                *ROW,
                ("cc_fork", 'revision = "cc"\ndown_revision = "aa"\n'),
                ("dd", 'revision = "dd"\ndown_revision = (\n"bb", "cc")\n'),
            ],
            ["dd"],
            "current",
        ),
        ([*ROW, ("cc_made", 'revision = made()\ndown_revision = "bb"\n')], ["bb"], "schema.no_heads"),
        ([*ROW, ("cc_fork", 'revision = "cc"\ndown_revision = "aa"\n')], ["bb"], "schema.no_heads"),
        ([], [], "schema.no_heads"),
    ],
)
def test_one_row_of_revisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[tuple[str, str]], there: list[str], word: str
) -> None:
    """The last one is the one that no other is built on; two of them are no row."""
    place = tmp_path / "releases" / "15.0.0-0123456789ab" / "lib" / "python3.11" / "site-packages" / "placement" / "versions"
    place.mkdir(parents=True)
    for name, text in rows:
        (place / (name + ".py")).write_text(text, encoding="utf-8")
    (place / "__init__.py").touch()
    params = {
        "release": {"id": "15.0.0-0123456789ab"}, "instance": {"path": str(tmp_path), "unit": "", "user": ""}, "secrets": None,
        "config": {"files": ["/etc/placement/placement.conf"], "option": "--config-file"},
        "commands": {"check": {"heads": {"folder": "placement/versions"}}},
        "checks": [{"name": "database", "database": {"section": "placement_database"}}], "database_host": None,
    }  # fmt: skip
    tools = Tools(params)
    monkeypatch.setattr(tools, "database", lambda _wanted, _terms: {"heads": there})
    terms = Terms(False, None, False, Deadline(5))
    if word == "schema.no_heads":
        with pytest.raises(LifecycleError, match="no revisions") as caught:
            tools.ask("check", terms)
        assert caught.value.code == word
    else:
        assert tools.ask("check", terms)[0] == word


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


@pytest.mark.parametrize(
    ("service", "kept", "asked"),
    [
        ("keystone", {"token"}, ["version", "issue", "validate", "validate_before"]),
        ("placement", {"token"}, ["version", "issue", "read"]),
    ],
)
def test_a_recipe_is_understood(service: str, kept: set[str], asked: list[str]) -> None:
    """By its schema and by the hands' own strict readers, and each name in it means something."""
    recipe = knowledge.recipe(service).body
    commands = parse_commands(recipe["commands"])
    named = [check["command"] for check in recipe["preflight"] if "command" in check]
    named += [step[key] for step in recipe["schema"].values() for key in ("check", "act")]
    named += [name for step in recipe["schema"].values() for name in step.get("then", ())]
    assert set(named) == set(commands)
    for check in recipe["preflight"]:
        if "command" in check:
            command = commands[check["command"]]
            compared = {word for word in COMPARED if word != "contract" or word in command.heads}
            rest = (compared if command.heads else set(command.rc.values())) - set(check["accept"])
            assert rest == set(check.get("explain", ())), "every answer that stops a run is explained"
        assert set(check.get("needs", ())) <= {other["name"] for other in recipe["preflight"]}
    baseline, verify = parse(recipe["probe"]["baseline"]), parse(recipe["probe"]["verify"])
    assert kept == {name for request in baseline for name in request.save}
    assert [request.name for request in verify][: len(asked)] == asked


def test_every_recipe_is_tested(collection: Path) -> None:
    assert {path.stem for path in (collection / "data" / "recipes").iterdir()} == {"keystone", "memcached", "placement"}
    # What has no database, no migration and no API of its own needs nothing but its name and how long it may take to stop.
    recipe = knowledge.recipe("memcached")
    assert (recipe.order, recipe.stop_s("memcached")) == (("memcached",), 10)
    assert set(recipe.body) == {"service", "package", "components", "limits"}


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

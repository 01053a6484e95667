# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of consumers in the record: what is read, and one clear sentence for each key that is wrong."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import knowledge, model, record
from ansible_collections.osops.lifecycle.plugins.plugin_utils.plan import wanted_hash

BILLING: dict[str, t.Any] = {"name": "billing", "host": "client1", "command": ["/opt/billing/check", "--once"]}
PORTAL: dict[str, t.Any] = {"name": "portal", "host": "client1", "url": "{endpoint}/v3"}


def load(folder: pathlib.Path, *checks: t.Any, hosts: t.Sequence[str] = ("ctl1", "ctl2"), port: int = 5000) -> model.Record:
    component = {"hosts": list(hosts), **({"port": port} if port else {})}
    service = {
        "release": {"driver": "some.artifact.driver", "version": "2.0"},
        "components": {"echo-api": component},
        "checks": list(checks),
    }
    path = folder / "cloud.yml"
    path.write_text(yaml.safe_dump({"cloud": "dummy", "services": {"echo": service}}), encoding="utf-8")
    return record.load(str(path), {"all": [*hosts, "client1"], "clients": ["client1"]}, lambda host: host)


def test_what_is_not_said_has_a_default(tmp_path: pathlib.Path) -> None:
    (billing, portal) = load(tmp_path, BILLING, PORTAL).services["echo"].checks
    assert billing == model.Check("billing", "client1", ("/opt/billing/check", "--once"), "", 200, 60, "nobody", {})
    assert portal == model.Check("portal", "client1", (), "{endpoint}/v3", 200, 60, "nobody", {})


def test_everything_can_be_said(tmp_path: pathlib.Path) -> None:
    more = {"user": "billing", "timeout": 5, "secrets": {"PASSWORD": "v_billing"}}
    (billing, portal) = load(tmp_path, {**BILLING, **more}, {**PORTAL, "status": 300}).services["echo"].checks
    assert (billing.user, billing.timeout_s, billing.secrets) == ("billing", 5, {"PASSWORD": "v_billing"})
    assert portal.status == 300


WRONG: dict[str, tuple[dict[str, t.Any], str]] = {
    "a key that nobody knows": ({"shell": True}, "at services.echo.checks.0: Additional properties are not allowed ('shell' was"),
    "a host that is not there": ({"host": "client9"}, "at services.echo.checks.0.host: the inventory has no host client9."),
    "a group is no host": ({"host": "clients"}, "at services.echo.checks.0.host: the inventory has no host clients."),
    "a name with blanks": ({"name": "our billing"}, "at services.echo.checks.0.name: 'our billing' does not match"),
    "no name": ({"name": None}, "at services.echo.checks.0: 'name' is a required property"),
    "a program without its path": (
        {"command": ["check", "--once"]},
        "at services.echo.checks.0: the program check of the check billing is not named by its whole path.",
    ),
    "a command that is a line": (
        {"command": "/opt/billing/check --once"},
        "at services.echo.checks.0.command: '/opt/billing/check",
    ),
    "an empty command": ({"command": []}, "at services.echo.checks.0.command: [] "),
    "command and url": (
        {"url": "http://192.0.2.9/"},
        "at services.echo.checks.0: the check billing needs exactly one of command and",
    ),
    "neither of them": ({"command": None}, "at services.echo.checks.0: the check billing needs exactly one of command and url."),
    "a url with a password": (
        {"command": None, "url": "http://me:secret@192.0.2.9/"},
        "at services.echo.checks.0.url: 'http://me:secret@192.0.2.9/' does not match",
    ),
    "a url of another kind": (
        {"command": None, "url": "ftp://192.0.2.9/"},
        "at services.echo.checks.0.url: 'ftp://192.0.2.9/' does",
    ),
    "a status of a command": ({"status": 200}, "at services.echo.checks.0: status means nothing to the check billing."),
    "no such status": (
        {"command": None, "url": "http://192.0.2.9/", "status": 99},
        "at services.echo.checks.0.status: 99 is less",
    ),
    "a user of a url": (
        {"command": None, "url": "http://192.0.2.9/", "user": "billing"},
        "at services.echo.checks.0: user means nothing to the check billing.",
    ),
    "secrets of a url": (
        {"command": None, "url": "http://192.0.2.9/", "secrets": {"PASSWORD": "v_billing"}},
        "at services.echo.checks.0: secrets means nothing to the check billing.",
    ),
    "a user that cannot be": ({"user": "bill ing"}, "at services.echo.checks.0.user: 'bill ing' does not match"),
    "no time at all": ({"timeout": 0}, "at services.echo.checks.0.timeout: 0 is less than the minimum of 1"),
    "a secret over our own words": (
        {"secrets": {"OSOPS_HOST": "v"}},
        "at services.echo.checks.0.secrets: 'OSOPS_HOST' does not match",
    ),
    "a secret by its value": (
        {"secrets": {"PASSWORD": "it is 42"}},
        "at services.echo.checks.0.secrets.PASSWORD: 'it is 42' does",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_sentence(tmp_path: pathlib.Path, case: str) -> None:
    change, says = WRONG[case]
    row = {key: value for key, value in {**BILLING, **change}.items() if value is not None}
    with pytest.raises(BadInputError) as caught:
        load(tmp_path, row)
    assert says in caught.value.msg


def test_two_of_one_name(tmp_path: pathlib.Path) -> None:
    with pytest.raises(BadInputError, match=r"at services\.echo\.checks\.1: there are two checks with the name billing\."):
        load(tmp_path, BILLING, {**PORTAL, "name": "billing"})


def test_a_target_is_not_the_name_of_another_instance(tmp_path: pathlib.Path) -> None:
    with pytest.raises(BadInputError, match=r"the check billing cannot have this name, because there is a host ctl1\.billing\."):
        load(tmp_path, BILLING, hosts=["ctl1", "ctl1.billing"])


def test_without_a_port_there_is_nothing_to_ask(tmp_path: pathlib.Path) -> None:
    with pytest.raises(BadInputError, match=r"services\.echo\.checks is set, but no component has a port\."):
        load(tmp_path, BILLING, port=0)


def test_another_check_is_another_goal(tmp_path: pathlib.Path) -> None:
    recipes = {"echo": model.Recipe("echo", {})}
    plain, asked = load(tmp_path), load(tmp_path, BILLING)
    assert wanted_hash(plain, recipes, "upgrade") != wanted_hash(asked, recipes, "upgrade")
    assert wanted_hash(asked, recipes, "upgrade") == wanted_hash(load(tmp_path, BILLING), recipes, "upgrade")


def test_a_recipe_may_name_the_module_of_checks() -> None:
    body = {
        "service": "echo",
        "package": "echo",
        "components": [{"name": "echo-api", "stop": 5}],
        "modules": {"check": "some.other.check"},
    }
    knowledge.validate(body, "recipe", "recipe")
    assert model.Recipe("echo", body).module("check") == "some.other.check"
    assert model.Recipe("echo", {}).module("check") == "osops.lifecycle.consumer_check"

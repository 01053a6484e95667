# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input: one clear sentence each, and nothing is changed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.service_files.desk import PASSWORD, Desk, refused, tree

FILE = {"path": "/etc/x/a.conf", "content": "a"}
UNIT = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
UNIT_FILE = {"path": "/etc/systemd/system/a.service", "mode": "0644", "content": UNIT}


def with_file(**more: Any) -> dict[str, Any]:
    return {"files": [{**FILE, **more}]}


def with_ini(ini: Any) -> dict[str, Any]:
    return {"files": [{"path": "/etc/x/a.conf", "ini": ini}], "values": {"lines": "a\n[b]", "list": [1]}}


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ({"name": "../a"}, "files.input", "name '../a' is not a plain name"),
        ({"name": "a.json"}, "files.input", "is not a plain name"),
        ({"owner": ""}, "files.input", "owner '' is not a plain text"),
        ({"scope": "../x"}, "files.input", "scope '../x' holds characters"),
        ({"keep": -1}, "files.input", "keep is -1"),
        ({}, "files.input", "There is nothing to make"),
        (with_file(path="etc/a"), "files.input", "'etc/a' is not a plain absolute path"),
        (with_file(path="/etc/../etc/a"), "files.input", "is not a plain absolute path"),
        (with_file(path="/etc/a\n"), "files.input", "is not a plain absolute path"),
        (with_file(path="//etc/a"), "files.input", "is not a plain absolute path"),
        (with_file(path="/proc/1/a"), "files.input", "/proc/1/a lies below /proc"),
        (with_file(path="/sys"), "files.input", "/sys lies below /sys"),
        (with_file(path="/dev/shm/a"), "files.input", "lies below /dev"),
        (with_file(path="/var/lib/osops/owned/a"), "files.input", "lies below /var/lib/osops"),
        (with_file(path="/etc/" + "a" * 201), "files.input", "too long"),
        (with_file(mode="640"), "files.input", "the mode '640' is not four octal digits"),
        (with_file(mode="416"), "files.input", "is not four octal digits"),
        (with_file(mode="4755"), "files.input", "is not four octal digits"),
        (with_file(owner="a b"), "files.input", "the owner 'a b' is not a plain name"),
        (with_file(group="0"), "files.input", "the group '0' is not a plain name"),
        (with_file(ini={}), "files.input", "needs exactly one of content, ini and key"),
        ({"files": [{"path": "/etc/x/a"}]}, "files.input", "needs exactly one of content, ini and key"),
        ({"files": [FILE, FILE]}, "files.input", "/etc/x/a.conf is named twice"),
        ({"files": [FILE, {**FILE, "path": "/etc/x/a.conf/b"}]}, "files.input", "/etc/x/a.conf/b would lie in a file"),
        (with_file(content="a\n{b}"), "files.value", "/etc/x/a.conf needs a value for {b}"),
        (with_file(content="a\n  b {"), "fill.brace", "/etc/x/a.conf, line 2: a lone {"),
        (with_file(content="{Name}"), "fill.brace", "line 1: a lone {"),
        ({**with_file(content="{b}"), "values": {"b": [1]}}, "files.input", "The value of {b} is not one value"),
        ({**with_file(), "values": {"b": 1}, "secrets": {"b": 2}}, "files.input", "b stands in values and in secrets"),
        ({"files": [{"path": "/a", "key": {"secret": "k", "label": "l"}}]}, "files.value", "needs a secret k"),
        (
            {"files": [{"path": "/a", "key": {"secret": "k", "label": "l"}}], "secrets": {"k": ""}},
            "files.value",
            "needs a secret k",
        ),
        ({**with_file(content="{b}", mode="0644"), "secrets": {"b": PASSWORD}}, "files.input", "everybody could read it"),
        (with_ini({"a": "b"}), "files.input", "section a is not a mapping"),
        (with_ini({"a]": {}}), "files.input", "not a name of a section"),
        (with_ini({"a": {"b = c": 1}}), "files.input", "'b = c' is not an option"),
        (with_ini({"a": {"#b": 1}}), "files.input", "'#b' is not an option"),
        (with_ini({"a": {"b": None}}), "files.input", "option b is not one value"),
        (with_ini({"a": {"b": "{lines}"}}), "files.input", "option b: the value has more than one line"),
        (with_ini({"a": {"b": " x"}}), "files.input", "begins or ends with a space"),
        ({"user": {"name": "root", "home": "/root"}}, "files.input", "user.name 'root' is not the name of a system user"),
        ({"user": {"name": "-r", "home": "/var/x"}}, "files.input", "is not the name of a system user"),
        ({"user": {"name": "a", "home": "/var/a:b"}}, "files.input", "holds a colon"),
        ({**with_file(), "unit": "a.service"}, "files.input", "needs its file /etc/systemd/system/a.service"),
        ({"files": [UNIT_FILE], "unit": "../a.service"}, "files.input", "is not the name of a service unit"),
        (
            {"files": [{**UNIT_FILE, "content": "[Service]\n[Install]\n[Unit]\nWantedBy=x"}], "unit": "a.service"},
            "files.input",
            "has no WantedBy",
        ),
        ({"revision": "../x"}, "files.input", "is not a revision"),
        ({"revision": "0" * 12, **with_file()}, "files.input", "files cannot be given beside revision"),
    ],
)
def test_bad_input_is_one_sentence(desk: Desk, args: dict[str, Any], code: str, says: str) -> None:
    answer = desk.call(**args)
    assert says in refused(answer, code), answer["verdict"]
    assert answer["before"] == {}, "it is refused before the host is looked at"
    assert not desk.root.exists()


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"path": "{etc}/nowhere/a"}, "files.no_folder", "there is no folder"),
        ({"owner": "osops-nobody"}, "files.owner", "the user osops-nobody, who does not exist"),
        ({"group": "osops-nobody"}, "files.owner", "the group osops-nobody, which does not exist"),
    ],
)
def test_what_the_host_lacks_is_refused_before_anything_is_written(
    desk: Desk, change: dict[str, str], code: str, says: str
) -> None:
    wanted = desk.wanted()
    wanted["files"][1].update({key: value.replace("{etc}", str(desk.etc)) for key, value in change.items()})
    for check in (True, False):
        assert says in refused(desk.call(check=check, **wanted), code)
    assert (tree(desk.etc), desk.root.exists()) == ({}, False)


def test_a_broken_manifest_is_an_error(desk: Desk) -> None:
    desk.call(**desk.wanted())
    manifest = desk.root / "default" / "keystone-api.json"
    manifest.write_text(manifest.read_text()[:-5])
    there = tree(desk.etc)
    for answer in (desk.call(**desk.wanted("true")), desk.absent()):
        assert answer["verdict"]["outcome"] == "error"
        assert (answer["verdict"]["code"], answer["changed"]) == ("unknown_answer", False)
        assert str(manifest) in answer["msg"]
    assert tree(desk.etc) == there


def test_an_unknown_revision_is_refused_and_the_known_ones_are_named(desk: Desk) -> None:
    made = desk.call(**desk.wanted())
    there = tree(desk.etc)
    answer = desk.call(revision="0" * 12)
    refused(answer, "files.revision_unknown")
    assert made["after"]["revision"] in answer["verdict"]["hint"]
    assert tree(desk.etc) == there


def test_a_damaged_revision_is_refused(desk: Desk) -> None:
    first = desk.call(**desk.wanted())["after"]["revision"]
    desk.call(**desk.wanted("true"))
    there = tree(desk.etc)
    for blob in (desk.root / "default" / "keystone-api" / first).iterdir():
        if blob.name != "set.json":
            blob.write_text("something else")
    refused(desk.call(revision=first), "files.revision_damaged")
    assert tree(desk.etc) == there

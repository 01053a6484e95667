# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release is a version and its lock; whatever does not belong together is refused in one sentence."""

from __future__ import annotations

import hashlib

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.module_utils._pip import explain
from ansible_collections.osops.lifecycle.plugins.module_utils._release import Release, pins, release_id, version_of
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import scrub, tail

HASH = "--hash=sha256:" + "a" * 64
LOCK = "# made by uv\nkeystone==29.0.2 \\\n    %s \\\n    %s\nOslo.Config==9.7.1 ; python_version >= '3.9' %s  # why\n" % (
    HASH,
    HASH,
    HASH,
)


def release(**more: str) -> Release:
    return Release.from_args({"version": "29.0.2", "package": "keystone", "lock": LOCK, **more})


def test_the_id_is_version_and_hash_of_the_text_as_it_is() -> None:
    assert release().id == "29.0.2-" + hashlib.sha256(LOCK.encode()).hexdigest()[:12] == release_id("29.0.2", LOCK)
    assert release_id("29.0.2", LOCK + "\n") != release().id
    assert version_of(release().id) == "29.0.2"


def test_an_id_alone_is_a_release_that_is_on_the_host() -> None:
    alone = Release.from_args({"id": "27.0.1.dev3+x-0123456789ab"})
    assert (alone.version, alone.lock) == ("27.0.1.dev3+x", "")


def test_pins_are_read_by_the_names_that_indexes_compare() -> None:
    assert {name: version for name, (version, _line) in pins(LOCK).items()} == {"keystone": "29.0.2", "oslo-config": "9.7.1"}


def test_a_version_without_a_lock_is_an_adopted_environment() -> None:
    named = {"version": "27.0.1", "package": "keystone"}
    assert Release.from_args(named, adopted=True) == Release("", "27.0.1", "keystone")
    assert Release.from_args({**named, "id": "29.0.2-0123456789ab"}, adopted=True).version == "29.0.2", "an id says more"
    for refused, adopted in ((named, False), ({"version": "27.0.1"}, True), ({"package": "keystone"}, True)):
        with pytest.raises(BadInputError) as caught:
            Release.from_args(refused, adopted)
        assert caught.value.code == "artifact.release"


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ({"version": "29.0.3"}, "artifact.lock", "holds keystone 29.0.2, but 29.0.3 is wanted"),
        ({"package": "nova"}, "artifact.lock", "does not hold nova"),
        ({"lock": "keystone>=29\n"}, "artifact.lock", "does not pin 'keystone>=29'"),
        ({"lock": "keystone==29.0.2\n"}, "artifact.lock", "has no hash for keystone"),
        ({"lock": "--index-url http://x/\n" + LOCK}, "artifact.lock", "holds the option '--index-url'"),
        ({"lock": "-e git+https://x/y\n"}, "artifact.lock", "holds the option '-e'"),
        ({"lock": "# nothing\n"}, "artifact.lock", "is empty"),
        ({"digest": "sha256:" + "0" * 64}, "artifact.wrong_hash", "not the one that the record names"),
        ({"id": "29.0.2-000000000000"}, "artifact.id", "does not belong to this lock"),
        ({"lock": "", "id": "../../etc"}, "artifact.id", "not the name of a release"),
        ({"lock": ""}, "artifact.release", "neither an id nor a version"),
        ({"version": ""}, "artifact.release", "also needs its version"),
    ],
)
def test_what_does_not_belong_together_is_refused(more: dict[str, str], code: str, says: str) -> None:
    with pytest.raises(BadInputError) as caught:
        release(**more)
    assert caught.value.code == code
    assert says in caught.value.msg


def test_the_right_digest_is_taken() -> None:
    assert release(digest="sha256:" + hashlib.sha256(LOCK.encode()).hexdigest()).version == "29.0.2"


# Real output of pip 23.0.1 and of Debian's venv, shortened.
@pytest.mark.parametrize(
    ("said", "code", "names"),
    [
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated…\n"
            "    pymysql==1.1.1 from http://repo1/pymysql.whl (from -r lock.txt (line 1)):\n        Expected sha256 000\n             Got        4de\n",
            "artifact.wrong_hash",
            "pymysql==1.1.1",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement pymysql==99.9 (from versions: 1.1.1, 1.1.2)\n"
            "ERROR: No matching distribution found for pymysql==99.9\n",
            "artifact.not_in_index",
            "pymysql==99.9",
        ),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(Failed to establish a new connection: "
            "[Errno 111] Connection refused')': /simple/pymysql/\nERROR: No matching distribution found for pymysql==1.1.1\n",
            "artifact.index_unreachable",
            "cannot be reached",
        ),
        (
            "The virtual environment was not created successfully because ensurepip is not\navailable.\n",
            "artifact.no_venv",
            "ensurepip is not available",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n",
            "artifact.no_space",
            "filled up",
        ),
        (
            "ERROR: Package 'keystone' requires a different Python: 3.9.18 not in '>=3.10'\n",
            "artifact.python",
            "3.9.18 not in '>=3.10'",
        ),
        (
            "ERROR: Ignored the following versions that require a different python version: 29.0.2 Requires-Python >=3.10\n"
            "ERROR: No matching distribution found for keystone==29.0.2\n",
            "artifact.python",
            "keystone==29.0.2",
        ),
        ("keystone 27.0.1 requires alembic, which is not installed.\n", "artifact.lock", "keystone 27.0.1 requires alembic"),
        ("error: something new\n", "artifact.install_failed", "could not be installed"),
    ],
)
def test_what_pip_says_is_one_sentence(said: str, code: str, names: str) -> None:
    error = explain(said)
    assert error.code == code
    assert names in error.msg
    assert error.hint
    assert error.evidence["output"]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("mysql+pymysql://keystone:p@ss/w0rd@db1/keystone", "mysql+pymysql://***@db1/keystone"),
        ("at http://reader:secret@repo/simple/", "at http://***@repo/simple/"),
        ("mysql+pymysql://keystone:p@ss@db1/keystone?x=1", "mysql+pymysql://***@db1/keystone?x=1"),
        ("admin_password = hunter2, next", "admin_password = ***, next"),
        ('{"password": "hunter2"}', '{"password": "***"}'),
        ('{"password": "hunter 2, and 3", "user": "a"}', '{"password": "***", "user": "a"}'),
        ("api_key='one \\' two, \"three', user='a'", "api_key='***', user='a'"),
        ('secret: "cut off, here\nuser: "a"', 'secret: "***\nuser: "a"'),
        ('password: "" user: "a"', 'password: "" user: "a"'),
        ("a plain http://host/path@v1", "a plain http://host/path@v1"),
    ],
)
def test_scrub(text: str, clean: str) -> None:
    assert scrub(text) == clean


def test_scrub_takes_the_longest_secret_first() -> None:
    assert scrub("hunter2000 hunter2", ["hunter2", "hunter2000", ""]) == "*** ***"


def test_tail_keeps_the_last_lines_that_say_something() -> None:
    assert tail("a\n\n  \nb\nc" + "x" * 500 + "\n", 2) == ["b", "c" + "x" * 399]

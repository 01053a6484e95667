# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching a release on a real host: real pip, a real index, real systemd jobs; and every way in which it goes wrong."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.artifact_source.rig import HOST, PATH, Rig

pytestmark = pytest.mark.rig
# Small, so that building it takes seconds: nothing of it is ever started.
SMALL = ("pymysql", "1.1.1")


@pytest.fixture(scope="module")
def small(rig: Rig) -> dict[str, Any]:
    """A release of one small package, cut out of the rig's lock."""
    lines = rig.release("27.0.1")["lock"].replace("\\\n", "").splitlines()
    line = next(re.sub(r"\s+", " ", line) for line in lines if line.lower().startswith("pymysql=="))
    return {
        "package": "pymysql",
        "version": line.split()[0].partition("==")[2],
        "lock": line + "\n",
        "index": rig.vars["rig_index_url"],
    }


def identifier(release: dict[str, Any]) -> str:
    return "%s-%s" % (release["version"], hashlib.sha256(release["lock"].encode()).hexdigest()[:12])


@pytest.fixture
def place(rig: Rig) -> str:
    """An empty folder for releases that no unit starts from."""
    rig.shell(HOST, "umount /opt/trial 2>/dev/null; rm -rf /opt/trial /var/lib/osops/jobs/trial; mkdir /opt/trial")
    return "/opt/trial"


def present(rig: Rig, release: dict[str, Any], path: str, **more: Any) -> dict[str, Any]:
    args = {
        "state": "present",
        "release": release,
        "instance": {"component": "trial", "path": path},
        "job": "trial",
        "deadline": 300,
        **more,
    }
    return rig.module(HOST, "osops.lifecycle.artifact_source", args)


def refused(answer: dict[str, Any], code: str) -> dict[str, Any]:
    """The answer is a failure with this code, changed nothing, and says what to do."""
    verdict = dict(answer["verdict"])
    assert (verdict["outcome"], verdict["code"]) == ("fail", code), answer
    assert answer["changed"] is False
    assert verdict["reason"].endswith(".")
    assert verdict["hint"], "a person must be told what to do"
    assert answer["after"] == {"present": False}
    return verdict


def left(rig: Rig, path: str) -> str:
    return rig.shell(HOST, "ls -A %s/releases 2>/dev/null || true" % path)


def test_nothing_that_runs_is_touched_and_twice_is_once(rig: Rig, old: dict[str, Any], new: dict[str, Any]) -> None:
    look = rig.source("active", old, check=True)
    if new["id"] in look["releases"]:
        assert rig.source("absent", new)["changed"] is True
    first = rig.source("present", rig.release("29.0.2"))
    assert (first["before"], first["after"], first["changed"]) == ({"present": False}, {"present": True}, True)
    assert new["id"] in first["releases"]
    assert rig.source("present", rig.release("29.0.2"))["changed"] is False
    assert rig.source("active", old, check=True)["process"] == look["process"]
    assert rig.shell(HOST, "systemctl list-units --all 'osops-job-*' --no-legend | wc -l") == "0"


def test_a_wrong_hash_is_refused_and_leaves_nothing(rig: Rig, small: dict[str, Any], place: str) -> None:
    wrong = {**small, "lock": re.sub(r"sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, small["lock"])}
    verdict = refused(present(rig, wrong, place), "artifact.wrong_hash")
    assert "pymysql==" in verdict["reason"].lower()
    assert left(rig, place) == ""


def test_a_wrong_digest_is_refused_before_anything(rig: Rig, small: dict[str, Any], place: str) -> None:
    answer = present(rig, {**small, "digest": "sha256:" + "0" * 64}, place)
    assert answer["verdict"]["code"] == "artifact.wrong_hash"
    assert rig.shell(HOST, "ls -A %s" % place) == ""


def test_a_version_that_the_index_does_not_have(rig: Rig, small: dict[str, Any], place: str) -> None:
    wrong = {**small, "version": "99.9", "lock": small["lock"].replace(small["version"], "99.9")}
    verdict = refused(present(rig, wrong, place), "artifact.not_in_index")
    assert "99.9" in verdict["reason"]
    assert left(rig, place) == ""


def test_an_index_that_does_not_answer(rig: Rig, small: dict[str, Any], place: str) -> None:
    refused(
        present(rig, {**small, "index": "http://%s:9/simple/" % rig.listen(HOST).split(":")[0]}, place),
        "artifact.index_unreachable",
    )
    assert left(rig, place) == ""


def test_a_lock_that_lacks_what_the_package_needs(rig: Rig, place: str) -> None:
    whole = rig.release("27.0.1")
    lock = next(part for part in re.split(r"\n(?=[a-z])", whole["lock"]) if part.startswith("keystone==")) + "\n"
    verdict = refused(present(rig, {**whole, "lock": lock}, place), "artifact.lock")
    assert "requires" in verdict["reason"]
    assert left(rig, place) == ""


def test_a_full_disk_before(rig: Rig, small: dict[str, Any], place: str) -> None:
    rig.shell(HOST, "mount -t tmpfs -o size=64m tmpfs %s" % place)
    verdict = refused(present(rig, small, place), "artifact.no_space")
    assert "MiB are free" in verdict["reason"]
    assert left(rig, place) == ""


def test_a_disk_that_fills_up_on_the_way(rig: Rig, small: dict[str, Any], place: str) -> None:
    rig.shell(HOST, "mount -t tmpfs -o size=600m,nr_inodes=600 tmpfs %s" % place)
    verdict = refused(present(rig, small, place), "artifact.no_space")
    assert "filled up" in verdict["reason"]
    assert left(rig, place) == ""


def test_a_host_without_venv(rig: Rig, small: dict[str, Any], place: str) -> None:
    folder = "/usr/lib/python3.11/ensurepip"
    rig.shell(HOST, "mv %s %s.away" % (folder, folder))
    try:
        verdict = refused(present(rig, small, place), "artifact.no_venv")
    finally:
        rig.shell(HOST, "mv %s.away %s" % (folder, folder))
    assert "python3-venv" in verdict["hint"]
    assert left(rig, place) == ""


@pytest.fixture
def silent_index(rig: Rig) -> Iterator[str]:
    """An index that takes connections and never answers: a fetch that stays in the middle for as long as a test needs."""
    code = 'import socket,time; s=socket.create_server((\\"127.0.0.1\\", 5998)); time.sleep(600)'
    rig.shell(HOST, 'systemd-run --quiet --collect --unit osops-trial-index python3 -c "%s"' % code)
    yield "http://127.0.0.1:5998/simple/"
    rig.shell(HOST, "systemctl stop osops-trial-index; systemctl stop osops-job-trial 2>/dev/null; true")


def wait_for_pip(rig: Rig, then: str) -> str:
    """On the host: wait until the job has reached pip, then run a command."""
    return rig.shell(HOST, "for i in $(seq 600); do pgrep -f '[p]ip install' >/dev/null && break; sleep .1; done; " + then)


def fetch(release: dict[str, Any], path: str) -> dict[str, Any]:
    return {
        "state": "present",
        "release": release,
        "instance": {"component": "trial", "path": path},
        "job": "trial",
        "deadline": 300,
    }


def test_a_password_of_the_index_is_seen_nowhere(rig: Rig, small: dict[str, Any], place: str, silent_index: str) -> None:
    secret = "Swordfish4711"  # noqa: S105
    release = {**small, "index": silent_index.replace("http://", "http://reader:%s@" % secret)}
    running = rig.start(HOST, "osops.lifecycle.artifact_source", fetch(release, place))
    seen = wait_for_pip(
        rig,
        "systemctl is-active osops-job-trial; stat -c %a /var/lib/osops/jobs/trial /var/lib/osops/jobs/trial/*; "
        "cat /proc/*/cmdline | tr '\\0' ' '; systemctl show osops-job-trial; "
        "cat /var/lib/osops/jobs/trial/*; journalctl --since -2min; systemctl kill -s KILL osops-job-trial",
    )
    said = running.said(60)
    lines = seen.splitlines()
    assert lines[0] == "active", "the job was not seen running"
    assert lines[1] == "700", "files of a job are for root only"
    assert "pip install" in seen
    assert secret not in seen
    assert secret not in said


def test_killed_in_the_middle_the_next_call_takes_the_job_up(rig: Rig, place: str) -> None:
    release = rig.release("27.0.1")
    first = rig.start(HOST, "osops.lifecycle.artifact_source", fetch(release, place))
    rig.kill_module(HOST, "pgrep -f '[p]ip install'")
    began = rig.shell(HOST, "systemctl is-active osops-job-trial && stat -c %Y /var/lib/osops/jobs/trial/run.py")
    assert began.startswith("active"), "the job ended with the module"
    assert "CHANGED" not in first.said(60)
    second = present(rig, release, place, resume=True, expect={"present": False})
    assert second["after"] == {"present": True}, second
    assert rig.shell(HOST, "stat -c %Y /var/lib/osops/jobs/trial/run.py") == began.split()[1], "the job was started twice"
    assert second["releases"] == [identifier(release)]


def test_a_deadline_stops_the_job_and_leaves_nothing(rig: Rig, small: dict[str, Any], place: str, silent_index: str) -> None:
    begun = time.monotonic()
    verdict = refused(present(rig, {**small, "index": silent_index}, place, deadline=8), "job.deadline")
    assert 8 <= time.monotonic() - begun < 60
    assert "no process of it is left" in verdict["reason"]
    assert rig.shell(HOST, "systemctl is-active osops-job-trial; pgrep -fc '[/]opt/trial' || true").split() == ["inactive", "0"]
    assert left(rig, place) == ""


def test_a_job_that_is_killed_is_cut_not_done(rig: Rig, small: dict[str, Any], place: str, silent_index: str) -> None:
    running = rig.start(HOST, "osops.lifecycle.artifact_source", fetch({**small, "index": silent_index}, place))
    wait_for_pip(rig, "systemctl kill -s KILL osops-job-trial")
    said = running.said(60)
    assert "job.cut" in said
    assert left(rig, place) == ""


def test_two_jobs_do_not_build_one_release(rig: Rig, small: dict[str, Any], place: str, silent_index: str) -> None:
    running = rig.start(
        HOST, "osops.lifecycle.artifact_source", {**fetch(small, place), "release": {**small, "index": silent_index}}
    )
    wait_for_pip(rig, "true")
    answer = present(rig, small, place, job="trial2", scope="another")
    assert answer["verdict"]["code"] == "job.other", answer
    wait_for_pip(rig, "systemctl kill -s KILL osops-job-trial")
    running.said(60)


def test_an_environment_without_its_marker_is_built_again(rig: Rig, small: dict[str, Any], place: str) -> None:
    assert present(rig, small, place)["changed"] is True
    rig.shell(HOST, "rm %s/releases/%s/.osops-complete" % (place, identifier(small)))
    again = present(rig, small, place)
    assert (again["before"], again["after"]) == ({"present": False}, {"present": True}), again


def test_absent_refuses_what_is_in_use(rig: Rig, old: dict[str, Any]) -> None:
    answer = rig.source("absent", old)
    assert answer["verdict"]["code"] == "artifact.in_use"
    assert "keystone-api, process " in answer["verdict"]["reason"]
    assert rig.shell(HOST, "test -x %s/releases/%s/bin/python && echo there" % (PATH, old["id"])) == "there"


def test_a_release_that_is_not_here_cannot_be_made_of_its_name(rig: Rig) -> None:
    answer = rig.source("active", {"id": "28.0.0-0123456789ab", "package": "keystone"}, check=True)
    assert answer["verdict"]["code"] == "artifact.not_present"
    assert answer["before"]["version"] == "27.0.1"

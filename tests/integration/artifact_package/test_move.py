# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving a service to another version of its packages and back, with the real apt and dpkg: what moves, what stays, what is proven."""

from __future__ import annotations

import pytest

from tests.integration.artifact_package import toy
from tests.integration.artifact_package.conftest import NEW, OLD, Drive, seen
from tests.integration.artifact_source.rig import Rig

pytestmark = pytest.mark.rig
INSTALLED = "dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\\n' 'osops-toy*' 2> /dev/null"
# All that dpkg, apt and systemd know of everything else: it is nobody's business here. Times of dpkg's own files are left out.
EVERYTHING = (
    "dpkg-query -W -f '${binary:Package} ${Version} ${db:Status-Abbrev}\\n' | grep -v ^osops-toy; apt-mark showauto; apt-mark showhold; "
    "sha256sum /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*Packages; ls /run/systemd/system /etc/systemd/system; "
    "test ! -e /usr/sbin/policy-rc.d"
)


def test_forward_and_back(rig: Rig, two: str, drive: Drive) -> None:
    everything = rig.shell(two, EVERYTHING)
    look = drive("active", NEW, check=True)
    assert (look["before"], look["after"], look["changed"]) == (seen(OLD, OLD), seen(NEW, NEW), True), look
    assert (look["grain"], look["packages"]) == ("host", {toy.NAME: OLD, toy.DATA: OLD})

    fetched = drive("present", NEW)
    assert (fetched["changed"], fetched["after"], sorted(fetched["releases"])) == (True, {"present": True}, [OLD, NEW]), fetched
    assert drive("present", NEW)["changed"] is False
    assert rig.shell(two, "cat /run/osops-toy.seen 2> /dev/null || true") == "", "to fetch has installed something"

    moved = drive("active", NEW, expect=look["before"])
    assert (moved["before"], moved["after"], moved["changed"]) == (seen(OLD, OLD), seen(NEW, NEW), True), moved
    assert moved["stop"]["killed"] is False
    assert rig.shell(two, INSTALLED).split("\n") == ["%s %s ii " % (name, NEW) for name in (toy.NAME, toy.DATA)]
    assert rig.shell(two, "cat /run/osops-toy.seen") == "inactive at the configuration of %s" % NEW, (
        "a maintainer script has started the service"
    )
    assert not set(moved["process"]["pids"]) & set(look["process"]["pids"])
    assert drive("active", NEW)["changed"] is False

    back = drive("active", OLD, expect=moved["after"])
    assert (back["after"], back["changed"]) == (seen(OLD, OLD), True), back
    assert rig.shell(two, EVERYTHING) == everything
    assert rig.shell(two, "ls -A %s" % toy.PATH).split() == [".toy.former", "releases"]


def test_the_way_back_needs_no_archive(rig: Rig, two: str, drive: Drive) -> None:
    """Archives drop old versions: what was fetched is enough, in both directions."""
    drive("present", NEW)
    rig.shell(two, "rm -rf %s %s; apt-get -qq update" % (toy.ARCHIVE, toy.SOURCES))
    assert drive("active", NEW)["after"] == seen(NEW, NEW)
    assert drive("active", OLD)["after"] == seen(OLD, OLD)


def test_what_no_archive_offers_any_more_is_taken_from_the_cache_of_apt(rig: Rig, two: str, drive: Drive) -> None:
    """The installed version left the archive before anything was fetched."""
    rig.shell(
        two,
        "mkdir -p /var/cache/apt/archives; cp %s/*1.0-1*.deb /var/cache/apt/archives/; rm %s/*1.0-1*.deb"
        % (toy.ARCHIVE, toy.ARCHIVE),
    )
    try:
        rig.shell(two, toy.INDEX + "apt-get -qq update")
        assert sorted(drive("present", NEW)["releases"]) == [OLD, NEW]
        assert drive("active", NEW)["after"] == seen(NEW, NEW)
        assert drive("active", OLD)["after"] == seen(OLD, OLD)
    finally:
        rig.shell(two, "rm -f /var/cache/apt/archives/osops-toy*")


def test_an_edited_configuration_stays_and_is_told(rig: Rig, host: str, drive: Drive) -> None:
    toy.make(rig, host, toy.Toy(OLD), toy.Toy(NEW, conf="greeting = good day\n"))
    toy.install(rig, host)
    rig.shell(host, "echo 'greeting = hi' > %s" % toy.CONF)
    drive("present", NEW)
    moved = drive("active", NEW)
    assert moved["after"] == seen(NEW, NEW), moved
    assert rig.shell(host, "cat %s" % toy.CONF) == "greeting = hi"
    assert moved["notes"] == [
        "%s stays as somebody has edited it; the version of the package lies in %s.dpkg-dist." % (toy.CONF, toy.CONF)
    ]
    assert drive("active", OLD)["after"] == seen(OLD, OLD)
    assert rig.shell(host, "cat %s" % toy.CONF) == "greeting = hi"


def test_a_configuration_that_nobody_edited_goes_with_the_version(rig: Rig, host: str, drive: Drive) -> None:
    toy.make(rig, host, toy.Toy(OLD), toy.Toy(NEW, conf="greeting = good day\n"))
    toy.install(rig, host)
    drive("present", NEW)
    assert drive("active", NEW)["notes"] == []
    assert rig.shell(host, "cat %s" % toy.CONF) == "greeting = good day"
    drive("active", OLD)
    assert rig.shell(host, "cat %s" % toy.CONF) == "greeting = hello"


def test_what_is_installed_is_no_proof(rig: Rig, two: str, drive: Drive) -> None:
    """Somebody else moves the packages and nothing is restarted: what runs is what was loaded, and its version is not known."""
    rig.shell(
        two,
        "systemctl mask --runtime -q %s; DEBIAN_FRONTEND=noninteractive apt-get -qq -y install %s=%s %s=%s > /dev/null; systemctl unmask -q --runtime %s"
        % (toy.UNIT, toy.NAME, NEW, toy.DATA, NEW, toy.UNIT),
    )
    look = drive("active", NEW, check=True)
    assert look["before"] == seen(NEW, None)
    assert "was replaced after process" in look["notes"][0]
    # Only the start is missing.
    pids = look["process"]["pids"]
    started = drive("active", NEW, expect=look["before"])
    assert (started["after"], started["changed"]) == (seen(NEW, NEW), True), started
    assert not set(started["process"]["pids"]) & set(pids)


def test_halted_and_started_again(rig: Rig, two: str, drive: Drive) -> None:
    halted = drive("halted")
    assert (halted["after"], halted["changed"]) == (seen(OLD, None, False), True), halted
    assert drive("halted")["changed"] is False
    # Nothing was fetched: to start what is installed, nothing needs to be kept.
    assert drive("active", OLD)["after"] == seen(OLD, OLD)


def test_kept_versions_go(rig: Rig, two: str, drive: Drive) -> None:
    drive("present", NEW)
    drive("active", NEW)
    assert drive("absent", NEW)["verdict"]["code"] == "artifact.in_use"
    pruned = drive("absent", keep=1, check=True)
    assert (pruned["removed"], pruned["changed"]) == ([], False), "both are needed: the installed one, and the newest"
    assert drive("absent", OLD)["changed"] is True
    assert drive("absent", OLD)["changed"] is False
    refused = drive("absent")
    assert refused["verdict"]["code"] == "package.not_ours"
    rig.shell(two, "apt-get -qq -y purge %s %s > /dev/null" % (toy.NAME, toy.DATA))
    assert drive("absent")["changed"] is True
    assert rig.shell(two, "ls -A /var/lib/osops/packages 2> /dev/null || true") == ""


def test_the_way_back_stays_kept(rig: Rig, host: str, drive: Drive) -> None:
    """With three versions: the one before what runs is not among the newest that were fetched, and stays."""
    toy.make(rig, host, toy.Toy(OLD), toy.Toy(NEW), toy.Toy("3.0-1"))
    toy.install(rig, host)
    for version in (NEW, "3.0-1"):
        drive("present", version)
        assert drive("active", version)["after"] == seen(version, version)
    pruned = drive("absent", keep=1)
    assert (pruned["removed"], sorted(pruned["kept"])) == ([OLD], [NEW, "3.0-1"]), pruned
    assert pruned["kept"][NEW] == "toy goes back to it"
    assert drive("active", NEW)["after"] == seen(NEW, NEW)


def test_what_was_stopped_stays_so_when_nothing_could_be_moved(rig: Rig, host: str, drive: Drive) -> None:
    toy.make(rig, host, toy.Toy(OLD), toy.Toy(NEW, script="#!/bin/sh\nexit 3\n"))
    toy.install(rig, host)
    drive("present", NEW)
    drive("halted")
    answer = drive("active", NEW)
    assert (answer["verdict"]["code"], answer["after"]) == ("package.apt_failed", seen(OLD, None, False)), answer
    assert "stays stopped, as it was" in answer["msg"]


@pytest.mark.parametrize("ran", [True, False], ids=["it ran", "it was stopped"])
def test_apt_that_fails_before_it_has_moved_anything(rig: Rig, two: str, drive: Drive, ran: bool) -> None:
    """A hook of the host forbids it: what ran runs again, and what did not is not started."""
    drive("present", NEW)
    if not ran:
        drive("halted")
    rig.shell(two, "echo 'DPkg::Pre-Invoke {\"false\";};' > /etc/apt/apt.conf.d/99forbidden")
    try:
        answer = drive("active", NEW)
    finally:
        rig.shell(two, "rm /etc/apt/apt.conf.d/99forbidden")
    assert answer["verdict"]["code"] == "package.apt_failed", answer
    assert (answer["changed"], answer["after"]) == (False, seen(OLD, OLD if ran else None, ran)), answer
    assert rig.shell(two, "ls -d /run/systemd/system/* | grep toy || true") == ""


def test_an_act_that_is_over_moves_nothing(rig: Rig, two: str, drive: Drive) -> None:
    """A control node that slept sends its apt when another one has long gone on: dpkg begins nothing."""
    drive("present", NEW)
    begun = rig.module(two, "osops.lifecycle.artifact_package", toy.args("active", NEW, stage="begin"))
    config = begun["apt"]["environment"]["APT_CONFIG"] if "apt" in begun else ""
    drive("active", OLD, resume=True)
    done = rig.shell(
        two,
        "for file in %s; do APT_CONFIG=$file apt-get -y install %s=%s %s=%s 2>&1; done || true"
        % (config or "/run/osops-packages/*/*.conf", toy.NAME, NEW, toy.DATA, NEW),
    )
    assert "this act is over" in done, done
    assert drive("active", OLD)["changed"] is False


def test_packages_that_may_move_with_it(rig: Rig, host: str, drive: Drive) -> None:
    """Another package has to move too: refused and named, and allowed when the record says so."""
    extra = [toy.package("osops-toy-extra", version).replace("Source: osops-toy\n", "") for version in ("1.0-1", "2.0-1")]
    toy.make(rig, host, toy.Toy(OLD), toy.Toy(NEW, needs="osops-toy-extra (>= 2.0)"), more="\n".join(extra))
    refused = None
    toy.install(rig, host)
    rig.shell(host, "apt-get -qq -y install osops-toy-extra=1.0-1 > /dev/null")
    refused = drive("present", NEW)
    assert refused["verdict"]["code"] == "package.more", refused
    assert "would also move osops-toy-extra to 2.0-1" in refused["msg"]
    assert (refused["changed"], refused["releases"]) == (False, [])
    allowed = {"packages": ["osops-toy-extra"]}
    assert drive("present", NEW, release=allowed)["changed"] is True
    assert drive("active", NEW, release=allowed)["after"] == seen(NEW, NEW)
    assert rig.shell(host, "dpkg-query -W -f '${Version}' osops-toy-extra") == "2.0-1"
    assert drive("active", OLD, release=allowed)["after"] == seen(OLD, OLD)
    assert rig.shell(host, "dpkg-query -W -f '${Version}' osops-toy-extra") == "1.0-1"

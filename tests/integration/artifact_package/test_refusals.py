# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input and bad hosts: one clear sentence, nothing is changed, and what ran runs on; or all of it is put back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.artifact_package import toy
from tests.integration.artifact_package.conftest import NEW, OLD, Drive, seen
from tests.integration.artifact_source.rig import Rig

pytestmark = pytest.mark.rig
RUNS = (
    "systemctl show -P MainPID,NRestarts %s; dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\\n' 'osops-toy*'; ls /run/systemd/system"
    % toy.UNIT
)


def same(rig: Rig, host: str, before: str) -> None:
    """The same process still runs, on the same packages, and nothing is kept down."""
    assert rig.shell(host, RUNS) == before


def refused(answer: dict[str, Any], code: str, *says: str) -> None:
    assert (answer["verdict"]["code"], answer["changed"]) == (code, False), answer
    assert answer["verdict"]["outcome"] in ("fail", "error")
    for text in says:
        assert text in answer["msg"], answer["msg"]


@pytest.mark.parametrize(
    ("changed", "code", "says"),
    [
        ({"release": {"package": "osops toy"}}, "input.package", "is not the name of a Debian package"),
        ({"version": "2.0; rm -rf /"}, "input.version", "is not the version of a Debian package"),
        ({"release": {"package": "osops-no-such"}}, "package.not_installed", "osops-no-such is not installed on this host"),
        ({"version": "3.0-1"}, "package.version", "No archive of this host offers osops-toy 3.0-1. Offered are: 2.0-1, 1.0-1."),
    ],
    ids=["name", "version", "not-installed", "not-offered"],
)
def test_a_release_that_is_none(rig: Rig, two: str, drive: Drive, changed: dict[str, Any], code: str, says: str) -> None:
    before = rig.shell(two, RUNS)
    given = dict(changed)
    version = given.pop("version", NEW)
    answer = drive("present", version, **given)
    refused(answer, code, says)
    same(rig, two, before)
    assert rig.shell(two, "ls -A %s/releases 2> /dev/null || true" % toy.PATH) == ""


def test_a_path_that_apt_would_read_as_something_else(rig: Rig, two: str, drive: Drive) -> None:
    before = rig.shell(two, RUNS)
    place = {**toy.args("active", NEW)["instance"], "path": '/var/lib/osops/packages/a" b'}
    refused(drive("present", NEW, instance=place), "input.path", "apt's own files would read as something else")
    same(rig, two, before)


def test_what_was_not_fetched_is_not_moved(rig: Rig, two: str, drive: Drive) -> None:
    before = rig.shell(two, RUNS)
    refused(drive("active", NEW), "artifact.not_present", "is not kept on this host", "Fetch it first")
    same(rig, two, before)


def test_a_package_that_is_not_installed_is_never_installed(rig: Rig, host: str, drive: Drive) -> None:
    toy.make(rig, host, toy.Toy(OLD), toy.Toy(NEW))
    refused(drive("present", NEW), "package.not_installed", "changes only what is")
    look = drive("active", NEW, check=True)
    assert (look["before"], look["verdict"]["code"]) == (seen(None, None, False), "package.not_installed")
    assert rig.shell(host, "dpkg-query -W osops-toy 2> /dev/null || echo none") == "none"


def test_a_held_package(rig: Rig, two: str, drive: Drive) -> None:
    drive("present", NEW)
    rig.shell(two, "apt-mark hold -qq %s" % toy.DATA)
    before = rig.shell(two, RUNS)
    for answer in (drive("active", NEW), drive("active", NEW, check=True)):
        refused(answer, "package.held", "osops-toy-data is held on this host", "apt-mark unhold osops-toy-data")
    same(rig, two, before)


def test_a_lock_that_somebody_else_holds(rig: Rig, two: str, drive: Drive) -> None:
    drive("present", NEW)
    before = rig.shell(two, RUNS)
    rig.shell(
        two,
        'systemd-run -q --unit holder --collect python3 -c \'import fcntl, time; f = open("/var/lib/dpkg/lock-frontend", "w"); '
        "fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(60)'; until fuser -s /var/lib/dpkg/lock-frontend 2> /dev/null || "
        'grep -q ":$(stat -c %i /var/lib/dpkg/lock-frontend) " /proc/locks; do sleep .1; done',
    )
    try:
        refused(drive("active", NEW, deadline=5), "package.locked", "dpkg is in use by python3 (process ")
        same(rig, two, before)
    finally:
        rig.shell(two, "systemctl stop holder")


def test_a_half_configured_dpkg(rig: Rig, two: str, drive: Drive) -> None:
    """Somebody else's package is only unpacked: not ours to configure, and apt would."""
    drive("present", NEW)
    rig.shell(
        two,
        "cd /srv; %s\ndpkg --unpack osops-toy-extra*.deb > /dev/null; rm osops-toy-extra*.deb"
        % toy.package("osops-toy-extra", "1"),
    )
    before = rig.shell(two, RUNS)
    refused(drive("active", NEW), "package.half_configured", "osops-toy-extra", "dpkg --configure -a")
    same(rig, two, before)


def test_a_dependency_that_cannot_be_met(rig: Rig, host: str, drive: Drive) -> None:
    toy.make(rig, host, toy.Toy(OLD), toy.Toy(NEW, needs="osops-no-such (>= 1)"))
    toy.install(rig, host)
    before = rig.shell(host, RUNS)
    refused(drive("present", NEW), "package.unsatisfied", "osops-no-such")
    same(rig, host, before)


def test_a_new_dependency_is_not_installed_in_passing(rig: Rig, host: str, drive: Drive) -> None:
    extra = toy.package("osops-toy-extra", "1.0-1").replace("Source: osops-toy\n", "")
    toy.make(rig, host, toy.Toy(OLD), toy.Toy(NEW, needs="osops-toy-extra"), more=extra)
    toy.install(rig, host)
    before = rig.shell(host, RUNS)
    answer = drive("present", NEW, release={"packages": ["osops-toy-extra"]})
    refused(answer, "package.more", "would also install osops-toy-extra", "by hand first")
    same(rig, host, before)


def test_nothing_is_removed_in_passing(rig: Rig, host: str, drive: Drive) -> None:
    extra = toy.package("osops-toy-extra", "1.0-1").replace("Source: osops-toy\n", "")
    toy.make(rig, host, toy.Toy(OLD), toy.Toy(NEW, breaks="osops-toy-extra"), more=extra)
    toy.install(rig, host)
    rig.shell(host, "apt-get -qq -y install osops-toy-extra > /dev/null")
    before = rig.shell(host, RUNS)
    refused(drive("present", NEW), "package.more", "would also remove osops-toy-extra")
    same(rig, host, before)


def test_an_archive_that_gives_other_bytes(rig: Rig, two: str, drive: Drive) -> None:
    before = rig.shell(two, RUNS)
    rig.shell(two, "cd %s; printf x | dd of=osops-toy_2.0-1_all.deb bs=1 seek=700 conv=notrunc status=none" % toy.ARCHIVE)
    refused(drive("present", NEW), "package.archive", "cannot be fetched")
    same(rig, two, before)
    assert rig.shell(two, "ls -A %s/releases" % toy.PATH) == ""


def test_no_way_back(rig: Rig, two: str, drive: Drive) -> None:
    """The installed version is nowhere any more: then nothing moves forward either."""
    rig.shell(two, "rm %s/*1.0-1*.deb; %s\napt-get -qq update" % (toy.ARCHIVE, toy.INDEX))
    before = rig.shell(two, RUNS)
    answer = drive("present", NEW)
    assert answer["verdict"]["code"] == "package.no_way_back", answer
    assert "There would be no way back" in answer["msg"]
    refused(drive("active", NEW), "package.no_way_back")
    same(rig, two, before)


def test_a_unit_that_is_not_there(rig: Rig, two: str, drive: Drive) -> None:
    before = rig.shell(two, RUNS)
    look = drive(
        "active",
        NEW,
        check=True,
        instance={"component": "toy", "unit": "toy.service", "listen": toy.LISTEN, "path": toy.PATH, "stop": 5},
    )
    refused(look, "artifact.unit_unknown", "toy.service does not exist")
    same(rig, two, before)


def test_somebody_else_was_faster(rig: Rig, two: str, drive: Drive) -> None:
    drive("present", NEW)
    before = rig.shell(two, RUNS)
    refused(drive("active", NEW, expect=seen("1.0-0", "1.0-0")), "expect.foreign", "Somebody else changed release, version")
    same(rig, two, before)


def test_no_room_to_fetch(rig: Rig, two: str, drive: Drive) -> None:
    rig.shell(two, "mkdir -p /var/lib/osops/packages; mount -t tmpfs -o size=1M none /var/lib/osops/packages")
    try:
        before = rig.shell(two, RUNS)
        refused(drive("present", NEW), "package.no_space", "MiB are needed")
        same(rig, two, before)
    finally:
        rig.shell(two, "umount /var/lib/osops/packages")


def test_the_disk_fills_up_while_packages_are_unpacked(rig: Rig, host: str, drive: Drive) -> None:
    """dpkg fails in the middle of the second package: what was there is installed again, and runs."""
    toy.make(rig, host, toy.Toy(OLD), toy.Toy(NEW, mib=8))
    toy.install(rig, host)
    drive("present", NEW)
    rig.shell(
        host,
        "mkdir -p /usr/share/osops-toy-data; mount -t tmpfs -o size=2M none /usr/share/osops-toy-data; echo 1.0-1 > /usr/share/osops-toy-data/version",
    )
    try:
        answer = drive("active", NEW)
        assert answer["verdict"]["code"] == "package.apt_failed", answer
        assert "No space left on device" in answer["msg"]
        assert "What was there is installed again, and runs." in answer["msg"]
        assert answer["after"] == seen(OLD, OLD)
        assert rig.shell(host, "dpkg --audit; ls -d /run/systemd/system/* | grep toy || true") == ""
    finally:
        rig.shell(host, "umount /usr/share/osops-toy-data")


def test_a_maintainer_script_that_fails(rig: Rig, host: str, drive: Drive) -> None:
    toy.make(rig, host, toy.Toy(OLD), toy.Toy(NEW, script="#!/bin/sh\necho cannot migrate >&2\nexit 3\n"))
    toy.install(rig, host)
    drive("present", NEW)
    answer = drive("active", NEW)
    assert answer["verdict"]["code"] == "package.apt_failed", answer
    assert answer["after"] == seen(OLD, OLD)
    assert rig.shell(host, "dpkg --audit; ls -d /run/systemd/system/* | grep toy || true") == ""
    assert rig.shell(host, "apt-mark showauto osops-toy osops-toy-data") == toy.DATA


def test_a_service_that_does_not_start_on_the_new_version(rig: Rig, two: str, drive: Drive) -> None:
    """Which is not this driver's to take back alone: it says what there is, and the way back is one call."""
    drive("present", NEW)
    rig.shell(two, "mkdir -p /etc/systemd/system/%s.d; printf '[Service]\\nExecStartPre=/bin/grep -q 1.0 /usr/share/osops-toy-data/version\\n' > "
              "/etc/systemd/system/%s.d/only-old.conf; systemctl daemon-reload" % (toy.UNIT, toy.UNIT))  # fmt: skip
    try:
        answer = drive("active", NEW)
        assert answer["verdict"]["code"] == "artifact.start_failed", answer
        assert answer["after"] == seen(NEW, None, False)
        assert answer["verdict"]["evidence"]["journal"]
        assert drive("active", OLD, expect=answer["after"], resume=True)["after"] == seen(OLD, OLD)
    finally:
        rig.shell(two, "rm -r /etc/systemd/system/%s.d; systemctl daemon-reload" % toy.UNIT)


def test_a_unit_file_of_the_administrator(rig: Rig, two: str, drive: Drive) -> None:
    """A unit in /etc wins over a mask in /run, so a mask would not keep it down while its packages move."""
    drive("present", NEW)
    rig.shell(two, "cp /lib/systemd/system/%s /etc/systemd/system/; systemctl daemon-reload" % toy.UNIT)
    try:
        assert drive("active", NEW)["after"] == seen(NEW, NEW)
        assert rig.shell(two, "cat /run/osops-toy.seen") == "inactive at the configuration of %s" % NEW
    finally:
        rig.shell(two, "rm /etc/systemd/system/%s; systemctl daemon-reload" % toy.UNIT)


def test_a_script_that_enables_the_service(rig: Rig, host: str, drive: Drive) -> None:
    """As Debian's scripts for OpenStack do, whatever the administrator has chosen: it is enabled or disabled afterwards as before."""
    enables = toy.POSTINST.replace("deb-systemd-invoke", "systemctl enable -q osops-toy.service; deb-systemd-invoke")
    toy.make(rig, host, toy.Toy(OLD), toy.Toy(NEW, script=enables))
    toy.install(rig, host)
    rig.shell(host, "systemctl disable -q %s" % toy.UNIT)
    drive("present", NEW)
    assert drive("active", NEW)["after"] == seen(NEW, NEW)
    assert rig.shell(host, "cat /run/osops-toy.seen") == "inactive at the configuration of %s" % NEW
    assert rig.shell(host, "systemctl is-enabled %s || true" % toy.UNIT) == "disabled"


def test_packages_under_two_units_that_run(rig: Rig, two: str, drive: Drive) -> None:
    """What moves would change another service that runs: not without its own drain."""
    drive("present", NEW)
    rig.shell(two, "printf '/etc/init.d/cron\\n' >> /var/lib/dpkg/info/osops-toy-data.list; printf '[Service]\\nExecStart=/bin/sleep 600\\n' > "
              "/run/systemd/system/cron.service; systemctl daemon-reload; systemctl start cron")  # fmt: skip
    before = rig.shell(two, RUNS)
    try:
        refused(drive("active", NEW), "package.shared", "cron.service")
        same(rig, two, before)
    finally:
        rig.shell(two, "systemctl stop cron; rm /run/systemd/system/cron.service; systemctl daemon-reload")

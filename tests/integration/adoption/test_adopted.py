# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service that somebody else installed: seen, switched to a release of ours, and given back as it was."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.adoption.host import UNIT, Host, environment, install

NEW = "2.0-0123456789ab"


def theirs(host: Host) -> str:
    return str(host.active("1.0", check=True)["before"]["release"])


def state(release: str, running: bool = True) -> dict[str, Any]:
    return {"release": release, "version": release.split("-")[0] if running else None, "running": running}


def test_what_runs_is_seen_and_has_a_name(host: Host) -> None:
    files, process = host.files(), host.show(UNIT).main_pid
    seen = host.active("1.0", check=True)
    assert re.fullmatch(r"1\.0-[0-9a-f]{12}", seen["before"]["release"])
    assert seen["before"] == seen["after"] == state(seen["before"]["release"])
    assert (seen["changed"], seen["code"], seen["notes"], seen["link"]) == (False, "artifact.active", [], None)
    assert seen["adopted"] == {"path": str(host.venv), "release": seen["before"]["release"], "version": "1.0", "drop_in": None}
    for again in (host.active("1.0"), host.active(seen["before"]["release"]), host.active("1.0", expect=seen["before"])):
        assert (again["changed"], again["before"], "stop" in again) == (False, seen["before"], False)
    assert (host.files(), host.show(UNIT).main_pid, host.reloads) == (files, process, 1)


def test_the_name_is_that_of_what_is_installed(host: Host, tmp_path: Path) -> None:
    name = theirs(host)
    other = environment(tmp_path / "elsewhere", oslo="7.1", demo="1.0")
    (next(other.glob("lib/python3*/site-packages")) / "Oslo.Extra-1.0.egg-info").write_text("Name: Oslo.Extra\nVersion: 1.0\n")
    seen = host.call("present", {"version": "1.0"}, instance={"adopt": str(other)})
    assert seen["code"] == "artifact.present"
    assert host.call("present", {"id": name}, instance={"adopt": str(other)})["code"] == "failed artifact.not_present"
    (next(other.glob("lib/python3*/site-packages")) / "Oslo.Extra-1.0.egg-info").unlink()
    (next(other.glob("lib/python3*/site-packages")) / "~slo-7.0.dist-info").mkdir()
    (next(other.glob("lib/python3*/site-packages")) / "~slo-7.0.dist-info" / "METADATA").write_text("Name: oslo\nVersion: 7.0\n")
    assert host.call("present", {"id": name}, instance={"adopt": str(other)})["code"] == "artifact.present"


def test_forward_and_back_leaves_nothing(host: Host) -> None:
    old, files = theirs(host), host.files()
    host.release(NEW, demo="2.0")
    look = host.active(NEW, check=True)
    assert (look["before"], look["after"], look["changed"]) == (state(old), state(NEW), True)
    assert host.files() == files, "a look writes nothing"
    forward = host.active(NEW, expect=look["before"])
    assert (forward["code"], forward["before"], forward["after"]) == ("artifact.active", state(old), state(NEW))
    assert forward["process"]["prefix"] == str(host.path / "releases" / NEW)
    assert forward["link"] == NEW
    text = host.drop_in().read_text()
    assert text.splitlines()[0] == "# osops.lifecycle: demo-api in %s" % host.path
    link = "%s/demo-api" % host.path
    assert text.endswith('[Service]\nExecStart=\nExecStart=%s/bin/python "%s/bin/serve" %d\n' % (link, link, host.port))
    process = host.show(UNIT).main_pid
    assert host.active(NEW)["changed"] is False
    assert host.show(UNIT).main_pid == process
    back = host.call("active", {"id": old, "package": "demo"}, expect=forward["after"])
    assert (back["code"], back["after"], back["process"]["prefix"]) == ("artifact.active", state(old), str(host.venv))
    assert host.files() == files
    assert host.active("1.0")["changed"] is False


def test_a_version_without_a_lock_is_what_they_have_installed(host: Host) -> None:
    refused = host.active("2.0")
    assert refused["code"] == "failed artifact.adopted_other"
    assert refused["reason"] == "demo 2.0 is wanted without a lock, but %s holds 1.0." % host.venv
    assert refused["before"] == state(theirs(host))
    assert host.call("present", {"version": "2.0"})["code"] == "failed artifact.adopted_other"
    assert host.active("1.0", instance={"adopt": None})["code"] == "failed artifact.release"
    host.release(NEW, demo="2.0")
    host.active(NEW)
    look = host.active("1.0", check=True)
    assert (look["before"], look["changed"], look["after"]["version"]) == (state(NEW), True, "1.0")
    assert host.active("1.0")["after"] == state(theirs(host))


def test_states_present_and_absent_of_what_is_theirs(host: Host) -> None:
    old, files = theirs(host), host.files()
    for release in ({"id": old}, {"version": "1.0"}):
        seen = host.call("present", release)
        assert (seen["code"], seen["before"], seen["changed"]) == ("artifact.present", {"present": True}, False)
        assert host.call("absent", release)["code"] == "failed artifact.in_use"
    assert host.call("present", {"id": NEW})["code"] == "failed artifact.not_present"
    assert host.call("absent", {"id": NEW})["code"] == "artifact.absent"
    assert host.files() == files


def test_their_drop_ins_and_folder_stay(host: Host) -> None:
    folder = host.units / (UNIT + ".d")
    folder.mkdir(mode=0o700)
    for empty in (True, False):
        if not empty:
            (folder / "override.conf").write_text("[Service]\nLimitNOFILE=1024\n")
            host.reload()
        files = host.files()
        host.release(NEW, demo="2.0") if empty else None
        assert host.active(NEW)["code"] == "artifact.active"
        assert host.active("1.0")["code"] == "artifact.active"
        assert host.files() == files


def test_what_came_into_our_folder_stays(host: Host) -> None:
    host.release(NEW, demo="2.0")
    host.active(NEW)
    other = host.drop_in().with_name("60-theirs.conf")
    other.write_text("[Service]\nLimitNOFILE=1024\n")
    assert host.active("1.0")["code"] == "artifact.active"
    assert os.listdir(other.parent) == ["60-theirs.conf"]


def test_a_secret_file_is_not_shown_in_ours(host: Host) -> None:
    folder = host.units / (UNIT + ".d")
    folder.mkdir()
    (folder / "10.conf").write_text('[Service]\nEnvironment="PASSWORD=x" "DEMO=%s/etc"\n' % host.venv)
    (folder / "10.conf").chmod(0o600)
    host.reload()
    host.release(NEW, demo="2.0")
    (host.path / "releases" / NEW / "etc").mkdir()
    host.active(NEW)
    assert "PASSWORD" not in host.drop_in().read_text()
    assert 'Environment="DEMO=%s/demo-api/etc"' % host.path in host.drop_in().read_text()
    assert host.drop_in().stat().st_mode & 0o777 == 0o600


def test_the_run_of_their_tool_is_noticed(host: Host) -> None:
    old = theirs(host)
    host.release(NEW, demo="2.0")
    host.active(NEW)
    # It puts the unit's folder back to what it knows, and restarts the service.
    shutil.rmtree(host.drop_in().parent)
    host.reload()
    host.stop()
    host.start()
    seen = host.active(NEW, check=True)
    assert (seen["before"], seen["link"], seen["changed"]) == (state(old), NEW, True)
    assert any("is gone while our link names %s" % NEW in note for note in seen["notes"])
    assert host.active(NEW, expect=state(NEW))["code"] == "failed expect.foreign"
    # Whoever is content with that gets the rest cleared away, without a restart.
    process = host.show(UNIT).main_pid
    cleared = host.active("1.0")
    assert (cleared["changed"], cleared["after"], "stop" in cleared) == (True, state(old), False)
    assert (host.show(UNIT).main_pid, host.files()["ours"].keys()) == (process, {"releases"})
    assert host.active("1.0")["changed"] is False
    assert host.active(NEW)["after"] == state(NEW)


def test_a_change_of_their_environment_is_noticed(host: Host) -> None:
    old = theirs(host)
    time.sleep(1.1)
    install(host.venv, "oslo", "7.2")
    seen = host.active("1.0", check=True)
    assert seen["before"] == {"release": None, "version": "1.0", "running": True}, "what was loaded is not what is there now"
    assert seen["adopted"]["release"] not in (old, None)
    assert seen["changed"] is True
    assert host.active(old)["code"] == "failed artifact.not_present"
    host.stop()
    host.start()
    assert host.active("1.0")["before"] == state(seen["adopted"]["release"])
    install(host.venv, "demo", "1.1")
    assert host.active("1.0")["code"] == "failed artifact.adopted_other"


def test_what_waits_to_be_read_counts_from_the_switch(host: Host) -> None:
    host.release(NEW, demo="2.0")
    host.active(NEW)
    with (host.units / UNIT).open("a") as unit:
        unit.write("ExecStartPre=%s/bin/python -V\n" % host.venv)
    seen = host.active(NEW, check=True)
    assert (seen["before"], seen["changed"]) == (state(NEW), True)
    assert any("is not what the files" in note for note in seen["notes"])
    assert any("were changed since systemd read them" in note for note in seen["notes"])
    assert host.active(NEW)["code"] == "artifact.active"
    assert "ExecStartPre=%s/demo-api/bin/python -V" % host.path in host.drop_in().read_text()
    assert host.active(NEW)["changed"] is False


def test_a_stopped_service_is_what_it_would_start(host: Host) -> None:
    old = theirs(host)
    host.release(NEW, demo="2.0")
    host.stop()
    seen = host.active("1.0", check=True)
    assert (seen["before"], seen["changed"]) == (state(old, running=False), True)
    assert host.active("1.0")["after"] == state(old)
    host.active(NEW)
    host.stop()
    assert host.active("1.0", check=True)["before"] == state(NEW, running=False)
    halted = host.call("halted", {})
    assert (halted["code"], halted["before"]) == ("artifact.halted", state(NEW, running=False))


def test_an_environment_behind_a_link(host: Host) -> None:
    real = host.venv.with_name("venv-1")
    host.stop()
    host.venv.rename(real)
    host.venv.symlink_to("venv-1")
    host.start()
    old = theirs(host)
    assert old.startswith("1.0-")
    host.release(NEW, demo="2.0")
    assert host.active(NEW)["after"] == state(NEW)
    assert host.active("1.0")["after"] == state(old)
    # They move the link and do not restart: what runs is not what is there.
    other = environment(host.venv.with_name("venv-2"), demo="1.0")
    host.venv.unlink()
    host.venv.symlink_to(other)
    assert host.active("1.0", check=True)["before"] == {"release": None, "version": "1.0", "running": True}


def test_a_start_that_loads_their_environment_all_the_same_is_no_proof(host: Host) -> None:
    host.release(NEW, demo="2.0")
    library = next(host.venv.glob("lib/python3*/site-packages/demo.so"))
    spelled = str(library).replace("/srv/venv/", "/srv//venv/")  # as a configuration file would: we do not see it
    host.write_unit("ExecStart=%s/bin/python %s/bin/serve %d %s" % (host.venv, host.venv, host.port, spelled))
    host.reload()
    failed = host.call("active", {"id": NEW}, deadline_s=3)
    assert failed["code"] == "failed artifact.start_deadline"
    assert "has loaded libraries of two environments that hold demo" in failed["reason"]
    assert failed["after"] == {"release": None, "version": None, "running": True}
    assert host.active("1.0")["after"] == state(theirs(host))


def test_a_configuration_that_names_their_environment_is_told(host: Host) -> None:
    host.write_unit("ExecStart=%s/bin/python %s/bin/serve %d %s" % (host.venv, host.venv, host.port, host.ini))
    host.ini.write_text("[demo]\nvirtualenv = %s\n" % host.venv)
    host.reload()
    assert host.active("1.0", check=True)["notes"] == [
        "%s names %s, and goes on to when one of our releases runs." % (host.ini, host.venv)
    ]


def test_absent_takes_what_is_ours_and_nothing_else(host: Host) -> None:
    old, files = theirs(host), host.files()
    host.release(NEW, demo="2.0")
    host.active(NEW)
    refused = host.call("absent", {})
    assert refused["code"] == "failed artifact.in_use"
    assert str(host.show(UNIT).main_pid) in refused["reason"]
    host.stop()
    assert host.call("absent", {}, check=True)["after"] == {"release": None, "releases": []}
    gone = host.call("absent", {})
    assert (gone["code"], gone["before"]) == ("artifact.absent", {"release": NEW, "releases": [NEW]})
    assert gone["after"] == {"release": None, "releases": []}
    assert not host.path.exists()
    assert host.files()["units"] == files["units"]
    assert host.call("absent", {})["changed"] is False
    host.start()
    assert host.active("1.0")["before"] == state(old)


def test_absent_beside_another_component_still_refuses_what_runs(host: Host) -> None:
    host.release(NEW, demo="2.0")
    host.active(NEW)
    (host.path / "demo-worker").symlink_to("releases/" + NEW)
    assert host.call("absent", {})["code"] == "failed artifact.in_use"
    host.stop()
    assert host.call("absent", {})["after"] == {"release": None, "releases": [NEW]}
    assert not host.drop_in().parent.exists()


@pytest.mark.parametrize(
    ("unit", "says"),
    [
        ("ExecStart=/usr/bin/python3 serve", "does not name"),
        ("ExecStart=/usr/bin/python3 serve\nEnvironment=HOME=%(venv)s", "does not name"),
        ("ExecStart=%(venv)s2/bin/python serve", "does not name"),
    ],
)
def test_a_unit_that_does_not_start_from_there_is_refused(host: Host, unit: str, says: str) -> None:
    host.release(NEW, demo="2.0")
    host.write_unit(unit % {"venv": host.venv})
    files, process = host.files(), host.show(UNIT).main_pid
    for check in (True, False):
        for release in ("1.0", NEW):
            refused = host.active(release, check=check)
            assert refused["code"] == "failed artifact.foreign_layout"
            assert says in refused["reason"]
            assert refused["before"]["version"] == "1.0"
    assert (host.files(), host.show(UNIT).main_pid) == (files, process)


def test_a_drop_in_of_somebody_else_is_refused(host: Host) -> None:
    host.release(NEW, demo="2.0")
    host.drop_in().parent.mkdir()
    for text in ("[Service]\nNice=1\n", "# osops.lifecycle: other-api in %s\n[Service]\n" % host.path):
        host.drop_in().write_text(text)
        host.reload()
        for check in (True, False):
            refused = host.active(NEW, check=check)
            assert refused["code"] == "failed artifact.foreign_layout"
            assert "was not written for this instance" in refused["reason"]
    assert host.call("absent", {})["code"] == "artifact.absent"
    assert host.drop_in().read_text() == text
    elsewhere = host.units.parent / "elsewhere.conf"
    elsewhere.write_text("# osops.lifecycle: demo-api in %s\n[Service]\n" % host.path)
    host.drop_in().unlink()
    host.drop_in().symlink_to(elsewhere)
    host.reload()
    assert "was not written for this instance" in host.active("1.0")["reason"], "a link is nothing that we make"


def test_what_would_win_over_ours_is_refused_and_the_way_back_is_open(host: Host) -> None:
    host.release(NEW, demo="2.0")
    host.active(NEW)
    override = host.drop_in().with_name("override.conf")
    override.write_text("[Service]\nExecStart=\nExecStart=%s/bin/python %s/bin/serve %d\n" % (host.venv, host.venv, host.port))
    host.reload()
    other = host.release("3.0-0123456789ab", demo="3.0")
    refused = host.active(other)
    assert refused["code"] == "failed artifact.overridden"
    assert "%s (ExecStart)" % override in refused["reason"]
    assert host.active("1.0")["after"] == state(theirs(host))
    assert os.listdir(override.parent) == ["override.conf"]


def test_a_program_that_the_release_has_not_is_told_before_the_stop(host: Host) -> None:
    host.release(NEW, demo="2.0")
    (host.path / "releases" / NEW / "bin" / "serve").unlink()
    process = host.show(UNIT).main_pid
    for check in (True, False):
        refused = host.active(NEW, check=check)
        assert refused["code"] == "failed artifact.no_program"
        assert "bin/serve" in refused["reason"]
    assert host.show(UNIT).main_pid == process


@pytest.mark.parametrize("fragment", ["", "/run/systemd/generator.late/demo.service", "/run/systemd/transient/demo.service"])
def test_a_unit_that_a_program_made_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch, fragment: str) -> None:
    from ansible_collections.osops.lifecycle.plugins.module_utils import _systemd

    seen = host.show(UNIT)
    monkeypatch.setattr(_systemd, "show", lambda name: _systemd.dataclasses.replace(seen, fragment=fragment))
    monkeypatch.setattr("builtins.open", _without(fragment))
    refused = host.active("1.0", check=True)
    assert refused["code"] == "failed artifact.foreign_layout"
    assert "is made by a program" in refused["reason"]


def _without(fragment: str) -> Any:
    real = open

    def opened(path: Any, *more: Any, **named: Any) -> Any:
        return real(os.devnull if fragment and path == fragment else path, *more, **named)

    return opened


@pytest.mark.parametrize(
    ("adopt", "code"),
    [
        ("srv/venv", "failed input.adopt"),
        ("%(path)s/releases/x", "failed input.adopt"),
        ("%(path)s", "failed input.adopt"),
        ("%(srv)s/a b", "failed input.adopt"),
        ("%(srv)s/%%i", "failed input.adopt"),
        ("%(srv)s/../venv", "failed input.adopt"),
        ("%(srv)s/inside", "failed input.adopt"),
        ("%(srv)s/nowhere", "failed input.adopt"),
        ("%(srv)s", "failed input.adopt"),
    ],
)
def test_a_path_that_cannot_be_adopted(host: Host, adopt: str, code: str) -> None:
    """Relative, inside our folder, not plain, a link into our folder, not there, and no environment."""
    (host.venv.parent / "inside").symlink_to(host.path / "releases")
    adopt = adopt % {"path": host.path, "srv": host.venv.parent}
    files = host.files()
    for state_of, release in (("active", {"version": "1.0"}), ("present", {"version": "1.0"})):
        refused = host.call(state_of, release, instance={"adopt": adopt})
        assert (refused["code"], refused["changed"]) == (code, False)
    assert host.files() == files

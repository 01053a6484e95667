# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host below a temporary folder on which somebody else has installed a service.

Its environments, files, links and processes are real: what runs is proven from /proc. systemd is little: it reads the unit's files when
it is told to, and starts what they say. That text is read as systemd reads it is shown by tests/unit/module_utils/test_unit_text.py.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils import _artifact, _dropin, _environment, _probe, _systemd
from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._unit_text import File, effective
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict
from tests.ports import free_port

UNIT = "demo-wsgi.service"
# It maps a library of its environment, as every service with compiled code does: that shows where it was loaded from.
SERVER = """
import glob, mmap, os, socket, sys
library = open(glob.glob(os.path.join(sys.prefix, "lib/python3*/site-packages/demo.so"))[0], "rb")
mapped = mmap.mmap(library.fileno(), 0, prot=mmap.PROT_READ)
also = [open(path, "rb") for path in sys.argv[2:]]
held = [mmap.mmap(one.fileno(), 0, prot=mmap.PROT_READ) for one in also]
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    server.accept()[0].close()
"""


def environment(folder: Path, **installed: str) -> Path:
    """A real virtual environment, with what is installed there as far as metadata goes."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    for name, version in installed.items():
        install(folder, name, version)
    site = next(folder.glob("lib/python3*/site-packages"))
    (site / "demo.so").write_bytes(b"x" * 4096)
    (folder / "bin" / "serve").write_text(SERVER)
    return folder


def install(folder: Path, name: str, version: str) -> None:
    """What pip does to an environment, in place."""
    site = next(folder.glob("lib/python3*/site-packages"))
    for old in site.glob(name + "-*.dist-info"):
        (old / "METADATA").unlink()
        old.rmdir()
    (site / ("%s-%s.dist-info" % (name, version))).mkdir()
    text = "Metadata-Version: 2.1\nName: %s\nVersion: %s\n\nText.\n" % (name, version)
    (site / ("%s-%s.dist-info" % (name, version)) / "METADATA").write_text(text)


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    """Everything below a folder: mode, and text or target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        found[str(path.relative_to(folder))] = (
            mode,
            os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else "",
        )
    return found


class Host:
    """``units`` is /etc/systemd/system, ``venv`` the environment of the other tool, ``path`` our folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.units, self.venv, self.path = folder / "units", folder / "srv" / "venv", folder / "opt" / "demo"
        self.ini = folder / "srv" / "demo.ini"
        self.units.mkdir()
        (self.path / "releases").mkdir(parents=True)
        self.venv.parent.mkdir()
        environment(self.venv, demo="1.0", oslo="7.1")
        self.ini.write_text("[demo]\n")
        self.port = free_port()
        self.write_unit('ExecStart=%s/bin/python "%s/bin/serve" %d' % (self.venv, self.venv, self.port))
        self.loaded: tuple[File, ...] = ()
        self.process: subprocess.Popen[bytes] | None = None
        self.reloads = self.starts = 0
        self.reload()
        monkeypatch.setattr(_dropin, "UNITS", str(self.units))
        monkeypatch.setattr(_systemd, "show", self.show)
        monkeypatch.setattr(_systemd, "order", self.order)
        monkeypatch.setattr(_systemd, "reload", self.reload)
        monkeypatch.setattr(_systemd, "forget_failure", lambda name: None)
        monkeypatch.setattr(_systemd, "journal", lambda *_more: [])
        monkeypatch.setattr(_systemd, "processes_of", lambda cgroup: [int(cgroup)] if cgroup else [])
        monkeypatch.setattr(_probe, "baseline_file", lambda *_: str(folder / "token"))

    def write_unit(self, *lines: str) -> None:
        (self.units / UNIT).write_text("[Unit]\nDescription=demo\n[Service]\n%s\n" % "\n".join(lines))

    def release(self, name: str, ours: bool = True, **installed: str) -> str:
        """A release of ours on this host, complete. Returns its name."""
        folder = environment(self.path / "releases" / name, **installed)
        if ours:
            (folder / _environment.MARKER).write_text('{"package": "demo"}')
        return name

    # What the driver asks of systemd.

    def _on_disk(self) -> tuple[File, ...]:
        paths = [self.units / UNIT, *sorted((self.units / (UNIT + ".d")).glob("*.conf"), key=lambda path: path.name)]
        return tuple(File(str(path), path.read_text()) for path in paths if path.is_file())

    def reload(self, timeout_s: float = 0.0) -> None:
        self.loaded = self._on_disk()
        self.knows_folder = (self.units / (UNIT + ".d")).is_dir()
        self.reloads += 1

    def _is_outdated(self) -> bool:
        """What systemd calls NeedDaemonReload: it does not see a folder of drop-ins that is new since it last read."""
        seen = [file for file in self._on_disk() if self.knows_folder or file.path.endswith("/" + UNIT)]
        return list(self.loaded) != seen

    def show(self, name: str) -> _systemd.Unit:
        runs = self.process is not None and self.process.poll() is None
        pid = self.process.pid if self.process is not None and runs else 0
        paths = [file.path for file in self.loaded]
        return _systemd.Unit(
            name, "loaded" if name == UNIT else "not-found", "active" if runs else "inactive", "", "success", 0, pid, "", 90.0,
            tuple(effective(self.loaded, "ExecStart")), str(pid or ""), paths[0] if paths else "", tuple(paths[1:]), self._is_outdated(),
        )  # fmt: skip

    def order(self, verb: str, name: str) -> None:
        if verb == "stop":
            self.stop()
        else:
            self.start()

    def start(self) -> None:
        """What starts is what systemd has read, not what lies on the disk."""
        (command,) = effective(self.loaded, "ExecStart")
        self.process = subprocess.Popen(shlex.split(command), stderr=subprocess.DEVNULL)
        self.starts += 1
        end = time.monotonic() + 10
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket() as asks:
                if asks.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    # Calls of the driver.

    def call(
        self, state: str, release: dict[str, Any], check: bool = False, expect: Any = None, resume: bool = False, **more: Any
    ) -> dict[str, Any]:
        """One call of the driver; its whole answer."""
        instance = {
            "component": "demo-api", "unit": UNIT, "listen": "127.0.0.1:%d" % self.port, "path": str(self.path), "stop": 5,
            "adopt": str(self.venv), **more.pop("instance", {}),
        }  # fmt: skip
        asked = {"id": None, "version": None, "package": "demo", "lock": None, **release}
        params = {"state": state, "release": asked, "instance": instance, "job": None, "keep": None, "scope": "test", **more}
        deadline = Deadline(params.pop("deadline_s", 20))
        report = Report()
        verdict: Verdict | LifecycleError
        try:
            verdict = _artifact.prepare(params)(Terms(check, expect, resume, deadline), report)
            code, reason = verdict.code, verdict.reason
        except LifecycleError as exc:
            verdict, code, reason = exc, "failed " + exc.code, exc.msg
        return {
            **report.more, "before": report.before, "after": report.after, "changed": report.changed, "code": code, "reason": reason
        }  # fmt: skip

    def active(self, release: str, **more: Any) -> dict[str, Any]:
        """Make a release active, by its name, or by a version that needs no lock."""
        return self.call("active", {"id": release} if "-" in release else {"version": release}, **more)

    def drop_in(self) -> Path:
        return self.units / (UNIT + ".d") / "50-osops.conf"

    def files(self) -> dict[str, Any]:
        """Everything that the driver may write: the unit's files, and our folder without what is in the releases."""
        ours = {name: what for name, what in tree(self.path).items() if not name.startswith("releases/")}
        return {"units": tree(self.units), "ours": ours}

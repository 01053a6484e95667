# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls modules and commands on the hosts of a running rig, over ssh, as users do."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.rig.snapshot import logins_of

PATH = "/opt/osops/keystone"
# When a module that switches a unit is killed: NAME -> what is seen on the host then.
MOMENTS = {
    "at once": "true",
    "it stops": "! systemctl -q is-active %s",
    "it starts": 'test "$(systemctl show -P ActiveState %s)" = activating',
    "it loads": 'test "$(systemctl show -P ActiveState %s)" = activating && sleep .5',
}
# Its instance stops and starts: who runs tests on two hosts at the same time gives each its own. ctl2 serves all the while.
HOST = os.environ.get("OSOPS_RIG_HOST", "ctl3")


# A new process for every call, as on a command line, but of one that has loaded Ansible already: that is most of what a call costs.
LOADED = multiprocessing.get_context("forkserver")
LOADED.set_forkserver_preload(["pytest", "ansible.cli.adhoc"])


def _ansible(argv: list[str], out: str) -> None:
    from ansible.cli import adhoc  # not into the tests' own process

    os.setsid()
    for number, path in enumerate((os.devnull, out, out)):
        os.dup2(os.open(path, os.O_RDWR | os.O_APPEND), number)
    adhoc.main(argv)


class Call:
    """One ``ansible`` that runs."""

    def __init__(self, argv: list[str]) -> None:
        with tempfile.NamedTemporaryFile(delete=False) as out:
            self.out = Path(out.name)
        self.process = LOADED.Process(target=_ansible, args=(argv, out.name))
        self.process.start()

    def said(self, limit_s: float) -> str:
        """What it had to say, when it has ended."""
        self.process.join(limit_s)
        text = self.out.read_text(encoding="utf-8", errors="replace")
        self.out.unlink()
        if self.process.exitcode is None:
            assert self.process.pid
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError("still running after %.0f s: %s" % (limit_s, text))
        return text


class Rig:
    """Calls modules and commands on the hosts of a running rig, over ssh, as users do."""

    def __init__(self, inventory: Path, repository: Path) -> None:
        self.inventory = inventory
        self.repository = repository
        self.vars = yaml.safe_load(inventory.read_text(encoding="utf-8"))["all"]["vars"]
        self.logins = logins_of(inventory)
        self.recipe = yaml.safe_load((repository / "data" / "recipes" / "keystone.yml").read_text(encoding="utf-8"))

    def module(self, host: str, name: str, args: dict[str, Any], check: bool = False) -> dict[str, Any]:
        """Run one module; its whole answer."""
        with tempfile.TemporaryDirectory() as folder:
            out = self.start(host, name, args, check, folder).said(1200)
            answer = Path(folder) / host
            assert answer.is_file(), out
            return dict(json.loads(answer.read_text(encoding="utf-8")))

    def start(self, host: str, name: str, args: dict[str, Any], check: bool = False, tree: str = "") -> Call:
        """Start a module and return at once."""
        argv = ["ansible", host, "-i", str(self.inventory), "-m", name, "-a", json.dumps(args)]
        argv += ["--check"] if check else []
        argv += ["--tree", tree] if tree else []
        return Call(argv)

    def shell(self, host: str, command: str) -> str:
        """Run a shell command on a host; its output. It must succeed."""
        words = [*self.logins[host], "bash -c " + shlex.quote(command)]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=1200)
        assert done.returncode == 0, done
        return done.stdout.rstrip("\n")

    def kill_module(self, host: str, moment: str = "true") -> None:
        """Wait until a module acts on the host (it holds the lock of its scope) and ``moment`` succeeds there, and kill the module.

        A moment is what can be seen on the host, not a time: a quick machine would have ended before it, a slow one not begun.
        A child that the module has just forked holds the lock too, for a while: the first process is the module.
        """
        said = self.shell(
            host,
            "for i in $(seq 300); do pid=$(find /proc/[0-9]*/fd -lname /var/lib/osops/fence/default 2>/dev/null | cut -d/ -f3 | sort -n | head -1); "
            'test -n "$pid" && break; sleep .02; done; '
            "for i in $(seq 3000); do { %s; } >/dev/null && break; sleep .01; done; kill -9 $pid && echo killed" % moment,
        )
        assert said == "killed"

    def release(self, version: str) -> dict[str, Any]:
        """The release of the rig's own lock and index."""
        lock = (self.repository / "tests" / "rig" / "locks" / ("keystone-%s.txt" % version)).read_text(encoding="utf-8")
        return {"version": version, "package": "keystone", "lock": lock, "index": self.vars["rig_index_url"]}

    @contextlib.contextmanager
    def database(self, alone: bool = False) -> Iterator[None]:
        """The server of the databases, shared with tests on other hosts, or ``alone``: for a test that changes it for everybody."""
        with (self.inventory.parent / "database.lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield

    def listen(self, host: str) -> str:
        hosts = yaml.safe_load(self.inventory.read_text(encoding="utf-8"))["all"]["children"]["keystone"]["hosts"]
        return "%s:5000" % hosts[host]["ansible_host"]

    def instance(self, host: str, **more: Any) -> dict[str, Any]:
        return {
            "component": "keystone-api",
            "unit": "keystone-api.service",
            "listen": self.listen(host),
            "path": PATH,
            "stop": 60,
            **more,
        }

    def source(self, state: str, release: dict[str, Any], check: bool = False, host: str = HOST, **more: Any) -> dict[str, Any]:
        """Call artifact_source on one controller."""
        args = {"state": state, "release": release, "instance": self.instance(host), "deadline": 600, **more}
        return self.module(host, "osops.lifecycle.artifact_source", args, check)

    def schema(self, state: str, release: dict[str, Any], check: bool = False, **more: Any) -> dict[str, Any]:
        """Call schema_step on one controller with the recipe of Keystone."""
        recipe = self.recipe
        args = {
            "state": state,
            "service": "keystone",
            "release": release,
            "instance": {"path": PATH, "unit": "keystone-api.service"},
            "config": recipe["config"],
            "commands": recipe["commands"],
            "checks": recipe["preflight"],
            "act": recipe["schema"]["expand"],
            "deadline": 300,
            **more,
        }
        return self.module(HOST, "osops.lifecycle.schema_step", args, check)

    def probe(self, state: str, host: str = HOST, **more: Any) -> dict[str, Any]:
        """Call api_probe on one controller with the recipe of Keystone."""
        args = {
            "state": state,
            "instance": {"component": "keystone-api", "listen": self.listen(host)},
            "requests": self.recipe["probe"][state],
            "vars": self.recipe["probe"]["vars"],
            "secrets": {"admin_password": self.vars["keystone_admin_password"]},
            "deadline": 60,
            **more,
        }
        return self.module(host, "osops.lifecycle.api_probe", args)

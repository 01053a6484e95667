# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests of our file in HAProxy's configuration folder: a lab that reads conf.d, and the act on it."""

from __future__ import annotations

import os
import signal
import typing as t
from pathlib import Path

import pytest

from tests.integration.haproxy.conftest import folder, make_lab  # noqa: F401 - fixtures
from tests.integration.haproxy.lab import HAPROXY, Lab, Web, until
from tests.ports import free_port

OWNER = "test/shop"


class Told(t.NamedTuple):
    """What a module would answer."""

    verdict: t.Any
    before: dict[str, t.Any]
    after: dict[str, t.Any]
    changed: bool
    more: dict[str, t.Any]


class Signal:
    """How a test reloads: USR2 to the master, as the unit of Debian does."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.count = 0

    def check(self, master: int) -> None:
        assert master == self.lab.master_pid()

    def __call__(self, timeout_s: float) -> None:
        self.count += 1
        os.kill(self.lab.master_pid(), signal.SIGUSR2)

    def busy(self) -> bool:
        return False

    def words(self, since: float) -> list[str]:
        return [line for line in self.lab.said().splitlines() if "ALERT" in line][-4:]


class Shop:
    """One service behind a lab that others use too: two servers a1 and a2, one frontend."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.conf = lab.folder / "conf.d"
        self.conf.mkdir()
        self.file = self.conf / "osops-shop.cfg"
        self.note = self.conf / ".osops-shop.note"
        self.web = {name: Web(name) for name in ("a1", "a2")}
        self.port = free_port()
        self.order = Signal(lab)
        lab.arguments = ["-f", str(self.conf)]

    def params(self, **given: t.Any) -> dict[str, t.Any]:
        return {
            "state": "present", "service": "shop", "owner": OWNER, "folder": str(self.conf), "binary": HAPROXY,
            "socket": self.lab.admin, "master_socket": None, "socket_timeout": 5, "reload": "haproxy.service", "answer": None,
            "min_up": 0, "frontends": [self.frontend()], "backend": self.backend(),
            "servers": [{"name": web.name, "address": web.address} for web in self.web.values()],
            "expect": None, "resume": False, "deadline": 30, **given,
        }  # fmt: skip

    def frontend(self, **given: t.Any) -> dict[str, t.Any]:
        return {"name": "shop", "bind": ["127.0.0.1:%d" % self.port], "options": ["option idle-close-on-response"], **given}

    def backend(self, **given: t.Any) -> dict[str, t.Any]:
        check = {"path": "/", "status": "200"}
        return {"name": "shop", "check": check, "server_options": "check inter 100 fall 2 rise 2", "options": [], **given}

    def act(self, check: bool = False, order: t.Any = None, **given: t.Any) -> Told:
        """Do it in this process, as the module does."""
        from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
        from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
        from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Report, Terms
        from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.balancer import Balancer
        from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.config import Config, Request
        from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict

        params = self.params(**given)
        report = Report()
        terms = Terms(check, params["expect"], params["resume"], Deadline(params["deadline"]))
        try:
            balancer = Balancer(params["socket"], params["master_socket"], params["socket_timeout"])
            verdict = Config(balancer, Request.from_params(params), order or self.order)(terms, report)
        except LifecycleError as exc:
            verdict = Verdict.from_error(exc)
        return Told(verdict, dict(report.before), dict(report.after), report.changed, report.more)

    def proxies(self) -> set[str]:
        """The frontends and backends that HAProxy has, asked without any code of the collection."""
        lines = self.lab.raw("show stat -1 3 -1").splitlines()[1:]
        return {"/".join(line.split(",")[1::-1]) for line in lines if line}

    def sessions(self) -> int:
        """Requests that our servers have in hand (``show stat shop`` would show the frontend of that name)."""
        return self._sum(4)

    def requests(self) -> int:
        """Requests that this worker has given to our servers so far; its own checks do not count."""
        return self._sum(7)

    def _sum(self, column: int) -> int:
        lines = self.lab.raw("show stat -1 4 -1").splitlines()
        return sum(int(line.split(",")[column]) for line in lines if line.startswith("shop,"))

    def names(self) -> list[str]:
        return sorted(os.listdir(self.conf))

    def stop(self) -> None:
        for web in self.web.values():
            web.die()


@pytest.fixture
def shop(make_lab: t.Callable[..., Lab]) -> t.Iterator[Shop]:  # noqa: F811
    """A lab with servers s1 and s2 of somebody else, and nothing of ours yet."""
    lab = make_lab()
    made = Shop(lab)
    lab.config()
    lab.start()
    yield made
    made.stop()


def snapshot(path: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(found.relative_to(path)): found.read_bytes() for found in path.rglob("*") if found.is_file()}


__all__ = ["OWNER", "Shop", "Signal", "Told", "snapshot", "until"]

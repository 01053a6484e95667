# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed before each of its writes and orders, and called again or taken back: the same end, and nothing that would not be there."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integration.adoption.host import UNIT, Host

NEW = "2.0-0123456789ab"
WRITES = ("chmod", "fsync", "mkdir", "rename", "replace", "rmdir", "symlink", "unlink")


class KilledError(BaseException):
    """The end of the process, as far as the driver can know."""


@contextmanager
def killed_before(number: int, host: Host) -> Iterator[list[str]]:
    """Everything goes as it does, until the ``number``-th write or order: that and all after it does not happen."""
    done: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            if len(done) >= number:
                raise KilledError
            done.append(name)
            return real(*args, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            patch.setattr(os, name, counted(name, getattr(os, name)))
        for name in ("stop", "start", "reload"):
            patch.setattr(host, name, counted(name, getattr(host, name)))
        from ansible_collections.osops.lifecycle.plugins.module_utils import _systemd

        patch.setattr(_systemd, "reload", host.reload)
        yield done


@pytest.mark.parametrize("meanwhile", ["nothing", "reboot"])
@pytest.mark.parametrize("then", ["again", "undo"])
@pytest.mark.parametrize("goal", ["ours", "theirs"])
def test_it_ends_where_it_should(host: Host, goal: str, then: str, meanwhile: str) -> None:
    host.release(NEW, demo="2.0")
    old = str(host.active("1.0", check=True)["before"]["release"])
    states = {
        "ours": {"release": NEW, "version": "2.0", "running": True},
        "theirs": {"release": old, "version": "1.0", "running": True},
    }
    other = "theirs" if goal == "ours" else "ours"
    files = {"theirs": host.files()}
    assert host.active(NEW)["after"] == states["ours"]
    files["ours"] = host.files()
    points: list[str] = []
    for number in itertools.count():
        assert host.active(str(states[other]["release"]))["after"] == states[other]
        assert host.files() == files[other]
        try:
            with killed_before(number, host) as done:
                host.active(str(states[goal]["release"]), expect=states[other])
        except KilledError:
            pass
        else:
            points = done
            break
        if meanwhile == "reboot":
            host.reload()
            host.stop()
            host.start()
        end, start = (goal, other) if then == "again" else (other, goal)
        last = host.active(str(states[end]["release"]), expect=states[start], resume=True)
        assert (last["after"], last["reason"]) == (states[end], "demo-api runs %s." % states[end]["release"]), done
        assert host.files() == files[end], done
        assert not host.show(UNIT).needs_reload, done
    assert points.count("stop") == points.count("start") == points.count("reload") == 1, "the whole act was cut everywhere"
    assert len(points) > 8

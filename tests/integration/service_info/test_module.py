# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible starts it, on this machine: real environments, real processes, real sockets."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port

PACKAGE = "osops-trial"
SERVER = (
    "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print('up', flush=True); time.sleep(90)"
)
# One that holds the socket, and a child that was handed no socket and serves all the same, as Apache's daemons do.
HANDS_ON = (
    "import os, socket, subprocess, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); "
    "subprocess.Popen([sys.argv[2], '-c', 'import time; time.sleep(90)']); time.sleep(1); print('up', flush=True); time.sleep(90)"
)
Serve = Callable[..., int]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the processes of others are looked at, which needs root")
pytestmark = needs_root


def environment(folder: Path, version: str = "1.2.3", package: str = PACKAGE) -> Path:
    """A real virtual environment in which the package is installed, as far as metadata goes."""
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    told = site / ("%s-%s.dist-info" % (package.replace("-", "_"), version))
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: %s\nVersion: %s\n\n" % (package, version))
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The environment of a service; it is older than what is started from it."""
    made = environment(tmp_path / "osops-trial-home")
    time.sleep(1.1)
    return made


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a process that says ``up`` when it listens; everything that was started ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(python: Path, port: int, *more: str, code: str = SERVER, before: tuple[str, ...] = (), **variables: str) -> int:
        process = subprocess.Popen(
            [*before, str(python / "bin" / "python"), "-c", code, str(port), *more],
            stdout=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, **variables},
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process.pid

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ask(collections: Path, check: bool = False, **args: Any) -> dict[str, Any]:
    """One run of the module; its whole answer."""
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.osops.lifecycle.plugins.modules.service_info"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {"package": PACKAGE, "_ansible_check_mode": check, **args}}),
        env={**os.environ, "PYTHONPATH": str(collections)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    answer: dict[str, Any] = json.loads(done.stdout)
    answer.pop("invocation", None)
    return answer


def test_one_instance_on_a_port_that_nobody_named(collections: Path, tmp_path: Path, home: Path, serve: Serve) -> None:
    port, conf = free_port(), tmp_path / "trial.conf"
    conf.write_text("[database]\nconnection = mysql://trial:Swordfish4711@db/trial\n")
    pid = serve(home, port, "--config-file", str(conf), "--secret=Swordfish4711", OS_OTHER_PASSWORD="Swordfish4711")  # noqa: S106
    answer = ask(collections, ports=[1])
    (one,) = answer["instances"]
    assert (one["listen"], one["pids"]) == (["127.0.0.1:%d" % port], [pid])
    assert (one["version"], one["prefix"], one["problem"], one["virtual"]) == ("1.2.3", str(home), "", True)
    assert one["known_by"] == ["word"], "the folder has the word in its name"
    assert (one["user"], one["container"], one["package"], one["behind"], one["unit"]) == ("root", "", "", "", None)
    assert one["config"] == [
        {"path": str(conf), "named_by": "command line", "sha256": hashlib.sha256(conf.read_bytes()).hexdigest(), "problem": ""}
    ]
    assert "Swordfish" not in repr(answer)
    assert answer["changed"] is False


def test_check_mode_is_the_same(collections: Path, home: Path, serve: Serve) -> None:
    serve(home, free_port())
    assert ask(collections, check=True)["instances"] == ask(collections)["instances"] != []


def test_two_instances_of_two_releases(collections: Path, tmp_path: Path, home: Path, serve: Serve) -> None:
    other = environment(tmp_path / "other", "2.0.0")
    time.sleep(1.1)
    ports = [free_port(), free_port()]
    serve(home, ports[0])
    serve(other, ports[1])
    answer = ask(collections, ports=ports[1:], words=["nonesuch"])
    found = {one["version"]: (one["listen"], one["known_by"]) for one in answer["instances"]}
    assert found == {"1.2.3": (["127.0.0.1:%d" % ports[0]], []), "2.0.0": (["127.0.0.1:%d" % ports[1]], ["port"])}


def test_why_a_version_is_not_proven(collections: Path, home: Path, serve: Serve) -> None:
    serve(home, free_port())
    time.sleep(1.5)
    site = next(home.glob("lib/python3*/site-packages"))
    told = site / "osops_trial-1.2.3.dist-info"
    told.rename(site / "away")
    shutil.copytree(site / "away", site / "osops_trial-2.0.0.dist-info")
    (one,) = ask(collections)["instances"]
    assert (one["version"], one["prefix"]) == (None, str(home))
    assert "was replaced after process" in one["problem"]
    environment(home, "3.0.0")
    (one,) = ask(collections)["instances"]
    assert one["version"] is None
    assert "is installed 2 times" in one["problem"]


def test_a_child_serves_what_its_parent_listens_for(collections: Path, tmp_path: Path, home: Path, serve: Serve) -> None:
    plain = tmp_path / "plain"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(plain)], check=True)
    port = free_port()
    parent = serve(plain, port, str(home / "bin" / "python"), code=HANDS_ON)
    (one,) = ask(collections)["instances"]
    assert (one["version"], one["listen"]) == ("1.2.3", ["127.0.0.1:%d" % port])
    assert parent in one["pids"]
    assert len(one["pids"]) == 2
    assert one["behind"] == one["program"] != ""


def test_what_else_holds_a_known_port_is_told(collections: Path, tmp_path: Path, serve: Serve) -> None:
    plain = tmp_path / "plain"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(plain)], check=True)
    port = free_port()
    pid = serve(plain, port)
    answer = ask(collections, ports=[port])
    assert answer["instances"] == []
    assert [(one["listen"], one["pids"]) for one in answer["others"]] == [(["127.0.0.1:%d" % port], [pid])]
    assert ask(collections, ports=[free_port()])["others"] == []


def test_where_the_configuration_is(collections: Path, tmp_path: Path, home: Path, serve: Serve) -> None:
    """As oslo.config's users read their variables; a pipe is not opened, a missing file is said."""
    (tmp_path / "a.conf").write_text("a")
    os.mkfifo(tmp_path / "b.conf")
    serve(home, free_port(), OS_OSOPS_TRIAL_CONFIG_DIR=str(tmp_path), OS_OSOPS_TRIAL_CONFIG_FILES="a.conf; b.conf;c.conf")
    (one,) = ask(collections)["instances"]
    told = [(os.path.basename(row["path"]), row["named_by"], row["sha256"] is None, row["problem"]) for row in one["config"]]
    assert told == [
        ("a.conf", "environment", False, ""),
        ("b.conf", "environment", True, "it is not a file"),
        ("c.conf", "environment", True, "it cannot be read: No such file or directory"),
    ]


def test_process_numbers_of_its_own_are_a_container(collections: Path, home: Path, serve: Serve) -> None:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare (util-linux) is not on this machine")
    serve(home, free_port(), before=(unshare, "--pid", "--fork", "--kill-child"))
    (one,) = ask(collections)["instances"]
    assert one["container"] == "it has process numbers of its own"
    assert one["version"] == "1.2.3"


def test_a_network_of_its_own_is_searched_too(collections: Path, home: Path, serve: Serve) -> None:
    unshare, address = shutil.which("unshare"), shutil.which("ip") or "/usr/sbin/ip"
    if unshare is None or not os.path.exists(address):
        pytest.skip("unshare (util-linux) or ip (iproute2) is not on this machine")
    script = '%s link set lo up && exec "$@"' % address
    serve(home, 5000, before=(unshare, "--net", "sh", "-c", script, "sh"))
    assert [one["listen"] for one in ask(collections)["instances"]] == [["127.0.0.1:5000"]]


def test_files_of_a_debian_package_are_told_from_others(tmp_path: Path) -> None:
    from ansible_collections.osops.lifecycle.plugins.module_utils import _discover

    lists = tmp_path / "var/lib/dpkg/info"
    lists.mkdir(parents=True)
    path = "/usr/lib/python3/dist-packages/osops_trial-1.2.3.egg-info/PKG-INFO"
    (lists / "other.list").write_text("/.\n%s.bak\n" % path)
    assert _discover.package_owner(str(tmp_path), path) == ""
    (lists / "python3-trial:all.list").write_text("/.\n%s\n" % path)
    assert _discover.package_owner(str(tmp_path), path) == "python3-trial"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"package": "../x"}, "package '../x' is not a plain name. It looks like keystone."),
        ({"service": "a/b"}, "service 'a/b' is not a plain name."),
        ({"ports": [70000]}, "70000 is not a port. It is a number from 1 to 65535."),
        ({"words": [" "]}, "One of the words is empty."),
    ],
)
def test_bad_input(collections: Path, args: dict[str, Any], says: str) -> None:
    answer = ask(collections, **args)
    assert answer["failed"] is True
    assert says in answer["msg"]
    assert answer["verdict"]["code"].startswith("input.")


def test_nobody_but_root_is_told_that_all_is_seen(collections: Path, home: Path, serve: Serve) -> None:
    port = free_port()
    serve(home, port)
    code = (
        "import os, sys; os.setgid(65534); os.setuid(65534); sys.path.insert(0, sys.argv[1]); "
        "from ansible_collections.osops.lifecycle.plugins.module_utils import _discover as d; "
        "from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError as E\n"
        "try: d.look(d.Wanted('osops-trial', 'osops-trial'))\n"
        "except E as exc: print(exc.code, exc.msg)"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code, str(collections)], capture_output=True, text=True, check=False, timeout=60
    )
    if "Permission denied" in done.stderr or "ModuleNotFoundError" in done.stderr:
        pytest.skip("the checkout lies where nobody but root may read")
    assert done.stdout.startswith("discover.blind The processes that listen on "), done.stderr
    assert "127.0.0.1:%d" % port in done.stdout

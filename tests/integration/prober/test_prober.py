# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The prober counts each failure once and by its right name, and believes nothing that the balancers' logs do not say."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest

from tests.integration.prober.cloud import Backend, Balancer, balancer, number_of

REPOSITORY = Path(__file__).resolve().parents[3]
FAILED, VOID, UNUSABLE = 4, 3, 2  # exit codes; 1 is left to a crash
PASSWORD = "never in argv"  # noqa: S105 - of a look-alike


@pytest.fixture(scope="session")
def haproxy() -> str:
    program = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        pytest.skip("there is no haproxy on this machine (scripts/setup --system haproxy)")
    return program


class Cloud(t.NamedTuple):
    backend: Backend
    lb1: Balancer
    lb2: Balancer
    folder: Path


@pytest.fixture
def cloud(haproxy: str, tmp_path: Path) -> t.Iterator[Cloud]:
    # Requests whose number ends in 7 are closed on without an answer by the balancers themselves.
    reject = "http-request reject if { req.hdr(X-Probe-Id) -m end 7 } !{ req.hdr(X-Probe-Id) -m sub setup }"
    with (
        Backend() as backend,
        balancer(haproxy, "lb1", backend.port, tmp_path, reject) as lb1,
        balancer(haproxy, "lb2", backend.port, tmp_path, reject) as lb2,
    ):
        yield Cloud(backend, lb1, lb2, tmp_path)


def start(*words: str) -> subprocess.Popen[str]:
    environment = dict(os.environ, PYTHONPATH=str(REPOSITORY), OS_PASSWORD=PASSWORD)
    command = [sys.executable, "-m", "tests.rig.prober", *words]
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str], code: int) -> str:
    """Wait for its end; return what it printed."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, (process.returncode, out, err)
    assert PASSWORD not in out + err
    return out + err


def probing(cloud: Cloud, *words: str) -> subprocess.Popen[str]:
    """Start a run against both balancers, into the folder ``probe``."""
    both = ["--balancer", cloud.lb1.argument, "--balancer", cloud.lb2.argument]
    return start("run", "--dir", str(cloud.folder / "probe"), *both, *words)


def begun(cloud: Cloud) -> Path:
    """Wait until requests are sent; return the folder of the run."""
    folder, deadline = cloud.folder / "probe", time.monotonic() + 20
    while not (folder / "run.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return folder


def reconcile(cloud: Cloud, code: int, **logs: Path) -> dict[str, t.Any]:
    files = {"lb1": cloud.lb1.log, "lb2": cloud.lb2.log, **logs}
    words = [word for name, path in files.items() for word in ("--log", "%s=%s" % (name, path))]
    end(start("reconcile", "--dir", str(cloud.folder / "probe"), "--deadline", "1", *words), code)
    made: dict[str, t.Any] = json.loads((cloud.folder / "probe" / "report.json").read_text(encoding="utf-8"))
    return made


FAULTS = {3: "503", 5: "401", 11: "hang", 13: "broken", 15: "wrong", 18: "slow"}
CAUSES = {"503": "http_503", "401": "http_401", "hang": "timeout", "broken": "reset", "wrong": "wrong_answer", "slow": ""}


def cause_of(number: int) -> str:
    """What the prober must call the fate of request ``number``; "" where it succeeds."""
    return "reset" if number % 10 == 7 else CAUSES.get(FAULTS.get(number % 20, ""), "")


def test_every_failure_is_counted_once_and_by_its_name(cloud: Cloud) -> None:
    cloud.backend.fault = lambda number: FAULTS.get(number % 20, "") if number >= 0 else ""
    end(probing(cloud, "--rate", "50", "--seconds", "4", "--timeout", "1.5"), FAILED)
    report = reconcile(cloud, FAILED)
    total = report["total"]
    assert (report["result"], total["sent"]) == ("counted", 200)
    assert total["causes"] == dict(collections.Counter(cause for number in range(200) if (cause := cause_of(number))))
    assert {number_of(failure["id"]): failure["cause"] for failure in report["failures"]} == {
        number: cause for number in range(200) if (cause := cause_of(number))
    }
    # Nothing was sent twice: aiohttp would repeat a GET whose kept connection broke.
    numbers = collections.Counter(number_of(probe) for probe in cloud.backend.seen)
    assert set(numbers) - {-1} == {number for number in range(200) if number % 10 != 7}
    assert numbers.pop(-1) == 2
    assert set(numbers.values()) == {1}
    # HAProxy still waits for the ones that hang, and logs them only when it has given up on the server as well.
    assert total["unseen"] == 10
    assert total["servers"] == {"keystone/ctl1": 170, "front/<NOSRV>": 20}
    assert total["p99_ms"] >= 500 > total["p50_ms"]
    assert sum(row["sent"] for row in report["series"]) == 200


def test_half_of_the_requests_take_a_new_connection_on_each_balancer(cloud: Cloud) -> None:
    end(probing(cloud, "--rate", "50", "--seconds", "2", "--weights", "read=1"), FAILED)
    probes = [json.loads(line) for line in (cloud.folder / "probe" / "probes.jsonl").read_text(encoding="utf-8").splitlines()]
    assert collections.Counter((probe["balancer"], probe["fresh"]) for probe in probes) == {
        ("lb1", False): 25,
        ("lb1", True): 25,
        ("lb2", False): 25,
        ("lb2", True): 25,
    }
    for lb in (cloud.lb1, cloud.lb2):
        # HAProxy logs the client's port: kept connections serve many requests, new ones one each (and the login one).
        ports = collections.Counter(line.split()[0] for line in lb.log.read_text(encoding="utf-8").splitlines() if "{p" in line)
        assert sum(count == 1 for count in ports.values()) >= 25
        assert max(ports.values()) >= 5


def test_a_standstill_is_felt_by_all_that_were_due_in_it(cloud: Cloud) -> None:
    cloud.backend.fault = lambda number: "stall" if number == 50 else ""
    end(probing(cloud, "--rate", "50", "--seconds", "3"), FAILED)
    report = reconcile(cloud, FAILED)
    lines = (cloud.folder / "probe" / "probes.jsonl").read_text(encoding="utf-8").splitlines()
    slow = [probe for probe in map(json.loads, lines) if probe["ms"] > 300 and not probe["failure"]]
    # A client that waits for an answer before it asks again would have sent, and counted, one or two slow requests.
    assert len(slow) >= 25
    assert report["total"]["sent"] == 150
    assert 0.9 <= report["total"]["longest_gap_s"] <= 2.0


def test_a_balancer_that_dies_refuses_and_nobody_saw_it(cloud: Cloud) -> None:
    process = probing(cloud, "--rate", "50", "--seconds", "3")
    begun(cloud)
    time.sleep(1)
    cloud.lb2.process.kill()
    end(process, FAILED)
    total = reconcile(cloud, FAILED)["total"]
    assert total["causes"]["refused"] >= 40
    assert set(total["causes"]) == {"refused", "reset"}
    assert total["unseen"] >= total["causes"]["refused"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda lines: lines[:-1], "that no log knows"),
        (lambda lines: [*lines, lines[-1]], "logged 2 times"),
        (lambda lines: [line.replace(" 200 ", " 503 ") for line in lines], "says 503"),
        (lambda lines: [*lines, lines[-1].replace("}", "999}")], "never sent"),
        (lambda lines: [*lines, "{%s" % lines[-1].partition("{")[2]], "not understood"),
        (lambda _lines: [], "that no log knows"),
    ],
    ids=["dropped", "twice", "other-status", "extra", "unreadable", "empty"],
)
def test_a_log_that_tells_another_story_makes_the_result_void(
    cloud: Cloud, spoil: t.Callable[[list[str]], list[str]], says: str
) -> None:
    end(probing(cloud, "--rate", "40", "--seconds", "0.1", "--weights", "read=1"), 0)
    assert reconcile(cloud, 0)["result"] == "counted"
    lines = [line for line in cloud.lb1.log.read_text(encoding="utf-8").splitlines() if "{p" in line and "setup" not in line]
    spoiled = cloud.folder / "spoiled.log"
    spoiled.write_text("\n".join(spoil(lines)) + "\n", encoding="utf-8")
    report = reconcile(cloud, VOID, lb1=spoiled)
    assert report["result"] == "void"
    assert says in report["void"]


def test_marks_cut_a_run_and_a_signal_or_a_file_ends_it(cloud: Cloud) -> None:
    for ending in ("signal", "file"):
        stop = cloud.folder / ("stop-" + ending)
        process = probing(cloud, "--rate", "40", "--until-file", str(stop), "--weights", "validate=1,write=1")
        folder = begun(cloud)
        cloud.backend.fault = lambda number: "503" if number % 4 == 1 else ""
        end(start("mark", "--dir", str(folder), "first"), 0)
        time.sleep(0.5)
        cloud.backend.fault = lambda _number: ""
        end(start("mark", "--dir", str(folder), "second"), 0)
        time.sleep(0.5)
        if ending == "signal":
            process.send_signal(signal.SIGTERM)
        else:
            stop.touch()
        end(process, FAILED)
        first, second = reconcile(cloud, FAILED)["steps"]
        assert (first["name"], second["name"]) == ("first", "second")
        assert first["causes"]["http_503"] > 0
        assert "http_503" not in second["causes"]
        shutil.rmtree(folder)


def test_without_a_login_there_is_no_run(cloud: Cloud) -> None:
    cloud.backend.fault = lambda _number: "401"
    assert "no token through lb1" in end(probing(cloud, "--rate", "40", "--seconds", "1"), UNUSABLE)


def test_a_password_file_that_others_can_read_is_refused(cloud: Cloud) -> None:
    secret = cloud.folder / "password"
    secret.write_text("x\n", encoding="utf-8")
    words = ["--rate", "40", "--seconds", "0.1", "--password-file", str(secret)]
    secret.chmod(0o644)
    assert "0600" in end(probing(cloud, *words), UNUSABLE)
    secret.chmod(0o600)
    end(probing(cloud, *words), 0)


def test_a_kept_connection_that_breaks_is_a_failure_not_a_retry(tmp_path: Path) -> None:
    """Straight to a server that answers once on each connection and hangs up on the second request of it."""
    answer = b'{"token": {"user": {"id": "u1"}}, "projects": [1]}'
    heads = [b"HTTP/1.1 %d OK\r\nX-Subject-Token: t\r\nContent-Length: %d\r\n\r\n" % (code, len(answer)) for code in (201, 200)]
    seen: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):
            for turn in range(2):
                request = b""
                while not (b"\r\n\r\n" in request and (b"POST" not in request or request.endswith(b"}"))):
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    request += piece
                seen.append(request.partition(b"\r\n")[0])
                if turn == 0:
                    connection.sendall(heads[b"POST" not in request] + answer)

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        lone = "lb1=http://127.0.0.1:%d" % listener.getsockname()[1]
        words = ["--balancer", lone, "--rate", "40", "--seconds", "1", "--weights", "read=1"]
        end(start("run", "--dir", str(tmp_path / "probe"), *words), FAILED)
        listener.shutdown(socket.SHUT_RDWR)
    total = json.loads((tmp_path / "probe" / "report.json").read_text(encoding="utf-8"))["total"]
    # 20 of the 40 share kept connections, and on these every second request finds the server gone.
    assert total["causes"] == {"reset": 10}
    assert len(seen) == 40 + 1

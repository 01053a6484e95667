# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody who depends on a service: programs of theirs, and the module that runs them; and the instance that they ask."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

MODULE = "ansible_collections.osops.lifecycle.plugins.modules.consumer_check"
USER = "nobody"


class Consumer:
    """A folder that everybody may look into, with the programs of a consumer in it."""

    def __init__(self, folder: Path, collections: Path, scope: str) -> None:
        folder.chmod(0o755)
        self.folder, self.collections, self.scope = folder, collections, scope
        self.said = ""

    def program(self, *lines: str, mode: int = 0o755, name: str = "check") -> str:
        path = self.folder / name
        path.write_text("\n".join(["#!/bin/sh", *lines, ""]), encoding="utf-8")
        path.chmod(mode)
        return str(path)

    def start(self, check: bool = False, **args: Any) -> subprocess.Popen[str]:
        given = {"name": "billing", "scope": self.scope, "_ansible_check_mode": check, "_ansible_verbosity": 4, **args}
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            env={**os.environ, "PYTHONPATH": str(self.collections), "LEAKED": "into the check"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": given}))
        process.stdin.close()
        process.stdin = None
        return process

    def finish(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """The answer of the module; all that it printed is in ``said``."""
        out, err = process.communicate(timeout=60)
        self.said = out + err
        answer: dict[str, Any] = json.loads(out)
        assert (answer["changed"], answer["before"], answer["after"]) == (False, {}, {})
        assert (process.returncode != 0) == (answer["verdict"]["outcome"] != "pass")
        return answer

    def call(self, check: bool = False, **args: Any) -> dict[str, Any]:
        return self.finish(self.start(check, **args))

    def verdict(self, check: bool = False, **args: Any) -> dict[str, Any]:
        return dict(self.call(check, **args)["verdict"])

    def failure_of_any(self, **args: Any) -> dict[str, Any]:
        """A verdict that is a failure, whatever its code."""
        found = self.verdict(**args)
        assert found["outcome"] == "fail", found
        return found

    def failure(self, code: str, check: bool = False, **args: Any) -> dict[str, Any]:
        """A verdict that is a failure with this code, a whole sentence, and what to do."""
        found = self.verdict(check, **args)
        assert (found["outcome"], found["code"]) == ("fail", code), found
        assert found["reason"].endswith("."), found
        assert found["hint"], found
        return found


class Instance:
    """What is asked: ``answers`` is path -> status, or None for silence; others get 200."""

    def __init__(self) -> None:
        self.answers: dict[str, int | None] = {}
        self.seen: list[str] = []
        self.released = threading.Event()
        answers, seen, released = self.answers, self.seen, self.released

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.path)
                status = answers.get(self.path, 200)
                if status is None:
                    released.wait(30)
                    return
                body = b"hello, token=gAAAA-not-for-you"
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = "http://127.0.0.1:%d" % self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


def processes(mark: str) -> list[int]:
    """Processes that have ``mark`` in their command line or environment, and are not zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            state = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except OSError:
            continue
        if mark.encode() in text and state != "Z":
            found.append(int(folder.name))
    return found


def until(holds: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Long acts: transient systemd units on the host, which outlive the connection, with their output and result kept.

``/var/lib/osops/jobs/NAME/`` holds ``job.json`` (what to run), ``output`` and, when it has ended, ``result.json``. The
environment, which may hold an index password, is taken out of ``job.json`` as soon as the job has read it. A job with a
result is finished; without one its unit is running, or it was cut (host down, killed).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import sys
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _systemd
from ansible_collections.osops.lifecycle.plugins.module_utils._command import BASE_ENV, identity, run
from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, DeadlineError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

ROOT = "/var/lib/osops/jobs"
# It becomes a folder that is removed before a start: never `.` or `..`.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+!-]{0,149}\Z")
# How long a stopped unit may take to end before systemd kills it: long enough to flush, short enough to keep a deadline.
STOP_S = 20

# Runs on the host, as root, below the transient unit; each command becomes the user of the job.
RUNNER = r"""
import json, os, subprocess, sys
here = sys.argv[1]
with open(os.path.join(here, "job.json")) as handle:
    job = json.load(handle)
env = job.pop("env")
with open(os.path.join(here, "job.tmp"), "w") as handle:
    json.dump(job, handle)
os.rename(os.path.join(here, "job.tmp"), os.path.join(here, "job.json"))
rc = 0
with open(os.path.join(here, "output"), "ab", buffering=0) as out:
    for argv in job["commands"]:
        try:
            rc = subprocess.call(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", env=env, **job["become"])
        except OSError as exc:
            out.write(("%s: %s\n" % (argv[0], exc.strerror)).encode())
            rc = 127
        if rc:
            break
with open(os.path.join(here, "result.tmp"), "w") as handle:
    json.dump({"rc": rc, "hash": job["hash"]}, handle)
    handle.flush()
    os.fsync(handle.fileno())
os.rename(os.path.join(here, "result.tmp"), os.path.join(here, "result.json"))
"""


@dataclasses.dataclass(frozen=True)
class Job:
    """What to run: ``commands`` one after the other until one fails, as ``user``, with exactly ``env``.

    ``files`` (name -> text) lie beside the output, readable by root only, and may be named in commands as ``{job}/NAME``.
    ``properties`` of the unit (``MemoryMax=256M``) bound what all of it may take.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    env: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    user: str = ""
    files: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    root: str = ROOT
    properties: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise BadInputError("The job name %r holds characters that are not allowed." % (self.name,), "job.name")

    @property
    def folder(self) -> str:
        return os.path.join(self.root, self.name)

    @property
    def unit(self) -> str:
        return "osops-job-%s.service" % self.name.replace("+", "-").replace("!", "-")

    @property
    def hash(self) -> str:
        """What the job does, as one word. The environment is left out: a new index password does not make another job."""
        work = [self.commands, self.user, sorted(self.files.items())]
        return hashlib.sha256(json.dumps(work).encode("utf-8")).hexdigest()


@dataclasses.dataclass(frozen=True)
class State:
    """How a job is: ``kind`` absent, running, finished (then ``rc``) or cut; ``hash`` of what it was started with."""

    kind: str
    rc: int | None = None
    hash: str = ""


def _read(path: str) -> dict[str, t.Any]:
    try:
        with open(path, encoding="utf-8") as handle:
            data = json.load(handle)
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def look(job: Job) -> State:
    """How the job of this name is now, whoever started it."""
    started = _read(os.path.join(job.folder, "job.json"))
    if not _systemd.show(job.unit).stopped:
        return State("running", None, str(started.get("hash", "")))
    # Read after the unit was seen stopped: the result is written before the unit ends.
    result = _read(os.path.join(job.folder, "result.json"))
    if "rc" in result:
        return State("finished", int(result["rc"]), str(result.get("hash", "")))
    return State("cut" if started else "absent", None, str(started.get("hash", "")))


def output(job: Job, limit: int = 200_000) -> str:
    """The last ``limit`` bytes of what the commands wrote, unscrubbed."""
    try:
        with open(os.path.join(job.folder, "output"), "rb") as handle:
            handle.seek(0, os.SEEK_END)
            handle.seek(max(0, handle.tell() - limit))
            return handle.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _start(job: Job) -> None:
    shutil.rmtree(job.folder, ignore_errors=True)
    os.makedirs(job.folder, mode=0o700)
    commands = [[part.replace("{job}", job.folder) for part in argv] for argv in job.commands]
    spec = {
        "commands": commands,
        "env": dict(BASE_ENV, **job.env),
        "become": identity(job.user) if job.user else {},
        "hash": job.hash,
    }
    for name, text in [*job.files.items(), ("job.json", json.dumps(spec)), ("run.py", RUNNER)]:
        handle = os.open(os.path.join(job.folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    _systemd.forget_failure(job.unit)
    begin = ["systemd-run", "--unit", job.unit, "--collect", "--quiet", "--property=KillMode=control-group"]
    begin += ["--property=TimeoutStopSec=%d" % STOP_S, "--description", "osops.lifecycle %s" % job.name]
    begin += ["--property=" + given for given in job.properties]
    done = run([*begin, sys.executable, "-I", os.path.join(job.folder, "run.py"), job.folder], 30.0)
    if done.rc != 0:
        raise LifecycleError("systemd-run refused to start the job %s: %s" % (job.name, done.err.strip()), "job.start")


def stop(job: Job) -> None:
    """Stop the job and prove that no process of it is left. Raises DeadlineError when one is."""
    unit = _systemd.show(job.unit)
    if unit.stopped:
        return
    _systemd.order("stop", job.unit)
    ended = wait(lambda: _systemd.show(job.unit), lambda seen: seen.stopped, STOP_S + 10.0, poll_s=0.2)
    left = _systemd.processes_of(unit.cgroup)
    if not ended.reached or left:
        raise DeadlineError("The job %s was stopped, but processes of it are left: %s." % (job.name, left), "job.unstoppable")


def refuse_other(job: Job, seen: State) -> None:
    """Raise LifecycleError when a job of this name runs with other work."""
    if seen.kind == "running" and seen.hash != job.hash:
        raise LifecycleError("Another job runs under the name %s." % job.name, "job.other", "Wait for it, or stop %s." % job.unit)


def run_job(job: Job, deadline: Deadline, resume: bool = False) -> State:
    """Start the job, or take up the one that is there, and wait for its end.

    Already running with the same work: attach to it. Finished with the same work: its result counts only with ``resume``
    (the act that started it was cut before it could read it). Cut: start anew. Running with other work: LifecycleError.
    At the deadline it is stopped, proven gone, and DeadlineError is raised.
    """
    seen = look(job)
    refuse_other(job, seen)
    if not (seen.kind == "running" or (seen.kind == "finished" and resume and seen.hash == job.hash)):
        _start(job)
    ended = wait(lambda: look(job), lambda state: state.kind != "running", deadline.remaining(), poll_s=0.25)
    if not ended.reached:
        stop(job)
        raise DeadlineError(
            "The job %s did not end within %.0f s; it was stopped, and no process of it is left." % (job.name, deadline.seconds),
            "job.deadline",
            "What it wrote is in %s/output. Give it a longer deadline." % job.folder,
        )
    if ended.last.kind != "finished":
        raise LifecycleError("The job %s was cut: its unit is gone and left no result." % job.name, "job.cut", "Run it again.")
    return ended.last

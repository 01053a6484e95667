# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module as a process of its own, on a machine whose first process need not be systemd: ``python hand.py MODULE JOBS < ARGS``.

Only systemd has a stand-in here: what the module asks systemd-run to start is started, and what it asks about is looked up. The
module, the job's own runner and all that it runs are the real ones. (Under a real systemd: test_on_the_rig.py.)
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.osops.lifecycle.plugins.module_utils import _job, _systemd
from ansible_collections.osops.lifecycle.plugins.module_utils._command import Done, run

JOBS = Path(sys.argv[2])


def alive(pid: int) -> bool:
    try:
        return Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def pid_of(unit: str) -> int:
    try:
        return int((JOBS / (unit + ".pid")).read_text())
    except OSError:
        return 0


def show(unit: str) -> _systemd.Unit:
    pid = pid_of(unit)
    active = "active" if pid and alive(pid) else "inactive"
    return _systemd.Unit(unit, "loaded", active, "", "", 0, pid, "", 20.0, (), "")


def order(verb: str, unit: str) -> None:
    assert verb == "stop"
    os.killpg(pid_of(unit), signal.SIGTERM)


def start(argv: list[str], timeout_s: float) -> Done:
    if argv[0] != "systemd-run":
        return run(argv, timeout_s)
    JOBS.mkdir(exist_ok=True)
    unit, program = argv[argv.index("--unit") + 1], argv[argv.index(sys.executable) :]
    quiet: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    process = subprocess.Popen(program, start_new_session=True, cwd="/", **quiet)
    (JOBS / (unit + ".pid")).write_text(str(process.pid))
    (JOBS / (unit + ".properties")).write_text("\n".join(word for word in argv if word.startswith("--property=")))
    return Done(0, "", "", 0.0)


def main() -> None:
    stand_in: Any = _job
    stand_in.run, stand_in._systemd.show, stand_in._systemd.order = start, show, order
    stand_in._systemd.forget_failure = lambda unit: None
    module: Any = importlib.import_module("ansible_collections.osops.lifecycle.plugins.modules." + sys.argv[1])
    if sys.argv[1] == "mariadb_backup":
        module.prepare = functools.partial(module.prepare, jobs=str(JOBS))
    del sys.argv[1:]
    module.main()


if __name__ == "__main__":
    main()

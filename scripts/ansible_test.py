# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A home folder in which ansible-test can make its virtual environments without its own download server.

ansible-test fetches a get-pip script from a server of the Ansible project, which many networks do not let through. It looks
into its cache first, so a stand-in goes there that installs the same pip version from a wheel of the ordinary package index.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import toolbox

# The pip that each core asks for: 2.17; 2.18 and 2.19; 2.20 and 2.21.
PIP_VERSIONS = ("23.1.2", "24.2", "25.2")

STAND_IN = """\
import sys

WHEEL = {wheel!r}


def main():
    sys.path.insert(0, WHEEL)
    from pip._internal.cli.main import main as pip_main

    args = [arg for arg in sys.argv[1:] if arg not in ("--no-setuptools", "--no-wheel")]
    args = [WHEEL if arg.startswith("pip==") else arg for arg in args]
    sys.exit(pip_main(["install", "--upgrade", "--force-reinstall", *args]))


if __name__ == "__main__":
    main()
"""


def home() -> Path:
    """Return the folder to use as HOME; made once, and kept for the environments that ansible-test leaves in it."""
    folder = toolbox.CACHE / "ansible-test"
    cache = folder / ".ansible" / "test" / "cache"
    complete = folder / ".complete"
    with toolbox.locked("ansible-test-home"):
        if not complete.exists():
            cache.mkdir(parents=True, exist_ok=True)
            for version in PIP_VERSIONS:
                pip = [str(toolbox.environment("uv") / "bin" / "python"), "-m", "pip"]
                download = [*pip, "download", "--quiet", "--no-deps", "--dest", str(folder), "pip==" + version]
                subprocess.run(download, check=True, stdout=sys.stderr)
                wheel = str(folder / ("pip-%s-py3-none-any.whl" % version))
                (cache / ("get_pip_%s.py" % version.replace(".", "_"))).write_text(STAND_IN.format(wheel=wheel), encoding="utf-8")
            complete.touch()
    return folder

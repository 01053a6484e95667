"""A worker whose playbook was killed ends by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os
from ansible_collections.osops.lifecycle.plugins.plugin_utils import _door
assert _door.told({"changed": True}, os.getppid()) == {"changed": True}
print("told", flush=True)
_door.told({"changed": True}, os.getppid() + 1)
print("still here", flush=True)
"""


def test_a_worker_ends_when_nobody_is_left_to_tell(collections: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(collections)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "told\n"), done.stderr

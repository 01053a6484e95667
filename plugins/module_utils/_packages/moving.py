# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What is set aside on the host while packages of an instance move, so that whoever comes next can put it back after a cut."""

from __future__ import annotations

import contextlib
import json
import os
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _systemd
from ansible_collections.osops.lifecycle.plugins.module_utils._command import run
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError

_NAME = ".moving"
_FILE = "99-osops-moving.conf"
_NEVER = "# osops.lifecycle: packages of this unit move; gone when they have, or with the next boot.\n[Unit]\nConditionPathExists=/run/osops/never\n"


class Moving:
    """Units that are kept down, and packages that apt had chosen by itself (``apt-mark showauto``), written down before anything is touched."""

    def __init__(self, path: str) -> None:
        self.file = os.path.join(path, _NAME)

    def state(self) -> dict[str, t.Any]:
        try:
            with open(self.file, encoding="utf-8") as handle:
                found = json.load(handle)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def going(self) -> bool:
        return os.path.lexists(self.file)

    def begin(self, units: t.Iterable[str], packages: t.Iterable[str]) -> None:
        """Write down what is there, then keep the units down: maintainer scripts start what systemd lets them start.

        A condition that never holds, in /run: `systemctl start` then does nothing and is content, and so is `enable`, which Debian's
        scripts for OpenStack call and which fails on a masked unit. A boot ends it.
        """
        if not self.going:
            chosen = run(["apt-mark", "showauto", *packages], 60.0)
            if chosen.rc != 0:
                raise LifecycleError("apt-mark cannot be asked: %s" % chosen.err.strip()[:200], "package.no_dpkg")
            self._write({"units": {unit: _enabled(unit) for unit in sorted(units)}, "auto": sorted(chosen.out.split())})
        for unit in self.state().get("units", {}):
            folder = _drop_in(unit)
            os.makedirs(folder, mode=0o755, exist_ok=True)
            with open(os.path.join(folder, _FILE), "w", encoding="ascii") as handle:
                handle.write(_NEVER)
        _systemd.reload()

    def let_go(self) -> None:
        """The units may start again, and are enabled as they were; what apt had chosen by itself is marked so again; nothing of this is left."""
        state = self.state()
        for unit in state.get("units", {}):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(_drop_in(unit), _FILE))
            with contextlib.suppress(OSError):
                os.rmdir(_drop_in(unit))
        _systemd.reload()
        for unit, was in state.get("units", {}).items():
            if was in ("enabled", "disabled") and _enabled(unit) != was:
                _must(["systemctl", {"enabled": "enable", "disabled": "disable"}[was], "--quiet", "--", unit], "systemd.enable")
        if state.get("auto"):
            # ansible.builtin.apt marks all that it was asked for as chosen by hand.
            _must(["apt-mark", "auto", *state["auto"]], "package.mark")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.file)

    def _write(self, state: dict[str, t.Any]) -> None:
        os.makedirs(os.path.dirname(self.file), mode=0o755, exist_ok=True)
        with open(self.file + ".tmp", "w", encoding="utf-8") as handle:
            json.dump(state, handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.rename(self.file + ".tmp", self.file)


def _drop_in(unit: str) -> str:
    return os.path.join("/run/systemd/system", _systemd.check_name(unit) + ".d")


def _enabled(unit: str) -> str:
    return run(["systemctl", "is-enabled", "--", unit], 30.0).out.strip()


def _must(argv: t.Sequence[str], code: str) -> None:
    done = run(argv, 60.0)
    if done.rc != 0:
        raise LifecycleError("%s failed: %s" % (" ".join(argv[:2]), done.err.strip()[:200]), code)

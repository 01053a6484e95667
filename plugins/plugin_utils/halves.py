# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One answer made of two: that of a driver whose work another module does in the middle. Pure."""

from __future__ import annotations

import re
import typing as t

UNKNOWN: dict[str, t.Any] = {"failed": True, "msg": "what was there before was itself half there"}
"""The answer in place of a way back that there is none of."""
_TELLING = re.compile(r"^(dpkg: error|E: )|subprocess returned|No space left")


def failure(done: dict[str, t.Any]) -> str:
    """Why ansible.builtin.apt failed, in its own words; empty when it did not."""
    if not done.get("failed"):
        return ""
    lines = [
        line.strip() for key in ("stdout", "stderr") for line in str(done.get(key, "")).splitlines() if _TELLING.search(line)
    ]
    return "; ".join(lines[:6]) or str(done.get("msg", "it does not say why"))[-400:]


def whole(begun: dict[str, t.Any], last: dict[str, t.Any]) -> dict[str, t.Any]:
    """One answer of the two halves: what was there before is what the first has seen."""
    found = {**begun, "changed": True, **last, "before": begun["before"]}
    found.pop("apt")
    return {
        **found,
        "diff": {"before": found["before"], "after": found["after"]},
        **({"stop": begun["stop"]} if "stop" in begun else {}),
    }


def why(failed: str, back: dict[str, t.Any], ran: bool) -> dict[str, t.Any]:
    """The verdict of a move that apt did not make."""
    reason = "apt could not move the packages: %s." % failed.rstrip(".")
    hint = "What was there is installed again, and %s." % ("runs" if ran else "stays stopped, as it was")
    if back.get("failed"):
        hint = "Putting back what was there failed, too: %s" % back.get("msg")
    verdict = {"outcome": "fail", "code": "package.apt_failed", "reason": reason, "hint": hint, "evidence": {}}
    return {"failed": True, "msg": "%s %s" % (reason, hint), "verdict": verdict}

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The one verdict type: drains, waits, probes, gates and schema checks all end in it."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError

OUTCOMES = ("pass", "fail", "inconclusive", "error")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was concluded: ``outcome`` is one of OUTCOMES, ``code`` a dotted word, ``reason`` one sentence."""

    outcome: str
    code: str
    reason: str = ""
    hint: str = ""
    evidence: dict[str, t.Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError("outcome %r is not one of %s" % (self.outcome, ", ".join(OUTCOMES)))

    @property
    def passed(self) -> bool:
        return self.outcome == "pass"

    def to_dict(self) -> dict[str, t.Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: t.Mapping[str, t.Any]) -> Verdict:
        """Read a verdict that came over the wire; an unusable one is an error, never a pass."""
        try:
            return cls(
                outcome=str(data["outcome"]),
                code=str(data["code"]),
                reason=str(data.get("reason", "")),
                hint=str(data.get("hint", "")),
                evidence=dict(data.get("evidence") or {}),
            )
        except (KeyError, TypeError, ValueError) as exc:
            return cls("error", "unknown_answer", "the answer holds no usable verdict: %s" % (exc,))

    @classmethod
    def from_error(cls, exc: LifecycleError) -> Verdict:
        return cls("error" if exc.code == "unknown_answer" else "fail", exc.code, exc.msg, exc.hint, exc.evidence)

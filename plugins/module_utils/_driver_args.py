# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The arguments that every driver takes from the executor, and the shape in which every driver answers."""

from __future__ import annotations

import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict

# Mirrored by doc_fragments/driver.py; a unit test holds the two together.
DRIVER_ARGS: dict[str, dict[str, t.Any]] = {
    "expect": {"type": "dict"},
    "resume": {"type": "bool", "default": False},
    "token": {"type": "int", "no_log": False},
    "scope": {"type": "str", "default": "default"},
    "deadline": {"type": "int", "default": 120},
}


class AnsibleModuleLike(t.Protocol):
    """The part of AnsibleModule that an answer needs."""

    def exit_json(self, **kwargs: t.Any) -> t.NoReturn:
        """End the module well."""

    def fail_json(self, msg: str, **kwargs: t.Any) -> t.NoReturn:
        """End the module badly."""


def answer(
    module: AnsibleModuleLike,
    before: t.Mapping[str, t.Any] | None,
    after: t.Mapping[str, t.Any] | None,
    verdict: Verdict | LifecycleError,
    changed: bool,
    **more: t.Any,
) -> t.NoReturn:
    """End the module in the one shape of a driver: exit_json when the verdict is a pass, fail_json otherwise."""
    if isinstance(verdict, LifecycleError):
        verdict = Verdict.from_error(verdict)
    result: dict[str, t.Any] = dict(
        more,
        changed=changed,
        before=dict(before or {}),
        after=dict(after or {}),
        verdict=verdict.to_dict(),
        # A driver may add more to it, such as the changed lines of a text.
        diff={**more.get("diff", {}), "before": dict(before or {}), "after": dict(after or {})},
    )
    if verdict.passed:
        module.exit_json(**result)
    module.fail_json(msg=" ".join(part for part in (verdict.reason, verdict.hint) if part), **result)

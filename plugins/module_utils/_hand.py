# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""How every hand goes: arguments first, then the fence, then the act; and an answer in one shape whatever happens."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import AnsibleModuleLike, answer
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._fence import fence
from ansible_collections.osops.lifecycle.plugins.module_utils._signals import end_in_order
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict


@dataclasses.dataclass
class Report:
    """What an act has seen and done so far. It is filled on the way, so that a failure tells as much as a success."""

    before: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    after: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    changed: bool = False
    more: dict[str, t.Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Terms:
    """The shared arguments of an act (see docs/drivers.md)."""

    check: bool
    expect: t.Mapping[str, t.Any] | None
    resume: bool
    deadline: Deadline


class Module(AnsibleModuleLike, t.Protocol):
    """The part of AnsibleModule that a hand needs."""

    params: dict[str, t.Any]
    check_mode: bool


Act = t.Callable[[Terms, Report], Verdict]


def play(module: Module, prepare: t.Callable[[t.Mapping[str, t.Any]], Act]) -> t.NoReturn:
    """Check the arguments (``prepare``), take the fence unless in check mode, act, answer. Ends the module."""
    end_in_order()
    params = module.params
    report = Report()
    terms = Terms(module.check_mode, params["expect"], params["resume"], Deadline(params["deadline"]))
    verdict: Verdict | LifecycleError
    try:
        act = prepare(params)
        with contextlib.ExitStack() as held:
            if not terms.check:
                held.enter_context(fence(params["scope"], params["token"], terms.deadline.remaining()))
            verdict = act(terms, report)
    except LifecycleError as exc:
        verdict = exc
    except OSError as exc:
        verdict = LifecycleError(
            "The host answered %s to an access of %s." % (exc.strerror or exc, exc.filename or "a file"), "host.os_error"
        )
    answer(module, report.before, report.after, verdict, report.changed, **report.more)

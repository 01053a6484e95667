# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The one error tree: every error says what is wrong, a stable code, and what to do."""

from __future__ import annotations

import typing as t


class LifecycleError(Exception):
    """Base of all errors of the collection.

    ``msg`` is one sentence for a person, ``code`` a dotted word for programs (``haproxy.unknown_server``),
    ``hint`` says what to do, ``evidence`` holds what was seen (never a secret).
    """

    code = "error"

    def __init__(self, msg: str, code: str = "", hint: str = "", evidence: dict[str, t.Any] | None = None) -> None:
        super().__init__(msg)
        self.msg = msg
        self.code = code or type(self).code
        self.hint = hint
        self.evidence: dict[str, t.Any] = dict(evidence or {})


class BadInputError(LifecycleError):
    """Something that the user gave cannot be used; nothing was changed."""

    code = "input"


class ForeignChangeError(LifecycleError):
    """What was found is neither what was expected nor what was wanted: somebody else changed it."""

    code = "expect.foreign"


class StaleTokenError(LifecycleError):
    """A newer holder of the run has already acted on this host."""

    code = "fence.stale_token"


class UnknownAnswerError(LifecycleError):
    """A program answered something that is not understood; unknown is not success."""

    code = "unknown_answer"


class DeadlineError(LifecycleError):
    """A wait ended at its deadline."""

    code = "deadline"

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Take secrets out of what programs said, before it becomes evidence."""

from __future__ import annotations

import re
import typing as t

HIDDEN = "***"
# scheme://user:password@host and scheme://token@host, up to the last @ of the word: passwords may hold an @ and, for
# database libraries, a slash. http://host:80/path@x is hidden too, which is the safe side.
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30}://)(?:[^\s/:@'\"<>]*:[^\s'\"<>]*|[^\s/'\"<>]+)@")
# A name is tried from its begin only: from each of its letters, a long word would take quadratic time.
# A value in quotes ends at its closing quote, or with the line where the quote was cut off; a bare one at the next separator.
_ASSIGNED = re.compile(
    r"""(?i)(?<![\w-])(?P<name>[\w-]*(?:password|passwd|secret|token|api_key)['\"]?\s*[=:]\s*)
    (?:(?P<quote>['\"])(?:\\.|(?!(?P=quote))[^\\\n])+|[^\s'\",;)}]+)""",
    re.VERBOSE,
)


def scrub(text: str, secrets: t.Iterable[str] = ()) -> str:
    """``text`` without URL credentials, without values assigned to names that sound secret, and without ``secrets``."""
    for secret in sorted((s for s in secrets if s), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _USERINFO.sub(lambda found: found.group("scheme") + HIDDEN + "@", text)
    return _ASSIGNED.sub(lambda found: found.group("name") + (found.group("quote") or "") + HIDDEN, text)


def tail(text: str, lines: int = 20, width: int = 400) -> list[str]:
    """The last ``lines`` lines that hold something, each cut at ``width`` characters."""
    kept = [line.rstrip()[:width] for line in text.splitlines() if line.strip()]
    return kept[-lines:]

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""What a database user may do, read from SHOW GRANTS. Pure."""

from __future__ import annotations

import re
import typing as t

_GRANT = re.compile(r"^GRANT (?P<rights>.+?) ON (?:TABLE )?(?P<place>\S+?\.\S+)$")


def missing(rows: t.Iterable[str], database: str, needed: t.Iterable[str]) -> list[str]:
    """Which of the ``needed`` rights no row gives on the whole of ``database``.

    ``rows`` are lines of SHOW GRANTS up to the word TO (what follows holds a password hash). Rights on single tables or
    columns do not count: a migration makes new tables.
    """
    have: set[str] = set()
    for row in rows:
        found = _GRANT.match(row.strip())
        if found and _covers(found.group("place"), database):
            have.update(right.strip().upper() for right in re.sub(r"\([^)]*\)", "(", found.group("rights")).split(","))
    if have & {"ALL PRIVILEGES", "ALL"}:
        return []
    return [right for right in needed if right.upper() not in have]


def _covers(place: str, database: str) -> bool:
    schema, _dot, table = place.rpartition(".")
    if table.strip("`") != "*":
        return False
    if schema == "*":
        return True
    pattern = ""
    # The name of a database in a grant is a pattern: % and _ stand for other letters unless a backslash is before them.
    for escaped, letter in re.findall(r"(\\?)(.)", schema.strip("`")):
        pattern += re.escape(letter) if escaped or letter not in "%_" else (".*" if letter == "%" else ".")
    return re.fullmatch(pattern, database) is not None

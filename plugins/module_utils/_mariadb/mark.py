# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The owner mark: the comment of a database says who made it, and which accounts were made with it. Pure."""

from __future__ import annotations

import dataclasses
import json
import re

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError

_HEAD = "osops.lifecycle "
_OWNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]*/[A-Za-z0-9_][A-Za-z0-9_.:@+-]*\Z")
MAX_COMMENT = 1024  # what MariaDB keeps of a comment on a database


@dataclasses.dataclass(frozen=True)
class Mark:
    """Who made a database, and which accounts (``user@host``) with it."""

    owner: str
    accounts: tuple[str, ...]

    def comment(self) -> str:
        """The comment that says so. Raises BadInputError when it does not fit."""
        text = _HEAD + json.dumps({"accounts": sorted(self.accounts), "owner": self.owner}, separators=(",", ":"))
        if len(text) > MAX_COMMENT:
            raise BadInputError(
                "The list of %d accounts does not fit into the comment of the database." % len(self.accounts),
                "database.input",
                "Use patterns such as 10.0.0.% in database.from.",
            )
        return text

    @classmethod
    def read(cls, comment: str) -> Mark | None:
        """The mark in a comment; None where there is none that we could have written."""
        if not comment.startswith(_HEAD):
            return None
        try:
            data = json.loads(comment[len(_HEAD) :])
            return cls(str(data["owner"]), tuple(str(account) for account in data["accounts"]))
        except (ValueError, KeyError, TypeError):
            return None


def check_owner(owner: str) -> str:
    """The label itself, or BadInputError."""
    if len(owner) > 200 or not _OWNER.match(owner):
        raise BadInputError("owner %r is not of the form CLOUD/SERVICE." % (owner,), "database.input", "Such as east/keystone.")
    return owner

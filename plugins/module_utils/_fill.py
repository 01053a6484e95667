# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Places in text: ``{name}`` stands for a value. What is filled in is data, and never read for places again."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError

Lookup = t.Callable[[str], t.Any]
_PLACE = re.compile(r"\{([a-z][a-z0-9_.]*)\}")
# In this order: of two braces the pair counts first, and what is left over is a mistake.
_STRICT = re.compile(r"(?P<pair>\{\{|\}\})|" + _PLACE.pattern.replace("(", "(?P<name>", 1) + r"|(?P<lone>[{}])")


def fill(value: t.Any, lookup: Lookup) -> t.Any:
    """``value`` with every place replaced, through lists and mappings; a string that is one place keeps the value's type.

    Other braces stay as they are: requests hold JSON.
    """
    if isinstance(value, str):
        whole = _PLACE.fullmatch(value)
        if whole:
            return lookup(whole.group(1))
        return _PLACE.sub(lambda place: str(lookup(place.group(1))), value)
    if isinstance(value, t.Mapping):
        return {key: fill(item, lookup) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [fill(item, lookup) for item in value]
    return value


def fill_text(text: str, lookup: Lookup, where: str) -> str:
    """``text`` with every place replaced; ``{{`` and ``}}`` are braces, and any other brace is refused (BadInputError).

    A misspelt place would else stand in a configuration file as it is, and be found when the service does not start.
    """

    def replace(found: re.Match[str]) -> str:
        if found.group("pair"):
            return found.group("pair")[0]
        if found.group("lone"):
            raise BadInputError(
                "%s, line %d: a lone %s." % (where, text.count("\n", 0, found.start()) + 1, found.group("lone")),
                "fill.brace",
                "A place is {name}, of small letters, digits, underscores and dots. A literal brace is written twice.",
            )
        return str(lookup(found.group("name")))

    return _STRICT.sub(replace, text)

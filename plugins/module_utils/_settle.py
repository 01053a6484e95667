# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Compare-and-set: act only on what was expected, do nothing where it is done, and stop where somebody else was."""

from __future__ import annotations

import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import ForeignChangeError

State = t.Mapping[str, t.Any]


def matches(seen: t.Any, expect: t.Any) -> bool:
    """True when all that ``expect`` names is so in ``seen`` (mappings compare by the keys of ``expect``)."""
    if isinstance(expect, t.Mapping):
        return isinstance(seen, t.Mapping) and all(key in seen and matches(seen[key], want) for key, want in expect.items())
    return bool(seen == expect)


def settle(seen: State, wanted: State, expect: State | None, resume: bool = False) -> bool:
    """Say whether to act: False when ``wanted`` already holds, True when what is there was expected.

    ``expect`` is None when nobody planned (a module used alone): then whatever is there may be changed.
    With ``resume`` an act of the same step was begun before and may have been cut: each value may be the expected one,
    the wanted one, or nothing (None, False), and nothing else.
    Raises ForeignChangeError otherwise.
    """
    if matches(seen, wanted):
        return False
    if expect is None or matches(seen, expect):
        return True
    foreign = sorted(_foreign(seen, wanted, expect, resume))
    if not foreign:
        return True
    raise ForeignChangeError(
        "Somebody else changed %s since it was looked at." % ", ".join(foreign),
        hint="Nothing was done here. Find out who did, then run the plan again.",
        evidence={"expected": dict(expect), "seen": dict(seen), "wanted": dict(wanted)},
    )


def _foreign(seen: t.Any, wanted: t.Any, expect: State, resume: bool, path: str = "") -> t.Iterator[str]:
    seen = seen if isinstance(seen, t.Mapping) else {}
    wanted = wanted if isinstance(wanted, t.Mapping) else {}
    for key, value in expect.items():
        here = "%s.%s" % (path, key) if path else str(key)
        if matches(seen.get(key), value):
            continue
        if isinstance(value, t.Mapping):
            yield from _foreign(seen.get(key), wanted.get(key), value, resume, here)
        elif not (resume and (seen.get(key) in (None, False) or (key in wanted and seen.get(key) == wanted[key]))):
            yield here

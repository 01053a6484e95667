# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Texts of unit files: which commands a service is made of, and the same commands from another environment. Pure.

Text is rewritten as it stands in the files, so quotes, prefixes such as ``-`` and ``@``, and specifiers stay what they are.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

EXEC = ("ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost")
_BLANK = " \t\r\n"
# A word of a list of assignments, with its quotes and escapes as they stand.
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')+""", re.DOTALL)
_VARIABLE = re.compile(r"""["']?([A-Za-z_][A-Za-z0-9_]*)""")


@dataclasses.dataclass(frozen=True)
class File:
    """One file of a unit. ``later`` when systemd reads it after ours, so that what it sets wins."""

    path: str
    text: str
    later: bool = False


def _lines(text: str) -> t.Iterator[str]:
    """Lines as systemd joins them: a backslash at the end goes on with the next line, and comments in between do not count."""
    pending = ""
    for line in re.split(r"\r\n|[\r\n]", text.lstrip("\ufeff")):
        if line.lstrip(_BLANK).startswith(("#", ";")):
            continue
        pending += line
        if (len(pending) - len(pending.rstrip("\\"))) % 2:
            pending = pending[:-1] + " "
            continue
        yield pending.strip(_BLANK)
        pending = ""
    yield pending.strip(_BLANK)


def settings(text: str) -> t.Iterator[tuple[str, str]]:
    """Names and values of the section [Service], in order."""
    section = ""
    for line in _lines(text):
        name, sign, value = line.partition("=")
        if line.startswith("["):
            section = line.strip("[]")
        elif sign and section == "Service":
            yield name.strip(_BLANK), value.strip(_BLANK)


def effective(files: t.Iterable[File], name: str) -> list[str]:
    """The values of a setting that is a list: an empty value forgets those before it."""
    values: list[str] = []
    for file in files:
        for key, value in settings(file.text):
            if key == name:
                values = [*values, value] if value else []
    return values


def naming(prefix: str) -> re.Pattern[str]:
    """Finds a path where it stands as a whole, or as the beginning of a longer one: not ``/srv/venv2``, not ``/mnt/srv/venv``."""
    return re.compile(r"(?<![\w./~%}\\])" + re.escape(prefix) + r"(?![\w.~%$@+{*?\\-])")


def starts_from(files: t.Sequence[File], prefix: str) -> bool:
    """True when the start itself names the path."""
    return any(naming(prefix).search(value) for value in effective(files, "ExecStart"))


def _variables(files: t.Iterable[File]) -> dict[str, str]:
    """Assignments of Environment= by the name of the variable; the last one counts."""
    words = [word for value in effective(files, "Environment") for word in _WORD.findall(value)]
    named = [(_VARIABLE.match(word), word) for word in words]
    return {name.group(1): word for name, word in named if name}


def rewritten(files: t.Sequence[File], prefix: str, link: str) -> list[str]:
    """Lines of [Service] that make the unit run from ``link`` what it runs from ``prefix``; the rest of it stays as it is."""
    found = naming(prefix)

    def moved(value: str) -> str:
        return found.sub(lambda _: link, value)

    lines = ["Environment=" + moved(word) for word in _variables(files).values() if found.search(word)]
    for name in EXEC:
        values = effective(files, name)
        if any(found.search(value) for value in values):
            lines += [name + "=", *("%s=%s" % (name, moved(value)) for value in values)]
    return lines


def overriding(files: t.Sequence[File], prefix: str) -> list[tuple[str, str]]:
    """(path, setting) of files that are read after ours and set what ours must set: they would win, or run a command twice."""
    found = naming(prefix)
    moved = {name for name in EXEC if any(found.search(value) for value in effective(files, name))}
    variables = {name for name, word in _variables(files).items() if found.search(word)}
    said = []
    for file in files:
        if file.later:
            said += [(file.path, name) for name in dict(settings(file.text)) if name in moved]
            said += [(file.path, "Environment=" + name) for name in _variables([file]) if name in variables]
    return said


def used(files: t.Sequence[File], prefix: str) -> list[str]:
    """What commands and variables use below ``prefix``: ``bin/uwsgi``."""
    after = re.compile(naming(prefix).pattern + r"/+([^\s\"';:,]+)")
    values = [value for name in EXEC for value in effective(files, name)]
    return sorted({path for value in [*values, *_variables(files).values()] for path in after.findall(value)})


def named_files(files: t.Sequence[File]) -> list[str]:
    """Absolute paths that the start names, and files with variables: what they say is not ours to rewrite."""
    paths = re.compile(r"(?<![\w./~%}\\])/[^\s\"';:,%$\\]+")
    values = [*effective(files, "ExecStart"), *effective(files, "EnvironmentFile")]
    return sorted({path for value in values for path in paths.findall(value)})


def mentions(text: str, prefix: str) -> bool:
    """True when a line that is no comment names the path."""
    found = naming(prefix)
    return any(found.search(line) for line in text.splitlines() if not line.lstrip().startswith(("#", ";")))

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The arguments of service_files, checked and filled: entries, and the bytes of every file."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import os
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.module_utils._files.model import Entry, Owned, User, digest
from ansible_collections.osops.lifecycle.plugins.module_utils._fill import fill_text

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}\Z")
_SCOPE = re.compile(r"[A-Za-z0-9_:@#-][A-Za-z0-9_.:@#-]{0,199}\Z")
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.:/@#-]{0,199}\Z")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.-]{0,200}\.service\Z")
_MODE = re.compile(r"0[0-7]{3}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_REVISION = re.compile(r"[0-9a-f]{12}\Z")
# Not files that stay, or ours to keep the books in.
_NEVER = ("/proc", "/sys", "/dev", "/run", "/var/lib/osops")
UNITS = "/etc/systemd/system"
_SOURCES = ("content", "ini", "key")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is asked for: a set, and what its files hold."""

    owned: Owned
    data: t.Mapping[str, bytes]


@dataclasses.dataclass(frozen=True)
class Place:
    """Whose books: the scope, the name of the service, and the text that says who keeps it."""

    scope: str
    name: str
    owner: str

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> Place:
        scope, name, owner = str(params["scope"]), str(params["name"]), str(params["owner"])
        _need(_SCOPE.match(scope), "scope %r holds characters that are not allowed." % scope, "It looks like cloud1.")
        _need(_NAME.match(name) and ".json" not in name, "name %r is not a plain name." % name, "It looks like keystone-api.")
        _need(_OWNER.match(owner), "owner %r is not a plain text." % owner, "It looks like cloud1/keystone/keystone-api.")
        return cls(scope, name, owner)


def _need(condition: t.Any, msg: str, hint: str = "") -> None:
    if not condition:
        raise BadInputError(msg, "files.input", hint)


def check_revision(params: t.Mapping[str, t.Any]) -> str:
    """The revision to bring back, or nothing. It comes instead of files, not beside them."""
    revision = str(params["revision"] or "")
    if revision:
        _need(
            _REVISION.match(revision), "revision %r is not a revision." % revision, "It has 12 hex digits, as in before.revision."
        )
        beside = [name for name in ("user", "folders", "files", "unit") if params[name]]
        _need(not beside, "%s cannot be given beside revision, which brings its own." % ", ".join(beside), "Give one of both.")
    return revision


class _Values:
    """Fills text, and remembers whether a secret went into it."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        self.plain, self.secrets = dict(params["values"] or {}), dict(params["secrets"] or {})
        both = sorted(set(self.plain) & set(self.secrets))
        _need(not both, "%s stands in values and in secrets." % ", ".join(both), "Keep it in one of them.")
        self.secret = False

    def text(self, text: str, where: str) -> str:
        def lookup(name: str) -> str:
            if name not in self.plain and name not in self.secrets:
                raise BadInputError(
                    "%s needs a value for {%s}." % (where, name), "files.value", "Give it in values or in secrets."
                )
            self.secret = self.secret or name in self.secrets
            return scalar(self.secrets[name] if name in self.secrets else self.plain[name], "The value of {%s}" % name)

        return fill_text(text, lookup, where)

    def key(self, key: t.Mapping[str, t.Any], where: str) -> bytes:
        name, label = str(key.get("secret") or ""), str(key.get("label") or "")
        _need(name and label, "%s: a key needs secret (a name of secrets) and label." % where)
        secret = scalar(self.secrets.get(name, ""), "The secret %s" % name)
        if not secret:
            raise BadInputError(
                "%s needs a secret %s to make its key from." % (where, name), "files.value", "Give it in secrets."
            )
        self.secret = True
        return base64.urlsafe_b64encode(hmac.new(secret.encode("utf-8"), label.encode("utf-8"), hashlib.sha256).digest())


def scalar(value: t.Any, where: str) -> str:
    """A value as text in a file. Raises BadInputError for what is not one value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    _need(isinstance(value, (str, int, float)), "%s is not one value." % where, "Give a text, a number, or true or false.")
    return str(value)


def ini_text(sections: t.Mapping[str, t.Any], text: t.Callable[[str, str], str], where: str) -> str:
    """Sections and options, sorted, DEFAULT first; an option with a list of values is written once for each."""
    lines: list[str] = []
    for section in sorted(sections, key=lambda name: (name != "DEFAULT", name)):
        options = sections[section]
        here = "%s, section %s" % (where, section)
        _need(isinstance(options, t.Mapping), "%s is not a mapping from options to values." % here)
        _need(
            section.strip() == section and not re.search(r"[\[\]\x00-\x1f]", section) and section,
            "%s: not a name of a section." % here,
        )
        lines += ["", "[%s]" % section] if lines else ["[%s]" % section]
        for option in sorted(options):
            # What a reader would take for a comment, a section, a continued line, or the end of the name.
            _need(
                option.strip() == option and re.match(r"[^\[#;=:\x00-\x1f][^=\x00-\x1f]*\Z", option),
                "%s: %r is not an option." % (here, option),
            )
            at = "%s, option %s" % (here, option)
            values = options[option] if isinstance(options[option], list) else [options[option]]
            for value in values:
                filled = text(scalar(value, at), at)
                # A line end would begin another option, and outer spaces are lost when it is read.
                _need(not _CONTROL.search(filled.replace("\t", " ")), "%s: the value has more than one line." % at)
                _need(filled.strip() == filled, "%s: the value begins or ends with a space." % at)
                lines.append(("%s = %s" % (option, filled)).rstrip())
    return "\n".join(lines) + "\n"


def check_path(path: t.Any, where: str) -> str:
    """An absolute path as it is to be, without detours."""
    text = str(path or "")
    plain = text.startswith("/") and text != "/" and not text.startswith("//") and os.path.normpath(text) == text
    _need(
        plain and not _CONTROL.search(text),
        "%s: %r is not a plain absolute path." % (where, text),
        "It looks like /etc/keystone.",
    )
    _need(
        text.isprintable() and len(os.path.basename(text).encode("utf-8")) <= 200,
        "%s: %r is too long or not readable." % (where, text),
    )
    never = [folder for folder in _NEVER if (text + "/").startswith(folder + "/")]
    _need(not never, "%s: %s lies below %s." % (where, text, "".join(never)), "Name a place on a disk that is kept.")
    return text


def _entry(row: t.Mapping[str, t.Any], kind: str, where: str) -> Entry:
    mode = str(row["mode"])
    _need(
        _MODE.match(mode), "%s: the mode %r is not four octal digits." % (where, mode), 'It looks like "0640", with the quotes.'
    )
    for name in ("owner", "group"):
        _need(_USER.match(str(row[name])), "%s: the %s %r is not a plain name." % (where, name, row[name]))
    return Entry(kind, mode, str(row["owner"]), str(row["group"]), once=bool(row.get("once")))


def _file(row: t.Mapping[str, t.Any], where: str, values: _Values) -> tuple[Entry, bytes]:
    given = [name for name in _SOURCES if row.get(name) is not None]
    _need(len(given) == 1, "%s needs exactly one of content, ini and key." % where)
    values.secret = False
    if given == ["key"]:
        data = values.key(row["key"], where)
    else:
        text = values.text(row["content"], where) if given == ["content"] else ini_text(row["ini"], values.text, where)
        data = text.encode("utf-8")
    entry = dataclasses.replace(_entry(row, "file", where), sha256=digest(data), secret=values.secret)
    _need(
        not (entry.secret and int(entry.mode, 8) & 0o007),
        "%s holds a secret, and with the mode %s everybody could read it." % (where, entry.mode),
        'Give it to the user of the service, with "0640" or "0600".',
    )
    return entry, data


def _unit(name: str, data: t.Mapping[str, bytes]) -> str:
    _need(_UNIT.match(name), "unit %r is not the name of a service unit." % name, "It looks like keystone-api.service.")
    path = "%s/%s" % (UNITS, name)
    _need(path in data, "unit %s needs its file %s among files." % (name, path))
    install = re.search(rb"(?m)^\[Install\][ \t]*$([^\[]*)", data[path])
    wanted = install and re.search(rb"(?m)^(?:WantedBy|RequiredBy)=\S", install.group(1))
    _need(wanted, "%s has no WantedBy in a section [Install], so it cannot be enabled." % path, "Add WantedBy=multi-user.target.")
    return name


def parse(params: t.Mapping[str, t.Any]) -> Wanted:
    """Check and fill what is asked for. Raises BadInputError with one sentence; nothing on the host is looked at."""
    values = _Values(params)
    entries: dict[str, Entry] = {}
    data: dict[str, bytes] = {}
    for kind, option in (("folder", "folders"), ("file", "files")):
        for number, row in enumerate(params[option] or []):
            path = check_path(row["path"], "%s[%d]" % (option, number))
            _need(path not in entries, "%s is named twice." % path)
            if kind == "folder":
                entries[path] = _entry(row, kind, path)
            else:
                entries[path], data[path] = _file(row, path, values)
    inside = sorted(path for path in entries if any(path.startswith(file + "/") for file in data))
    _need(not inside, "%s would lie in a file." % ", ".join(inside))
    user = None
    if params["user"]:
        name, home = str(params["user"]["name"]), check_path(params["user"]["home"], "user.home")
        _need(_USER.match(name) and name != "root", "user.name %r is not the name of a system user." % name)
        _need(":" not in home, "user.home %r holds a colon." % home)
        user = User(name, home)
    unit = _unit(str(params["unit"]), data) if params["unit"] else ""
    _need(
        entries or user, "There is nothing to make: user, folders and files are empty.", "Give one, or revision, or state absent."
    )
    return Wanted(Owned(entries, user, unit), data)

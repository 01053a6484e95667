# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The text of our file in HAProxy's configuration folder: checked, written, and known again. Pure.

The file begins with a mark: its owner, and a digest of all that follows. The same digest stands in an ACL that nothing uses,
so a worker can be asked which version of the file it has read (``show acl``).
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.client import check_name
from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy.rules import parse_endpoint

MISSING, OURS, EDITED, FOREIGN = "missing", "ours", "edited", "foreign"

_SERVICE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_BALANCE = re.compile(r"[a-z][a-z0-9_() ,.-]*")
_CHECK_PATH = re.compile(r"/[A-Za-z0-9/._~%?&=+-]*")
_CHECK_STATUS = re.compile(r"[1-5]\d\d(-[1-5]\d\d)?(,[1-5]\d\d(-[1-5]\d\d)?)*")
_KEYWORD = re.compile(r"[a-z][a-z0-9_-]*")
# Words that begin a new section, up to HAProxy 3.2; one that is newer than this list is found by HAProxy's own check.
SECTIONS = frozenset(
    ("global", "defaults", "frontend", "backend", "listen", "peers", "resolvers", "userlist", "mailers", "program", "http-errors")
    + ("ring", "log-forward", "log-profile", "fcgi-app", "cache", "namespace_list", "crt-store", "traces", "acme")
)
# What has an option of its own here, and what would escape the checks that this option has.
WRITTEN = frozenset(("bind", "mode", "default_backend", "server", "server-template", "dispatch", "balance", "use-server", "id"))

_MARK = re.compile(r"# osops\.lifecycle owner=(\S+) digest=([0-9a-f]{32})\. [^\n]*\n")
_HEADER = "# osops.lifecycle owner=%s digest=%s. Written by haproxy_config; what is changed here by hand is lost.\n"
_BLANK_DIGEST = "0" * 32


def _bad(msg: str, hint: str = "") -> BadInputError:
    return BadInputError(msg, "haproxy.bad_line", hint)


def check_service(name: str) -> str:
    """The service's name, which becomes a file's name."""
    if not _SERVICE.fullmatch(name):
        raise BadInputError(
            "%r cannot be the name of a service here." % (name,), "haproxy.bad_name", "It holds a-z 0-9 _ - only, like keystone."
        )
    return name


def check_owner(owner: str) -> str:
    if not _OWNER.fullmatch(owner):
        raise BadInputError("The owner %r is not CLOUD/SERVICE." % (owner,), "haproxy.bad_name", "Write it like prod/keystone.")
    return owner


def check_line(line: str, where: str, reserved: bool = True) -> str:
    """One line of HAProxy's configuration that can neither end its line nor its section. ``reserved``: it begins with a keyword."""
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]", line):
        raise _bad("%s: %r holds a line break or another control character." % (where, line), "Give one line an entry.")
    if line.endswith("\\"):
        raise _bad("%s: %r ends with a backslash, which would swallow what follows." % (where, line))
    if ";" in re.sub(r"\"(?:\\.|[^\"\\])*\"|'[^']*'", "", line):
        raise _bad("%s: %r holds a `;` outside of quotes." % (where, line), "Put the value in double quotes.")
    if reserved:
        word = (line.split() or [""])[0]
        if not _KEYWORD.fullmatch(word):
            raise _bad("%s: %r does not begin with a keyword of HAProxy." % (where, line))
        if word in SECTIONS:
            raise _bad("%s: %r begins another section." % (where, line), "Only lines of this one section are taken.")
        if word in WRITTEN:
            raise _bad("%s: %r is written by this module." % (where, line), "Use the option that is there for `%s`." % word)
    return line.strip()


def _need(given: t.Mapping[str, t.Any], key: str, where: str) -> t.Any:
    if not given.get(key):
        raise BadInputError("%s has no %s." % (where, key), "input")
    return given[key]


def check_bind(text: str) -> str:
    """An address and a port to listen at, as HAProxy reads it. Names are refused: what they resolve to may change."""
    if text.startswith("*:"):
        return "*:%d" % parse_endpoint("127.0.0.1" + text[1:]).port
    endpoint = parse_endpoint(text)
    if not endpoint.is_address:
        raise BadInputError(
            "bind %r is not an address and a port." % (text,), "haproxy.bad_address", "Write it like 10.0.0.1:5000 or *:5000."
        )
    return "[%s]:%d" % (endpoint.host, endpoint.port) if ":" in endpoint.host else "%s:%d" % (endpoint.host, endpoint.port)


@dataclasses.dataclass(frozen=True)
class Frontend:
    name: str
    binds: tuple[str, ...]
    bind_options: str
    options: tuple[str, ...]

    @classmethod
    def from_args(cls, given: t.Mapping[str, t.Any]) -> Frontend:
        name = check_name(str(_need(given, "name", "An entry of frontends")), "frontend")
        where = "frontend " + name
        return cls(
            name,
            tuple(check_bind(str(text)) for text in _need(given, "bind", where)),
            check_line(given.get("bind_options") or "", where + ", bind_options", reserved=False),
            tuple(check_line(str(line), where + ", options") for line in given.get("options") or ()),
        )


@dataclasses.dataclass(frozen=True)
class Service:
    """What shall stand in the file. ``servers`` are names and addresses."""

    name: str
    owner: str
    frontends: tuple[Frontend, ...]
    backend: str
    balance: str
    check: tuple[str, str] | None
    server_options: str
    options: tuple[str, ...]
    servers: tuple[tuple[str, str], ...]
    answer: tuple[int, int] | None

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> Service:
        """Read the arguments of the module. Raises BadInputError."""
        given = _need(params, "backend", "The task")
        backend = check_name(str(_need(given, "name", "backend")), "backend")
        where = "backend " + backend
        frontends = tuple(Frontend.from_args(entry) for entry in _need(params, "frontends", "The task"))
        servers = tuple(
            (check_name(str(_need(entry, "name", "An entry of servers")), "server"), str(_need(entry, "address", "A server")))
            for entry in _need(params, "servers", "The task")
        )
        for kind, names in (
            ("frontends", [frontend.name for frontend in frontends]),
            ("servers", [name for name, _address in servers]),
            ("binds", [bind for frontend in frontends for bind in frontend.binds]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise BadInputError("%s holds %s twice." % (kind, ", ".join(twice)), "input")
        for _name, address in servers:
            parse_endpoint(address)
        balance = given.get("balance") or "roundrobin"
        if not _BALANCE.fullmatch(balance):
            raise _bad("%s: %r is not a way to balance." % (where, balance), "Write it like roundrobin or leastconn.")
        return cls(
            name=check_service(params["service"]),
            owner=check_owner(params["owner"]),
            frontends=frontends,
            backend=backend,
            balance=balance,
            check=_check(given.get("check"), where),
            server_options=check_line(given.get("server_options") or "", where + ", server_options", reserved=False),
            options=tuple(check_line(str(line), where + ", options") for line in given.get("options") or ()),
            servers=servers,
            answer=_answer(params.get("answer")),
        )

    @property
    def checked(self) -> bool:
        """True when the servers have a health check."""
        return "check" in self.server_options.split()

    @property
    def binds(self) -> list[str]:
        return [bind for frontend in self.frontends for bind in frontend.binds]


def _check(given: t.Mapping[str, t.Any] | None, where: str) -> tuple[str, str] | None:
    if not given:
        return None
    path, status = str(_need(given, "path", where + ", check")), str(given.get("status") or "200")
    if not _CHECK_PATH.fullmatch(path):
        raise _bad("%s: the check's path %r is not one." % (where, path), "It begins with / and holds no blanks.")
    if not _CHECK_STATUS.fullmatch(status):
        raise _bad("%s: the check's status %r is not one." % (where, status), "Write it like 200, 200,300 or 200-299.")
    return path, status


def _answer(given: t.Mapping[str, t.Any] | None) -> tuple[int, int] | None:
    if not given:
        return None
    status, seconds = given.get("status") or 503, given.get("retry_after") or 0
    if not 400 <= status <= 599 or not 0 <= seconds <= 604800:
        raise BadInputError(
            "answer: the status %s must be 400 to 599, and retry_after (%s) at most a week in seconds." % (status, seconds),
            "input",
        )
    return status, seconds


def render(service: Service) -> tuple[str, str]:
    """Return the whole file, and its digest."""
    body = "\n".join(_lines(service)) + "\n"
    digest = _digest(service.owner, body)
    return _HEADER % (service.owner, digest) + body.replace(_BLANK_DIGEST, digest), digest


def _lines(service: Service) -> t.Iterator[str]:
    for frontend in service.frontends:
        yield "frontend %s" % frontend.name
        yield "  mode http"
        for bind in frontend.binds:
            yield ("  bind %s %s" % (bind, frontend.bind_options)).rstrip()
        if service.answer:
            status, seconds = service.answer
            later = " hdr Retry-After %d" % seconds if seconds else ""
            yield '  http-request return status %d content-type text/plain string "Maintenance"%s' % (status, later)
        for line in frontend.options:
            yield "  " + line
        yield "  default_backend %s" % service.backend
        yield ""
    yield "backend %s" % service.backend
    yield "  mode http"
    yield "  balance %s" % service.balance
    yield "  acl osops_mark str(osops.lifecycle) -m str %s" % _BLANK_DIGEST
    if service.check:
        yield "  option httpchk GET %s" % service.check[0]
        yield "  http-check expect status %s" % service.check[1]
    for line in service.options:
        yield "  " + line
    for name, address in service.servers:
        yield ("  server %s %s %s" % (name, address, service.server_options)).rstrip()


def _digest(owner: str, body: str) -> str:
    return hashlib.sha256(("%s\n%s" % (owner, body)).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def judge(text: str | None, owner: str) -> tuple[str, str]:
    """Say what a file with this text is to ``owner``, and which digest it carries."""
    if text is None:
        return MISSING, ""
    mark = _MARK.match(text)
    if not mark or mark.group(1) != owner:
        return FOREIGN, ""
    digest = mark.group(2)
    body = text[mark.end() :].replace(digest, _BLANK_DIGEST)
    return (OURS if _digest(owner, body) == digest else EDITED), digest


def owner_in(text: str) -> str:
    """The owner that a file of this module names; empty for another's file."""
    mark = _MARK.match(text)
    return mark.group(1) if mark else ""


def names_in(text: str) -> tuple[set[str], set[str]]:
    """The frontends and backends of a file of ours."""
    found: dict[str, set[str]] = {"frontend": set(), "backend": set()}
    for kind, name in re.findall(r"(?m)^(frontend|backend) (\S+)", text):
        found[kind].add(name)
    return found["frontend"], found["backend"]


def marks_in(text: str) -> set[str]:
    """The digests that a worker shows (``show acl``) when it has read this text."""
    return set(re.findall(r"(?m)^\s*acl osops_mark .* ([0-9a-f]{32})\s*$", text))


def binds_in(text: str) -> list[str]:
    return re.findall(r"(?m)^\s+bind (\S+)", text)


def overlap(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """True when a connection to one may reach the other: same port, and same address or a wildcard."""

    def every(address: str) -> bool:
        return ipaddress.ip_address(address).is_unspecified

    return one[1] == other[1] and (one[0] == other[0] or every(one[0]) or every(other[0]))


def place(bind: str) -> tuple[str, int]:
    """A bind as address and port; ``*`` is every address."""
    host, _colon, port = bind.rpartition(":")
    return ("0.0.0.0" if host == "*" else str(ipaddress.ip_address(host.strip("[]")))), int(port)  # noqa: S104 - compared with

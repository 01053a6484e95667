# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An NGINX Plus that is none: an HTTP(S) server on a real socket that answers by a table derived from the specification of the API.

Elsewhere tests run against the real program. A licence of NGINX Plus cannot be had, and nothing else speaks this API with PATCH. So
what can be known of it is taken from its specification by ``derive.py`` into ``api_v9.json``, and this server holds both sides to it:
a question that the specification does not have (path, method, parameter, field of a body) is refused and kept in ``breaches``, an
answer that does not fit is a breach too. What the specification does not tell is invented here, and so not proven by any test: that
ids change with a reload, that a reload forgets drains and counters, and when which state is shown.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import dataclasses
import http.server
import json
import re
import ssl
import threading
import typing as t
import urllib.parse
from pathlib import Path

from tests.ports import free_port

TABLE = json.loads(Path(__file__).with_name("api_v9.json").read_text(encoding="utf-8"))
VERSION = TABLE["base"].rpartition("/")[2]
_TYPES: dict[str, type] = {"string": str, "integer": int, "boolean": bool, "object": dict}

Json = t.Any


class Refusal(Exception):
    """What the server answers instead: status, error code, text."""


@dataclasses.dataclass
class FakeServer:
    """One server of an upstream. ``passed``: how the last health check ended, None without checks."""

    address: str
    name: str = ""
    weight: int = 1
    backup: bool = False
    down: bool = False
    drain: bool = False
    active: int = 0
    total: int = 100
    passed: bool | None = True
    state: str = ""
    id: int = 0

    def shown(self) -> str:
        if self.down:
            return "down"
        if self.drain:
            return "draining"
        return self.state or ("unhealthy" if self.passed is False else "up")


@dataclasses.dataclass
class FakeUpstream:
    """An upstream. ``static``: without shared memory. ``keeps``: with a state file, so a reload forgets nothing."""

    servers: list[FakeServer]
    zombies: int = 0
    static: bool = False
    keeps: bool = False


class FakePlus:
    """The balancer. Tests turn its knobs; ``asked`` counts requests by method, ``log`` has method, path, body and headers."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.upstreams: dict[str, dict[str, FakeUpstream]] = {"http": {}, "stream": {}}
        self.roots = ["nginx", "http", "stream"]
        self.writable = True
        self.versions = [VERSION]
        self.credentials = ""
        self.generation = 1
        self.pids = (0, 0)
        """The worker and the master that it says it is of."""
        self.asked: collections.Counter[str] = collections.Counter()
        self.log: list[tuple[str, str, Json, dict[str, str]]] = []
        self.breaches: list[str] = []
        self.before_answer: t.Callable[[str, str], bytes | None] = lambda method, path: None
        """Called with each request; what it returns is sent as it is, and the connection closed."""
        self.lock = threading.RLock()
        self._server = _Server(self, context)
        self.port = int(self._server.server_address[1])
        self.url = "%s://127.0.0.1:%d/api" % ("https" if context else "http", self.port)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, kind: str, name: str, *servers: FakeServer, **more: t.Any) -> FakeUpstream:
        self.upstreams[kind][name] = FakeUpstream(list(servers), **more)
        self._number()
        return self.upstreams[kind][name]

    def server(self, key: str, kind: str = "http") -> FakeServer:
        name, address = key.split("/")
        (found,) = [server for server in self.upstreams[kind][name].servers if server.address == address]
        return found

    def reload(self) -> None:
        """Configuration is read anew: other ids, counters from zero, and what was set is forgotten unless there is a state file."""
        with self.lock:
            self.generation += 1
            for upstreams in self.upstreams.values():
                for upstream in upstreams.values():
                    upstream.servers.reverse()
                    for server in upstream.servers:
                        server.active, server.total = 0, 0
                        if not upstream.keeps:
                            server.down = server.drain = False
            self._number()

    def _number(self) -> None:
        for upstreams in self.upstreams.values():
            for upstream in upstreams.values():
                for number, server in enumerate(upstream.servers):
                    server.id = number

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, Json]:
        """Status and JSON for one request, held to the table."""
        parts = urllib.parse.urlsplit(target)
        version, _slash, rest = parts.path[len("/api/") :].partition("/")
        path = "/" + rest
        if version not in self.versions:
            return self._refused(
                {"answers": {"404": {"codes": ["UnknownVersion"]}}}, Refusal(404, "UnknownVersion", "unknown version")
            )
        call, names = self._call(method, path)
        if call is None:
            self._breach("%s %s is not in the specification" % (method, path))
            return self._refused({}, Refusal(404, "PathNotFound", "path not found"))
        for parameter in urllib.parse.parse_qs(parts.query, keep_blank_values=True):
            if parameter not in call["query"]:
                self._breach("%s %s has no parameter %s" % (method, path, parameter))
        try:
            found = self._do(call, names, body)
        except Refusal as refusal:
            return self._refused(call, refusal)
        fields = urllib.parse.parse_qs(parts.query).get("fields")
        self._hold(found, call["answers"]["200"]["type"], "the answer to %s %s" % (method, path))
        return 200, _only(found, fields[0].split(",")) if fields else found

    def _call(self, method: str, path: str) -> tuple[Json, dict[str, str]]:
        for call in TABLE["calls"]:
            pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(call["path"]))
            match = re.fullmatch(pattern, path)
            if match and call["method"] == method:
                return call, {name: urllib.parse.unquote(text) for name, text in match.groupdict().items()}
        return None, {}

    def _refused(self, call: Json, refusal: Refusal) -> tuple[int, Json]:
        status, code, text = refusal.args
        if call and code not in call["answers"].get(str(status), {}).get("codes", []):
            self._breach("%s %s does not answer %d %s" % (call["method"], call["path"], status, code))
        body = {"error": {"status": status, "text": text, "code": code}, "request_id": "f" * 32, "href": "https://nginx.org/"}
        self._hold(body, {"ref": "NginxError"}, "an error")
        return status, body

    def _do(self, call: Json, names: dict[str, str], body: bytes) -> Json:
        path = call["path"]
        if path == "/":
            return self.roots
        if path == "/nginx":
            return {
                "version": "1.21.6",
                "build": "nginx-plus-r27",
                "address": "127.0.0.1",
                "generation": self.generation,
                "pid": self.pids[0],
                "ppid": self.pids[1],
            }
        kind = path.split("/")[1]
        if "name" not in names:
            return {name: self._status(kind, one) for name, one in self.upstreams[kind].items() if not one.static}
        upstream = self.upstreams[kind].get(names["name"])
        if upstream is None:
            raise Refusal(404, "UpstreamNotFound", "upstream not found")
        if upstream.static:
            raise Refusal(400, "UpstreamStatic", "upstream is static")
        if call["method"] == "PATCH":
            return self._patch(kind, upstream, names["id"], call["body"], body)
        return [_conf(kind, one) for one in upstream.servers] if path.endswith("/servers/") else self._status(kind, upstream)

    def _status(self, kind: str, upstream: FakeUpstream) -> Json:
        peers = []
        for one in upstream.servers:
            peer = {
                "id": one.id,
                "server": one.address,
                "name": one.name or one.address,
                "backup": one.backup,
                "weight": one.weight,
            }
            peer.update({"state": one.shown(), "active": one.active, "requests" if kind == "http" else "connections": one.total})
            checks: Json = {"checks": 0 if one.passed is None else 7, "fails": 0, "unhealthy": 0}
            peer["health_checks"] = checks if one.passed is None else {**checks, "last_passed": one.passed}
            peers.append(peer)
        return {"peers": peers, "zombies": upstream.zombies, "zone": "shared"}

    def _patch(self, kind: str, upstream: FakeUpstream, number: str, shape: Json, body: bytes) -> Json:
        if not self.writable:
            raise Refusal(405, "MethodDisabled", "method disabled")
        if not number.isdigit():
            raise Refusal(400, "UpstreamBadServerId", "invalid server ID")
        (server, *_more) = [*(one for one in upstream.servers if one.id == int(number)), None]
        if server is None:
            raise Refusal(404, "UpstreamServerNotFound", 'server with ID "%s" does not exist' % number)
        try:
            given = json.loads(body)
        except ValueError:
            raise Refusal(415, "JsonError", "JSON error") from None
        known = TABLE["types"][shape["ref"]]
        for name, value in given.items() if isinstance(given, dict) else [("", None)]:
            if name not in known["fields"] or name in known.get("fixed", []):
                self._breach("a PATCH of a %s server has no field %r" % (kind, name))
                raise Refusal(400, "UpstreamConfFormatError", 'unknown parameter "%s"' % name)
            if type(value) is not _TYPES[known["fields"][name]]:
                self._breach("a PATCH with %s=%r" % (name, value))
                raise Refusal(400, "UpstreamConfFormatError", 'invalid "%s" value' % name)
        if given.get("weight", 1) < 1:
            raise Refusal(400, "UpstreamBadWeight", 'invalid "weight"')
        for name in given:
            setattr(server, name, given[name])
        return _conf(kind, server)

    def _breach(self, what: str) -> None:
        self.breaches.append(what)

    def _hold(self, value: Json, shape: Json, where: str) -> None:
        """Keep in ``breaches`` what the table does not allow."""
        if isinstance(shape, str):
            if type(value) is not _TYPES[shape]:
                self._breach("%s is %r, not %s" % (where, value, shape))
        elif "ref" in shape:
            self._hold(value, TABLE["types"][shape["ref"]], where)
        elif "list" in shape:
            for one in value:
                self._hold(one, shape["list"], where)
        elif "map" in shape:
            for name, one in value.items():
                self._hold(one, shape["map"], "%s: %s" % (where, name))
        elif "one_of" in shape:
            if value not in shape["one_of"]:
                self._breach("%s is %r" % (where, value))
        else:
            for name, one in value.items():
                if name in shape["fields"]:
                    self._hold(one, shape["fields"][name], "%s: %s" % (where, name))
                else:
                    self._breach("%s has no field %s" % (where, name))


def _conf(kind: str, one: FakeServer) -> Json:
    found: Json = {
        "id": one.id,
        "server": one.address,
        "weight": one.weight,
        "max_conns": 0,
        "max_fails": 1,
        "fail_timeout": "10s",
    }
    found.update({"slow_start": "0s", "backup": one.backup, "down": one.down})
    if kind == "http":
        found["route"] = ""
        if one.drain:
            found["drain"] = True
    return found


def _only(found: Json, fields: list[str]) -> Json:
    """The parameter ``fields``: of the object, or of each in a map of objects."""
    if isinstance(found, list):
        return found
    if any(name in fields for name in found):
        return {name: value for name, value in found.items() if name in fields}
    return {name: {key: value for key, value in one.items() if key in fields} for name, one in found.items()}


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, plus: FakePlus, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", free_port()), _Handler)
        self.plus = plus
        if context is not None:
            # The handshake belongs into the thread of the request: one that the client refuses must not end the server.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """A client that hangs up, or does not like the certificate: tests do that on purpose."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: t.Any) -> None:
        """Keep quiet."""

    def _any(self) -> None:
        plus = self.server.plus
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with plus.lock:
            plus.asked[self.command] += 1
            given: Json = None
            with contextlib.suppress(ValueError):
                given = json.loads(body)
            plus.log.append((self.command, self.path, given, headers))
        raw = plus.before_answer(self.command, self.path)
        if raw is not None:
            self.wfile.write(raw)
            self.close_connection = True
            return
        with plus.lock:
            if plus.credentials and headers.get("authorization") != plus.credentials:
                self._send(401, b"<html><head><title>401 Authorization Required</title></head></html>", "text/html")
                return
            status, found = plus.answer(self.command, self.path, headers, body)
        self._send(status, json.dumps(found).encode(), "application/json")

    do_GET = do_PATCH = do_POST = do_DELETE = do_PUT = do_HEAD = do_OPTIONS = _any

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def basic(username: str, password: str) -> str:
    """The header of basic authentication."""
    return "Basic " + base64.b64encode(("%s:%s" % (username, password)).encode()).decode()

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""A small HTTP client for probes: no redirects, no retries, no proxies; TLS verified; time and size bounded."""

from __future__ import annotations

import dataclasses
import http.client
import socket
import ssl
import time
import typing as t
import urllib.parse

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError

MAX_BYTES = 1024 * 1024


class HttpError(LifecycleError):
    """No usable answer came. ``kind`` is refused, reset, timeout, tls, unreachable, too_large or protocol."""

    code = "http"

    def __init__(self, kind: str, msg: str) -> None:
        super().__init__(msg, "http." + kind)
        self.kind = kind


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer: header names are lower case, the last of equal names counts."""

    status: int
    headers: t.Mapping[str, str]
    body: bytes
    seconds: float


@dataclasses.dataclass(frozen=True)
class Trust:
    """How TLS is verified: ``ca_file`` instead of the host's own authorities, ``server_name`` instead of the address."""

    ca_file: str = ""
    server_name: str = ""


class _Tls(http.client.HTTPSConnection):
    """HTTPS to an address, verified against another name: an instance is asked by address, its certificate has a name."""

    def __init__(self, host: str, port: int | None, timeout: float, context: ssl.SSLContext, name: str) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._tls_context, self._name = context, name

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls_context.wrap_socket(self.sock, server_hostname=self._name or self.host)


def _connection(url: urllib.parse.SplitResult, timeout_s: float, trust: Trust) -> http.client.HTTPConnection:
    host = url.hostname or ""
    if url.scheme == "http":
        return http.client.HTTPConnection(host, url.port, timeout=timeout_s)
    try:
        context = ssl.create_default_context(cafile=trust.ca_file or None)
    except (OSError, ssl.SSLError) as exc:
        raise BadInputError("The CA file %s cannot be used: %s." % (trust.ca_file, exc), "input.ca_file") from None
    return _Tls(host, url.port, timeout_s, context, trust.server_name)


def request(
    method: str,
    url: str,
    headers: t.Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_s: float = 10.0,
    trust: Trust | None = None,
    max_bytes: int = MAX_BYTES,
) -> Reply:
    """Send one request and read the whole answer within ``timeout_s`` seconds, connecting included.

    Raises HttpError when no complete answer came, BadInputError for a URL that is none. Any status is an answer.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise BadInputError("%r is not an http or https address." % (url.rpartition("@")[2],), "input.url")
    begun = time.monotonic()
    connection = _connection(parts, timeout_s, trust or Trust())
    target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    try:
        connection.request(method, target, body, dict(headers or {}))
        answer = connection.getresponse()
        data = _read(connection, answer, begun + timeout_s, max_bytes)
    except HttpError:
        raise
    except ssl.SSLError as exc:
        raise HttpError("tls", "TLS with %s failed: %s." % (parts.netloc, exc.reason or exc)) from None
    except (socket.timeout, TimeoutError):
        raise HttpError("timeout", "%s did not answer within %.0f s." % (parts.netloc, timeout_s)) from None
    except ConnectionRefusedError:
        raise HttpError("refused", "%s refused the connection." % parts.netloc) from None
    except (ConnectionError, http.client.RemoteDisconnected, http.client.IncompleteRead):
        raise HttpError("reset", "%s ended the connection in the middle of an answer." % parts.netloc) from None
    except OSError as exc:
        raise HttpError("unreachable", "%s cannot be reached: %s." % (parts.netloc, exc.strerror or exc)) from None
    except http.client.HTTPException as exc:
        raise HttpError("protocol", "%s does not speak HTTP: %s." % (parts.netloc, type(exc).__name__)) from None
    finally:
        connection.close()
    return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, data, time.monotonic() - begun)


def _read(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse, end: float, max_bytes: int) -> bytes:
    """Read the body; the time limit holds for the whole of it, not for each piece."""
    data = b""
    while True:
        left = end - time.monotonic()
        if left <= 0:
            raise socket.timeout
        if connection.sock is not None:  # gone when the server has closed and the rest is buffered
            connection.sock.settimeout(left)
        piece = answer.read1(65536)
        if not piece:
            if answer.length:  # the server has hung up before the end that it announced
                raise http.client.IncompleteRead(data, answer.length)
            return data
        data += piece
        if len(data) > max_bytes:
            raise HttpError("too_large", "The answer is larger than %d bytes." % max_bytes)

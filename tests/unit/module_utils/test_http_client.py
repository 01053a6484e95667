# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probes' HTTP client against real servers on real sockets: every way an answer does not come has its name."""

from __future__ import annotations

import http.server
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.module_utils._http import HttpError, Trust, request


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path; what it was asked is kept in ``seen``."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, bytes]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.seen.append((self.command, self.path, self.rfile.read(length)))
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in (b"hello", b" world"):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        elif self.path == "/drip":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            for _each in range(100):
                self.wfile.write(b".")
                self.wfile.flush()
                time.sleep(0.1)
        else:
            self.send_response(200)
            self.send_header("X-Subject-Token", "gAAAA")
            self.send_header("Content-Length", "2000")
            self.end_headers()
            self.wfile.write(b"x" * 2000)

    do_POST = do_GET

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the client has gone, which some tests are about
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[ssl.SSLContext | None], str]]:
    servers = []

    def start(context: ssl.SSLContext | None = None) -> str:
        Handler.seen.clear()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            # The handshake belongs into the thread of the request: one that the client refuses must not end the server.
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return "%s://127.0.0.1:%d" % ("https" if context else "http", server.server_port)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def speak() -> Iterator[Callable[[bytes], str]]:
    """A server that sends these bytes to whoever connects, and hangs up."""
    sockets = []

    def start(said: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def answer() -> None:
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            connection.recv(65536)
            connection.sendall(said)
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        return "http://127.0.0.1:%d" % listener.getsockname()[1]

    yield start
    for listener in sockets:
        listener.close()


def kind(url: str, timeout_s: float = 2.0, trust: Trust | None = None, max_bytes: int = 4000) -> str:
    with pytest.raises(HttpError) as caught:
        request("GET", url, timeout_s=timeout_s, trust=trust, max_bytes=max_bytes)
    assert caught.value.code == "http." + caught.value.kind
    return caught.value.kind


def test_an_answer(serve: Callable[..., str]) -> None:
    reply = request("POST", serve() + "/v3?x=1", {"X-Auth-Token": "t"}, b"{}")
    assert (reply.status, reply.headers["x-subject-token"], len(reply.body)) == (200, "gAAAA", 2000)
    assert Handler.seen == [("POST", "/v3?x=1", b"{}")]
    assert request("GET", serve() + "/chunks").body == b"hello world"


def test_no_redirect_is_followed(serve: Callable[..., str]) -> None:
    assert request("GET", serve() + "/moved").status == 302
    assert [path for _method, path, _body in Handler.seen] == ["/moved"]


def test_no_proxy_is_used(serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert request("GET", serve()).status == 200


def test_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert kind("http://127.0.0.1:%d" % port) == "refused"


def test_a_server_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        begun = time.monotonic()
        assert kind("http://127.0.0.1:%d" % server.getsockname()[1], 0.5) == "timeout"
        assert 0.4 < time.monotonic() - begun < 2


def test_the_limit_is_for_the_whole_answer_not_for_each_byte(serve: Callable[..., str]) -> None:
    begun = time.monotonic()
    assert kind(serve() + "/drip", 0.5) == "timeout"
    assert time.monotonic() - begun < 2


def test_an_answer_that_is_too_large(serve: Callable[..., str]) -> None:
    assert kind(serve(), max_bytes=1999) == "too_large"


@pytest.mark.parametrize(
    ("said", "how"),
    [
        (b"", "reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "reset"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "protocol"),
    ],
)
def test_answers_that_are_none(speak: Callable[[bytes], str], said: bytes, how: str) -> None:
    assert kind(speak(said)) == how


def test_tls_to_what_speaks_none(serve: Callable[..., str]) -> None:
    assert kind(serve().replace("http://", "https://")) == "tls"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "/v3", "http://", "http://user:secret@127.0.0.1/"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(BadInputError) as caught:
        request("GET", url)
    assert "secret" not in caught.value.msg


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for the name api.example, with its key in the same file."""
    folder = tmp_path_factory.mktemp("tls")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, which makes the certificate")
    subject = ["-subj", "/CN=api.example", "-addext", "subjectAltName=DNS:api.example", "-days", "2", "-nodes"]
    making = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        *subject,
        "-keyout",
        str(folder / "key"),
        "-out",
        str(folder / "cert"),
    ]
    subprocess.run(making, check=True, capture_output=True)
    (folder / "both").write_text((folder / "cert").read_text() + (folder / "key").read_text())
    return folder


def test_tls_is_verified(serve: Callable[..., str], certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "both")
    url = serve(context)
    assert kind(url) == "tls", "an unknown authority"
    assert kind(url, trust=Trust(str(certificate / "cert"))) == "tls", "the address is not the name in the certificate"
    assert kind(url, trust=Trust(str(certificate / "cert"), "other.example")) == "tls"
    assert request("GET", url, trust=Trust(str(certificate / "cert"), "api.example")).status == 200
    with pytest.raises(BadInputError):
        request("GET", url, trust=Trust("/nowhere/ca.pem"))

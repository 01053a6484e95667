# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused, in one clear sentence, and that nothing was changed then."""

from __future__ import annotations

import json
import socket
import threading
import time
import typing as t
from pathlib import Path

import pytest

from tests.integration.nginx_plus.fake import TABLE, FakeServer, basic
from tests.integration.nginx_plus.lab import Lab, act, answer, params
from tests.ports import free_port

PASSWORD = "s3cret-Of-plus"  # noqa: S105
TOKEN = "eyJhbGciOiJub25lIn0.e30.Zm9v"  # noqa: S105


def one_sentence(text: str) -> bool:
    return text.endswith(".") and "\n" not in text and ". " not in text.rstrip(".")


def documented() -> list[t.Any]:
    """Every error code of every call that the driver makes."""
    found = []
    for call in TABLE["calls"]:
        for status, said in call["answers"].items():
            found += [
                pytest.param(call["method"], call["path"], int(status), code, id="-".join([call["method"], call["path"], code]))
                for code in said.get("codes", [])
            ]
    assert len(found) > 40
    return found


@pytest.mark.parametrize(("method", "path", "status", "code"), documented())
def test_every_documented_error_is_one_sentence(lab: Lab, method: str, path: str, status: int, code: str) -> None:
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.refusals import KNOWN

    kind = "stream" if path.startswith("/stream") else "http"
    lab.plus.upstreams = {"http": {}, "stream": {}}
    lab.plus.add(kind, "be", *(FakeServer(lab.address(name)) for name in ("s1", "s2")))
    target = "/api/9" + path.replace("{name}", "be").replace("{id}", "0")
    said = answer(status, {"error": {"status": status, "text": "what nginx says", "code": code}, "request_id": "f", "href": "h"})
    hit: list[str] = []

    def refuse(asked: str, where: str) -> bytes | None:
        if asked == method and where.partition("?")[0] == target and not hit:
            hit.append(where)
            return said
        return None

    lab.plus.before_answer = refuse
    # Only an upstream that is not in the list is asked for itself.
    alone = path.endswith("{name}/")
    if alone:
        target = target.replace("/be/", "/gone/")
    refused = act(lab, "drain", backends=["gone"] if alone else [])
    assert hit, "the driver makes this call"
    if alone and code == "UpstreamNotFound":
        assert refused.verdict.reason == "NGINX Plus has no upstream gone."
    else:
        assert refused.verdict.code == KNOWN[code][0]
        assert "(it says: what nginx says)" in refused.verdict.reason
    assert one_sentence(refused.verdict.reason), refused.verdict.reason
    assert refused.verdict.hint
    assert not refused.changed
    assert lab.flags() == {(False, False)}
    assert lab.plus.asked["PATCH"] == (1 if method == "PATCH" else 0)


def test_read_only(lab: Lab) -> None:
    lab.plus.writable = False
    assert act(lab, "drain", check_mode=True).verdict.passed  # it cannot be asked
    refused = act(lab, "drain")
    assert refused.verdict.code == "nginx_plus.read_only"
    assert "api write=on;" in refused.verdict.hint
    assert lab.flags() == {(False, False)}


def test_older_api(lab: Lab) -> None:
    lab.plus.versions = ["7", "8"]
    refused = act(lab, "drain")
    assert refused.verdict.code == "nginx_plus.unknown_version"
    assert refused.verdict.reason.startswith("This NGINX Plus does not know version 9 of its API")


def test_static_upstream_and_unknown_ones_are_named(lab: Lab) -> None:
    lab.plus.add("http", "fixed", FakeServer(lab.address("s1")), static=True)
    refused = act(lab, "drain", backends=["fixed"])
    assert refused.verdict.code == "nginx_plus.static"
    assert "zone" in refused.verdict.hint
    refused = act(lab, "drain", backends=["nobe"])
    assert (refused.verdict.code, refused.verdict.reason) == ("nginx_plus.unknown_upstream", "NGINX Plus has no upstream nobe.")
    assert "It has: be." in refused.verdict.hint
    refused = act(lab, "drain", ["s1", "127.0.0.1:1"])
    assert refused.verdict.code == "nginx_plus.unknown_server"
    assert "127.0.0.1:1" in refused.verdict.reason
    assert lab.address("s2") in refused.verdict.hint
    refused = act(lab, "ready", restore={"be/127.0.0.1:9": {"admin": 0}})
    assert refused.verdict.code == "nginx_plus.unknown_server"
    assert lab.patches() == []


def test_what_cannot_be_told_apart(lab: Lab) -> None:
    lab.plus.add("stream", "be", FakeServer(lab.address("s1")))
    refused = act(lab, "drain")
    assert refused.verdict.code == "nginx_plus.ambiguous"
    assert "exists in http and in stream" in refused.verdict.reason
    lab.plus.upstreams["stream"].clear()
    lab.plus.add("http", "be", *(FakeServer(lab.address(name)) for name in ("s1", "s2", "s1")))
    refused = act(lab, "drain")
    assert refused.verdict.code == "nginx_plus.ambiguous"
    assert "more than once" in refused.verdict.reason
    lab.plus.upstreams["http"].clear()
    lab.plus.add("http", "a b", FakeServer(lab.address("s1")), FakeServer(lab.address("s2")))
    assert act(lab, "drain").verdict.code == "nginx_plus.name"
    assert lab.patches() == []


def test_no_stream_part_is_not_asked_for(lab: Lab) -> None:
    lab.plus.roots = ["nginx", "http"]
    assert act(lab, "drain").verdict.passed
    assert not [path for _method, path, _body, _headers in lab.plus.log if "/stream" in path]


UPSTREAM = {"peers": [], "zombies": 0, "zone": "be"}
PEER = {"id": 0, "server": "127.0.0.1:1", "backup": False, "weight": 1, "state": "up", "active": 0, "requests": 1}


def upstreams(**changed: t.Any) -> t.Any:
    return {"be": {**UPSTREAM, "peers": [{**PEER, **changed}]}}


@pytest.mark.parametrize(
    ("raw", "code", "words"),
    [
        (answer(401, b"<html>401</html>", "text/html"), "nginx_plus.unauthorized", "other credentials"),
        (answer(403, b"<html>403</html>", "text/html"), "nginx_plus.forbidden", "does not let this host"),
        (answer(404, b"<html>404</html>", "text/html"), "nginx_plus.no_api", "no API"),
        (answer(405, b"<html>405</html>", "text/html"), "nginx_plus.read_only", "does not let anything be set"),
        (answer(200, b"<html>login</html>", "text/html"), "nginx_plus.not_json", "a page (HTML)"),
        (answer(200, b'{"be": {"peers": ['), "nginx_plus.not_json", "no JSON, or was cut"),
        (answer(200, b"\xff\xfe"), "nginx_plus.not_json", "no JSON"),
        (answer(200, b"[" * 100000), "nginx_plus.not_json", "no JSON"),
        (answer(200, b""), "nginx_plus.not_json", "no JSON"),
        (answer(200, b'{"be": ', length=400), "nginx_plus.reset", "in the middle of an answer"),
        (b"", "nginx_plus.reset", "in the middle of an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "nginx_plus.protocol", "does not speak HTTP"),
        *((answer(status, b"", "text/html", "Location: http://127.0.0.1:1/"), "nginx_plus.redirect", "redirect (%d)" % status)
          for status in (301, 302, 307, 308)),
        (answer(502, b"<html>502</html>", "text/html"), "nginx_plus.unavailable", "answered 502"),
        (answer(418, b"{}"), "unknown_answer", "answered 418"),
        (answer(204, b""), "unknown_answer", "answered 204"),
        (answer(400, {"error": {"status": 400, "text": "new", "code": "SomethingNew"}}), "unknown_answer", "(it says: new)"),
        (answer(200, ["be"]), "unknown_answer", "is not an object"),
        (answer(200, {"be": {"peers": []}}), "unknown_answer", "has no zombies"),
        (answer(200, {"be": {"zombies": 0}}), "unknown_answer", "has no peers"),
        (answer(200, {"be": {"peers": {}, "zombies": 0}}), "unknown_answer", "is not a list"),
        (answer(200, upstreams(state="resting")), "unknown_answer", "'resting'"),
        (answer(200, upstreams(active="0")), "unknown_answer", "active"),
        (answer(200, upstreams(active=True)), "unknown_answer", "active"),
        (answer(200, upstreams(active=None)), "unknown_answer", "active"),
        (answer(200, upstreams(server=None)), "unknown_answer", "server"),
        (answer(200, upstreams(health_checks={"last_passed": "yes"})), "unknown_answer", "last_passed"),
    ],
)  # fmt: skip
def test_strange_answers(lab: Lab, raw: bytes, code: str, words: str) -> None:
    lab.plus.before_answer = lambda method, path: raw if "/http/upstreams/" in path else None
    for kind in ("drain", "ready"):
        for check_mode in (False, True):
            refused = act(lab, kind, check_mode=check_mode)
            assert refused.verdict.code == code, refused.verdict
            assert words in refused.verdict.reason
            assert "\n" not in refused.verdict.reason
            assert refused.verdict.hint
            assert refused.verdict.outcome == ("error" if code == "unknown_answer" else "fail")
            assert not refused.changed
    assert lab.patches() == []


@pytest.mark.parametrize(
    "raw",
    [answer(200, {"id": 0}), answer(200, b"ok"), answer(500, b"no"), b"", answer(200, {"id": 0, "server": "x", "weight": 1})],
)
def test_strange_answers_to_a_change(lab: Lab, raw: bytes) -> None:
    lab.plus.before_answer = lambda method, path: raw if method == "PATCH" else None
    failed = act(lab, "drain", deadline=2)
    assert not failed.verdict.passed
    assert not failed.changed
    assert lab.flags() == {(False, False)}


def test_no_redirect_is_followed(lab: Lab) -> None:
    other = Lab()
    try:
        lab.plus.before_answer = lambda method, path: answer(307, b"", "text/html", "Location: %s/9/" % other.plus.url)
        assert act(lab, "drain").verdict.code == "nginx_plus.redirect"
        assert other.plus.asked.total() == 0
    finally:
        other.stop()


def test_no_proxy_is_used(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert act(lab, "drain").verdict.passed


def test_nobody_listens_and_nobody_answers(lab: Lab) -> None:
    refused = act(lab, "drain", url="http://127.0.0.1:%d/api" % free_port())
    assert refused.verdict.code == "nginx_plus.refused"
    assert one_sentence(refused.verdict.reason.replace("127.0.0.1", "lb"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        refused = act(lab, "drain", url="http://127.0.0.1:%d/api" % silent.getsockname()[1], timeout=1)
    assert refused.verdict.code == "nginx_plus.timeout"
    assert "did not answer within 1 s" in refused.verdict.reason
    assert time.monotonic() - started < 3


def test_tls_is_verified(tls_lab: Lab, certificate: tuple[Path, Path]) -> None:
    ca_file = str(certificate[0])
    good = act(tls_lab, "drain", ca_file=ca_file, server_name="plus.test")
    assert good.verdict.passed, good.verdict
    asked = tls_lab.plus.asked.total()
    for given in ({"ca_file": ca_file}, {"server_name": "plus.test"}, {}, {"ca_file": ca_file, "server_name": "other.test"}):
        refused = act(tls_lab, "ready", **given)
        assert refused.verdict.code == "nginx_plus.tls", given
        assert "ca_file" in refused.verdict.hint
    assert tls_lab.plus.asked.total() == asked
    plain = act(tls_lab, "ready", url=tls_lab.plus.url.replace("https", "http"))
    assert plain.verdict.code in ("nginx_plus.reset", "nginx_plus.protocol")
    assert tls_lab.server("s1").drain


def test_https_where_http_is_spoken(lab: Lab) -> None:
    refused = act(lab, "drain", url=lab.plus.url.replace("http", "https"))
    assert refused.verdict.code == "nginx_plus.tls"
    assert lab.patches() == []


def test_credentials_are_sent_and_never_shown(lab: Lab) -> None:
    """Also when the other side repeats them in what it says."""
    lab.plus.credentials = basic("osops", PASSWORD)
    given: dict[str, t.Any] = {"username": "osops", "secrets": {"password": PASSWORD}}
    shown = [
        act(lab, "drain", **given),
        act(lab, "ready", **given),
        act(lab, "drain", username="osops", secrets={"password": "wrong"}),
    ]
    assert [outcome.verdict.passed for outcome in shown] == [True, True, False]
    assert shown[2].verdict.code == "nginx_plus.unauthorized"
    header = basic("osops", PASSWORD)
    repeats = answer(400, {"error": {"status": 400, "text": "%s and %s" % (header, PASSWORD), "code": "UpstreamBadAddress"}})
    lab.plus.before_answer = lambda method, path: repeats
    shown.append(act(lab, "drain", **given))
    lab.plus.before_answer = lambda method, path: answer(302, b"", "text/html", "Location: http://osops:%s@127.0.0.1/" % PASSWORD)
    shown.append(act(lab, "drain", **given))
    text = repr(shown) + json.dumps([outcome.verdict.to_dict() for outcome in shown])
    assert PASSWORD not in text
    assert header.partition(" ")[2] not in text
    lab.plus.before_answer = lambda method, path: None
    lab.plus.credentials = "Bearer " + TOKEN
    bearer = act(lab, "drain", secrets={"authorization": "Bearer " + TOKEN})
    assert bearer.verdict.passed
    assert TOKEN not in repr(bearer)


def test_access_hides_its_secrets_in_its_own_text(lab: Lab) -> None:
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx_plus.access import Access

    made = Access.from_params(params(lab, username="osops", secrets={"password": PASSWORD}))
    assert PASSWORD not in repr(made)
    assert basic("osops", PASSWORD) not in repr(made)


SECRET_URL = "http://osops:%s@127.0.0.1/api" % PASSWORD


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"names": ["127.0.0.1"]}, "is not address:port"),
        ({"names": ["127.0.0.1:99999"]}, "is not address:port"),
        ({"names": ["127.0.0.1:0"]}, "is not address:port"),
        ({"names": ["a b:80"]}, "is not address:port"),
        ({"names": ["../../api:80"]}, "is not address:port"),
        ({"names": []}, "The list servers is empty"),
        ({"backends": ["be/../x"]}, "characters that are not allowed"),
        ({"backends": ["be?x=1"]}, "characters that are not allowed"),
        ({"backends": ["be\r\nX: y"]}, "characters that are not allowed"),
        ({"backends": [""]}, "characters that are not allowed"),
        ({"restore": {"be": {"admin": 0}}}, "is not address:port"),
        ({"restore": {"be/../x:80": {"admin": 0}}}, "is not address:port"),
        ({"restore": {"be/127.0.0.1:80": {"admin": 4}}}, "admin is 0"),
        ({"restore": {"be/127.0.0.1:80": {"admin": "x"}}}, "whole numbers"),
        ({"restore": {"be/127.0.0.1:80": {"weight": 0}}}, "a weight is"),
        ({"restore": {"be/127.0.0.1:80": {"weight": 65536}}}, "a weight is"),
        ({"restore": {"be/127.0.0.1:80": {"route": 1}}}, "and nothing else"),
        ({"expect": {"be/127.0.0.1:80": 0}}, "and nothing else"),
        ({"min_available": -1}, "min_available cannot be negative"),
        ({"deadline": 0}, "deadline must be"),
        ({"timeout": 0}, "at least 1 second"),
        ({"policy": "shutdown"}, "no call that ends a session"),
        ({"url": "ftp://127.0.0.1/api"}, "not an http or https address"),
        ({"url": "/api"}, "not an http or https address"),
        ({"url": ""}, "not an http or https address"),
        ({"url": "http://127.0.0.1:x/api"}, "not an http or https address"),
        ({"url": "http://127.0.0.1:99999/api"}, "not an http or https address"),
        ({"url": "http://[::1/api"}, "not an http or https address"),
        ({"url": "http://127.0.0.1/a b"}, "not an http or https address"),
        ({"url": "http://127.0.0.1/api\r\nX: y"}, "not an http or https address"),
        ({"url": SECRET_URL}, "holds a user or a password"),
        ({"url": "http://127.0.0.1/api?x=1"}, "a query or a fragment"),
        ({"url": "http://127.0.0.1/api?"}, "a query or a fragment"),
        ({"url": "http://127.0.0.1/api#x"}, "a query or a fragment"),
        ({"url": "http://127.0.0.1/api/9/"}, "ends with a version"),
        ({"username": "osops"}, "only of use together"),
        ({"secrets": {"password": PASSWORD}}, "only of use together"),
        ({"username": "a:b", "secrets": {"password": PASSWORD}}, "no colon"),
        ({"username": "a", "secrets": {"password": PASSWORD + "\r\nX: y"}}, "control character"),
        ({"secrets": {"authorization": TOKEN + "\r\nX: y"}}, "printable ASCII"),
        ({"username": "a", "secrets": {"authorization": TOKEN}}, "whole header"),
        ({"secrets": {"pasword": PASSWORD}}, "secrets knows"),
        ({"url": "http://lb1.example/api", "username": "a", "secrets": {"password": PASSWORD}}, "without TLS"),
        ({"url": "http://10.0.0.1/api", "secrets": {"authorization": TOKEN}}, "without TLS"),
        ({"ca_file": "/nowhere/ca.pem"}, "no CA file"),
        ({"server_name": "a b"}, "not a host name"),
    ],
)
def test_bad_arguments(lab: Lab, given: dict[str, t.Any], words: str) -> None:
    from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError

    for kind in ("drain", "ready"):
        with pytest.raises(BadInputError) as caught:
            act(lab, kind, **given)
        assert words in caught.value.msg
        told = caught.value.msg + caught.value.hint + repr(caught.value.evidence)
        assert PASSWORD not in told
        assert TOKEN not in told
    assert lab.plus.asked.total() == 0


def test_a_ca_file_that_is_none(tls_lab: Lab, tmp_path: Path) -> None:
    strange = tmp_path / "ca.pem"
    strange.write_text("no certificate")
    refused = act(tls_lab, "drain", ca_file=str(strange))
    assert refused.verdict.code == "input.ca_file"
    assert tls_lab.plus.asked.total() == 0


def test_refused_in_the_middle_everything_is_put_back(lab: Lab) -> None:
    lab.plus.add("http", "be", *(FakeServer(lab.address(name)) for name in ("s1", "s2")), FakeServer("127.0.0.1:2"))
    no = answer(400, {"error": {"status": 400, "text": "memory", "code": "UpstreamOutOfMemory"}})
    lab.plus.before_answer = lambda method, path: no if method == "PATCH" and lab.plus.asked["PATCH"] == 2 else None
    failed = act(lab, "drain", ["s1", "s2"])
    assert failed.verdict.code == "nginx_plus.memory"
    assert lab.flags() == {(False, False)}
    assert not failed.changed
    assert len(lab.patches()) == 3  # one drained, one refused, one put back


def test_many_at_once(lab: Lab) -> None:
    """Two acts side by side on two servers: neither takes what is the other's."""
    lab.plus.add("http", "be", *(FakeServer(lab.address(name)) for name in ("s1", "s2")), FakeServer("127.0.0.1:2"))
    found: dict[str, t.Any] = {}
    threads = [threading.Thread(target=lambda n=name: found.update({n: act(lab, "drain", [n])})) for name in ("s1", "s2")]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcome.verdict.passed for outcome in found.values()] == [True, True]
    assert lab.server("s1").drain
    assert lab.server("s2").drain

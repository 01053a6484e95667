# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused, in one clear sentence, and that nothing was changed then."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import typing as t

import pytest

from tests.integration.haproxy.conftest import act
from tests.integration.haproxy.lab import Lab, Web, until

MakeLab = t.Callable[..., Lab]


def _masks(lab: Lab) -> list[str]:
    return [row[6] for row in lab.rows()]


@pytest.mark.parametrize("level", ["operator", "user"])
@pytest.mark.parametrize("check_mode", [False, True])
def test_level(lab: Lab, level: str, check_mode: bool) -> None:
    path = "%s/%s.sock" % (lab.folder, level)
    for kind in ("drain", "ready"):
        refused = act(lab, kind, socket=path, check_mode=check_mode)
        assert refused.verdict.code == "haproxy.level"
        assert "has the level " + level in refused.verdict.reason
        assert "stats socket %s mode 660 level admin" % path in refused.verdict.hint
    assert lab.mask("be/s1") == 0


def test_socket_missing(lab: Lab) -> None:
    refused = act(lab, "drain", socket=str(lab.folder / "none.sock"))
    assert refused.verdict.code == "haproxy.socket_missing"
    assert "There is no socket" in refused.verdict.reason


def test_not_a_socket(lab: Lab) -> None:
    assert act(lab, "drain", socket=str(lab.folder / "haproxy.cfg")).verdict.code == "haproxy.not_a_socket"


def test_nobody_listens(lab: Lab) -> None:
    path = str(lab.folder / "left.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    refused = act(lab, "drain", socket=path)
    assert refused.verdict.code == "haproxy.refused"
    assert "HAProxy does not run" in refused.verdict.reason


@contextlib.contextmanager
def _nobody() -> t.Iterator[None]:
    """Be a user without rights for a moment."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
def test_socket_that_this_user_may_not_use(lab: Lab) -> None:
    for path in (lab.folder.parent, lab.folder):
        path.chmod(0o755)
    with _nobody():
        refused = act(lab, "drain")
    assert refused.verdict.code == "haproxy.socket_denied"
    assert "become" in refused.verdict.hint
    assert lab.mask("be/s1") == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
def test_connections_of_an_old_worker_that_this_user_may_not_see(make_lab: MakeLab) -> None:
    """Whoever may use the socket, but not read HAProxy's processes, learns it from the drain, and it is put back."""
    lab = make_lab(master=False)
    lab.config()
    config = lab.folder / "haproxy.cfg"
    config.write_text(config.read_text().replace("mode 660 level admin", "mode 666 level admin"))
    lab.start()
    for path in (lab.folder.parent, lab.folder):
        path.chmod(0o755)
    lab.websocket_on("s2")
    with _nobody():
        assert act(lab, "drain").verdict.passed
        assert act(lab, "ready").verdict.passed
    lab.reload()
    until(lab.all_checked)
    with _nobody():
        unseen = act(lab, "drain")
    assert unseen.verdict.code == "haproxy.workers_unseen"
    assert "become" in unseen.verdict.hint
    assert lab.mask("be/s1") == 0


def test_path_too_long(lab: Lab) -> None:
    assert act(lab, "drain", socket="/" + "x" * 200).verdict.code == "haproxy.socket_unusable"


@pytest.mark.parametrize(
    ("says", "code"), [(b"220 smtp ready\r\n", "haproxy.hung_up"), (None, "haproxy.timeout"), (b"\n> \n> ", "unknown_answer")]
)
def test_not_haproxy(lab: Lab, says: bytes | None, code: str) -> None:
    """Something else listens: it hangs up, it never answers, or it answers rubbish."""
    path = str(lab.folder / "other.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def serve() -> None:
            peer, _address = server.accept()
            with peer:
                if says is None:
                    time.sleep(1.5)
                    return
                peer.recv(100)
                peer.sendall(says)
                if says.endswith(b"> "):
                    for _command in range(3):
                        peer.recv(100)
                        peer.sendall(b"what?\n> ")

        thread = threading.Thread(target=serve)
        thread.start()
        refused = act(lab, "drain", socket=path, socket_timeout=1.0)
        thread.join()
    assert refused.verdict.code == code
    assert path in refused.verdict.reason or code == "unknown_answer"


def test_unknown_address_and_backend_are_named(lab: Lab) -> None:
    refused = act(lab, "drain", ["s1", "127.0.0.1:1"])
    assert refused.verdict.code == "haproxy.unknown_server"
    assert "127.0.0.1:1" in refused.verdict.reason
    assert lab.web["s2"].address in refused.verdict.hint
    refused = act(lab, "drain", backends=["nobe"])
    assert refused.verdict.code == "haproxy.unknown_backend"
    assert "nobe" in refused.verdict.reason
    assert "be" in refused.verdict.hint
    refused = act(lab, "ready", restore={"be/s9": {"admin": 0}})
    assert refused.verdict.code == "haproxy.unknown_server"
    assert set(_masks(lab)) == {"0"}


@pytest.mark.parametrize(
    "given",
    [
        {"names": ["127.0.0.1:80; set server be/s2 state maint"]},
        {"names": ["s1\nset server be/s2 state maint:80"]},
        {"names": ["127.0.0.1"]},
        {"names": ["127.0.0.1:99999"]},
        {"names": []},
        {"backends": ["be; set server be/s2 state maint"]},
        {"backends": ["be\nset server be/s2 state maint"]},
        {"restore": {"be/s1 state maint;": {"admin": 0}}},
        {"restore": {"be/s1\n": {"admin": 0}}},
        {"restore": {"be/s1": {"weight": "1; set server be/s2 state maint"}}},
        {"restore": {"be/s1": {"weight": 257}}},
        {"restore": {"be/s1": {"other": 1}}},
        {"restore": {"s1": {"admin": 0}}},
        {"expect": {"be/s1": 0}},
        {"min_available": -1},
        {"deadline": 0},
    ],
)
def test_bad_arguments_and_injection(lab: Lab, given: dict[str, t.Any]) -> None:
    from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError

    for kind in ("drain", "ready"):
        with pytest.raises(BadInputError):
            act(lab, kind, **given)
    assert set(_masks(lab)) == {"0"}


def test_floor_counts_only_servers_that_carry_traffic(make_lab: MakeLab) -> None:
    lab = make_lab(("s1", "s2", "s3", "s4", "s5"))
    lab.config()
    lab.start()
    lab.raw("set server be/s2 state maint")
    lab.raw("set server be/s3 state drain")
    lab.raw("set server be/s4 weight 0")
    refused = act(lab, "drain", min_available=2)
    assert refused.verdict.code == "drain.floor"
    assert refused.verdict.evidence == {"left": {"be": 1}, "min_available": 2}
    assert not refused.changed
    assert act(lab, "drain", min_available=1).verdict.passed


def test_floor_refuses_in_check_mode_too(lab: Lab) -> None:
    assert act(lab, "drain", ["s1", "s2"], check_mode=True).verdict.code == "drain.floor"


def test_only_one_healthy_server(lab: Lab) -> None:
    lab.web["s2"].die()
    until(lambda: lab.status("be/s2").startswith("DOWN"))
    started = time.monotonic()
    refused = act(lab, "drain", deadline=60)
    assert refused.verdict.code == "drain.floor"
    assert "be would have 0, and min_available is 1" in refused.verdict.reason
    assert time.monotonic() - started < 2
    assert lab.mask("be/s1") == 0


def test_second_server_dies_after_the_drain_and_the_second_call_says_so(lab: Lab) -> None:
    first = act(lab, "drain")
    lab.web["s2"].die()
    until(lambda: lab.status("be/s2").startswith("DOWN"))
    again = act(lab, "drain", expect=first.after)
    assert again.verdict.code == "drain.floor"
    assert lab.mask("be/s1") == 8  # this call drained nothing, so it puts nothing back
    assert act(lab, "ready", restore=first.before).verdict.passed
    assert lab.client().get() == "s1"


def test_second_server_dies_during_the_wait_and_the_drained_one_goes_back(lab: Lab) -> None:
    lab.websocket_on("s1")
    threading.Timer(0.5, lab.web["s2"].die).start()
    drained = act(lab, "drain", deadline=20)
    assert drained.verdict.code == "drain.floor"
    assert "Another server failed during the drain" in drained.verdict.reason
    assert lab.mask("be/s1") == 0
    assert lab.client().get() == "s1"


def test_right_after_a_start_the_floor_waits_for_the_first_check(make_lab: MakeLab) -> None:
    """HAProxy calls servers up before their first check; unknown is not healthy."""
    lab = make_lab()
    lab.config("  option httpchk GET /slow/1\n  timeout check 5s\n", default="check inter 200 rise 2 fall 3")
    lab.start(wait_up=False)
    assert not lab.all_checked()
    drained = act(lab, "drain", deadline=20)
    assert drained.verdict.passed
    assert lab.web["s2"].seen > 0


def test_backup_servers(make_lab: MakeLab) -> None:
    lab = make_lab(("s1",))
    extra = lab.web["b1"] = Web("b1")
    more = lab.web["b2"] = Web("b2")
    lab.config()
    config = lab.folder / "haproxy.cfg"
    text = config.read_text()
    for web in (extra, more):
        text = text.replace("127.0.0.1:%d" % web.port, "127.0.0.1:%d backup" % web.port)
    config.write_text(text)
    lab.start()
    assert act(lab, "drain", min_available=2).verdict.evidence["left"] == {"be": 1}
    assert act(lab, "drain", min_available=1).verdict.passed
    assert lab.client().get() == "b1"


def test_refused_in_the_middle_everything_is_put_back(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """HAProxy's own words for a server that cannot be set are an error; those set before it go back."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._haproxy import drain

    lab = make_lab(("s1", "s2", "s3"))
    lab.config()
    lab.start()
    real = drain.commands

    def one_is_gone(server: t.Any, wanted: t.Any) -> list[str]:
        return ["set server be/gone state drain"] if server.key == "be/s2" and wanted == {"admin": 8} else real(server, wanted)

    monkeypatch.setattr(drain, "commands", one_is_gone)
    failed = act(lab, "drain", ["s1", "s2"])
    assert failed.verdict.code == "haproxy.refused_command"
    assert "No such server." in failed.verdict.reason
    assert set(_masks(lab)) == {"0"}
    assert not failed.changed


def test_haproxy_stops_during_the_drain(lab: Lab) -> None:
    lab.websocket_on("s1")
    assert lab.process
    threading.Timer(0.5, lab.process.terminate).start()
    failed = act(lab, "drain", deadline=3)
    assert failed.verdict.code == "drain.not_put_back"
    assert "be/s1" in failed.verdict.hint

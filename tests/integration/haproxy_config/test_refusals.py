# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused: one sentence, and nothing changed. And reloads that fail, and processes that are killed in the middle."""

from __future__ import annotations

import os
import signal
import socket
import threading
import typing as t

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._signals import end_in_order
from tests.integration.haproxy.lab import HAPROXY, Client, Lab, until
from tests.integration.haproxy_config.conftest import Shop, Signal, snapshot


def refused(shop: Shop, code: str, words: str, check: bool = False, **given: t.Any) -> None:
    """The act is refused with this code and these words, and nothing has moved."""
    before = snapshot(shop.conf), shop.proxies(), shop.lab.worker(), shop.order.count
    told = shop.act(check, **given)
    assert (told.verdict.outcome, told.verdict.code) == ("fail", code), told.verdict
    assert words in "%s %s" % (told.verdict.reason, told.verdict.hint)
    assert not told.changed
    assert (snapshot(shop.conf), shop.proxies(), shop.lab.worker(), shop.order.count) == before


@pytest.mark.parametrize("state", ["present", "absent"])
@pytest.mark.parametrize("check", [True, False])
def test_a_foreign_file(shop: Shop, state: str, check: bool) -> None:
    shop.file.write_text("# somebody's own\n")
    refused(shop, "haproxy.foreign_file", "was not made by this collection", check, state=state)
    assert shop.act(True, state=state).before["file"] == "foreign"


def test_a_file_of_another_owner(shop: Shop) -> None:
    assert shop.act(owner="other/shop").verdict.passed
    refused(shop, "haproxy.foreign_file", "belongs to other/shop", state="absent")
    refused(shop, "haproxy.foreign_file", "belongs to other/shop")


def test_a_file_that_is_a_link(shop: Shop) -> None:
    (shop.lab.folder / "elsewhere.cfg").write_text("")
    shop.file.symlink_to(shop.lab.folder / "elsewhere.cfg")
    refused(shop, "haproxy.foreign_file", "was not made by this collection")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("option httplog\nbackend evil", "line break"),
        ("option httplog\r", "line break"),
        ("backend evil", "begins another section"),
        ("  global", "begins another section"),
        ('"backend" evil', "does not begin with a keyword"),
        ("back\\end evil", "does not begin with a keyword"),
        (".if 1", "does not begin with a keyword"),
        ("http-request deny ; shutdown", "`;` outside of quotes"),
        ("option httplog \\", "ends with a backslash"),
        ("bind *:1", "is written by this module"),
        ("", "does not begin with a keyword"),
    ],
)
def test_a_bad_line(shop: Shop, line: str, words: str) -> None:
    refused(shop, "haproxy.bad_line", words, frontends=[shop.frontend(options=[line])])
    refused(shop, "haproxy.bad_line", words, backend=shop.backend(options=[line]))


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ({"service": "../shop"}, "haproxy.bad_name", "cannot be the name of a service"),
        ({"owner": "shop"}, "haproxy.bad_name", "is not CLOUD/SERVICE"),
        ({"owner": "a/b\nglobal"}, "haproxy.bad_name", "is not CLOUD/SERVICE"),
        ({"frontends": [{"name": "a b", "bind": ["127.0.0.1:1"]}]}, "haproxy.bad_name", "cannot be the name of a frontend"),
        ({"frontends": [{"name": "a", "bind": ["host:80"]}]}, "haproxy.bad_address", "is not an address and a port"),
        ({"frontends": [{"name": "a", "bind": ["*:99999"]}]}, "haproxy.bad_address", "is not address:port"),
        ({"frontends": [{"name": "a", "bind": []}]}, "input", "frontend a has no bind"),
        ({"frontends": []}, "input", "has no frontends"),
        ({"servers": [{"name": "a", "address": "127.0.0.1"}]}, "haproxy.bad_address", "is not address:port"),
        ({"servers": [{"name": "a;b", "address": "127.0.0.1:1"}]}, "haproxy.bad_name", "cannot be the name of a server"),
        ({"servers": [{"name": "a", "address": "127.0.0.1:1"}] * 2}, "input", "servers holds a twice"),
        ({"backend": {"name": "shop", "balance": "x\ny"}}, "haproxy.bad_line", "is not a way to balance"),
        ({"backend": {"name": "shop", "server_options": "check\nserver b 1:1"}}, "haproxy.bad_line", "line break"),
        ({"backend": {"name": "shop", "check": {"path": "/ x"}}}, "haproxy.bad_line", "check's path"),
        ({"backend": {"name": "shop", "check": {"path": "/", "status": "ok"}}}, "haproxy.bad_line", "check's status"),
        ({"backend": {"name": "shop", "server_options": ""}, "min_up": 1}, "input", "without `check`"),
        ({"min_up": 3}, "input", "there are 2 servers"),
        ({"answer": {"status": 200}}, "input", "must be 400 to 599"),
        ({"folder": "conf.d"}, "input", "not an absolute path"),
        ({"binary": "/nowhere/haproxy"}, "haproxy.no_binary", "There is no program"),
        ({"socket": "/nowhere.sock"}, "haproxy.socket_missing", "There is no socket"),
    ],
)
def test_bad_input(shop: Shop, given: dict[str, t.Any], code: str, words: str) -> None:
    refused(shop, code, words, **given)


def test_semicolon_in_quotes_is_a_value(shop: Shop) -> None:
    line = 'http-response set-header Strict-Transport-Security "max-age=1; includeSubDomains"'
    assert shop.act(frontends=[shop.frontend(options=[line])]).verdict.passed


def test_a_keyword_that_haproxy_does_not_know(shop: Shop) -> None:
    refused(shop, "haproxy.config_refused", "unknown keyword 'nonsense'", frontends=[shop.frontend(options=["nonsense 1"])])
    told = shop.act(check=True, frontends=[shop.frontend(options=["nonsense 1"])])
    assert told.verdict.code == "haproxy.config_refused"
    assert str(shop.file) in told.verdict.reason  # the copy's own path would help nobody
    assert told.before["file"] == "missing"


def test_a_name_that_another_file_has(shop: Shop) -> None:
    refused(shop, "haproxy.config_refused", "has the same name as backend 'be'", backend=shop.backend(name="be"))


def test_a_secret_in_a_refused_line_is_not_told(shop: Shop) -> None:
    told = shop.act(frontends=[shop.frontend(options=["nonsense password=geheim"])])
    assert told.verdict.code == "haproxy.config_refused"
    assert "geheim" not in str(told)


def test_a_bind_of_another_frontend(shop: Shop) -> None:
    """HAProxy's own check does not see it: it would share the port between both."""
    bind = "127.0.0.1:%d" % shop.lab.port
    refused(shop, "haproxy.bind_in_use", "haproxy (process", frontends=[shop.frontend(bind=[bind])])
    refused(
        shop,
        "haproxy.bind_in_use",
        "listens at *:%d already" % shop.lab.port,
        frontends=[shop.frontend(bind=["*:%d" % shop.lab.port])],
    )


def test_a_bind_of_another_program(shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", shop.port)):
        refused(shop, "haproxy.bind_in_use", "listens at 127.0.0.1:%d already" % shop.port)
    assert shop.act().verdict.passed


def test_a_folder_that_haproxy_does_not_read(shop: Shop) -> None:
    other = shop.lab.folder / "other.d"
    other.mkdir()
    refused(shop, "haproxy.folder_not_read", "in /etc/default/haproxy, and restart HAProxy once", folder=str(other))
    told = shop.act(folder=str(other))
    assert "EXTRAOPTS='-S %s -f %s -f %s'" % (shop.lab.master, shop.conf, other) in told.verdict.hint
    assert list(other.iterdir()) == []


def test_somebody_elses_edit_would_ride_along(shop: Shop) -> None:
    config = shop.lab.folder / "haproxy.cfg"
    config.write_text(config.read_text() + "backend theirs\n")
    refused(shop, "haproxy.pending_edits", "haproxy.cfg changed after HAProxy last read it")
    shop.lab.reload()
    assert shop.act().verdict.passed


def test_what_is_broken_already_is_not_called_ours(shop: Shop) -> None:
    broken = shop.conf / "theirs.cfg"
    broken.write_text("nonsense\n")
    os.utime(broken, (1, 1))
    refused(shop, "haproxy.config_broken", "as it is now, without this change")


def test_a_haproxy_without_master(make_lab: t.Callable[..., Lab]) -> None:
    import subprocess

    shop = Shop(make_lab(master=False))
    shop.lab.config()
    command = [str(HAPROXY), "-db", "-f", str(shop.lab.folder / "haproxy.cfg"), "-f", str(shop.conf)]
    shop.lab.process = subprocess.Popen(command, stdout=shop.lab.log, stderr=shop.lab.log)
    until(lambda: shop.lab.worker())
    try:
        refused(shop, "haproxy.no_master", "has no master process")
    finally:
        shop.stop()


def test_not_admin(shop: Shop) -> None:
    refused(shop, "haproxy.level", "level admin", socket=str(shop.lab.folder / "operator.sock"))


def test_a_reload_that_fails(shop: Shop) -> None:
    """Between our look and the reload somebody takes the port: HAProxy's check passes, and the new worker cannot start."""

    class Taken(Signal):
        held: socket.socket | None = None

        def __call__(self, timeout_s: float) -> None:
            if self.held is None:
                self.held = socket.create_server(("127.0.0.1", shop.port))
            super().__call__(timeout_s)

    shop.lab.raw("set server be/s2 state drain")
    before = snapshot(shop.conf), shop.proxies()
    order = Taken(shop.lab)
    told = shop.act(order=order)
    assert (told.verdict.code, told.changed) == ("haproxy.reload_failed", False)
    assert "cannot bind socket (Address already in use)" in told.verdict.reason
    assert "as it was before" in told.verdict.reason
    assert (snapshot(shop.conf), shop.proxies()) == before
    assert (shop.lab.mask("be/s1"), shop.lab.mask("be/s2")) == (0, 8)
    assert shop.lab.client().get() == "s1"
    assert order.held
    order.held.close()
    assert shop.act().verdict.passed


def test_a_reload_that_is_not_even_heard(shop: Shop) -> None:
    """systemctl refuses: the worker that runs has never seen the file, and goes on with all that it had."""

    class Deaf(Signal):
        def __call__(self, timeout_s: float) -> None:
            self.count += 1
            raise LifecycleError("systemctl reload failed.", "haproxy.reload_failed")

    shop.lab.raw("set server be/s2 state drain")
    before = snapshot(shop.conf), shop.proxies(), shop.lab.worker()
    told = shop.act(order=Deaf(shop.lab))
    assert (told.verdict.code, told.changed, told.after["file"]) == ("haproxy.reload_failed", False, "missing")
    assert (snapshot(shop.conf), shop.proxies(), shop.lab.worker()) == before
    assert shop.lab.mask("be/s2") == 8


def test_haproxy_ends_in_the_middle(shop: Shop) -> None:
    """It cannot be put back, that is said, and the note stays; when HAProxy runs again, the same call ends well."""

    class Ends(Signal):
        def __call__(self, timeout_s: float) -> None:
            process = self.lab.process
            assert process
            process.terminate()
            process.wait(10)

    told = shop.act(order=Ends(shop.lab), deadline=12)
    assert told.verdict.code == "haproxy.not_put_back"
    assert str(shop.note) in told.verdict.hint
    assert shop.names() == [".osops-shop.note"]
    shop.lab.start()
    again = shop.act(min_up=2)
    assert again.verdict.passed, again.verdict
    assert shop.names() == ["osops-shop.cfg"]


class Killed(Signal):
    """The process dies by ``number`` in the middle of its first reload: before HAProxy is told, or after."""

    def __init__(self, lab: Lab, number: int, told: bool) -> None:
        super().__init__(lab)
        self.number, self.told = number, told

    def __call__(self, timeout_s: float) -> None:
        if self.count or self.told:
            self.lab.reload()
        self.count += 1
        if self.count <= 2:
            os.kill(os.getpid(), self.number)


def die(shop: Shop, number: int, told: bool, **given: t.Any) -> None:
    """Act in a child that is killed on the way."""
    pid = os.fork()
    if not pid:
        try:
            end_in_order()
            shop.act(order=Killed(shop.lab, number, told), **given)
        finally:
            os._exit(3)
    _pid, status = os.waitpid(pid, 0)
    assert (os.WTERMSIG(status) if number == signal.SIGKILL else os.WEXITSTATUS(status)) == (
        number if number == signal.SIGKILL else 3
    )


@pytest.mark.parametrize("told", [False, True])
def test_killed_and_called_again(shop: Shop, told: bool) -> None:
    shop.lab.raw("set server be/s1 weight 7")
    shop.lab.raw("set server be/s2 state drain")
    looked = shop.act(check=True)
    die(shop, signal.SIGKILL, told)
    assert sorted(shop.names()) == [".osops-shop.note", "osops-shop.cfg"]
    assert ("FRONTEND/shop" in shop.proxies()) is told
    again = shop.act(expect=looked.before, resume=True, min_up=2)
    assert again.verdict.passed, again.verdict
    assert (again.before["loaded"], again.after["loaded"], again.changed) == (told, True, True)
    assert again.more["reloads"] == (0 if told else 1)
    assert (shop.lab.weight("be/s1"), shop.lab.mask("be/s2")) == (7, 8)
    assert shop.names() == ["osops-shop.cfg"]
    assert Client(shop.port).get() in shop.web


def test_the_reload_of_a_killed_call_comes_late(shop: Shop) -> None:
    """Ours and that one: the second forgets the drains that were just put back after the first."""
    workers = []

    class Twice(Signal):
        def late(self) -> None:
            workers.append(self.lab.worker())
            super().__call__(0.0)

        def __call__(self, timeout_s: float) -> None:
            super().__call__(timeout_s)
            threading.Timer(0.6, self.late).start()

    shop.lab.raw("set server be/s2 state drain")
    die(shop, signal.SIGKILL, False)
    again = shop.act(order=Twice(shop.lab), resume=True)
    assert again.verdict.passed, again.verdict
    until(lambda: workers and shop.lab.worker() not in (0, workers[0]))
    assert shop.lab.mask("be/s2") == 8


@pytest.mark.parametrize("told", [False, True])
def test_killed_during_a_change_then_the_servers_are_not_up(shop: Shop, told: bool) -> None:
    """The note still knows what was there before the first of the two calls."""
    assert shop.act(min_up=2).verdict.passed
    text = shop.file.read_bytes()
    bad = {"backend": shop.backend(check={"path": "/", "status": "204"}), "min_up": 1, "deadline": 12}
    die(shop, signal.SIGKILL, told, **bad)
    assert shop.file.read_bytes() != text
    again = shop.act(resume=True, **bad)
    assert again.verdict.code == "haproxy.min_up"
    assert shop.file.read_bytes() == text
    assert shop.names() == ["osops-shop.cfg"]
    assert shop.act(min_up=2).changed is False


@pytest.mark.parametrize("told", [False, True])
def test_absent_killed_and_called_again(shop: Shop, told: bool) -> None:
    shop.lab.raw("set server be/s2 state drain")
    made = shop.act()
    die(shop, signal.SIGKILL, told, state="absent")
    again = shop.act(state="absent", expect=made.after, resume=True)
    assert again.verdict.passed, again.verdict
    assert shop.names() == []
    assert "FRONTEND/shop" not in shop.proxies()
    assert shop.lab.mask("be/s2") == 8


@pytest.mark.parametrize("told", [False, True])
def test_ended_in_order_it_takes_itself_back(shop: Shop, told: bool) -> None:
    shop.lab.raw("set server be/s2 state drain")
    before = snapshot(shop.conf), shop.proxies()
    die(shop, signal.SIGTERM, told)
    assert (snapshot(shop.conf), shop.proxies()) == before
    assert shop.lab.mask("be/s2") == 8


def test_a_note_that_cannot_be_read(shop: Shop) -> None:
    shop.note.write_text("{}")
    told = shop.act()
    assert (told.verdict.outcome, told.changed) == ("error", False)
    assert "then remove the note" in told.verdict.hint
    assert shop.names() == [".osops-shop.note"]

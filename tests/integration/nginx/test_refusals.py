# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused, in one clear sentence, and that nothing was changed then."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
import typing as t
from pathlib import Path

import pytest

from tests.integration.haproxy.lab import Web, until
from tests.integration.nginx.conftest import act
from tests.integration.nginx.lab import NGINX, STREAM, Lab, pause

MakeLab = t.Callable[..., Lab]
State = tuple[dict[str, bytes], list[int]]


def state(lab: Lab) -> State:
    """All that a refused act must leave: every file but our own note, and the workers."""
    return {name: text for name, text in lab.texts().items() if not name.startswith("notes")}, lab.workers()


def refused(lab: Lab, code: str, *words: str, kinds: t.Sequence[str] = ("drain", "ready"), **given: t.Any) -> t.Any:
    """The act is refused with this code and these words, and nothing was changed."""
    before = state(lab)
    for kind in kinds:
        outcome = act(lab, kind, **given)
        assert outcome.verdict.code == code, outcome.verdict
        assert not outcome.verdict.passed
        assert not outcome.changed
        for word in words:
            assert word in outcome.verdict.reason + " " + outcome.verdict.hint, outcome.verdict
        assert outcome.verdict.reason.endswith("."), outcome.verdict.reason
        assert "\n" not in outcome.verdict.reason
    assert state(lab) == before
    return outcome


def test_unknown_address_and_upstream_are_named(lab: Lab) -> None:
    refused(lab, "nginx.unknown_server", "127.0.0.1:1", lab.web["s2"].address, names=["s1", "127.0.0.1:1"])
    refused(lab, "nginx.unknown_upstream", "nobe", "It has: be.", backends=["nobe"])
    refused(lab, "nginx.unknown_server", "be/s9", restore={"be/s9": {"admin": 0}})


@pytest.mark.parametrize(
    "given",
    [
        {"names": ["127.0.0.1"]},
        {"names": ["127.0.0.1:99999"]},
        {"names": ["127.0.0.1:80; server x"]},
        {"names": ["s1\n:80"]},
        {"names": []},
        {"backends": ["be; server x"]},
        {"backends": ["be\n"]},
        {"backends": [""]},
        {"restore": {"be/127.0.0.1:80": {"weight": "x"}}},
        {"restore": {"be/127.0.0.1:80": {"weight": 0}}},
        {"restore": {"be/127.0.0.1:80": {"admin": 8}}},
        {"restore": {"be/127.0.0.1:80": {"other": 1}}},
        {"restore": {"127.0.0.1:80": {"admin": 0}}},
        {"expect": {"be/127.0.0.1:80": 0}},
        {"min_available": -1},
        {"deadline": 0},
        {"config": "nginx.conf"},
        {"program": ""},
        {"program": "-s"},
    ],
)
def test_bad_arguments_and_injection(lab: Lab, given: dict[str, t.Any]) -> None:
    from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError

    before = state(lab)
    for kind in ("drain", "ready"):
        with pytest.raises(BadInputError) as error:
            act(lab, kind, **given)
        assert error.value.msg.endswith(".")
    assert state(lab) == before


def test_a_configuration_that_does_not_parse_is_left_alone(lab: Lab) -> None:
    text = lab.be()
    pause(0.3)
    (lab.upstreams / "be.conf").write_text(text.replace("}", ""))
    refused(lab, "nginx.broken", "nginx does not accept the configuration that is on disk now", "unexpected end of file")
    (lab.upstreams / "be.conf").write_text(text.replace("server", "servant", 1))
    refused(lab, "nginx.pending_change", "be.conf")
    lab.config.write_text(lab.config.read_text().replace("http {", "http {'"))
    refused(lab, "nginx.broken", "nginx.conf:")
    assert lab.answers() == {"s1", "s2"}


def test_a_broken_change_that_somebody_tried_to_load(lab: Lab) -> None:
    """nginx has refused it and serves with what it had; a reload of ours would be refused too."""
    pause(0.3)
    (lab.upstreams / "be.conf").write_text(lab.be().replace("server", "servant", 1))
    os.kill(lab.master, signal.SIGHUP)
    until(lambda: "unknown directive" in lab.said())
    refused(lab, "nginx.pending_change", "be.conf", "was changed and not loaded")


@pytest.mark.parametrize("how", ["edited", "added", "removed", "linked"])
def test_what_somebody_changed_and_did_not_load_is_not_loaded(make_lab: MakeLab, how: str) -> None:
    lab = make_lab()
    lab.write()
    (lab.upstreams / "z.conf").write_text("# nothing yet\n")
    (lab.folder / "other").write_text("# nothing either\n")
    lab.start()
    pause(0.3)
    changed = lab.upstreams / "z.conf"
    if how == "edited":
        changed.write_text("# half done\n")
        os.utime(changed, (1, 1))  # what rsync and editors can do to the time of the contents
    elif how == "added":
        changed = lab.upstreams / "zz.conf"
        changed.write_text("# half done\n")
    elif how == "removed":
        changed.unlink()
    else:
        changed.unlink()
        changed.symlink_to("../other")
    name = str(lab.upstreams if how in ("added", "removed") else changed)
    refused(lab, "nginx.pending_change", name, "reload nginx")
    refused(lab, "nginx.pending_change", name, check_mode=True)
    lab.reload()
    assert act(lab, "drain").verdict.passed
    changed.parent.joinpath("late.conf").write_text("# half done\n")
    refused(lab, "nginx.pending_change", "late.conf")
    changed.parent.joinpath("late.conf").unlink()  # taken back: known by what is in the files, not by their times
    assert act(lab, "ready").verdict.passed


def test_permissions_of_a_loaded_file_are_no_change_of_it(lab: Lab) -> None:
    assert act(lab, "drain").verdict.passed
    (lab.upstreams / "be.conf").chmod(0o600)
    (lab.upstreams / ".be.conf.swp").write_text("an editor looks at it")
    assert act(lab, "ready").verdict.passed


def test_change_that_nginx_does_not_accept(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a module of somebody else's that does not know the word: nothing is replaced, nothing is left."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx import upstreams

    monkeypatch.setattr(upstreams, "WORD", "dawn")
    changed = (lab.upstreams / "be.conf").stat().st_ctime_ns
    outcome = refused(lab, "nginx.broken", 'invalid parameter "dawn"', "with the changed lines", kinds=["drain"])
    assert (lab.upstreams / "be.conf").stat().st_ctime_ns == changed  # not even for a moment
    assert outcome.more["diff"] == {}
    assert not list((lab.folder / "notes").glob("trial*"))


def test_somebody_edits_another_file_while_ours_is_written(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is, nginx is not told; ours is taken back, and theirs stays."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx import reload

    lab = make_lab()
    lab.write()
    (lab.upstreams / "z.conf").write_text("")
    lab.start()
    text, workers, real = lab.be(), lab.workers(), reload.replace

    def replace(path: str, data: bytes) -> None:
        real(path, data)
        (lab.upstreams / "z.conf").write_text("# half done")

    monkeypatch.setattr(reload, "replace", replace)
    refusal = act(lab, "drain")
    assert refusal.verdict.code == "nginx.unlike", refusal.verdict
    assert lab.be() == text
    assert (lab.upstreams / "z.conf").read_text() == "# half done"
    assert lab.workers() == workers
    assert not refusal.changed


@pytest.mark.parametrize("moment", ["tried", "noted", "replaced"])
def test_somebody_edits_the_same_file_before_ours_is_written(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Our text was made from the former one: theirs must not be lost by it."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx import files, program, reload

    lab = make_lab()
    lab.write()
    theirs = lab.upstreams / "z.conf"
    theirs.write_text("upstream z { server %s; server %s; }" % tuple(web.address for web in lab.web.values()))
    lab.start()
    text, edit, workers = lab.be(), theirs.read_text() + "# theirs\n", lab.workers()
    owner, name = {
        "tried": (program.Tester, "try_out"),
        "noted": (files.Notes, "write"),
        "replaced": (reload, "replace"),
    }[moment]
    real, calls = getattr(owner, name), list[int]()

    def meanwhile(*given: t.Any) -> None:
        real(*given)
        calls.append(1)
        if len(calls) == 1:
            theirs.write_text(edit)

    monkeypatch.setattr(owner, name, meanwhile)
    refusal = act(lab, "drain")
    assert refusal.verdict.code == "nginx.unlike", refusal.verdict
    assert (lab.be(), theirs.read_text()) == (text, edit)
    assert lab.workers() == workers
    assert not refusal.changed


def test_the_files_themselves_are_tested_before_nginx_is_told(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only the copies: what these were tested with may be gone a moment later, here the folder of a log."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx import reload

    lab = make_lab()
    logs = lab.folder / "logs"
    logs.mkdir()
    lab.write(http="server { listen unix:%s/x.sock; access_log %s/x.log; }" % (lab.folder, logs))
    lab.start()
    text, workers, real = lab.be(), lab.workers(), reload.replace

    def replace(path: str, data: bytes) -> None:
        real(path, data)
        shutil.rmtree(logs, ignore_errors=True)

    monkeypatch.setattr(reload, "replace", replace)
    refusal = act(lab, "drain")
    assert refusal.verdict.code == "nginx.broken", refusal.verdict
    assert "logs/x.log" in refusal.verdict.reason
    assert lab.be() == text
    assert lab.workers() == workers


def test_reload_that_nginx_refuses(lab: Lab) -> None:
    """What `nginx -t` cannot foresee: here the master may open no more files."""
    text, changed, workers = lab.be(), (lab.upstreams / "be.conf").stat().st_ctime_ns, lab.workers()
    limits = resource.prlimit(lab.master, resource.RLIMIT_NOFILE)
    resource.prlimit(lab.master, resource.RLIMIT_NOFILE, (3, limits[1]))
    drained = act(lab, "drain")
    assert drained.verdict.code == "nginx.reload_refused"
    assert "Too many open files" in drained.verdict.reason
    assert (drained.changed, drained.after) == (False, drained.before)
    assert lab.be() == text
    assert (lab.upstreams / "be.conf").stat().st_ctime_ns != changed  # it was there for a moment, and is back
    assert lab.workers() == workers
    assert lab.answers() == {"s1", "s2"}
    resource.prlimit(lab.master, resource.RLIMIT_NOFILE, limits)
    assert act(lab, "drain").verdict.passed  # its own attempt is no change of somebody else's


def test_master_that_does_not_react(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx import drain

    monkeypatch.setattr(drain, "UNDO_S", 1.0)
    text = lab.be()
    os.kill(lab.master, signal.SIGSTOP)
    stuck = act(lab, "drain", deadline=4)
    assert stuck.verdict.code == "drain.not_put_back", stuck.verdict
    assert "has not started new workers" in stuck.verdict.reason
    assert stuck.changed  # not known, so not denied
    os.kill(lab.master, signal.SIGCONT)
    assert lab.be() == text
    ready = act(lab, "ready", resume=True)
    assert ready.verdict.passed, ready.verdict
    assert lab.be() == text
    assert lab.answers() == {"s1", "s2"}


def test_ready_that_the_master_does_not_react_to(lab: Lab) -> None:
    """The files say what the next reload of anybody's will do."""
    drained = act(lab, "drain")
    os.kill(lab.master, signal.SIGSTOP)
    stuck = act(lab, "ready", deadline=2)
    assert stuck.verdict.code == "nginx.reload_unconfirmed", stuck.verdict
    assert (stuck.before, stuck.after, stuck.changed) == (drained.after, drained.before, True)
    os.kill(lab.master, signal.SIGCONT)
    assert act(lab, "ready", resume=True).verdict.passed


def test_nginx_does_not_run(lab: Lab) -> None:
    text = lab.texts()
    assert lab.process
    lab.process.terminate()
    lab.process.wait()
    for pid in (None, "", "not a number", str(os.getpid()), "999999999"):
        if pid is not None:
            (lab.folder / "nginx.pid").write_text(pid)
        for kind in ("drain", "ready"):
            outcome = act(lab, kind)
            assert outcome.verdict.code == "nginx.not_running", outcome.verdict
            assert "nginx.pid" in outcome.verdict.reason
    assert lab.texts() == text


def test_no_program(lab: Lab) -> None:
    refused(lab, "nginx.program", "/nowhere/nginx cannot be started", program="/nowhere/nginx")
    refused(lab, "unknown_answer", "does not say which nginx", program="/bin/true")


def test_no_configuration(lab: Lab) -> None:
    refused(lab, "nginx.unreadable", "/nowhere.conf", config="/nowhere.conf")
    refused(lab, "nginx.unreadable", str(lab.folder), config=str(lab.folder))


def test_configuration_of_another_nginx(lab: Lab) -> None:
    other = lab.folder / "other.conf"
    other.write_text(lab.config.read_text())
    refused(lab, "nginx.other_config", str(lab.config), str(other), config=str(other))


def test_pid_file_of_another_nginx(make_lab: MakeLab) -> None:
    lab, other = make_lab(), make_lab()
    for one in (lab, other):
        one.write()
        one.start()
    refused(lab, "nginx.other_config", str(other.config), pid_file=str(other.folder / "nginx.pid"))


def test_server_past_every_upstream(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.write(http="server { listen unix:%s/x.sock; location / { proxy_pass http://%%(s1)s/x; } }" % lab.folder)
    lab.start()
    refused(
        lab, "nginx.direct", "nginx.conf:", "proxy_pass sends requests straight to %s" % lab.web["s1"].address, kinds=["drain"]
    )
    refused(lab, "nginx.direct", kinds=["drain"], check_mode=True)
    assert act(lab, "drain", backends=["be"]).verdict.passed
    lab.web["s9"] = Web("s9")
    only = make_lab(())
    only.web = lab.web
    only.write(
        "upstream be { server %(s2)s; }",
        http="server { listen unix:%s/x.sock; location / { proxy_pass http://%%(s9)s; } }" % only.folder,
    )
    only.start()
    refused(only, "nginx.unknown_server", lab.web["s9"].address, "proxy_pass", names=["s9"])
    only.web = {}


def test_upstream_that_lua_decides_in(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """This nginx has no Lua: a directive that it does have stands for it."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx import upstreams

    monkeypatch.setattr(upstreams, "LUA_BALANCERS", ("keepalive",))
    lab = make_lab()
    lab.write("upstream be { server %(s1)s; server %(s2)s; } upstream lua { server %(s2)s; keepalive 1; }")
    lab.start()
    refused(lab, "nginx.lua", "be.conf:1: Lua code decides in upstream lua", names=["s2"])
    refused(lab, "nginx.lua", names=["s2"], check_mode=True)
    drained = act(lab, "drain")
    assert drained.verdict.passed, drained.verdict
    assert drained.verdict.evidence["variables"] == ["%s:1" % (lab.upstreams / "be.conf")]


def test_way_by_a_variable_is_named(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.write(http="server { listen unix:%s/x.sock; location / { set $to %%(s1)s; proxy_pass http://$to; } }" % lab.folder)
    lab.start()
    drained = act(lab, "drain")
    assert drained.verdict.passed
    assert len(drained.verdict.evidence["variables"]) == 1


def test_a_way_that_is_not_seen_is_noticed_by_its_connections(make_lab: MakeLab) -> None:
    from tests.integration.haproxy.lab import Client
    from tests.ports import free_port

    lab, port = make_lab(), free_port()
    lab.write(http="server { listen 127.0.0.1:%d; location / { set $to %%(s1)s; proxy_pass http://$to; } }" % port)
    lab.start()
    stop = threading.Event()

    def visit() -> None:
        while not stop.is_set():
            client = Client(port)
            client.get("/slow/0.4")
            client.close()

    thread = threading.Thread(target=visit)
    thread.start()
    try:
        until(lambda: lab.web["s1"].seen > 0)
        drained = act(lab, "drain", deadline=4, policy="fail")
    finally:
        stop.set()
        thread.join()
    assert drained.verdict.code == "drain.sessions_left"
    assert "by a way that this module does not see" in drained.verdict.reason
    assert "nginx.conf:" in drained.verdict.hint
    assert not lab.down("s1")


def test_short_requests_by_a_way_that_is_not_seen_are_noticed(make_lab: MakeLab) -> None:
    """Between two of them nothing is connected: one look is not enough."""
    from tests.integration.haproxy.lab import Client
    from tests.ports import free_port

    lab, port = make_lab(), free_port()
    lab.write(http="server { listen 127.0.0.1:%d; location / { set $to %%(s1)s; proxy_pass http://$to; } }" % port)
    lab.start()
    stop = threading.Event()

    def visit() -> None:
        while not stop.wait(0.01):
            client = Client(port)
            client.get("/slow/0.01")
            client.close()

    thread = threading.Thread(target=visit)
    thread.start()
    try:
        until(lambda: lab.web["s1"].seen > 0)
        drained = act(lab, "drain", deadline=4, policy="fail")
    finally:
        stop.set()
        thread.join()
    assert drained.verdict.code == "drain.sessions_left", drained.verdict
    assert not lab.down("s1")
    assert act(lab, "drain").verdict.passed


def test_name_with_several_addresses(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the name means is set here, because hosts differ in it; nginx reads the real one."""
    lab = make_lab()
    port = lab.web["s1"].port
    lab.write("upstream be { server localhost:%d; server %%(s2)s; }" % port)
    lab.start()
    found = [(2, 1, 6, "", ("127.0.0.1", 0)), (10, 1, 6, "", ("::1", 0, 0, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_given, **_named: found)
    refused(lab, "nginx.many_addresses", "localhost:%d stands for 2 addresses" % port)
    drained = act(lab, "drain", ["LOCALHOST:%d" % port])
    assert drained.verdict.passed, drained.verdict
    assert "localhost:%d down;" % port in lab.be()


@pytest.mark.skipif(not STREAM.exists(), reason="nginx's stream module is not installed")
def test_one_name_in_http_and_in_stream(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.write(main="load_module %s;" % STREAM, end="stream { upstream be { server %(s1)s; } }")
    lab.start()
    refused(lab, "nginx.ambiguous", "in http and in stream")


def test_one_server_in_and_out_of_traffic(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.write("upstream be { server %(s1)s; server %(s1)s down; server %(s2)s; }")
    lab.start()
    refused(lab, "nginx.ambiguous", "more than once", "be.conf:1")


def test_variable_in_a_server_line(make_lab: MakeLab) -> None:
    """nginx takes it for a host's name, and refuses it: so it is never in a configuration that runs."""
    lab = make_lab()
    lab.write()
    (lab.upstreams / "v.conf").write_text("")
    lab.start()
    (lab.upstreams / "v.conf").write_text("upstream v { server $backend:80; }")
    done = subprocess.run([NGINX or "", "-t", "-p", str(lab.folder), "-c", str(lab.config)], capture_output=True, check=False)
    assert b'host not found in upstream "$backend:80"' in done.stderr
    for kind in ("drain", "ready"):
        assert act(lab, kind).verdict.code in ("nginx.broken", "nginx.pending_change")
    assert lab.answers() == {"s1", "s2"}


def test_one_line_of_two_upstreams(make_lab: MakeLab) -> None:
    lab = make_lab()
    (lab.folder / "all.inc").write_text("".join("server %s;\n" % web.address for web in lab.web.values()))
    lab.write("upstream be { include all.inc; } upstream b { include all.inc; }")
    lab.start()
    refused(lab, "nginx.shared_line", "all.inc:1", "the upstream b too", backends=["be"])
    assert act(lab, "drain").verdict.passed


def test_file_with_a_second_name(lab: Lab) -> None:
    os.link(lab.upstreams / "be.conf", lab.folder / "be.copy")
    lab.reload()
    refused(lab, "nginx.hard_link", "be.conf", kinds=["drain"])


def test_file_that_cannot_be_replaced(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two files fails: the first one is put back, and nginx is told nothing."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx import files

    lab = make_lab()
    lab.write()
    (lab.upstreams / "z.conf").write_text("upstream z { server %s; server %s; }" % tuple(web.address for web in lab.web.values()))
    lab.start()
    real, count = os.replace, 0

    def once(source: str, target: str) -> None:
        nonlocal count
        if str(target).endswith(".conf"):
            count += 1
            if count == 2:
                raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(files.os, "replace", once)
    refused(lab, "nginx.file", "No space left on device", kinds=["drain"])
    monkeypatch.undo()
    assert count == 3
    assert act(lab, "drain").verdict.passed


@pytest.mark.parametrize("which", ["be.conf", "z.conf"])
def test_file_that_cannot_be_put_back(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    """Both were replaced, then nothing more can be done to one of them: the other one is put back, and it is said."""
    from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
    from ansible_collections.osops.lifecycle.plugins.module_utils._nginx import files, program

    lab = make_lab()
    lab.write()
    (lab.upstreams / "z.conf").write_text("upstream z { server %s; server %s; }" % tuple(web.address for web in lab.web.values()))
    lab.start()
    texts, workers, real, count = state(lab)[0], lab.workers(), os.replace, 0

    def once(source: str, target: str) -> None:
        nonlocal count
        if str(target).endswith(which):
            count += 1
            if count > 1:
                raise OSError(30, "Read-only file system")
        real(source, target)

    same, asked = program.Tester.require_same, list[int]()

    def gone(tester: t.Any, tree: t.Any) -> None:
        asked.append(1)
        if len(asked) == 2:
            raise LifecycleError("It was killed.", "nginx.broken")
        same(tester, tree)

    monkeypatch.setattr(files.os, "replace", once)
    monkeypatch.setattr(program.Tester, "require_same", gone)
    drained = act(lab, "drain")
    monkeypatch.undo()
    assert drained.verdict.code == "drain.not_put_back", drained.verdict
    assert "It was killed." in drained.verdict.reason
    assert "Read-only file system" in drained.verdict.reason
    left = {name for name, text in state(lab)[0].items() if text != texts[name]}
    assert left == {"conf.d/" + which}
    assert drained.changed
    assert {key.split("/")[0] for key, found in drained.after.items() if found["admin"]} == {which[0].replace("b", "be")}
    assert lab.workers() == workers
    assert act(lab, "ready", restore=drained.before).verdict.passed
    assert state(lab)[0] == texts


def test_floor_counts_only_servers_that_take_connections(make_lab: MakeLab) -> None:
    lab = make_lab(("s1", "s2", "s3", "s4"))
    lab.write("upstream be { server %(s1)s; server %(s2)s down; server %(s3)s; server %(s4)s; }")
    lab.start()
    lab.web["s4"].die()
    outcome = refused(lab, "drain.floor", "be would have 1, and min_available is 2", kinds=["drain"], min_available=2)
    assert outcome.verdict.evidence["left"] == {"be": 1}
    refused(lab, "drain.floor", kinds=["drain"], min_available=2, check_mode=True)
    assert act(lab, "drain", min_available=1).verdict.passed


def test_backup_servers_count_only_when_no_other_is_left(make_lab: MakeLab) -> None:
    lab = make_lab(("s1", "s2", "b1", "b2"))
    lab.write("upstream be { server %(s1)s; server %(s2)s; server %(b1)s backup; server %(b2)s backup; }")
    lab.start()
    refused(lab, "drain.floor", "be would have 1", kinds=["drain"], min_available=2)
    assert act(lab, "drain", ["s1", "s2"], min_available=2).verdict.passed
    assert lab.answers() == {"b1", "b2"}


def test_only_one_healthy_server(lab: Lab) -> None:
    lab.web["s2"].die()
    started = time.monotonic()
    refused(lab, "drain.floor", "be would have 0, and min_available is 1", kinds=["drain"], deadline=60)
    assert time.monotonic() - started < 4


def test_second_server_dies_after_the_drain_and_the_second_call_says_so(lab: Lab) -> None:
    first = act(lab, "drain")
    lab.web["s2"].die()
    again = act(lab, "drain", expect=first.after)
    assert again.verdict.code == "drain.floor"
    assert lab.down("s1")  # this call drained nothing, so it puts nothing back
    assert act(lab, "ready", restore=first.before).verdict.passed
    assert lab.answers() == {"s1"}


def test_second_server_dies_during_the_wait_and_the_drained_one_goes_back(lab: Lab) -> None:
    lab.websocket_on("s1")
    threading.Timer(1.0, lab.web["s2"].die).start()
    drained = act(lab, "drain", deadline=20)
    assert drained.verdict.code == "drain.floor"
    assert "Another server failed during the drain" in drained.verdict.reason
    assert not lab.down("s1")
    assert lab.answers() == {"s1"}


def test_somebody_else_was_here(lab: Lab) -> None:
    address = lab.web["s1"].address
    drained = act(lab, "drain")
    Path(lab.upstreams / "be.conf").write_text(lab.be().replace(" down", ""))
    lab.reload()
    refused(lab, "expect.foreign", "be/%s.admin" % address, kinds=["drain"], expect=drained.after)
    refused(lab, "expect.foreign", kinds=["drain"], expect={"be/" + address: {"admin": 0, "weight": 5}})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
def test_without_rights(lab: Lab) -> None:
    for path in (lab.folder.parent, lab.folder, lab.upstreams):
        path.chmod(0o755)
    before = state(lab)
    os.seteuid(65534)
    try:
        outcome = act(lab, "drain")
    finally:
        os.seteuid(0)
    assert "become" in outcome.verdict.hint, outcome.verdict
    assert state(lab) == before

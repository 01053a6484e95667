# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A check that is a program: what it is told, what its end means, and that nothing of it outlives its time."""

from __future__ import annotations

import os
import signal
import stat
import time
import uuid
from pathlib import Path

import pytest

from tests.integration.consumer_check.consumer import USER, Consumer, Instance, processes, until

SECRET = "s3-cret-of-the-consumer"  # noqa: S105 - no real one


def test_a_program_that_is_content_passes(consumer: Consumer, instance: Instance) -> None:
    program = consumer.program('echo "asked $OSOPS_ENDPOINT for $OSOPS_VERSION"')
    answer = consumer.call(command=[program], endpoint=instance.endpoint, component="keystone-api", host="ctl1", version="29.0.2")
    verdict = answer["verdict"]
    assert (verdict["outcome"], verdict["code"]) == ("pass", "check.passed")
    assert verdict["reason"].startswith("The check billing of keystone-api@ctl1 passed (exit code 0, ")
    assert verdict["evidence"]["stdout"] == "asked %s for 29.0.2\n" % instance.endpoint
    assert (verdict["evidence"]["rc"], verdict["evidence"]["check"]) == (0, "billing")
    assert answer["diff"] == {"before": {}, "after": {}}
    assert instance.seen == ["/"], "the instance is asked once whether it answers; the rest is the program's business"


def test_what_it_finds_around_it(consumer: Consumer, instance: Instance) -> None:
    """A user of its own, a session of its own, no input, and nothing of our environment."""
    program = consumer.program("id -un", "pwd", "cat | wc -c", "ps -o sid= -p $$ | tr -d ' '", "echo $$", "env | sort")
    told = {
        "service": "keystone",
        "component": "keystone-api",
        "host": "ctl1",
        "version": "29.0.2",
        "endpoint": instance.endpoint,
    }
    verdict = consumer.verdict(command=[program, "x"], secrets={"BILLING_PASSWORD": SECRET}, user=USER, **told)
    lines = verdict["evidence"]["stdout"].splitlines()
    assert lines[:3] == [USER, "/", "0"]
    assert lines[3] == lines[4], "it leads its session"
    names = {line.partition("=")[0]: line.partition("=")[2] for line in lines[5:]}
    ours = {"OSOPS_" + name.upper(): value for name, value in told.items()}
    assert {name: value for name, value in names.items() if name.startswith("OSOPS_")} == ours
    assert set(names) - set(ours) == {"PATH", "LANG", "LC_ALL", "HOME", "USER", "LOGNAME", "BILLING_PASSWORD", "PWD"}
    assert names["BILLING_PASSWORD"] == "***"  # noqa: S105 - what is left of it


@pytest.mark.parametrize(
    ("lines", "how"),
    [
        (("echo fine so far", "echo no such tenant >&2", "exit 3"), "exit code 3: no such tenant."),
        (("echo it is broken", "exit 1"), "exit code 1: it is broken."),
        (("exit 1",), "exit code 1: it said nothing."),
        (("kill -KILL $$",), "signal 9 ended it: it said nothing."),
    ],
)  # fmt: skip
def test_any_other_end_fails(consumer: Consumer, lines: tuple[str, ...], how: str) -> None:
    verdict = consumer.failure("check.failed", command=[consumer.program(*lines)], component="keystone-api", host="ctl1")
    assert verdict["reason"] == "The check billing of keystone-api@ctl1 failed: " + how


def test_words_are_words(consumer: Consumer) -> None:
    """No shell sees them."""
    program = consumer.program('printf "%s|" "$@"')
    words = ["$(id)", "a b", "; exit 1", "*", "{endpoint}", ""]
    assert consumer.verdict(command=[program, *words])["evidence"]["stdout"] == "".join(word + "|" for word in words)


def test_the_end_of_its_output_is_kept(consumer: Consumer) -> None:
    program = consumer.program("yes 0123456789 | head -c 3000000", "echo the end", "yes abcdefghi | head -c 300000 >&2", "exit 1")
    evidence = consumer.failure("check.failed", command=[program])["evidence"]
    assert (len(evidence["stdout"]), len(evidence["stderr"])) == (2000, 2000)
    assert evidence["stdout"].endswith("01234567the end\n") or evidence["stdout"].endswith("the end\n")
    assert set(evidence["stderr"]) == set("abcdefghi\n")


def test_bytes_that_are_no_text(consumer: Consumer) -> None:
    evidence = consumer.verdict(command=[consumer.program(r"printf 'a\377b\000c'")])["evidence"]
    assert evidence["stdout"] == "a\ufffdb\0c"


def test_secrets_are_taken_out_of_what_it_says(consumer: Consumer) -> None:
    key = "-----BEGIN KEY-----\nZm9vYmFyZm9vYmFy\n-----END KEY-----\n"
    program = consumer.program(
        'echo "password is $BILLING_PASSWORD"', 'echo "$KEY" | sed -n 2p', 'echo "${BILLING_PASSWORD}x${BILLING_PASSWORD}" >&2',
        'echo "http://me:other@192.0.2.9/" >&2', 'tr "\\0" "\\n" < /proc/self/environ', 'exec 3>&1', 'echo "$BILLING_PASSWORD" >&2', "exit 1",
    )  # fmt: skip
    verdict = consumer.failure("check.failed", command=[program], secrets={"BILLING_PASSWORD": SECRET, "KEY": key})
    assert SECRET not in consumer.said
    assert "Zm9vYmFyZm9vYmFy" not in consumer.said
    assert "me:other" not in consumer.said
    assert verdict["evidence"]["stdout"].startswith("password is ***\n***\n")
    assert verdict["reason"].endswith("failed: exit code 1: ***.")


@pytest.mark.parametrize(
    "secret", ["abcdefghij" * 25, "".join(chr(97 + n * n % 26) for n in range(250))], ids=["periodic", "mixed"]
)
def test_a_secret_that_the_cut_goes_through_is_not_shown_in_part(consumer: Consumer, secret: str) -> None:
    """64 KiB of output are kept, wherever that begins; what is left of them after masking is less than what is shown."""
    program = consumer.program('i=0; while [ $i -lt 400 ]; do printf "%s" "$LONG"; i=$((i+1)); done', "exit 1")
    evidence = consumer.failure("check.failed", command=[program], secrets={"LONG": secret})["evidence"]
    assert 0 < len(evidence["stdout"]) <= 2000
    assert set(evidence["stdout"]) == {"*"}


def test_it_ends_at_its_deadline_with_all_that_it_started(consumer: Consumer) -> None:
    mark = uuid.uuid4().hex
    program = consumer.program("trap '' TERM HUP", "sleep 100 &", "(sleep 101 & sleep 102)", "sleep 103")
    begun = time.monotonic()
    verdict = consumer.failure("check.deadline", command=[program, mark], secrets={"MARK": mark}, timeout=1)
    assert 1.0 <= verdict["evidence"]["seconds"] < 3
    assert time.monotonic() - begun < 15
    assert "did not end within 1 s and was killed" in verdict["reason"]
    until(lambda: processes(mark) == [], 5)


def test_the_deadline_of_the_act_is_its_own_too(consumer: Consumer) -> None:
    verdict = consumer.failure("check.deadline", command=[consumer.program("sleep 100")], timeout=60, deadline=2)
    assert verdict["evidence"]["seconds"] < 4


def test_what_it_leaves_behind_ends_with_it(consumer: Consumer) -> None:
    """A process that holds its output open neither keeps the check waiting nor stays."""
    mark = uuid.uuid4().hex
    begun = time.monotonic()
    verdict = consumer.verdict(command=[consumer.program("sleep 100 &", "echo done")], secrets={"MARK": mark})
    assert (verdict["code"], verdict["evidence"]["stdout"]) == ("check.passed", "done\n")
    assert time.monotonic() - begun < 15
    until(lambda: processes(mark) == [], 5)


def test_who_leaves_its_group_keeps_nobody_waiting(consumer: Consumer) -> None:
    mark = uuid.uuid4().hex
    begun = time.monotonic()
    program = consumer.program('setsid sh -c "while sleep 0.1; do echo still here; done" &', "echo done")
    try:
        verdict = consumer.verdict(command=[program], secrets={"MARK": mark})
        assert verdict["code"] == "check.passed"
        assert time.monotonic() - begun < 15
    finally:
        for pid in processes(mark):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_when_the_module_is_ended_so_is_the_check(consumer: Consumer, number: signal.Signals) -> None:
    """A lost connection must not leave a check that goes on asking an instance which is being taken back."""
    mark = uuid.uuid4().hex
    process = consumer.start(command=[consumer.program("sleep 100 & sleep 101")], secrets={"MARK": mark})
    until(lambda: len(processes(mark)) >= 2)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    until(lambda: processes(mark) == [], 5)


def test_check_mode_runs_nothing(consumer: Consumer, instance: Instance) -> None:
    program = consumer.program("touch %s" % (consumer.folder / "ran"))
    consumer.folder.chmod(0o777)
    asked = {"command": [program, "--once"], "endpoint": instance.endpoint, "component": "keystone-api", "host": "ctl1"}
    verdict = consumer.verdict(check=True, **asked)
    assert (verdict["outcome"], verdict["code"]) == ("pass", "check.not_run")
    assert verdict["reason"] == "It would ask about keystone-api@ctl1, as nobody: %s --once" % program
    assert not (consumer.folder / "ran").exists()
    assert instance.seen == []
    assert not list(Path("/var/lib/osops/fence").glob(consumer.scope + "*")), "check mode leaves nothing behind"
    consumer.verdict(**asked)
    assert (consumer.folder / "ran").exists(), "the same call without check mode does run it"


@pytest.mark.parametrize("check", [True, False], ids=["look", "act"])
def test_what_cannot_be_run_is_known_before(consumer: Consumer, check: bool) -> None:
    program = consumer.program("exit 0")
    told = {
        "there is no user no-such-user": {"command": [program], "user": "no-such-user"},
        "%s/nonesuch: No such file or directory" % consumer.folder: {"command": ["%s/nonesuch" % consumer.folder]},
        "%s is not a file" % consumer.folder: {"command": [str(consumer.folder)]},
        "the user nobody may not execute %s/data" % consumer.folder: {"command": [consumer.program(mode=0o644, name="data")]},
        "the user nobody may not execute %s/mine" % consumer.folder: {"command": [consumer.program(mode=0o700, name="mine")]},
    }
    for why, how in told.items():
        verdict = consumer.failure("check.not_runnable", check=check, **how)
        assert verdict["reason"] == "The check billing cannot be run on this host: %s." % why
    assert stat.S_IMODE((consumer.folder / "mine").stat().st_mode) == 0o700
    consumer.folder.chmod(0o700)
    closed = consumer.failure("check.not_runnable", check=check, command=[program])
    assert "the user nobody may not execute" in closed["reason"], "a folder on the way is closed"


def test_a_program_for_another_machine_is_not_runnable(consumer: Consumer) -> None:
    path = consumer.folder / "strange"
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(64))
    path.chmod(0o755)
    assert "Exec format error" in consumer.failure("check.not_runnable", command=[str(path)])["reason"]


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({}, "exactly one of command and url is needed"),
        ({"command": ["/bin/true"], "url": "http://192.0.2.9/"}, "exactly one of command and url is needed"),
        ({"command": ["true"]}, "the program true is not named by its whole path"),
        ({"command": ["/bin/true", "a\0b"]}, "no word of the command and no secret can hold a zero byte"),
        ({"command": ["/bin/true"], "secrets": {"A": "b\0c"}}, "no word of the command and no secret can hold a zero byte"),
        ({"command": ["/bin/true"], "secrets": {"OSOPS_HOST": "x"}}, "a secret cannot reach it as OSOPS_HOST"),
        ({"command": ["/bin/true"], "timeout": 0}, "a timeout of 0 s leaves no time for an answer"),
    ],
)
def test_bad_input_is_one_sentence(consumer: Consumer, args: dict[str, object], why: str) -> None:
    for check in (True, False):
        assert consumer.failure("check.input", check=check, **args)["reason"] == "The check billing cannot be run: %s." % why
    bad = consumer.failure("check.input", command=["/bin/true"], name="Our Check")
    assert bad["reason"] == "The check Our Check cannot be run: the name 'Our Check' holds characters that are not allowed."


def test_one_instance_after_the_other_and_nobody_else_waits(consumer: Consumer) -> None:
    """Two instances of a batch are not asked at once by the same check; another act on this host is not held up by it."""
    log = consumer.folder / "log"
    consumer.folder.chmod(0o777)
    program = consumer.program('echo "begin $OSOPS_HOST" >> %s' % log, "sleep 1", 'echo "end $OSOPS_HOST" >> %s' % log)
    started = [consumer.start(command=[program], host=host, token=7) for host in ("ctl1", "ctl2")]
    until(lambda: log.exists() and log.read_text().count("begin") == 1)
    other = consumer.verdict(command=["/bin/true"], name="other", token=7, deadline=1)
    assert other["code"] == "check.passed"
    for process in started:
        assert consumer.finish(process)["verdict"]["code"] == "check.passed"
    words = [line.split() for line in log.read_text().splitlines()]
    assert [word for word, _host in words] == ["begin", "end", "begin", "end"]
    assert words[0][1] == words[1][1] != words[2][1]
    stale = consumer.failure("fence.stale_token", command=[program], token=6)
    assert "newer holder" in stale["reason"]

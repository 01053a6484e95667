# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A check that is an address; and the wait for an instance that is still starting."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import yaml

from tests.integration.consumer_check.consumer import Consumer, Instance, until


def test_the_status_that_is_wanted_passes(consumer: Consumer, instance: Instance) -> None:
    instance.answers.update({"/health": 200, "/v3": 300})
    verdict = consumer.verdict(url=instance.endpoint + "/health", endpoint=instance.endpoint)
    assert (verdict["outcome"], verdict["code"]) == ("pass", "check.passed")
    assert verdict["evidence"]["status"] == 200
    assert verdict["evidence"]["body"] == "hello, token=***"
    assert "gAAAA" not in consumer.said
    assert consumer.verdict(url=instance.endpoint + "/v3", status=300)["code"] == "check.passed"
    assert instance.seen == ["/", "/health", "/v3"]


@pytest.mark.parametrize("status", [204, 302, 404, 503])
def test_any_other_status_fails(consumer: Consumer, instance: Instance, status: int) -> None:
    """It is asked once: only the instance itself is waited for, not what a consumer says of it."""
    instance.answers["/health"] = status
    verdict = consumer.failure("check.failed", url=instance.endpoint + "/health")
    assert "%s/health answered %d instead of 200." % (instance.endpoint, status) in verdict["reason"]
    assert verdict["evidence"]["status"] == status
    assert instance.seen == ["/health"]


def test_no_answer_fails(consumer: Consumer, instance: Instance) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        closed = "http://127.0.0.1:%d/" % held.getsockname()[1]
        assert "refused the connection" in consumer.failure("check.failed", url=closed)["reason"]
    instance.answers["/slow"] = None
    begun = time.monotonic()
    verdict = consumer.failure("check.deadline", url=instance.endpoint + "/slow", timeout=1)
    assert "did not answer within 1 s" in verdict["reason"]
    assert time.monotonic() - begun < 15


def test_an_address_that_is_none(consumer: Consumer) -> None:
    for url in ("ftp://192.0.2.9/", "http://me:secret@192.0.2.9/"):
        verdict = consumer.failure_of_any(url=url)
        assert verdict["code"] == "input.url"
        assert "secret" not in verdict["reason"]


def test_check_mode_sends_nothing(consumer: Consumer, instance: Instance) -> None:
    verdict = consumer.verdict(check=True, url=instance.endpoint + "/health", endpoint=instance.endpoint)
    assert verdict["reason"] == "It would ask about %s, GET %s/health" % (instance.endpoint, instance.endpoint)
    assert instance.seen == []


def test_an_instance_that_is_starting_is_waited_for(consumer: Consumer, instance: Instance) -> None:
    """A server binds its port before it can serve: a check that is begun then would turn a good release back."""
    instance.answers.update({"/": 503})
    program = consumer.program('echo "begun"')
    process = consumer.start(command=[program], endpoint=instance.endpoint, deadline=60, timeout=5)
    until(lambda: len(instance.seen) >= 3)
    assert process.poll() is None
    instance.answers["/"] = 300
    assert consumer.finish(process)["verdict"]["code"] == "check.passed"


def test_an_instance_that_never_answers(consumer: Consumer, instance: Instance) -> None:
    instance.answers.update({"/": 503})
    ran = consumer.folder / "ran"
    consumer.folder.chmod(0o777)
    asked = {"command": [consumer.program("touch %s" % ran)], "timeout": 2}
    verdict = consumer.failure("check.not_ready", endpoint=instance.endpoint, deadline=4, **asked)
    assert "gives no answer to this host after 2 s (it answers 503)" in verdict["reason"]
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        closed = "http://127.0.0.1:%d" % held.getsockname()[1]
        assert "refused" in consumer.failure("check.not_ready", endpoint=closed, deadline=3, **asked)["reason"]
    assert not ran.exists()


def test_what_does_not_speak_http_is_ready_when_it_answers(consumer: Consumer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _address = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"ERROR\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        endpoint = "http://127.0.0.1:%d" % server.getsockname()[1]
        assert consumer.verdict(command=["/bin/true"], endpoint=endpoint)["code"] == "check.passed"
        thread.join(5)
        assert not thread.is_alive()


def test_the_examples_are_good_input(consumer: Consumer) -> None:
    from ansible_collections.osops.lifecycle.plugins.module_utils._consumer import prepare
    from ansible_collections.osops.lifecycle.plugins.modules.consumer_check import EXAMPLES

    tasks = yaml.safe_load(EXAMPLES)
    assert len(tasks) == 2
    defaults = {
        "status": 200, "timeout": 60, "user": "nobody",
        **dict.fromkeys(("command", "url", "endpoint", "ca_file", "server_name", "service", "component", "host", "version", "secrets")),
    }  # fmt: skip
    for task in tasks:
        assert callable(prepare({**defaults, **task["osops.lifecycle.consumer_check"]}))

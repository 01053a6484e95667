# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drafts of a record: what two hosts say differently, or what a record has no room for, is said and never guessed."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import pathlib
import typing as t

import pytest
import yaml

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import drafted, exported, knowledge, model, record

HOSTS, BALANCERS = ("ctl1", "ctl2"), ("lb1", "lb2")
ADDRESSES = {"ctl1": "192.0.2.11", "ctl2": "192.0.2.12"}
WISH = drafted.Wish("blue", ("keystone",), HOSTS, BALANCERS)
RECIPES = {"keystone": knowledge.recipe("keystone")}
UNIT = {
    "name": "keystone-wsgi.service",
    "user": "keystone",
    "fragment": "/etc/systemd/system/keystone-wsgi.service",
    "drop_ins": [],
    "starts_from": "/srv/keystone/venv",
    "problem": "",
}
CONFIG = {"path": "/etc/keystone/keystone.conf", "named_by": "environment", "sha256": "a" * 64, "problem": ""}
DRAFT = {
    "cloud": "blue",
    "services": {
        "keystone": {
            "release": {"driver": "osops.lifecycle.artifact_source", "version": "23.0.2"},
            "components": {
                "keystone-api": {
                    "hosts": ["ctl1", "ctl2"],
                    "unit": "keystone-wsgi.service",
                    "port": 5000,
                    "options": {"path": "/opt/osops/keystone", "adopt": "/srv/keystone/venv"},
                }
            },
            "traffic": {"driver": "osops.lifecycle.haproxy_server", "hosts": ["lb1", "lb2"], "backends": ["keystone"]},
        }
    },
}


def row(**more: t.Any) -> dict[str, t.Any]:
    """One instance as service_info tells it."""
    found = {
        "listen": ["0.0.0.0:5000"], "pids": [812, 815], "program": "uwsgi", "behind": "", "version": "23.0.2", "problem": "", "prefix": "/srv/keystone/venv",
        "virtual": True, "known_by": ["port", "word"], "user": "keystone", "unit": dict(UNIT), "container": "", "package": "", "config": [dict(CONFIG)],
    }  # fmt: skip
    return {**found, **more}


def server(name: str, address: str, **more: t.Any) -> dict[str, t.Any]:
    return {"server": name, "address": address, "health": "up", "backup": False, **more}


class Cloud:
    """What every host answers; a test changes what it is about."""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, t.Any]] = {}
        for host in HOSTS:
            self.answers[self.at(host)] = {"instances": [row()], "others": [], "unseen": []}
        for host in BALANCERS:
            servers = [server("keystone/" + name, ADDRESSES[name] + ":5000") for name in HOSTS]
            self.answers[drafted.balancer_key(host)] = {
                "level": "admin",
                "servers": [*servers, server("glance/x", "192.0.2.99:9292")],
            }

    @staticmethod
    def at(host: str) -> str:
        return drafted.instances_key("keystone-api", host)

    def change(self, host: str, **more: t.Any) -> Cloud:
        """Change the first instance of a host."""
        self.answers[self.at(host)]["instances"][0].update(copy.deepcopy(more))
        return self

    def everywhere(self, **more: t.Any) -> Cloud:
        for host in HOSTS:
            self.change(host, **more)
        return self

    def servers(self, balancer: str) -> list[dict[str, t.Any]]:
        return t.cast("list[dict[str, t.Any]]", self.answers[drafted.balancer_key(balancer)]["servers"])

    def draft(self, addresses: t.Mapping[str, str] = ADDRESSES, **wish: t.Any) -> drafted.Drafted:
        return drafted.draft(dataclasses.replace(WISH, **wish), RECIPES, addresses, self.answers)


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def refused(made: drafted.Drafted, *sentences: str) -> None:
    """Exactly these refusals, and no guess in their place."""
    assert made.refusals == list(sentences)


def test_what_is_asked() -> None:
    asked = drafted.questions(dataclasses.replace(WISH, socket="/var/lib/kolla/haproxy.sock"), RECIPES)
    assert [(look.host, look.module) for look in asked] == [
        ("ctl1", "osops.lifecycle.service_info"), ("ctl2", "osops.lifecycle.service_info"),
        ("lb1", "osops.lifecycle.haproxy_info"), ("lb2", "osops.lifecycle.haproxy_info"),
    ]  # fmt: skip
    assert asked[0].args == {"package": "keystone", "service": "keystone", "ports": [5000, 35357], "words": ["keystone"]}
    assert asked[3].args == {"socket": "/var/lib/kolla/haproxy.sock"}


def test_a_foreign_environment(cloud: Cloud) -> None:
    made = cloud.draft()
    assert (made.record, made.refusals, made.notes) == (DRAFT, [], [])
    assert made.found == [
        "keystone-api@ctl1: 23.0.2 in /srv/keystone/venv, on 0.0.0.0:5000, keystone-wsgi.service as keystone "
        "(/etc/systemd/system/keystone-wsgi.service)",
        "keystone-api@ctl2: 23.0.2 in /srv/keystone/venv, on 0.0.0.0:5000, keystone-wsgi.service as keystone "
        "(/etc/systemd/system/keystone-wsgi.service)",
        "keystone-api, /etc/keystone/keystone.conf: sha256 aaaaaaaaaaaa on ctl1, ctl2",
    ]
    assert [line.split(":")[0] for line in made.add] == [
        "services.keystone.release", "services.keystone.database", "services.keystone.probe.secrets", "services.keystone.min_available",
    ]  # fmt: skip


def test_the_draft_is_a_record_without_a_lock(cloud: Cloud, tmp_path: pathlib.Path) -> None:
    knowledge.validate(cloud.draft().record, "record", "draft")
    export = exported.Export(WISH, RECIPES, tmp_path / "cloud.yml")
    made = export.draft(ADDRESSES.__getitem__, cloud.answers)
    assert export.write(made, dry=True)
    assert list(tmp_path.iterdir()) == []
    assert export.write(made)
    text = (tmp_path / "cloud.yml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == DRAFT
    assert "#   services.keystone.probe.secrets: {admin_password: NAME_OF_AN_INVENTORY_VARIABLE}\n" in text
    read = record.load(
        str(tmp_path / "cloud.yml"), {"all": [*HOSTS, *BALANCERS]}, {**ADDRESSES, "lb1": "1", "lb2": "2"}.__getitem__
    )
    service = read.services["keystone"]
    assert (service.release, service.components[0].options["adopt"]) == ({"version": "23.0.2"}, "/srv/keystone/venv")
    with pytest.raises(BadInputError, match="which exists"):
        export.write(made)
    assert (tmp_path / "cloud.yml").read_text(encoding="utf-8") == text


OURS = "/opt/osops/keystone/releases/23.0.2-"


def test_our_own_layout_needs_its_lock(cloud: Cloud) -> None:
    made = cloud.everywhere(prefix=OURS + "0123456789ab").draft()
    service = made.record["services"]["keystone"]
    assert service["components"]["keystone-api"]["options"] == {"path": "/opt/osops/keystone"}
    assert service["release"] == {"driver": "osops.lifecycle.artifact_source", "version": "23.0.2"}
    assert made.refusals == []
    assert made.notes == [
        "keystone: it lies as artifact_source lays it out, which needs release.lock even for an empty plan: the lock whose SHA-256 begins with "
        "0123456789ab (osops_export_locks names a folder to look for it)"
    ]


def test_a_lock_is_found_by_the_name_of_the_release(cloud: Cloud, tmp_path: pathlib.Path) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "other.txt").write_text("other==1\n")
    (tmp_path / "locks" / "keystone-23.0.2.txt").write_text("keystone==23.0.2\n")
    digest = hashlib.sha256(b"keystone==23.0.2\n").hexdigest()
    given = {**GIVEN, "osops_export_locks": str(tmp_path / "locks"), "osops_export_to": str(tmp_path / "cloud.yml")}
    export = exported.Export.read(given, {**GROUPS, "all": [*HOSTS, *BALANCERS]})
    made = cloud.everywhere(prefix=OURS + digest[:12]).draft(locks=export.wish.locks)
    assert made.notes == []
    assert made.record["services"]["keystone"]["release"] == {
        "driver": "osops.lifecycle.artifact_source", "version": "23.0.2", "lock": "locks/keystone-23.0.2.txt", "digest": "sha256:" + digest,
    }  # fmt: skip
    knowledge.validate(made.record, "record", "draft")
    # Without a file that the record would lie in, the path starts at the root.
    given.pop("osops_export_to")
    assert exported.Export.read(given, GROUPS).wish.locks[digest[:12]][0] == str(tmp_path / "locks" / "keystone-23.0.2.txt")
    # Two releases of one version: neither is the one.
    cloud.change("ctl2", prefix=OURS + "ba9876543210")
    assert "lock" not in cloud.draft(locks=export.wish.locks).record["services"]["keystone"]["release"]
    assert cloud.draft().notes[0].count(" or ba9876543210") == 1


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({"container": "its control group is /libpod-1.scope"}, "it runs 23.0.2 in a container (its control group is /libpod-1.scope)"),
        ({"package": "python3-keystone", "prefix": "/usr", "virtual": False}, "it runs 23.0.2 from the Debian package python3-keystone"),
        ({"prefix": "/usr/local", "virtual": False}, "it runs 23.0.2 from /usr/local, which is no virtual environment"),
        ({"behind": "apache2"}, "it runs 23.0.2 behind apache2, whose unit may serve others as well"),
        ({"unit": {**UNIT, "starts_from": ""}}, "it runs 23.0.2 from /srv/keystone/venv, which keystone-wsgi.service does not name (ExecStart)"),
        ({"unit": None}, "it runs 23.0.2 and no systemd unit has started it (process 812)"),
        ({"unit": {**UNIT, "problem": "systemd calls it not-found"}}, "it runs 23.0.2 in keystone-wsgi.service: systemd calls it not-found"),
    ],
)  # fmt: skip
def test_what_no_driver_can_change_is_told_and_not_drafted(cloud: Cloud, what: dict[str, t.Any], says: str) -> None:
    made = cloud.everywhere(**what).draft()
    assert (made.record, made.refusals) == ({}, [])
    assert made.notes == [
        "keystone-api@%s: %s; no driver of this collection can change that yet, so keystone-api is not in the draft"
        % (host, says)
        for host in HOSTS
    ]
    assert exported.lines(made)[-1] == "# There is nothing that can be drafted."
    # Where only one host has it, the draft would silently lack that host.
    mixed = Cloud().change("ctl2", **what).draft()
    assert mixed.record == {}
    refused(
        mixed,
        "keystone-api@ctl2: %s; no driver of this collection can change that yet, and others of it can be changed: the record has one driver."
        % says,
    )


def test_two_versions_are_a_draft_with_a_note(cloud: Cloud) -> None:
    made = cloud.change("ctl2", version="24.1.0").draft()
    assert made.record["services"]["keystone"]["release"]["version"] == "24.1.0", "of two that are as many, the newer"
    assert made.refusals == []
    assert made.notes == [
        "keystone: two versions run at once: 23.0.2 on keystone-api@ctl1; 24.1.0 on keystone-api@ctl2; the draft wants 24.1.0, so its plan is not empty"
    ]


def test_an_unproven_version(cloud: Cloud) -> None:
    made = cloud.change("ctl1", version=None, problem="keystone in /x was replaced after process 812 was started").draft()
    assert made.record == {}
    refused(made, "keystone-api@ctl1: its version is not proven: keystone in /x was replaced after process 812 was started.")


def test_two_units(cloud: Cloud) -> None:
    made = cloud.change("ctl2", unit={**UNIT, "name": "keystone.service"}).draft()
    assert made.record == {}
    refused(
        made,
        "keystone-api: its unit is not the same everywhere: keystone-wsgi.service on ctl1; keystone.service on ctl2. The record has one.",
    )


def test_two_environments(cloud: Cloud) -> None:
    made = cloud.change("ctl2", prefix="/srv/keystone/venv-24", unit={**UNIT, "starts_from": "/srv/keystone/venv-24"}).draft()
    refused(
        made,
        "keystone-api: its environment is not the same everywhere: /srv/keystone/venv on ctl1; /srv/keystone/venv-24 on ctl2. "
        "The record has one.",
    )
    mixed = Cloud().change("ctl2", prefix="/opt/osops/keystone/releases/23.0.2-0123456789ab").draft()
    refused(
        mixed,
        "keystone-api: its environment is not the same everywhere: /srv/keystone/venv on ctl1; /opt/osops/keystone/releases on ctl2. "
        "The record has one.",
    )


def test_an_environment_has_the_name_that_its_unit_gives_it(cloud: Cloud) -> None:
    """Behind a link that names another release on another host, it is the link that counts."""
    cloud.everywhere(unit={**UNIT, "starts_from": "/srv/keystone/current"}).change("ctl2", prefix="/srv/keystone/venv-b")
    made = cloud.draft()
    assert made.refusals == []
    (component,) = made.record["services"]["keystone"]["components"].values()
    assert component["options"] == {"path": "/opt/osops/keystone", "adopt": "/srv/keystone/current"}


def test_adopted_before(cloud: Cloud) -> None:
    unit = {
        **UNIT,
        "drop_ins": ["/etc/systemd/system/keystone-wsgi.service.d/50-osops.conf"],
        "starts_from": "/opt/osops/keystone/keystone-api",
    }
    made = cloud.everywhere(prefix="/opt/osops/keystone/releases/24.1.0-0123456789ab", version="24.1.0", unit=unit).draft()
    (component,) = made.record["services"]["keystone"]["components"].values()
    assert component["options"] == {"path": "/opt/osops/keystone"}
    assert made.notes[0] == (
        "keystone-api: it was adopted before (/etc/systemd/system/keystone-wsgi.service.d/50-osops.conf). Keep the record that did so: "
        "what it goes back to (options.adopt) cannot be read from what runs"
    )


def test_two_on_one_host(cloud: Cloud) -> None:
    cloud.answers[cloud.at("ctl1")]["instances"].append(
        row(listen=["0.0.0.0:35357"], unit={**UNIT, "name": "keystone-admin.service"})
    )
    made = cloud.draft()
    assert made.record == {}
    refused(
        made,
        "keystone-api@ctl1: there are 2 of it: keystone-wsgi.service on 0.0.0.0:5000, keystone-admin.service on 0.0.0.0:35357. The record has one for a host.",
    )


def test_different_ports(cloud: Cloud) -> None:
    made = cloud.change("ctl2", listen=["192.0.2.12:5001"]).draft()
    assert made.record == {}
    refused(made, "keystone-api: its port is not the same everywhere: ctl1 on 5000, ctl2 on 5001. The record has one.")


def test_two_ports_behind_the_balancers(cloud: Cloud) -> None:
    cloud.everywhere(listen=["0.0.0.0:5000", "0.0.0.0:35357"])
    made = cloud.draft()
    assert made.record["services"]["keystone"]["components"]["keystone-api"]["port"] == 5000
    assert made.notes == ["keystone-api: it also listens on 35357; the draft has 5000"]
    cloud.servers("lb2").append(server("keystone_admin/ctl1", "192.0.2.11:35357"))
    refused(
        cloud.draft(),
        "keystone-api: it is behind the balancers with 5000 and 35357. The record has room for one port, and the other would never be drained.",
    )


def test_ports_that_nobody_knows(cloud: Cloud) -> None:
    cloud.everywhere(listen=["0.0.0.0:6001", "0.0.0.0:6002"])
    refused(cloud.draft(balancers=()), "keystone-api: which of its ports is the service: 6001, 6002?")
    alone = Cloud().everywhere(listen=["[::]:6001"]).draft(balancers=())
    assert alone.record["services"]["keystone"]["components"]["keystone-api"]["port"] == 6001
    assert alone.notes == [
        "keystone: no load balancer was looked at (osops_export_balancers), so the draft has no traffic, and an upgrade would drain nothing"
    ]


def test_another_address_than_the_inventory_has(cloud: Cloud) -> None:
    cloud.change("ctl1", listen=["127.0.0.1:5000"])
    refused(
        cloud.draft(),
        "keystone-api@ctl1: it listens on 127.0.0.1:5000, and the inventory's address of ctl1 is 192.0.2.11; set osops_address for it.",
    )
    refused(
        Cloud().draft({**ADDRESSES, "ctl2": "ctl2.example.org"}),
        "keystone-api@ctl2: ctl2.example.org is not an IP address; set osops_address for ctl2.",
    )


def test_addresses_of_version_6(cloud: Cloud) -> None:
    cloud.everywhere(listen=["[::]:5000"])
    for balancer in BALANCERS:
        for number, host in enumerate(HOSTS):
            cloud.servers(balancer)[number]["address"] = "[2001:db8::%s]:5000" % host[-1]
    made = cloud.draft({"ctl1": "2001:db8::1", "ctl2": "2001:db8::2"})
    assert (made.record, made.refusals) == (DRAFT, [])


def test_no_server_has_the_address_of_an_instance(cloud: Cloud) -> None:
    cloud.servers("lb2")[1]["address"] = "192.0.2.77:5000"
    refused(
        cloud.draft(),
        "lb2: no server of it has the address of keystone-api@ctl2 (192.0.2.12:5000).",
        "lb2: the server keystone/ctl2 (192.0.2.77:5000) serves beside them, and its host was not searched (osops_export_hosts).",
    )
    none = Cloud()
    del none.servers("lb1")[:2]
    made = none.draft()
    assert "traffic" not in made.record["services"]["keystone"]
    refused(
        made, "lb1: no server of it has the address of keystone-api@ctl1 (192.0.2.11:5000), keystone-api@ctl2 (192.0.2.12:5000)."
    )


def test_a_server_that_serves_beside_what_was_found_is_an_instance_that_was_missed(cloud: Cloud) -> None:
    made = cloud.draft(hosts=("ctl1",))
    refused(
        made,
        *("%s: the server keystone/ctl2 (192.0.2.12:5000) serves beside them, and its host was not searched (osops_export_hosts)." % balancer
          for balancer in BALANCERS),
    )  # fmt: skip
    none = Cloud()
    none.answers[none.at("ctl2")]["instances"] = []
    refused(
        none.draft(),
        *("%s: the server keystone/ctl2 (192.0.2.12:5000) serves beside them, and no instance was found there." % balancer
          for balancer in BALANCERS),
    )  # fmt: skip
    # A host that is silent is said once.
    silent = Cloud()
    silent.answers[silent.at("ctl2")] = {"failed": True, "msg": "timed out"}
    made = silent.draft()
    refused(made, "ctl2: timed out.")
    assert "traffic" not in made.record["services"]["keystone"]
    for balancer in BALANCERS:
        cloud.servers(balancer)[1].update({"health": "down"} if balancer == "lb1" else {"backup": True})
    made = cloud.draft(hosts=("ctl1",))
    assert made.refusals == []
    assert made.notes == [
        "lb1: the server keystone/ctl2 (192.0.2.12:5000) is in the backend as well, is down, and no instance was found there",
        "lb2: the server keystone/ctl2 (192.0.2.12:5000) is in the backend as well, is a backup, and no instance was found there",
    ]


def test_backends_that_differ_and_a_socket_that_may_not_drain(cloud: Cloud) -> None:
    for one in cloud.servers("lb2")[:2]:
        one["server"] = one["server"].replace("keystone/", "identity/")
    cloud.answers[drafted.balancer_key("lb1")]["level"] = "operator"
    made = cloud.draft(socket="/run/other.sock")
    assert made.record["services"]["keystone"]["traffic"] == {
        "driver": "osops.lifecycle.haproxy_server", "hosts": ["lb1", "lb2"], "options": {"socket": "/run/other.sock"},
    }  # fmt: skip
    assert made.refusals == []
    assert made.notes == [
        "lb1: its socket is of level operator, and an upgrade needs admin",
        "the backends are not the same on every balancer (keystone on lb1; identity on lb2), so the draft takes all that hold an instance",
    ]


def test_hosts_that_are_silent_are_named(cloud: Cloud) -> None:
    cloud.answers[cloud.at("ctl2")] = {"failed": True, "msg": "The host cannot be reached: timed out"}
    cloud.answers[drafted.balancer_key("lb1")] = {"failed": True, "msg": "There is no socket /run/haproxy/admin.sock."}
    del cloud.answers[drafted.balancer_key("lb2")]
    made = cloud.draft()
    refused(
        made,
        "ctl2: The host cannot be reached: timed out.", "lb1: There is no socket /run/haproxy/admin.sock.", "lb2: nobody looked.",
    )  # fmt: skip
    assert "traffic" not in made.record["services"]["keystone"]
    text = exported.lines(made)
    assert text[3:5] == ["# Not complete:", "#   ctl2: The host cannot be reached: timed out."]
    with pytest.raises(BadInputError, match="The draft is not complete: ctl2: The host cannot be reached"):
        exported.Export(WISH, RECIPES).write(made)


def test_nothing_is_said_of_hosts_that_are_silent(cloud: Cloud) -> None:
    for host in HOSTS:
        cloud.answers[cloud.at(host)] = {"failed": True, "msg": "timed out"}
    made = cloud.draft()
    assert made.record == {}
    refused(made, "ctl1: timed out.", "ctl2: timed out.")


def test_an_answer_that_is_not_understood(cloud: Cloud) -> None:
    cloud.answers[cloud.at("ctl1")] = {"changed": False}
    assert cloud.draft().refusals[0] == "ctl1: it answered what is not understood."


def test_found_nowhere(cloud: Cloud) -> None:
    for host in HOSTS:
        cloud.answers[cloud.at(host)]["instances"] = []
    cloud.answers[cloud.at("ctl1")]["others"] = [
        {"listen": ["10.0.0.1:5000"], "pids": [9], "program": "nginx", "unit": "nginx.service"}
    ]
    cloud.answers[cloud.at("ctl2")]["unseen"] = ["0.0.0.0:5000", "0.0.0.0:2049"]
    made = cloud.draft()
    assert made.record == {}
    refused(
        made,
        "ctl2: it cannot be seen which process listens on 0.0.0.0:5000.",
        "keystone-api: no process of it was found on ctl1, ctl2.",
    )
    assert made.notes == ["ctl1: process 9 (nginx) listens on 10.0.0.1:5000, which is not keystone-api"]


def test_another_service_of_the_same_environment_is_left_out_aloud(cloud: Cloud) -> None:
    cloud.answers[cloud.at("ctl1")]["instances"].append(row(listen=["0.0.0.0:9292"], pids=[7], program="glance-api", known_by=[]))
    made = cloud.draft()
    assert (made.record, made.refusals) == (DRAFT, [])
    assert made.notes == [
        "ctl1: process 7 (glance-api) listens on 0.0.0.0:9292: its environment holds keystone too, but neither port nor command line "
        "says that it is keystone-api; left out"
    ]


def test_configuration_that_differs_is_told(cloud: Cloud) -> None:
    cloud.change("ctl2", config=[{**CONFIG, "sha256": None, "problem": "it cannot be read: No such file or directory"}])
    assert cloud.draft().found[-1] == (
        "keystone-api, /etc/keystone/keystone.conf: sha256 aaaaaaaaaaaa on ctl1; it cannot be read: No such file or directory on ctl2"
    )


def test_drop_ins_are_told(cloud: Cloud) -> None:
    cloud.change("ctl1", unit={**UNIT, "drop_ins": ["/etc/systemd/system/keystone-wsgi.service.d/limits.conf"]})
    assert cloud.draft().found[0].endswith(", drop-ins /etc/systemd/system/keystone-wsgi.service.d/limits.conf")


def test_what_a_host_answers_cannot_become_a_line_of_the_record(cloud: Cloud) -> None:
    cloud.answers[cloud.at("ctl1")]["others"] = [
        {"listen": ["1.2.3.4:5000"], "pids": [9], "program": "x\nservices: {}", "unit": ""}
    ]
    text = "\n".join(exported.lines(cloud.draft()))
    assert yaml.safe_load(text) == DRAFT
    assert "(x services: {})" in text


def test_a_recipe_that_does_not_say_how_its_service_is_known() -> None:
    body = {key: value for key, value in RECIPES["keystone"].body.items() if key != "discover"}
    with pytest.raises(
        BadInputError, match="The recipe of keystone does not say how it is known where somebody else deployed it"
    ):
        drafted.questions(WISH, {"keystone": model.Recipe("keystone", body)})
    body["discover"] = {"keystone-ap": {"package": "keystone", "ports": [1]}}
    with pytest.raises(BadInputError, match="has keystone-ap in discover, and no component of this name"):
        drafted.questions(WISH, {"keystone": model.Recipe("keystone", body)})


def test_components_of_one_service_that_different_people_installed() -> None:
    """A record has one release for all components of a service, so one lock or none."""
    parts = {"api": (8000, OURS + "0123456789ab"), "admin": (8001, "/srv/keystone/venv")}
    body = {
        "service": "keystone", "package": "keystone", "components": [{"name": name, "stop": 5} for name in (*parts, "worker")],
        "discover": {name: {"package": "keystone", "ports": [port]} for name, (port, _prefix) in parts.items()},
    }  # fmt: skip
    wish = dataclasses.replace(WISH, hosts=("ctl1",), balancers=())
    answers = {
        drafted.instances_key(name, "ctl1"): {"instances": [row(listen=["0.0.0.0:%d" % port], prefix=prefix)]}
        for name, (port, prefix) in parts.items()
    }
    made = drafted.draft(wish, {"keystone": model.Recipe("keystone", body)}, ADDRESSES, answers)
    refused(made, "keystone: admin@ctl1 was installed by somebody else, and the others by us. The record has one lock.")
    assert made.notes[0] == "worker: the recipe does not say how it is known, so it is not drafted"


GROUPS = {"all": ["ctl1", "ctl2", "lb1"], "controllers": ["ctl1", "ctl2"], "empty": []}
GIVEN = {
    "osops_cloud": "blue",
    "osops_services": "keystone",
    "osops_export_hosts": "controllers,ctl1",
    "osops_export_balancers": ["lb1"],
}


def test_what_the_playbook_is_told() -> None:
    assert exported.Export.read(GIVEN, GROUPS).wish == drafted.Wish("blue", ("keystone",), ("ctl1", "ctl2"), ("lb1",))
    assert sorted(exported.Export.read(GIVEN, GROUPS).questions()) == ["ctl1", "ctl2", "lb1"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"osops_cloud": ""}, "osops_cloud is not set."),
        ({"osops_cloud": "Blue Cloud"}, "osops_cloud is 'Blue Cloud'."),
        ({"osops_services": ""}, "osops_services is not set."),
        ({"osops_services": "nonesuch"}, "There is no recipe for the service nonesuch."),
        ({"osops_export_hosts": None}, "osops_export_hosts is not set."),
        ({"osops_export_hosts": "ctl9"}, "osops_export_hosts names ctl9, which is neither a group nor a host of the inventory."),
        ({"osops_export_hosts": "empty"}, "osops_export_hosts: there is no host in empty."),
        (
            {"osops_export_balancers": "lbs"},
            "osops_export_balancers names lbs, which is neither a group nor a host of the inventory.",
        ),
        (
            {"osops_export_to": "/nonexistent/cloud.yml"},
            "osops_export_to is /nonexistent/cloud.yml, and there is no folder /nonexistent.",
        ),
        ({"osops_export_to": __file__}, "which exists."),
        ({"osops_export_locks": "/nonexistent"}, "osops_export_locks is /nonexistent, which is no folder."),
    ],
)
def test_bad_input(given: dict[str, t.Any], says: str) -> None:
    with pytest.raises(BadInputError) as told:
        exported.Export.read({**GIVEN, **given}, GROUPS)
    assert says in told.value.msg


def test_nothing_to_write(cloud: Cloud, tmp_path: pathlib.Path) -> None:
    export = exported.Export(WISH, RECIPES, tmp_path / "cloud.yml")
    with pytest.raises(BadInputError, match="Nothing was found that can be drafted"):
        export.write(cloud.everywhere(unit=None).draft())
    assert list(tmp_path.iterdir()) == []
    assert not exported.Export(WISH, RECIPES).write(cloud.draft())

"""A cloud with nothing real in it but the hosts: sshd processes on loopback, one a host, and dummy drivers behind them.

Contact is lost by killing an sshd, so what the executor sees is what it would see of a dead host.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import typing as t

import yaml

HERE = pathlib.Path(__file__).resolve().parent
DUMMY = HERE.parent / "collections"
COLLECTIONS = os.environ.get("OSOPS_COLLECTIONS") or str(HERE.parents[1] / "build" / "dev")
SECRET = "not-in-any-log"


@dataclasses.dataclass
class Host:
    name: str
    root: pathlib.Path
    port: int
    address: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen([shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", str(self.root / "sshd_config")], stderr=subprocess.DEVNULL)
        (self.root / "sshd.pid").write_text(str(self.process.pid), encoding="ascii")
        deadline = time.monotonic() + 5
        while socket.socket().connect_ex(("127.0.0.1", self.port)):
            assert time.monotonic() < deadline, "sshd of %s does not listen" % self.name
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def read(self, name: str) -> dict[str, t.Any]:
        path = self.root / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def write(self, name: str, value: t.Any) -> None:
        (self.root / name).write_text(json.dumps(value), encoding="utf-8")

    def behave(self, what: str, *entries: dict[str, t.Any]) -> None:
        """Misbehave the next times that ``what`` (MODULE/STATE) is called for real."""
        self.write("behave.json", {**self.read("behave.json"), what: list(entries)})

    @property
    def calls(self) -> list[dict[str, t.Any]]:
        path = self.root / "calls.log"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


@dataclasses.dataclass
class Result:
    rc: int
    out: str

    @property
    def lines(self) -> list[str]:
        """The last lines of the run, as the closing task shows them."""
        shown = re.findall(r'"osops_end\.lines": \[\n(.*?)\n    \]', self.out, re.DOTALL)
        return [json.loads(line.strip().rstrip(",")) for line in shown[-1].splitlines()] if shown else []


class World:
    """Hosts, inventory, record and store below one folder. ``services`` is service -> components (with a port or 0)."""

    def __init__(self, folder: pathlib.Path, apps: int = 3, balancers: int = 2, services: dict[str, dict[str, int]] | None = None) -> None:
        self.folder = folder
        self.services = services or {"echo": {"echo-api": 5000}}
        self.apps = ["ctl%d" % (number + 1) for number in range(apps)]
        self.balancers = ["lb%d" % (number + 1) for number in range(balancers)]
        self.hosts = {name: self._host(name, number) for number, name in enumerate(self.apps + self.balancers)}
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
        for host in self.hosts.values():
            self._sshd(host)
            host.start()
        for name in self.apps:
            for service, components in self.services.items():
                for component in components:
                    self.hosts[name].write("app-%s.json" % component, {"release": "1.0", "version": "1.0", "running": True})
        for name in self.balancers:
            servers = {
                "%s/%s" % (component, app): {"address": "%s:%d" % (self.hosts[app].address, port), "admin": 0, "weight": 100, "up": True}
                for components in self.services.values() for component, port in components.items() if port for app in self.apps
            }  # fmt: skip
            self.hosts[name].write("balancer.json", servers)
        self.want("2.0")
        self._inventory()

    def _host(self, name: str, number: int) -> Host:
        root = self.folder / name
        root.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return Host(name, root, free.getsockname()[1], "127.0.1.%d" % (number + 1))

    def _sshd(self, host: Host) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host.root / "host_key")], check=True)
        settings = {
            "Port": host.port, "ListenAddress": "127.0.0.1", "HostKey": host.root / "host_key", "AuthorizedKeysFile": self.folder / "key.pub",
            "StrictModes": "no", "UsePAM": "no", "PidFile": "none", "PasswordAuthentication": "no",
            "SetEnv": "OSOPS_DUMMY_ROOT=%s" % host.root, "LogLevel": "QUIET", "MaxStartups": "100",
        }  # fmt: skip
        text = "".join("%s %s\n" % pair for pair in settings.items())
        (host.root / "sshd_config").write_text(text, encoding="utf-8")
        public = (host.root / "host_key.pub").read_text(encoding="ascii").split()
        with open(self.folder / "known_hosts", "a", encoding="ascii") as handle:
            handle.write("[127.0.0.1]:%d %s %s\n" % (host.port, public[0], public[1]))

    def _inventory(self) -> None:
        hosts = {
            name: {"ansible_port": host.port, "osops_address": host.address} for name, host in self.hosts.items()
        }  # fmt: skip
        variables = {
            "ansible_host": "127.0.0.1", "ansible_ssh_private_key_file": str(self.folder / "key"), "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_common_args": "-o UserKnownHostsFile=%s -o ControlMaster=no" % (self.folder / "known_hosts"),
            "osops_record": str(self.folder / "cloud.yml"), "osops_store": "sqlite:///%s" % (self.folder / "store.db"),
            "osops_recipes": [str(self.folder / "recipes")], "echo_password": SECRET,
        }  # fmt: skip
        groups = {"apps": {"hosts": dict.fromkeys(self.apps)}, "lbs": {"hosts": dict.fromkeys(self.balancers)}}
        self._yaml("inventory.yml", {"all": {"hosts": hosts, "vars": variables, "children": groups}})

    def want(self, version: str, batches: t.Sequence[int] = (1,), floor: int = 1, **more: t.Any) -> None:
        """Write record and recipes for a wanted version."""
        record: dict[str, t.Any] = {"cloud": "dummy", "services": {}}
        for service, components in self.services.items():
            record["services"][service] = {
                "release": {"driver": "osops_test.dummy.app", "version": version},
                "components": {name: {"hosts": "apps", **({"port": port} if port else {})} for name, port in components.items()},
                "probe": {"secrets": {"password": "echo_password"}},
                "min_available": floor, "batches": list(batches), **more,
            }  # fmt: skip
            if any(components.values()):
                record["services"][service]["traffic"] = {"driver": "osops_test.dummy.balancer", "hosts": "lbs"}
            self._yaml("recipes/%s.yml" % service, recipe(service, list(components)))
        self._yaml("cloud.yml", record)

    def _yaml(self, name: str, value: t.Any) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")

    def environment(self, **more: str) -> dict[str, str]:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "OSOPS_"))}
        ours = {
            "HOME": str(home), "LC_ALL": "C.UTF-8", "ANSIBLE_COLLECTIONS_PATH": "%s:%s" % (COLLECTIONS, DUMMY), "ANSIBLE_SSH_RETRIES": "0",
            "ANSIBLE_INJECT_FACT_VARS": "false", "ANSIBLE_FORKS": "10", "ANSIBLE_PIPELINING": "true", "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false", "ANSIBLE_TIMEOUT": "10",
        }  # fmt: skip
        return {**kept, **ours, **more}

    def start(self, verb: str, *args: str, **environment: str) -> subprocess.Popen[str]:
        """Start a verb as a process group of its own, its output in a file."""
        program = pathlib.Path(sys.executable).parent / "ansible-playbook"
        command = [str(program), "-i", str(self.folder / "inventory.yml"), "osops.lifecycle." + verb, *args]
        with open(self.folder / "out.txt", "a", encoding="utf-8") as out:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.environment(**environment), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                text=True, start_new_session=True,
            )  # fmt: skip

    def run(self, verb: str, *args: str, timeout: float = 180, **environment: str) -> Result:
        path = self.folder / "out.txt"
        begin = path.stat().st_size if path.exists() else 0
        process = self.start(verb, *args, **environment)
        try:
            rc = process.wait(timeout)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return Result(rc, path.read_text(encoding="utf-8")[begin:])

    def calls(self, module: str, state: str) -> list[str]:
        """Hosts on which a driver was really called, in no order."""
        return [name for name, host in self.hosts.items() for call in host.calls if (call["module"], call["state"]) == (module, state)]

    def versions(self, component: str = "echo-api") -> list[str]:
        return [self.hosts[name].read("app-%s.json" % component)["version"] for name in self.apps]

    def masks(self) -> list[int]:
        """Admin masks of all servers on all balancers."""
        return [server["admin"] for name in self.balancers for server in self.hosts[name].read("balancer.json").values()]

    def close(self) -> None:
        for host in self.hosts.values():
            host.stop()


def recipe(service: str, components: t.Sequence[str]) -> dict[str, t.Any]:
    """A recipe whose schema and probes are dummies."""
    return {
        "service": service, "package": service, "components": [{"name": name, "stop": 5} for name in components],
        "modules": {"schema": "osops_test.dummy.data", "probe": "osops_test.dummy.probe"},
        "schema": {"expand": {"check": "check", "act": "expand", "deadline": 30, "when": ["old"], "accept": ["new"]}},
        "probe": {"baseline": [{"name": "hello", "path": "/"}], "verify": [{"name": "hello", "path": "/"}], "secrets": ["password"]},
        "way_back": {"until": "contract", "then": "restore"},
    }  # fmt: skip

"""A cloud with nothing real in it but the hosts: sshd processes on loopback, one a host, and dummy drivers behind them.

Contact is lost by killing an sshd, so what the executor sees is what it would see of a dead host.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import typing as t

import yaml

HERE = pathlib.Path(__file__).resolve().parent
DUMMY = HERE.parent / "collections"
COLLECTIONS = os.environ.get("OSOPS_COLLECTIONS") or str(HERE.parents[1] / "build" / "dev")
SECRET = "not-in-any-log"  # noqa: S105
PORT = 2200
COMPILED = pathlib.Path(__file__).resolve().parent / "compiled"


@dataclasses.dataclass
class Host:
    name: str
    root: pathlib.Path
    ssh: str
    """where its sshd listens: an address of its own on loopback"""
    address: str
    """where the record has its instances"""
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if os.geteuid() == 0:
            # Where ssh.service never ran, nobody has made the folder that root's sshd insists on.
            pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.process = subprocess.Popen(
            [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", str(self.root / "sshd_config")],
            stderr=subprocess.DEVNULL,
        )
        (self.root / "sshd.pid").write_text(str(self.process.pid), encoding="ascii")
        deadline = time.monotonic() + 20
        while not self._listens():
            assert self.process.poll() is None, "sshd of %s ended" % self.name
            assert time.monotonic() < deadline, "sshd of %s does not listen" % self.name
            time.sleep(0.02)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.ssh, PORT)) == 0

    def stop(self) -> None:
        """End this host's sshd and all that runs below it."""
        if self.process is not None:
            kill_tree(self.process)

    def reached(self) -> None:
        """Wait until a driver here has come to an entry of ``behave`` that marks its place."""
        deadline = time.monotonic() + 240
        while not (self.root / "reached").exists():
            assert time.monotonic() < deadline, "no driver on %s came to its mark" % self.name
            time.sleep(0.02)
        (self.root / "reached").unlink()

    def release(self) -> None:
        """Let the driver go on that holds here."""
        (self.root / "released").touch()

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


def kill_tree(process: subprocess.Popen[t.Any]) -> None:
    """``kill -9`` of a process and everything that it started, at one instant: it is stopped first, so that nothing new begins."""
    if process.poll() is None:
        process.send_signal(signal.SIGSTOP)
        for pid in reversed(descendants(process.pid, signal.SIGSTOP)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.kill()
    process.wait()


def descendants(pid: int, send: int = 0) -> list[int]:
    """All that a process started, parents first; each gets the signal ``send`` before its own children are listed."""
    found = []
    for path in pathlib.Path("/proc/%d/task" % pid).glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in map(int, path.read_text(encoding="ascii").split()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, send)
                found += [child, *descendants(child, send)]
    return found


class World:
    """Hosts, inventory, record and store below one folder. ``services`` is service -> components (with a port or 0)."""

    made = itertools.count(1)

    def __init__(
        self,
        folder: pathlib.Path,
        apps: int = 3,
        balancers: int = 2,
        services: dict[str, dict[str, int]] | None = None,
        cloud: str = "dummy",
        store: str = "",
        bare: bool = False,
        shared: bool = True,
        compiled: pathlib.Path | None = None,
    ) -> None:
        """``compiled`` keeps what the hosts' Python has compiled; others may share it."""
        self.compiled = compiled or folder / "compiled"
        self.compiled.mkdir(parents=True, exist_ok=True)
        self.bare = bare
        # Connections that outlive one playbook save half of the time. Their sockets need a short path.
        self.connections = tempfile.mkdtemp(prefix="osops-") if shared else ""
        self.cloud = cloud
        self.store = store or "sqlite:///%s" % (folder / "store.db")
        self.started: list[subprocess.Popen[bytes]] = []
        folder.mkdir(exist_ok=True)
        # Tests run side by side, so each world of each process has addresses that no other has; nothing ever asks for a free port.
        self.network = "127.%d.%d." % (os.getpid() >> 8 & 255, os.getpid() & 255)
        self.first = next(self.made) * 16 % 240 + 1
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
            for components in self.services.values() if not bare else ():
                for component in components:
                    self.hosts[name].write("app-%s.json" % component, {"release": "1.0", "version": "1.0", "running": True})
        for name in self.balancers:
            servers = {
                "%s/%s" % (component, app): {"address": "%s:%d" % (self.hosts[app].address, port), "admin": 0, "weight": 100, "health": "up"}
                for components in self.services.values() for component, port in components.items() if port for app in self.apps
            }  # fmt: skip
            self.hosts[name].write("balancer.json", {} if bare else servers)
        self.want("2.0")
        self._inventory()

    def _host(self, name: str, number: int) -> Host:
        root = self.folder / name
        root.mkdir(parents=True)
        return Host(name, root, "%s%d" % (self.network, self.first + number), "192.0.2.%d" % (number + 1))

    def _sshd(self, host: Host) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host.root / "host_key")], check=True)
        settings = {
            "Port": PORT, "ListenAddress": host.ssh, "HostKey": host.root / "host_key", "AuthorizedKeysFile": self.folder / "key.pub",
            "StrictModes": "no", "UsePAM": "no", "PidFile": "none", "PasswordAuthentication": "no",
            # SHLVL: as deep as this, bash does not read the .bashrc of whoever runs the tests, which may cost more than a module.
            "SetEnv": "SHLVL=9 OSOPS_DUMMY_ROOT=%s PYTHONPATH=%s OSOPS_WALK_COMPILED=%s" % (host.root, COMPILED, self.compiled),
            "LogLevel": "QUIET", "MaxStartups": "100",
        }  # fmt: skip
        text = "".join("%s %s\n" % pair for pair in settings.items())
        (host.root / "sshd_config").write_text(text, encoding="utf-8")
        public = (host.root / "host_key.pub").read_text(encoding="ascii").split()
        with open(self.folder / "known_hosts", "a", encoding="ascii") as handle:
            handle.write("[%s]:%d %s %s\n" % (host.ssh, PORT, public[0], public[1]))

    def _inventory(self) -> None:
        hosts = {name: {"ansible_host": host.ssh, "osops_address": host.address} for name, host in self.hosts.items()}
        variables = {
            "ansible_port": PORT, "ansible_ssh_private_key_file": str(self.folder / "key"), "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_common_args": "-o UserKnownHostsFile=%s" % (self.folder / "known_hosts"),
            "osops_record": str(self.folder / "cloud.yml"), "osops_store": self.store,
            "osops_recipes": [str(self.folder / "recipes")], "echo_password": SECRET,
        }  # fmt: skip
        groups = {"apps": {"hosts": dict.fromkeys(self.apps)}, "lbs": {"hosts": dict.fromkeys(self.balancers)}}
        self.put("inventory.yml", {"all": {"hosts": hosts, "vars": variables, "children": groups}})

    def want(self, version: str, batches: t.Sequence[int] = (1,), floor: int = 1, **more: t.Any) -> None:
        """Write record and recipes for a wanted version."""
        record: dict[str, t.Any] = {"cloud": self.cloud, "services": {}}
        for service, components in self.services.items():
            record["services"][service] = {
                "release": {"driver": "osops_test.dummy.app", "version": version},
                "components": {name: {"hosts": "apps", **({"port": port} if port else {})} for name, port in components.items()},
                "probe": {"secrets": {"password": "echo_password"}},
                "min_available": floor, "batches": list(batches), **more,
            }  # fmt: skip
            if self.balancers and any(components.values()):
                record["services"][service]["traffic"] = {"driver": "osops_test.dummy.balancer", "hosts": "lbs"}
                if self.bare:
                    record["services"][service]["traffic"]["managed"] = {}
            if self.bare:
                # A service that this collection makes itself, with its database on the first host.
                record["services"][service].update(
                    database={"hosts": [self.apps[0]]}, secrets={"password": "echo_password"}, soak=0
                )
                record["services"][service].update(more)
            self.put("recipes/%s.yml" % service, recipe(service, list(components)))
        self.record = record
        self.put("cloud.yml", record)

    def put(self, name: str, value: t.Any) -> None:
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
            "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=20s" if self.connections else "-o ControlMaster=no",
            **({"ANSIBLE_SSH_CONTROL_PATH_DIR": self.connections} if self.connections else {}),
        }  # fmt: skip
        return {**kept, **ours, **more}

    def start(self, verb: str, *args: str, piped: bool = False, **environment: str) -> subprocess.Popen[bytes]:
        """Start a verb as a process group of its own, its output in a file, or in a pipe for the caller."""
        program = pathlib.Path(sys.executable).parent / "ansible-playbook"
        command = [str(program), "-i", str(self.folder / "inventory.yml"), "osops.lifecycle." + verb, *args]
        with open(self.folder / "out.txt", "ab") as out:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment(**environment), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.started.append(process)
        return process

    def run(self, verb: str, *args: str, **environment: str) -> Result:
        begin = self.written()
        return self.finish(self.start(verb, *args, **environment), begin)

    def written(self) -> int:
        """How much output there is so far."""
        path = self.folder / "out.txt"
        return path.stat().st_size if path.exists() else 0

    def finish(self, process: subprocess.Popen[bytes], begin: int = 0, timeout: float = 600) -> Result:
        """Wait for the end of a verb; ``begin`` is what was written before it."""
        rc = process.wait(timeout)
        return Result(rc, (self.folder / "out.txt").read_bytes()[begin:].decode())

    def calls(self, module: str, state: str) -> list[str]:
        """Hosts on which a driver was really called, in no order."""
        return [
            name for name, host in self.hosts.items() for call in host.calls if (call["module"], call["state"]) == (module, state)
        ]

    def versions(self, component: str = "echo-api") -> list[str]:
        return [self.hosts[name].read("app-%s.json" % component)["version"] for name in self.apps]

    def masks(self) -> list[int]:
        """Admin masks of all servers on all balancers."""
        return [server["admin"] for name in self.balancers for server in self.hosts[name].read("balancer.json").values()]

    def close(self) -> None:
        for process in self.started:
            kill_tree(process)
        for host in self.hosts.values():
            host.stop()  # and with it the connections to it
        if self.connections:
            shutil.rmtree(self.connections, ignore_errors=True)


def recipe(service: str, components: t.Sequence[str]) -> dict[str, t.Any]:
    """A recipe whose schema and probes are dummies."""
    return {
        "service": service, "package": service, "components": [{"name": name, "stop": 5} for name in components],
        "modules": {
            "schema": "osops_test.dummy.data", "probe": "osops_test.dummy.probe", "files": "osops_test.dummy.files",
            "database": "osops_test.dummy.database", "backup": "osops_test.dummy.backup", "balancer": "osops_test.dummy.place",
        },
        "deploy": {"secrets": ["password"], "files": [
            {"path": "/etc/%s.conf" % service, "content": "password = {password}"},
            {"path": "/etc/%s.ini" % service, "settings": True, "ini": {"DEFAULT": {"name": service}}},
        ]},
        "schema": {"create": {"check": "check", "act": "create", "when": ["old"], "accept": ["made"]},
                   "contract": {"check": "check", "act": "contract", "when": ["new", "made"], "accept": ["contracted"]},
                   "expand": {"check": "check", "act": "expand", "deadline": 30, "when": ["old", "made"], "accept": ["new"]}},
        "probe": {"baseline": [{"name": "hello", "path": "/"}], "verify": [{"name": "hello", "path": "/"}], "secrets": ["password"]},
        "way_back": {"until": "contract", "then": "restore"},
    }  # fmt: skip

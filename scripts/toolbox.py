# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every script needs: interpreters, cached tool environments, Debian packages. Standard library only."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
BUILD = REPOSITORY / "build"
REQUIREMENTS = REPOSITORY / "tests" / "requirements"
CACHE = Path(os.environ.get("OSOPS_CACHE") or Path.home() / ".cache" / "osops")

# Environments of tests/requirements/NAME.txt, and the Python that each needs.
ENVIRONMENTS = {
    "uv": "3.11",
    "core217": "3.11",
    "core219": "3.11",
    "core220": "3.12",
    "core221": "3.13",
    "lint": "3.11",
    "galaxy": "3.11",
}

# Debian packages by what needs them: a program (or "python:MODULE") that proves that the package is there -> its name.
PACKAGES: dict[str, dict[str, str]] = {
    "python": {"python:ensurepip": "python3.11-venv"},
    "haproxy": {"haproxy": "haproxy"},
    "nginx": {"nginx": "nginx-light", "/usr/lib/nginx/modules/ngx_stream_module.so": "libnginx-mod-stream", "openssl": "openssl"},
    "mariadb": {"mariadbd": "mariadb-server", "mariadb-dump": "mariadb-client"},
    "walk": {"sshd": "openssh-server", "ssh": "openssh-client", "ssh-keygen": "openssh-client"},
    "rig": {
        "podman": "podman",
        "runc": "runc",
        "/usr/lib/podman/netavark": "netavark",
        "debootstrap": "debootstrap",
        "iptables": "iptables",
        "ssh": "openssh-client",
        "ssh-keygen": "openssh-client",
        "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
        "openssl": "openssl",
    },
}

# Services of packages that are installed here for their programs alone: masked before, so that they never start.
MASKED = {"mariadb-server": "mariadb.service", "nginx-light": "nginx.service"}


class MissingError(Exception):
    """Something that a script needs is not on this machine; the message names it."""


def say(text: str) -> None:
    """Tell a person what goes on; standard output is kept for results."""
    print(text, file=sys.stderr, flush=True)


def clean_environment(**more: str) -> dict[str, str]:
    """The environment for tools: no leftovers of a caller's virtual environment or Ansible settings, and UTF-8."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith("ANSIBLE_") and k not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
    }
    kept.update({"LC_ALL": "C.UTF-8", "LANG": "C.UTF-8", "ANSIBLE_INJECT_FACT_VARS": "false", "ANSIBLE_NOCOLOR": "1"})
    kept.update(more)
    return kept


def _works(python: str, version: str) -> bool:
    """True when ``python`` starts and is of ``version``: shims of version managers exist without an interpreter behind them."""
    probe = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        done = subprocess.run(probe, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == version


def find_python(version: str) -> str | None:
    """Path of an interpreter of that minor version: Debian's, one on PATH, or one of pyenv; None when there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    managed = sorted(str(path) for path in pyenv.glob("%s.*/bin/python" % version)) if pyenv.is_dir() else []
    for candidate in ("/usr/bin/python" + version, shutil.which("python" + version) or "", *managed):
        if candidate and _works(candidate, version):
            return candidate
    return None


def newest_core() -> str:
    """Name of the environment with the newest ansible-core that an interpreter of this machine can run."""
    return next((name for name in ("core221", "core220") if find_python(ENVIRONMENTS[name])), "core219")


@contextlib.contextmanager
def locked(name: str) -> t.Iterator[None]:
    """Only one process at a time does ``name`` with this cache."""
    folder = CACHE / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def packages(*groups: str) -> None:
    """Install the Debian packages of these groups that are missing, and say so; sudo when not root.

    RUNLEVEL=1 keeps services of new packages from being started where systemd is not what runs them; a machine with systemd starts
    Debian's haproxy and ssh with their stock configuration.
    """
    proofs = [pair for group in groups for pair in PACKAGES[group].items()]
    missing = sorted({package for proof, package in proofs if not _present(proof)})
    if not missing:
        return
    say("Debian packages for %s: installing %s" % (" ".join(groups), " ".join(missing)))
    if not shutil.which("apt-get"):
        raise MissingError("%s missing, and this machine has no apt-get" % ", ".join(missing))
    prefix = [] if os.geteuid() == 0 else ["sudo", "--preserve-env=DEBIAN_FRONTEND,RUNLEVEL"]
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1")
    units = Path("/etc/systemd/system")
    with locked("apt"):
        for unit in sorted(MASKED[package] for package in missing if package in MASKED):
            say("%s is masked: tests start servers of their own, and the machine's stays stopped" % unit)
            subprocess.run([*prefix, "mkdir", "-p", str(units)], check=True)
            subprocess.run([*prefix, "ln", "-sfn", "/dev/null", str(units / unit)], check=True)
        for command in (["apt-get", "-q", "update"], ["apt-get", "-q", "install", "--yes", "--no-install-recommends", *missing]):
            subprocess.run([*prefix, *command], check=True, stdout=sys.stderr, env=environment)


def _present(proof: str) -> bool:
    if proof.startswith("python:"):
        python = find_python("3.11")
        return (
            python is not None
            and subprocess.run([python, "-c", "import " + proof[7:]], capture_output=True, check=False).returncode == 0
        )
    if proof.startswith("/"):
        return os.path.exists(proof)
    return shutil.which(proof, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None


def environment(name: str) -> Path:
    """Return the virtual environment ``name`` of ENVIRONMENTS; made once for each content of its requirements."""
    version = ENVIRONMENTS[name]
    python = find_python(version)
    if python is None:
        raise MissingError("Python %s for the environment %s" % (version, name))
    wanted = (REQUIREMENTS / (name + ".txt")).read_bytes()
    key = hashlib.sha256(b"%s\n%s" % (python.encode(), wanted)).hexdigest()[:12]
    home = CACHE / "venv" / ("%s-%s" % (name, key))
    complete = home / ".complete"
    if complete.exists():
        return home
    if name == "uv":
        packages("python")
    uv = str(environment("uv") / "bin" / "uv") if name != "uv" else ""
    with locked("venv-" + name):
        if complete.exists():
            return home
        say("environment %s: making it (Python %s)" % (name, version))
        shutil.rmtree(home, ignore_errors=True)
        make = [uv, "venv", "--quiet", "--seed", "--python", python] if uv else [python, "-m", "venv"]
        fill = [uv, "pip", "install", "--quiet", "--python"] if uv else []
        fill += [str(home / "bin" / "python"), *([] if uv else ["-m", "pip", "install", "--quiet"])]
        for command in ([*make, str(home)], [*fill, "-r", str(REQUIREMENTS / (name + ".txt"))]):
            subprocess.run(command, check=True, stdout=sys.stderr)
        complete.touch()
    return home


def copied_tree(name: str) -> Path:
    """Copy what git tracks, or could track, to build/trees/NAME/ansible_collections/osops/lifecycle; return that folder.

    Several tools want the collection at that path, walk all files that they find, and write beside them.
    """
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=REPOSITORY, check=True, capture_output=True).stdout.decode("utf-8").split("\0")
    root = BUILD / "trees" / name
    shutil.rmtree(root, ignore_errors=True)
    target = root / "ansible_collections" / "osops" / "lifecycle"
    for path in (REPOSITORY / listed_name for listed_name in names if listed_name):
        # git still lists a file that was deleted and not committed.
        if path.is_symlink() or path.is_file():
            copy = target / path.relative_to(REPOSITORY)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy, follow_symlinks=False)
    return target


def tarball_name() -> str:
    """File name of the built collection, from galaxy.yml (flat ``key: value`` lines are all that is read)."""
    lines = (REPOSITORY / "galaxy.yml").read_text(encoding="utf-8").splitlines()
    value = dict(line.split(": ", 1) for line in lines if ": " in line)
    return "%s-%s-%s.tar.gz" % (value["namespace"], value["name"], value["version"])

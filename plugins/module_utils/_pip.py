# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Install what a lock pins with pip, every byte of it checked against a hash; and say what pip's output means."""

from __future__ import annotations

import re
import typing as t
import urllib.parse

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._job import Job
from ansible_collections.osops.lifecycle.plugins.module_utils._release import Release, pins
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import tail

# What source packages are built with. It is installed from the lock first, so that nothing without a hash is ever run.
BUILD_TOOLS = ("setuptools", "wheel", "pbr", "flit-core", "hatchling", "poetry-core", "setuptools-scm", "packaging")
# Of the task's own environment only what says how to reach an index.
_PASSED_ON = (
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
)

_PIP_SAYS: tuple[tuple[str, str, str, str], ...] = (
    (
        r"ensurepip is\s+not\s+available|No module named '?(?:ensurepip|venv)'?",
        "artifact.no_venv",
        "This host cannot make Python environments: %s.",
        "Install the package python3-venv.",
    ),
    (
        r"No space left on device|Errno 28",
        "artifact.no_space",
        "The disk filled up while the release was installed.",
        "Make room, then run it again.",
    ),
    (
        r"DO NOT MATCH THE HASHES",
        "artifact.wrong_hash",
        "The index serves something else than the lock pins: %s.",
        "Do not use it. Compare the file with the index it was locked from.",
    ),
    (
        r"Hashes are required in --require-hashes mode",
        "artifact.lock",
        "The lock has no hash for %s.",
        "Write it with uv pip compile --generate-hashes.",
    ),
    (
        r"Failed to establish a new connection|Name or service not known|Temporary failure in name resolution"
        r"|Max retries exceeded|Read timed out|SSLError|CERTIFICATE_VERIFY_FAILED|Connection refused|Connection reset|ProxyError",
        "artifact.index_unreachable",
        "The package index cannot be reached from this host.",
        "Check its address, the route and its certificate.",
    ),
    (
        r"requires? a different [Pp]ython",
        "artifact.python",
        "The release needs another Python than this host has: %s.",
        "Name one in release.python, or upgrade the host first.",
    ),
    (
        r"No matching distribution found|Could not find a version that satisfies",
        "artifact.not_in_index",
        "The package index does not have %s.",
        "Check the version, and that the index has a file for this host's Python.",
    ),
    (
        r"which is not installed|has requirement|is not supported on this platform",
        "artifact.lock",
        "The lock is not complete: %s.",
        "Lock again, with everything that the package needs.",
    ),
    (
        r"Cannot import '?setuptools|No module named '?(?:setuptools|wheel)|BackendUnavailable|invalid command 'bdist_wheel'",
        "artifact.lock",
        "A package comes as source only, and the lock lacks what it is built with.",
        "Add setuptools and wheel to the lock, or a wheel to the index.",
    ),
)
_PIP_NAMES: dict[str, str] = {
    "artifact.no_venv": r"(ensurepip is\s+not\s+available|No module named '?\w+'?)",
    "artifact.wrong_hash": r"(?s)DO NOT MATCH THE HASHES.*?\n\s+(\S+==\S+)",
    "artifact.lock": r"(?s)(?:Hashes are required.*?\n\s+)?(\S+==\S+|\S+ \S+ (?:requires|has requirement) [^\n]+)",
    "artifact.python": r"(Package '\S+' requires a different Python: .+|No matching distribution found for \S+)",
    "artifact.not_in_index": r"No matching distribution found for (\S+)",
}


def explain(said: str) -> LifecycleError:
    """What pip's output means, as one sentence. Pure; ``said`` must be scrubbed."""
    for pattern, code, sentence, hint in _PIP_SAYS:
        if re.search(pattern, said):
            name = re.search(_PIP_NAMES.get(code, r"(?!)"), said)
            what = " ".join(name.group(1).split()) if name else "a package"
            return LifecycleError(sentence % what if "%s" in sentence else sentence, code, hint, {"output": tail(said, 12)})
    return LifecycleError(
        "The release could not be installed.", "artifact.install_failed", "See the output.", {"output": tail(said, 20)}
    )


# The host serves while a release arrives: what runs there has the first call on processor and disk. Where the cpu controller is
# missing, the priority of the processes is what counts.
BEHIND = ("Nice=19", "IOSchedulingClass=idle", "CPUWeight=10", "IOWeight=10")


def installation(release: Release, folder: str, name: str, source_env: t.Mapping[str, str]) -> Job:
    """The job that builds the environment in ``folder``: it is made where it stays, because environments cannot be moved."""
    pip = (
        folder + "/bin/python",
        "-I",
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--require-hashes",
        "--no-build-isolation",
        "--quiet",
    )
    locked = pins(release.lock)
    tools = "".join(line + "\n" for project, (_version, line) in locked.items() if project in BUILD_TOOLS)
    commands: list[tuple[str, ...]] = [(release.python, "-I", "-m", "venv", folder)]
    if tools:
        commands.append((*pip, "--requirement", "{job}/tools.txt"))
    commands += [(*pip, "--requirement", "{job}/lock.txt"), (folder + "/bin/python", "-I", "-m", "pip", "check")]
    env = {key: source_env[key] for key in _PASSED_ON if key in source_env}
    env.update(
        PIP_NO_CACHE_DIR="1", PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_RETRIES="2", PIP_TIMEOUT="15", HOME="/root"
    )
    if release.index:
        # In the environment of the unit, not in argv: the address may hold a password, and argv is for everybody to read.
        env.update(PIP_INDEX_URL=release.index, PIP_EXTRA_INDEX_URL="")
        address = urllib.parse.urlsplit(release.index)
        if address.scheme == "http":
            env["PIP_TRUSTED_HOST"] = address.netloc.rpartition("@")[2]
    return Job(name, tuple(commands), env, files={"lock.txt": release.lock, "tools.txt": tools}, properties=BEHIND)


def secrets_of(release: Release) -> list[str]:
    """What must not be shown of a release: the password inside its index address."""
    address = urllib.parse.urlsplit(release.index)
    return [word for word in (address.password, urllib.parse.unquote(address.password or "")) if word]

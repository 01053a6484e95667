# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the NGINX Plus tests: a lab per test, held to the specification at its end."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.nginx_plus.lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.stop()
    assert made.lawless or made.plus.breaches == [], "not as the specification says"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for plus.test that signs itself, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    crt, key = tmp_path / "crt.pem", tmp_path / "key.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(crt), "-days", "2",
        "-subj", "/CN=plus.test", "-addext", "subjectAltName=DNS:plus.test",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return crt, key


@pytest.fixture
def tls_lab(certificate: tuple[Path, Path]) -> Iterator[t.Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    made = Lab(context)
    yield made
    made.stop()
    assert made.plus.breaches == []

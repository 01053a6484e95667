# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loaded by every Python of a walk's hosts: what a module brings is compiled once for all hosts, and not twice for every call.

Ansible sends a module as a zip of sources. zipimport compiles each of them for its path and again for its code, which was a
quarter of what a walk's processes did. The same bytes are compiled to the same code; nothing else of a call is any different.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import typing as t
import zipimport

CACHE = os.environ.get("OSOPS_WALK_COMPILED", "")
_compile = zipimport._compile_source  # type: ignore[attr-defined]


def _cached(path: str, source: bytes) -> t.Any:
    name = os.path.join(CACHE, hashlib.sha256(path.rpartition(".zip/")[2].encode() + b"\0" + source).hexdigest())
    with contextlib.suppress(OSError, ValueError, EOFError), open(name, "rb") as handle:
        return marshal.load(handle)  # noqa: S302 - written below, by this user
    code = _compile(path, source)
    with contextlib.suppress(OSError):
        with open("%s.%d" % (name, os.getpid()), "wb") as handle:
            marshal.dump(code, handle)
        os.replace("%s.%d" % (name, os.getpid()), name)
    return code


if CACHE:
    zipimport._compile_source = _cached  # type: ignore[attr-defined]

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Addresses as a user writes them and as nginx shows them, brought to one form. Pure."""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError

Resolve = t.Callable[[str], t.Collection[str]]


class Endpoint(t.NamedTuple):
    """An address:port; ``host`` is a normalised address or a lower-case name."""

    text: str
    host: str
    port: int
    is_address: bool


def _address(text: str) -> str:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return ""
    return str(getattr(found, "ipv4_mapped", None) or found)


def _split(text: str) -> Endpoint | None:
    host, _colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    address = _address(bare)
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        return None
    if not address and not re.fullmatch(r"[A-Za-z0-9._-]{1,253}", bare):
        return None
    return Endpoint(text, address or bare.lower(), int(port), bool(address))


def parse_endpoint(text: str) -> Endpoint:
    """Read ``10.0.0.1:5000``, ``[fd00::1]:5000`` or ``ctl1.example:5000``. Raises BadInputError."""
    found = _split(text.strip())
    if found is None:
        raise BadInputError(
            "%r is not address:port." % (text,),
            "nginx_plus.bad_address",
            "Write it like 10.0.0.1:5000, [fd00::1]:5000 or ctl1.example:5000.",
        )
    return found


def canonical(text: str) -> str:
    """Write what nginx shows in the form of this collection; a unix socket and what else is no address:port stays as it is."""
    found = _split(text)
    if found is None:
        return text
    return ("[%s]:%d" if ":" in found.host else "%s:%d") % (found.host, found.port)


def place(text: str) -> tuple[str, int] | None:
    """What one can connect to, from the canonical form; None where that is no address of one host."""
    found = _split(text)
    if found is None or not found.is_address or ipaddress.ip_address(found.host).is_unspecified:
        return None
    return found.host, found.port


def is_at(address: str, name: str, endpoint: Endpoint, resolve: Resolve) -> bool:
    """Whether a server (its address in canonical form, and its name in nginx's configuration) is the one that the user means."""
    here = _split(address)
    if here is None or not here.is_address:
        return False
    if endpoint.is_address:
        return (here.host, here.port) == (endpoint.host, endpoint.port)
    configured = _split(name)
    if configured is not None and (configured.host, configured.port) == (endpoint.host, endpoint.port):
        return True
    return here.port == endpoint.port and here.host in resolve(endpoint.host)

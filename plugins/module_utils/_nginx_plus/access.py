# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Where the API is and who asks: the address, TLS and credentials, checked before anything is sent."""

from __future__ import annotations

import base64
import dataclasses
import ipaddress
import os
import re
import typing as t
import urllib.parse

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.module_utils._http import Trust

_SECRETS = ("password", "authorization")
_URL_HINT = "Write it like https://lb1.example:8443/api, without the version."


@dataclasses.dataclass(frozen=True)
class Access:
    """How to reach the API. ``hidden`` are texts that must never be shown."""

    url: str
    headers: t.Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    trust: Trust = dataclasses.field(default_factory=Trust)
    timeout_s: float = 10.0
    hidden: tuple[str, ...] = dataclasses.field(default=(), repr=False)

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> Access:
        """Read the arguments of a module. Raises BadInputError."""
        url, host = _url(params["url"])
        headers, hidden = _credentials(params["username"], params["secrets"] or {})
        if headers and url.startswith("http:") and not _is_loopback(host):
            raise BadInputError(
                "Credentials would go to %s without TLS, for everybody on the way to read." % host,
                "nginx_plus.no_tls",
                "Use https, or run the task on the balancer's host with an address of 127.0.0.1.",
            )
        if params["timeout"] < 1:
            raise BadInputError("The timeout of one answer must be at least 1 second.", "input")
        ca_file, name = params["ca_file"] or "", params["server_name"]
        if ca_file and not os.path.isfile(ca_file):
            raise BadInputError("There is no CA file %s on this host." % ca_file, "input.ca_file")
        if name and not re.fullmatch(r"[A-Za-z0-9.:_-]{1,253}", name):
            raise BadInputError("The server_name %r is not a host name." % (name,), "input")
        return cls(url, headers, Trust(ca_file, name), float(params["timeout"]), hidden)


def _url(given: str) -> tuple[str, str]:
    """Return the address without a slash at its end, and the host. What it holds is not repeated: it may be a password."""
    try:
        parts = urllib.parse.urlsplit(given)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not re.fullmatch(r"[\x21-\x7e]+", given):
        raise BadInputError("The url is not an http or https address.", "nginx_plus.url", _URL_HINT)
    if "@" in parts.netloc:
        raise BadInputError(
            "The url holds a user or a password.",
            "nginx_plus.url",
            "Use username and secrets: what stands in a url is shown in logs.",
        )
    if parts.query or parts.fragment or "?" in given or "#" in given:
        raise BadInputError("The url has a query or a fragment.", "nginx_plus.url", _URL_HINT)
    path = parts.path.rstrip("/")
    if re.search(r"/\d+\Z", path):
        raise BadInputError("The url ends with a version of the API.", "nginx_plus.url", _URL_HINT)
    return "%s://%s%s" % (parts.scheme, parts.netloc, path), parts.hostname or ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _credentials(username: str, secrets: t.Mapping[str, t.Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the headers to send and the texts to hide."""
    strange = sorted(set(map(str, secrets)) - set(_SECRETS))
    if strange:
        raise BadInputError("secrets knows %s, and not %s." % (" and ".join(_SECRETS), ", ".join(strange)), "input")
    password, whole = (str(secrets.get(name) or "") for name in _SECRETS)
    if whole and (password or username):
        raise BadInputError(
            "secrets.authorization is a whole header, so neither username nor secrets.password fits to it.", "input"
        )
    if bool(username) != bool(password):
        raise BadInputError("username and secrets.password are only of use together.", "input")
    if re.search(r"[\x00-\x1f\x7f]", username + password) or ":" in username:
        raise BadInputError("username may hold no colon, and neither it nor the password a control character.", "input")
    if whole and not re.fullmatch(r"[\x20-\x7e]+", whole):
        raise BadInputError("secrets.authorization may hold printable ASCII characters only.", "input")
    if whole:
        return {"Authorization": whole}, tuple({whole, whole.partition(" ")[2] or whole})
    if not username:
        return {}, ()
    packed = base64.b64encode(("%s:%s" % (username, password)).encode()).decode("ascii")
    return {"Authorization": "Basic " + packed}, (password, packed)

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derive the table that the fake NGINX Plus answers by from the specification of its API (swagger 2.0, version 9).

python3 tests/integration/nginx_plus/derive.py nginx_api.yaml > tests/integration/nginx_plus/api_v9.json
python3 tests/integration/nginx_plus/derive.py nginx_api.yaml --check     exit code 1 when the table is not what it gives

The specification is not ours to pass on. What is kept are facts: paths, methods, parameters, status codes, error codes, and the names
and types of fields, of those calls only that the driver makes. No text of it is kept.
"""

from __future__ import annotations

import json
import re
import sys
import typing as t
from pathlib import Path

import yaml

TABLE = Path(__file__).with_name("api_v9.json")
CALLS = {
    "/": ["get"],
    "/nginx": ["get"],
    "/http/upstreams/": ["get"],
    "/http/upstreams/{httpUpstreamName}/": ["get"],
    "/http/upstreams/{httpUpstreamName}/servers/": ["get"],
    "/http/upstreams/{httpUpstreamName}/servers/{httpUpstreamServerId}": ["patch"],
    "/stream/upstreams/": ["get"],
    "/stream/upstreams/{streamUpstreamName}/": ["get"],
    "/stream/upstreams/{streamUpstreamName}/servers/": ["get"],
    "/stream/upstreams/{streamUpstreamName}/servers/{streamUpstreamServerId}": ["patch"],
}
# An error code stands between stars in the description of an answer, and so do names of parameters, which begin small or are short.
_CODE = re.compile(r"\*([A-Z][a-z]+[A-Za-z]*)\*")

Json = t.Any


def derive(specification: Json) -> Json:
    """The table. ``calls`` lead to ``types``; a type is a word of JSON, a reference, or what is in it."""
    needed: dict[str, Json] = {}
    calls = []
    for path, methods in CALLS.items():
        place = specification["paths"][path]
        for method in methods:
            call = place[method]
            given = [*place.get("parameters", []), *call.get("parameters", [])]
            bodies = [_type(part["schema"], specification, needed) for part in given if part["in"] == "body"]
            calls.append(
                {
                    "method": method.upper(),
                    "path": re.sub(r"\{\w*Name\}", "{name}", re.sub(r"\{\w*Id\}", "{id}", path)),
                    "query": sorted(part["name"] for part in given if part["in"] == "query"),
                    "body": bodies[0] if bodies else None,
                    "answers": {status: _answer(answer, specification, needed) for status, answer in call["responses"].items()},
                }
            )
    return {"base": specification["basePath"], "calls": calls, "types": dict(sorted(needed.items()))}


def _answer(answer: Json, specification: Json, needed: dict[str, Json]) -> Json:
    found = {"type": _type(answer["schema"], specification, needed)}
    codes = sorted(set(_CODE.findall(answer["description"])))
    return {**found, "codes": codes} if codes else found


def _type(schema: Json, specification: Json, needed: dict[str, Json]) -> Json:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in needed:
            needed[name] = None  # it may refer to itself
            needed[name] = _type(specification["definitions"][name], specification, needed)
        return {"ref": name}
    if schema.get("type") == "array":
        return {"list": _type(schema["items"], specification, needed)}
    if "additionalProperties" in schema:
        return {"map": _type(schema["additionalProperties"], specification, needed)}
    if "properties" in schema:
        fields = {name: _type(field, specification, needed) for name, field in sorted(schema["properties"].items())}
        fixed = sorted(name for name, field in schema["properties"].items() if field.get("readOnly"))
        return {"fields": fields, **({"fixed": fixed} if fixed else {})}
    if "enum" in schema:
        return {"one_of": schema["enum"]}
    return schema["type"]


def main() -> int:
    found = derive(yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8")))
    if sys.argv[2:] == ["--check"]:
        return int(found != json.loads(TABLE.read_text(encoding="utf-8")))
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

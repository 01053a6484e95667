# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads what is known: phases and step words, recipes, releases, and the JSON Schemas of what users write."""

from __future__ import annotations

import functools
import pathlib
import re
import typing as t

import yaml

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import Json, Recipe

try:
    import jsonschema
except ImportError:  # said in a sentence by validate()
    jsonschema = None  # type: ignore[assignment]

DATA = pathlib.Path(__file__).resolve().parents[2] / "data"
_SERVICE = re.compile(r"^[a-z][a-z0-9_-]{0,62}$")


def load_yaml(path: pathlib.Path, what: str) -> Json:
    """Read one YAML document as plain data; a broken one is one sentence with its line."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise BadInputError("There is no %s at %s." % (what, path), "input.missing", "Name it, or create it there.") from exc
    except OSError as exc:
        raise BadInputError("The %s %s cannot be read: %s." % (what, path, exc.strerror), "input.unreadable") from exc
    except UnicodeDecodeError as exc:
        raise BadInputError("The %s %s is not UTF-8 text." % (what, path), "input.encoding") from exc
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = "line %d: " % (mark.line + 1) if mark else ""
        problem = getattr(exc, "problem", None) or "not valid YAML"
        raise BadInputError("The %s %s is not YAML: %s%s." % (what, path, where, problem), "input.yaml") from exc


def validate(document: Json, schema: str, what: str) -> None:
    """Hold a document against data/schemas/SCHEMA.json; the error names the path of the bad key."""
    if jsonschema is None:
        raise LifecycleError(
            "The Python library jsonschema is missing on the control node.",
            "control_node.library",
            "Install it beside ansible-core: pip install jsonschema",
        )
    errors = sorted(_validator(schema).iter_errors(document), key=lambda error: [str(part) for part in error.absolute_path])
    if errors:
        first = max(errors[0].context or [errors[0]], key=lambda error: len(error.absolute_path))
        where = ".".join(str(part) for part in first.absolute_path) or "the top"
        raise BadInputError("In the %s, at %s: %s." % (what, where, first.message), "input.schema", evidence={"path": where})


@functools.cache
def _validator(schema: str) -> t.Any:
    with open(DATA / "schemas" / (schema + ".json"), encoding="utf-8") as handle:
        body = yaml.safe_load(handle)
    return jsonschema.Draft202012Validator(body)


@functools.cache
def lifecycle() -> dict[str, Json]:
    """Phases, edges and step words: data/lifecycle.yml."""
    return t.cast("dict[str, Json]", load_yaml(DATA / "lifecycle.yml", "lifecycle"))


@functools.cache
def releases() -> dict[str, Json]:
    """Series, version numbers and legal jumps: data/releases.yml."""
    return t.cast("dict[str, Json]", load_yaml(DATA / "releases.yml", "release table"))


def recipe(service: str, folders: t.Sequence[str] = ()) -> Recipe:
    """The recipe of a service; the user's folders are searched before ours."""
    if not _SERVICE.match(service):
        raise BadInputError("%r is not the name of a service." % (service,), "input.service")
    places = [pathlib.Path(folder) for folder in folders] + [DATA / "recipes"]
    for place in places:
        path = place / (service + ".yml")
        if path.is_file():
            body = load_yaml(path, "recipe")
            validate(body, "recipe", "recipe %s" % path)
            if body["service"] != service:
                raise BadInputError("The recipe %s says it is for %s." % (path, body["service"]), "input.recipe")
            return Recipe(service, body)
    known = sorted({path.stem for place in places if place.is_dir() for path in place.glob("*.yml")})
    raise BadInputError(
        "There is no recipe for the service %s." % service,
        "input.unknown_service",
        "Known are: %s. Put your own into a folder and name it in osops_recipes." % ", ".join(known),
    )

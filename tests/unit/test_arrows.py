# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The structure of the house, read from its syntax: arrows go one way, and files stay small enough to be read."""

from __future__ import annotations

import ast
import re
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
OURS = "ansible_collections.osops.lifecycle.plugins."

# The side of the doors that faces Ansible; everything else of the mind knows nothing of it.
FACING_ANSIBLE = {"_door.py"}
# What the mind takes from the hands: types for errors and verdicts, and the one wait.
SHARED = {"_errors", "_verdict", "_wait"}
# Pure: from data to data. They open, run, wait for and ask nothing.
PURE = {
    "model.py", "plan.py", "draft.py", "rolling.py", "greenfield.py", "removal.py", "upkeep.py", "needs.py", "back.py", "steps.py", "observed.py",
    "halves.py", "hops.py", "status.py", "overview.py", "progress.py", "drafted.py", "drafted_found.py", "drafted_traffic.py",
    "restoring.py", "outage.py", "offline.py", "configuration.py", "restarted.py", "past.py", "drift.py",
}  # fmt: skip
SIDE_EFFECTS = {"os", "subprocess", "socket", "pathlib", "shutil", "signal", "threading", "urllib", "time", "random"}
THIRD_PARTY_OF_THE_MIND = {
    "yaml": {"knowledge.py", "record.py", "exported.py"},
    "jsonschema": {"knowledge.py"},
    "sqlalchemy": {"store.py"},
}

MAX_LINES = 400
# path below plugins/ -> why it may be longer
LONG: dict[str, str] = {
    "module_utils/_mariadb/worker.py": "one program without imports of ours, sent to the job as its own text",
}


def sources(*folders: str) -> list[Path]:
    found = sorted(path for folder in folders for path in (PLUGINS / folder).rglob("*.py"))
    assert found, folders
    return found


def imports(path: Path) -> set[str]:
    """Full names of all that a file imports, wherever in it; ``from a import b`` is a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "%s: relative imports hide where an arrow goes" % path
            names.update("%s.%s" % (node.module, alias.name) for alias in node.names)
    return names - {"__future__.annotations"}


def foreign(path: Path) -> set[str]:
    """Top packages that a file imports and that are neither the standard library's nor ours."""
    return {name.partition(".")[0] for name in imports(path) if not name.startswith(OURS)} - set(sys.stdlib_module_names)


def ours(path: Path) -> set[str]:
    return {name[len(OURS) :] for name in imports(path) if name.startswith(OURS)}


def by_name(path: Path) -> str:
    return str(path.relative_to(PLUGINS))


@pytest.mark.parametrize("path", sources("module_utils"), ids=by_name)
def test_hands_share_only_the_standard_library_and_themselves(path: Path) -> None:
    assert foreign(path) == set()
    assert {name for name in ours(path) if not name.startswith("module_utils.")} == set()
    below = path.relative_to(PLUGINS / "module_utils").parts[0]
    public = {"driver.py"}  # what other collections write their drivers with
    assert below.startswith("_") or below in public, "private to the collection, so under an _underscore name"


@pytest.mark.parametrize("path", sources("modules"), ids=by_name)
def test_modules_are_glue(path: Path) -> None:
    assert foreign(path) <= {"ansible"}
    assert {name for name in ours(path) if not name.startswith("module_utils.")} == set()
    assert code_lines(path) < 60


@pytest.mark.parametrize("path", sources("plugin_utils"), ids=by_name)
def test_the_mind_knows_the_hands_only_by_their_errors_and_verdicts(path: Path) -> None:
    taken = {name.split(".")[1] for name in ours(path) if name.startswith("module_utils.")}
    assert taken <= SHARED
    assert {name for name in ours(path) if not name.startswith(("module_utils.", "plugin_utils"))} == set()
    allowed = {package for package, files in THIRD_PARTY_OF_THE_MIND.items() if path.name in files}
    assert foreign(path) <= (allowed | {"ansible"} if path.name in FACING_ANSIBLE else allowed)
    assert "subprocess" not in imports(path), "acts are the hands' business"


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_parts_have_no_side_effects(name: str) -> None:
    assert {module.partition(".")[0] for module in imports(PLUGINS / "plugin_utils" / name)} & SIDE_EFFECTS == set()


@pytest.mark.parametrize("path", sources("action"), ids=by_name)
def test_doors_are_thin(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 80
    assert {name.split(".")[1] for name in ours(path) if name.startswith("module_utils.")} <= SHARED
    assert foreign(path) <= {"ansible"}


@pytest.mark.parametrize("path", [p for p in sources("action", "plugin_utils") if p.name != "store.py"], ids=by_name)
def test_sql_is_spoken_only_in_the_store(path: Path) -> None:
    statement = re.compile(r"^\s*(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s.+\sSET|DELETE\s+FROM|CREATE\s+TABLE)\b", re.I | re.S)
    texts = [node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)]
    assert [text for text in texts if isinstance(text, str) and statement.match(text)] == []


@pytest.mark.parametrize("path", sources("."), ids=by_name)
def test_files_are_small(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES or LONG.get(by_name(path)), "%d lines" % lines


def test_reasons_for_long_files_are_still_needed() -> None:
    assert [name for name in LONG if len((PLUGINS / name).read_text(encoding="utf-8").splitlines()) <= MAX_LINES] == []


def test_the_drivers_document_the_arguments_that_they_take(collection: Path) -> None:
    from ansible_collections.osops.lifecycle.plugins.doc_fragments.driver import ModuleDocFragment
    from ansible_collections.osops.lifecycle.plugins.module_utils._driver_args import DRIVER_ARGS

    assert collection.is_dir()
    documented: dict[str, dict[str, t.Any]] = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    not_in_docs = {"no_log"}
    assert {
        name: {key: value for key, value in option.items() if key != "description"} for name, option in documented.items()
    } == {name: {key: value for key, value in option.items() if key not in not_in_docs} for name, option in DRIVER_ARGS.items()}


def code_lines(path: Path) -> int:
    """Lines of a module that do something: without documentation, comments, imports and blank lines."""
    text = path.read_text(encoding="utf-8")
    left_out: set[int] = set()
    for node in ast.parse(text).body:
        documentation = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper()
        if isinstance(node, (ast.Import, ast.ImportFrom)) or (documentation and isinstance(node.value, ast.Constant)):
            left_out.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), start=1)
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for number, line in lines if number not in left_out)

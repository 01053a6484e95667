"""One truth: roles, playbooks, docs and plans use the step words of data/lifecycle.yml, and no others."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import yaml

from tests.walk.simulate import phases, play_words, role_words


def lifecycle(repository: Path) -> dict[str, t.Any]:
    return yaml.safe_load((repository / "data" / "lifecycle.yml").read_text(encoding="utf-8"))


def roles(repository: Path) -> dict[str, list[str]]:
    return {path.name: role_words(path.name) for path in sorted((repository / "roles").iterdir())}


def test_every_role_is_a_phase_and_its_words_belong_to_it(repository: Path) -> None:
    known = lifecycle(repository)
    assert set(roles(repository)) == {*known["phases"], *known["strategies"]}
    for role, words in roles(repository).items():
        phase = known["strategies"].get(role, role)
        assert phase in known["phases"]
        # Every line costs every target of a walk; a role that is walked only where it is needed may have one more.
        assert 1 <= len(words) <= (5 if role in known["strategies"] else 4)
        for word in words:
            assert phase in known["steps"][word]["phases"], (role, word)


def test_every_word_stands_in_a_role_and_in_a_play(repository: Path) -> None:
    known = set(lifecycle(repository)["steps"])
    assert {word for words in roles(repository).values() for word in words} == known
    roles_walked = {role for verb in lifecycle(repository)["verbs"] for role in phases(verb).values()}
    walked = {word for role in roles_walked for word in play_words("_walk.yml", role)}
    assert set(play_words("_fetch.yml")) | walked == known


def test_roles_hold_nothing_but_steps(repository: Path) -> None:
    for path in (repository / "roles").glob("*/tasks/*.yml"):
        for task in yaml.safe_load(path.read_text(encoding="utf-8")):
            assert set(task) == {"name", "osops.lifecycle.step"}, path


def test_the_step_module_documents_the_words(repository: Path) -> None:
    text = (repository / "plugins" / "modules" / "step.py").read_text(encoding="utf-8")
    documented = re.search(r"choices: \[(fetch.*?)\]", text)
    assert documented is not None
    assert documented[1].split(", ") == list(lifecycle(repository)["steps"])


def test_every_edge_leads_to_a_phase(repository: Path) -> None:
    known = lifecycle(repository)
    assert set(known["edges"]) == set(known["phases"])
    assert {place for places in known["edges"].values() for place in places} <= set(known["phases"])


def test_every_verb_takes_edges_that_are_open(repository: Path) -> None:
    known = lifecycle(repository)
    for name, verb in known["verbs"].items():
        for here, there in zip(verb["path"], verb["path"][1:], strict=False):
            assert there in known["edges"][here], (name, here, there)
        if "unhealthy" in verb:
            assert verb["unhealthy"] in known["edges"]["test"]
        walks = phases(name)
        assert walks["osops_targets"] in verb["path"] or verb["path"] == ["operational"], name
        if "osops_halting" in walks:
            assert known["strategies"][walks["osops_halting"]] in verb["path"], name
        assert walks["osops_returning"] == verb.get("unhealthy", "delete" if "delete" in verb["path"] else "rollback"), name


def test_every_edge_is_taken_by_a_verb(repository: Path) -> None:
    known = lifecycle(repository)
    taken = set()
    for verb in known["verbs"].values():
        taken |= set(zip(verb["path"], verb["path"][1:], strict=False))
        if "unhealthy" in verb:
            taken.add(("test", verb["unhealthy"]))
    assert taken == {(here, there) for here, places in known["edges"].items() for there in places}

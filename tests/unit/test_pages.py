# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every playbook and every role has a page, two clicks from the README, and no page leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PLAYBOOKS = sorted(path.stem for path in (REPOSITORY / "playbooks").glob("[a-z]*.yml"))
ROLES = sorted(path.name for path in (REPOSITORY / "roles").iterdir())
PAGES = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")])


@pytest.mark.parametrize(("folder", "names"), [("playbooks", PLAYBOOKS), ("roles", ROLES)])
def test_each_has_a_page_that_can_be_found(folder: str, names: list[str]) -> None:
    assert names
    pages = REPOSITORY / "docs" / folder
    assert sorted(path.stem for path in pages.glob("*.md")) == sorted([*names, "README"])
    index = (pages / "README.md").read_text(encoding="utf-8")
    assert [name for name in names if "](%s.md)" % name not in index] == []
    assert "](docs/%s/README.md)" % folder in (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []

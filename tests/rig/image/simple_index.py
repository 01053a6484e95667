#!/usr/bin/env python3
"""Write a static package index (PEP 503) over a directory of wheels: ``simple_index.py WHEELS OUT``."""

from __future__ import annotations

import hashlib
import html
import re
import sys
from collections import defaultdict
from pathlib import Path


def main(wheels: Path, out: Path) -> None:
    """Write ``OUT/NAME/index.html`` for every project that has a wheel; links carry the sha256 of the file."""
    projects: dict[str, list[str]] = defaultdict(list)
    for wheel in sorted(wheels.glob("*.whl")):
        name = re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower()
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        projects[name].append(
            f'<a href="../../wheels/{html.escape(wheel.name)}#sha256={digest}">{html.escape(wheel.name)}</a><br>'
        )
    for name, links in projects.items():
        page = out / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("<!DOCTYPE html>\n<html><body>\n" + "\n".join(links) + "\n</body></html>\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

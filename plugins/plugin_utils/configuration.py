# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configuration that this collection made and that changes together with a release: when it does, and when a person has to look. Pure."""

from __future__ import annotations

from ansible_collections.osops.lifecycle.plugins.plugin_utils.draft import Draft, instances
from ansible_collections.osops.lifecycle.plugins.plugin_utils.model import Json, Seen, Service
from ansible_collections.osops.lifecycle.plugins.plugin_utils.observed import files_key


def moves(draft: Draft, key: str) -> bool:
    """Whether the configuration that this collection made for an instance changes with its release."""
    seen = draft.seen(files_key(key))
    return bool(_asked(draft, key) and seen.before.get("revision") and seen.would_change and not differing(seen, "edited"))


def _asked(draft: Draft, key: str) -> bool:
    """Whether an instance changes its release in this run, and its files were looked at."""
    limited = draft.limit and key.rpartition("@")[2] not in draft.limit
    return files_key(key) in draft.observed and draft.seen(key).would_change and not limited


def problems(draft: Draft, service: Service) -> list[str]:
    """Why it is not known what to do with the configuration of instances that change. What somebody edited stays, and is said."""
    found = []
    for key in instances(service):
        seen = draft.seen(files_key(key))
        if not _asked(draft, key):
            continue
        if seen.unknown or (seen.refused and seen.before.get("revision")):
            found.append("the files of %s cannot be judged: %s" % (key, seen.unknown or seen.refused))
        elif seen.before.get("revision") and seen.would_change and differing(seen, "edited"):
            draft.notes.append(
                "the files of %s are left as they are, because somebody edited them: %s (the playbook operational puts them right)"
                % (key, ", ".join(differing(seen, "edited")))
            )
    return found


def differing(seen: Seen, *words: str) -> list[str]:
    """Files of an instance that are neither what this collection wrote nor what is wanted, or only those with one of ``words``."""
    files: dict[str, Json] = seen.before.get("files") or {}
    found = {path: word for path, word in files.items() if (word in words if words else word not in ("ours", "same"))}
    return sorted("%s %s" % row for row in found.items())

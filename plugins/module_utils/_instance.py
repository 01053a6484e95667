# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""One instance on its host: a unit, a port, and the link that says which release it starts."""

from __future__ import annotations

import dataclasses
import os
import re
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _environment, _process, _systemd
from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._release import Release
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

_COMPONENT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
# systemd starts a crashing unit again and again; this many restarts of one start are a crash loop, not a slow start.
CRASH_LOOP = 2


@dataclasses.dataclass(frozen=True)
class Instance:
    """Where an instance lives: ``listen`` is address:port, ``stop_s`` how long a graceful stop may take."""

    component: str
    unit: str
    listen: str
    path: str
    stop_s: int

    @classmethod
    def from_args(cls, args: t.Mapping[str, t.Any]) -> Instance:
        """Check the option ``instance`` of a module. Raises BadInputError with one sentence."""
        component = args["component"]
        if not _COMPONENT.match(component) or component == "releases":
            raise BadInputError("instance.component %r is not a plain name." % (component,), "input.component")
        for needed in ("unit", "listen"):
            if not args.get(needed):
                raise BadInputError("instance.%s is needed to make a release active." % needed, "input.instance")
        _process.split_listen(args["listen"])
        return cls(
            component, _systemd.check_name(args["unit"]), args["listen"], _environment.check_path(args["path"]), args["stop"]
        )

    @property
    def link(self) -> str:
        return os.path.join(self.path, self.component)


@dataclasses.dataclass(frozen=True)
class Look:
    """What was seen of an instance. ``refusal`` says why it could not be changed by this driver."""

    state: dict[str, t.Any]
    link: str | None
    running: _process.Running
    unit: _systemd.Unit
    refusal: LifecycleError | None
    notes: list[str]


def look(instance: Instance, package: str) -> Look:
    """See what is installed, linked and running now. Changes nothing."""
    running = _process.running(instance.listen, package)
    unit = _systemd.show(instance.unit)
    link = _environment.linked_release(instance.path, instance.component)
    release = _environment.release_of_prefix(instance.path, running.prefix) or link
    state = {"release": release, "version": running.version, "running": running.listening}
    notes = [running.problem] if running.problem else []
    if unit.exists and unit.stop_timeout_s < instance.stop_s:
        notes.append(
            "systemd kills %s %.0f s after a stop was asked for (TimeoutStopSec), but it may need %d s."
            % (instance.unit, unit.stop_timeout_s, instance.stop_s)
        )
    return Look(state, link, running, unit, _refusal(instance, unit), notes)


def _refusal(instance: Instance, unit: _systemd.Unit) -> LifecycleError | None:
    if not unit.exists:
        return BadInputError(
            "The unit %s does not exist on this host." % instance.unit,
            "artifact.unit_unknown",
            "Name the unit that starts it in the record (components.%s.unit)." % instance.component,
        )
    started_from = re.escape(instance.link + "/")
    if not any(re.search(r"(?:^|[\s=])" + started_from, start) for start in unit.starts):
        return BadInputError(
            "%s does not start from %s/, so switching that link would change nothing." % (instance.unit, instance.link),
            "artifact.foreign_layout",
            "Let ExecStart go through %s/bin/, or use the driver of the tool that laid this host out." % instance.link,
        )
    return None


def stop(instance: Instance, deadline: Deadline) -> dict[str, t.Any]:
    """Stop the unit, wait as long as the recipe allows, and see that nothing holds the port any more.

    Returns seconds and whether systemd had to kill it. Raises DeadlineError-like LifecycleErrors with ``artifact.*`` codes.
    """
    begun = time.monotonic()
    if not _systemd.show(instance.unit).stopped:
        _systemd.order("stop", instance.unit)
    allowed = min(instance.stop_s + 5.0, deadline.remaining())
    ended = wait(lambda: _systemd.show(instance.unit), lambda unit: unit.stopped, allowed, poll_s=0.2)
    seconds = round(time.monotonic() - begun, 2)
    if not ended.reached:
        raise LifecycleError(
            "%s was asked to stop %.0f s ago and is still %s (%s)." % (instance.unit, seconds, ended.last.active, ended.last.sub),
            "artifact.stop_deadline",
            "Look why it does not end, or allow it more time (instance.stop).",
        )
    free = wait(lambda: _process.holders(_process.listening_inodes(instance.listen)), lambda pids: not pids, 2.0)
    if not free.reached:
        raise LifecycleError(
            "%s has stopped, but %s is still held by process %s."
            % (instance.unit, instance.listen, ", ".join(map(str, free.last))),
            "artifact.port_held",
            "Another program uses the port, or KillMode of the unit leaves processes behind.",
        )
    return {"seconds": seconds, "killed": ended.last.result == "timeout"}


def switch(instance: Instance, release: Release) -> None:
    """Let the link point to the release: a new link, renamed over the old one, so that there is always one of the two."""
    fresh = os.path.join(instance.path, ".%s.new" % instance.component)
    if os.path.lexists(instance.link) and not os.path.islink(instance.link):
        raise LifecycleError(
            "%s is not a link." % instance.link, "artifact.foreign_layout", "Move it away; this driver keeps a link there."
        )
    if os.path.lexists(fresh):  # left by an act that was cut
        os.unlink(fresh)
    os.symlink(os.path.join("releases", release.id), fresh)
    os.replace(fresh, instance.link)
    folder = os.open(instance.path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def start(instance: Instance, release: Release, package: str, deadline: Deadline, switched: float) -> _process.Running:
    """Start the unit and wait until the port is held by processes of this release, started after ``switched`` (boot clock)."""
    since = time.time()
    _systemd.forget_failure(instance.unit)
    _systemd.order("start", instance.unit)

    def seen() -> tuple[_systemd.Unit, _process.Running]:
        unit = _systemd.show(instance.unit)
        # Finding out who listens reads the files of every process: not before systemd calls the unit started.
        return unit, _process.running(instance.listen, package) if unit.active == "active" else _process.Running()

    def up(pair: tuple[_systemd.Unit, _process.Running]) -> bool:
        unit, running = pair
        ours = _environment.release_of_prefix(instance.path, running.prefix) == release.id
        return unit.active == "active" and running.version == release.version and ours and running.started >= switched

    def down(pair: tuple[_systemd.Unit, _process.Running]) -> str:
        unit, running = pair
        if unit.active == "failed":
            return "%s failed (%s)" % (instance.unit, unit.result)
        if unit.restarts >= CRASH_LOOP:
            return "%s ends right after its start, again and again (%d restarts)" % (instance.unit, unit.restarts)
        if running.version is not None and not up(pair):
            return "%s runs %s %s from %s" % (instance.unit, package, running.version, running.prefix)
        return ""

    waited = wait(seen, up, deadline.remaining(), down, poll_s=0.2)
    if waited.reached:
        return waited.last[1]
    unit, running = waited.last
    evidence = {"journal": _systemd.journal(instance.unit, since), "unit": unit.facts(), "process": running.facts()}
    if waited.failed:
        code = "artifact.wrong_version" if running.version is not None else "artifact.start_failed"
        raise LifecycleError(
            "The start did not succeed: %s." % waited.reason, code, "The last lines of its journal are in the evidence.", evidence
        )
    what = (
        "is still %s" % unit.active if unit.active != "active" else running.problem or "does not listen on %s" % instance.listen
    )
    raise LifecycleError(
        "%s was started %.0f s ago, but it %s." % (instance.unit, waited.elapsed_s, what),
        "artifact.start_deadline",
        "The last lines of its journal are in the evidence.",
        evidence,
    )

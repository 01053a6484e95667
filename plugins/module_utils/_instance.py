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

from ansible_collections.osops.lifecycle.plugins.module_utils import _adopted, _environment, _process, _start, _systemd
from ansible_collections.osops.lifecycle.plugins.module_utils._deadline import Deadline
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._release import Release
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait

# How long what is still loading may take to end by itself, in seconds.
_LOADING_S = 5.0
_COMPONENT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")


def check_component(name: str) -> str:
    """The name of a component itself, or BadInputError: it becomes a link."""
    if not _COMPONENT.match(name) or name == "releases":
        raise BadInputError("instance.component %r is not a plain name." % (name,), "input.component")
    return name


@dataclasses.dataclass(frozen=True)
class Instance:
    """Where an instance lives: ``listen`` is address:port, ``stop_s`` how long a graceful stop may take.

    ``adopt`` is the environment that its unit starts from when somebody else installed it.
    """

    component: str
    unit: str
    listen: str
    path: str
    stop_s: int
    adopt: str = ""

    @classmethod
    def from_args(cls, args: t.Mapping[str, t.Any]) -> Instance:
        """Check the option ``instance`` of a module. Raises BadInputError with one sentence."""
        component = check_component(args["component"])
        for needed in ("unit", "listen"):
            if not args.get(needed):
                raise BadInputError("instance.%s is needed to make a release active." % needed, "input.instance")
        _process.split_listen(args["listen"])
        path, adopt = _environment.check_path(args["path"]), args.get("adopt") or ""
        if adopt:
            _adopted.check_prefix(adopt, path)
        return cls(component, _systemd.check_name(args["unit"]), args["listen"], path, args["stop"], adopt)

    @property
    def link(self) -> str:
        return os.path.join(self.path, self.component)


@dataclasses.dataclass(frozen=True)
class Look:
    """What was seen of an instance. ``refusal`` says why it could not be changed by this driver.

    ``adopted`` is None for an instance that was laid out for this driver.
    """

    state: dict[str, t.Any]
    link: str | None
    running: _process.Running
    unit: _systemd.Unit
    refusal: LifecycleError | None
    notes: list[str]
    adopted: _adopted.Adopted | None = None


def look(instance: Instance, package: str) -> Look:
    """See what is installed, linked and running now. Changes nothing."""
    running = _process.running(instance.listen, package)
    unit = _systemd.show(instance.unit)
    link = _environment.linked_release(instance.path, instance.component)
    adopted = _adopted.look(instance.adopt, instance.path, instance.component, unit, link) if instance.adopt else None
    release = _environment.release_of_prefix(instance.path, running.prefix)
    if release is None:
        release = link if adopted is None else _release_of(adopted, running, package, link)
    state = {"release": release, "version": running.version, "running": running.listening}
    notes = [running.problem] if running.problem else []
    if unit.exists and unit.stop_timeout_s < instance.stop_s:
        notes.append(
            "systemd kills %s %.0f s after a stop was asked for (TimeoutStopSec), but it may need %d s."
            % (instance.unit, unit.stop_timeout_s, instance.stop_s)
        )
    notes += adopted.notes if adopted else ()
    return Look(state, link, running, unit, _refusal(instance, unit, adopted), notes, adopted)


def _release_of(adopted: _adopted.Adopted, running: _process.Running, package: str, link: str | None) -> str | None:
    """Their release, when that is what runs; where nothing does, what the next start would run."""
    if adopted.foreign is not None and running.prefix:
        return adopted.foreign.id(package) if adopted.foreign.is_loaded(running) else None
    if running.listening:
        return None
    if adopted.drop_in.is_ours():
        return link
    return adopted.foreign.id(package) if adopted.foreign else None


def _refusal(instance: Instance, unit: _systemd.Unit, adopted: _adopted.Adopted | None) -> LifecycleError | None:
    if not unit.exists:
        return BadInputError(
            "The unit %s does not exist on this host." % instance.unit,
            "artifact.unit_unknown",
            "Name the unit that starts it in the record (components.%s.unit)." % instance.component,
        )
    if adopted is not None:
        return adopted.refusal
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
    begun, unit = time.monotonic(), _systemd.show(instance.unit)
    if not unit.stopped:
        _systemd.order("stop", instance.unit)
    allowed = min(instance.stop_s + 5.0, deadline.remaining())
    if unit.active == "activating":
        # What still loads serves nobody, and hears no signal before it has loaded (uwsgi): systemd would wait for all of its time-out.
        loading = wait(lambda: _systemd.show(instance.unit), lambda unit: unit.stopped, min(_LOADING_S, allowed), poll_s=0.2)
        if not loading.reached:
            _systemd.kill(instance.unit)
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
    return {"seconds": seconds, "killed": ended.last.result in ("timeout", "signal")}


def switch(instance: Instance, release: Release, back: str = "") -> None:
    """Let the link point to the release: a new link, renamed over the old one, so that there is always one of the two.

    What it named before is the way back, and written down first; ``back`` is that where there was no link.
    """
    fresh = os.path.join(instance.path, ".%s.new" % instance.component)
    if os.path.lexists(instance.link) and not os.path.islink(instance.link):
        raise LifecycleError(
            "%s is not a link." % instance.link, "artifact.foreign_layout", "Move it away; this driver keeps a link there."
        )
    if os.path.lexists(fresh):  # left by an act that was cut
        os.unlink(fresh)
    former = _environment.linked_release(instance.path, instance.component) or back
    if former and former != release.id:
        _environment.remember(instance.path, instance.component, former)
    os.symlink(os.path.join("releases", release.id), fresh)
    os.replace(fresh, instance.link)
    folder = os.open(instance.path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def give_back(instance: Instance, seen: Look, deadline: Deadline) -> None:
    """Let the unit start from the adopted environment again: first our drop-in goes, then the link that it names."""
    if seen.adopted is not None and not seen.adopted.is_left(seen.unit):
        seen.adopted.drop_in.remove()
        _systemd.reload(deadline.remaining())
    _environment.forget(instance.path, instance.component)


def start(
    instance: Instance, release: Release, package: str, deadline: Deadline, switched: float, home: str = ""
) -> _process.Running:
    """Start the unit and wait until the port is held by processes of this release, started after ``switched`` (boot clock).

    ``home`` is where the release lies when it is not one of ours.
    """

    def right(running: _process.Running) -> bool:
        there = _environment.release_of_prefix(instance.path, running.prefix) == release.id
        if home:
            there = bool(running.prefix) and os.path.realpath(running.prefix) == os.path.realpath(home)
        return there and running.version == release.version

    return _start.start(
        instance.unit, instance.listen, lambda: _process.running(instance.listen, package), right, package, switched, deadline
    )

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The states of the driver artifact_package. Packages are moved by ansible.builtin.apt, between two calls of this (see its action)."""

from __future__ import annotations

import glob
import os
import shutil
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _environment, _instance, _process, _start, _systemd
from ansible_collections.osops.lifecycle.plugins.module_utils._command import run
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Act, Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._packages import archive, dpkg, gone, kept, proof
from ansible_collections.osops.lifecycle.plugins.module_utils._packages.fetching import Present
from ansible_collections.osops.lifecycle.plugins.module_utils._packages.instance import Look, Wanted, look
from ansible_collections.osops.lifecycle.plugins.module_utils._packages.moving import Moving
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict

# What a move takes beside the files of the packages: dpkg keeps the old ones until the new ones are there.
_SPARE_BYTES = 64 * 1024 * 1024
# needrestart would restart services of others, in traffic.
_QUIET = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
_ANSWERS = "force-confdef,force-confold"


def prepare(params: t.Mapping[str, t.Any]) -> Act:
    """Check the arguments of the module and say what will act. Raises BadInputError."""
    wanted = Wanted.from_args(params)
    keep = params.get("keep")
    if keep is not None and (params["state"] != "absent" or wanted.version):
        raise BadInputError(
            "keep is given, but not for the releases of an instance.",
            "input.keep",
            "It belongs to state absent without a release.",
        )
    if params["state"] == "absent":
        return gone.Absent(wanted) if wanted.version else gone.Keep(wanted, keep)
    if params["state"] == "present":
        return Present(_with_version(wanted))
    instance = _instance.Instance.from_args(params["instance"])
    if params["state"] == "halted":
        return _Halted(wanted, instance)
    return _Active(_with_version(wanted), instance, params["stage"] or "begin")


def _with_version(wanted: Wanted) -> Wanted:
    if not wanted.version:
        raise BadInputError("The release has neither an id nor a version.", "artifact.release")
    return wanted


class _Active:
    """The instance runs the version, proven from its processes.

    Stage ``begin`` ends with the unit stopped and says what apt is to do, unless there is nothing to move; stage ``finish`` starts it,
    stage ``settle`` leaves it stopped.
    """

    def __init__(self, wanted: Wanted, instance: _instance.Instance, stage: str) -> None:
        self.wanted, self.instance, self.stage = wanted, instance, stage
        self.moving = Moving(wanted.path)

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        if not terms.check and self.stage == "begin":
            # Somebody else's apt, or one of an act before us that was cut: what is seen while it works is not what will be.
            kept.wait_for_others(self.wanted.path, terms.deadline)
        seen = look(self.wanted, self.instance, report)
        report.before = dict(seen.state)
        if seen.refusal is not None:
            raise seen.refusal
        if self.stage != "begin":
            report.changed = True
            return self._finish(terms, report)
        version = self.wanted.version
        goal = {"release": version, "version": version, "running": True}
        to_do = settle(seen.state, goal, terms.expect, terms.resume)
        if not to_do and seen.unit.active == "active" and not self.moving.going:
            return Verdict("pass", "artifact.active", "%s runs %s." % (self.instance.component, version))
        there = kept.packages_of(self.wanted.path, version)
        moves = seen.state["release"] != version or (bool(there) and not seen.has(there))
        if moves:
            self._check(seen, there, terms)
        report.after = goal
        if terms.check:
            report.changed = True
            return Verdict("pass", "artifact.active", "%s would be switched to %s." % (self.instance.component, version))
        report.after = dict(seen.state)
        if moves:
            return self._begin(seen, there, terms, report)
        report.changed = True
        try:
            if to_do or seen.unit.active != "active":
                report.more["stop"] = _instance.stop(self.instance, terms.deadline)
                return self._finish(terms, report)
            self.moving.let_go()
            return Verdict("pass", "artifact.active", "%s runs %s." % (self.instance.component, version))
        finally:
            look(self.wanted, self.instance, report)

    def _check(self, seen: Look, there: t.Mapping[str, str], terms: Terms) -> None:
        """Raise LifecycleError where the packages cannot be moved, or not be moved back. Nothing is touched before."""
        if not (terms.resume and self.moving.going):
            dpkg.refuse_unusable([*seen.rows, *(seen.known[name] for name in self.wanted.also if name in seen.known)], seen.known)
        if not there and not terms.check:
            raise LifecycleError(
                "Version %s of %s is not kept on this host." % (self.wanted.version, self.wanted.package),
                "artifact.not_present",
                "Fetch it first (state present).",
            )
        strangers = sorted(
            name for name in there if name not in seen.known or seen.known[name].status in ("not-installed", "config-files")
        )
        if strangers:
            raise LifecycleError(
                "%s was installed when version %s was fetched, and is not any more."
                % (", ".join(strangers), self.wanted.version),
                "package.not_installed",
                "Fetch it again (state absent, then present).",
            )
        missing = [row.name for row in seen.rows if there and row.name not in there]
        if missing:
            raise LifecycleError(
                "%s was not installed yet when version %s was fetched." % (", ".join(missing), self.wanted.version),
                "artifact.not_present",
                "Fetch it again (state absent, then present).",
            )
        back = seen.state["release"]
        former = kept.packages_of(self.wanted.path, back) if back else {}
        if there and back and any(former.get(name) != seen.known[name].version for name in there):
            raise kept.no_way_back([seen.known[name] for name in there if former.get(name) != seen.known[name].version])
        others = [
            unit for unit in sorted(dpkg.units_of(seen.rows) - {self.instance.unit}) if _systemd.show(unit).active == "active"
        ]
        mine = _systemd.processes_of(seen.unit.cgroup)
        others += ["process %d" % pid for pid in proof.users(seen.rows) if pid not in mine]
        if others:
            raise LifecycleError(
                "The packages of %s also hold the files of %s, which runs." % (self.wanted.package, ", ".join(others)),
                "package.shared",
                "apt moves all of them at once: one instance of a service on a host is what this driver can move.",
            )
        if not os.path.isdir("/usr/lib/python3/dist-packages/apt"):
            raise LifecycleError(
                "python3-apt is not on this host, and ansible.builtin.apt needs it.",
                "package.no_python_apt",
                "Install python3-apt.",
            )

    def _begin(self, seen: Look, there: t.Mapping[str, str], terms: Terms, report: Report) -> Verdict:
        free, need = shutil.disk_usage("/usr").free, 2 * _size_of(there, self.wanted) + _SPARE_BYTES
        if free < need:
            raise LifecycleError(
                "Only %d MiB are free in /usr; %d MiB are needed." % (free >> 20, need >> 20),
                "package.no_space",
                "Make room first.",
            )
        config = kept.config_of(self.wanted.path, self.wanted.version)
        kept.open_for_apt(self.wanted.path, self.wanted.version, terms.deadline)
        half = [name for name in there if seen.known[name].half]
        if not half:
            archive.simulate(there, config)
        if seen.state["release"] and seen.state["release"] != self.wanted.version:
            _environment.remember(self.wanted.path, self.wanted.component, kept.folder_name(seen.state["release"]))
        report.changed = True
        self.moving.begin(dpkg.units_of(seen.rows) | {self.instance.unit}, sorted(there))
        try:
            report.more["stop"] = _instance.stop(self.instance, terms.deadline)
        except LifecycleError:
            self.moving.let_go()
            raise
        if half:
            # Our own act was cut here. What cannot be configured now is told by apt, and at the latest by stage finish. A script of
            # a maintainer is not cut for our deadline.
            run(["dpkg", "--configure", "--force-confdef", "--force-confold", *half], 1800.0, env=_QUIET)
        report.more["apt"] = {
            "environment": {"APT_CONFIG": kept.begin_act(self.wanted.path, self.wanted.version), **_QUIET},
            "arguments": {
                "name": ["%s=%s" % row for row in sorted(there.items())], "state": "present",
                # Of a package that is half there, apt's module would say that it is not installed, and leave it out.
                "only_upgrade": not half, "allow_downgrade": True, "install_recommends": False, "fail_on_autoremove": True, "dpkg_options": _ANSWERS,
                "lock_timeout": 30, "force_apt_get": True,
            },
        }  # fmt: skip
        report.after = {"release": seen.state["release"], "version": None, "running": False}
        return Verdict("pass", "package.ready_to_move", "%s is stopped; its packages can be moved." % self.instance.unit)

    def _finish(self, terms: Terms, report: Report) -> Verdict:
        """The packages are as they should be, so the unit may start; and what starts is proven."""
        seen = look(self.wanted, self.instance, report)
        report.after = {}
        # Others' packages may be in the middle of something by now.
        dpkg.refuse_unusable([], {row.name: row for row in seen.rows}, alone=True)
        if seen.state["release"] != self.wanted.version:
            raise LifecycleError(
                "apt ended well, but installed is %s." % ", ".join("%s %s" % (row.name, row.version) for row in seen.rows),
                "package.not_moved",
                "Look at /var/log/apt/term.log.",
            )
        since = (
            min((os.stat(self.moving.file).st_mtime, *(dpkg.unpacked_at(row) for row in seen.rows)))
            if self.moving.going
            else None
        )
        self.moving.let_go()
        kept.end_acts(self.wanted.path)
        if self.stage == "settle":
            report.after = dict(seen.state)
            return Verdict(
                "pass", "artifact.settled", "%s is installed; %s stays stopped." % (self.wanted.version, self.instance.unit)
            )
        begun = _process.boot_clock()
        try:
            _start.start(
                self.instance.unit,
                self.instance.listen,
                lambda: look(self.wanted, self.instance, Report()).running,
                lambda running: running.version == self.wanted.version,
                self.wanted.package,
                begun,
                terms.deadline,
            )
        finally:
            look(self.wanted, self.instance, report)
        if since is not None:
            report.more["notes"] += _left_by_dpkg(seen, since)
        return Verdict("pass", "artifact.active", "%s runs %s." % (self.instance.component, self.wanted.version))


def _size_of(there: t.Mapping[str, str], wanted: Wanted) -> int:
    """Bytes that the kept packages take when they are unpacked."""
    root = os.path.join(kept.folder_of(wanted.path, wanted.version), "root")
    return (
        sum(os.lstat(os.path.join(here, name)).st_size for here, _folders, names in os.walk(root) for name in names)
        if there
        else 0
    )


def _left_by_dpkg(seen: Look, since: float) -> list[str]:
    """Configuration files that somebody has edited and that the package has changed too: ours by policy, theirs beside it."""
    found = []
    shown = run(["dpkg-query", "--show", "--showformat", "${Conffiles}\\n", *(row.name for row in seen.rows)], 60.0)
    for line in shown.out.splitlines():
        path = line.split()[0] if line.split() else ""
        for beside in glob.glob(glob.escape(path) + ".dpkg-dist") if path.startswith("/") else []:
            if os.stat(beside).st_ctime >= since - 1.0:
                found.append("%s stays as somebody has edited it; the version of the package lies in %s." % (path, beside))
    return found


class _Halted:
    """The unit is stopped and its port is free; packages are not touched, so the next ``active`` starts it again."""

    def __init__(self, wanted: Wanted, instance: _instance.Instance) -> None:
        self.wanted, self.instance = wanted, instance

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        seen = look(self.wanted, self.instance, report)
        report.before = dict(seen.state)
        if seen.refusal is not None:
            raise seen.refusal
        if not settle(seen.state, {"running": False}, terms.expect, terms.resume) and seen.unit.stopped:
            return Verdict("pass", "artifact.halted", "%s does not run." % self.instance.component)
        report.changed, report.after = True, {**seen.state, "version": None, "running": False}
        if terms.check:
            return Verdict("pass", "artifact.halted", "%s would be stopped." % self.instance.component)
        report.after = {}
        try:
            report.more["stop"] = _instance.stop(self.instance, terms.deadline)
        finally:
            look(self.wanted, self.instance, report)
        return Verdict("pass", "artifact.halted", "%s was stopped." % self.instance.component)

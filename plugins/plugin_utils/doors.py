# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the doors share: the settings of a call, read from task variables, and the verbs of run control on a store."""

from __future__ import annotations

import dataclasses
import datetime
import getpass
import os
import pathlib
import re
import secrets
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait
from ansible_collections.osops.lifecycle.plugins.plugin_utils import back as way_back
from ansible_collections.osops.lifecycle.plugins.plugin_utils import (
    control,
    holder,
    knowledge,
    model,
    observed,
    past,
    removal,
    restoring,
    status,
)
from ansible_collections.osops.lifecycle.plugins.plugin_utils import record as record_file
from ansible_collections.osops.lifecycle.plugins.plugin_utils.draft import History, instances
from ansible_collections.osops.lifecycle.plugins.plugin_utils.journaled import acted, last_kinds
from ansible_collections.osops.lifecycle.plugins.plugin_utils.plan import MAKERS, plan, wanted_hash
from ansible_collections.osops.lifecycle.plugins.plugin_utils.store import Store

CONSENTS = {
    removal.PURGE_DATA: "remove takes the database away too",
    "no_soak": "finalize although the release has not served for as long as the record asks",
    restoring.RESTORE: "rollback restores a database where nothing else leads back; what was written since the backup is lost",
    restoring.DATA_RESTORED: "rollback may go below what finalize closed: another tool has restored the data",
}
_BACKUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
DEFAULT_STORE = "~/.local/state/osops/store.db"
Vars = t.Mapping[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The variables osops_* of a call; see docs/variables.md."""

    record: str
    store: str
    services: tuple[str, ...] = ()
    limit: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    accept_frozen: str = ""
    consents: tuple[str, ...] = ()
    restore: str = ""
    prior: bool = False

    @classmethod
    def read(cls, given: Vars) -> Settings:
        """Read and check them; ``given`` are the task's variables."""
        store = str(given.get("osops_store") or "sqlite:///" + os.path.expanduser(DEFAULT_STORE))
        in_awx = any(name in given for name in ("awx_job_id", "tower_job_id"))
        if in_awx and store.startswith("sqlite") and not _true(given.get("osops_store_is_durable")):
            raise BadInputError(
                "This job's disk is thrown away when the job ends, and the store of the run would be on it.",
                "store.throw_away",
                "Set osops_store to a MariaDB or PostgreSQL URL, or osops_store_is_durable if its folder outlives the job.",
            )
        place = given.get("osops_record") or os.path.join(str(given.get("inventory_dir") or "."), "cloud.yml")
        return cls(
            record=str(place),
            store=store,
            services=_names(given.get("osops_services")),
            limit=_names(given.get("osops_limit")),
            recipes=_names(given.get("osops_recipes")),
            accept_frozen=str(given.get("osops_accept_frozen") or ""),
            consents=_consents(given.get("osops_consent")),
            restore=_backup(given.get("osops_restore")),
            prior=_true(given.get("osops_prior")),
        )


def _true(value: t.Any) -> bool:
    """Extra variables and surveys give texts."""
    return str(value).strip().lower() in ("true", "yes", "on", "1")


def _consents(value: t.Any) -> tuple[str, ...]:
    """What a person allows; a word that nobody knows allows nothing, and says so."""
    names = _names(value)
    for name in names:
        if name not in CONSENTS:
            raise BadInputError("osops_consent names %s." % name, "input.consent", "Known are: %s." % ", ".join(sorted(CONSENTS)))
    return names


def _backup(value: t.Any) -> str:
    """The id of a backup; not ``latest``, which after a restore is the one that was taken right before it."""
    name = str(value or "")
    if name and (not _BACKUP.match(name) or name == "latest"):
        raise BadInputError("osops_restore is %r, which is not the id of a backup." % name, "input.restore",
                            "It looks like keystone-17; mariadb_backup in check mode lists them.")  # fmt: skip
    return name


def _names(value: t.Any) -> tuple[str, ...]:
    """A list, or a text with commas as AWX surveys give it."""
    if not value:
        return ()
    return tuple(str(part).strip() for part in (value.split(",") if isinstance(value, str) else value))


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a verb: settings, record and recipes, read once."""

    verb: str
    settings: Settings
    record: model.Record
    recipes: dict[str, model.Recipe]

    @classmethod
    def make(cls, verb: str, given: Vars, groups: record_file.Groups, address: t.Callable[[str], str]) -> Call:
        if verb not in MAKERS:
            raise BadInputError(
                "osops_plan_verb is %r, for which there is no plan." % verb, "input.verb", "Known are: %s." % ", ".join(MAKERS)
            )
        settings = Settings.read(given)
        wanted = record_file.load(settings.record, groups, address, settings.services)
        for host in settings.limit:
            if not any(host in component.hosts for service in wanted.services.values() for component in service.components):
                raise BadInputError("osops_limit names %s, which is no instance of these services." % host, "input.limit")
        if settings.restore and (verb != "rollback" or len(wanted.services) != 1):
            raise BadInputError(
                "osops_restore names a backup of one service, and this is %s of %s." % (verb, ", ".join(wanted.services)), "input.restore",
                "It is for the playbook rollback, with the one service in osops_services.",
            )  # fmt: skip
        if settings.prior:
            wanted = _at_prior(verb, wanted, settings)
        return cls(verb, settings, wanted, {name: knowledge.recipe(name, settings.recipes) for name in wanted.services})

    @property
    def services(self) -> tuple[str, ...]:
        return tuple(self.record.services)

    def questions(self) -> dict[str, list[dict[str, t.Any]]]:
        """Host -> what it is asked."""
        found: dict[str, list[dict[str, t.Any]]] = {}
        history = self._history() if self.verb == "rollback" else History()  # no other verb restores
        restores = restoring.chosen(self.record, self.verb, history, self.settings.consents, self.settings.restore)
        for look in observed.looks(self.record, self.recipes, self.verb, restores):
            found.setdefault(look.host, []).append(dataclasses.asdict(look))
        return found

    def plan(self, answers: t.Mapping[str, t.Mapping[str, t.Any]], stamp: str = "") -> model.Plan:
        seen = {key: observed.seen(answer) for key, answer in answers.items()}
        limit, consents = self.settings.limit, self.settings.consents
        history, restore = self._history(), self.settings.restore
        made = plan(self.record, self.recipes, seen, self.verb, self._leftovers(), limit, consents, history, restore, stamp)
        return dataclasses.replace(made, handoff=(*made.handoff, *self._to_write_down(made)))

    def _to_write_down(self, made: model.Plan) -> list[str]:
        """What the record has to say after a rollback to the release before, which it does not name."""
        moved = [
            service
            for service in self.record.services.values()
            if self.settings.prior and any(key in made.moves for key in instances(service))
        ]
        return [
            "the record: services.%s.release is to name %s (or the next upgrade takes this back)"
            % (service.name, service.release["version"])
            for service in moved
        ]

    def open(self, answers: t.Mapping[str, t.Mapping[str, t.Any]]) -> tuple[model.Run, model.Plan]:
        """Go on with the open run of these services, or write a new one.

        Raises BadInputError with every refusal, and then nothing has been written.
        """
        store = Store(self.settings.store)
        settings = self.settings
        wanted = wanted_hash(self.record, self.recipes, self.verb, settings.limit, settings.consents, settings.restore)
        runs = store.runs(self.record.cloud, self.services)
        frozen = bool(runs) and runs[0].id == self.settings.accept_frozen
        run = control.going_on(runs, self.verb, wanted, frozen)
        if run is not None:
            if alive(run, store.clock()):
                raise BadInputError(
                    "The run %s (%s of %s) is going on: %s, process %s on %s."
                    % (run.id, run.verb, ", ".join(run.services), run.actor, run.holder.get("pid"), run.holder.get("node")),
                    "run.busy",
                    "Wait for it, or look at it with the playbook status.",
                    {"run": run.id},
                )
            if self.verb != run.verb and self.settings.restore:
                raise BadInputError(
                    "The %s run %s is open, and to take it back restores nothing." % (run.verb, run.id), "run.other_goal",
                    "Take it back without osops_restore first.", {"run": run.id},
                )  # fmt: skip
            if self.verb != run.verb:
                _may_take_back(run, self.services, store.entries(run.id))
            _await_acts(store, run)
            back = self.verb != run.verb and run.state != "rolling_back"
            state = "rolling_back" if back else "running" if run.state == "paused" else ""
            run = store.take_over(run, _holder(), state)
            if back:
                run = store.turn(run.id, run.token, "rolling_back", control.ROLLBACK_ASKED, "rolled_back")
            return run, store.plan(run.id)
        new = _new_id()
        made = self.plan(answers, new)
        if made.refusals:
            raise BadInputError(
                " ".join(made.refusals), "plan.refused", "Nothing was changed.", {"refusals": list(made.refusals)}
            )
        return store.open(made, new, _holder(), _actor()), made

    def _history(self) -> History:
        """What former runs did to these services: see History."""
        return past.history(_runs(self.settings.store, self.record), time.time())

    def _leftovers(self) -> dict[str, dict[str, model.LeftOut]]:
        """Servers that former runs left out of traffic, each with what it was before the one that drained it.

        All runs count, not only the last: one that was refused after a frozen one has not given anything its traffic back.
        """
        found: dict[str, dict[str, model.LeftOut]] = {}
        store = watched(self.settings.store)
        if store is None:
            return found
        for run in reversed(store.runs(self.record.cloud, self.services)):
            entries = store.entries(run.id)
            for way, made in ((model.OUT, store.plan(run.id)), (model.BACK, store.back(run.id))):
                kinds, begun = last_kinds(entries, way), acted(entries, way)
                after = {entry.step: entry.after for entry in entries if entry.way == way and entry.kind == "done"}
                for step in made.steps if made and begun else ():
                    key = observed.share_key(step.target.partition("#")[0], step.host)
                    if step.do == "drain" and step.id in begun:
                        left = after.get(step.id, {})
                        was = {
                            name: model.LeftOut(state, left.get(name)) for name, state in (step.args.get("restore") or {}).items()
                        }
                        found.setdefault(key, {}).update(was)
                    elif step.do in ("admit", "remove") and kinds.get(step.id) == "done":
                        for name in step.servers:
                            found.get(key, {}).pop(name, None)
        return found


def watched(url: str) -> Store | None:
    """The store for somebody who only looks, as a plan does; None where no run has been made with it yet."""
    try:
        return Store(url, watch=True) if store_exists(url) else None
    except BadInputError as exc:
        if exc.code != "store.none":
            raise
        return None


def _runs(url: str, record: model.Record) -> t.Iterator[tuple[model.Run, model.Plan, list[model.Entry]]]:
    """The runs of the services of a record, the newest first; none where there is no store yet."""
    store = watched(url)
    if store is None:
        return
    for run in store.runs(record.cloud, tuple(record.services)):
        yield run, store.plan(run.id), store.entries(run.id)


def _at_prior(verb: str, record: model.Record, settings: Settings) -> model.Record:
    """The record as it would be if it named, for each service, the release before the newest upgrade."""
    if verb != "rollback":
        raise BadInputError(
            "osops_prior asks for the release before, and this is %s." % verb, "input.prior", "It is for the playbook rollback."
        )
    known = watched(settings.store)
    runs = known.runs(record.cloud, tuple(record.services)) if known is not None else []
    if any(run.state in model.OPEN_STATES and run.verb == "upgrade" for run in runs):
        return record  # It is taken back, whatever was before.
    found = {}
    for name, service in record.services.items():
        release = past.prior(_runs(settings.store, record), name, instances(service))
        found[name] = dataclasses.replace(service, release=release)
    return dataclasses.replace(record, services=found)


def _may_take_back(run: model.Run, services: t.Sequence[str], entries: t.Sequence[model.Entry]) -> None:
    """Refuse to take back the run of another verb where that would do more than this call asks for."""
    others = sorted(set(run.services) - set(services))
    if others:
        raise BadInputError(
            "The %s run %s also holds %s, which this call does not name." % (run.verb, run.id, ", ".join(others)), "run.other_services",
            "Name all of its services, or finish it with the playbook %s." % run.verb, {"run": run.id},
        )  # fmt: skip
    if run.verb == "deploy" and any(entry.step.endswith("/admit") and entry.way == model.OUT for entry in entries):
        raise BadInputError(
            "The deploy run %s has given traffic to the service already." % run.id, "run.other_goal",
            "Finish it with the playbook deploy; remove then drains, backs up and asks what to do with the data.", {"run": run.id},
        )  # fmt: skip


def store_exists(url: str) -> bool:
    """False for an SQLite file that is not there yet: reading must not create it."""
    return not url.startswith("sqlite:///") or pathlib.Path(url[len("sqlite:///") :]).is_file()


def targets(run: model.Run, made: model.Plan, store: Store, way: str) -> dict[str, t.Any]:
    """What the play over targets needs: their names and real hosts in order, and the sizes of the batches."""
    batches = control.unfinished(made, store.entries(run.id), way)
    hosts = made.real_hosts()
    key = {"run": run.id, "token": run.token, "way": way}
    return {
        "targets": [{"name": target, "host": hosts[target], "key": key} for batch in batches for target in batch],
        "serial": [len(batch) for batch in batches] or [1],
    }


def go_back(store: Store, run_id: str, token: int) -> dict[str, t.Any]:
    """Derive and store the way back of a run that has turned; the targets of it, none for any other run."""
    run = turned_if_lost(store, store.run(run_id), token)
    if run.state != "rolling_back" or token < run.token:
        return {"targets": [], "serial": [1]}
    made = way_back.back(store.plan(run_id), store.entries(run_id), run.ending)
    return targets(run, store.put_back(run_id, made), store, model.BACK)


def turned_if_lost(store: Store, run: model.Run, token: int) -> model.Run:
    """Turn a run that lost the end of a step; called where no step of it can be acting."""
    why = control.lost(run, store.entries(run.id)) if token == run.token else ""
    return store.turn(run.id, token, "rolling_back", why, "rolled_back") if why else run


def gate(store: Store, run_id: str, token: int, way: str) -> control.Gate:
    """The question at the head of a batch, with what it means for the run written down."""
    run = turned_if_lost(store, store.run(run_id), token)
    answer = control.gate(run, token, way)
    if answer.state and status.halfway(store.plan(run_id), store.entries(run_id)):
        # Cut in the middle of this batch and taken up again: it ends first, so that nothing waits out of traffic, or stopped.
        return control.Gate(True)
    if answer.state:
        store.turn(run_id, token, answer.state, answer.reason)
    return answer


def close(store: Store, run_id: str, token: int) -> tuple[model.Run, list[str], tuple[str, ...]]:
    """Give a run the state it ends in; say where the cloud stands, and what its plan only told of (drift)."""
    run = store.run(run_id)
    made, back = store.plan(run_id), store.back(run_id)
    entries = store.entries(run_id)
    end = control.ending(run, made, back, entries)
    # A pause has nobody working on it either: another node may go on at once.
    if token >= run.token and (end.state != run.state or end.state == "paused"):
        run = store.end_run(run_id, token, end.state, end.reason)
    elif end.reason and not run.reason:
        run = dataclasses.replace(run, reason=end.reason)
    return run, status.last_lines(run, made, back, entries), made.drift


def alive(run: model.Run, now: float) -> bool:
    """Whether somebody holds a run: a process of this node that lives, or another node whose lease has not ended."""
    gone = holder.gone(run.holder)
    return now < run.lease_until if gone is None else not gone


def _await_acts(store: Store, run: model.Run) -> None:
    """Let acts end whose worker outlived its playbook; each is waited for until its own deadline, not longer."""
    intents = control.open_intents(store.entries(run.id))
    latest = max((entry.deadline_at for entry in intents), default=0.0)

    def acting() -> list[model.Entry]:
        still = control.open_intents(store.entries(run.id))
        return [entry for entry in still if holder.gone(entry.holder) is not True and store.clock() < entry.deadline_at]

    wait(acting, lambda found: not found, max(latest - store.clock(), 0.0), poll_s=0.2)


def _holder() -> dict[str, t.Any]:
    """The playbook's own process: the doors run in forks of it."""
    return holder.describe(os.getppid())


def _actor() -> str:
    return getpass.getuser()


def _new_id() -> str:
    return "%s-%s" % (datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ"), secrets.token_hex(3))

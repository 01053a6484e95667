# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run store: the only SQL of a run. SQLite by default, MariaDB or PostgreSQL by URL (SQLAlchemy does the dialects).

One transaction per call, begun as a writer at once, so that a decision and what it writes cannot be parted. No connection
is kept between calls: the doors run in forked processes, and a connection must not cross a fork.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import time
import typing as t
import urllib.parse

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError, StaleTokenError
from ansible_collections.osops.lifecycle.plugins.plugin_utils import model

try:
    import sqlalchemy as sa

    # Loaded here, before Ansible forks: create_engine() would load the default's dialect anew in the process of every task.
    from sqlalchemy.dialects import sqlite
    from sqlalchemy.pool import NullPool
except ImportError:  # said in a sentence by Store()
    HAS_SQLALCHEMY = False
else:
    HAS_SQLALCHEMY = True
    _meta = sa.MetaData()
    _BIG = sa.BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
    _clouds = sa.Table(
        "osops_cloud",
        _meta,
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("token", sa.BigInteger, nullable=False),
    )
    _runs = sa.Table(
        "osops_run",
        _meta,
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("cloud", sa.String(64), nullable=False),
        sa.Column("verb", sa.String(32), nullable=False),
        sa.Column("services", sa.Text, nullable=False),
        sa.Column("plan_hash", sa.String(64), nullable=False),
        sa.Column("state", sa.String(32), nullable=False, index=True),
        sa.Column("reason", sa.Text, nullable=False, default=""),
        sa.Column("ending", sa.String(32), nullable=False, default=""),
        sa.Column("asked", sa.String(32), nullable=False, default=""),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("lease_until", sa.Float(53), nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Index("osops_run_newest", "cloud", "token"),
    )
    _plans = sa.Table(
        "osops_plan",
        _meta,
        sa.Column("run", sa.String(64), primary_key=True),
        sa.Column("way", sa.String(8), primary_key=True),
        sa.Column("body", sa.Text().with_variant(sa.Text(2**32 - 1), "mysql", "mariadb"), nullable=False),
    )
    _steps = sa.Table(
        "osops_step",
        _meta,
        sa.Column("run", sa.String(64), primary_key=True),
        sa.Column("way", sa.String(8), primary_key=True),
        sa.Column("target", sa.String(255), primary_key=True),
        sa.Column("do", sa.String(32), primary_key=True),
        sa.Column("body", sa.Text().with_variant(sa.Text(2**32 - 1), "mysql", "mariadb"), nullable=False),
    )
    _journal = sa.Table(
        "osops_journal",
        _meta,
        sa.Column("seq", _BIG, primary_key=True, autoincrement=True),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("step", sa.String(255), nullable=False),
        sa.Column("way", sa.String(8), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("deadline_at", sa.Float(53), nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("before", sa.Text, nullable=False),
        sa.Column("after", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("changed", sa.Boolean, nullable=False),
        sa.Index("osops_journal_by_step", "run", "step"),
    )

GRACE_S = 120.0
"""How long a lease outlives the deadline of the step in hand: time for the tasks between two steps."""
_MADE_BY_OTHERS = {"mode": "rw", "uri": "true"}
_JSON_OF_ENTRY = ("holder", "before", "after", "verdict")


class Store:
    """All that a run must remember. ``url`` is an SQLAlchemy URL; ``clock`` gives seconds (wall clock, shared by holders).

    ``watch`` is for those who only look: it makes nothing, changes nothing, never keeps a run waiting, and gives up soon.
    """

    def __init__(self, url: str, clock: t.Callable[[], float] = time.time, watch: bool = False) -> None:
        self.url = url
        self.clock = clock
        if not HAS_SQLALCHEMY:
            raise BadInputError(
                "SQLAlchemy is missing on the control node.", "store.sqlalchemy", "Install it for the Python that runs Ansible."
            )
        try:
            parsed = sa.engine.make_url(url)
            self._sqlite = parsed.get_backend_name() == "sqlite"
            if self._sqlite:
                if not parsed.database or not os.path.isabs(parsed.database):
                    raise BadInputError(
                        "The store's SQLite path must be absolute.", "store.url", "sqlite:////var/lib/osops/store.db"
                    )
                if not watch:
                    folder = pathlib.Path(parsed.database).parent
                    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    # The journal is nobody else's business; SQLite gives its -wal and -shm files the mode of the main file.
                    os.close(os.open(parsed.database, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
                else:  # a file that is not there is not made
                    parsed = parsed.set(database="file:" + urllib.parse.quote(parsed.database), query=_MADE_BY_OTHERS)
            patience = {"timeout": 2 if watch else 60} if self._sqlite else {"connect_timeout": 2} if watch else {}
            self._engine = sa.create_engine(parsed, poolclass=NullPool, connect_args=patience)
        except sa.exc.ArgumentError as exc:
            raise BadInputError("The store's URL cannot be read.", "store.url", "Use an SQLAlchemy URL.") from exc
        except ImportError as exc:
            raise BadInputError(
                "The store's database driver is missing on the control node: %s." % exc.name, "store.driver"
            ) from exc
        except OSError as exc:
            raise LifecycleError(
                "The store cannot be opened: %s." % exc.strerror, "store.unusable", "Nothing was changed."
            ) from exc
        if self._sqlite:
            sa.event.listen(self._engine, "connect", _sqlite_watch if watch else _sqlite_connect)
            sa.event.listen(self._engine, "begin", lambda c: c.exec_driver_sql("BEGIN" if watch else "BEGIN IMMEDIATE"))
        with self._writing() as c:
            if not watch:
                _meta.create_all(c)
            elif not sa.inspect(c).has_table(_runs.name):
                raise BadInputError("No run has been made with this store.", "store.none")

    @contextlib.contextmanager
    def _writing(self) -> t.Iterator[sa.Connection]:
        try:
            with self._engine.begin() as c:
                yield c
        except sa.exc.SQLAlchemyError as exc:
            # The driver's own text, without the URL and without the statement's values.
            raise LifecycleError(
                "The store failed: %s." % (getattr(exc, "orig", None) or type(exc).__name__),
                "store.failed",
                "Look at its disk space and its rights; the run goes on with the same command afterwards.",
            ) from exc

    def _locked_run(self, c: sa.Connection, run: str) -> model.Run:
        row = c.execute(sa.select(_runs).where(_runs.c.id == run).with_for_update()).mappings().first()
        if row is None:
            raise BadInputError("There is no run %s in this store." % run, "store.no_run")
        return _run(row)

    # -- runs ------------------------------------------------------------------------------------------------------

    def open(self, plan: model.Plan, run_id: str, holder: dict[str, t.Any], actor: str) -> model.Run:
        """Write a new run with its plan and its steps, unless one of its services has an open or frozen run."""
        now = self.clock()
        with self._writing() as c:
            token = self._next_token(c, plan.cloud, now)
            self._alone(c, plan.cloud, plan.services)
            row = {
                "id": run_id, "cloud": plan.cloud, "verb": plan.verb, "services": json.dumps(plan.services),
                "plan_hash": plan.hash, "state": "running", "reason": "", "ending": "", "asked": "", "token": token,
                "lease_until": now + GRACE_S, "holder": json.dumps(holder), "actor": actor[:255], "created": now,
            }  # fmt: skip
            c.execute(_runs.insert(), row)
            self._put_plan(c, run_id, model.OUT, plan)
            return self._locked_run(c, run_id)

    def take_over(self, run: model.Run, holder: dict[str, t.Any], state: str = "") -> model.Run:
        """Become the holder of an open run that is as it was looked at, with a higher token; ``state`` also sets its state."""
        now = self.clock()
        with self._writing() as c:
            old = self._locked_run(c, run.id)
            if old.token != run.token:
                raise BadInputError("Somebody else has just taken the run %s over." % run.id, "run.busy", "Look at its status.")
            token = self._next_token(c, old.cloud, now)
            self._alone(c, old.cloud, (), but=old.id)
            # A pause is over when somebody goes on; a wish to cancel a run whose process is dead is kept for its next gate.
            asked = "cancel" if old.asked == "cancel" and old.state == "running" else ""
            values = {"token": token, "holder": json.dumps(holder), "lease_until": now + GRACE_S, "asked": asked}
            if state:
                values["state"] = state
            if old.state == "paused":
                values["reason"] = ""
            c.execute(_runs.update().where(_runs.c.id == run.id).values(**values))
            return self._locked_run(c, run.id)

    def _alone(self, c: sa.Connection, cloud: str, services: t.Sequence[str], but: str = "") -> None:
        """One working run a cloud: runs of different services meet on the balancers, and hosts obey the newest token only."""
        for other in self._runs_of(c, cloud, ()):
            working = other.state in ("running", "rolling_back")
            ours = bool(set(other.services) & set(services))
            if other.id != but and (working or (ours and other.state in model.OPEN_STATES)):
                raise BadInputError(
                    "The run %s (%s of %s) is %s on this cloud." % (other.id, other.verb, ", ".join(other.services), other.state),
                    "run.busy",
                    "Let it end, go on with it, or pause it; nothing was changed.",
                    {"run": other.id},
                )

    def turn(self, run: str, token: int, state: str, reason: str, ending: str = "") -> model.Run:
        """Change the state of a run, as its newest holder. The first reason stays."""
        with self._writing() as c:
            return self._turn(c, run, token, state, reason, ending)

    def _turn(self, c: sa.Connection, run: str, token: int, state: str, reason: str, ending: str = "") -> model.Run:
        old = self._locked_run(c, run)
        if token < old.token:
            raise StaleTokenError("The run %s has been taken over by another control node or process." % run)
        values = {"state": state, "reason": old.reason or reason, "ending": ending or old.ending}
        c.execute(_runs.update().where(_runs.c.id == run).values(**values))
        return self._locked_run(c, run)

    def end_run(self, run: str, token: int, state: str, reason: str) -> model.Run:
        """The state in which a run is left, with its whole reason; the lease is over."""
        with self._writing() as c:
            self._turn(c, run, token, state, reason)
            c.execute(_runs.update().where(_runs.c.id == run).values(reason=reason, lease_until=self.clock()))
            return self._locked_run(c, run)

    def ask(self, run: str, what: str) -> None:
        """Leave a wish (pause, cancel) for the next gate of a run."""
        with self._writing() as c:
            c.execute(_runs.update().where(_runs.c.id == run).values(asked=what))

    def run(self, run: str) -> model.Run:
        with self._writing() as c:
            return self._locked_run(c, run)

    def runs(self, cloud: str, services: t.Sequence[str] = (), newest: int | None = None) -> list[model.Run]:
        """The runs of a cloud (that touch one of ``services``, when given), newest first; not more than the ``newest``."""
        with self._writing() as c:
            return self._runs_of(c, cloud, services, newest)

    def _runs_of(self, c: sa.Connection, cloud: str, services: t.Sequence[str], newest: int | None = None) -> list[model.Run]:
        query = sa.select(_runs).where(_runs.c.cloud == cloud).order_by(_runs.c.token.desc())
        rows = c.execute(query if services else query.limit(newest)).mappings()
        ours = (run for run in map(_run, rows) if not services or set(run.services) & set(services))
        return list(itertools.islice(ours, newest))

    def progress(self, run: str) -> tuple[model.Run, list[model.Entry]]:
        """A run and its journal without what was seen: the cheap read of those who watch. It waits for no lock of a row."""
        kept = (_journal.c[name] for name in ("seq", "run", "step", "way", "attempt", "kind", "token", "at", "deadline_at"))
        with self._writing() as c:
            row = c.execute(sa.select(_runs).where(_runs.c.id == run)).mappings().first()
            rows = c.execute(sa.select(*kept).where(_journal.c.run == run).order_by(_journal.c.seq)).mappings()
            entries = [model.Entry(**entry) for entry in rows]
        if row is None:
            raise BadInputError("There is no run %s in this store." % run, "store.no_run")
        return _run(row), entries

    def _next_token(self, c: sa.Connection, cloud: str, now: float) -> int:
        """Higher than every token given before, and than those of a store that was lost: it starts from the clock."""
        changed = c.execute(_clouds.update().where(_clouds.c.name == cloud).values(token=_clouds.c.token + 1))
        if changed.rowcount == 0:
            c.execute(_clouds.insert(), {"name": cloud, "token": 0})
        token = max(int(now), int(c.execute(sa.select(_clouds.c.token).where(_clouds.c.name == cloud)).scalar_one()))
        c.execute(_clouds.update().where(_clouds.c.name == cloud).values(token=token))
        return token

    # -- plans and steps -------------------------------------------------------------------------------------------

    def _put_plan(self, c: sa.Connection, run: str, way: str, plan: model.Plan) -> None:
        c.execute(_plans.insert(), {"run": run, "way": way, "body": model.canonical(plan)})
        if plan.steps:
            rows = [{"run": run, "way": way, "target": s.target, "do": s.do, "body": model.canonical(s)} for s in plan.steps]
            c.execute(_steps.insert(), rows)

    def put_back(self, run: str, plan: model.Plan) -> model.Plan:
        """Store the way back and return the one that counts: it is derived once, a second call gets the first one."""
        with self._writing() as c:
            self._locked_run(c, run)
            if c.execute(sa.select(_plans.c.run).where(_plans.c.run == run, _plans.c.way == model.BACK)).first() is None:
                self._put_plan(c, run, model.BACK, plan)
        return self.back(run) or plan

    def plan(self, run: str) -> model.Plan:
        """The plan that a run was opened with."""
        plan = self._plan(run, model.OUT)
        if plan is None:
            raise BadInputError("There is no run %s in this store." % run, "store.no_run")
        return plan

    def back(self, run: str) -> model.Plan | None:
        """The way back of a run, None while it has none."""
        return self._plan(run, model.BACK)

    def _plan(self, run: str, way: str) -> model.Plan | None:
        with self._writing() as c:
            body = c.execute(sa.select(_plans.c.body).where(_plans.c.run == run, _plans.c.way == way)).scalar()
        return model.plan_from_dict(json.loads(body)) if body else None

    def step(self, run: str, way: str, target: str, do: str) -> model.Step | None:
        """The row of the plan for one ``step`` line, None where the target has no such step."""
        where = (_steps.c.run == run, _steps.c.way == way, _steps.c.target == target, _steps.c.do == do)
        try:
            with self._engine.connect() as c:
                body = c.execute(sa.select(_steps.c.body).where(*where)).scalar()
        except sa.exc.SQLAlchemyError as exc:
            raise LifecycleError("The store cannot be read: %s." % getattr(exc, "orig", exc), "store.failed") from exc
        return model.step_from_dict(json.loads(body)) if body else None

    # -- journal ---------------------------------------------------------------------------------------------------

    def entries(self, run: str, way: str = "") -> list[model.Entry]:
        with self._writing() as c:
            return self._entries(c, run, way)

    def _entries(self, c: sa.Connection, run: str, way: str = "", steps: t.Collection[str] = ()) -> list[model.Entry]:
        query = sa.select(_journal).where(_journal.c.run == run).order_by(_journal.c.seq)
        query = query.where(_journal.c.way == way) if way else query
        rows = c.execute(query.where(_journal.c.step.in_(steps)) if steps else query).mappings()
        return [model.Entry(**{**row, **{name: json.loads(row[name]) for name in _JSON_OF_ENTRY}}) for row in rows]

    @contextlib.contextmanager
    def beginning(self, step: model.Step, run: str) -> t.Iterator[Beginning]:
        """One transaction that shows the run and what the journal has on a step and its needs, and may write the intent."""
        concerned = {step.id, *step.needs, *step.unless_begun, *step.expect_from}
        with self._writing() as c:
            yield Beginning(self, c, self._locked_run(c, run), self._entries(c, run, step.way, concerned))

    def end(
        self, intent: model.Entry, kind: str, seen: t.Mapping[str, t.Any], turn: t.Mapping[str, str] | None = None
    ) -> model.Run:
        """Write what was seen after an act; ``turn`` (state, reason, ending) turns the run in the same transaction."""
        now = self.clock()
        before, after, verdict = (seen.get(name) or {} for name in ("before", "after", "verdict"))
        changed = bool(seen.get("changed"))
        entry = dataclasses.replace(intent, kind=kind, at=now, changed=changed, before=before, after=after, verdict=verdict)
        with self._writing() as c:
            _insert(c, entry)
            run = self._locked_run(c, intent.run)
            if intent.token < run.token:
                return run
            c.execute(_runs.update().where(_runs.c.id == run.id).values(lease_until=now + GRACE_S))
            return self._turn(c, run.id, intent.token, **turn) if turn else run


@dataclasses.dataclass(frozen=True)
class Beginning:
    """What journaled.begin sees inside its transaction."""

    store: Store
    connection: sa.Connection
    run: model.Run
    entries: list[model.Entry]

    def intent(self, step: model.Step, attempt: int, holder: dict[str, t.Any]) -> model.Entry:
        now = self.store.clock()
        until = now + step.deadline_s
        entry = model.Entry(0, self.run.id, step.id, step.way, attempt, "intent", self.run.token, now, until, holder)
        _insert(self.connection, entry)
        lease = max(self.run.lease_until, until + GRACE_S)
        self.connection.execute(_runs.update().where(_runs.c.id == self.run.id).values(lease_until=lease))
        return entry


def _insert(c: sa.Connection, entry: model.Entry) -> None:
    """Append to the journal; the database gives the number."""
    row = dataclasses.asdict(entry)
    row.pop("seq")
    row.update({name: model.canonical(row[name]) for name in _JSON_OF_ENTRY})
    c.execute(_journal.insert(), row)


def _run(row: sa.RowMapping) -> model.Run:
    return model.Run(**{**dict(row), "services": tuple(json.loads(row["services"])), "holder": json.loads(row["holder"])})


def _sqlite_watch(connection: t.Any, _record: t.Any) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA query_only=ON")


def _sqlite_connect(connection: t.Any, _record: t.Any) -> None:
    # SQLAlchemy begins the transactions (BEGIN IMMEDIATE), so the driver must not; FULL keeps the journal through a power cut.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The database as the service itself reaches it: with its own interpreter, configuration, user and password.

The question is a small script on the standard input of the release's interpreter, so no password is ever in argv, and
nothing needs to be installed: SQLAlchemy, the driver and oslo.config are there because the service needs them.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _grants
from ansible_collections.osops.lifecycle.plugins.module_utils._command import run
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError, UnknownAnswerError
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import scrub, tail

_MARK = "OSOPS-ANSWER "
# argv: section, option, seconds, then configuration files. The answer is one line; nothing of the address leaves but names.
SCRIPT = r"""
import json, sys

def say(**answer):
    print("OSOPS-ANSWER " + json.dumps(answer))
    sys.exit(0)

section, option, seconds, files = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
from oslo_config import cfg
import sqlalchemy
conf = cfg.ConfigOpts()
conf.register_opt(cfg.StrOpt(option, secret=True), group=section)
try:
    conf(args=[], project="osops", default_config_files=files, default_config_dirs=[])
    address = conf[section][option]
except Exception as exc:
    say(problem="config", text=type(exc).__name__)
if not address:
    say(problem="unset")
try:
    url = sqlalchemy.engine.make_url(address)
except Exception:
    say(problem="address")
facts = {"backend": url.get_backend_name(), "database": url.database, "user": url.username, "server": url.host}
letters = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
facts["characters"] = "".join(sorted(set(address) - letters))
options = {"connect_timeout": seconds} if facts["backend"] == "mysql" else {}
try:
    with sqlalchemy.create_engine(address, connect_args=options).connect() as link:
        ask = lambda text: [tuple(row) for row in link.execute(sqlalchemy.text(text))]
        tables = sqlalchemy.inspect(link).get_table_names()
        facts["tables"] = len(tables)
        if "alembic_version" in tables:
            facts["heads"] = sorted(str(row[0]) for row in ask("SELECT version_num FROM alembic_version"))
        if facts["backend"] == "mysql":
            facts["node"], facts["version"], read_only = ask("SELECT @@hostname, @@version, @@read_only")[0]
            facts["read_only"] = bool(int(read_only))
            facts["grants"] = [str(row[0]).split(" TO ")[0] for row in ask("SHOW GRANTS")]
except sqlalchemy.exc.DBAPIError as exc:
    arguments = getattr(exc.orig, "args", ())
    number = arguments[0] if arguments and isinstance(arguments[0], int) else 0
    say(problem="connect", number=number, text=str(arguments[-1] if arguments else type(exc.orig).__name__), **facts)
except Exception as exc:
    say(problem="other", text=type(exc).__name__, **facts)
say(**facts)
"""

# Error numbers of MariaDB and MySQL, as their own clients know them.
_REFUSED_USER = (1045, 1698, 1130)
_NO_DATABASE = (1044, 1049)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a recipe asks of the database: where its address stands, which rights, which characters break the tool."""

    section: str
    option: str
    grants: tuple[str, ...] = ()
    refuse_in_url: tuple[str, ...] = ()
    node: str = ""

    @classmethod
    def from_recipe(cls, row: t.Mapping[str, t.Any], node: str = "") -> Wanted:
        return cls(
            str(row.get("section", "database")),
            str(row.get("option", "connection")),
            tuple(row.get("grants") or ()),
            tuple(row.get("refuse_in_url") or ()),
            node,
        )


def ask(python: str, files: t.Sequence[str], wanted: Wanted, user: str, timeout_s: float) -> dict[str, t.Any]:
    """Facts about the database, as the service reaches it. Raises LifecycleError (``database.*``) when it cannot."""
    done = run([python, "-I", "-", wanted.section, wanted.option, "10", *files], timeout_s, user, stdin=SCRIPT)
    lines = [line for line in done.out.splitlines() if line.startswith(_MARK)]
    if done.rc != 0 or not lines:
        raise UnknownAnswerError(
            "The release's own interpreter could not ask the database.",
            hint="See the evidence.",
            evidence={"stderr": tail(scrub(done.err), 5)},
        )
    facts: dict[str, t.Any] = json.loads(lines[-1][len(_MARK) :])
    if "problem" in facts:
        raise _problem(facts, wanted, files)
    return facts


def _problem(facts: t.Mapping[str, t.Any], wanted: Wanted, files: t.Sequence[str]) -> LifecycleError:
    where = "[%s] %s in %s" % (wanted.section, wanted.option, ", ".join(files))
    text = scrub(str(facts.get("text", "")))
    if facts["problem"] in ("config", "unset", "address"):
        what = {"config": "cannot be read (%s)" % text, "unset": "is not set", "address": "is not a database address"}[
            facts["problem"]
        ]
        return LifecycleError("%s %s." % (where, what), "database.config", "Correct the configuration of the service.")
    number = facts.get("number", 0)
    evidence = {key: facts.get(key) for key in ("server", "database", "user", "number")}
    if number in _REFUSED_USER:
        return LifecycleError(
            "The database at %s refuses the service's user: %s." % (facts["server"], text),
            "database.refused",
            "Check %s." % where,
            evidence,
        )
    if number in _NO_DATABASE:
        return LifecycleError(
            "The service's user cannot use its database: %s." % text,
            "database.refused",
            "Check %s and its rights." % where,
            evidence,
        )
    return LifecycleError(
        "The database at %s cannot be reached from this host: %s." % (facts.get("server"), text),
        "database.unreachable",
        "Check %s." % where,
        evidence,
    )


def judge(facts: t.Mapping[str, t.Any], wanted: Wanted) -> None:
    """Hold the facts against what the recipe asks for. Raises LifecycleError (``database.*``). Pure."""
    bad = [text for text in wanted.refuse_in_url if text in facts.get("characters", "")]
    if bad:
        raise LifecycleError(
            "The database address of the service holds %r, which its migration tool cannot read." % bad[0],
            "database.url",
            "Give the database user a password of letters and digits, and change [%s] %s on every host."
            % (wanted.section, wanted.option),
        )
    if wanted.node and facts.get("node") != wanted.node:
        raise LifecycleError(
            "The service reaches the database node %s, not %s." % (facts.get("node"), wanted.node),
            "database.node",
            "Check the proxy in between.",
        )
    if facts.get("read_only"):
        raise LifecycleError(
            "The database node %s is read-only." % facts.get("node"), "database.read_only", "Let the service reach the writer."
        )
    if facts.get("backend") == "mysql":
        lacks = _grants.missing(facts.get("grants", ()), str(facts.get("database")), wanted.grants)
        if lacks:
            raise LifecycleError(
                "The service's user %s lacks %s on its database %s."
                % (facts.get("user"), ", ".join(lacks), facts.get("database")),
                "database.grants",
                "GRANT %s ON `%s`.* TO that user." % (", ".join(lacks), facts.get("database")),
            )

# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The database schema of one service, moved by the new release's own tools: the states of schema_step."""

from __future__ import annotations

import dataclasses
import glob
import os
import time
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils import _database, _environment, _job, _revisions, _systemd
from ansible_collections.osops.lifecycle.plugins.module_utils._command import Done, run
from ansible_collections.osops.lifecycle.plugins.module_utils._errors import BadInputError, LifecycleError, UnknownAnswerError
from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Act, Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._packages import dpkg, kept
from ansible_collections.osops.lifecycle.plugins.module_utils._release import Release
from ansible_collections.osops.lifecycle.plugins.module_utils._scrub import scrub, tail
from ansible_collections.osops.lifecycle.plugins.module_utils._settle import settle
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict

# What return codes may mean. A recipe gives each code of a command one of these words; a code without a word is unknown.
WORDS = ("done", "current", "expand", "contract", "refuse", "ok", "warning", "failure")
SCHEMA_WORDS = ("current", "expand", "contract")


@dataclasses.dataclass(frozen=True)
class Command:
    """One command of a recipe: a program of the release, and what each of its return codes means."""

    name: str
    argv: tuple[str, ...]
    rc: t.Mapping[int, str]
    env: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    """environment variable -> name of a secret"""
    option: str = ""
    """what hands a configuration file to this command, where it is another option than for the others"""
    heads: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Instead of a program: where the release says which revisions it needs (folder, and the files expand and contract of it)."""


def parse_commands(rows: t.Mapping[str, t.Mapping[str, t.Any]]) -> dict[str, Command]:
    """Read the commands of a recipe. Raises BadInputError that names the command."""
    found = {}
    for name, row in rows.items():
        if row.get("heads") is not None:
            found[name] = Command(name, (), {}, heads=_heads(name, row["heads"]))
            continue
        argv = tuple(str(part) for part in row.get("argv") or ())
        try:
            words = {int(code): str(word) for code, word in (row.get("rc") or {}).items()}
        except ValueError:
            raise BadInputError("commands.%s.rc has a key that is not a number." % name, "schema.input") from None
        strange = sorted(set(words.values()) - set(WORDS))
        if strange:
            raise BadInputError(
                "commands.%s.rc has the unknown word %s." % (name, strange[0]), "schema.input", "Known: %s." % ", ".join(WORDS)
            )
        if not argv or "/" in argv[0] or not words:
            raise BadInputError(
                "commands.%s needs argv, which begins with the plain name of a program, and rc." % name, "schema.input"
            )
        env = {str(key): str(value) for key, value in (row.get("env") or {}).items()}
        found[name] = Command(name, argv, words, env, option=str(row.get("option") or ""))
    return found


def _heads(name: str, row: t.Mapping[str, t.Any]) -> dict[str, str]:
    """The place of a release's revisions, below its site-packages. Raises BadInputError."""
    found = {key: str(value) for key, value in row.items() if value is not None}
    wrong = set(found) not in ({"folder"}, {"folder", *_revisions.BRANCHES}) or any(
        part.startswith("/") or ".." in part for part in found.values()
    )
    if wrong:
        raise BadInputError(
            "commands.%s.heads needs folder, below the release's packages, and expand and contract in it, or neither of them."
            % name,
            "schema.input",
        )
    return found


class Tools:
    """The programs of one release on this host, run as the service's user with the service's configuration."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        release = params["release"]
        packaged = bool(release.get("version")) and not (release.get("lock") or release.get("id"))
        self.release = _packaged(release) if packaged else Release.from_args(release)
        self.wanted = _database_row(params)
        instance, config = params["instance"], params["config"]
        self.path = _environment.check_path(instance["path"])
        self.user = instance["user"] or ""
        self.unit = instance["unit"] or ""
        self.commands = parse_commands(params["commands"])
        self.secrets: dict[str, str] = {name: str(value) for name, value in (params["secrets"] or {}).items()}
        self.files: list[str] = list(config["files"])
        self.option: str = config["option"]
        self.folder = os.path.join(_environment.releases_folder(self.path), self.release.id)
        # What is inside kept Debian packages, which are not installed yet, before what is installed.
        root = os.path.join(self.folder, "root", "usr")
        self.programs = (os.path.join(root, "bin"), "/usr/bin") if packaged else (os.path.join(self.folder, "bin"),)
        self.python = "/usr/bin/python3" if packaged else os.path.join(self.folder, "bin", "python")
        self.libraries = (
            os.path.join(root, "lib", "python3", "dist-packages")
            if packaged
            else os.path.join(self.folder, "lib", "python3*", "site-packages")
        )
        self.env = {"PYTHONPATH": self.libraries} if packaged else {}

    def ready(self) -> None:
        """The release is here, and the user is known. Before this nothing can be asked."""
        if not _environment.is_complete(self.path, self.release.id):
            raise LifecycleError(
                "Release %s is not on this host yet, so its tools cannot be asked." % self.release.id,
                "schema.release_not_present",
                "Fetch it first.",
            )
        if not self.user and self.unit:
            self.user = _systemd.show(self.unit).user

    def argv(self, name: str) -> tuple[str, ...]:
        """The command line of a command of the recipe, its program inside the release."""
        if name not in self.commands:
            raise BadInputError("The recipe has no command %s." % name, "schema.input")
        command = self.commands[name]
        found = [os.path.join(folder, command.argv[0]) for folder in self.programs]
        program = next((path for path in found if os.access(path, os.X_OK)), "")
        if not program:
            raise LifecycleError(
                "Release %s has no program %s." % (self.release.id, command.argv[0]), "schema.no_program", "Correct the recipe."
            )
        options = [part for file in self.files for part in (command.option or self.option, file)]
        arguments = [part for word in command.argv[1:] for part in (options if word == "{config}" else [word])]
        return (program, *arguments)

    def environment(self, name: str) -> dict[str, str]:
        """What a command finds in its environment. Raises BadInputError for a secret that was not given."""
        missing = sorted(set(self.commands[name].env.values()) - set(self.secrets))
        if missing:
            raise BadInputError("The command %s needs the secret %s." % (name, missing[0]), "schema.input", "Give it in secrets.")
        return {**self.env, **{variable: self.secrets[secret] for variable, secret in self.commands[name].env.items()}}

    def run(self, name: str, job: str, terms: Terms, report: Report) -> None:
        """Run a command that changes something, as a job. Raises LifecycleError unless its return code means done."""
        work = _job.Job(job, (self.argv(name),), self.environment(name), user=self.user)
        said = ""
        try:
            # One that still runs is taken up. A result from before is not: a check has just said that there is something to do.
            ended = _job.run_job(work, terms.deadline)
        finally:
            said = _job.output(work)
            for secret in self.secrets.values():
                said = said.replace(secret, "***")
            report.more["output"] = tail(scrub(said), 20)
        if self.word(name, ended.rc if ended.rc is not None else -1, said) != "done":
            raise LifecycleError(
                "The schema step %s failed." % name,
                "schema.act_failed",
                "See its output; what serves is not touched.",
                {"command": name, "rc": ended.rc, "output": report.more["output"]},
            )

    def word(self, name: str, rc: int, said: str) -> str:
        """What a return code means. Raises UnknownAnswerError for one that the recipe does not know."""
        command = self.commands[name]
        if rc not in command.rc:
            raise UnknownAnswerError(
                "%s ended with %d, which the recipe does not know." % (" ".join(command.argv).replace("{config} ", ""), rc),
                hint="Unknown is not success. See its output.",
                evidence={"command": name, "rc": rc, "output": tail(scrub(said), 15)},
            )
        return command.rc[rc]

    def ask(self, name: str, terms: Terms) -> tuple[str, Done]:
        """Run a command that only reads, or compare the revisions of release and database where the recipe says so."""
        if name in self.commands and self.commands[name].heads:
            return self._compare(self.commands[name].heads, terms)
        done = run(self.argv(name), terms.deadline.remaining(), self.user, self.env)
        return self.word(name, done.rc, done.out + "\n" + done.err), done

    def _compare(self, heads: t.Mapping[str, str], terms: Terms) -> tuple[str, Done]:
        """What the schema needs, by the revisions that the release's own files name and those that stand in the database.

        Some releases' own check compares the database with itself and always says that all is well (Keystone 23 to 25).
        """
        if self.wanted is None:
            raise BadInputError("A check by heads needs a check with database beside it.", "schema.input")
        begun = time.monotonic()
        there = self.database(self.wanted, terms).get("heads") or []
        found = glob.glob(os.path.join(self.libraries, heads["folder"]))
        try:
            wanted, known = _revisions.branches(found[0], heads) if "expand" in heads else _revisions.single_branch(found[0])
        except (IndexError, OSError, ValueError):
            raise LifecycleError(
                "Release %s has no revisions at %s." % (self.release.id, heads["folder"]),
                "schema.no_heads",
                "Correct the recipe.",
            ) from None
        word = next((branch for branch in wanted if wanted[branch] not in there), "current")
        if any(revision not in known for revision in there):
            word = "refuse"
        says = "wanted: %s; there: %s" % (", ".join(wanted.values()), ", ".join(there) or "none")
        return word, Done(0, says, "", time.monotonic() - begun)

    def database(self, wanted: _database.Wanted, terms: Terms) -> dict[str, t.Any]:
        return _database.ask(self.python, self.files, wanted, self.user, terms.deadline.remaining())


def _packaged(args: t.Mapping[str, t.Any]) -> Release:
    """A version of Debian packages, as artifact_package keeps it. Raises BadInputError."""
    version = dpkg.check_version(args["version"])
    return Release(kept.folder_name(version), version, args.get("package") or "")


def prepare(params: t.Mapping[str, t.Any]) -> Act:
    """Check the arguments of the module and say what will act. Raises BadInputError."""
    tools = Tools(params)
    if params["state"] == "preflight":
        return _Preflight(tools, params)
    return _Step(tools, params)


def _database_row(params: t.Mapping[str, t.Any]) -> _database.Wanted | None:
    for row in params["checks"] or ():
        if row.get("database") is not None:
            return _database.Wanted.from_recipe(row["database"], params["database_host"] or "")
    return None


class _Preflight:
    """Every check of the recipe, one after the other, also after a failure, so that one run shows all that is wrong."""

    def __init__(self, tools: Tools, params: t.Mapping[str, t.Any]) -> None:
        self.tools, self.checks, self.wanted = tools, list(params["checks"] or ()), tools.wanted
        if not self.checks:
            raise BadInputError("The list of checks is empty, so nothing would be proven.", "schema.input")
        for row in self.checks:
            if not row.get("name") or bool(row.get("command")) == bool(row.get("database")):
                raise BadInputError("Each check needs a name and either command or database.", "schema.input")

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        self.tools.ready()
        rows: list[dict[str, t.Any]] = []
        report.more["checks"] = rows
        problems: list[LifecycleError] = []
        passed: list[str] = []
        for check in self.checks:
            row: dict[str, t.Any] = {"name": check["name"], "outcome": "pass"}
            rows.append(row)
            without = [name for name in check.get("needs") or () if name not in passed]
            if without:
                row.update(outcome="not_run", reason="%s did not pass." % ", ".join(without))
                continue
            try:
                self._check(check, row, report, terms)
                passed.append(check["name"])
            except LifecycleError as exc:
                row.update(outcome="fail", code=exc.code, reason=exc.msg)
                problems.append(exc)
        report.after = dict(report.before)
        if not problems:
            warns = ["%s warns: %s." % (row["name"], "; ".join(row["said"])) for row in rows if row.get("said")]
            return Verdict("pass", "preflight.passed", " ".join(["%d checks passed." % len(rows), *warns]))
        first = problems[0]
        failed = [row["name"] for row in rows if row["outcome"] == "fail"]
        code = "unknown_answer" if first.code == "unknown_answer" else "preflight." + failed[0]
        evidence = {**first.evidence, "code": first.code}
        raise LifecycleError(" ".join(problem.msg for problem in problems), code, first.hint, evidence)

    def _check(self, check: t.Mapping[str, t.Any], row: dict[str, t.Any], report: Report, terms: Terms) -> None:
        if check.get("database") is not None and self.wanted is not None:
            facts = self.tools.database(self.wanted, terms)
            row.update({key: facts.get(key) for key in ("backend", "server", "node", "version", "database")})
            report.before["head"] = ",".join(facts.get("heads", []))
            _database.judge(facts, self.wanted)
            return
        word, done = self.tools.ask(check["command"], terms)
        row.update(word=word, rc=done.rc, seconds=round(done.seconds, 1))
        if word in SCHEMA_WORDS:
            report.before["schema"] = word
        if word == "warning" and check.get("tell"):
            lines = (done.out + "\n" + done.err).splitlines()
            row["said"] = [scrub(line.strip()) for line in lines if check["tell"] in line][-5:]
            if not row["said"]:
                # A program that crashes ends like one that warns.
                raise UnknownAnswerError(
                    "%s ended like a warning, and warned of nothing." % check["command"],
                    hint="Unknown is not success. Run it by hand.",
                    evidence={"command": check["command"], "rc": done.rc},
                )
        if word not in (check.get("accept") or ()):
            explained = (check.get("explain") or {}).get(word) or "%s says %s." % (
                " ".join(self.tools.commands[check["command"]].argv[:1]) or check["command"],
                word,
            )
            raise LifecycleError(
                explained, "preflight.word", "See the output.", {"rc": done.rc, "output": tail(scrub(done.out + done.err), 30)}
            )


class _Step:
    """One schema step: look, act as a job, look again. The way to the goal is the new release's own tool."""

    def __init__(self, tools: Tools, params: t.Mapping[str, t.Any]) -> None:
        row = params["act"] or {}
        if not all(row.get(key) for key in ("check", "act", "when", "accept")):
            raise BadInputError("act needs check, act, when and accept.", "schema.input")
        self.tools, self.wanted = tools, tools.wanted
        self.check, self.act = str(row["check"]), str(row["act"])
        self.then = tuple(str(name) for name in row.get("then") or ())
        for name in self.then:
            self.tools.environment(name)
        self.when, self.accept = tuple(row["when"]), tuple(row["accept"])
        checks = [check for check in params["checks"] or () if check.get("command") == self.check]
        self.explain: dict[str, str] = {word: str(why) for check in checks for word, why in (check.get("explain") or {}).items()}
        self.job = params["job"] or "%s-%s-%s" % (params["service"], self.act, tools.release.id)

    def _look(self, terms: Terms) -> tuple[dict[str, t.Any], Done]:
        # The database first: it says at once that it cannot be reached, where the service's programs go on trying for minutes.
        head = None if self.wanted is None else ",".join(self.tools.database(self.wanted, terms).get("heads", []))
        word, done = self.tools.ask(self.check, terms)
        return {"schema": word, **({} if head is None else {"head": head})}, done

    def __call__(self, terms: Terms, report: Report) -> Verdict:
        self.tools.ready()
        seen, said = self._look(terms)
        report.before = report.after = seen
        word = str(seen["schema"])
        if word in self.accept and self.then:
            # A former act may have been cut between the schema and what follows it; that may run again.
            report.changed = True
            return self._follow(terms, report, word)
        if word in self.accept:
            return Verdict("pass", "schema.current", "The schema is as this release needs it (%s)." % word)
        if word not in self.when:
            evidence = {"rc": said.rc, "output": tail(scrub(said.out + said.err), 15)}
            why = self.explain.get(word) or "its check says %s." % word
            raise LifecycleError("The schema cannot be moved: %s" % why, "schema.refused", "See the output.", evidence)
        settle(seen, {"schema": self.accept[0]}, terms.expect, terms.resume)
        report.changed, report.after = True, {"schema": self.accept[0]}
        if terms.check:
            return Verdict("pass", "schema.predicted", "The schema would be moved (%s)." % word)
        report.after = {}
        self.tools.run(self.act, self.job, terms, report)
        report.after, said = self._look(terms)
        if report.after["schema"] not in self.accept:
            raise LifecycleError(
                "The schema step ended well, but the check still says %s." % report.after["schema"],
                "schema.not_reached",
                "See the output.",
                {"output": report.more["output"]},
            )
        return self._follow(terms, report, word)

    def _follow(self, terms: Terms, report: Report, word: str) -> Verdict:
        """What comes once after the schema: a first administrator, say."""
        for name in self.then if not terms.check else ():
            report.changed = True
            self.tools.run(name, "%s-%s" % (self.job, name), terms, report)
        says = "The schema went from %s to %s" % (word, report.after["schema"])
        return Verdict("pass", "schema.moved", says + (", then: %s." % ", ".join(self.then) if self.then else "."))

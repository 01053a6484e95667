# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is on one host, as JSON: section -> key -> field -> value. snapshot.py sends this text to ``python3 -`` of every host.
Its words are folders of which it need not read what is below.

It reads and changes nothing. What moves by itself is left out: times, counters, the processes of ssh sessions, compiled bytecode.
"""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
import typing as t

Fields = dict[str, str]
Section = dict[str, Fields]

ROOTS = ("/etc", "/opt", "/usr/local", "/usr/lib/systemd/system", "/run/systemd/system", "/var/lib/osops", "/var/spool/cron")
UNITS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
# Told entry by entry in the sections user and group, so that one user more is not a change of four files.
ACCOUNTS = re.compile(r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|/etc/\.pwd\.lock$")
SERVER = ("srv_addr", "srv_port", "srv_op_state", "srv_admin_state", "srv_uweight")
LISTENING = "0A"


def said(*argv: str, given: str = "") -> str:
    """Output of a command that must succeed."""
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        sys.exit("%s: exit code %d: %s" % (" ".join(argv[:3]), done.returncode, done.stderr.strip()[-300:]))
    return done.stdout


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def files(without: t.Sequence[str]) -> Section:
    """Everything below the roots, but not what is below ``without``. A folder's time is left out: it tells of its entries, and they are here themselves."""
    found: Section = {}
    waiting = [root for root in ROOTS if os.path.isdir(root) and not os.path.islink(root)]
    while waiting:
        folder = waiting.pop()
        if folder in without:
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == "__pycache__" or ACCOUNTS.match(entry.path):
                    continue
                try:
                    found[entry.path] = file(entry.path, waiting)
                except FileNotFoundError:
                    continue  # It went between the listing and the look.
    return found


def file(path: str, folders: list[str]) -> Fields:
    seen = os.lstat(path)
    fields = {"mode": "%o" % seen.st_mode, "owner": "%d:%d" % (seen.st_uid, seen.st_gid)}
    if stat.S_ISDIR(seen.st_mode):
        folders.append(path)
        return fields
    fields["mtime"] = str(seen.st_mtime_ns)
    if stat.S_ISLNK(seen.st_mode):
        fields["link"] = os.readlink(path)
    elif stat.S_ISREG(seen.st_mode):
        with open(path, "rb") as data:
            fields["content"] = digest(data.read())
    return fields


def unit_of(pid: str) -> str:
    """The unit in whose control group a process is: the last part of the path that is a service or a scope."""
    with open("/proc/%s/cgroup" % pid, encoding="ascii") as lines:
        parts = [part for line in lines for part in line.strip().rpartition(":")[2].split("/")]
    units = [part for part in parts if part.endswith((".service", ".scope"))]
    return units[-1] if units else "-"


def ours() -> set[str]:
    """This program and what started it."""
    found, pid = set(), os.getpid()
    while pid > 1:
        found.add(str(pid))
        with open("/proc/%d/stat" % pid, encoding="utf-8") as line:
            pid = int(line.read().rpartition(")")[2].split()[1])
    return found


def processes(services: t.Mapping[str, Fields], units: dict[str, str]) -> Section:
    """By unit: its main process, and the others by number. ``units`` gets the unit of every process."""
    found: Section = {}
    mine = ours()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            unit = units[pid] = "init.scope" if pid == "1" else unit_of(pid)
            main = services.get(unit, {}).get("main", "1" if unit == "init.scope" else "")
            # Connections that are kept open come and go with whoever looks at this host.
            if pid in mine or (unit == "ssh.service" and pid != main):
                continue
            with open("/proc/%s/stat" % pid, encoding="utf-8") as line:
                after_name = line.read().rpartition(")")[2].split()
            with open("/proc/%s/cmdline" % pid, "rb") as line:
                words = line.read().rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
            if after_name[0] == "Z":
                continue
            fields = {"pid": pid, "started": after_name[19], "exe": os.readlink("/proc/%s/exe" % pid), "argv": words}
        except (FileNotFoundError, ProcessLookupError):
            continue
        found["%s main" % unit if pid == main else "%s child %s" % (unit, pid)] = fields
    return found


def listeners(units: t.Mapping[str, str]) -> Section:
    """Sockets that others can connect to, and the units that hold them."""
    holders: dict[str, set[str]] = {}
    for pid, unit in units.items():
        try:
            numbers = os.listdir("/proc/%s/fd" % pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        for number in numbers:
            try:
                target = os.readlink("/proc/%s/fd/%s" % (pid, number))
            except (FileNotFoundError, ProcessLookupError):
                continue  # this one was closed meanwhile; the others are still held
            if target.startswith("socket:["):
                holders.setdefault(target[8:-1], set()).add(unit)
    found: dict[str, set[str]] = {}
    for kind in ("tcp", "tcp6"):
        with open("/proc/net/%s" % kind, encoding="ascii") as lines:
            for words in (line.split() for line in lines.readlines()[1:]):
                if words[3] == LISTENING:
                    found.setdefault("%s %s" % (kind, address(words[1])), set()).update(holders.get(words[9], set()))
    with open("/proc/net/unix", encoding="utf-8") as lines:
        for words in (line.split() for line in lines.readlines()[1:]):
            if len(words) > 7 and int(words[3], 16) & 0x10000:
                # HAProxy binds under a name of the moment and then renames the file.
                name = re.sub(r"\.\d+\.tmp$", "", words[7])
                found.setdefault("unix %s" % name, set()).update(holders.get(words[6], set()))
    return {key: {"unit": " ".join(sorted(names))} for key, names in found.items()}


def address(text: str) -> str:
    """``0100007F:1388`` as 127.0.0.1:5000; the kernel writes words of 32 bits in the order of the machine."""
    host, _colon, port = text.partition(":")
    raw = b"".join(bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8))
    return "%s:%d" % (socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw), int(port, 16))


def services() -> Section:
    """Services, sockets and timers that are active or failed; what systemd runs now and then is told by its unit file only."""
    wanted = "Id,Type,ActiveState,MainPID,FragmentPath,DropInPaths,NeedDaemonReload"
    text = said("systemctl", "show", "*.service", "*.socket", "*.timer", "--property=" + wanted)
    found: Section = {}
    for block in text.split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if fields.get("ActiveState") in ("active", "failed", "reloading") and fields.get("Type") != "oneshot":
            drop_ins = fields["DropInPaths"] + ("; needs daemon-reload" if fields.get("NeedDaemonReload") == "yes" else "")
            found[fields["Id"]] = {"state": fields["ActiveState"], "file": fields["FragmentPath"], "drop_ins": drop_ins}
            found[fields["Id"]]["main"] = fields.get("MainPID", "")
    return found


def unit_files() -> Section:
    """What systemctl list-unit-files says, read from the files: asked on every host at once, it would cost seconds."""
    files: dict[str, str] = {}
    wanted: set[str] = set()
    for root in UNITS:
        for folder, _folders, names in os.walk(root) if os.path.isdir(root) else ():
            if folder == root:
                for name in names:
                    path = os.path.join(root, name)
                    files.setdefault(name, "masked" if os.path.realpath(path) == "/dev/null" else path)
            elif folder.endswith((".wants", ".requires")) and root != UNITS[-1]:
                wanted.update(names)
    states = {name: "masked" if path == "masked" else "enabled" if name in wanted else "disabled" for name, path in files.items()}
    return {name: {"enabled": states.get(name, "enabled")} for name in files.keys() | wanted}


def packages() -> Section:
    lines = said("dpkg-query", "--show", "--showformat", "${binary:Package}\t${Version}\t${db:Status-Status}\n").splitlines()
    return {name: {"version": version, "state": state} for name, version, state in (line.split("\t") for line in lines)}


def users() -> Section:
    with open("/etc/shadow", "rb") as lines:
        secrets = {line.split(b":")[0].decode(): digest(line) for line in lines}
    return {
        one.pw_name: {
            "ids": "%d:%d" % one[2:4],
            "home": one.pw_dir,
            "shell": one.pw_shell,
            "shadow": secrets.get(one.pw_name, ""),
        }
        for one in pwd.getpwall()
    }


def groups() -> Section:
    return {one.gr_name: {"id": str(one.gr_gid), "members": " ".join(one.gr_mem)} for one in grp.getgrall()}


def haproxy() -> Section:
    """What runs: proxies and servers, asked of its socket; what is written: every section of its files."""
    found: Section = {}
    main = "/etc/haproxy/haproxy.cfg"
    if not shutil.which("haproxy") or not os.path.exists(main):
        return found
    folder = "/etc/haproxy/conf.d"
    more = sorted(os.path.join(folder, name) for name in os.listdir(folder)) if os.path.isdir(folder) else []
    for path in [main, *(path for path in more if path.endswith(".cfg"))]:
        with open(path, encoding="utf-8") as lines:
            for title, text in sections(lines.read()):
                found["section %s" % title] = {"file": path, "content": digest(text.encode())}
    with open(main, encoding="utf-8") as lines:
        named = re.search(r"^\s*stats socket (/\S+)", lines.read(), re.MULTILINE)
    if named is None or not os.path.exists(named.group(1)):
        return found
    for row in table(ask(named.group(1), "show servers state"), "# "):
        found["server %s/%s" % (row["be_name"], row["srv_name"])] = {name[4:]: row[name] for name in SERVER}
    for row in table(ask(named.group(1), "show stat -1 3 -1"), "# ", ","):
        found["proxy %s %s" % (row["pxname"], row["svname"])] = {name: row[name] for name in ("status", "mode", "algo")}
    return found


def sections(text: str) -> list[tuple[str, str]]:
    """(title, text) of every section: one begins where a line does not begin with a space."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line[:1].strip() and not line.startswith("#"):
            found.append((" ".join(line.split()), ""))
        elif found and line.strip():
            found[-1] = (found[-1][0], found[-1][1] + line + "\n")
    return found


def ask(path: str, line: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(path)
        connection.sendall(line.encode() + b"\n")
        return connection.makefile().read()


def table(text: str, head: str, comma: str | None = None) -> list[Fields]:
    names: list[str] = []
    rows = []
    for line in text.splitlines():
        if line.startswith(head):
            names = line[len(head) :].split(comma)
        elif names and line.strip():
            rows.append(dict(zip(names, line.split(comma), strict=False)))
    return rows


SCHEMAS = "NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys')"
STRUCTURE = """
SELECT 'schema', schema_name, default_character_set_name, default_collation_name FROM information_schema.schemata
 WHERE schema_name %(schemas)s;
SELECT 'table', CONCAT(table_schema, '.', table_name), table_type, table_collation FROM information_schema.tables
 WHERE table_schema %(schemas)s;
SELECT 'column', CONCAT(table_schema, '.', table_name), ordinal_position, column_name, column_type, is_nullable,
 MD5(CONCAT_WS('|', column_default, extra, character_set_name, collation_name, generation_expression))
 FROM information_schema.columns WHERE table_schema %(schemas)s ORDER BY 2, 3;
SELECT 'index', CONCAT(table_schema, '.', table_name), index_name, seq_in_index, column_name, non_unique
 FROM information_schema.statistics WHERE table_schema %(schemas)s ORDER BY 2, 3, 4;
SELECT 'foreign', CONCAT(constraint_schema, '.', table_name), constraint_name, delete_rule, update_rule, referenced_table_name
 FROM information_schema.referential_constraints WHERE constraint_schema %(schemas)s ORDER BY 2, 3;
SELECT 'trigger', CONCAT(trigger_schema, '.', event_object_table), trigger_name, MD5(action_statement)
 FROM information_schema.triggers WHERE trigger_schema %(schemas)s ORDER BY 2, 3;
SELECT 'account', CONCAT(User, '@', Host), MD5(Priv) FROM mysql.global_priv;
SELECT 'right', CONCAT(User, '@', Host, ' ', Db), MD5(CONCAT_WS(',', Select_priv, Insert_priv, Update_priv, Delete_priv, Create_priv,
 Drop_priv, References_priv, Index_priv, Alter_priv, Grant_priv, Trigger_priv, Lock_tables_priv, Create_view_priv, Show_view_priv,
 Create_routine_priv, Alter_routine_priv, Execute_priv, Event_priv, Create_tmp_table_priv, Delete_history_priv)) FROM mysql.db;
"""


def database() -> dict[str, Section]:
    """Schemas, tables (what they are, and what is in them), accounts and their rights."""
    if not shutil.which("mariadb") or not os.path.exists("/run/mysqld/mysqld.sock"):
        return {}
    rows = [line.split("\t") for line in sql(STRUCTURE % {"schemas": SCHEMAS}).splitlines()]
    found: dict[str, Section] = {"schema": {}, "table": {}, "account": {}, "right": {}}
    built: dict[str, str] = {}
    for kind, name, *more in rows:
        if kind in ("schema", "account", "right"):
            found[kind][name] = {"is": " ".join(more)}
        else:
            built[name] = built.get(name, "") + "\t".join([kind, *more]) + "\n"
    tables = [row[1] for row in rows if row[0] == "table" and row[2] == "BASE TABLE"]
    quoted = ", ".join(".".join("`%s`" % part.replace("`", "``") for part in name.split(".", 1)) for name in tables)
    rest = dict(line.split("\t") for line in (sql("CHECKSUM TABLE %s" % quoted).splitlines() if tables else []))
    for name, text in built.items():
        found["table"][name] = {"structure": digest(text.encode()), "rows": rest.get(name, "-")}
    return found


def sql(text: str) -> str:
    return said("mariadb", "--batch", "--skip-column-names", "--raw", given=text)


def everything() -> dict[str, Section]:
    active = services()
    units: dict[str, str] = {}
    found = {
        "process": processes(active, units),
        "listen": listeners(units),
        "unit": active,
        "unit_file": unit_files(),
        "package": packages(),
        "user": users(),
        "group": groups(),
        "haproxy": haproxy(),
        **database(),
        "file": files(sys.argv[1:]),
    }
    for fields in active.values():
        del fields["main"]
    return found


if __name__ == "__main__":
    start = time.monotonic()
    answer = {"items": everything(), "seconds": time.monotonic() - start}
    json.dump(answer, sys.stdout)

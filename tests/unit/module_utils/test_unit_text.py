# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A unit of somebody else, started from our link: the text that we write, and what a real systemd makes of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.osops.lifecycle.plugins.module_utils._unit_text import (
    File,
    effective,
    mentions,
    named_files,
    naming,
    overriding,
    rewritten,
    settings,
    starts_from,
    used,
)

VENV, LINK = "/srv/keystone/venv", "/opt/osops/keystone/keystone-api"

PLAIN = r"""
[Unit]
Description=ExecStart=/srv/keystone/venv/bin/no
[Service]
User=keystone
Environment=OS_KEYSTONE_CONFIG_FILES=/etc/keystone/keystone.conf
ExecStart=/srv/keystone/venv/bin/uwsgi --ini /srv/keystone/uwsgi.ini
[Install]
WantedBy=multi-user.target
"""
QUOTES = r"""
[Service]
ExecStart=/bin/sh -c '. /srv/keystone/venv/bin/activate && exec "/srv/keystone/venv/bin/uwsgi" --ini "%t/%n \"x\" y.ini"'
ExecReload=/bin/kill -HUP $MAINPID
"""
PREFIXES = r"""
[Service]
Type=oneshot
ExecStartPre=-/srv/keystone/venv/bin/python -c "print('a  b')"
ExecStartPre=+/usr/bin/install -d "/run/%p"
ExecStart=@/srv/keystone/venv/bin/python python-of-%N -c 'import sys; sys.exit(0)' ; /bin/true
ExecStart=:-/srv/keystone/venv/bin/python $$HOME ${HOME} \x2f
ExecStartPost=/bin/echo /srv/keystone/venv2 /srv/keystone/venv-old /mnt/srv/keystone/venv /srv/keystone/venv.d/x
ExecStop=/bin/sh -c "kill $MAINPID; rm -f /srv/keystone/venv/run.pid"
"""
CONTINUED = "[Service]\n" + "\n".join(
    [
        "ExecStart=/srv/keystone/venv/bin/uwsgi \\",
        "    --home=/srv/keystone/venv\\",
        "# a comment in between, /srv/keystone/venv\\",
        "; and another",
        "    --set 'a \\",
        "  b' \\",
        "    --pythonpath /srv/keystone/venv/lib:/srv/keystone/venv",
        "ExecReload=/srv/keystone/venv/bin/touch 'it''s' a\\\\",
        "Restart=always",
    ]
)
VARIABLES = r"""
[Service]
Environment="PATH=/srv/keystone/venv/bin:/usr/bin" LANG=C 'NOTE=a "b" c' OLD=/srv/keystone/venv
Environment=VIRTUAL_ENV=/srv/keystone/venv PYTHONHOME="/srv/keystone/venv" LANG=en_GB.UTF-8 W=%H-/srv/keystone/venv
Environment=OLD=/nowhere X="tab\there /srv/keystone/venv"
ExecStart=/srv/keystone/venv/bin/uwsgi --virtualenv ${VIRTUAL_ENV}
"""
RESET = r"""
[Service]
Environment=GONE=/srv/keystone/venv
Environment=
Environment=KEPT=/srv/keystone/venv
ExecStartPre=/srv/keystone/venv/bin/gone
ExecStartPre=
ExecStart=/srv/keystone/venv/bin/gone
ExecStart=
ExecStart=/srv/keystone/venv/bin/uwsgi
"""


def lines_of(*texts: str) -> list[str]:
    return rewritten([File("/etc/systemd/system/%d" % number, text) for number, text in enumerate(texts)], VENV, LINK)


def systemd_says(folder: Path) -> list[str]:
    """Environment and commands of keystone-wsgi.service, as the systemd of this machine reads them."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not on this machine (package systemd)")
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(folder / "keystone-wsgi.service")],
        env={**os.environ, "SYSTEMD_UNIT_PATH": str(folder), "SYSTEMD_LOG_LEVEL": "debug"},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    unit = said[said.index("-> Unit keystone-wsgi.service") :]
    unit = unit[: unit.find("-> Unit ", 10)]
    found = re.findall(r"(?m)^\s*(Environment: .*|-> Exec\w+:|Command Line: .*)$", unit)
    assert found
    return found


@pytest.mark.parametrize(
    "text", [PLAIN, QUOTES, PREFIXES, CONTINUED, VARIABLES, RESET], ids=lambda text: text.split("\n")[2][:20]
)
def test_systemd_runs_the_same_from_our_link(tmp_path: Path, text: str) -> None:
    (tmp_path / "keystone-wsgi.service").write_text(text)
    before = systemd_says(tmp_path)
    (tmp_path / "keystone-wsgi.service.d").mkdir()
    drop_in = tmp_path / "keystone-wsgi.service.d" / "50-osops.conf"
    drop_in.write_text("# ours\n[Service]\n" + "\n".join(lines_of(text)) + "\n")
    after = systemd_says(tmp_path)
    moved = [re.sub(r"(?<![\w/])/srv/keystone/venv(?![\w.-])", LINK, line) for line in before]
    assert sorted(after) == sorted(moved)
    assert [line for line in after if "Environment" not in line] == [line for line in moved if "Environment" not in line]
    assert after != before, "the test moves nothing"
    drop_in.unlink()
    assert systemd_says(tmp_path) == before


def test_only_what_names_the_environment_is_written() -> None:
    assert lines_of(PLAIN) == ["ExecStart=", "ExecStart=%s/bin/uwsgi --ini /srv/keystone/uwsgi.ini" % LINK]
    assert lines_of(VARIABLES)[:5] == [
        'Environment="PATH=%s/bin:/usr/bin"' % LINK,
        "Environment=VIRTUAL_ENV=%s" % LINK,
        'Environment=PYTHONHOME="%s"' % LINK,
        "Environment=W=%%H-%s" % LINK,
        'Environment=X="tab\\there %s"' % LINK,
    ]
    assert lines_of(PLAIN.replace(VENV, "/opt/other")) == []


def test_a_later_file_counts_as_systemd_counts_it() -> None:
    later = "[Service]\nExecStart=\nExecStart=/srv/keystone/venv/bin/other\n"
    assert lines_of(PLAIN, later) == ["ExecStart=", "ExecStart=%s/bin/other" % LINK]
    assert lines_of(PLAIN, "[Service]\nExecStart=\nExecStart=/usr/bin/other\n") == []


def test_continued_lines_are_one() -> None:
    assert effective([File("x", CONTINUED)], "ExecStart") == [
        "/srv/keystone/venv/bin/uwsgi      --home=/srv/keystone/venv     --set 'a    b'      "
        "--pythonpath /srv/keystone/venv/lib:/srv/keystone/venv"
    ]
    assert ("Restart", "always") in settings(CONTINUED), "a backslash before a backslash goes on with nothing"
    assert dict(settings("\ufeff[Service]\r\nA = 1 \r\n[Unit]\nB=2\n")) == {"A": "1"}
    assert list(settings("[Service]\nA=1\\")) == [("A", "1")], "a file that ends in the middle of a line"


@pytest.mark.parametrize(
    "text", [VENV, VENV + "/bin", "a=%s:/usr" % VENV, '"%s"' % VENV, "-" + VENV, "@%s/x" % VENV, "x;%s" % VENV, "(%s)" % VENV]
)
def test_the_path_stands_there(text: str) -> None:
    assert naming(VENV).search(text)


@pytest.mark.parametrize(
    "text",
    [VENV + "2", VENV + "-old", VENV + ".bak", "/mnt" + VENV, "." + VENV, "/" + VENV, "${ROOT}" + VENV, "%h" + VENV, VENV + "%i",
     VENV + "$X", VENV + "\\x20x", VENV + "*", VENV + "é"],
)  # fmt: skip
def test_another_path_stands_there(text: str) -> None:
    assert not naming(VENV).search(text)


def test_the_start_must_name_it() -> None:
    assert starts_from([File("x", PLAIN)], VENV)
    elsewhere = "[Service]\nExecStartPre=/srv/keystone/venv/bin/x\nExecStart=/usr/bin/uwsgi\nEnvironment=A=/srv/keystone/venv\n"
    assert not starts_from([File("x", elsewhere)], VENV)
    assert not starts_from([File("x", "[Service]\nExecStart=/srv/%p/venv/bin/uwsgi\n")], VENV)


@pytest.mark.parametrize(
    ("text", "wins"),
    [
        ("ExecStart=\nExecStart=/srv/keystone/venv/bin/other", ["ExecStart"]),
        ("ExecStart=", []),  # then nothing starts from there, which is said in its own words
        ("Environment=PATH=/x:/srv/keystone/venv/bin", ["Environment=PATH"]),
        ("Environment=PATH=/usr/bin", []),  # it wins already, and does not name the environment
        ("Environment=LANG=C\nLimitNOFILE=9", []),
        ("ExecStop=/bin/true", []),
    ],
)
def test_what_is_read_after_ours_and_wins(text: str, wins: list[str]) -> None:
    files = [File("unit", VARIABLES), File("/etc/override.conf", "[Service]\n" + text, later=True)]
    assert overriding(files, VENV) == [("/etc/override.conf", name) for name in wins]
    assert overriding([files[0], File("/etc/10.conf", files[1].text)], VENV) == []


def test_what_the_commands_use() -> None:
    assert used([File("x", PREFIXES)], VENV) == ["bin/python", "run.pid"]
    assert used([File("x", QUOTES)], VENV) == ["bin/activate", "bin/uwsgi"]
    assert used([File("x", VARIABLES)], VENV) == ["bin", "bin/uwsgi"]


def test_files_that_the_start_names() -> None:
    text = PLAIN.replace("[Install]", "EnvironmentFile=-/etc/default/keystone\n[Install]")
    assert named_files([File("x", text)]) == ["/etc/default/keystone", "/srv/keystone/uwsgi.ini", "/srv/keystone/venv/bin/uwsgi"]
    assert mentions("[uwsgi]\nvirtualenv = /srv/keystone/venv\n", VENV)
    assert not mentions("[uwsgi]\n# virtualenv = /srv/keystone/venv\nhome = /srv/keystone/venv2\n", VENV)

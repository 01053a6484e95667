# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Keystone of another author's making on the rig's bare hosts: an environment below /srv, a unit and a configuration of its own, a
database of its own, and its own file in the balancers' configuration. Nothing of it is laid out as this collection would do it.
"""

from __future__ import annotations

import base64
import os
import typing as t
from concurrent.futures import ThreadPoolExecutor

from tests.rig.theatre import ROOT, SHOW_STAT, Rig, until

VERSION = "23.0.2"
PORT = 5003
NAME = "alien"
UNIT = "keystone-wsgi.service"
PREFIX = "/srv/keystone/venv"
PASSWORDS = {"database": "green_db_password", "admin": "green_admin_password"}
"""What for -> variable of the rig's inventory; the group of these hosts has no other passwords."""

CONF = """\
[DEFAULT]
use_stderr = true
[identity]
# The cheapest hash that Keystone takes: on two cores the rig would otherwise measure bcrypt.
password_hash_rounds = 4
[database]
connection = mysql+pymysql://%(name)s:%(password)s@%(database)s/%(name)s?charset=utf8mb4
[token]
provider = fernet
[fernet_tokens]
key_repository = /etc/keystone/fernet-keys
[credential]
key_repository = /etc/keystone/credential-keys
[oslo_messaging_notifications]
driver = noop
"""
UWSGI = """\
[uwsgi]
http-socket = %(address)s:%(port)d
add-header = Connection: close
module = keystone.server.wsgi:initialize_public_application()
master = true
processes = 2
enable-threads = true
thunder-lock = true
need-app = true
listen = 1024
buffer-size = 65535
hook-master-start = unix_signal:15 gracefully_kill_them_all
worker-reload-mercy = 60
disable-logging = true
log-5xx = true
"""
SERVICE = """\
[Unit]
Description=Identity, as somebody else runs it
After=network-online.target

[Service]
Type=notify
User=keystone
Group=keystone
Environment=OS_KEYSTONE_CONFIG_FILES=/etc/keystone/keystone.conf
ExecStart=%(prefix)s/bin/uwsgi --ini /srv/keystone/uwsgi.ini
KillMode=mixed
TimeoutStartSec=120
TimeoutStopSec=90
Restart=on-failure
RestartSec=2

[Install]
WantedBy=multi-user.target
"""
BALANCER = """\
frontend %(name)s_front
  bind %(address)s:%(port)d
  capture request header X-Probe-Id len 64
  default_backend %(name)s

backend %(name)s
  balance roundrobin
  option httpchk GET /v3
  http-check expect status 200
  default-server inter 1s fall 2 rise 2
%(servers)s
"""
SOFTWARE = """
set -eu
getent passwd keystone > /dev/null || useradd --system --home-dir /var/lib/keystone --create-home keystone
install -d -m 755 /srv/keystone
%(lock)s
python3 -m venv %(prefix)s < /dev/null
export PIP_INDEX_URL=%(index)s PIP_TRUSTED_HOST=%(trusted)s PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
%(prefix)s/bin/python -I -m pip install --quiet --no-deps --require-hashes --only-binary :all: -r /srv/keystone/requirements.txt < /dev/null
"""
SETTINGS = """
set -eu
umask 077
install -d -o root -g keystone -m 750 /etc/keystone
install -d -o keystone -g keystone -m 700 /etc/keystone/fernet-keys /etc/keystone/credential-keys
%(files)s
chown keystone:keystone /etc/keystone/fernet-keys/* /etc/keystone/credential-keys/*
chown root:keystone /etc/keystone/keystone.conf
chmod 640 /etc/keystone/keystone.conf
chmod 644 /srv/keystone/uwsgi.ini /etc/systemd/system/%(unit)s
systemctl daemon-reload
"""
FILL = """
set -eu
cd /
export OS_BOOTSTRAP_PASSWORD='%(password)s'
manage="%(prefix)s/bin/keystone-manage --config-file /etc/keystone/keystone.conf"
setpriv --reuid keystone --regid keystone --init-groups $manage db_sync < /dev/null
setpriv --reuid keystone --regid keystone --init-groups $manage bootstrap --bootstrap-region-id RegionOne \
  --bootstrap-public-url %(url)s --bootstrap-internal-url %(url)s --bootstrap-admin-url %(url)s < /dev/null
"""
DATABASE = """
mariadb <<'END'
CREATE DATABASE %(name)s CHARACTER SET utf8mb4;
CREATE USER '%(name)s'@'%%' IDENTIFIED BY '%(password)s';
GRANT ALL ON %(name)s.* TO '%(name)s'@'%%';
END
"""
RELOAD = """
set -eu
haproxy -c -q -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/conf.d
systemctl reload haproxy.service
"""
# Whatever a test has left of it, and of the releases that came after it.
GONE = """
set -eu
systemctl disable --quiet --now %(unit)s 2> /dev/null || :
rm -rf /etc/systemd/system/%(unit)s /etc/systemd/system/%(unit)s.d /srv/keystone /etc/keystone /opt/osops/keystone
systemctl daemon-reload
systemctl reset-failed %(unit)s 2> /dev/null || :
if getent passwd keystone > /dev/null; then userdel keystone; fi
rm -rf /var/lib/keystone
"""
GONE_DATABASE = """
mariadb <<'END'
DROP DATABASE IF EXISTS %(name)s;
DROP USER IF EXISTS '%(name)s'@'%%';
END
"""
# What the environment's files are, but for what Python compiles of them by itself.
FINGERPRINT = "find /srv/keystone -name __pycache__ -prune -o ! -type d -printf '%p %y %s %T@ %l\\n' | sort | sha256sum"
RUNNING = "grep -o '/[^ ]*/lib/python3[^/]*/site-packages' /proc/$(systemctl show -P MainPID %s)/maps | sort -u"


def install(rig: Rig) -> None:
    """Make it, start it, and wait until every balancer calls every instance up."""
    known = rig.inventory["all"]["vars"]
    hosts = rig.hosts(rig.group)
    lock = (ROOT / "tests" / "rig" / "locks" / ("keystone-%s.txt" % VERSION)).read_text(encoding="utf-8")
    index = known["rig_index_url"]
    software = SOFTWARE % {
        "lock": written("/srv/keystone/requirements.txt", lock), "prefix": PREFIX, "index": index,
        "trusted": index.partition("://")[2].partition("/")[0],
    }  # fmt: skip
    at_all(hosts, lambda host: rig.on(host, software))
    rig.on("db1", DATABASE % {"name": NAME, "password": known[PASSWORDS["database"]]})
    # The same on every host, each without a line end: its length counts.
    keys = "".join(
        "printf '%%s' '%s' > /etc/keystone/%s-keys/%d\n" % (base64.urlsafe_b64encode(os.urandom(32)).decode(), kind, number)
        for kind in ("fernet", "credential")
        for number in (0, 1)
    )
    at_all(hosts, lambda host: rig.on(host, settings(rig, host, keys)))
    balancers = rig.hosts("lbs")
    url = "http://%s:%d/v3" % (next(iter(balancers.values())), PORT)
    rig.on(next(iter(hosts)), FILL % {"password": known[PASSWORDS["admin"]], "prefix": PREFIX, "url": url})
    at_all(hosts, lambda host: rig.on(host, "systemctl enable --quiet --now %s" % UNIT))
    servers = "\n".join("  server %s %s:%d check" % (name, address, PORT) for name, address in hosts.items())
    for host, address in balancers.items():
        text = BALANCER % {"name": NAME, "address": address, "port": PORT, "servers": servers}
        rig.on(host, written("/etc/haproxy/conf.d/%s.cfg" % NAME, text) + RELOAD)
    settled(rig)


def settings(rig: Rig, host: str, keys: str) -> str:
    """The script that writes configuration, keys and unit of one instance."""
    known = rig.inventory["all"]["vars"]
    (database,) = rig.hosts("database").values()
    conf = CONF % {"name": NAME, "password": known[PASSWORDS["database"]], "database": database}
    files = {
        "/etc/keystone/keystone.conf": conf,
        "/srv/keystone/uwsgi.ini": UWSGI % {"address": rig.hosts(rig.group)[host], "port": PORT},
        "/etc/systemd/system/" + UNIT: SERVICE % {"prefix": PREFIX},
    }
    return SETTINGS % {"files": keys + "".join(written(path, text) for path, text in files.items()), "unit": UNIT}


def remove(rig: Rig) -> None:
    """Take all of it away, however far it came and whatever was changed of it since."""
    for host in rig.hosts("lbs"):
        rig.on(host, "[ -e /etc/haproxy/conf.d/%s.cfg ] || exit 0\nrm /etc/haproxy/conf.d/%s.cfg\n" % (NAME, NAME) + RELOAD)
    at_all(rig.hosts(rig.group), lambda host: rig.on(host, GONE % {"unit": UNIT}))
    rig.on("db1", GONE_DATABASE % {"name": NAME})


def settled(rig: Rig, limit_s: float = 120.0, name: str = NAME) -> None:
    """Wait until every server of it (the backend ``name``) is up on every balancer."""
    # A worker from before the reload may still answer, and knows nothing of it.
    ask = SHOW_STAT.replace("grep ^keystone,", "sed -n /^%s,/p" % name) % rig.inventory["all"]["vars"]["rig_haproxy_socket"]
    expected = len(rig.hosts("lbs")) * len(rig.hosts(rig.group))

    def all_up() -> bool:
        seen = [line for host in rig.hosts("lbs") for line in rig.on(host, ask).split("\n") if line]
        return len(seen) == expected and all(line.endswith(",UP") for line in seen)

    until(all_up, limit_s, "all servers of %s up on all balancers" % name)


def running(rig: Rig) -> dict[str, str]:
    """Host -> the environment that its Keystone has mapped, asked of the kernel and not of the code under test."""
    found = {}
    for host in rig.hosts(rig.group):
        sites = rig.on(host, RUNNING % UNIT).split()
        found[host] = " ".join(sorted({site.partition("/lib/python3")[0] for site in sites} - {"/usr"}))
    return found


def fingerprint(rig: Rig) -> dict[str, str]:
    """Host -> what all files below /srv/keystone are: no snapshot looks there."""
    return {host: rig.on(host, FINGERPRINT) for host in rig.hosts(rig.group)}


def at_all(hosts: t.Iterable[str], act: t.Callable[[str], t.Any]) -> None:
    """Do something on several hosts at once; the first error is raised."""
    names = list(hosts)
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(act, names))


def written(path: str, text: str) -> str:
    """Lines of a shell script that write a file with this text, whatever is in it."""
    return "cat > %s <<'END_OF_FILE'\n%s\nEND_OF_FILE\n" % (path, text.rstrip("\n"))

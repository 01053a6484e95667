# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Keystone from Debian's packages on the rig's hosts for packages: the unit and the uwsgi configuration as Debian ships them, but for the
number of processes, a database of its own, and its own file in the balancers' configuration. Beside it, Debian's memcached.
"""

from __future__ import annotations

import base64
import os

from tests.rig.alien import BALANCER, DATABASE, GONE_DATABASE, RELOAD, at_all, settled, written
from tests.rig.theatre import Rig

PORT = 5004
NAME = "packaged"
UNIT = "keystone.service"
PASSWORDS = {"database": "packaged_db_password", "admin": "packaged_admin_password"}
"""What for -> variable of the rig's inventory."""

CONF = """\
[DEFAULT]
log_dir = /var/log/keystone
[identity]
# The cheapest hash that Keystone takes: on two cores the rig would otherwise measure bcrypt.
password_hash_rounds = 4
[cache]
enabled = true
backend = dogpile.cache.memcached
memcache_servers = 127.0.0.1:11211
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
SETTINGS = """
set -eu
cp -a /etc/keystone /root/keystone.shipped
umask 077
install -d -o keystone -g keystone -m 700 /etc/keystone/fernet-keys /etc/keystone/credential-keys
%(files)s
chown keystone:keystone /etc/keystone/fernet-keys/* /etc/keystone/credential-keys/*
sed -i 's/^processes = .*/processes = 2/; s/^threads = .*/threads = 8/' /etc/keystone/keystone-uwsgi.ini
"""
FILL = """
set -eu
cd /
export OS_BOOTSTRAP_PASSWORD='%(password)s'
setpriv --reuid keystone --regid keystone --init-groups keystone-manage db_sync < /dev/null
setpriv --reuid keystone --regid keystone --init-groups keystone-manage bootstrap --bootstrap-region-id RegionOne \
  --bootstrap-public-url %(url)s --bootstrap-internal-url %(url)s --bootstrap-admin-url %(url)s < /dev/null
"""
# Whatever a test has left of it; the packages in the versions that the image has.
GONE = """
export DEBIAN_FRONTEND=noninteractive
systemctl disable --quiet --now keystone.service memcached.service
rm -rf /run/systemd/system/keystone.service.d /run/systemd/system/memcached.service.d; systemctl daemon-reload
rm -rf /var/lib/osops/packages
apt-get -qq update
apt-get -qq -y -o DPkg::Options::=--force-confold install --allow-downgrades %(old)s > /dev/null
[ ! -e /root/keystone.shipped ] || { rm -rf /etc/keystone; mv /root/keystone.shipped /etc/keystone; }
rm -rf /var/log/keystone/* /run/osops* /etc/keystone/*.dpkg-*
apt-get clean; rm -rf /var/lib/apt/lists/*
systemctl disable --quiet --now keystone.service memcached.service
systemctl reset-failed
"""
INSTALLED = "dpkg-query --show --showformat '${Version}\\n' %s"


def install(rig: Rig) -> None:
    """Configure it, start it, and wait until every balancer calls every instance up."""
    known = rig.inventory["all"]["vars"]
    hosts = rig.hosts(rig.group)
    (database,) = rig.hosts("database").values()
    conf = CONF % {"name": NAME, "password": known[PASSWORDS["database"]], "database": database}
    rig.on("db1", DATABASE % {"name": NAME, "password": known[PASSWORDS["database"]]})
    # The same on every host, each without a line end: its length counts.
    keys = "".join(
        "printf '%%s' '%s' > /etc/keystone/%s-keys/%d\n" % (base64.urlsafe_b64encode(os.urandom(32)).decode(), kind, number)
        for kind in ("fernet", "credential")
        for number in (0, 1)
    )
    settings = SETTINGS % {"files": keys + written("/etc/keystone/keystone.conf", conf)}
    at_all(hosts, lambda host: rig.on(host, settings))
    balancers = rig.hosts("lbs")
    url = "http://%s:%d/v3" % (next(iter(balancers.values())), PORT)
    rig.on(next(iter(hosts)), FILL % {"password": known[PASSWORDS["admin"]], "url": url})
    at_all(hosts, lambda host: rig.on(host, "systemctl enable --quiet --now memcached.service %s" % UNIT))
    servers = "\n".join("  server %s %s:5000 check" % row for row in hosts.items())
    for host, address in balancers.items():
        text = BALANCER % {"name": NAME, "address": address, "port": PORT, "servers": servers}
        rig.on(host, written("/etc/haproxy/conf.d/%s.cfg" % NAME, text) + RELOAD)
    settled(rig, name=NAME)


def remove(rig: Rig) -> None:
    """Take all of it away, however far it came and whatever was changed of it since."""
    for host in rig.hosts("lbs"):
        rig.on(host, "[ -e /etc/haproxy/conf.d/%s.cfg ] || exit 0\nrm /etc/haproxy/conf.d/%s.cfg\n" % (NAME, NAME) + RELOAD)
    old = " ".join(rig.inventory["all"]["vars"]["rig_debs"]["old"])
    at_all(rig.hosts(rig.group), lambda host: rig.on(host, GONE % {"old": old}))
    rig.on("db1", GONE_DATABASE % {"name": NAME})


def installed(rig: Rig, package: str) -> dict[str, str]:
    """Host -> the version of a package that dpkg has."""
    return {host: rig.on(host, INSTALLED % package).strip() for host in rig.hosts(rig.group)}

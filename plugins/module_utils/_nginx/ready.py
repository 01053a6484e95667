# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""Put servers back into traffic, each to what it was, but none that does not take a connection."""

from __future__ import annotations

from ansible_collections.osops.lifecycle.plugins.module_utils._errors import LifecycleError
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.rules import servers_are
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.traffic import POLL_S, Stable, Traffic
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.upstreams import Server
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict
from ansible_collections.osops.lifecycle.plugins.module_utils._wait import wait


class Ready(Traffic):
    """state: ready.

    All servers go back with one reload, because each reload costs clients something. So all are waited for; those that take
    connections go back at the deadline, whatever the others do.
    """

    def wanted(self, server: Server) -> dict[str, int]:
        """Weights stay what the file says: this driver has not changed them."""
        return {"admin": self.request.restore.get(server.key, {}).get("admin", 0)}

    def predict(self) -> Verdict:
        return Verdict("pass", "ready.possible", "%s put back as soon as they take connections." % servers_are(len(self.targets)))

    def act(self) -> Verdict:
        wait(self._waiting, lambda waiting: not waiting, self.left_s - self.reserve_s, poll_s=POLL_S)
        waiting = self._waiting()
        wanted: Stable = {server.key: self.wanted(server) for server in self.targets if server.key not in waiting}
        if wanted:
            self.look_again()
            self.set(wanted, max(self.left_s, 2.0))
        self.count()
        if waiting:
            raise LifecycleError(
                "After %.1f s these servers take no connection from this host: %s."
                % (self.elapsed_s, "; ".join("%s (%s)" % pair for pair in sorted(waiting.items()))),
                "ready.unhealthy",
                "They stay as they were; servers that do take connections were put back. Look at the service.",
                {"waiting": waiting},
            )
        kept = sorted(key for key, want in wanted.items() if want["admin"])
        notes = ["%s stays out of traffic, as restore says." % key for key in kept]
        notes += [
            "%s has the weight %d now, and had %d." % (key, now["weight"], self.request.restore[key]["weight"])
            for key, now in sorted(self.after.items())
            if now["weight"] != self.request.restore.get(key, now).get("weight", now["weight"])
        ]
        return Verdict("pass", "ready.done", " ".join(["%s as wanted." % servers_are(len(self.targets)), *notes]))

    def _waiting(self) -> dict[str, str]:
        """Servers that shall be in traffic and do not take a connection, each with why."""
        self.probe()
        return {
            server.key: self.dead[server.key]
            for server in self.targets
            if not self.wanted(server)["admin"] and server.key in self.dead
        }

    def undo(self, cause: BaseException) -> None:
        """Nothing: a server is given traffic only when it can take it, and a reload that is not confirmed is noted."""

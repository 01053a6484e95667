# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is PRIVATE to the collection. It can have breaking changes at any time.
"""The nginx driver as a hand: arguments to an act."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.osops.lifecycle.plugins.module_utils._hand import Act, Report, Terms
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.balancer import Balancer
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.drain import Drain
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.ready import Ready
from ansible_collections.osops.lifecycle.plugins.module_utils._nginx.traffic import Request, Traffic
from ansible_collections.osops.lifecycle.plugins.module_utils._verdict import Verdict


def prepare(params: t.Mapping[str, t.Any]) -> Act:
    """Check the arguments and return the act. Raises BadInputError."""
    request = Request.from_params(params)
    balancer = Balancer(params["config"], params["program"], params["pid_file"])
    kinds: dict[str, type[Traffic]] = {"drain": Drain, "ready": Ready}
    kind = kinds[params["state"]]

    def act(terms: Terms, report: Report) -> Verdict:
        outcome = kind(
            balancer, dataclasses.replace(request, check_mode=terms.check, deadline_s=terms.deadline.remaining())
        ).run()
        report.before, report.after = dict(outcome.before), dict(outcome.after)
        report.changed, report.more = outcome.changed, outcome.more
        return outcome.verdict

    return act

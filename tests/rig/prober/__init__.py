# Copyright (c) 2026, the osops.lifecycle authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The prober: a client of the cloud that asks at a fixed rate and counts every request that fails.

It never waits for an answer before it asks again (open loop), counts latency from when a request was due, repeats nothing,
and its counts are void unless both balancers' logs tell the same story. See ``scripts/prober --help``.
"""

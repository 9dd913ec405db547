# SPDX-License-Identifier: Apache-2.0
"""Which flow of a connection carries an inner packet: primary/backup, lowest RTT, or weighted.

A scheduler is a pure function of the usable flows and a hash of the inner packet's addresses and ports: packets of one
inner connection keep to one flow as long as the choice stands, since reordering costs TCP throughput.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from enum import Enum

from controller.eccp.connection import FlowEntry
from controller.eccp.outputs import Buffer


class Policy(Enum):
    """How flows share the data."""

    PRIMARY_BACKUP = "primary-backup"
    LOWEST_RTT = "lowest-rtt"
    WEIGHTED = "weighted"


def _primary_backup(flows: Sequence[FlowEntry], inner_hash: int) -> FlowEntry:
    return next((flow for flow in flows if not flow.is_backup), flows[0])


def _lowest_rtt(flows: Sequence[FlowEntry], inner_hash: int) -> FlowEntry:
    return min(flows, key=lambda flow: flow.rtt.guess())


def _weighted(flows: Sequence[FlowEntry], inner_hash: int) -> FlowEntry:
    """The share of each flow of the hash space is its weight's share; flows without weight are a last resort."""
    total = sum(flow.weight for flow in flows)
    if total <= 0:
        return flows[0]
    point = (inner_hash & 0xFFFFFFFF) / 2**32 * total
    for flow in flows:
        point -= flow.weight
        if point < 0:
            return flow
    return flows[-1]


_CHOICES: dict[Policy, Callable[[Sequence[FlowEntry], int], FlowEntry]] = {
    Policy.PRIMARY_BACKUP: _primary_backup,
    Policy.LOWEST_RTT: _lowest_rtt,
    Policy.WEIGHTED: _weighted,
}


def choose(policy: Policy, flows: Sequence[FlowEntry], packet: Buffer) -> FlowEntry | None:
    """The flow to carry ``packet`` (an inner IP packet), or None if no flow can carry data."""
    if len(flows) == 1:
        return flows[0] if flows[0].carries_data else None
    usable = [flow for flow in flows if flow.carries_data]
    if not usable:
        return None
    return _CHOICES[policy](usable, hash_inner(packet) if policy is Policy.WEIGHTED else 0)


def hash_inner(packet: Buffer) -> int:
    """A 32-bit hash of addresses, protocol and ports of an IPv4 or IPv6 packet."""
    if packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        return zlib.crc32(bytes(packet[9:10]) + bytes(packet[12:20]) + bytes(packet[header : header + 4]))
    return zlib.crc32(bytes(packet[6:7]) + bytes(packet[8:44]))

# SPDX-License-Identifier: Apache-2.0
"""The standing flows: who is watched, who is left to the switch's own learning."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.demo import CLIENT, ORIGIN, POLICY, TARGET, Demo, origin, target

from controller.core.commands import FlowAdd
from controller.core.events import SegmentReceived
from controller.core.pipeline import standing_flows
from controller.core.segment import ACK, FIN, RST, SYN, Endpoint, Segment


def outcome(segment: Segment, port: int = 3) -> tuple[list[int], int]:
    """Return out of which ports a packet goes, and how often it reaches the controller."""
    demo = Demo()
    demo.reports.clear()
    left: list[int] = []
    demo.switch._transmit = lambda number, packet: left.append(number)
    demo.switch.receive(port, segment)
    return left, len([event for event in demo.reports if isinstance(event, SegmentReceived)])


MAC = "02:00:00:00:00:01"


@pytest.mark.parametrize(
    ("src", "dst", "flags", "expected"),
    [
        (CLIENT, ORIGIN, SYN, ([], 1)),
        (CLIENT, ORIGIN, ACK, ([], 0)),
        (CLIENT, ORIGIN, ACK | FIN, ([], 1)),
        (CLIENT, ORIGIN, RST, ([], 1)),
        (ORIGIN, CLIENT, ACK, ([], 0)),
        (ORIGIN, CLIENT, SYN | ACK, ([], 0)),
        (TARGET, CLIENT, ACK, ([1], 0)),
        (TARGET, CLIENT, ACK | FIN, ([1], 1)),
        (CLIENT, TARGET, SYN, ([1], 0)),
        (CLIENT, Endpoint("10.0.0.1", 80), SYN, ([1], 0)),
        (CLIENT, Endpoint("10.0.0.1", 80), ACK, ([1], 0)),
    ],
)
def test_who_is_watched(src: Endpoint, dst: Endpoint, flags: int, expected: tuple[list[int], int]) -> None:
    """Unknown packets of a service are dropped; connections straight to a mere target are none of ours."""
    assert outcome(Segment(src, dst, 1, 1, flags, 9, eth_dst=MAC)) == expected


def test_addresses_of_both_versions() -> None:
    """A service on IPv6 matches IPv6 packets."""
    six = replace(origin, endpoint=Endpoint("fd00::1", 80))
    policy = replace(
        POLICY, servers={"server1": six, "server2": target}, services=(replace(POLICY.services[0], origin=six),)
    )
    flows = [command for command in standing_flows(1, policy) if isinstance(command, FlowAdd)]
    assert {flow.match.ether_type for flow in flows if flow.match.ip_dst == "fd00::1"} == {0x86DD}
    assert {flow.match.ether_type for flow in flows if flow.match.ip_src == "10.0.0.2"} == {0x0800}

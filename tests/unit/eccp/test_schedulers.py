# SPDX-License-Identifier: Apache-2.0
"""Schedulers in whole peers: which interface's flow carries which inner packet, and what happens when one is gone."""

import struct

import pytest
from unit.eccp.cases import A1, A2, B1, established, frame

from controller.eccp.connection import Connection
from controller.eccp.rtt import Rtt
from controller.eccp.scheduler import Policy
from controller.eccp.simulation import Host, Network
from controller.wire.eccp import DATA_KINDS, Address, Kind, decode_header

pytestmark = pytest.mark.usefixtures("datapath")


def two_flows(policy: Policy) -> tuple[Network, Host, Host, Connection]:
    network, a, b, connection = established(policy=policy)
    a.places.add(A2)
    a.peer.add_flow(connection, B1, A2, network.now, backup=policy is Policy.PRIMARY_BACKUP)
    network.run(1)
    assert [flow.carries_data for flow in connection.flows] == [True, True]
    return network, a, b, connection


def carried(network: Network, a: Host, connection: Connection, ports: range) -> dict[int, Address]:
    """Which of a's addresses each inner source port's packet left from."""
    found = {}
    for port in ports:
        before = len(network.sent)
        assert a.peer.send_frame(connection, frame(struct.pack("!HH", port, 80) + b"x" * 40), network.now)
        network.flush(a)
        data = [d for d in network.sent[before:] if decode_header(bytes(d.parts[0])).kind in DATA_KINDS]
        (found[port],) = {datagram.own for datagram in data}
    return found


def test_primary_carries_all_until_it_is_closed_then_the_backup() -> None:
    network, a, b, connection = two_flows(Policy.PRIMARY_BACKUP)
    assert set(carried(network, a, connection, range(20)).values()) == {A1}
    a.peer.close_flow(connection.flows[0], network.now)
    network.run(1)
    assert set(carried(network, a, connection, range(20)).values()) == {A2}
    network.run(1)
    assert len(b.delivered) == 40


def test_the_lowest_rtt_carries_all_and_the_choice_follows_it() -> None:
    network, a, _b, connection = two_flows(Policy.LOWEST_RTT)
    for slow, fast in ((0, 1), (1, 0)):
        connection.flows[slow].rtt = Rtt().with_sample(0.2)
        connection.flows[fast].rtt = Rtt().with_sample(0.02)
        assert set(carried(network, a, connection, range(20)).values()) == {(A1, A2)[fast]}


@pytest.mark.parametrize(("policy", "wanted"), [(Policy.LOWEST_RTT, 5), (Policy.WEIGHTED, 0)])
def test_the_rtt_of_a_busy_path_is_measured_every_second_where_the_choice_rests_on_it(
    policy: Policy, wanted: int
) -> None:
    network, a, b, connection = two_flows(policy)
    back = next(iter(b.peer.connections.values()))
    before = len(network.sent)
    for _ in range(100):  # five seconds in which something comes all the time
        a.peer.send_frame(connection, frame(), network.now)
        b.peer.send_frame(back, frame(), network.now)
        network.run(0.05)
    pings = [d for d in network.sent[before:] if decode_header(bytes(d.parts[0])).kind is Kind.PING]
    by_place = {place: sum(d.own == place for d in pings) for place in (A1, A2)}
    assert all(wanted <= count <= wanted + 1 for count in by_place.values()), by_place


@pytest.mark.parametrize(("weights", "least", "most"), [((1, 1), 70, 130), ((3, 1), 120, 180), ((1, 0), 200, 200)])
def test_weights_share_inner_connections_and_each_keeps_to_its_flow(
    weights: tuple[int, int], least: int, most: int
) -> None:
    network, a, b, connection = two_flows(Policy.WEIGHTED)
    for flow, weight in zip(connection.flows, weights, strict=True):
        flow.weight = weight
    first = carried(network, a, connection, range(200))
    assert least <= sum(place == A1 for place in first.values()) <= most
    assert carried(network, a, connection, range(200)) == first
    network.run(1)
    assert len(b.delivered) == 400

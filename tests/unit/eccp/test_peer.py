# SPDX-License-Identifier: Apache-2.0
"""Two peers on a simulated network: opening, moving, flows, time, closing."""

import pytest
from unit.eccp.cases import A1, A2, A3, B1, B2, R, established, frame, has, move, only_flow
from unit.eccp.test_slices import software_segments, tcp_frame

from controller.eccp.connection import Connection
from controller.eccp.errors import LocalError
from controller.eccp.keys import EPOCH_BITS
from controller.eccp.names import FlowState, PeerState
from controller.eccp.outputs import (
    ConnectionEnded,
    ConnectionEstablished,
    ConnectionFailed,
    OwnMoveConfirmed,
    PathLost,
    PeerAddressValidated,
)
from controller.eccp.peer_timers import ping
from controller.eccp.simulation import Host, Link, Network, make_settings, pair
from controller.wire.eccp import Address, Kind, decode_header

pytestmark = pytest.mark.usefixtures("datapath")


def test_opening_takes_one_round_trip_and_a_half() -> None:
    _network, a, b, connection = established(link=Link(delay=0.01))
    assert a.notices[0][0] == pytest.approx(0.02)
    assert b.notices[0][0] == pytest.approx(0.03)
    assert connection.flows[0].flow.state is FlowState.ESTABLISHED
    assert only_flow(b).flow.peer_addr == A1
    assert connection.identity == b.peer.settings.credentials.public_identity
    assert only_flow(b).connection.identity == a.peer.settings.credentials.public_identity
    assert not a.peer.refused + b.peer.refused


def test_packets_are_told_apart_by_the_receivers_flow_id_alone() -> None:
    network, a, b, _connection = established()
    for datagram in network.sent[1:]:
        header = decode_header(bytes(datagram.parts[0]))
        receiver = b if datagram.to == B1 else a
        assert header.flow in receiver.peer.flows


@pytest.mark.parametrize("loss", [0.3, 0.5])
def test_opening_survives_loss(loss: float) -> None:
    for seed in range(5):
        _network, _a, _b, _ = established(seed, Link(loss=loss, duplicate=0.2, jitter=0.02), open_timeout=60.0)


def test_a_move_right_after_the_opening_carries_the_key_exchange_again() -> None:
    """The third message is lost with the old address: the RSYN brings it."""
    network, a, b = pair()
    network.tap = lambda datagram, payload: decode_header(payload).kind is not Kind.ACK or datagram.own != A1
    connection = a.peer.connect(B1, A1, 0.0)
    assert network.run_until(lambda: has(a, ConnectionEstablished), 5)
    move(network, a, connection.flows[0], A2)
    assert network.run_until(lambda: has(b, ConnectionEstablished), 5)
    assert only_flow(b).flow.peer_addr == A2


def test_an_opening_survives_a_move_before_the_answer() -> None:
    network, a, b = pair(link=Link(delay=0.05))
    connection = a.peer.connect(B1, A1, 0.0)
    network.run(0.06)
    move(network, a, connection.flows[0], A2)
    assert network.run_until(lambda: has(b, ConnectionEstablished), 10)
    assert only_flow(b).flow.peer_addr == A2


def test_data_flows_both_ways_once() -> None:
    network, a, b, connection = established(link=Link(duplicate=0.5))
    a.peer.send_frame(connection, frame(b"to b"), network.now)
    b.peer.send_frame(only_flow(b).connection, frame(b"to a"), network.now)
    network.run(1)
    assert [f[-4:] for f in b.delivered] == [b"to b"]
    assert [f[-4:] for f in a.delivered] == [b"to a"]


def test_a_move_is_confirmed_in_one_round_trip_and_validated_in_one_and_a_half() -> None:
    network, a, b, connection = established(link=Link(delay=0.01))
    began = move(network, a, connection.flows[0], A2)
    network.run(1)
    confirmed = [(at, n) for at, n in a.notices if isinstance(n, OwnMoveConfirmed)]
    validated = [(at, n) for at, n in b.notices if isinstance(n, PeerAddressValidated)]
    assert confirmed[0][0] - began == pytest.approx(0.02)
    assert validated[0][0] - began == pytest.approx(0.03)
    assert confirmed[0][1].version == validated[0][1].version == 2
    assert only_flow(b).flow.peer_addr == A2


def test_a_move_during_an_unfinished_move_supersedes_it() -> None:
    network, a, b, connection = established(link=Link(delay=0.05))
    flow = connection.flows[0]
    move(network, a, flow, A2)
    network.run(0.06)  # the first RSYN has arrived, its answer is on its way to an address that is left now
    move(network, a, flow, A3)
    network.run(2)
    assert only_flow(b).flow.peer_addr == A3
    assert (flow.flow.own_version, flow.flow.confirmed_version, flow.flow.state) == (3, 3, FlowState.ESTABLISHED)
    assert only_flow(b).flow.peer_version == 3


def test_a_hundred_moves_under_loss_and_reordering() -> None:
    network, a, b, connection = established(link=Link(delay=0.002, loss=0.2, jitter=0.01, duplicate=0.2))
    flow = connection.flows[0]
    for number in range(100):
        move(network, a, flow, Address(f"10.1.{number}.1", 4500))
        network.run(0.01)
    assert network.run_until(
        lambda: only_flow(b).flow.peer_addr == flow.flow.own_addr and flow.flow.state is FlowState.ESTABLISHED, 30
    )
    assert flow.flow.own_version == 101


def test_both_ends_move_at_once_to_listed_addresses() -> None:
    network, a, b = pair()
    a.peer.set_addresses([A1, A2])
    b.peer.set_addresses([B1, B2])
    connection = a.peer.connect(B1, A1, 0.0)
    network.run(1)
    move(network, a, connection.flows[0], A2)
    move(network, b, only_flow(b), B2)
    assert network.run_until(lambda: only_flow(b).flow.peer_addr == A2 and connection.flows[0].flow.peer_addr == B2, 20)


def _with_rendezvous() -> tuple[Network, Host, Host, Host, Connection]:
    network, a, b = pair()
    r = network.add("r", make_settings(3, [1, 2], is_rendezvous=True), [R])
    for host, place in ((a, A1), (b, B1)):
        host.peer.rendezvous = host.peer.connect(R, place, 0.0)
    connection = a.peer.connect(B1, A1, 0.0)
    network.run(1)
    return network, a, b, r, connection


def test_both_ends_move_at_once_to_unknown_addresses_and_meet_through_the_rendezvous() -> None:
    network, a, b, _r, connection = _with_rendezvous()
    flow = connection.flows[0]
    other = b.peer.flows[flow.remote_id]
    for host, old, new in ((a, A1, A2), (b, B1, B2)):
        host.places = {new}
        host.peer.move_all(old, new, network.now)
    assert network.run_until(lambda: other.flow.peer_addr == A2 and flow.flow.peer_addr == B2, 20)
    assert other.flow.state is FlowState.ESTABLISHED


def test_without_a_rendezvous_such_hosts_stay_apart_but_intact() -> None:
    network, a, b, connection = established()
    move(network, a, connection.flows[0], A2)
    move(network, b, only_flow(b), B2)
    network.run(30)
    assert connection.flows[0].flow.state is only_flow(b).flow.state is FlowState.MOVING
    move(network, b, only_flow(b), B1)  # one comes back to where it was known
    assert network.run_until(lambda: connection.flows[0].flow.state is FlowState.ESTABLISHED, 20)


def test_a_rendezvous_relays_nothing_but_rsyns_and_only_for_those_it_knows() -> None:
    network, a, _b, r, connection = _with_rendezvous()
    from controller.eccp.peer_relay import forward

    flow = connection.flows[0]
    assert forward(a.peer, flow, b"\xec\x07" + bytes(60))  # a PING
    network.run(1)
    assert r.peer.refused["relay-kind"] == 1
    flow.connection.identity = b"?" * 32
    assert forward(a.peer, flow, b"\xec\x05" + bytes(60))
    network.run(1)
    assert r.peer.refused["relay-unknown"] == 1


def test_nat_rebinding_is_noticed_by_the_next_packet_and_challenged() -> None:
    network, a, b, connection = established()
    outer = Address("198.51.100.7", 1024)
    network.nat[A1] = outer
    a.peer.send_frame(connection, frame(), network.now)
    network.run(1)
    flow = only_flow(b).flow
    assert (flow.peer_addr, flow.peer_version, flow.peer_state) == (outer, 1, PeerState.SETTLED)
    b.peer.send_frame(only_flow(b).connection, frame(b"back"), network.now)
    network.run(1)
    assert a.delivered[-1][-4:] == b"back"


def test_flows_are_added_and_removed_and_move_one_by_one() -> None:
    network, a, b, connection = established()
    a.places.add(A2)
    second = a.peer.add_flow(connection, B1, A2, network.now)
    network.run(1)
    assert second.flow.state is FlowState.ESTABLISHED
    assert len(b.peer.flows) == 2
    first = connection.flows[0]
    a.peer.move(first, A3, network.now)
    a.places = {A2, A3}
    network.run(1)
    assert b.peer.flows[first.remote_id].flow.peer_addr == A3
    assert b.peer.flows[second.remote_id].flow.peer_addr == A2
    a.peer.close_flow(first, network.now)
    network.run(30)
    assert list(a.peer.flows) == [second.local_id]
    assert list(b.peer.flows) == [second.remote_id]
    assert not has(a, ConnectionEnded)
    assert a.peer.send_frame(connection, frame(), network.now)
    network.run(1)
    assert b.delivered


def test_flows_of_a_connection_are_bounded() -> None:
    network, a, _b, connection = established(max_flows=2)
    a.peer.add_flow(connection, B1, A1, network.now)
    with pytest.raises(LocalError, match="at most 2 flows"):
        a.peer.add_flow(connection, B1, A1, network.now)


def test_close_is_clean_on_both_sides() -> None:
    network, a, b, connection = established(link=Link(loss=0.4))
    a.peer.close(connection, network.now)
    network.run(30)
    for host in (a, b):
        assert has(host, ConnectionEnded)
        assert not host.peer.flows
        assert not host.peer.connections
        assert not host.peer.by_identity
        assert host.peer.next_timer() is None


def test_a_responder_may_close_before_the_opening_is_complete() -> None:
    network, a, b = pair()
    network.tap = lambda datagram, payload: decode_header(payload).kind is not Kind.ACK
    a.peer.connect(B1, A1, 0.0)
    assert network.run_until(lambda: bool(b.peer.flows), 1)
    entry = only_flow(b)
    b.peer.close_flow(entry, network.now)
    ping(b.peer, entry, network.now)  # there is nobody yet to probe
    network.run(60)
    assert not b.peer.flows
    assert not b.peer.half_open


def test_nobody_answers() -> None:
    network, a, b = pair()
    b.places.clear()
    a.peer.connect(B1, A1, 0.0)
    network.run(30)
    failed = [n for _, n in a.notices if isinstance(n, ConnectionFailed)]
    assert len(failed) == 1
    assert "no answer within 15 s" in failed[0].reason
    assert not a.peer.connections


def test_silence_is_probed_and_the_peer_searched_for_at_its_listed_address() -> None:
    network, a, b = pair()
    b.places.add(B2)
    b.peer.set_addresses([B1, B2])
    connection = a.peer.connect(B1, A1, 0.0)
    network.run(1)
    b.places.remove(B1)  # the path dies; b does not notice
    a.peer.send_frame(connection, frame(), network.now)
    assert network.run_until(lambda: connection.flows[0].flow.peer_addr == B2, 60)
    assert has(a, PathLost)
    a.peer.send_frame(connection, frame(b"found"), network.now)
    network.run(1)
    assert b.delivered[-1][-5:] == b"found"


def test_keep_alive_finds_a_rebound_nat_on_an_idle_flow() -> None:
    network, _a, b, _connection = established(keepalive=5.0)
    outer = Address("198.51.100.7", 1024)
    network.nat[A1] = outer
    network.run(12)
    assert only_flow(b).flow.peer_addr == outer


def test_an_idle_flow_costs_little_and_lives() -> None:
    network, _a, _b, connection = established()
    before = len(network.sent)
    network.run(3600)
    assert connection.flows[0].flow.state is FlowState.ESTABLISHED
    assert len(network.sent) - before < 3600 / 15 * 4 + 10


def test_a_dead_peer_is_forgotten_after_the_idle_time() -> None:
    network, a, b, _connection = established(idle_timeout=100.0)
    b.places.clear()
    network.run(120)
    assert has(a, ConnectionEnded)
    assert not a.peer.flows


def test_early_data_goes_to_a_new_address_within_three_times_of_what_came() -> None:
    network, a, b, connection = established(link=Link(delay=0.05))
    back = only_flow(b)
    for number in range(20):
        b.peer.send_frame(back.connection, frame(bytes([number]) * 1000), network.now)
    network.run(0.01)
    arrivals: dict[Address, int] = {}
    sent: dict[Address, int] = {}

    def tap(datagram, payload: bytes) -> bool:  # type: ignore[no-untyped-def]
        if back.flow.peer_addr == A1:  # until the new address is validated
            sent[datagram.to] = sent.get(datagram.to, 0) + len(payload)
            arrivals[datagram.own] = arrivals.get(datagram.own, 0) + len(payload)
        return True

    network.tap = tap
    began = move(network, a, connection.flows[0], A2)
    assert network.run_until(lambda: bool(a.delivered), 5)
    assert network.now - began == pytest.approx(0.1)  # one round trip
    network.run(1)
    assert 1200 < sent[A2] <= 3 * arrivals[A2]
    assert {frame_[-1] for frame_ in a.delivered} == set(range(20))
    assert len(a.delivered) == 20


def test_a_lost_answer_to_a_challenge_is_asked_for_again_even_after_early_data() -> None:
    network, a, b, connection = established(link=Link(delay=0.01))
    back = only_flow(b)
    for _ in range(20):
        b.peer.send_frame(back.connection, frame(b"e" * 1000), network.now)
    network.run(0.001)
    lost = []

    def tap(datagram, payload: bytes) -> bool:  # type: ignore[no-untyped-def]
        if decode_header(payload).kind is Kind.ACK and len(lost) < 2:
            lost.append(payload)
            return False
        return True

    network.tap = tap
    move(network, a, connection.flows[0], A2)
    assert network.run_until(lambda: back.flow.peer_addr == A2, 1)
    assert len(lost) == 2


def test_traffic_from_the_address_in_question_brings_the_challenge_forward() -> None:
    network, a, b, connection = established()
    back = only_flow(b)
    network.tap = lambda datagram, payload: decode_header(payload).kind is not Kind.ACK
    move(network, a, connection.flows[0], A2)
    network.run(40)  # the challenge has backed off by now
    network.tap = None
    a.peer.send_frame(connection, frame(), network.now)
    assert network.run_until(lambda: back.flow.peer_addr == A2, 1)


def test_without_early_data_the_first_packet_takes_two_round_trips() -> None:
    network, a, b, connection = established(link=Link(delay=0.05), early_data=False)
    back = only_flow(b)
    b.peer.send_frame(back.connection, frame(b"x" * 1000), network.now)
    network.run(0.01)
    began = move(network, a, connection.flows[0], A2)
    assert network.run_until(lambda: bool(a.delivered), 5)
    assert network.now - began == pytest.approx(0.2)


@pytest.mark.parametrize("sealed", [True, False])
def test_keys_change_with_the_packet_number_and_nothing_is_lost(sealed: bool) -> None:
    network, a, b, connection = established(sealed_data=sealed)
    flow = connection.flows[0]
    first = flow.keys_out.at(flow.next_number) if flow.keys_out else None
    flow.next_number = (1 << EPOCH_BITS) - 3
    large = tcp_frame(bytes(9000), 1000)  # nine slices: they do not straddle two keys
    for _ in range(3):
        a.peer.send_frame(connection, large, network.now)
    move(network, a, flow, A2)
    network.run(1)
    assert flow.next_number > 1 << EPOCH_BITS
    assert flow.keys_out is not None
    assert flow.keys_out.at(flow.next_number) is not first
    arrived = [segment for delivered in b.delivered for segment in software_segments(delivered)]
    assert arrived == software_segments(large) * 3
    assert only_flow(b).flow.peer_addr == A2


def test_a_flow_id_is_not_used_again_and_versions_end() -> None:
    network, a, _b, connection = established()
    flow = connection.flows[0]
    from dataclasses import replace

    flow.flow = replace(flow.flow, own_version=2**64 - 1, confirmed_version=2**64 - 1)
    with pytest.raises(LocalError, match="used up"):
        a.peer.move(flow, A2, network.now)


def test_psk_only_hosts_connect_without_identities() -> None:
    from controller.eccp.handshake import Credentials
    from controller.eccp.peer_settings import PeerSettings

    network = Network()
    hosts = []
    for name, place, psk in (("a", A1, b"k" * 32), ("b", B1, b"k" * 32), ("c", A2, b"x" * 32)):
        base = make_settings(len(name), [])
        credentials = Credentials(static=base.credentials.static, psk=psk)
        hosts.append(network.add(name, PeerSettings(credentials=credentials, random=base.random), [place]))
    hosts[0].peer.connect(B1, A1, 0.0)
    hosts[2].peer.connect(B1, A2, 0.0)
    network.run(1)
    assert sum(has(host, ConnectionEstablished) for host in hosts[:2]) == 2
    assert len(hosts[1].peer.by_identity) == 1
    assert hosts[1].peer.refused["handshake-forged"] > 0

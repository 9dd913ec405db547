# SPDX-License-Identifier: Apache-2.0
"""What outsiders try: forged, replayed, truncated, reflected, guessed and flooded packets change nothing."""

import random

import pytest
from unit.eccp.cases import A1, A2, A3, B1, established, frame, move, only_flow
from unit.eccp.test_slices import software_segments, tcp_frame

from controller.eccp.errors import ConfigError
from controller.eccp.names import FlowState, PeerState
from controller.eccp.outputs import ConnectionEstablished
from controller.eccp.simulation import Host, Link, Network, make_settings, pair
from controller.wire import eccp as wire
from controller.wire.eccp import Address, Kind

pytestmark = pytest.mark.usefixtures("datapath")
EVIL = Address("203.0.113.66", 6666)


def _record(network: Network) -> list[tuple[bytes, Address, Address]]:
    seen: list[tuple[bytes, Address, Address]] = []

    def tap(datagram, payload: bytes) -> bool:  # type: ignore[no-untyped-def]
        seen.append((payload, datagram.own, datagram.to))
        return True

    network.tap = tap
    return seen


def _states(*hosts: Host) -> list[object]:
    return [[(e.flow, e.remote_id, e.window.highest) for e in host.peer.flows.values()] for host in hosts]


def _everything() -> tuple[Network, Host, Host, list[tuple[bytes, Address, Address]]]:
    """A run with every kind of packet on the wire, recorded, at rest again."""
    network, a, b = pair()
    seen = _record(network)
    connection = a.peer.connect(B1, A1, 0.0)
    network.run(1)
    a.peer.send_frame(connection, frame(), network.now)
    second = a.peer.add_flow(connection, B1, A1, network.now)
    network.run(1)
    move(network, a, connection.flows[0], A2)
    network.run(1)
    a.places.add(A1)
    a.peer.move(second, A2, network.now)
    network.run(40)  # keep-alives
    assert {wire.decode_header(payload).kind for payload, _, _ in seen} == set(Kind) - {
        Kind.COOKIE, Kind.FIN, Kind.FIN_ACK, Kind.FORWARD, Kind.RELAY, Kind.DATA_MAC, Kind.DATA_PLAIN
    }  # fmt: skip
    return network, a, b, seen


def test_replays_from_anywhere_change_nothing() -> None:
    network, a, b, seen = _everything()
    network.tap = None
    before = _states(a, b)
    addresses = (a.delivered[:], b.delivered[:])
    for payload, own, to in seen:
        if wire.decode_header(payload).kind is Kind.SYN:
            continue  # a repeated SYN of a finished handshake opens a new half-open one: see the flood test
        for source in (own, EVIL):
            network.inject(payload, source, to)
            network.run(0.02)
    assert _states(a, b) == before
    assert (a.delivered, b.delivered) == addresses
    assert b.peer.refused["replayed"] > 0


def test_reflected_packets_change_nothing() -> None:
    network, a, b, seen = _everything()
    network.tap = None
    before = _states(a, b)
    for payload, own, to in seen:
        network.inject(payload, to, own)
        network.run(0.02)
    assert _states(a, b) == before
    assert a.peer.refused["reflected"] > 0


def test_truncated_packets_change_nothing() -> None:
    network, a, b, seen = _everything()
    network.tap = None
    before = _states(a, b)
    for payload, own, to in seen:
        for size in sorted({0, 1, 19, 20, 21, 35, 36, len(payload) // 2, len(payload) - 1}):
            if size < len(payload):
                network.inject(payload[:size], own, to)
    network.run(0.5)
    assert _states(a, b) == before


def test_a_version_jump_by_an_outsider_is_refused() -> None:
    network, a, b, _connection = established()
    before = _states(a, b)
    target = only_flow(b)
    body = (2**60).to_bytes(8, "big") + wire.encode_body(wire.Rsyn(), 44)
    forged = wire.encode_header(Kind.RSYN, target.local_id, 2**40) + body + bytes(16)
    network.inject(forged, EVIL, B1)
    network.run(1)
    assert _states(a, b) == before
    assert b.peer.refused == {"forged": 1}
    assert not any(datagram.to == EVIL for datagram in network.sent[-3:])


def test_guessed_flow_ids_meet_silence() -> None:
    network, _a, b, _connection = established()
    guesses = random.Random(5)
    count = len(network.sent)
    for _ in range(2000):
        kind = guesses.choice([k for k in Kind if k is not Kind.SYN])
        network.inject(wire.encode_header(kind, guesses.getrandbits(64), 1) + bytes(100), EVIL, B1)
    network.run(0.5)
    assert b.peer.refused["unknown-flow"] == 2000
    assert len(network.sent) - count == 2000  # nothing was answered


def test_a_packet_copied_from_elsewhere_does_not_move_the_flow() -> None:
    """The attacker forwards genuine packets faster than the path does, but cannot see the answers."""
    network, a, b, connection = established()
    copied: list[bytes] = []

    def tap(datagram, payload: bytes) -> bool:  # type: ignore[no-untyped-def]
        if datagram.own == A1 and not copied:
            copied.append(payload)
            return False
        return True

    network.tap = tap
    a.peer.send_frame(connection, frame(), network.now)
    network.run(0.001)
    network.inject(copied[0], EVIL, B1)
    network.run(0.5)
    flow = only_flow(b)
    assert flow.flow.peer_addr == A1
    assert flow.flow.peer_state is PeerState.VALIDATING
    b.peer.send_frame(flow.connection, frame(b"secret"), network.now)
    network.run(0.5)
    assert a.delivered[-1][-6:] == b"secret"
    to_evil = sum(len(b"".join(map(bytes, d.parts))) for d in network.sent if d.to == EVIL)
    assert to_evil <= 3 * len(copied[0])
    a.peer.send_frame(connection, frame(), network.now)  # the next genuine packet settles it
    network.run(0.5)
    assert flow.flow.peer_state is PeerState.SETTLED


def test_an_unvalidated_address_gets_at_most_three_times_what_it_sent_for_ever() -> None:
    network, a, b, connection = established()
    flow = connection.flows[0]
    copied: list[bytes] = []

    def tap(datagram, payload: bytes) -> bool:  # type: ignore[no-untyped-def]
        if datagram.own == A2:
            copied.append(payload)
            return False
        return True

    network.tap = tap
    back = only_flow(b)
    for _ in range(50):
        b.peer.send_frame(back.connection, frame(b"y" * 1200), network.now)
    move(network, a, flow, A2)
    network.run(0.001)
    network.inject(copied[0], EVIL, B1)
    network.run(300)
    sent = sum(len(b"".join(map(bytes, d.parts))) for d in network.sent if d.to == EVIL)
    assert 0 < sent <= 3 * len(copied[0])


def test_strangers_are_refused_with_the_reason_counted() -> None:
    network, _a, b = pair()
    c = network.add("c", make_settings(9, [1, 2]), [A3])
    c.peer.connect(B1, A3, 0.0)
    network.run(30)
    assert b.peer.refused["identity-unauthorized"] > 0
    assert not any(isinstance(notice, ConnectionEstablished) for _, notice in b.notices)
    assert not b.peer.connections


def test_the_wrong_server_is_refused_by_the_client() -> None:
    network, a, _b = pair()
    a.peer.connect(B1, A1, 0.0, expected=b"somebody else".ljust(32))
    network.run(2)
    assert a.peer.refused["identity-unexpected"] > 0
    assert only_flow(a).flow.state is FlowState.SYN_SENT


def test_a_syn_flood_costs_a_bounded_table_and_real_clients_still_come_in() -> None:
    network, a, b = pair(cookie_above=8, max_half_open=16)
    rng = random.Random(3)
    for number in range(500):
        syn = wire.Syn(0, rng.getrandbits(64) | 1, 1, b"", rng.randbytes(32))
        datagram = wire.encode_header(Kind.SYN, 0, 0) + wire.encode_body(syn)
        network.inject(datagram, Address("203.0.113.1", 1000 + number), B1)
    network.run(0.1)
    assert len(b.peer.half_open) == 8
    assert b.peer.refused["cookie-demanded"] == 492
    a.peer.connect(B1, A1, network.now)
    network.run(2)
    assert any(isinstance(notice, ConnectionEstablished) for _, notice in b.notices)
    network.run(60)
    assert len(b.peer.connections) == 1


def test_floods_with_cookies_evict_the_oldest_half_open() -> None:
    network, b_settings = Network(), make_settings(2, [1], cookie_above=0, max_half_open=4)
    b = network.add("b", b_settings, [B1])
    for number in range(20):
        host = network.add(f"h{number}", make_settings(100 + number, [2]), [Address("10.3.0.1", 1000 + number)])
        host.peer.connect(B1, Address("10.3.0.1", 1000 + number), network.now)
        network.run(0.05)
        assert len(b.peer.half_open) <= 4
    assert b.peer.refused["identity-unauthorized"] > 0


def test_syn_and_rsyn_that_are_not_padded_are_refused() -> None:
    network, _a, b, _connection = established()
    syn = wire.encode_header(Kind.SYN, 0, 0) + wire.encode_body(wire.Syn(0, 5, 1, b"", b"n" * 32), 1200)
    network.inject(syn, EVIL, B1)
    network.run(0.1)
    assert b.peer.refused["malformed"] == 1


def test_a_peer_may_send_only_from_its_own_inner_addresses() -> None:
    network, a, b, connection = established()
    only_flow(b).connection.allowed_inner = frozenset({bytes((10, 77, 0, 1))})
    a.peer.send_frame(connection, frame(source="10.77.0.9"), network.now)
    a.peer.send_frame(connection, frame(source="10.77.0.1"), network.now)
    network.run(0.1)
    assert b.peer.refused["inner-source"] == 1
    assert len(b.delivered) == 1


@pytest.mark.parametrize("sealed", [True, False])
def test_data_in_clear_is_taken_only_if_both_ends_want_it(sealed: bool) -> None:
    network, a, b = pair(sealed_data=False)
    if sealed:
        object.__setattr__(b.peer.settings, "sealed_data", True)
    connection = a.peer.connect(B1, A1, 0.0)
    network.run(1)
    assert connection.sealed_data is sealed
    a.peer.send_frame(connection, frame(b"hello"), network.now)
    network.run(0.1)
    assert b.delivered[0][-5:] == b"hello"
    on_wire = b"".join(bytes(part) for part in network.sent[-1].parts)
    assert (b"hello" in on_wire) is not sealed
    plain = wire.encode_header(Kind.DATA_PLAIN, only_flow(b).local_id, 77, 1) + bytes(18) + frame()[10:]
    network.inject(plain, EVIL, B1)
    network.run(0.1)
    assert len(b.delivered) == (1 if sealed else 2)
    assert only_flow(b).flow.peer_addr == A1, "data in clear never moves an address"
    assert only_flow(b).flow.peer_state is PeerState.SETTLED


def test_data_in_clear_carries_a_mac_while_an_address_is_in_question() -> None:
    network, a, b = pair(sealed_data=False, link=Link(delay=0.05))
    connection = a.peer.connect(B1, A1, 0.0)
    network.run(1)
    kinds: list[Kind] = []

    def tap(datagram, payload: bytes) -> bool:  # type: ignore[no-untyped-def]
        kinds.append(wire.decode_header(payload).kind)
        return True

    network.tap = tap
    move(network, a, connection.flows[0], A2)
    a.peer.send_frame(connection, frame(b"early"), network.now)
    network.run(0.001)
    assert kinds == [Kind.RSYN, Kind.DATA_MAC]
    network.run(1)
    assert b.delivered[0][-5:] == b"early"
    a.peer.send_frame(connection, frame(b"later"), network.now)
    network.run(1)
    assert kinds[-1] is Kind.DATA_PLAIN


def test_an_open_door_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError):
        type(make_settings(1, [2]).credentials)(static=make_settings(1, [2]).credentials.static, psk=b"short")


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("bad", [0, 3, 8])
def test_one_forged_slice_in_a_run_costs_that_slice_only(bad: int, sealed: bool) -> None:
    """As GRO hands them over: nine slices back to back, one of them forged, then all of them once more."""
    network, a, b, connection = established(sealed_data=sealed)
    if not sealed:
        move(network, a, connection.flows[0], A2)  # in clear under a MAC while the address is in question
    large = tcp_frame(bytes(8500), 1000)
    a.peer.send_frame(connection, large, network.now)
    batch = next(d for d in a.peer.take_datagrams() if d.segment)
    run = bytearray(b"".join(batch.parts))
    genuine = bytes(run)
    run[bad * batch.segment + 60] ^= 1
    source = connection.flows[0].flow.own_addr
    assert isinstance(source, Address)
    b.peer.receive(run, source, B1, network.now, batch.segment)
    wanted = software_segments(large)
    arrived = [s for d in b.peer.take_deliveries() for s in software_segments(b"".join(d.parts))]
    assert arrived == wanted[:bad] + wanted[bad + 1 :]
    assert b.peer.refused == {"forged": 1}
    b.peer.receive(genuine, source, B1, network.now, batch.segment)
    arrived = [s for d in b.peer.take_deliveries() for s in software_segments(b"".join(d.parts))]
    assert arrived == [wanted[bad]], "what was forged may still come; the others came already"
    assert b.peer.refused == {"forged": 1, "replayed": 8}

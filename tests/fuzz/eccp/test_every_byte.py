# SPDX-License-Identifier: Apache-2.0
"""Every byte of every message is changed: accepted as the protocol says, or refused and the state unchanged.

`BATON_FUZZ=N` takes N values a byte instead of 3.
"""

import os
import random

import pytest
from unit.eccp.cases import A1, A2, B1, R, established, frame, move
from unit.eccp.test_slices import tcp_frame

from controller.eccp.simulation import Host, Link, Network, make_settings, pair
from controller.wire.eccp import HEADER_SIZE, PADDED_SIZE, Address, Kind, decode_header

pytestmark = pytest.mark.usefixtures("datapath")
VALUES = int(os.environ.get("BATON_FUZZ", "3"))


def _snapshot(host: Host) -> object:
    peer = host.peer
    flows = [
        (e.flow, e.remote_id, e.window.highest, e.next_number, e.lost, e.budget.left(B1), e.connection.peer_listed)
        for e in peer.flows.values()
    ]
    return flows, sorted(peer.connections), len(peer.half_open), len(host.delivered)


def _capture(*, sealed: bool = False) -> tuple[Network, dict[Kind, tuple[bytes, Address, Address]]]:
    """One genuine packet of each kind, taken out of the network just before it would have arrived."""
    taken: dict[Kind, tuple[bytes, Address, Address]] = {}
    network, a, b, connection = established(sealed_data=sealed, link=Link(delay=0.01))
    network.add("r", make_settings(3, [1, 2], is_rendezvous=True), [R])
    for host, place in ((a, A1), (b, B1)):
        host.peer.rendezvous = host.peer.connect(R, place, network.now)
    network.run(1)

    def tap(datagram, payload: bytes) -> bool:  # type: ignore[no-untyped-def]
        kind = decode_header(payload).kind
        if kind in taken:
            return True
        taken[kind] = (payload, datagram.own, datagram.to)
        return False

    network.tap = tap
    flow = connection.flows[0]
    a.peer.send_frame(connection, tcp_frame(b"d" * 5000, 1300), network.now)
    second = a.peer.add_flow(connection, B1, A1, network.now)
    network.run(2)
    move(network, a, flow, A2)
    a.places.add(A1)
    a.peer.send_frame(connection, frame(b"mac"), network.now)
    network.run(40)
    a.peer.close_flow(second, network.now)
    network.run(5)
    network.tap = None
    return network, taken


@pytest.mark.parametrize("kind", sorted(set(Kind) - {Kind.SYN, Kind.SYN_ACK, Kind.ACK, Kind.COOKIE, Kind.DATA_PLAIN}))
def test_every_byte_of_a_sealed_message(kind: Kind) -> None:
    network, taken = _capture(sealed=kind is Kind.DATA)
    payload, own, to = taken[kind]
    hosts = list(network.hosts.values())
    rng = random.Random(kind)
    receiver = next(host for host in hosts if to in host.places)
    for at in range(len(payload)):
        # Padding and inner bytes are under the same seal: one value each is enough there.
        for value in rng.sample([v for v in range(256) if v != payload[at]], VALUES if at < 400 else 1):
            before = _snapshot(receiver)
            receiver.peer.receive(payload[:at] + bytes((value,)) + payload[at + 1 :], own, to, network.now)
            assert _snapshot(receiver) == before, f"byte {at} of {kind.name} set to {value}"
            assert not receiver.peer.take_datagrams()


@pytest.mark.parametrize("wanted", [Kind.SYN_ACK, Kind.ACK])
def test_every_byte_of_the_handshake(wanted: Kind) -> None:
    """A handshake in which a packet comes first in every damaged form, then as it was sent, still succeeds."""
    rng = random.Random(1)
    network, a, b = pair()
    damaged: list[bytes] = []

    def tap(datagram, payload: bytes) -> bool:  # type: ignore[no-untyped-def]
        if decode_header(payload).kind is wanted and not damaged:
            damaged.append(payload)
            receiver = next(h for h in network.hosts.values() if datagram.to in h.places)
            for at in range(len(payload)):
                value = payload[at] ^ rng.randrange(1, 256)
                before = _snapshot(receiver)
                forged = payload[:at] + bytes((value,)) + payload[at + 1 :]
                receiver.peer.receive(forged, datagram.own, datagram.to, network.now)
                assert _snapshot(receiver) == before, f"byte {at} of {wanted.name}"
        return True

    network.tap = tap
    a.peer.connect(B1, A1, 0.0)
    network.run(3)
    assert damaged
    assert len(a.peer.by_identity) == len(b.peer.by_identity) == 1


def test_every_byte_of_a_syn() -> None:
    """A damaged SYN is refused, or answered as somebody else's SYN; the table of half-open flows stays bounded."""
    network, a, b = pair(max_half_open=8, cookie_above=4)
    seen: list[bytes] = []
    network.tap = lambda datagram, payload: bool(seen.append(payload)) or False
    a.peer.connect(B1, A1, 0.0)
    network.run(0.1)
    for at in range(PADDED_SIZE):
        receiver_input = seen[0][:at] + bytes((seen[0][at] ^ 0x55,)) + seen[0][at + 1 :]
        b.peer.receive(receiver_input, A1, B1, network.now)
        assert len(b.peer.half_open) <= 8
        for datagram in b.peer.take_datagrams():
            assert datagram.to == A1
            assert sum(len(part) for part in datagram.parts) <= 3 * PADDED_SIZE
    assert not b.peer.by_identity


def test_every_byte_of_a_cookie() -> None:
    """Nothing authenticates a COOKIE: a damaged one is refused, or costs one SYN more, three times at most."""
    rng = random.Random(3)
    network, a, b = pair(max_half_open=8, cookie_above=0)
    taken: list[bytes] = []
    network.tap = lambda datagram, payload: (
        decode_header(payload).kind is not Kind.COOKIE or bool(taken.append(payload)) or False
    )
    a.peer.connect(B1, A1, 0.0)
    assert network.run_until(lambda: bool(taken), 1)
    entry = next(iter(a.peer.flows.values()))
    a.peer.take_datagrams()
    answered = 0
    for at in range(len(taken[0])):
        for _ in range(VALUES):
            before = entry.flow
            damaged = taken[0][:at] + bytes((taken[0][at] ^ rng.randrange(1, 256),)) + taken[0][at + 1 :]
            a.peer.receive(damaged, B1, A1, network.now)
            assert entry.flow == before
            answered += len(a.peer.take_datagrams())
    assert answered <= 3
    assert not a.peer.by_identity
    network.tap = None  # and what was damaged on the way does not keep the next opening from succeeding
    a.peer.connect(B1, A1, network.now)
    assert network.run_until(lambda: bool(a.peer.by_identity) and bool(b.peer.by_identity), 30)


@pytest.mark.parametrize("kind", [Kind.DATA_PLAIN])
def test_every_byte_of_clear_data_never_touches_the_protocol(kind: Kind) -> None:
    network, taken = _capture()
    payload, own, to = taken[kind]
    receiver = next(host for host in network.hosts.values() if to in host.places)
    rng = random.Random(2)
    flows = [(e.flow, e.window.highest) for e in receiver.peer.flows.values()]
    for at in range(len(payload)):
        for _ in range(VALUES):
            damaged = payload[:at] + bytes((rng.randrange(256),)) + payload[at + 1 :]
            receiver.peer.receive(damaged, own, to, network.now)
            assert [(e.flow, e.window.highest) for e in receiver.peer.flows.values()] == flows


def test_random_bytes() -> None:
    network, _a, b, _connection = established()
    rng = random.Random(7)
    before = _snapshot(b)
    for _ in range(5000 * VALUES // 3):
        kind = rng.choice(list(Kind))
        flow = rng.choice([next(iter(b.peer.flows)), rng.getrandbits(64), 0])
        head = bytes((0xEC, kind)) + rng.randbytes(2) + flow.to_bytes(8, "big") + rng.randbytes(8)
        size = rng.choice((0, 1, 15, 16, 40, 200, 1180))
        segment = rng.choice((0, 0, 1, 19, HEADER_SIZE, 64))
        b.peer.receive((head + rng.randbytes(size))[rng.choice((0, 0, 0, 1)) :], A1, B1, network.now, segment)
    assert _snapshot(b)[0][:1] == before[0][:1]  # type: ignore[index]
    assert len(b.peer.by_identity) == 1

# SPDX-License-Identifier: Apache-2.0
"""How a gated connection opens: handshake, bounds, forgeries, until its first data is held."""

from __future__ import annotations

from dataclasses import replace

from simulation.demo import CLIENT, MACS, ORIGIN, POLICY, PORTS, Demo
from simulation.gate import KEY, connection_of, forwarded, from_client, inject

from controller.core import life, pipeline
from controller.core.commands import ResolveHost
from controller.core.connection import State
from controller.core.cookie import Cookie, Kind
from controller.core.events import ConnectionClosed, RequestHeld, SegmentReceived
from controller.core.policy import Limits
from controller.core.segment import ACK, SYN, Endpoint, Segment, TcpOptions


def test_unlocated_origin() -> None:
    """Nobody knows where the origin is: it is asked for, and the client's next SYN gets through."""
    demo = Demo(located=False)
    asked: list[object] = []
    carry_out = demo.switch.carry_out
    demo.switch.carry_out = lambda command: (asked.append(command), carry_out(command))  # type: ignore[method-assign]
    client = demo.connect()
    assert client.state == "syn-sent"
    assert ResolveHost(1, "10.0.0.1") in asked
    demo.add_host("10.0.0.1", MACS["10.0.0.1"], 1)
    demo.run(1.1)
    assert client.state == "established"


def test_lost_syn_is_repeated() -> None:
    """The same SYN again is passed on again, not taken for another connection."""
    demo = Demo()
    listeners, demo.listeners = demo.listeners, {}
    client = demo.connect()
    demo.listeners = listeners
    number = connection_of(demo).number
    demo.run(1.1)
    assert client.state == "established"
    assert connection_of(demo).number == number


def test_another_syn_replaces_a_half_open_connection() -> None:
    """A client that starts over with another number."""
    demo = Demo()
    demo.listeners = {}
    demo.connect()
    inject(demo, from_client(SYN, 1_234))
    assert [event.reason for event in demo.happened(ConnectionClosed)] == ["reused"]
    assert connection_of(demo).client.isn == 1_234


def test_syn_on_a_served_connection_is_the_servers_business() -> None:
    """RFC 5961: it answers with a challenge; a forged SYN cannot take the connection away."""
    demo = Demo()
    client = demo.connect()
    server = forwarded(demo, client)
    inject(demo, from_client(SYN, 99))
    demo.say(client, b" again")
    demo.run(0.1)
    assert server.received == b"hello again"


def test_signed_connection_is_tried_as_it_is() -> None:
    """TCP-MD5 cannot move, but it can be forwarded: its SYN is passed on with all options."""
    demo = Demo()
    inject(demo, from_client(SYN, 5, options=TcpOptions(mss=1460, others=((19, bytes(16)),))))
    assert demo.at_origin[0].syn_options.others


def test_half_open_connections_are_bounded() -> None:
    """A flood of SYNs replaces the oldest half-open ones; established connections stay."""
    demo = Demo(policy=replace(POLICY, limits=Limits(half_open=3)))
    client = demo.connect()
    demo.listeners = {}
    for number in range(10):
        inject(demo, replace(from_client(SYN, number), src=Endpoint("10.0.0.9", 1_000 + number)))
    world = demo.engine.world
    assert len(world.opening) == 3
    assert len(world.connections) == 4
    assert KEY in world.connections
    assert len(world.numbers) == 4
    assert len([f for f in demo.switch.flows.values() if f.table == pipeline.CONNECTIONS and f.priority == 100]) == 8
    server = forwarded(demo, client)
    assert server.received == b"hello"


def test_connections_are_bounded() -> None:
    """Beyond the limit SYNs are dropped."""
    demo = Demo(policy=replace(POLICY, limits=Limits(connections=1)))
    demo.connect()
    inject(demo, replace(from_client(SYN, 5), src=Endpoint("10.0.0.9", 1)))
    assert list(demo.engine.world.connections) == [KEY]


def test_half_open_connections_time_out() -> None:
    """Nobody answers."""
    demo = Demo()
    demo.listeners = {}
    inject(demo, from_client(SYN, 5))
    demo.run(life.HALF_OPEN_TIME + 1)
    assert [event.reason for event in demo.happened(ConnectionClosed)] == ["half-open"]
    assert not demo.engine.world.connections


def test_wrong_acknowledgement_does_not_open() -> None:
    """The origin's business; the gate stays as it is."""
    demo = Demo()
    demo.connect(seconds=0.000_4)
    opening = connection_of(demo)
    demo.tell(SegmentReceived(1, 3, from_client(ACK, 1, 2)))
    assert opening.state is State.OPENING


def test_forged_synack() -> None:
    """One that acknowledges something else, or enters at another port, is not believed."""
    demo = Demo()
    demo.listeners = {}
    inject(demo, from_client(SYN, 5))
    synack = Segment(ORIGIN, CLIENT, 1, 77, SYN | ACK, 100)
    inject(demo, synack, PORTS["10.0.0.1"])
    inject(demo, replace(synack, ack=6), port=42)
    demo.tell(SegmentReceived(1, 42, replace(synack, ack=6)))
    assert connection_of(demo).agreement is None


def test_data_that_completes_the_handshake() -> None:
    """The bare ACK may be lost: the first data opens the connection too."""
    demo = Demo()
    client = demo.connect(seconds=0.000_4)
    demo.faults.loss = 1.0
    demo.run(0.01)
    demo.faults.loss = 0.0
    synack = Segment(ORIGIN, CLIENT, 500, client.send_next, SYN | ACK, 100, TcpOptions(mss=1460))
    demo.tell(SegmentReceived(1, 1, synack, Cookie(Kind.COPY).encode()))
    demo.tell(SegmentReceived(1, 3, from_client(ACK, client.send_next, 501, payload=b"data")))
    assert connection_of(demo).state is State.HELD
    assert demo.happened(RequestHeld)[0].bytes == 4


def test_duplicates_are_held_once() -> None:
    """A retransmission is folded; a longer one replaces; old bytes and too many are left to the client."""
    patient = replace(POLICY.services[0], verdict_timeout=9.0)
    demo = Demo(policy=replace(POLICY, services=(patient,), limits=Limits(held_bytes=3_000)))
    client = demo.connect()
    connection = connection_of(demo)
    start, ack = client.send_next, client.recv_next
    for payload in (b"abc", b"abc", b"ab", b"abcdef"):
        inject(demo, from_client(ACK, start, ack, payload=payload))
    inject(demo, from_client(ACK, start - 1, ack, payload=b"\0"))
    assert connection.held_bytes == 6
    assert len(connection.held) == 1
    inject(demo, from_client(ACK, start + 6, ack, payload=bytes(3_000)))
    assert connection.held_bytes == 6


def test_server_speaks_first() -> None:
    """A banner passes the gate and is counted; the client's acknowledgements reach the origin."""
    demo = Demo(greet=(b"220 ready\r\n", b""))
    client = demo.connect()
    assert client.received == b"220 ready\r\n"
    assert demo.at_origin[0].send_una == demo.at_origin[0].send_next
    assert connection_of(demo).origin.next == client.recv_next

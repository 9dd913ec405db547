# SPDX-License-Identifier: Apache-2.0
"""The life of a gated connection: what each input does in each state."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from simulation.demo import CLIENT, DROP, FORWARD, GO_BACK, MACS, MIGRATE, ORIGIN, POLICY, PORTS, Demo, alert
from simulation.peer import Capabilities, Peer

from controller.core import life, pipeline
from controller.core.commands import ResolveHost
from controller.core.connection import State
from controller.core.cookie import Cookie, Kind
from controller.core.errors import TransitionError
from controller.core.events import (
    ConnectionClosed,
    ConnectionOpened,
    FlowRemoved,
    RequestHeld,
    SegmentReceived,
    TimerExpired,
    Verdict,
    VerdictReached,
)
from controller.core.policy import Limits
from controller.core.segment import ACK, FIN, RST, SYN, ConnectionKey, Endpoint, Segment, TcpOptions

KEY = ConnectionKey(CLIENT, ORIGIN)


def connection_of(demo: Demo):
    """Return the one connection."""
    return demo.engine.world.connections[KEY]


def from_client(flags: int, number: int, ack: int = 0, **more: object) -> Segment:
    """Return a segment that claims to be the client's."""
    return Segment(CLIENT, ORIGIN, number, ack, flags, 100, eth_src=MACS["10.0.0.3"], eth_dst=MACS["10.0.0.1"], **more)


def inject(demo: Demo, segment: Segment, port: int = PORTS["10.0.0.3"]) -> None:
    """Let a packet enter the switch."""
    demo.switch.receive(port, segment)
    demo.run(0.05)


def forwarded(demo: Demo, client: Peer) -> Peer:
    """Bring a connection to its origin; returns the origin's end."""
    demo.say(client, b"hello")
    demo.tell(alert(FORWARD))
    demo.run(0.05)
    assert connection_of(demo).state is State.SERVED
    return demo.at_origin[0]


def test_every_state_meets_every_input() -> None:
    """No pair is forgotten, and one that is not listed raises."""
    assert set(life.TABLE) == set(product(State, life.Input))
    demo = Demo()
    demo.connect()
    with pytest.raises(TransitionError, match="no transition from"):
        life.handle(demo.engine.world, connection_of(demo), "weather", None)  # type: ignore[arg-type]


def test_handshake_opens() -> None:
    """The client is connected to the origin, its first data is held, the gate is shut."""
    demo = Demo()
    client = demo.connect()
    assert client.state == demo.at_origin[0].state == "established"
    assert [event.origin for event in demo.happened(ConnectionOpened)] == ["server1"]
    demo.say(client, b"hello")
    demo.run(0.01)
    assert demo.happened(RequestHeld)[0].bytes == 5
    assert demo.at_origin[0].received == b""
    assert connection_of(demo).state is State.HELD


def test_default_verdict_after_silence() -> None:
    """Nobody says anything: the service's default."""
    demo = Demo()
    demo.say(demo.connect(), b"hello")
    demo.run(0.3)
    assert [(event.verdict, event.cause) for event in demo.happened(VerdictReached)] == [(Verdict.FORWARD, "default")]
    assert demo.at_origin[0].received == b"hello"


def test_default_verdict_drop() -> None:
    """A service may distrust by default: the origin is reset, the client is left alone with its retransmissions."""
    strict = replace(POLICY, services=(replace(POLICY.services[0], default_verdict=Verdict.DROP),))
    demo = Demo(policy=strict)
    client = demo.connect()
    demo.say(client, b"hello")
    demo.run(0.5)
    assert demo.at_origin[0].state == "reset"
    assert [event.reason for event in demo.happened(ConnectionClosed)] == ["dropped"]
    assert client.state == "established"
    assert not demo.engine.world.connections


def test_drop_verdict() -> None:
    """A rule may drop."""
    demo = Demo()
    demo.say(demo.connect(), b"hello")
    demo.tell(alert(DROP))
    demo.run(0.1)
    assert demo.at_origin[0].state == "reset"


def test_alert_before_its_packet() -> None:
    """The analyser may be faster than the controller's own copy: the verdict waits for the data."""
    demo = Demo()
    client = demo.connect()
    demo.tell(alert(FORWARD))
    demo.tell(alert(MIGRATE))
    assert not demo.happened(VerdictReached)
    demo.say(client, b"hello")
    demo.run(0.01)
    assert [event.cause for event in demo.happened(VerdictReached)] == [f"sid {FORWARD}"]


def test_alert_before_the_handshake_is_done() -> None:
    """Even while the connection is half open."""
    demo = Demo()
    client = demo.connect(seconds=0.000_4)
    assert connection_of(demo).state is State.OPENING
    demo.tell(alert(FORWARD, src=ORIGIN, dst=CLIENT))
    demo.run(0.1)
    demo.say(client, b"hello")
    demo.run(0.01)
    assert demo.happened(VerdictReached)


@pytest.mark.parametrize(
    "foreign",
    [
        alert(FORWARD, src=None),
        alert(FORWARD, dst=None),
        alert(FORWARD, src=Endpoint("10.0.0.9", 1)),
        alert(77),
        alert(GO_BACK),
    ],
)
def test_alerts_that_say_nothing(foreign) -> None:
    """Without a packet, of an unknown connection, without a rule, or a return of what has not moved."""
    demo = Demo()
    demo.say(demo.connect(), b"hello")
    demo.tell(foreign)
    demo.run(0.05)
    assert not demo.happened(VerdictReached)


def test_late_alert_changes_nothing() -> None:
    """In gate mode the verdict is final."""
    demo = Demo()
    forwarded(demo, demo.connect())
    demo.tell(alert(MIGRATE))
    demo.run(0.1)
    assert len(demo.happened(VerdictReached)) == 1


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


def test_finish() -> None:
    """Both FINs: the connection is over, its flows stay for retransmissions and go when they fall silent."""
    demo = Demo()
    client = demo.connect()
    server = forwarded(demo, client)
    demo.act(client, lambda peer: peer.close(demo.now))
    demo.run(0.1)
    assert connection_of(demo).state is State.SERVED
    demo.act(server, lambda peer: peer.close(demo.now))
    demo.run(0.1)
    assert client.fin_received
    assert server.fin_received
    connection = connection_of(demo)
    assert connection.state is State.CLOSING
    assert [event.reason for event in demo.happened(ConnectionClosed)] == ["fin"]
    lingering = [flow for flow in demo.switch.flows.values() if flow.idle_timeout == life.LINGER]
    assert len(lingering) == 2
    demo.tell(FlowRemoved(1, lingering[1].cookie, "idle", 5, 500))
    demo.run(0.1)
    assert not demo.engine.world.connections
    assert not demo.engine.world.numbers
    assert not [flow for flow in demo.switch.flows.values() if flow.idle_timeout]
    assert len(demo.happened(ConnectionClosed)) == 1


def test_forged_server_fin() -> None:
    """A FIN that claims to be the server's but enters elsewhere does not count."""
    demo = Demo()
    client = demo.connect()
    forwarded(demo, client)
    demo.act(client, lambda peer: peer.close(demo.now))
    inject(demo, Segment(ORIGIN, CLIENT, client.recv_next, client.send_next, ACK | FIN, 100), port=42)
    assert connection_of(demo).state is State.SERVED


def test_client_closes_without_a_word() -> None:
    """Nothing to judge: the origin gets the FIN."""
    demo = Demo()
    client = demo.connect()
    demo.act(client, lambda peer: peer.close(demo.now))
    demo.run(0.1)
    assert demo.at_origin[0].fin_received
    assert connection_of(demo).state is State.SERVED


def test_origin_closes_before_the_request() -> None:
    """Its FIN is remembered while the gate is shut; the client's own then ends the connection."""
    demo = Demo()
    client = demo.connect()
    demo.act(demo.at_origin[0], lambda peer: peer.close(demo.now))
    demo.run(0.05)
    assert client.fin_received
    assert connection_of(demo).origin.finished
    demo.act(client, lambda peer: peer.close(demo.now))
    demo.run(0.1)
    assert [event.reason for event in demo.happened(ConnectionClosed)] == ["fin"]


def test_a_new_connection_follows_a_finished_one() -> None:
    """The same ports again, while the old flows linger."""
    demo = Demo()
    client = demo.connect()
    server = forwarded(demo, client)
    for peer in (client, server):
        demo.act(peer, lambda one: one.close(demo.now))
        demo.run(0.1)
    first = connection_of(demo).number
    demo.peers.clear()
    again = demo.connect()
    assert again.state == "established"
    assert connection_of(demo).number != first


@pytest.mark.parametrize("held", [False, True])
def test_client_resets_while_gated(held: bool) -> None:
    """The RST is believed at the exact number; the origin is reset, nothing is left."""
    demo = Demo()
    client = demo.connect()
    if held:
        demo.say(client, b"hello")
        demo.run(0.01)
    inject(demo, from_client(RST, client.send_next + 100))
    assert demo.engine.world.connections
    inject(demo, from_client(RST, client.send_next))
    assert not demo.engine.world.connections
    assert demo.at_origin[0].state == "reset"
    assert [event.reason for event in demo.happened(ConnectionClosed)] == ["rst"]


def test_origin_refuses() -> None:
    """Connection refused: a RST from the origin's port, and only from there, ends the half-open connection."""
    demo = Demo()
    demo.listeners = {}
    inject(demo, from_client(SYN, 5))
    refusal = Segment(ORIGIN, CLIENT, 0, 6, RST | ACK, 0)
    inject(demo, refusal, port=42)
    assert demo.engine.world.connections
    inject(demo, refusal, PORTS["10.0.0.1"])
    assert not demo.engine.world.connections


def test_origin_resets_while_gated() -> None:
    """At the exact number only."""
    demo = Demo()
    client = demo.connect()
    reset = Segment(ORIGIN, CLIENT, client.recv_next + 1, client.send_next, RST | ACK, 0)
    inject(demo, reset, PORTS["10.0.0.1"])
    assert demo.engine.world.connections
    inject(demo, replace(reset, seq=client.recv_next), PORTS["10.0.0.1"])
    assert not demo.engine.world.connections


def test_client_reset_is_verified_with_the_server() -> None:
    """A forged RST of a served connection harms nobody; a real one is confirmed by the server's."""
    demo = Demo()
    client = demo.connect()
    server = forwarded(demo, client)
    inject(demo, from_client(RST, 1))
    assert connection_of(demo).state is State.SERVED
    assert server.state == "established"
    server.state = "closed"
    inject(demo, from_client(RST, 1))
    assert connection_of(demo).state is State.CLOSING
    assert [event.reason for event in demo.happened(ConnectionClosed)] == ["rst"]


def test_forged_server_reset() -> None:
    """From another port it says nothing."""
    demo = Demo()
    client = demo.connect()
    forwarded(demo, client)
    inject(demo, Segment(ORIGIN, CLIENT, client.recv_next, 0, RST, 0), port=42)
    demo.tell(SegmentReceived(1, 42, Segment(ORIGIN, CLIENT, client.recv_next, 0, RST, 0)))
    assert connection_of(demo).state is State.SERVED


@pytest.mark.parametrize("say", [None, b"hello"])
def test_idle(say: bytes | None) -> None:
    """A connection that nobody uses any more is forgotten, gated or served."""
    demo = Demo()
    client = demo.connect()
    if say:
        forwarded(demo, client)
    connection = connection_of(demo)
    cookie = Cookie(Kind.PATH, 0, connection.number).encode()
    demo.tell(FlowRemoved(1, cookie, "delete", 1, 1))
    assert demo.engine.world.connections
    demo.tell(FlowRemoved(1, cookie, "idle", 1, 1))
    assert [event.reason for event in demo.happened(ConnectionClosed)] == ["idle"]
    demo.run(0.01)
    assert not demo.engine.world.connections
    assert not [flow for flow in demo.switch.flows.values() if flow.idle_timeout]


def test_half_open_flow_idle() -> None:
    """The same for one that never opened."""
    demo = Demo()
    demo.listeners = {}
    inject(demo, from_client(SYN, 5))
    demo.tell(FlowRemoved(1, Cookie(Kind.PUNT, 0, connection_of(demo).number).encode(), "idle", 1, 1))
    assert not demo.engine.world.connections


@pytest.mark.parametrize("cookie", [0, Cookie(Kind.PLAIN).encode(), Cookie(Kind.PATH, 0, 4_711).encode()])
def test_foreign_flows_removed(cookie: int) -> None:
    """Flows of others, the standing ones, and of connections long gone."""
    demo = Demo()
    demo.connect()
    demo.tell(FlowRemoved(1, cookie, "idle", 1, 1))
    assert demo.engine.world.connections


def test_stragglers_go_through_the_tables() -> None:
    """A packet that an outdated megaflow punted after the verdict still arrives."""
    demo = Demo()
    client = demo.connect()
    server = forwarded(demo, client)
    late = from_client(ACK, client.send_next, client.recv_next, payload=b"!", options=client.emit or TcpOptions())
    late = replace(late, options=TcpOptions(timestamps=None))
    server.timestamps = False
    demo.tell(SegmentReceived(1, 3, late, Cookie(Kind.PUNT, 0, 1).encode()))
    demo.run(0.01)
    assert server.received == b"hello!"


def test_stale_timers() -> None:
    """Timers of a connection long gone, or of an older version."""
    demo = Demo()
    demo.connect()
    demo.tell(TimerExpired(None, 0, "verdict"))
    demo.tell(TimerExpired(ConnectionKey(CLIENT, CLIENT), 0, "verdict"))
    demo.tell(TimerExpired(KEY, 7, "half-open"))
    demo.tell(TimerExpired(KEY, 0, "half-open"))
    demo.tell(TimerExpired(KEY, 0, "verdict"))
    assert connection_of(demo).state is State.GATED


def test_packets_of_nobody() -> None:
    """Of unknown connections, to unknown services, or SYNs that the switch only copied."""
    demo = Demo()
    stranger = Endpoint("10.9.9.9", 9)
    demo.tell(SegmentReceived(1, 3, Segment(stranger, ORIGIN, 1, 1, ACK, 1)))
    demo.tell(SegmentReceived(1, 3, Segment(stranger, stranger, 1, 1, ACK, 1)))
    demo.tell(SegmentReceived(1, 3, from_client(SYN | FIN, 5), Cookie(Kind.COPY).encode()))
    assert not demo.engine.world.connections


def test_copies_without_meaning() -> None:
    """A copy that neither closes nor resets needs nothing, and a punted RST has been copied already."""
    demo = Demo()
    client = demo.connect()
    demo.tell(SegmentReceived(1, 3, from_client(ACK, client.send_next, 0, payload=b"x"), Cookie(Kind.COPY).encode()))
    demo.tell(SegmentReceived(1, 3, from_client(RST, client.send_next), Cookie(Kind.PUNT).encode()))
    assert connection_of(demo).state is State.GATED


def test_client_capabilities_survive() -> None:
    """The SYN that the origin sees is the client's own."""
    demo = Demo()
    demo.connect(Capabilities(mss=1234, window_scale=3, sack=True, timestamps=False))
    assert demo.at_origin[0].syn_options == TcpOptions(1234, 3, True, (), None)

# SPDX-License-Identifier: Apache-2.0
"""Whatever fails before the commit leaves the connection with its origin, with nothing lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.demo import CLIENT, MACS, MIGRATE, ORIGIN, POLICY, PORTS, TARGET, Demo, alert, target
from simulation.gate import GATED, KEY, REQUEST, attempt_of, begin, served_by_origin, until
from simulation.peer import Capabilities

from controller.core import seq
from controller.core.commands import FlowAdd
from controller.core.connection import Phase
from controller.core.cookie import Cookie, Kind
from controller.core.events import (
    BarrierReplied,
    CommandRefused,
    ConnectionClosed,
    FlowRemoved,
    MigrationCompleted,
    MigrationFailed,
    SegmentReceived,
)
from controller.core.segment import ACK, FIN, RST, SYN, ConnectionKey, Segment, TcpOptions
from controller.core.target import RETRIES


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (Capabilities(sack=False), "options"),
        (Capabilities(timestamps=False), "options"),
        (Capabilities(window_scale=None), "options"),
        (Capabilities(mss=1459), "mss"),
    ],
)
def test_target_that_cannot_take_over(second: Capabilities, reason: str) -> None:
    """It lacks what client and origin use: it is reset, the origin serves."""
    demo = Demo(second=second)
    served_by_origin(demo, begin(demo))
    assert [event.reason for event in demo.happened(MigrationFailed)] == [reason]
    assert demo.at_target[0].state == "reset"


def test_target_refuses() -> None:
    """Connection refused."""
    demo = Demo()
    del demo.listeners[TARGET]
    client = begin(demo)
    until(demo, Phase.CONNECTING)
    demo.run(0.001)
    refusal = Segment(TARGET, CLIENT, 0, 12, RST | ACK, 0, eth_src=MACS["10.0.0.2"])
    demo.switch.receive(PORTS["10.0.0.2"], refusal)
    demo.run(0.001)
    assert not demo.happened(MigrationFailed)
    refusal = replace(refusal, ack=seq.add(client.isn, 1))
    demo.switch.receive(42, refusal)
    demo.tell(SegmentReceived(1, 42, refusal))
    assert not demo.happened(MigrationFailed)
    demo.switch.receive(PORTS["10.0.0.2"], refusal)
    served_by_origin(demo, client)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["refused"]


def test_target_is_silent() -> None:
    """The SYN is repeated, then time is up; a late SYN-ACK does not reach the client."""
    demo = Demo()
    del demo.listeners[TARGET]
    client = begin(demo)
    served_by_origin(demo, client)
    asked = [segment for _, place, segment in demo.trace if place == f"port {PORTS['10.0.0.2']}"]
    assert [segment.flags & RST for segment in asked] == [0] * RETRIES + [RST]
    assert demo.happened(MigrationFailed)[0].detail == "no SYN-ACK"
    before = len(demo.trace)
    demo.switch.receive(PORTS["10.0.0.2"], Segment(TARGET, CLIENT, 1, 2, SYN | ACK, 9))
    demo.run(0.1)
    assert len(demo.trace) == before


def test_target_with_a_full_accept_queue() -> None:
    """It answers, but never with the D-SACK of a connection that stands."""
    demo = Demo()
    client = begin(demo)
    until(demo, Phase.PROBING)
    demo.at_target[0].receive = lambda now, segment: None  # type: ignore[method-assign]
    demo.run(0.001)
    half_open = Segment(TARGET, CLIENT, seq.add(demo.at_target[0].isn, 1), seq.add(client.isn, 1), ACK, 99)
    demo.switch.receive(PORTS["10.0.0.2"], half_open)
    served_by_origin(demo, client)
    assert "accept queue" in demo.happened(MigrationFailed)[0].detail


def test_target_closes_at_once() -> None:
    """It accepts and hangs up."""
    demo = Demo()
    client = begin(demo)
    until(demo, Phase.PROBING)
    demo.at_target[0].receive = lambda now, segment: None  # type: ignore[method-assign]
    fin = Segment(TARGET, CLIENT, seq.add(demo.at_target[0].isn, 1), seq.add(client.isn, 1), ACK | FIN, 99)
    demo.switch.receive(PORTS["10.0.0.2"], fin)
    served_by_origin(demo, client)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["closed"]


def test_wrong_answers_of_the_target() -> None:
    """A SYN-ACK of something else, old numbers, numbers ahead: not believed."""
    demo = Demo()
    del demo.listeners[TARGET]
    client = begin(demo)
    until(demo, Phase.CONNECTING)
    due = seq.add(client.isn, 1)
    synack = Segment(TARGET, CLIENT, 50, due, SYN | ACK, 99, TcpOptions(1460, 7, True))
    world, connection = demo.engine.world, demo.engine.world.connections[KEY]
    connection.agreement = replace(connection.agreement, timestamps=False)
    for number, wrong in enumerate((replace(synack, ack=1), replace(synack, flags=ACK))):
        demo.tell(SegmentReceived(1, 2, wrong))
        assert attempt_of(demo).phase is Phase.CONNECTING, number
    demo.tell(SegmentReceived(1, 2, synack))
    proof = Segment(TARGET, CLIENT, 51, due, ACK, 99, TcpOptions(sack=((client.isn, due),)))
    for wrong in (
        synack,
        replace(proof, seq=50),
        replace(proof, seq=52),
        replace(proof, ack=seq.add(due, 1)),
        replace(proof, options=TcpOptions()),
    ):
        demo.tell(SegmentReceived(1, 2, wrong))
        assert attempt_of(demo).phase is Phase.PROBING
    demo.tell(SegmentReceived(1, 2, proof))
    assert attempt_of(demo).phase is Phase.COMMITTING
    assert world.targets


def test_banner_out_of_order() -> None:
    """Only the next piece of it is acknowledged."""
    policy = replace(POLICY, servers={**POLICY.servers, "server2": replace(target, discards_banner=True)})
    demo = Demo(policy=policy)
    begin(demo)
    until(demo, Phase.PROBING)
    demo.at_target[0].receive = lambda now, segment: None  # type: ignore[method-assign]
    attempt = attempt_of(demo)
    banner = Segment(TARGET, CLIENT, seq.add(attempt.target_next, 9), seq.add(attempt.syn_seq, 1), ACK, 9, payload=b"x")
    demo.tell(SegmentReceived(1, 2, banner))
    assert attempt.banner == 0
    demo.tell(SegmentReceived(1, 2, replace(banner, seq=attempt.target_next, payload=b"hello")))
    assert attempt.banner == 5


def test_unlocated_target() -> None:
    """It is asked for; when it answers, the migration goes on."""
    demo = Demo(located=False)
    demo.add_host("10.0.0.1", MACS["10.0.0.1"], 1)
    client = begin(demo)
    assert attempt_of(demo).phase is Phase.LOCATING
    demo.add_host("10.0.0.2", MACS["10.0.0.2"], 2)
    demo.run(0.1)
    assert demo.at_target[0].received == REQUEST
    assert client.state == "established"


def test_target_that_nobody_knows() -> None:
    """Nobody answers for its address."""
    demo = Demo(located=False)
    demo.add_host("10.0.0.1", MACS["10.0.0.1"], 1)
    served_by_origin(demo, begin(demo))
    assert "address" in demo.happened(MigrationFailed)[0].detail
    demo.add_host("10.0.0.2", MACS["10.0.0.2"], 2)
    assert not demo.at_target


def test_located_when_it_is_too_late() -> None:
    """The connection that asked has gone, or has given up, or is at another switch."""
    demo = Demo(located=False)
    demo.add_host("10.0.0.1", MACS["10.0.0.1"], 1)
    begin(demo)
    world = demo.engine.world
    world.locating["10.0.0.2"] += [ConnectionKey(CLIENT, CLIENT)]
    connection = world.connections[KEY]
    connection.switch = 2
    demo.add_host("10.0.0.2", MACS["10.0.0.2"], 2)
    assert connection.attempt.phase is Phase.LOCATING
    connection.switch = 1
    demo.run(1.0)
    assert demo.happened(MigrationFailed)


@pytest.mark.parametrize("phase", [Phase.CONNECTING, Phase.PROBING, Phase.COMMITTING])
def test_switch_refuses_a_flow(phase: Phase) -> None:
    """Table full: the connection stays with its origin."""
    demo = Demo()
    client = begin(demo)
    until(demo, phase)
    attempt = attempt_of(demo)
    if phase is Phase.COMMITTING:
        demo.tell(CommandRefused(1, attempt.token, "table full"))
    else:
        attempt.token = demo.engine.world.token(demo.engine.world.connections[KEY])
        demo.tell(CommandRefused(1, attempt.token, "table full"))
    served_by_origin(demo, client)
    assert "table full" in demo.happened(MigrationFailed)[0].detail
    assert demo.at_target == [] or demo.at_target[0].received == b""


def test_refusal_by_the_switch_itself() -> None:
    """The final flows are refused on the way."""
    demo = Demo()

    def refuse(flow: FlowAdd) -> str | None:
        return "no room" if flow.match.ip_src == TARGET.address and flow.cookie >> 48 & 0xF == Kind.PATH else None

    demo.switch.refuse = refuse
    served_by_origin(demo, begin(demo))
    assert "no room" in demo.happened(MigrationFailed)[0].detail


def test_answers_to_nobody() -> None:
    """Tokens of migrations that are over, or of nothing."""
    demo = Demo()
    begin(demo)
    connection = demo.engine.world.connections[KEY]
    stale = demo.engine.world.token(connection)
    for token in (0, 999, stale):
        demo.tell(BarrierReplied(1, token))
        demo.tell(CommandRefused(1, token, "late"))
    demo.run(0.1)
    assert demo.happened(MigrationCompleted)


def test_the_same_server_is_no_target() -> None:
    """Moving to where it is."""
    policy = replace(POLICY, rules=(replace(POLICY.rules[1], target="server1"),))
    demo = Demo(policy=policy)
    served_by_origin(demo, begin(demo))
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["target"]


def test_origin_that_has_closed() -> None:
    """FIN seen before the cut: refused."""
    demo = Demo()
    client = demo.connect()
    demo.act(demo.at_origin[0], lambda peer: peer.close(demo.now))
    demo.run(0.01)
    demo.say(client, REQUEST)
    demo.run(0.001)
    demo.tell(alert(MIGRATE))
    demo.run(0.1)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["closing"]
    assert demo.at_origin[0].received == REQUEST


@pytest.mark.parametrize("phase", GATED)
def test_client_resets_meanwhile(phase: Phase) -> None:
    """Both servers are reset, nothing is left."""
    demo = Demo(located=False)
    demo.add_host("10.0.0.1", MACS["10.0.0.1"], 1)
    client = begin(demo)
    if phase is not Phase.LOCATING:
        demo.add_host("10.0.0.2", MACS["10.0.0.2"], 2)
        until(demo, phase)
    demo.switch.receive(3, Segment(CLIENT, ORIGIN, client.send_next, 0, RST, 0))
    demo.run(1.0)
    world = demo.engine.world
    assert not world.connections
    assert not world.targets
    assert demo.at_origin[0].state == "reset"
    assert all(peer.state in ("reset", "syn-received") for peer in demo.at_target)


def test_reset_by_the_target_after_the_move() -> None:
    """Its RST reaches the client, and the connection is over."""
    demo = Demo()
    begin(demo)
    demo.run(0.1)
    server = demo.at_target[0]
    reset = Segment(TARGET, CLIENT, server.send_next, server.recv_next, RST | ACK, 0)
    demo.tell(SegmentReceived(1, 42, reset, Cookie(Kind.COPY).encode()))
    assert not demo.happened(ConnectionClosed)
    demo.switch.receive(PORTS["10.0.0.2"], reset)
    demo.run(0.1)
    assert [event.reason for event in demo.happened(ConnectionClosed)] == ["rst"]


def test_idle_connection_leaves_nothing() -> None:
    """After the move, too."""
    demo = Demo()
    begin(demo)
    demo.run(0.1)
    world = demo.engine.world
    number = world.connections[KEY].number
    demo.tell(FlowRemoved(1, Cookie(Kind.PATH, 1, number).encode(), "idle", 0, 0))
    demo.run(0.1)
    assert not world.connections
    assert not world.targets
    left = {Cookie.__name__ and flow.cookie >> 48 & 0xF for flow in demo.switch.flows.values() if flow.table == 1}
    assert left <= {Kind.PLAIN, Kind.DROP, Kind.REWRITES}


def test_stragglers_of_the_target() -> None:
    """Packets that the outdated handshake flow punts go through the final flows."""
    demo = Demo()
    client = begin(demo)
    until(demo, Phase.COMMITTING)
    server = demo.at_target[0]
    early = Segment(TARGET, CLIENT, server.send_next, server.recv_next, ACK, 99, payload=b"so ")
    early = replace(early, options=TcpOptions(timestamps=None), eth_src=MACS["10.0.0.2"])
    demo.tell(SegmentReceived(1, 2, early))
    demo.tell(SegmentReceived(1, 2, replace(early, payload=b"")))
    demo.run(0.1)
    assert demo.happened(MigrationCompleted)
    client.timestamps = False
    demo.tell(SegmentReceived(1, 2, early, Cookie(Kind.PUNT, 1, 1).encode()))
    demo.tell(SegmentReceived(1, 2, replace(early, payload=b""), Cookie(Kind.COPY).encode()))
    demo.run(0.1)
    assert client.received == b"so "

# SPDX-License-Identifier: Apache-2.0
"""How a gated connection ends: FIN, RST, silence, and who may claim which."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.demo import CLIENT, ORIGIN, PORTS, Demo
from simulation.gate import connection_of, forwarded, from_client, inject

from controller.core import life
from controller.core.connection import State
from controller.core.cookie import Cookie, Kind
from controller.core.events import ConnectionClosed, FlowRemoved, SegmentReceived
from controller.core.segment import ACK, FIN, RST, SYN, Segment


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

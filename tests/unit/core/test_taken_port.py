# SPDX-License-Identifier: Apache-2.0
"""The client's port is taken at the target: the connection gets another one there, and nobody's is reset."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.demo import CLIENT, MACS, MIGRATE, ORIGIN, TARGET, Demo, alert
from simulation.gate import KEY, REQUEST, attempt_of, begin, connection_of, until
from simulation.observe import OBSERVE, goes_on, move, observed
from simulation.peer import Capabilities, Peer

from controller.core import seq
from controller.core.commands import PacketOut
from controller.core.connection import Phase
from controller.core.events import MigrationCompleted, MigrationFailed, MigrationRequested, SegmentReceived
from controller.core.policy import Server
from controller.core.segment import ACK, RST, SYN, ConnectionKey, Endpoint, Segment
from controller.core.world import FIRST_OTHER_PORT, OTHER_PORTS

SECOND = Endpoint("10.0.0.1", 11_112)


def answer(demo: Demo, ack: int, flags: int = ACK) -> tuple[list[Segment], list[object]]:
    """Let the target say something in the middle of its handshake; return what is sent at once, and all commands."""
    sent: list[Segment] = []
    done: list[object] = []
    carry_out = demo.switch.carry_out

    def watch(command: object) -> None:
        done.append(command)
        carry_out(command)

    demo.switch.carry_out = watch  # type: ignore[method-assign]
    demo.switch._transmit = lambda port, segment: sent.append(segment)  # type: ignore[method-assign]
    demo.tell(SegmentReceived(1, 2, Segment(TARGET, CLIENT, 7_000, ack, flags, 100)))
    demo.run(0.001)
    return sent, done


def older(demo: Demo) -> Peer:
    """Return a connection that the client's port has at the target already."""
    peer = demo.peers[TARGET, CLIENT] = demo.listeners[TARGET](CLIENT)
    peer.state, peer.remote_mac, peer.recv_next = "established", MACS[CLIENT.address], 12_345
    return peer


def test_a_challenge_is_answered_by_a_syn_from_another_port() -> None:
    """What was handed over is given back, for it may be a connection of the client's own."""
    demo = Demo()
    begin(demo)
    until(demo, Phase.CONNECTING)
    sent, done = answer(demo, 12_345)
    syns = [segment for segment in sent if segment.flags & SYN]
    assert {(segment.src.address, segment.dst) for segment in syns} == {(CLIENT.address, TARGET)}
    assert FIRST_OTHER_PORT <= syns[-1].src.port < FIRST_OTHER_PORT + OTHER_PORTS
    assert not [segment for segment in sent if segment.flags & RST]
    given = [command.packet for command in done if isinstance(command, PacketOut) and command.in_port == 2]
    assert [packet.ack for packet in given if isinstance(packet, Segment)] == [12_345]
    assert not [flow for flow in demo.switch.flows.values() if flow.table == 1 and flow.match.tcp_dst == CLIENT.port
                and flow.match.ip_src == TARGET.address]  # fmt: skip


def test_other_words_of_it_are_ignored() -> None:
    """An ACK of our SYN is half of a SYN-ACK at best; a segment without the flag says nothing."""
    demo = Demo()
    begin(demo)
    until(demo, Phase.CONNECTING)
    number = seq.add(attempt_of(demo).syn_seq, 1)
    demo.listeners.clear()
    for ack, flags in ((number, ACK), (1, 0)):
        answer(demo, ack, flags)
        assert attempt_of(demo).alias is None


@pytest.mark.parametrize("killed", [False, True])
def test_it_moves_there_and_back(killed: bool) -> None:
    """Under another port there; the older connection is left alone. A new controller reads that port off the flows."""
    demo, client = observed()
    other = older(demo)
    move(demo, seconds=1.0)
    assert demo.happened(MigrationCompleted)
    goes_on(demo, client, demo.at_target[-1])
    path = connection_of(demo).path
    assert path.alias is not None
    assert path.alias == demo.at_target[-1].remote
    if killed:
        demo.kill()
        demo.restart()
        demo.run(0.1)
        assert connection_of(demo).path == replace(path, server=connection_of(demo).path.server)
        goes_on(demo, client, demo.at_target[-1])
    demo.peers = {ends: peer for ends, peer in demo.peers.items() if peer.state != "reset"}
    move(demo, "server1")
    goes_on(demo, client, demo.at_origin[-1])
    assert demo.at_target[-1].state == "reset"
    assert (other.state, bytes(other.received), other.complaints) == ("established", b"", [])


def test_a_gated_request_goes_there_too() -> None:
    """The target's accepted connection gets all of it."""
    demo = Demo()
    other = older(demo)
    begin(demo)
    demo.run(1.0)
    assert demo.at_target[-1].received == REQUEST
    assert (other.state, bytes(other.received)) == ("established", b"")


def test_the_target_refuses_the_other_port() -> None:
    """Whatever was tried is undone under the port that it was tried with."""
    demo, client = observed(second=Capabilities(sack=False))
    older(demo)
    move(demo, seconds=1.0)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["options"]
    assert demo.at_target[-1].state == "reset"
    goes_on(demo, client, demo.at_origin[0])
    assert not demo.engine.world.targets


def test_two_services_one_port_one_target() -> None:
    """The same port of the client at two services; both move to the same server, and back."""
    second = Server("second", SECOND)
    services = (OBSERVE.services[0], replace(OBSERVE.services[0], name="second", origin=second))
    demo = Demo(policy=replace(OBSERVE, servers={**OBSERVE.servers, "second": second}, services=services))
    at_second = demo.listen(SECOND, MACS["10.0.0.1"], Capabilities())
    one = demo.connect()
    two = demo.dial(CLIENT, MACS["10.0.0.3"], SECOND, MACS["10.0.0.1"], Capabilities())
    demo.run(0.1)
    keys = (KEY, ConnectionKey(CLIENT, SECOND))
    for key in keys:
        demo.tell(MigrationRequested(demo.now, key, "server2"))
        demo.run(0.2)
    for client, word in ((one, b"first"), (two, b"second")):
        demo.say(client, word)
    demo.run(0.1)
    assert [bytes(peer.received) for peer in demo.at_target] == [b"first", b"second"]
    # And to a place where the client has a connection of its own from this port.
    demo.tell(MigrationRequested(demo.now, keys[0], "second"))
    demo.run(0.2)
    demo.say(one, b"third")
    demo.run(0.1)
    assert [bytes(peer.received) for peer in at_second] == [b"", b"third"]
    assert not [complaint for peer in (one, two, *demo.at_target, *at_second) for complaint in peer.complaints]


@pytest.mark.parametrize("known", [True, False], ids=["known before", "found out"])
def test_no_port_is_left(known: bool) -> None:
    """Refused, and the origin serves."""
    demo = Demo()
    client = demo.connect()
    demo.say(client, REQUEST)
    demo.run(0.001)
    world = demo.engine.world
    ports = range(FIRST_OTHER_PORT, FIRST_OTHER_PORT + OTHER_PORTS)
    for port in (*ports, *([CLIENT.port] if known else [])):
        world.targets[ConnectionKey(CLIENT._replace(port=port), TARGET)] = object()  # type: ignore[assignment]
    if not known:
        older(demo)
    demo.tell(alert(MIGRATE))
    demo.run(0.1)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["in use"]
    assert demo.at_origin[0].received == REQUEST
    meant = [flow.match for flow in demo.switch.flows.values() if flow.match.ip_src == TARGET.address]
    assert not [match for match in meant if match.ip_dst]
    assert connection_of(demo).path.server.endpoint == ORIGIN

# SPDX-License-Identifier: Apache-2.0
"""The cut policy ``request``: the target gets the client's last request, which the old server has had."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.demo import CLIENT, MIGRATE, ORIGIN, PORTS, Demo, alert
from simulation.observe import KEY, OBSERVE, connection_of, goes_on, move, until
from simulation.peer import Capabilities, Peer

from controller.core import tap
from controller.core.connection import Phase
from controller.core.cookie import Cookie, Kind
from controller.core.events import (
    FlowRemoved,
    FlowsReported,
    FoundFlow,
    HostLocated,
    MigrationCompleted,
    MigrationFailed,
    MigrationRequested,
    MigrationRolledBack,
    SegmentReceived,
    SwitchConnected,
    SwitchLost,
    TimerExpired,
)
from controller.core.policy import CutPolicy, Limits
from controller.core.segment import ACK, Segment

COPY = Cookie(Kind.COPY).encode()


def connected(torn: bool = False, can: Capabilities | None = None, limit: int = 262_144) -> tuple[Demo, Peer]:
    """Return a network whose service moves requests, and a client that has had an answer."""
    service = replace(OBSERVE.services[0], cut_policy=CutPolicy.REQUEST, allow_torn_response=torn)
    demo = Demo(policy=replace(OBSERVE, services=(service,), limits=Limits(held_bytes=limit)), first=can, second=can)
    client = demo.connect(can)
    demo.say(client, b"hello ")
    demo.run(0.01)
    demo.say(demo.at_origin[0], b"welcome ")
    demo.run(0.01)
    return demo, client


def talk_on(demo: Demo, client: Peer, server: Peer) -> None:
    """Check that both ends still talk, wherever the flows of the overhearing are."""
    before, had = len(server.received), len(client.received)
    demo.say(client, b"more")
    demo.say(server, b"answer")
    demo.run(0.1)
    assert server.received[before:] == b"more"
    assert client.received[had:] == b"answer"
    assert not client.complaints + server.complaints


@pytest.mark.parametrize("timestamps", [True, False])
@pytest.mark.parametrize("pause", [0.005, 2.0])
def test_both_servers_get_the_request(timestamps: bool, pause: float) -> None:
    """The old one has it already; the client sees one answer, the target's."""
    demo, client = connected(can=Capabilities(timestamps=timestamps))
    demo.run(pause)
    demo.say(client, b"please ")
    demo.say(client, b"migrate")
    demo.run(pause)
    demo.tell(alert(MIGRATE))
    demo.run(0.3)
    done = demo.happened(MigrationCompleted)[0]
    assert demo.at_origin[0].received == b"hello please migrate"
    assert demo.at_target[0].received == b"please migrate"
    assert done.client_cut == (client.send_next - len(b"please migrate")) % 2**32
    assert demo.at_origin[0].state == "reset"
    demo.say(demo.at_target[0], b"done")
    demo.run(0.1)
    assert client.received == b"welcome done"
    assert client.retransmissions == 0
    talk_on(demo, client, demo.at_target[0])


def test_on_and_on() -> None:
    """It is overheard at the next server, too."""
    demo, client = connected()
    for name, request in (("server2", b"one"), ("server1", b"two")):
        demo.say(client, request)
        demo.run(0.01)
        demo.peers = {ends: peer for ends, peer in demo.peers.items() if peer.state != "reset"}
        move(demo, name)
        server = (demo.at_target if name == "server2" else demo.at_origin)[-1]
        assert server.received == request
        demo.say(server, b"done")
        demo.run(0.01)
    assert client.received == b"welcome donedone"


def test_the_target_is_given_it_until_it_has_it() -> None:
    """The client would never send it again."""
    demo, client = connected()
    demo.say(client, b"please migrate")
    demo.run(0.01)
    transmit, lost = demo.switch._transmit, []

    def leave(port: int, segment: Segment) -> None:
        if port == PORTS["10.0.0.2"] and segment.payload == b"please migrate" and len(lost) < 3:
            lost.append(segment)
        else:
            transmit(port, segment)

    demo.switch._transmit = leave
    move(demo, seconds=0.2)
    assert len(lost) == 3
    assert demo.at_target[0].received == b"please migrate"
    assert connection_of(demo).tap.owed_until is None
    tries = connection_of(demo).tap.tries
    demo.run(1.0)
    assert connection_of(demo).tap.tries == tries
    talk_on(demo, client, demo.at_target[0])


def test_a_target_that_never_takes_it() -> None:
    """It is not tried for ever."""
    demo, client = connected()
    demo.say(client, b"please migrate")
    demo.run(0.01)
    transmit = demo.switch._transmit
    demo.switch._transmit = lambda port, segment: (
        None if segment.payload == b"please migrate" and port == 2 else transmit(port, segment)
    )
    move(demo, seconds=5.0)
    assert connection_of(demo).tap.tries == tap.TRIES
    demo.tell(TimerExpired(KEY, connection_of(demo).version, tap.TIMER))
    assert connection_of(demo).tap.tries == tap.TRIES


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_server_that_has_begun_to_answer_keeps_it(when: str) -> None:
    """Its answer would be torn."""
    demo, client = connected()
    demo.say(client, b"question")
    demo.run(0.01)
    if when == "meanwhile":
        move(demo, seconds=0)
        until(demo, Phase.CONNECTING)
    demo.say(demo.at_origin[0], b"ans")
    demo.run(0.01)
    if when == "before":
        move(demo, seconds=0)
    demo.run(0.1)
    failures = demo.happened(MigrationFailed) + demo.happened(MigrationRolledBack)
    assert ["answered" in event.reason for event in failures] == [True]
    talk_on(demo, client, demo.at_origin[0])
    demo.say(client, b"next")
    demo.run(0.01)
    demo.peers = {ends: peer for ends, peer in demo.peers.items() if peer.state != "reset"}
    move(demo)
    assert demo.at_target[-1].received.endswith(b"next")


def test_a_torn_response() -> None:
    """Where it is allowed the client reads the beginning of one answer, and the whole other one."""
    demo, client = connected(torn=True)
    demo.say(client, b"question")
    demo.run(0.01)
    demo.say(demo.at_origin[0], b"ans")
    demo.run(0.01)
    move(demo)
    assert demo.at_target[0].received == b"question"
    demo.say(demo.at_target[0], b"answer")
    demo.run(0.01)
    assert client.received == b"welcome answer".replace(b"answer", b"ans") + b"answer"


def test_requests_that_are_not_known() -> None:
    """None yet; too long a one; a service that is not overheard."""
    service = replace(OBSERVE.services[0], cut_policy=CutPolicy.REQUEST)
    demo = Demo(policy=replace(OBSERVE, services=(service,)))
    demo.connect()
    move(demo)
    demo, client = connected(limit=2_000)
    demo.say(client, b"x" * 1_400)
    demo.run(0.01)
    demo.say(client, b"x" * 1_400)
    demo.run(0.01)
    move(demo)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["request"]
    demo = Demo(policy=OBSERVE)
    demo.connect()
    demo.tell(MigrationRequested(demo.now, KEY, "server2", "request"))
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["request"]


def test_a_request_with_a_hole() -> None:
    """A copy was lost on its way to the controller."""
    demo, client = connected()
    report, demo.switch._report = demo.switch._report, lambda event: None
    demo.say(client, b"un")
    demo.run(0.000_2)
    demo.switch._report = report
    demo.run(0.01)
    connection_of(demo).tap.start = (client.send_next - 2) % 2**32
    connection_of(demo).tap.is_answered = False
    demo.say(client, b"known")
    demo.run(0.01)
    move(demo)
    assert ["not all" in event.reason for event in demo.happened(MigrationRolledBack)] == [True]
    talk_on(demo, client, demo.at_origin[0])


def test_repetitions_and_old_words() -> None:
    """They begin no request, and are kept once."""
    demo, client = connected()
    demo.say(client, b"question")
    demo.run(0.01)
    known = dict(connection_of(demo).tap.packets)
    word = Segment(CLIENT, ORIGIN, client.send_next - 8, client.recv_next, ACK, 99, payload=b"question")
    for segment in (word, replace(word, seq=client.send_next - 14, payload=b"hello ")):
        demo.tell(SegmentReceived(1, PORTS["10.0.0.3"], segment, COPY))
    assert connection_of(demo).tap.packets == known
    assert connection_of(demo).tap.start == client.send_next - 8


@pytest.mark.parametrize("policy", ["now", "quiet"])
def test_other_moments_by_command(policy: str) -> None:
    """The overhearing goes on where the connection goes."""
    demo, client = connected()
    demo.tell(MigrationRequested(demo.now, KEY, "server2", policy))
    demo.run(0.2)
    assert demo.happened(MigrationCompleted)
    talk_on(demo, client, demo.at_target[0])
    demo.say(client, b"question")
    demo.run(0.01)
    assert [one.size for one in connection_of(demo).tap.packets.values()] == [8]


def test_a_quiet_moment_that_never_comes() -> None:
    """The overhearing for requests goes on."""
    demo, client = connected()
    demo.tell(MigrationRequested(demo.now, KEY, "server2", "quiet"))
    until(demo, Phase.WATCHING)
    demo.run(0.001)
    demo.say(client, b"question")
    demo.run(6.0)
    assert demo.happened(MigrationFailed)
    demo.peers = {ends: peer for ends, peer in demo.peers.items() if peer.state != "reset"}
    move(demo)
    assert demo.at_target[-1].received == b"question"


def test_the_end_of_the_overhearing() -> None:
    """At the mirrored depth, and with the connection."""
    demo, _ = connected()
    world, connection = demo.engine.world, connection_of(demo)
    demo.run(0.05)
    (token,) = world.looks or (0,)
    while not world.looks:
        demo.run(0.000_1)
    (token,) = world.looks
    demo.tell(FlowsReported(1, token, (FoundFlow(next(iter(demo.switch.flows.values())), 1, 1 << 30),), more=False))
    demo.run(0.01)
    assert connection.tap is None
    assert not [flow for flow in demo.switch.flows.values() if flow.priority == 150 and flow.table == 1]
    demo, _ = connected()
    demo.tell(FlowRemoved(1, Cookie(Kind.PATH, 0, connection_of(demo).number).encode(), "idle", 0, 0))
    demo.run(0.01)
    assert not [flow for flow in demo.switch.flows.values() if flow.priority == 150 and flow.table == 1]


def test_the_switch_comes_back_empty() -> None:
    """The connection is overheard again."""
    demo, client = connected()
    demo.tell(SwitchLost(demo.now, 1))
    demo.switch.flows.clear()
    demo.tell(SwitchConnected(demo.now, 1, ()))
    for address, mac, port in demo.located:
        demo.tell(HostLocated(1, port, address, mac))
    demo.run(0.1)
    demo.say(client, b"please migrate")
    demo.run(0.01)
    move(demo)
    assert demo.at_target[0].received == b"please migrate"


def test_another_controller_takes_over() -> None:
    """It has not heard the request; what copies it to nobody's use goes, and the connection can move."""
    demo, client = connected()
    demo.kill()
    demo.restart()
    demo.run(0.1)
    assert not [flow for flow in demo.switch.flows.values() if flow.priority == 150 and flow.table == 1]
    demo.tell(MigrationRequested(demo.now, KEY, "server2"))
    demo.tell(MigrationRequested(demo.now, KEY, "server2", "now"))
    demo.run(0.1)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["request"]
    talk_on(demo, client, demo.at_target[0])


def test_without_a_request_nothing_is_delivered() -> None:
    """The timer of an earlier one means nothing."""
    demo, client = connected()
    demo.tell(TimerExpired(KEY, connection_of(demo).version, tap.TIMER))
    goes_on_here = demo.at_origin[0]
    talk_on(demo, client, goes_on_here)
    demo = Demo(policy=OBSERVE)
    client = demo.connect()
    demo.tell(TimerExpired(KEY, connection_of(demo).version, tap.TIMER))
    goes_on(demo, client, demo.at_origin[0])


def test_an_undone_migration_goes_on_being_copied() -> None:
    """The flows of the overhearing, put in again, still show the analyser what is said; at the target they do not."""
    demo, client = connected()
    for server, place in (("nobody", demo.at_origin), ("server2", demo.at_target)):
        demo.say(client, b"question")
        demo.run(0.01)
        move(demo, server)
        demo.trace.clear()
        demo.say(client, b" and more")
        demo.run(0.01)
        assert place[-1].received.endswith(b" and more")
        seen = [segment.payload for _, port, segment in demo.trace if port == "port 99" and segment.payload]
        assert seen == ([b" and more"] if place is demo.at_origin else [])

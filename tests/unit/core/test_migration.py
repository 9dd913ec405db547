# SPDX-License-Identifier: Apache-2.0
"""Moving a gated connection: the numbers come out right on both sides."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from simulation.demo import CLIENT, MIGRATE, ORIGIN, POLICY, PORTS, Demo, alert, target
from simulation.gate import KEY, REQUEST, attempt_of, begin, served_by_origin, until
from simulation.peer import Capabilities

from controller.core import migration, seq
from controller.core.connection import Phase
from controller.core.errors import TransitionError
from controller.core.events import (
    ConnectionClosed,
    MigrationCompleted,
    MigrationFailed,
    MigrationStarted,
    SegmentReceived,
    TargetEstablished,
)
from controller.core.segment import ACK, CWR, ECE, SYN, Segment, TcpOptions


def test_every_phase_meets_every_input() -> None:
    """No pair is forgotten, and one that is not listed raises."""
    assert set(migration.TABLE) == set(product(Phase, migration.Input))
    demo = Demo()
    begin(demo)
    with pytest.raises(TransitionError):
        migration.handle(demo.engine.world, demo.engine.world.connections[KEY], "weather", None)  # type: ignore[arg-type]


def test_moves() -> None:
    """The target has the request, the origin nothing; answers come back as if the origin had sent them."""
    demo = Demo()
    client = begin(demo)
    demo.run(0.1)
    server = demo.at_target[0]
    assert server.received == REQUEST
    assert demo.at_origin[0].received == b""
    assert demo.at_origin[0].state == "reset"
    started, established = demo.happened(MigrationStarted)[0], demo.happened(TargetEstablished)[0]
    completed = demo.happened(MigrationCompleted)[0]
    assert (started.origin, started.target) == ("server1", "server2")
    assert established.target == "server2"
    assert completed.client_delta == 0
    assert completed.server_delta == seq.distance(client.irs, server.isn)
    assert completed.frozen == 0.0
    assert completed.client_cut == seq.add(client.isn, 1)
    assert completed.server_cut == seq.add(client.irs, 1)
    assert completed.held_bytes == len(REQUEST)
    demo.say(server, b"x" * 50_000)
    demo.run(0.1)
    assert client.received == b"x" * 50_000
    assert not client.complaints + server.complaints
    assert client.retransmissions == 0


def test_target_sees_the_clients_own_syn() -> None:
    """Cut down to what the origin agreed to."""
    demo = Demo(first=Capabilities(sack=False, window_scale=None, mss=1400))
    begin(demo, Capabilities(mss=1300, clock=77))
    demo.run(0.1)
    options = demo.at_target[0].syn_options
    assert options is not None
    assert (options.mss, options.window_scale, options.sack_permitted) == (1300, None, False)
    assert options.timestamps is not None


@pytest.mark.parametrize(("first", "second"), [(7, 7), (2, 9), (9, 2), (0, 14)])
def test_window_scale(first: int, second: int) -> None:
    """The client goes on reading windows with the origin's scale."""
    demo = Demo(first=Capabilities(window_scale=first), second=Capabilities(window_scale=second, window=50_000))
    client = begin(demo)
    demo.run(0.1)
    granularity = 1 << max(first, second)
    shown = min(50_000 // (1 << second) << second, 65_535 << first)
    assert abs(client.peer_window - shown) < granularity


def test_clock_never_goes_back() -> None:
    """Whatever the target's timestamp clock shows, the client's view goes on from the origin's."""
    for clock in (0, 5, 2**31, 2**32 - 1):
        demo = Demo(first=Capabilities(clock=2**32 - 50), second=Capabilities(clock=clock))
        client = begin(demo)
        demo.run(0.1)
        before = client.ts_recent
        demo.say(demo.at_target[0], b"later")
        demo.run(0.1)
        assert 0 <= seq.offset(before, client.ts_recent) < 1_000
        assert client.received == b"later"
        assert not client.complaints + demo.at_target[0].complaints


def test_ecn_is_offered_and_required() -> None:
    """The SYN to the target asks for ECN if client and origin use it; a target without it is refused."""
    demo = Demo()
    demo.tell(SegmentReceived(1, 3, Segment(CLIENT, ORIGIN, 9, 0, SYN | ECE | CWR, 99, TcpOptions(mss=1460))))
    demo.tell(SegmentReceived(1, 1, Segment(ORIGIN, CLIENT, 4, 10, SYN | ACK | ECE, 99, TcpOptions(mss=1460))))
    demo.tell(SegmentReceived(1, 3, Segment(CLIENT, ORIGIN, 10, 5, ACK, 99)))
    demo.tell(SegmentReceived(1, 3, Segment(CLIENT, ORIGIN, 10, 5, ACK, 99, payload=b"x")))
    demo.tell(alert(MIGRATE))
    demo.run(0.1)
    asked = [segment for _, place, segment in demo.trace if place == f"port {PORTS['10.0.0.2']}"]
    assert asked[0].flags == SYN | ECE | CWR
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["options"]


def test_fin_behind_the_request_goes_to_the_target() -> None:
    """A client that shuts down its half right after the request."""
    demo = Demo()
    client = demo.connect()
    demo.say(client, REQUEST)
    demo.act(client, lambda peer: peer.close(demo.now))
    demo.run(0.001)
    demo.tell(alert(MIGRATE))
    demo.run(0.1)
    assert demo.at_target[0].received == REQUEST
    assert demo.at_target[0].fin_received
    assert demo.at_origin[0].received == b""
    demo.say(demo.at_target[0], b"bye")
    demo.act(demo.at_target[0], lambda peer: peer.close(demo.now))
    demo.run(0.1)
    assert client.received == b"bye"
    assert [event.reason for event in demo.happened(ConnectionClosed)] == ["fin"]


def test_more_data_while_moving() -> None:
    """What the client goes on sending is held too and arrives behind."""
    demo = Demo()
    client = begin(demo)
    until(demo, Phase.PROBING)
    demo.say(client, b" and more")
    demo.run(0.1)
    assert demo.at_target[0].received == REQUEST + b" and more"


def test_banner_of_the_origin() -> None:
    """What the origin said before the move stays said: the target's numbers start behind it."""
    demo = Demo(greet=(b"220 origin\r\n", b""))
    client = begin(demo)
    demo.run(0.1)
    demo.say(demo.at_target[0], b"from the target")
    demo.run(0.1)
    assert client.received == b"220 origin\r\nfrom the target"
    assert not client.complaints


def test_banner_of_the_target_is_refused_or_discarded() -> None:
    """The client has had its greeting: a second one may be thrown away, if the operator says so."""
    demo = Demo(greet=(b"220 origin\r\n", b"220 target\r\n"))
    client = begin(demo)
    served_by_origin(demo, client)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["banner"]
    discarding = replace(target, discards_banner=True)
    demo = Demo(
        policy=replace(POLICY, servers={**POLICY.servers, "server2": discarding}),
        greet=(b"220 origin\r\n", b"220 target\r\n"),
    )
    client = begin(demo)
    demo.run(0.1)
    demo.say(demo.at_target[0], b"250 ok\r\n")
    demo.run(0.1)
    assert client.received == b"220 origin\r\n250 ok\r\n"
    assert demo.at_target[0].received == REQUEST
    assert not client.complaints + demo.at_target[0].complaints


def test_waits_until_the_client_has_all_that_the_origin_said() -> None:
    """The server's cut: the client must have acknowledged it before the final flows."""
    demo = Demo()
    client = begin(demo)
    connection = demo.engine.world.connections[KEY]
    connection.origin.next = seq.add(connection.origin.next, 3)
    until(demo, Phase.COMMITTING)
    demo.run(0.005)
    assert not attempt_of(demo).token
    ack = Segment(CLIENT, ORIGIN, client.send_next, connection.origin.next, ACK, 100)
    demo.tell(SegmentReceived(1, 3, ack))
    demo.run(0.01)
    assert demo.happened(MigrationCompleted)


def test_acknowledgements_before_the_proof() -> None:
    """The client may acknowledge a banner while the target is still being asked."""
    demo = Demo()
    client = begin(demo)
    until(demo, Phase.PROBING)
    demo.tell(SegmentReceived(1, 3, Segment(CLIENT, ORIGIN, client.send_next, client.recv_next, ACK, 100)))
    assert attempt_of(demo).phase is Phase.PROBING

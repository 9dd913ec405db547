# SPDX-License-Identifier: Apache-2.0
"""What the client sees of a server besides numbers: TTL, identifications, the clock's rate; they stay the origin's."""

from __future__ import annotations

import itertools

import pytest
from simulation.demo import CLIENT, Demo, alert
from simulation.demo import MIGRATE as MIGRATE_SID
from simulation.observe import KEY, connection_of, goes_on, move, observed
from simulation.peer import Capabilities

from controller.core import seq
from controller.core.connection import Side
from controller.core.events import MigrationCompleted, MigrationRequested
from controller.core.segment import ACK, SYN, Endpoint, Segment

FIRST = Capabilities(ttl=61, ip_id=65_500)
SECOND = Capabilities(ttl=128, ip_id=7_000, clock=3_000_000_000)


def shown(demo: Demo) -> list[tuple[float, Segment]]:
    """Return what the client was shown behind the handshake, and when."""
    seen = [(at, segment) for at, place, segment in demo.trace if place == "port 3" and segment.dst == CLIENT]
    return [(at, segment) for at, segment in seen if not segment.flags & SYN]


def jumps(demo: Demo) -> list[int]:
    """Return by how much the identifications go on from one packet with data to the next."""
    said = [segment for _, segment in shown(demo) if len(segment.payload) > 1]
    return [(two.ip_id - one.ip_id) & 0xFFFF for one, two in itertools.pairwise(said)]


@pytest.mark.parametrize("moves", [("server2",), ("server2", "server1", "server2")])
def test_hops_and_identifications_go_on(moves: tuple[str, ...]) -> None:
    """Across cuts and the return, the 16 bits running over; what the controller says itself counts in between."""
    demo, client = observed(first=FIRST, second=SECOND)
    places = {"server1": demo.at_origin, "server2": demo.at_target}
    for server in moves:
        demo.peers = {ends: peer for ends, peer in demo.peers.items() if peer.state != "reset"}
        move(demo, server)
        goes_on(demo, client, places[server][-1])
    assert len(demo.happened(MigrationCompleted)) == len(moves)
    assert {segment.ttl for _, segment in shown(demo)} == {61}
    assert len(jumps(demo)) >= len(moves)
    assert all(0 < jump < 100 for jump in jumps(demo))


def test_a_gated_request_keeps_the_face() -> None:
    """The target answers as many hops away as the origin did its SYN; it may begin to count anew."""
    demo = Demo(first=FIRST, second=SECOND)
    client = demo.connect()
    demo.say(client, b"request")
    demo.run(0.001)
    demo.tell(alert(MIGRATE_SID))
    demo.run(0.1)
    demo.say(demo.at_target[0], b"answer")
    demo.run(0.1)
    assert client.received == b"answer"
    assert {segment.ttl for _, segment in shown(demo)} == {61}
    assert connection_of(demo).path.ip_id_shift == 0


def test_servers_that_do_not_count_are_left_alone() -> None:
    """What always is 0 stays 0; an addition could not make it count, nor stop it."""
    demo, client = observed(second=SECOND)
    move(demo)
    goes_on(demo, client, demo.at_target[0])
    assert connection_of(demo).path.ip_id_shift == 0


def test_the_clock_goes_at_its_rate_over_a_long_wait() -> None:
    """A target that stands for seconds before the cut is asked for its time again at the cut."""
    demo, client = observed(first=FIRST, second=SECOND)
    demo.tell(MigrationRequested(demo.now, KEY, "server2", "quiet"))
    for _ in range(20):
        demo.say(demo.at_origin[0], b"tick ")
        demo.say(client, b"tock ")
        demo.run(0.05)
    demo.say(demo.at_origin[0], b"so there")
    demo.run(0.5)
    assert demo.happened(MigrationCompleted)
    goes_on(demo, client, demo.at_target[0])
    # A question to the client carries the newest time that the controller has heard, which may be an older one.
    said = [(at, segment) for at, segment in shown(demo) if len(segment.payload) > 1]
    clocks = [(at, segment.options.timestamps.value) for at, segment in said]
    assert len(clocks) > 20
    for (one, earlier), (two, later) in itertools.pairwise(clocks):
        assert -2 <= seq.offset(earlier, later) <= (two - one) * 1000 + 10


def test_an_older_packet_does_not_put_the_count_back() -> None:
    """Serial arithmetic on 16 bits; SYNs do not count."""
    side, ends = Side(), (Endpoint("10.0.0.1", 1), Endpoint("10.0.0.2", 2))
    for flags, told, known in ((SYN, 9, None), (ACK, 65_535, 65_535), (ACK, 3, 3), (ACK, 65_000, 3), (ACK, 4, 4)):
        side.hear(Segment(*ends, 1, 1, flags, 100, ip_id=told))
        assert side.ip_id == known

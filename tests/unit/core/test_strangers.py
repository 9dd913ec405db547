# SPDX-License-Identifier: Apache-2.0
"""Segments that nobody of the connection has sent: from another port, or with impossible numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.demo import CLIENT, MACS, MIGRATE, ORIGIN, Demo, alert
from simulation.observe import KEY, connection_of, goes_on, move, observed, until
from simulation.peer import Capabilities, Peer

from controller.core import seq
from controller.core.connection import Connection, Phase, State
from controller.core.cookie import Cookie, Kind
from controller.core.events import MigrationCompleted, SegmentReceived
from controller.core.options import agree
from controller.core.segment import ACK, FIN, PSH, RST, SYN, Segment, TcpOptions, Timestamps

ELSEWHERE = 7
"""A port of the switch where neither client nor server is."""


def forged(connection: Connection, ahead: int = 0, **changes: object) -> Segment:
    """Return a segment in the client's name, so many bytes ahead of what it has said."""
    numbers = (seq.add(connection.client.next, ahead), connection.origin.next)
    options = TcpOptions(timestamps=Timestamps(1, 1))
    segment = Segment(CLIENT, ORIGIN, *numbers, ACK | PSH, 100, options, b"forged", MACS[CLIENT.address])
    return replace(segment, **changes)  # type: ignore[arg-type]


def tell(demo: Demo, port: int, segment: Segment, kind: Kind = Kind.PUNT) -> None:
    """Let the switch hand a packet over."""
    demo.tell(SegmentReceived(1, port, segment, Cookie(kind).encode()))


def gated() -> tuple[Demo, Peer]:
    """Return a network and a client whose gate is shut."""
    demo = Demo()
    return demo, demo.connect()


@pytest.mark.parametrize(
    ("ahead", "changes"),
    [
        (70_000_000, {}),
        (-70_000_000, {}),
        (0, {"ack": 12_345}),
    ],
    ids=["behind the window", "before the beginning", "acknowledges what was never said"],
)
def test_impossible_numbers_are_not_held(ahead: int, changes: dict[str, int]) -> None:
    """They would be given to the target, and counted as how far the client is."""
    demo, client = gated()
    connection = connection_of(demo)
    if "ack" in changes:
        changes = {"ack": seq.add(connection.origin.next, changes["ack"])}
    before = (connection.client.next, connection.client.acked)
    tell(demo, 3, forged(connection, ahead, **changes))
    tell(demo, 3, forged(connection, ahead, **changes, payload=b"", flags=ACK))
    assert (connection.state, connection.held) == (State.GATED, {})
    if ahead >= 0:
        assert (connection.client.next, connection.client.acked) == before
    demo.say(client, b"request")
    demo.run(0.001)
    demo.tell(alert(MIGRATE))
    demo.run(0.1)
    assert demo.at_target[0].received == b"request"


def test_another_port_cannot_speak_for_a_gated_client() -> None:
    """Not even with the right numbers."""
    demo, client = gated()
    connection = connection_of(demo)
    for flags in (ACK | PSH, ACK, ACK | FIN):
        tell(demo, ELSEWHERE, forged(connection, flags=flags))
    assert (connection.state, connection.held) == (State.GATED, {})
    demo.say(client, b"request")
    demo.run(0.5)
    assert demo.at_origin[0].received == b"request"


@pytest.mark.parametrize("flags", [ACK, ACK | PSH, ACK | FIN, RST])
def test_another_port_cannot_speak_in_a_freeze(flags: int) -> None:
    """Equal answers in a row would count as the client's own."""
    demo, client = observed()
    move(demo, seconds=0)
    until(demo, Phase.MEASURING)
    connection = connection_of(demo)
    for _ in range(6):
        word = forged(connection, 5_000, ack=seq.add(connection.origin.next, 3_000), flags=flags, payload=b"")
        tell(demo, ELSEWHERE, word)
        demo.run(0.000_4)
    demo.run(0.2)
    assert demo.happened(MigrationCompleted)
    goes_on(demo, client, demo.at_target[0])


def test_a_forged_end_from_another_port_does_not_count() -> None:
    """Else nobody could move the connection any more."""
    demo, client = observed()
    connection = connection_of(demo)
    tell(demo, ELSEWHERE, forged(connection, flags=ACK | FIN, payload=b""), Kind.COPY)
    assert not connection.client.finished
    move(demo)
    assert demo.happened(MigrationCompleted)
    goes_on(demo, client, demo.at_target[0])


def test_a_window_scale_that_cannot_be() -> None:
    """It counts as 14 (RFC 7323 section 2.3): the switch shifts by no more than that."""
    offered = Segment(CLIENT, ORIGIN, 1, 0, SYN, 1_000, TcpOptions(1460, 200))
    agreement = agree(offered, replace(offered, options=TcpOptions(1460, 255)))
    assert (agreement.window_scale, agreement.client_window_scale) == (14, 14)
    demo, client = observed(second=Capabilities(window_scale=255))
    move(demo)
    assert KEY in demo.engine.world.connections
    assert client.state == "established"

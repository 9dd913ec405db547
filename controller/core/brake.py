# SPDX-License-Identifier: Apache-2.0
"""The brake: a connection that is served is stopped one end after the other, the client first.

The client is shown windows of zero, in the fast path, and what it has under way drains there. Then what it says reaches
the controller alone, and it is asked: its answer, behind everything that it had sent, tells that it stands still. With
the numbers of that answer the server is shown a window of zero, too.

Why not both at once: an end that sees a closed window sends its acknowledgements with the number of its oldest
unacknowledged byte. If both were stopped with data under way, each would take the other's acknowledgements for old and
drop them, window probes and retransmissions included, for ever, were the controller to die now. The server closes its
window only for an acknowledgement that it accepts, from a client that will not fall behind any more: so at any moment
at least one end is heard by the other, and the ends alone get the connection going again once these flows are gone.
"""

from __future__ import annotations

from controller.core import pipeline, question, stand_in
from controller.core.commands import Barrier, Bundle
from controller.core.connection import Attempt, Connection, Phase, kept
from controller.core.events import SegmentReceived
from controller.core.rollback import fail
from controller.core.segment import ACK, FIN, RST
from controller.core.world import World

BRAKE_TIME = 0.001
"""Seconds for which what the client has under way drains in the fast path: what is late is held for the target."""
DRAIN_TIME = 0.000_8
"""Seconds for which what the server has under way drains there, once it has been told."""
TIMER = "braked"


def begin(world: World, connection: Connection, attempt: Attempt) -> None:
    """Show the client a closed window."""
    attempt.phase = Phase.BRAKING
    attempt.frozen_at = world.now
    world.do(Bundle(connection.switch, (pipeline.brake_flow(connection, connection.path),)))
    world.wake(connection, BRAKE_TIME, TIMER)


def stop(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """From now on the controller alone hears the client, and asks it whether it stands still."""
    attempt.phase = Phase.STOPPING
    attempt.token = world.token(connection)
    flow = pipeline.hear_client(connection)
    world.do(Bundle(connection.switch, (flow,), attempt.token), Barrier(connection.switch, attempt.token))
    question.outdate(attempt, attempt.client)
    question.ask(world, connection, attempt)


def from_client(world: World, connection: Connection, attempt: Attempt, event: SegmentReceived) -> None:
    """The client speaks: once it has answered, the server is stopped with the numbers of the answer."""
    segment = event.segment
    question.hear(world, attempt, connection.client, attempt.client, segment)
    if segment.length:
        keep(world, connection, event)
    if segment.flags & (FIN | RST):
        fail(world, connection, "closing", "one end closed the connection during the freeze")
    elif attempt.client.known and not attempt.is_told:
        attempt.is_told = True
        close = stand_in.as_client(connection, segment.seq, segment.ack, ACK, 0)
        stand_in.to_server(world, connection, connection.path, close)
        world.wake(connection, DRAIN_TIME, TIMER)


def keep(world: World, connection: Connection, event: SegmentReceived) -> None:
    """Hold back what the client says; what comes twice is kept once."""
    segment, had = event.segment, connection.held.get(event.segment.seq)
    grown = segment.length - (0 if had is None else had.size)
    if grown > 0 and connection.held_bytes + grown <= world.policy.limits.held_bytes:
        connection.held[segment.seq] = kept(event, segment)
        connection.held_bytes += grown

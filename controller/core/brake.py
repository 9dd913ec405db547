# SPDX-License-Identifier: Apache-2.0
"""The brake: a connection that is served is stopped one end after the other, the client first.

The client is shown windows of zero, in the fast path, and what it has under way drains there. Then the controller
overhears it, and asks it: its answer, behind everything that it had sent, tells that it stands still. With the numbers
of that answer, and from then on by whatever it says, the server is shown a window of zero, too.

Why not both at once: an end that sees a closed window sends its acknowledgements with the number of its oldest
unacknowledged byte. If both were stopped with data under way, each would take the other's acknowledgements for old and
drop them, window probes and retransmissions included, for ever, were the controller to die now. The server closes its
window only for an acknowledgement that it accepts, from a client that will not fall behind any more: so at any moment
at least one end is heard by the other, and the ends alone get the connection going again once these flows are gone.
"""

from __future__ import annotations

from controller.core import pipeline, question, stand_in
from controller.core.commands import Barrier, Bundle
from controller.core.connection import Attempt, Connection, Phase
from controller.core.events import SegmentReceived
from controller.core.segment import ACK
from controller.core.world import World

BRAKE_TIME = 0.001
"""Seconds for which what the client has under way drains in the fast path; what is late is copied besides."""
DRAIN_TIME = 0.000_8
"""Seconds for which what the server has under way drains there, once it has been told."""
TIMER = "braked"


def begin(world: World, connection: Connection, attempt: Attempt) -> None:
    """Show the client a closed window."""
    attempt.phase = Phase.BRAKING
    attempt.frozen_at = world.now
    world.do(Bundle(connection.switch, (pipeline.stop_client(connection, connection.path),)))
    world.wake(connection, BRAKE_TIME, TIMER)


def stop(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """Overhear the client, and ask it whether it stands still."""
    attempt.phase = Phase.STOPPING
    attempt.token = world.token(connection)
    flow = pipeline.overhear_client(connection, connection.path)
    world.do(Bundle(connection.switch, (flow,), attempt.token), Barrier(connection.switch, attempt.token))
    question.outdate(attempt, attempt.client)
    question.ask(world, connection, attempt)


def client_heard(world: World, connection: Connection, attempt: Attempt, event: SegmentReceived) -> None:
    """The client speaks, and the server has it by now: once it has answered, the server is stopped, too."""
    segment = event.segment
    question.hear(world, attempt, connection.client, attempt.client, segment)
    if attempt.client.known and not attempt.is_told:
        attempt.is_told = True
        world.do(Bundle(connection.switch, (pipeline.stop_server(connection, connection.path),)))
        closed = stand_in.as_client(connection, segment.seq, segment.ack, ACK, 0)
        stand_in.to_server(world, connection, connection.path, closed)
        world.wake(connection, DRAIN_TIME, TIMER)

# SPDX-License-Identifier: Apache-2.0
"""Waiting for a quiet moment (cut policy ``quiet``): everything said has arrived, and the server spoke last.

The target stands already. The connection goes on while the controller overhears both ends; a stream that is too busy
for that has no quiet moments worth waiting for. When all has been quiet for a moment the connection is measured as in
any migration, without a brake: nothing is under way. A request that slips in just then goes whole to one server: before
the cut, and the watch goes on, or behind it.

What nobody can see is a request that the server had acknowledged, and not answered, before the watch began. So until
the server has been overheard to say something, only a longer silence counts.
"""

from __future__ import annotations

from controller.core import cut, pipeline, question
from controller.core.commands import Barrier, Bundle
from controller.core.connection import Attempt, Connection, Phase, State, rewrite_to_client
from controller.core.events import SegmentReceived
from controller.core.policy import CutPolicy
from controller.core.rollback import fail, give_back, shifted
from controller.core.view import in_clients_view
from controller.core.world import World

QUIET_FOR = 0.003
"""Seconds without a word that make a quiet moment."""
FIRST_QUIET = 0.05
"""Seconds without a word that are needed while the server has said nothing yet: it may be thinking."""
ASK_AGAIN = 0.05
"""Seconds after which both ends are asked again: a copy of what they said may have been lost."""
MOST = 4_096
"""Packets that are overheard at most: a faster stream would keep the controller from everything else."""


def begin(world: World, connection: Connection, attempt: Attempt) -> None:
    """The target stands: cut the connection, at once or at a quiet moment."""
    if connection.state is not State.SERVED or attempt.cut_policy is not CutPolicy.QUIET:
        cut.begin(world, connection, attempt)
        return
    attempt.phase = Phase.WATCHING
    attempt.token = world.token(connection)
    patience = connection.service.quiet_timeout
    flows = tuple(pipeline.watch_flows(connection, connection.path, int(patience) + 2))
    world.do(Bundle(connection.switch, flows, attempt.token), Barrier(connection.switch, attempt.token))
    world.wake(connection, patience, "unquiet")


def watching(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """The flows stand: what both ends say is heard from now on; ask them, for they may say nothing by themselves."""
    attempt.token = 0
    attempt.stirred_at = world.now
    _ask(world, connection, attempt)


def _ask(world: World, connection: Connection, attempt: Attempt) -> None:
    """Ask both ends, with the windows that they know, and look again a moment later."""
    attempt.round += 1
    attempt.asked_at = world.now
    window = shifted(connection.origin.window, connection.path.window_shift)
    question.ask_client(world, connection, attempt.client, attempt.round, window)
    question.ask_server(world, connection, attempt.server, attempt.round, connection.client.window)
    world.wake(connection, QUIET_FOR, "quiet")


def client_heard(world: World, connection: Connection, attempt: Attempt, event: SegmentReceived) -> None:
    """The client said something, and the server has it by now."""
    question.hear(world, attempt, connection.client, attempt.client, event.segment)
    attempt.owed = attempt.owed or bool(event.segment.payload)
    _stir(world, connection, attempt, event)


def server_heard(world: World, connection: Connection, attempt: Attempt, event: SegmentReceived) -> None:
    """The server said something, and the client has it by now."""
    segment = in_clients_view(event.segment, rewrite_to_client(connection, connection.path))
    question.hear(world, attempt, connection.origin, attempt.server, segment)
    connection.origin.window = event.segment.window
    attempt.owed = attempt.owed and not segment.payload
    attempt.spoken = attempt.spoken or bool(segment.payload)
    _stir(world, connection, attempt, event)


def _stir(world: World, connection: Connection, attempt: Attempt, event: SegmentReceived) -> None:
    """Begin the quiet moment anew where something is said, unless there are too many words to listen to."""
    attempt.watched += 1
    if event.segment.payload:
        attempt.stirred_at = world.now
    if attempt.watched > MOST:
        fail(world, connection, "busy", "too much is said to wait for a quiet moment; use the cut policy now")


def quiet(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """A moment has passed: measure if nothing was said and nothing is under way, else look again."""
    client, server = connection.client, connection.origin
    rest = attempt.stirred_at + (QUIET_FOR if attempt.spoken else FIRST_QUIET) - world.now
    if rest > QUIET_FOR / 10:
        world.wake(connection, min(rest, QUIET_FOR), "quiet")
    elif not (attempt.client.known and attempt.server.known) or world.now - attempt.asked_at > ASK_AGAIN:
        _ask(world, connection, attempt)
    elif attempt.owed or client.acked != server.next or server.acked != client.next:
        world.wake(connection, QUIET_FOR, "quiet")
    else:
        attempt.frozen_at = world.now
        world.wake(connection, cut.FREEZE_LIMIT, "frozen")
        cut.measure(world, connection, attempt, None)


def client_stirs(world: World, connection: Connection, attempt: Attempt, event: SegmentReceived) -> None:
    """A request went by just before the connection was stopped: it is the old server's, so the watch goes on."""
    if not event.segment.payload or attempt.cut_policy is not CutPolicy.QUIET:
        return  # without a watch, it is a late copy of what the old server had while the client was being stopped
    world.tokens.pop(attempt.token, None)
    attempt.token, attempt.phase = 0, Phase.WATCHING
    world.do(Bundle(connection.switch, tuple(pipeline.thaw(connection, connection.path))))
    give_back(world, connection, attempt)
    question.outdate(attempt, attempt.client)
    question.outdate(attempt, attempt.server)
    client_heard(world, connection, attempt, event)
    world.wake(connection, QUIET_FOR, "quiet")

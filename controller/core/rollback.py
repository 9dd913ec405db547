# SPDX-License-Identifier: Apache-2.0
"""Giving a migration up: whatever has been done is undone, and the connection stays where it is, with nothing lost."""

from __future__ import annotations

from controller.core import pipeline, seq, stand_in
from controller.core.commands import Bundle, FlowAdd, FlowDelete
from controller.core.connection import Attempt, Connection, Phase, State
from controller.core.events import MigrationFailed, MigrationRolledBack
from controller.core.segment import ACK, RST
from controller.core.world import World

FROZEN = (Phase.BRAKING, Phase.MEASURING, Phase.COMMITTING)
"""Phases in which the ends of a connection that was served cannot send."""


def fail(world: World, connection: Connection, reason: str, detail: str) -> None:
    """Give up the migration under way and say why; the server that served goes on serving."""
    attempt = connection.attempt
    assert attempt is not None
    frozen = connection.state is State.SERVED and attempt.phase in FROZEN
    abandon(world, connection)
    facts = (world.now, connection.key, attempt.version, attempt.target.name)
    if frozen:
        _reopen(world, connection, attempt.phase is Phase.COMMITTING)
        world.publish(MigrationRolledBack(*facts, f"{reason}: {detail}"))
        return
    world.publish(MigrationFailed(*facts, reason, detail))
    if connection.state is not State.SERVED:
        serve(world, connection)


def abandon(world: World, connection: Connection) -> None:
    """Forget a migration under way, if there is one: the target's half is reset and kept from the client."""
    attempt, connection.attempt = connection.attempt, None
    if attempt is None:
        return
    world.tokens.pop(attempt.token, None)
    if attempt.phase is Phase.LOCATING:
        waiting = world.locating.get(attempt.target.endpoint.address, [])
        if connection.key in waiting:
            waiting.remove(connection.key)
        return
    if attempt.agreement is not None:
        reset_target(world, connection, attempt)
    world.unaim(connection, attempt.target.endpoint)
    world.do(pipeline.silence_flow(connection, attempt.target, attempt.port))


def reset_target(world: World, connection: Connection, attempt: Attempt) -> None:
    """Reset the half-made connection with the target."""
    number = seq.add(attempt.syn_seq, 1)
    reset = stand_in.as_client_at(connection, attempt, number, attempt.target_next, RST | ACK, 0)
    stand_in.to_target(world, connection, attempt, reset)


def serve(world: World, connection: Connection) -> None:
    """Let the server of the present path serve the connection, in the fast path alone; the held data goes there."""
    world.settle(connection, State.SERVED)
    world.do(*pipeline.path_flows(connection, connection.path))
    release_held(world, connection)


def release_held(world: World, connection: Connection) -> None:
    """Send the held packets, in the order of their bytes, through the flows that stand now."""
    held, connection.held, connection.held_bytes = connection.held, {}, 0
    first = connection.client.next
    for number in sorted(held, key=lambda number: seq.offset(first, number)):
        world.release(connection, connection.client_port, held[number][1])


def _reopen(world: World, connection: Connection, moved: bool) -> None:
    """End a freeze: the frozen flows go, and both ends are told each other's windows again.

    ``moved`` says that the final flows may be in the switch already: the old ones take their place again. Where an end
    has not told its numbers since the freeze began, its own window probe will ask soon enough.
    """
    path = connection.path
    changes: list[FlowAdd | FlowDelete] = list(pipeline.path_flows(connection, path)) if moved else []
    changes += pipeline.thaw(connection, path)
    world.do(Bundle(connection.switch, tuple(changes)))
    client, server = connection.client, connection.origin
    assert client.acked is not None
    assert server.acked is not None
    window = shifted(server.window, path.window_shift)
    stand_in.to_client(world, connection, stand_in.as_server(connection, server.next, server.acked, window))
    go_on = stand_in.as_client(connection, client.next, client.acked, ACK, client.window)
    stand_in.to_server(world, connection, path, go_on)
    release_held(world, connection)


def shifted(window: int, shift: int) -> int:
    """Return a window field in another scale, as the switch would compute it."""
    return min(65_535, window << shift if shift >= 0 else window >> -shift)

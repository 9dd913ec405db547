# SPDX-License-Identifier: Apache-2.0
"""Giving a migration up: whatever has been done is undone, and the connection stays where it is, with nothing lost.

A freeze is undone with the same care as it is used: both ends are asked once more where they are, and then told with
their own next numbers what the other has, and its window. Anything else they may refuse as old (``question``), and two
ends that both see closed windows would stand still for ever.
"""

from __future__ import annotations

from collections.abc import Mapping

from controller.core import pipeline, question, seq, stand_in, tap
from controller.core.commands import Barrier, Bundle, FlowAdd, FlowDelete
from controller.core.connection import Attempt, Connection, Kept, Phase, State
from controller.core.events import MigrationFailed, MigrationRolledBack
from controller.core.policy import CutPolicy
from controller.core.segment import ACK, RST
from controller.core.world import World

FROZEN = (Phase.BRAKING, Phase.STOPPING, Phase.MEASURING, Phase.COMMITTING, Phase.UNDOING)
"""Phases in which the ends of a connection that was served cannot send."""
UNDO_LIMIT = 0.05
"""Seconds after which the ends go on although not both have answered."""


def fail(world: World, connection: Connection, reason: str, detail: str) -> None:
    """Give up the migration under way and say why; the server that served goes on serving."""
    attempt = connection.attempt
    assert attempt is not None
    if connection.is_open and attempt.phase in FROZEN:
        _undo(world, connection, attempt, f"{reason}: {detail}")
        return
    abandon(world, connection)
    facts = (world.now, connection.key, attempt.version, attempt.target.name)
    world.publish(MigrationFailed(*facts, reason, detail))
    if not connection.is_open:
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
    elif attempt.phase is not Phase.UNDOING:
        if attempt.phase is Phase.WATCHING:
            world.do(Bundle(connection.switch, tuple(pipeline.unwatch(connection, connection.path))))
            tap.resume(world, connection)
        _dismiss(world, connection, attempt)


def _dismiss(world: World, connection: Connection, attempt: Attempt) -> None:
    """Let go of the target: its half is reset, and it is kept from the client."""
    reset_target(world, connection, attempt)
    world.unaim(connection, attempt.target.endpoint, attempt.alias)
    world.do(pipeline.silence_flow(connection, attempt.target, attempt.port, attempt.alias))


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
    """Send the held packets through the flows that stand now."""
    held, connection.held, connection.held_bytes = connection.held, {}, 0
    send_held(world, connection, held)


def send_held(world: World, connection: Connection, held: Mapping[int, Kept]) -> None:
    """Send packets of the client through the flow tables, in the order of their bytes."""
    first = connection.client.next
    for number in sorted(held, key=lambda number: seq.offset(first, number)):
        one = held[number]
        world.release(connection, connection.client_port, one.packet, stand_in.renewed(connection.client, one))


# ---- undoing a freeze -----------------------------------------------------------------------------------------------


def _undo(world: World, connection: Connection, attempt: Attempt, failure: str) -> None:
    """Begin to undo a freeze: whatever flows stand, the controller alone hears both ends now, and asks them."""
    changes: list[FlowAdd | FlowDelete] = []
    if attempt.phase is Phase.COMMITTING:
        # The final flows may be in the switch: the old ones take their place again.
        changes += pipeline.path_flows(connection, connection.path)
    if attempt.phase is not Phase.UNDOING:
        _dismiss(world, connection, attempt)
        attempt.phase, attempt.failure, attempt.path = Phase.UNDOING, failure, None
        world.wake(connection, UNDO_LIMIT, "thaw")
    world.tokens.pop(attempt.token, None)
    attempt.token = world.token(connection)
    for answers in (attempt.client, attempt.server):
        question.outdate(attempt, answers)
    changes += pipeline.measure_flows(connection, connection.path)
    world.do(Bundle(connection.switch, tuple(changes), attempt.token), Barrier(connection.switch, attempt.token))


def revive(world: World, connection: Connection) -> None:
    """An earlier controller may have left both ends with closed windows: let them go on as after a freeze."""
    here = connection.path.server
    attempt = Attempt(here, connection.version, Phase.UNDOING, CutPolicy.NOW, world.now, world.now, 0)
    connection.attempt = attempt
    world.wake(connection, UNDO_LIMIT, "thaw")
    _undo(world, connection, attempt, "")


def thaw(world: World, connection: Connection, attempt: Attempt, event: object = None) -> None:
    """End a freeze: its flows go, and both ends are told what the other has, and its window.

    An end that has not answered in time is asked again: what it says then reaches the other in the fast path.
    """
    path, client, server = connection.path, connection.client, connection.origin
    world.do(Bundle(connection.switch, tuple(pipeline.thaw(connection, path, connection.is_overheard))))
    connection.attempt = None
    world.tokens.pop(attempt.token, None)
    assert client.acked is not None
    assert server.acked is not None
    window = shifted(server.window, path.window_shift)
    if attempt.client.known and attempt.server.known:
        stand_in.to_client(world, connection, stand_in.as_server(connection, client.acked, server.acked, window))
        go_on = stand_in.as_client(connection, server.acked, client.acked, ACK, client.window)
        stand_in.to_server(world, connection, path, go_on)
    else:
        question.ask_client(world, connection, attempt.client, attempt.round + 1, window)
        question.ask_server(world, connection, attempt.server, attempt.round + 1, client.window)
    tap.resume(world, connection)
    give_back(world, connection, attempt)
    if attempt.failure:
        facts = (world.now, connection.key, attempt.version, attempt.target.name)
        world.publish(MigrationRolledBack(*facts, attempt.failure))


def give_back(world: World, connection: Connection, attempt: Attempt) -> None:
    """Send what both ends have said since they were stopped through the flows that stand now."""
    release_held(world, connection)
    for one in attempt.kept:
        world.release(connection, one.port, one.packet, stand_in.renewed(connection.origin, one))
    attempt.kept.clear()


def shifted(window: int, shift: int) -> int:
    """Return a window field in another scale, as the switch would compute it."""
    return min(65_535, window << shift if shift >= 0 else window >> -shift)

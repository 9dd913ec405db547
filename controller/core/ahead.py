# SPDX-License-Identifier: Apache-2.0
"""Waiting for what goes ahead of a connection: its verdict and counts, from one P4 switch to the next one.

The target stands already, and nothing has been taken from the server that serves: a gated client's request is held on,
a connection that is served goes on as before. The cutover follows once the state is where it will be needed. If it was
refused, or does not come in time, the service's policy says whether the connection stays or goes without it.
"""

from __future__ import annotations

from controller.core import watch
from controller.core.connection import Attempt, Connection, Phase
from controller.core.events import StateFollowed, StateRejected, StateShipped
from controller.core.policy import Hold
from controller.core.rollback import fail
from controller.core.world import World

TIMER = "state"


def follow(world: World, event: StateFollowed) -> None:
    """From now on, the state of these services' connections goes from server to server with them."""
    world.followed = (frozenset(event.services), frozenset(event.servers))


def is_awaited(world: World, connection: Connection, attempt: Attempt) -> bool:
    """Return whether the connection's state is expected to go ahead, and the cutover to wait for it."""
    services, servers = world.followed
    service, ends = connection.service, {connection.path.server.name, attempt.target.name}
    return service.hold_for_state is not Hold.OFF and service.name in services and ends <= servers


def begin(world: World, connection: Connection, attempt: Attempt) -> None:
    """The target stands: go on, unless the state is still to come."""
    if not is_awaited(world, connection, attempt) or isinstance(attempt.state, StateShipped):
        watch.begin(world, connection, attempt)
    elif attempt.state is not None:
        _without(world, connection, attempt, attempt.state.reason)
    else:
        attempt.phase = Phase.AWAITING
        world.wake(connection, connection.service.state_timeout, TIMER)


def note(world: World, connection: Connection, attempt: Attempt, event: StateShipped | StateRejected) -> None:
    """The state is there, or will not come, and the target does not stand yet."""
    attempt.state = event


def told(world: World, connection: Connection, attempt: Attempt, event: StateShipped | StateRejected) -> None:
    """The state is there, or will not come, and it is what the cutover waits for."""
    if isinstance(event, StateShipped):
        _go_on(world, connection, attempt)
    else:
        _without(world, connection, attempt, event.reason)


def late(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """It has not come in time."""
    _without(world, connection, attempt, f"not there within {connection.service.state_timeout:g} s")


def _without(world: World, connection: Connection, attempt: Attempt, reason: str) -> None:
    """Stay at the server that serves, or go on without the state, as the service wants it."""
    if connection.service.hold_for_state is Hold.STAY:
        fail(world, connection, "state", reason)
    else:
        _go_on(world, connection, attempt)


def _go_on(world: World, connection: Connection, attempt: Attempt) -> None:
    """Cut; what had a deadline of its own before the wait has it anew."""
    attempt.held_until = world.now
    if not connection.is_open:
        world.wake(connection, connection.service.handshake_timeout, "deadline")
    watch.begin(world, connection, attempt)

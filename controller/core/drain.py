# SPDX-License-Identifier: Apache-2.0
"""Empty a server: every connection that is there goes to another one, a bounded number at a time.

A connection that cannot be moved now is tried again until it is, or the drain's patience is at an end. Only those that
are there when it begins: clients that dial a drained origin afterwards are served by it as before.
"""

from __future__ import annotations

from collections import deque

from controller.core import migration
from controller.core.commands import WakeAt
from controller.core.connection import Connection, Drain, State
from controller.core.events import DrainCompleted, DrainFailed, DrainProgressed, DrainRequested
from controller.core.policy import Server
from controller.core.world import World

IN_FLIGHT = 16
"""Migrations under way at once: more only wait for each other."""
TRIES = 64
"""Migrations begun for one event: where each fails at once, the others wait for a timer of those."""
PATIENCE = 10.0
"""Seconds for which connections that could not be moved are tried again."""
AGAIN = 0.5
"""Seconds between two tries of one connection."""
TELL_AFTER = 0.1
"""Seconds between two reports of progress; the first one says how many there are."""


def start(world: World, event: DrainRequested) -> None:
    """Note who is there; what is wrong with the request is said at once."""
    reason = _fault(world, event)
    if reason:
        world.publish(DrainFailed(world.now, event.request, event.server, reason))
        return
    there = deque(known for known in world.connections.values() if known.path.server.name == event.server)
    world.drains[event.server] = Drain(
        event.request, event.server, event.target, there, world.now + PATIENCE, told_at=world.now
    )
    world.publish(DrainProgressed(world.now, event.request, event.server, 0, 0, len(there)))


def _fault(world: World, event: DrainRequested) -> str:
    """Return why a server cannot be drained, or nothing."""
    servers = world.policy.servers
    known = ", ".join(sorted(servers))
    for name in (event.server, event.target):
        if name is not None and name not in servers:
            return f"no server is called {name} (known: {known})"
    if event.server == event.target:
        return "a server cannot be drained to itself"
    if event.server in world.drains:
        return f"{event.server} is being drained already"
    return ""


def places(world: World, connection: Connection, server: str) -> list[Server]:
    """Return where a connection may go from a server: home, or to servers that are no other service's origin."""
    origin = connection.service.origin
    if origin.name != server:
        return [origin]
    taken = {service.origin.name for service in world.policy.services}
    return [other for name, other in world.policy.servers.items() if name not in taken]


def advance(world: World) -> None:
    """Go on with every drain: see what has become of those under way, and begin with others."""
    for drain in list(world.drains.values()):
        before = drain.moved + drain.failed
        while drain.again and drain.again[0][0] <= world.now:
            drain.queue.append(drain.again.popleft()[1])
        _collect(world, drain)
        tries = 0
        while drain.queue and len(drain.moving) < IN_FLIGHT and tries < TRIES:
            tries += _begin(world, drain, drain.queue.popleft())
            _collect(world, drain)
        if not drain.queue and not drain.moving and not drain.again:
            del world.drains[drain.server]
            counts = (drain.moved, drain.failed, drain.skipped)
            world.publish(DrainCompleted(world.now, drain.request, drain.server, *counts))
        elif drain.moved + drain.failed != before and world.now - drain.told_at >= TELL_AFTER:
            drain.told_at = world.now
            left = len(drain.queue) + len(drain.moving) + len(drain.again)
            world.publish(DrainProgressed(world.now, drain.request, drain.server, drain.moved, drain.failed, left))


def _begin(world: World, drain: Drain, connection: Connection) -> bool:
    """Ask for the migration of one connection, if it is still there and served; return whether that was done."""
    is_there = world.connections.get(connection.key) is connection and connection.path.server.name == drain.server
    if not is_there or connection.state is State.CLOSING:
        drain.skipped += 1
        return False
    if connection.state is not State.SERVED:
        drain.skipped += not _again(world, drain, connection)  # its verdict may come in time
        return False
    if drain.target is not None:
        choice = [world.policy.servers[drain.target]]
    else:
        choice = places(world, connection, drain.server)
    if not choice:
        drain.failed += 1
        return False
    migration.request(world, connection, choice[drain.turn % len(choice)])
    drain.turn += 1
    drain.moving.append(connection)
    return True


def _collect(world: World, drain: Drain) -> None:
    """Count those under way that have arrived, have stayed, or are over."""
    moving = []
    for connection in drain.moving:
        if connection.path.server.name != drain.server:
            drain.moved += 1
        elif connection.attempt is not None:
            moving.append(connection)
        elif world.connections.get(connection.key) is not connection:
            drain.skipped += 1
        else:
            drain.failed += not _again(world, drain, connection)
    drain.moving = moving


def _again(world: World, drain: Drain, connection: Connection) -> bool:
    """Try a connection again in a while; return whether there is time left for that."""
    when = world.now + AGAIN
    if when > drain.deadline:
        return False
    drain.again.append((when, connection))
    world.do(WakeAt(when, None, 0, "drain"))
    return True

# SPDX-License-Identifier: Apache-2.0
"""Observe mode: the analyser gets copies of a connection up to about so many bytes, then the switch only forwards.

A switch cannot stop by itself, so its counters are looked at: soon at first, then when at the present rate the depth
will have been reached, less and less often while little is said. A connection that moves is not copied any more.
"""

from __future__ import annotations

from controller.core import pipeline, tap
from controller.core.commands import ReadFlows, WakeAt
from controller.core.connection import Connection, State
from controller.core.cookie import Cookie, Kind
from controller.core.events import FlowsReported
from controller.core.world import Look, World

SOONEST, LATEST = 0.05, 30.0
"""Seconds between two looks, at least and at most."""
TIMER = "mirror"
_WHOLE = (1 << 64) - 1


def begin(world: World, connection: Connection) -> None:
    """Copies are being made: look at how much they are, if there is a bound."""
    if world.mirror(connection.switch) and connection.service.mirror_bytes:
        _wake(world, connection, connection.version, SOONEST)


def _wake(world: World, connection: Connection, version: int, after: float) -> None:
    """Come back later; the version is that of the flows which make the copies."""
    world.do(WakeAt(world.now + after, connection.key, version, TIMER))


def look(world: World, connection: Connection, version: int) -> None:
    """Ask how much has been copied; without a switch, ask later."""
    if not _copies(connection):
        return
    if connection.switch not in world.ports:
        _wake(world, connection, version, SOONEST)
        return
    token = world.fresh_token()
    world.looks[token] = Look(connection, version)
    # Where the connection is overheard, the flows of that hide the others (``tap.resume``), whatever their version is.
    kind, mask = (Kind.PATH, _WHOLE) if connection.tap is None else (Kind.COPY, _WHOLE ^ 0xFFFF << 32)
    cookie = Cookie(kind, version, connection.number).encode()
    world.do(ReadFlows(connection.switch, pipeline.CONNECTIONS, cookie & mask, mask, token))


def _copies(connection: Connection) -> bool:
    """Return whether a connection is still where it was copied."""
    return connection.state is State.SERVED and connection.path.server is connection.service.origin


def told(world: World, event: FlowsReported) -> bool:
    """Take an answer, if it is one of ours: the copying ends, or is looked at again."""
    one = world.looks.pop(event.token, None)
    if one is None:
        return False
    connection, total = one.connection, sum(found.bytes for found in event.flows)
    if not event.flows or world.connections.get(connection.key) is not connection or not _copies(connection):
        return True
    missing = connection.service.mirror_bytes - total
    if missing > 0:
        age = max(world.now - connection.opened, SOONEST)
        _wake(world, connection, one.version, min(max(missing * age / max(total, 1), SOONEST), LATEST, age))
    elif connection.attempt is not None:
        _wake(world, connection, one.version, SOONEST)
    else:
        world.do(*pipeline.path_flows(connection, connection.path))
        tap.end(world, connection)
    return True


def lost(world: World, switch: int) -> None:
    """The switch has gone without an answer: ask again when it is back."""
    for token, one in list(world.looks.items()):
        if one.connection.switch == switch:
            del world.looks[token]
            _wake(world, one.connection, one.version, SOONEST)

# SPDX-License-Identifier: Apache-2.0
"""The table of connections as the operator sees it, a page at a time: no answer keeps the switches waiting long."""

from __future__ import annotations

from collections import Counter
from itertools import dropwhile

from controller.core.connection import Connection
from controller.core.events import ConnectionReported, StatusReported, StatusRequested
from controller.core.segment import ConnectionKey
from controller.core.world import World

PAGE = 256
"""Most rows of an answer."""
SCAN = 2_048
"""Most connections that are looked at for an answer: a few milliseconds of the controller's time."""


def report(world: World, event: StatusRequested) -> None:
    """Publish the rows that are asked for, by number, then that this was all of the page."""
    limit = max(1, min(event.limit, PAGE))
    count: Counter[str] = Counter()
    rows, last, more = 0, event.after, False
    # Connections stand in the order of their numbers; the built-in comparison skips a hundred thousand in no time.
    for looked, number in enumerate(dropwhile(event.after.__ge__, world.numbers)):
        if rows == limit or looked == SCAN:
            more = True
            break
        connection, last = world.numbers[number], number
        count[connection.path.server.name] += 1
        if is_meant(connection.key, event.match):
            rows += 1
            world.publish(row(world, event.request, connection))
    servers = tuple((name, count[name]) for name in world.policy.servers)
    world.publish(StatusReported(world.now, event.request, more, last, servers))


def row(world: World, request: str, connection: Connection) -> ConnectionReported:
    """Return what there is to say of one connection."""
    attempt = connection.attempt
    return ConnectionReported(
        world.now,
        request,
        connection.key,
        connection.version,
        connection.number,
        connection.service.name,
        connection.service.origin.name,
        connection.path.server.name,
        connection.state.value,
        world.now - connection.opened,
        None if attempt is None else attempt.phase.value,
        None if attempt is None else attempt.target.name,
    )


def is_meant(key: ConnectionKey, text: str) -> bool:
    """Return whether a few words of an operator mean this connection: the client's port, or how its name begins."""
    if text.isdecimal() and len(text) <= 5:
        return key.client.port == int(text)
    # The cheap look first: names of a hundred thousand connections are not written out in vain.
    address = key.client.address
    bare = text.removeprefix("[")
    return (bare.startswith(address) or address.startswith(bare)) and str(key).startswith(text)

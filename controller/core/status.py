# SPDX-License-Identifier: Apache-2.0
"""The table of connections as the operator sees it, a page at a time: no answer keeps the switches waiting long."""

from __future__ import annotations

import heapq
from collections import Counter

from controller.core.connection import Connection
from controller.core.events import ConnectionReported, StatusReported, StatusRequested
from controller.core.segment import ConnectionKey
from controller.core.world import World

PAGE = 256
"""Most rows of an answer."""


def report(world: World, event: StatusRequested) -> None:
    """Publish the rows that are asked for, by number, then that this was all of the page."""
    limit = max(1, min(event.limit, PAGE))
    wanted = (
        number
        for number, connection in world.numbers.items()
        if number > event.after and is_meant(connection.key, event.match)
    )
    numbers = heapq.nsmallest(limit + 1, wanted)
    for number in numbers[:limit]:
        world.publish(row(world, event.request, world.numbers[number]))
    servers: tuple[tuple[str, int], ...] = ()
    if not event.after:
        count = Counter(connection.path.server.name for connection in world.connections.values())
        servers = tuple((name, count[name]) for name in world.policy.servers)
    world.publish(StatusReported(world.now, event.request, len(numbers) > limit, servers))


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

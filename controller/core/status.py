# SPDX-License-Identifier: Apache-2.0
"""The table of connections as the operator sees it, a page at a time: no answer keeps the switches waiting long."""

from __future__ import annotations

from collections import Counter
from itertools import dropwhile

from controller.core import pipeline
from controller.core.commands import Barrier, ReadFlows
from controller.core.connection import Connection
from controller.core.cookie import Cookie, Kind, decode_cookie
from controller.core.events import ConnectionReported, FlowsReported, StatusReported, StatusRequested
from controller.core.segment import ConnectionKey
from controller.core.world import Answer, World

PAGE = 256
"""Most rows of an answer."""
WHOLE = (1 << 64) - 1
SCAN = 2_048
"""Most connections that are looked at for an answer: a few milliseconds of the controller's time."""


def report(world: World, event: StatusRequested) -> None:
    """Find the rows that are asked for, by number, and ask the switches what these connections have carried."""
    limit = max(1, min(event.limit, PAGE))
    count: Counter[str] = Counter()
    rows: list[Connection] = []
    last, more = event.after, False
    # Connections stand in the order of their numbers; the built-in comparison skips a hundred thousand in no time.
    for looked, number in enumerate(dropwhile(event.after.__ge__, world.numbers)):
        if len(rows) == limit or looked == SCAN:
            more = True
            break
        connection, last = world.numbers[number], number
        count[connection.path.server.name] += 1
        if is_meant(connection.key, event.match):
            rows.append(connection)
    servers = tuple((name, count[name]) for name in world.policy.servers)
    answer = Answer(rows, StatusReported(world.now, event.request, more, last, servers))
    for switch in {row.switch for row in rows if row.is_open and row.switch in world.ports}:
        _count(world, answer, switch)
    _finish(world, answer)


def _count(world: World, answer: Answer, switch: int) -> None:
    """Ask a switch for the counters of the rows that are its own; the barrier says that all have come.

    A whole cookie is looked up by its hash: the cost is that of the page, however many flows the switch holds.
    """
    token = world.fresh_token()
    world.answers[token] = (switch, answer)
    answer.missing += 1
    for connection in answer.rows:
        if connection.switch == switch and connection.is_open:
            cookie = Cookie(Kind.PATH, connection.flow_version, connection.number).encode()
            world.do(ReadFlows(switch, pipeline.CONNECTIONS, cookie, WHOLE, token))
    world.do(Barrier(switch, token))


def told(world: World, event: FlowsReported) -> bool:
    """Take counters, if they are of a page; both directions count."""
    if event.token not in world.answers:
        return False
    _, answer = world.answers[event.token]
    for found in event.flows:
        cookie = decode_cookie(found.flow.cookie)
        if cookie is not None:
            answer.bytes[cookie.number] += found.bytes
    return True


def done(world: World, token: int) -> None:
    """A switch has answered, or will not: with the last one the page is complete."""
    asked = world.answers.pop(token, None)
    if asked is not None:
        asked[1].missing -= 1
        _finish(world, asked[1])


def lost(world: World, switch: int) -> None:
    """A switch has gone: the page comes without its counters."""
    for token in [token for token, (asked, _) in world.answers.items() if asked == switch]:
        done(world, token)


def _finish(world: World, answer: Answer) -> None:
    """Publish the page once nothing is missing."""
    if not answer.missing:
        for connection in answer.rows:
            carried = answer.bytes.get(connection.number)
            world.publish(row(world, answer.end.request, connection, carried))
        world.publish(answer.end)


def row(world: World, request: str, connection: Connection, carried: int | None = None) -> ConnectionReported:
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
        carried,
    )


def is_meant(key: ConnectionKey, text: str) -> bool:
    """Return whether a few words of an operator mean this connection: the client's port, or how its name begins."""
    if text.isdecimal() and len(text) <= 5:
        return key.client.port == int(text)
    # The cheap look first: names of a hundred thousand connections are not written out in vain.
    address = key.client.address
    bare = text.removeprefix("[")
    return (bare.startswith(address) or address.startswith(bare)) and str(key).startswith(text)

# SPDX-License-Identifier: Apache-2.0
"""The cut policy ``request``: the target is given the client's last request, though the old server has had it too.

While the connection is served the controller overhears it, and keeps what the client has said since the server's last
word, within bounds. The cut is then made before that. Bytes that the old server has acknowledged the client will not
send again: the controller sends them, until the target has acknowledged them.

A server that has begun to answer keeps the connection, unless torn responses are allowed: the client then reads the
beginning of the old answer, and behind it the whole new one.
"""

from __future__ import annotations

from controller.core import pipeline, question, seq, stand_in
from controller.core.connection import Connection, Kept, Tap, kept, rewrite_to_client
from controller.core.events import SegmentReceived
from controller.core.policy import CutPolicy
from controller.core.view import in_clients_view
from controller.core.world import World

TIMER = "deliver"
AGAIN = 0.02
"""Seconds until the target is given again what it has not acknowledged."""
TRIES = 50


def begin(world: World, connection: Connection) -> None:
    """Overhear a connection that is served from now on, if its service wants that."""
    if connection.service.cut_policy is CutPolicy.REQUEST:
        connection.tap = Tap()
        resume(world, connection)


def resume(world: World, connection: Connection) -> None:
    """Put the flows of the overhearing in, where a connection is overheard; they hide those that make copies."""
    if connection.tap is not None:
        mirror = world.mirror(connection.switch) if connection.flow_version == 0 else ()
        world.do(*pipeline.watch_flows(connection, connection.path, mirror=mirror))


def end(world: World, connection: Connection) -> None:
    """Overhear it no more."""
    if connection.tap is not None:
        connection.tap = None
        world.do(*pipeline.unwatch(connection, connection.path))


def client_heard(world: World, connection: Connection, event: SegmentReceived) -> None:
    """Keep what the client says: a new request, if the last one has been answered."""
    tap, segment, side = connection.tap, event.segment, connection.client
    if tap is None:
        return
    goes_on = seq.is_after(seq.add(segment.seq, segment.length), side.next)
    is_new = not question.take(world, side, segment) or goes_on
    if not segment.payload:
        return
    if is_new and (tap.start is None or tap.is_answered):
        connection.tap = tap = Tap(segment.seq, owed_until=tap.owed_until, tries=tap.tries)
    if tap.start is None or seq.is_before(segment.seq, tap.start) or segment.seq in tap.packets:
        return
    tap.size += segment.length
    tap.is_whole = tap.is_whole and tap.size <= world.policy.limits.held_bytes
    if tap.is_whole:
        tap.packets[segment.seq] = kept(event, segment)


def server_heard(world: World, connection: Connection, event: SegmentReceived) -> None:
    """Note that the server has answered, and what it has."""
    tap, side = connection.tap, connection.origin
    if tap is None:
        return
    segment = in_clients_view(event.segment, rewrite_to_client(connection, connection.path))
    goes_on = seq.is_after(seq.add(segment.seq, segment.length), side.next)
    is_new = not question.take(world, side, segment) or goes_on
    side.window = event.segment.window
    tap.is_answered = tap.is_answered or (is_new and bool(segment.payload))
    if tap.owed_until is not None and not seq.is_before(segment.ack, tap.owed_until):
        tap.owed_until = None


def fault(connection: Connection, until: int | None = None) -> tuple[str, str] | None:
    """Return why the last request cannot be given to another server, if it cannot: a reason, and in words.

    ``until`` is how much of the client's stream the old server has had: all of it must be known.
    """
    tap = connection.tap
    if tap is None or tap.start is None:
        return "request", "no request has been overheard: the service's cut policy is another, or its depth is past"
    if tap.is_answered and not connection.service.allow_torn_response:
        return "answered", "the server has begun to answer (allow_torn_response would tear that)"
    if not tap.is_whole or (until is not None and seq.is_before(_reach(tap, tap.start), until)):
        return "request", "not all of the request is known"
    return None


def _reach(tap: Tap, start: int) -> int:
    """Return how far the packets go on from the start without a gap."""
    for number in sorted(tap.packets, key=lambda number: seq.offset(start, number)):
        end_of = seq.add(number, tap.packets[number].size)
        if not seq.is_after(number, start) and seq.is_after(end_of, start):
            start = end_of
    return start


def deliver(world: World, connection: Connection) -> None:
    """The target was given the request: give it again until it has it."""
    tap = connection.tap
    if tap is None or tap.owed_until is None or connection.attempt is not None or tap.tries >= TRIES:
        return
    tap.tries += 1
    for one in _in_order(connection, tap):
        world.release(connection, one.port, one.packet, stand_in.renewed(connection.client, one))
    world.wake(connection, AGAIN, TIMER)


def _in_order(connection: Connection, tap: Tap) -> list[Kept]:
    """Return the packets in the order of their bytes."""
    numbers = sorted(tap.packets, key=lambda number: seq.offset(connection.cut_at, number))
    return [tap.packets[number] for number in numbers]


def moved(world: World, connection: Connection, had: int) -> None:
    """The connection has moved: overhear it where it is now, and see to it that the target gets the request."""
    tap = connection.tap
    if tap is None:
        return
    resume(world, connection)
    if connection.cut_at != had:
        tap.is_answered, tap.owed_until, tap.tries = False, had, 0
        deliver(world, connection)

# SPDX-License-Identifier: Apache-2.0
"""The cut: one position in each direction at which the connection changes servers.

A gated connection is cut before its first byte: the client's data is held already. A connection that is served is
stopped first: both ends are shown zero windows (the brake), then asked for their exact numbers until nothing is in
flight any more; then one atomic change of flows moves it, and both ends are told each other's windows again.

Every byte before the cut belongs to the server that served, every byte behind it to the target. What the client says
while the final flows are being put in lies behind the cut and is held for the target; what the old server says then
lies behind its own cut and is dropped.
"""

from __future__ import annotations

from dataclasses import replace

from controller.core import pipeline, seq, stand_in
from controller.core.commands import Barrier, Bundle, FlowAdd, FlowDelete
from controller.core.connection import Attempt, Connection, Path, Phase, Side, State, rewrite_to_client
from controller.core.events import MigrationCompleted, SegmentReceived
from controller.core.rollback import fail, release_held, shifted
from controller.core.segment import ACK, FIN, PSH, RST, Segment
from controller.core.view import in_clients_view
from controller.core.world import World

BRAKE_TIME = 0.001_5
"""Seconds for which the fast path drains before the controller looks: a saturated stream stops within 0.5 to 2.5 ms."""
ASK_AGAIN = 0.001
"""Seconds until both ends are asked again when something is still in flight."""
FREEZE_LIMIT = 0.15
"""Seconds after which a freeze is undone: below the peers' retransmission timeout of 0.2."""
LOCATE_AFTER = 0.5
"""Seconds after which a side's numbers are too old to ask with a byte.

A byte must be one that the peer has had. A stream can move on by less than 2^31 bytes in this time; Linux answers a
question without a byte, which is harmless at any number, once in this time.
"""


def begin(world: World, connection: Connection, attempt: Attempt) -> None:
    """The target stands: cut a gated connection here, stop one that is served."""
    if connection.state is State.SERVED:
        attempt.phase = Phase.BRAKING
        attempt.frozen_at = world.now
        world.do(Bundle(connection.switch, tuple(pipeline.brake_flows(connection, connection.path))))
        world.wake(connection, BRAKE_TIME, "braked")
        world.wake(connection, FREEZE_LIMIT, "frozen")
    else:
        attempt.phase = Phase.COMMITTING
        advance(world, connection)


def advance(world: World, connection: Connection) -> None:
    """Cut a gated connection once the client has acknowledged all that the origin said."""
    attempt = connection.attempt
    if attempt is None or attempt.phase is not Phase.COMMITTING or attempt.token:
        return
    if connection.client.acked == connection.origin.next:
        _install(world, connection, attempt, seq.add(connection.client.isn, 1))


def _install(world: World, connection: Connection, attempt: Attempt, client_cut: int) -> None:
    """Put the final flows in; their confirmation is the commit."""
    agreement, mine, old = connection.agreement, attempt.agreement, connection.path
    assert agreement is not None
    assert mine is not None
    shift = 0
    if agreement.timestamps:
        # The client must never see the server's clock go back: the target continues from the newest TSval shown.
        shift = seq.distance(attempt.tsval, stand_in.clock_of(connection.origin))
    attempt.client_cut, attempt.server_cut = client_cut, connection.origin.next
    attempt.path = Path(
        server=attempt.target,
        port=attempt.port,
        mac=attempt.mac,
        client_delta=seq.distance(client_cut, seq.add(attempt.syn_seq, 1)),
        server_delta=seq.distance(connection.origin.next, attempt.target_next),
        tsval_shift=shift,
        window_shift=(mine.window_scale or 0) - (agreement.window_scale or 0),
    )
    attempt.phase = Phase.COMMITTING
    attempt.token = world.token(connection)
    silence = pipeline.silence_flow(connection, old.server, old.port)
    if connection.state is State.SERVED:
        changes: list[FlowAdd | FlowDelete] = [silence, *pipeline.path_flows(connection, attempt.path)]
        changes += pipeline.thaw(connection, old)
        world.do(Bundle(connection.switch, tuple(changes), attempt.token))
    else:
        # Nothing of a gated connection passes the switch meanwhile: its flows need not change all at once.
        world.do(silence, *pipeline.path_flows(connection, attempt.path, attempt.token))
    world.do(Barrier(connection.switch, attempt.token))


# ---- measuring ------------------------------------------------------------------------------------------------------


def measure(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """The brake has worked for a while: from now on the controller alone hears both ends."""
    attempt.phase = Phase.MEASURING
    attempt.token = world.token(connection)
    flows = tuple(pipeline.measure_flows(connection, connection.path))
    world.do(Bundle(connection.switch, flows, attempt.token), Barrier(connection.switch, attempt.token))


def measuring(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """The flows of the measurement stand: ask both ends."""
    attempt.token = 0
    attempt.heard_client = attempt.heard_server = False
    ask(world, connection, attempt, None)


def ask(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """Ask both ends for their exact numbers, and come back."""
    client, server, path = connection.client, connection.origin, connection.path
    assert client.acked is not None
    assert server.acked is not None
    for number, payload in _questions(world, client):
        segment = stand_in.as_server(connection, number, server.acked, 0, payload)
        stand_in.to_client(world, connection, segment)
    for number, payload in _questions(world, server):
        flags = ACK | PSH if payload else ACK
        segment = stand_in.as_client(connection, number, client.acked, flags, 0, payload)
        stand_in.to_server(world, connection, path, segment)
    world.wake(connection, ASK_AGAIN, "ask")


def _questions(world: World, side: Side) -> list[tuple[int, bytes]]:
    """Return sequence numbers and payloads that make a peer tell its numbers.

    What it has acknowledged itself it has had for sure; where that word is too old, segments far outside of any window
    and without a byte are safe. Of two that lie half the number space apart one lies ahead of the peer, wherever it is
    by now; Linux (6.14 and later) is silent to one that lies behind and carries an old timestamp.
    """
    assert side.acked is not None
    if world.now - side.exact_at < LOCATE_AFTER:
        return [stand_in.old_byte(side.acked)]
    return [(seq.add(side.acked, 1 << 30), b""), (seq.add(side.acked, -(1 << 30)), b"")]


def from_client(world: World, connection: Connection, attempt: Attempt, event: SegmentReceived) -> None:
    """The client speaks while both ends are measured: what is news to the server still goes there."""
    segment = event.segment
    news = _is_news(connection.client, segment)
    _listen(world, connection.client, segment)
    attempt.heard_client = True
    if _is_over(world, connection, event):
        return
    if news:
        stand_in.to_server(world, connection, connection.path, _stopped(segment))
    _settle(world, connection, attempt)


def from_server(world: World, connection: Connection, attempt: Attempt, event: SegmentReceived) -> None:
    """The server speaks while both ends are measured: what is news to the client still goes there."""
    segment = in_clients_view(event.segment, rewrite_to_client(connection, connection.path))
    news = _is_news(connection.origin, segment)
    window = event.segment.window
    _listen(world, connection.origin, segment)
    connection.origin.window = window
    attempt.heard_server = True
    if _is_over(world, connection, event):
        return
    if news:
        stand_in.to_client(world, connection, _stopped(segment))
    _settle(world, connection, attempt)


def _beyond(segment: Segment) -> tuple[tuple[int, int], ...]:
    """Return the SACK blocks of bytes that came out of order: a D-SACK (RFC 2883) only answers our own question."""
    return tuple(block for block in segment.options.sack if seq.is_after(block[1], segment.ack))


def _is_news(side: Side, segment: Segment) -> bool:
    """Return whether the other end must hear this: data, a first acknowledgement, or a gap that it has to fill.

    Without the latter two, what was lost just before the brake would be repaired by a retransmission timeout only.
    """
    advanced = side.acked is None or seq.is_after(segment.ack, side.acked)
    return bool(segment.payload) or advanced or bool(_beyond(segment))


def _stopped(segment: Segment) -> Segment:
    """Return the segment with its window closed, and without what it says of our own questions."""
    return replace(segment, window=0, options=replace(segment.options, sack=_beyond(segment)), frame=None)


def _listen(world: World, side: Side, segment: Segment) -> None:
    """Take a side's numbers: as they are when the last word was too old to compare with."""
    if world.now - side.exact_at >= LOCATE_AFTER:
        side.next, side.acked = seq.add(segment.seq, segment.length), segment.ack
        side.window = segment.window
        side.timestamps = segment.options.timestamps
    side.hear(segment)
    side.exact_at = world.now


def _is_over(world: World, connection: Connection, event: SegmentReceived) -> bool:
    """Undo the freeze where one end ends the connection, and pass on what it said."""
    if not event.segment.flags & (FIN | RST):
        return False
    fail(world, connection, "closing", "one end closed the connection during the freeze")
    world.release(connection, event.port, event.segment.frame or event.segment)
    return True


def _settle(world: World, connection: Connection, attempt: Attempt) -> None:
    """Cut, if both ends have spoken and nothing is in flight."""
    client, server = connection.client, connection.origin
    if client.finished or server.finished:
        # The old server has the client's FIN, or the client the old server's: the target never would.
        fail(world, connection, "closing", "one end closed the connection during the freeze")
        return
    if not (attempt.heard_client and attempt.heard_server):
        return
    if client.acked == server.next and server.acked == client.next:
        _install(world, connection, attempt, client.next)


def hold(world: World, connection: Connection, attempt: Attempt, event: SegmentReceived) -> None:
    """What the client says while the final flows are being put in is the target's."""
    segment = event.segment
    if segment.length and not seq.is_before(segment.seq, attempt.client_cut):
        connection.held[segment.seq] = (segment.length, segment.frame or segment)
        connection.held_bytes += len(segment.payload)


# ---- committing -----------------------------------------------------------------------------------------------------


def commit(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """The final flows stand: the old server's half is reset, and both ends go on."""
    old, path, held_bytes = connection.path, attempt.path, connection.held_bytes
    assert path is not None
    served = connection.state is State.SERVED
    stand_in.reset_server(world, connection, old, attempt.client_cut)
    world.unaim(connection, old.server.endpoint)
    world.aim(connection, path.server.endpoint)
    connection.path, connection.attempt = path, None
    connection.origin.finished = False
    connection.origin.acked = attempt.client_cut
    connection.origin.window = attempt.window
    connection.client.exact_at = connection.origin.exact_at = world.now
    if served:
        window = shifted(attempt.window, path.window_shift)
        go_on = stand_in.as_server(connection, attempt.server_cut, attempt.client_cut, window)
        stand_in.to_client(world, connection, go_on)
        go_on = stand_in.as_client(connection, attempt.client_cut, attempt.server_cut)
        stand_in.to_server(world, connection, path, go_on)
    release_held(world, connection)
    world.settle(connection, State.SERVED)
    world.publish(
        MigrationCompleted(
            world.now,
            connection.key,
            attempt.version,
            old.server.name,
            attempt.target.name,
            client_cut=attempt.client_cut,
            server_cut=attempt.server_cut,
            client_delta=path.client_delta,
            server_delta=path.server_delta,
            held_bytes=held_bytes,
            frozen=world.now - attempt.frozen_at if served else 0.0,
        )
    )

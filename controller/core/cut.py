# SPDX-License-Identifier: Apache-2.0
"""The cut: one position in each direction at which the connection changes servers.

A gated connection is cut before its first byte: the client's data is held already. A connection that is served is
stopped first (``brake``), then the switch hands over what both ends say, and they are asked how far they are
(``question``). What the old server has is the cut of the client's bytes, what the client has
that of the server's: nothing else can reach either of them any more. Neither end may have bytes out of order then: the
client would mix them with the target's, and would not send again what it was told to have arrived. Such gaps are filled
first; bytes lost behind the cut are the client's to send again, to the target. Then one atomic change of flows moves
the connection, and both ends are told each other's windows again.

Every byte before the cut belongs to the server that served, every byte behind it to the target. What the client says
once it is stopped is held for the target; what the old server says behind its own cut is dropped.
"""

from __future__ import annotations

from dataclasses import replace

from controller.core import brake, pipeline, question, seq, stand_in, tap
from controller.core.commands import Barrier, Bundle, FlowAdd, FlowDelete, PacketOut
from controller.core.connection import Attempt, Connection, Kept, Path, Phase, State, kept, rewrite_to_client
from controller.core.events import MigrationCompleted, SegmentReceived
from controller.core.policy import CutPolicy
from controller.core.rollback import fail, release_held, send_held, shifted, thaw
from controller.core.segment import FIN, PSH, RST, Segment
from controller.core.view import in_clients_view
from controller.core.world import World

DRAIN = 0.005
"""Seconds for which the old server's last packets are still passed on by hand: after that, the stream is cut."""
REMIND = (0.004, 0.02)
"""Seconds behind the cut at which both ends are told once more that they may go on: else a lost word costs 0.2."""
REMINDER = "remind"
OWN_WORDS = 1 + len(REMIND)
"""Packets in the server's name that the client gets from the controller behind the cut: each has an identification."""
KEPT = 256
"""Most packets of the old server that are kept for the case that the freeze is undone."""
FREEZE_LIMIT = 0.12
"""Seconds after which a freeze is undone: with the undoing, below the peers' retransmission timeout of 0.2."""


def begin(world: World, connection: Connection, attempt: Attempt) -> None:
    """The target stands: cut a gated connection here, stop one that is served."""
    if connection.state is State.SERVED:
        brake.begin(world, connection, attempt)
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
        attempt.client_had = seq.add(connection.client.isn, 1)
        _install(world, connection, attempt, attempt.client_had)


def _install(world: World, connection: Connection, attempt: Attempt, client_cut: int) -> None:
    """Put the final flows in; their confirmation is the commit."""
    agreement, mine, old = connection.agreement, attempt.agreement, connection.path
    assert agreement is not None
    assert mine is not None
    shift = ip_id_shift = 0
    if agreement.timestamps:
        # The client must never see the server's clock go back: the target continues from the newest TSval shown.
        shift = seq.distance(attempt.tsval, stand_in.clock_of(connection.origin))
    if connection.origin.ip_id and attempt.ip_id:  # 0: a server that does not count, so neither does an addition
        ip_id_shift = (connection.origin.ip_id + OWN_WORDS - attempt.ip_id) & 0xFFFF
    assert connection.client.acked is not None
    attempt.client_cut, attempt.server_cut = client_cut, connection.client.acked
    attempt.path = Path(
        server=attempt.target,
        port=attempt.port,
        mac=attempt.mac,
        client_delta=seq.distance(client_cut, seq.add(attempt.syn_seq, 1)),
        server_delta=seq.distance(attempt.server_cut, attempt.target_next),
        tsval_shift=shift,
        window_shift=(mine.window_scale or 0) - (agreement.window_scale or 0),
        ttl=connection.origin.ttl,
        ip_id_shift=ip_id_shift,
        alias=attempt.alias,
    )
    attempt.phase = Phase.COMMITTING
    attempt.installed_at = world.now
    attempt.token = world.token(connection)
    silence = pipeline.silence_flow(connection, old.server, old.port, old.alias)
    if connection.state is State.SERVED:
        changes: list[FlowAdd | FlowDelete] = [silence, *pipeline.path_flows(connection, attempt.path)]
        changes += pipeline.thaw(connection, old, connection.is_overheard)
        world.do(Bundle(connection.switch, tuple(changes), attempt.token))
        _hand_over(world, connection, attempt, attempt.path)
    else:
        # Nothing of a gated connection passes the switch meanwhile: its flows need not change all at once.
        world.do(silence, *pipeline.path_flows(connection, attempt.path, attempt.token))
    world.do(Barrier(connection.switch, attempt.token))


def _hand_over(world: World, connection: Connection, attempt: Attempt, path: Path) -> None:
    """Let both ends go on, right behind the final flows: the switch's word that they stand is not waited for.

    Should it refuse them, nothing is spoilt: both ends have been told the truth, and what is sent here comes back.
    """
    if attempt.cut_policy is not CutPolicy.REQUEST:  # that one goes ahead of the rest
        news = _news(connection, attempt)
        attempt.handed = set(news)
        send_held(world, connection, news)
    _reopen(world, connection, path, attempt.client_had, attempt.client_cut, attempt.server_cut, attempt.window)


def _news(connection: Connection, attempt: Attempt) -> dict[int, Kept]:
    """Return what is held and is the target's, but for what it has been given already."""
    return {
        number: one
        for number, one in connection.held.items()
        if seq.is_after(seq.add(number, one.size), attempt.client_had) and number not in attempt.handed
    }


# ---- measuring ------------------------------------------------------------------------------------------------------


def measure(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """Both ends have been stopped: from now on the controller alone hears them, and asks.

    The switch does what it is told in order, the datapath included: the questions need not wait for its word. The
    target is asked too: its clock and its count of packets have gone on since its handshake.
    """
    attempt.phase = Phase.MEASURING
    stand_in.probe_target(world, connection, attempt)
    attempt.token = world.token(connection)
    flows = tuple(pipeline.measure_flows(connection, connection.path))
    world.do(Bundle(connection.switch, flows, attempt.token), Barrier(connection.switch, attempt.token))
    _ask_anew(world, connection, attempt)


def measuring(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """The flows of the undoing stand: ask both ends."""
    attempt.token = 0
    _ask_anew(world, connection, attempt)


def _ask_anew(world: World, connection: Connection, attempt: Attempt) -> None:
    """Ask both ends; what they have said until now does not count."""
    attempt.measured_at = world.now
    for answers in (attempt.client, attempt.server):
        question.outdate(attempt, answers)
    question.ask(world, connection, attempt)


def stands(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """The flows stand behind which the ends have been asked: from now on they are asked again."""
    attempt.token = 0
    ask(world, connection, attempt, event)


def ask(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """Ask both ends again."""
    if question.is_due(world, attempt):
        question.ask(world, connection, attempt)


def from_client(world: World, connection: Connection, attempt: Attempt, event: SegmentReceived) -> None:
    """The client speaks while both ends are stopped: its bytes are the next server's, unless they fill a gap."""
    segment = event.segment
    question.hear(world, attempt, connection.client, attempt.client, segment)
    if segment.length:
        keep(world, connection, event)
    if attempt.client.gap is not None and connection.origin.acked is not None:
        gap = _told(connection, segment, connection.origin.acked, attempt.client.gap)
        stand_in.to_server(world, connection, connection.path, gap)
    _fill(world, connection, attempt)
    _go_on(world, connection, attempt, segment)


def from_server(world: World, connection: Connection, attempt: Attempt, event: SegmentReceived) -> None:
    """The server speaks while both ends are stopped: what it had under way still goes to the client, for a while."""
    segment = in_clients_view(event.segment, rewrite_to_client(connection, connection.path))
    question.hear(world, attempt, connection.origin, attempt.server, segment)
    connection.origin.window = event.segment.window
    if _is_wanted(world, attempt, segment):
        question.outdate(attempt, attempt.client)
        actions = pipeline.stopped(pipeline.to_client_actions(connection, connection.path))
        packet = event.segment.frame or event.segment
        world.do(PacketOut(connection.switch, packet, actions, event.port, connection.mss))
    elif (segment.length or segment.has(RST)) and len(attempt.kept) < KEPT:
        attempt.kept.append(kept(event, segment))
    if attempt.server.gap is not None and connection.client.acked is not None:
        gap = _told(connection, segment, connection.client.acked, attempt.server.gap)
        stand_in.to_client(world, connection, gap)
    _fill(world, connection, attempt)
    _go_on(world, connection, attempt, segment)


def _is_wanted(world: World, attempt: Attempt, segment: Segment) -> bool:
    """Return whether the client is still to have what the old server says: what was under way, and what fills a gap."""
    if not segment.payload or segment.has(FIN) or attempt.phase is not Phase.MEASURING:
        return False
    return attempt.client.gap is not None or world.now - attempt.measured_at < DRAIN


def _told(connection: Connection, segment: Segment, number: int, gap: int) -> Segment:
    """Return what one end lacks, for the other: at that one's next number, without the answer to our question.

    Without this, what was lost before the brake would be repaired by a timeout only; and with a closed window Linux
    sends one segment at a time again. So a window is shown, as far as the gap reaches: there is no room for news.
    """
    assert connection.agreement is not None
    agreement, is_clients = connection.agreement, segment.src == connection.key.client
    scale = agreement.client_window_scale if is_clients else agreement.window_scale
    room = -(-seq.distance(segment.ack, gap) >> (scale or 0))
    options = replace(segment.options, sack=question.beyond(segment))
    flags = segment.flags & ~(FIN | PSH)
    return replace(segment, seq=number, window=min(65_535, room), options=options, flags=flags, payload=b"", frame=None)


def _fill(world: World, connection: Connection, attempt: Attempt) -> None:
    """Give the old server what it lacks of the bytes that it has told the client to have: nobody sends those again."""
    gap, had = attempt.server.gap, connection.origin.acked
    if gap is None or had is None or attempt.filled == attempt.round:
        return
    actions = pipeline.stopped(pipeline.to_server_actions(connection, connection.path))
    for number, one in connection.held.items():
        if seq.is_before(number, gap) and seq.is_after(seq.add(number, one.size), had):
            attempt.filled = attempt.round
            question.outdate(attempt, attempt.server)
            edits = stand_in.renewed(connection.client, one)
            world.do(PacketOut(connection.switch, one.packet, edits + actions, one.port, connection.mss))


def keep(world: World, connection: Connection, event: SegmentReceived) -> None:
    """Hold back what the client says; what comes twice is kept once."""
    segment, had = event.segment, connection.held.get(event.segment.seq)
    grown = segment.length - (0 if had is None else had.size)
    if grown > 0 and connection.held_bytes + grown <= world.policy.limits.held_bytes:
        connection.held[segment.seq] = kept(event, segment)
        connection.held_bytes += grown


def _go_on(world: World, connection: Connection, attempt: Attempt, segment: Segment) -> None:
    """Cut, or end the undoing, once both ends have told where they are."""
    client, server = attempt.client, attempt.server
    is_over = bool(segment.flags & (FIN | RST)) or connection.client.finished or connection.origin.finished
    if attempt.phase is Phase.MEASURING and is_over:
        # The old server has the client's FIN, or the client the old server's: the target never would.
        fail(world, connection, "closing", "one end closed the connection during the freeze")
    elif not (client.known and server.known):
        return
    elif attempt.phase is Phase.UNDOING:
        thaw(world, connection, attempt)
    elif client.gap is None and server.gap is None:
        _choose(world, connection, attempt)


def _choose(world: World, connection: Connection, attempt: Attempt) -> None:
    """Cut at what the old server has, or before the client's last request."""
    position = connection.origin.acked
    assert position is not None
    attempt.client_had = position
    if attempt.cut_policy is CutPolicy.REQUEST:
        fault = tap.fault(connection, position)
        if fault is not None:
            fail(world, connection, *fault)
            return
        assert connection.tap is not None
        assert connection.tap.start is not None
        position = connection.tap.start
    _install(world, connection, attempt, position)


def hold(world: World, connection: Connection, attempt: Attempt, event: SegmentReceived) -> None:
    """What the client says while the final flows are being put in is the target's."""
    segment = event.segment
    if segment.length and seq.is_after(seq.add(segment.seq, segment.length), attempt.client_had):
        keep(world, connection, event)


# ---- committing -----------------------------------------------------------------------------------------------------


def _reopen(
    world: World, connection: Connection, path: Path, client_had: int, client_cut: int, server_cut: int, window: int
) -> None:
    """Tell both ends of a connection that was cut what the other has, and its window (the target's own field)."""
    shown = shifted(window, path.window_shift)
    stand_in.to_client(world, connection, stand_in.as_server(connection, server_cut, client_had, shown))
    go_on = stand_in.as_client(connection, client_cut, server_cut)
    stand_in.to_server(world, connection, path, go_on)


def remind(world: World, connection: Connection) -> None:
    """Say it again, in case it was lost: an end that has gone on takes it for old, and is silent."""
    side = connection.origin
    if connection.state is State.SERVED and connection.attempt is None and side.acked is not None:
        _reopen(world, connection, connection.path, side.acked, connection.cut_at, side.next, side.window)


def commit(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """The final flows stand: the old server's half is reset, and both ends go on."""
    old, path, held_bytes = connection.path, attempt.path, connection.held_bytes
    assert path is not None
    served = connection.state is State.SERVED
    stand_in.reset_server(world, connection, old, attempt.client_had)
    world.unaim(connection, old.server.endpoint, old.alias)
    world.aim(connection, path.server.endpoint, path.alias)
    connection.path, connection.attempt = path, None
    connection.origin.finished = False
    connection.origin.next, connection.origin.acked = attempt.server_cut, attempt.client_had
    connection.cut_at = attempt.client_cut
    connection.origin.window = attempt.window
    connection.client.exact_at = connection.origin.exact_at = world.now
    if served:
        for after in REMIND:
            world.wake(connection, after, REMINDER)
    connection.held = _news(connection, attempt)
    tap.moved(world, connection, attempt.client_had)
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
            stopping=attempt.measured_at - attempt.frozen_at if served else 0.0,
            measuring=attempt.installed_at - attempt.measured_at if served else 0.0,
            installing=world.now - attempt.installed_at if served else 0.0,
        )
    )

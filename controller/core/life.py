# SPDX-License-Identifier: Apache-2.0
"""The life of a connection in gate mode: opened, held until the verdict, served, closed.

``TABLE`` lists what every state does on every input; a pair that is missing is a fault and raises. Migration itself
(what happens in ``State.MOVING``) is the neighbour room's, ``migration``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from controller.core import cut, migration, pipeline, rollback, seq, stand_in, tap
from controller.core import mirror as mirroring
from controller.core.commands import PacketOut, ResolveHost
from controller.core.connection import Connection, Path, State, kept
from controller.core.errors import NotMigratableError, TransitionError
from controller.core.events import (
    ConnectionClosed,
    ConnectionOpened,
    RequestHeld,
    SegmentReceived,
    Verdict,
    VerdictReached,
)
from controller.core.facts import Opened, pairs_of
from controller.core.options import agree, strip_syn
from controller.core.policy import Rule, Service
from controller.core.segment import FIN, SYN, ConnectionKey, Segment
from controller.core.world import World

HALF_OPEN_TIME = 20.0
"""Seconds until a handshake that does not finish is forgotten."""
LINGER = 10
"""Seconds without a packet after which the flows of a finished or reset connection go.

Not a plain delay: a forged FIN or RST must not cut off a connection that goes on.
"""


class Input(Enum):
    """What can happen to a connection, seen from its life."""

    CLIENT_SYN = "client SYN"
    CLIENT_ACK = "client ACK"
    CLIENT_DATA = "client data"
    ORIGIN_SYNACK = "origin SYN-ACK"
    ORIGIN_SEGMENT = "origin segment"
    VERDICT_LATE = "no verdict in time"
    HALF_OPEN_OVER = "handshake late"
    FIN = "FIN"
    RST = "RST"
    IDLE = "idle"


def open_connection(world: World, event: SegmentReceived, service: Service) -> None:
    """A SYN for a service arrived: remember it and let the origin answer (RFC 9293 section 3.5)."""
    syn = event.segment
    key = ConnectionKey(syn.src, syn.dst)
    known = world.connections.get(key)
    if known is not None:
        handle(world, known, Input.CLIENT_SYN, event)
        if world.connections.get(key) is known:
            return
    limits = world.policy.limits
    if len(world.connections) >= limits.connections:
        return
    location = world.locations.find(event.switch, service.origin.endpoint.address)
    if location is None:
        world.do(ResolveHost(event.switch, service.origin.endpoint.address, syn.vlan))
        return
    try:
        stripped = strip_syn(syn)
    except NotMigratableError:
        stripped = syn
    if len(world.opening) >= limits.half_open:
        oldest = next(iter(world.opening))
        _close(world, world.connections[oldest], "half-open")
    connection = Connection(
        key=key,
        number=world.number(),
        service=service,
        switch=event.switch,
        syn=replace(stripped, frame=None),
        client_port=event.port,
        path=Path(service.origin, location.port, syn.eth_dst),
        opened=world.now,
    )
    connection.client.hear(stripped)
    world.add(connection)
    world.do(*pipeline.gate_flows(connection, location.port, world.mirror(event.switch)))
    _relay(world, connection, event)
    world.wake(connection, HALF_OPEN_TIME, "half-open")


def _relay(world: World, connection: Connection, event: SegmentReceived) -> None:
    """Pass a punted packet of the client on to where the connection is served."""
    path = connection.path
    segment = event.segment
    if segment.has(SYN):
        world.send(connection, replace(connection.syn, seq=segment.seq), path.port)
        return
    actions = pipeline.to_server_actions(connection, path)
    world.do(PacketOut(connection.switch, segment.frame or segment, actions, event.port, connection.mss))


def _reopen(world: World, connection: Connection, event: SegmentReceived) -> None:
    """A SYN on a half-open connection: the same again is passed on, another one starts afresh."""
    if event.segment.seq == connection.client.isn:
        _relay(world, connection, event)
    else:
        _close(world, connection, "reused")


def _challenge(world: World, connection: Connection, event: SegmentReceived) -> None:
    """A SYN on an established connection: let the server challenge it (RFC 5961 section 4); anybody can send one."""
    path = connection.path
    actions = pipeline.to_server_actions(connection, path)
    world.do(PacketOut(connection.switch, event.segment.frame or event.segment, actions, event.port))


def _supersede(world: World, connection: Connection, event: SegmentReceived) -> None:
    """A SYN on a connection that is over: a new one begins."""
    _remove(world, connection)


def _answered(world: World, connection: Connection, event: SegmentReceived) -> None:
    """The origin's SYN-ACK (the switch has passed it on)."""
    synack = event.segment
    if synack.ack != seq.add(connection.client.isn, 1):
        return
    connection.origin.hear(synack)
    connection.agreement = agree(connection.syn, synack)


def _confirm(world: World, connection: Connection, event: SegmentReceived) -> None:
    """The client's ACK finishes the handshake; data that comes with it or overtakes it is held."""
    segment = event.segment
    if connection.agreement is None or segment.ack != connection.origin.next:
        _relay(world, connection, event)
        return
    connection.client.hear(replace(segment, payload=b"", flags=segment.flags & ~FIN))
    connection.client.exact_at = connection.origin.exact_at = world.now
    world.settle(connection, State.GATED)
    world.publish(
        ConnectionOpened(
            world.now,
            connection.key,
            connection.version,
            connection.service.origin.name,
            connection.number,
            pairs_of(Opened(connection.origin.isn, stand_in.clock_of(connection.origin), connection.agreement)),
        )
    )
    if not connection.service.gated:
        _observe(world, connection, event)
    elif segment.length:
        handle(world, connection, Input.CLIENT_DATA, event)
    else:
        _relay(world, connection, event)


def _observe(world: World, connection: Connection, event: SegmentReceived) -> None:
    """Let the origin serve at once; the analyser goes on seeing copies, and may ask for a migration at any time."""
    mirror = world.mirror(connection.switch)
    world.settle(connection, State.SERVED)
    world.do(*pipeline.path_flows(connection, connection.path, mirror=mirror))
    mirroring.begin(world, connection)
    tap.begin(world, connection)
    _straggle(world, connection, event)
    if connection.pending is not None:
        pending, connection.pending = connection.pending, None
        move(world, connection, *pending)


def move(world: World, connection: Connection, verdict: str, target: str | None, cause: str) -> None:
    """Carry out a verdict on a connection that is served: only those that move it mean anything."""
    place = connection.service.origin.name if verdict == Verdict.RETURN.value else target
    if verdict not in (Verdict.MIGRATE.value, Verdict.RETURN.value) or place == connection.path.server.name:
        return
    world.publish(VerdictReached(world.now, connection.key, connection.version, Verdict(verdict), cause, place))
    migration.request(world, connection, world.policy.servers[str(place)])


def _acknowledge(world: World, connection: Connection, event: SegmentReceived) -> None:
    """A pure ACK while the gate is shut: it is the origin's business (it may have said something)."""
    if _is_acceptable(connection, event.segment):
        connection.client.hear(event.segment)
    _relay(world, connection, event)
    if connection.attempt is not None:
        cut.advance(world, connection)


def _hold(world: World, connection: Connection, event: SegmentReceived) -> None:
    """Keep the client's data back; what comes twice is kept once."""
    segment = event.segment
    if seq.is_before(segment.seq, seq.add(connection.client.isn, 1)) or not _is_acceptable(connection, segment):
        return
    size, had = segment.length, connection.held.get(segment.seq)
    if had is not None and had.size >= size:
        return
    grown = size - (had.size if had is not None else 0)
    if connection.held_bytes + grown > world.policy.limits.held_bytes:
        return
    connection.held[segment.seq] = kept(event, segment)
    connection.held_bytes += grown
    connection.client.hear(segment)
    if connection.state is State.GATED:
        connection.state = State.HELD
        world.publish(RequestHeld(world.now, connection.key, connection.version, len(segment.payload)))
        if segment.has(FIN) and not segment.payload:
            decide(world, connection, connection.service.default_verdict.value, None, "default")
        elif connection.pending is not None:
            decide(world, connection, *connection.pending)
        else:
            world.wake(connection, connection.service.verdict_timeout, "verdict")


def _is_acceptable(connection: Connection, segment: Segment) -> bool:
    """Return whether the origin could take a segment of the client's (RFC 9293 section 3.10.7.4, RFC 5961 section 5).

    Behind its window, or acknowledging what was never said, is somebody who does not know the connection. A controller
    that took it over has not heard the origin yet: it has said one byte at least, its SYN.
    """
    origin, agreement = connection.origin, connection.agreement
    scale = (agreement.window_scale or 0) if agreement is not None else 0
    ahead = seq.offset(seq.add(connection.client.isn, 1), segment.seq)
    said = origin.next if origin.next != origin.isn else seq.add(origin.isn, 1)
    return ahead <= max(65_535, origin.window << scale) and not seq.is_after(segment.ack, said)


def _overhear(world: World, connection: Connection, event: SegmentReceived) -> None:
    """The origin said something; the switch has passed it on."""
    connection.origin.hear(event.segment)


def _straggle(world: World, connection: Connection, event: SegmentReceived) -> None:
    """A packet that an outdated megaflow gave to the controller: send it through the tables as they are now."""
    world.release(connection, event.port, event.segment.frame or event.segment)


def decide(
    world: World, connection: Connection, verdict: str, target: str | None = None, cause: str = "default"
) -> None:
    """Carry out a verdict on a connection whose gate is still shut."""
    connection.pending = None
    world.publish(VerdictReached(world.now, connection.key, connection.version, Verdict(verdict), cause, target))
    if verdict == Verdict.MIGRATE.value and target is not None:
        connection.state = State.MOVING
        migration.start(world, connection, world.policy.servers[target])
    elif verdict == Verdict.DROP.value:
        drop(world, connection)
    else:
        rollback.serve(world, connection)


def drop(world: World, connection: Connection) -> None:
    """Cut the connection off: the origin is reset, the client hears nothing more."""
    path = connection.path
    stand_in.reset_server(world, connection, path, seq.add(connection.client.isn, 1))
    _remove(world, connection)
    world.do(pipeline.silence_flow(connection, path.server, path.port, path.alias))
    world.publish(ConnectionClosed(world.now, connection.key, connection.version, "dropped"))


def _finish(world: World, connection: Connection, event: SegmentReceived) -> None:
    """A copy of a FIN: when both sides have sent theirs the connection is over."""
    if event.segment.src == connection.key.client:
        connection.client.finished = True
    else:
        connection.origin.finished = True
    if connection.client.finished and connection.origin.finished:
        _linger(world, connection, "fin")


def _note_fin(world: World, connection: Connection, event: SegmentReceived) -> None:
    """A copy of a FIN while the gate is shut: the client's is held like data, the origin's counts."""
    if event.segment.src == connection.key.service:
        connection.origin.hear(event.segment)
        connection.origin.finished = True


def _linger(world: World, connection: Connection, reason: str) -> None:
    """Let the flows go once they fall silent."""
    path = connection.path
    connection.state = State.CLOSING
    world.do(*pipeline.path_flows(connection, path, idle_timeout=LINGER))
    world.publish(ConnectionClosed(world.now, connection.key, connection.version, reason))


def _verify_reset(world: World, connection: Connection, event: SegmentReceived) -> None:
    """A copy of a RST on a served connection.

    The server's word counts: the engine has made sure that it entered at the server's port. The client's can be
    forged, and in the fast path nobody knows the exact number that RFC 5961 asks for. So the server is asked with a
    bare ACK: if it has no such connection any more it answers with a RST of its own, else the client sees one more
    duplicate ACK.
    """
    if event.segment.src != connection.key.client:
        _linger(world, connection, "rst")
        return
    path = connection.path
    question = stand_in.as_client(connection, seq.add(connection.client.isn, 1), connection.origin.next)
    stand_in.to_server(world, connection, path, question)


def _reset(world: World, connection: Connection, event: SegmentReceived) -> None:
    """A RST while the gate is shut: believe it only at the exact number (RFC 5961 section 3)."""
    segment = event.segment
    if segment.src == connection.key.client:
        if segment.seq not in (connection.client.next, connection.origin.acked):
            return
        stand_in.reset_server(world, connection, connection.path, seq.add(connection.client.isn, 1))
    elif connection.agreement is not None and segment.seq != connection.origin.next:
        # Without an agreement the handshake was refused: sequence number 0 (RFC 9293 section 3.10.7.1).
        return
    rollback.abandon(world, connection)
    _close(world, connection, "rst")


def _late(world: World, connection: Connection, event: object) -> None:
    """Nobody said anything in time."""
    decide(world, connection, connection.service.default_verdict.value, None, "default")


def _expire(world: World, connection: Connection, event: object) -> None:
    """The flow saw nothing for the idle time."""
    rollback.abandon(world, connection)
    _close(world, connection, "idle")


def _give_up(world: World, connection: Connection, event: object) -> None:
    """The handshake did not finish."""
    _close(world, connection, "half-open")


def _forget(world: World, connection: Connection, event: object) -> None:
    """Retransmissions have had their time."""
    _remove(world, connection)


def _close(world: World, connection: Connection, reason: str) -> None:
    """Free everything that belongs to a connection, now."""
    world.publish(ConnectionClosed(world.now, connection.key, connection.version, reason))
    _remove(world, connection)


def _remove(world: World, connection: Connection) -> None:
    """Take the flows out and forget the connection."""
    path = connection.path
    tap.end(world, connection)
    world.do(pipeline.removal(connection, pipeline.from_client(connection)))
    world.do(pipeline.removal(connection, pipeline.back(connection, path)))
    world.forget(connection)


def judge(world: World, connection: Connection, rule: Rule, cause: str) -> None:
    """A rule has spoken; the first verdict counts, and one that overtakes its packet is kept for it."""
    if rule.verdict is Verdict.RETURN and connection.state is not State.SERVED:
        return
    if connection.state in (State.OPENING, State.GATED):
        connection.pending = connection.pending or (rule.verdict.value, rule.target, cause)
    elif connection.state is State.HELD:
        decide(world, connection, rule.verdict.value, rule.target, cause)
    elif connection.state is State.SERVED and not connection.service.gated:
        move(world, connection, rule.verdict.value, rule.target, cause)


def _ignore(world: World, connection: Connection, event: object) -> None:
    """Nothing to do: stale or already done."""


Handler = Callable[[World, Connection, SegmentReceived], None]

_ORDER = (State.OPENING, State.GATED, State.HELD, State.MOVING, State.SERVED, State.CLOSING)
_ROWS: dict[Input, tuple[Handler, ...]] = {
    Input.CLIENT_SYN: (_reopen, _challenge, _challenge, _challenge, _challenge, _supersede),
    Input.CLIENT_ACK: (_confirm, _acknowledge, _acknowledge, _acknowledge, _straggle, _straggle),
    Input.CLIENT_DATA: (_confirm, _hold, _hold, _hold, _straggle, _straggle),
    Input.ORIGIN_SYNACK: (_answered, _ignore, _ignore, _ignore, _ignore, _ignore),
    Input.ORIGIN_SEGMENT: (_ignore, _overhear, _overhear, _overhear, _ignore, _ignore),
    Input.VERDICT_LATE: (_ignore, _ignore, _late, _ignore, _ignore, _ignore),
    Input.HALF_OPEN_OVER: (_give_up, _ignore, _ignore, _ignore, _ignore, _ignore),
    Input.FIN: (_ignore, _note_fin, _note_fin, _note_fin, _finish, _ignore),
    Input.RST: (_reset, _reset, _reset, _reset, _verify_reset, _ignore),
    Input.IDLE: (_give_up, _expire, _expire, _expire, _expire, _forget),
}
TABLE: dict[tuple[State, Input], Handler] = {
    (state, row): handler for row, handlers in _ROWS.items() for state, handler in zip(_ORDER, handlers, strict=True)
}


MOVES: dict[tuple[State, Input | None], tuple[State | None, ...]] = {
    (State.OPENING, Input.CLIENT_ACK): (State.GATED, State.SERVED),
    (State.OPENING, Input.CLIENT_DATA): (State.HELD, State.MOVING, State.SERVED, None),
    (State.OPENING, Input.CLIENT_SYN): (None,),
    (State.OPENING, Input.HALF_OPEN_OVER): (None,),
    (State.OPENING, Input.IDLE): (None,),
    (State.OPENING, Input.RST): (None,),
    (State.GATED, Input.CLIENT_DATA): (State.HELD, State.MOVING, State.SERVED, None),
    (State.GATED, Input.IDLE): (None,),
    (State.GATED, Input.RST): (None,),
    (State.HELD, None): (State.MOVING, State.SERVED, None),
    (State.HELD, Input.VERDICT_LATE): (State.SERVED, None),
    (State.HELD, Input.IDLE): (None,),
    (State.HELD, Input.RST): (None,),
    (State.MOVING, None): (State.SERVED,),
    (State.MOVING, Input.IDLE): (None,),
    (State.MOVING, Input.RST): (None,),
    (State.SERVED, Input.FIN): (State.CLOSING,),
    (State.SERVED, Input.RST): (State.CLOSING,),
    (State.SERVED, Input.IDLE): (None,),
    (State.CLOSING, Input.CLIENT_SYN): (None,),
    (State.CLOSING, Input.IDLE): (None,),
}
"""Which states may follow (None: forgotten); the input None is a verdict, or the end of a migration.

Kept for the diagram of the documentation; a test checks that the machine makes these moves and no other.
"""


def handle(world: World, connection: Connection, what: Input, event: SegmentReceived) -> None:
    """Do what the table says; raises TransitionError for a pair that it does not list."""
    handler = TABLE.get((connection.state, what))
    if handler is None:
        raise TransitionError(connection.state, what)
    handler(world, connection, event)

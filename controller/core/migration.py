# SPDX-License-Identifier: Apache-2.0
"""Moving a connection to a target: handshake, proof, final flows, release; and what happens when any of it fails.

The target is given a handshake with the client's own options, cut down to what the origin agreed to. It counts as
established when it has answered the exact probe: one byte below the next one due (RFC 9293 section 3.10.7.4: an
unacceptable segment is answered with an ACK of the exact numbers). A full accept queue or TCP_DEFER_ACCEPT answers
for a half-open connection too, but without the D-SACK (RFC 2883) of a real one.

Until the final flows stand, any failure leaves the connection with its origin, with nothing lost.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from controller.core import pipeline, seq
from controller.core.commands import Barrier, ResolveHost
from controller.core.connection import Attempt, Connection, Path, Phase, State
from controller.core.errors import NotMigratableError, TransitionError
from controller.core.events import MigrationCompleted, MigrationFailed, MigrationStarted, TargetEstablished
from controller.core.options import agree, check_target, offer
from controller.core.policy import Server
from controller.core.segment import (
    ACK,
    CWR,
    ECE,
    FIN,
    NO_OPTIONS,
    PSH,
    RST,
    SYN,
    Segment,
    TcpOptions,
    Timestamps,
)
from controller.core.world import World

RETRIES = 3
"""A SYN or probe is sent up to this many times, spread evenly over the service's handshake timeout."""
PROBE_BYTE = b"\0"
"""What a probe carries in place of a byte that was delivered long ago; nobody reads it."""


class Input(Enum):
    """What can happen to a migration under way."""

    LOCATED = "target located"
    SYNACK = "target SYN-ACK"
    SEGMENT = "target segment"
    RESET = "target RST"
    RETRY = "retry"
    DEADLINE = "deadline"
    DONE = "flows stand"
    REFUSED = "switch refused"


def start(world: World, connection: Connection, target: Server) -> None:
    """Begin to move a connection whose client data is being held."""
    connection.version += 1
    service = connection.service
    attempt = Attempt(
        target=target,
        version=connection.version,
        phase=Phase.LOCATING,
        started=world.now,
        deadline=world.now + service.handshake_timeout,
        # The target counts the client's bytes as the origin would have: client_delta stays 0.
        syn_seq=connection.client.isn,
    )
    connection.attempt = attempt
    world.publish(MigrationStarted(world.now, connection.key, connection.version, service.origin.name, target.name))
    world.wake(connection, service.handshake_timeout, "deadline")
    if connection.agreement is None or target.endpoint == service.origin.endpoint:
        fail(world, connection, "target", "the connection is there already")
    elif connection.origin.finished:
        fail(world, connection, "closing", "the origin has closed its half already")
    elif (connection.key.client, target.endpoint) in world.targets:
        fail(world, connection, "in use", "another connection of this client's port is at the target")
    else:
        location = world.locations.find(connection.switch, target.endpoint.address)
        if location is not None:
            _connect(world, connection, attempt, (location.port, target.mac or location.mac))
        else:
            world.locating.setdefault(target.endpoint.address, []).append(connection.key)
            world.do(ResolveHost(connection.switch, target.endpoint.address))


def _connect(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """The target's place is known: listen for its answer, then send it the client's SYN."""
    attempt.port, attempt.mac = event  # type: ignore[misc]
    attempt.phase = Phase.CONNECTING
    world.aim(connection, attempt.target.endpoint)
    world.do(pipeline.handshake_flow(connection, attempt.target, attempt.port))
    _retry(world, connection, attempt, None)


def _retry(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """Send what the target owes an answer to, and come back if it stays silent."""
    if attempt.phase is Phase.CONNECTING:
        _send(world, connection, attempt, _syn(connection, attempt))
    else:
        _probe(world, connection, attempt)
    world.wake(connection, connection.service.handshake_timeout / RETRIES, "retry")


def _syn(connection: Connection, attempt: Attempt) -> Segment:
    """Return the SYN to the target: the client's own, cut down to what the origin agreed to."""
    agreement = connection.agreement
    assert agreement is not None
    options = offer(agreement)
    if agreement.timestamps:
        options = TcpOptions(
            options.mss, options.window_scale, options.sack_permitted, (), Timestamps(_client_clock(connection), 0)
        )
    flags = SYN | (ECE | CWR if agreement.ecn else 0)
    return _as_client(connection, attempt, attempt.syn_seq, 0, flags, connection.syn.window, options)


def _client_clock(connection: Connection) -> int:
    """Return the newest TSval heard from the client: never ahead of its clock (RFC 7323 section 5, PAWS)."""
    stamps = connection.client.timestamps
    return stamps.value if stamps is not None else 0


def _as_client(
    connection: Connection,
    attempt: Attempt,
    number: int,
    ack: int,
    flags: int,
    window: int,
    options: TcpOptions = NO_OPTIONS,
    payload: bytes = b"",
) -> Segment:
    """Return a segment to the target that claims to be the client's."""
    syn = connection.syn
    return Segment(
        src=connection.key.client,
        dst=attempt.target.endpoint,
        seq=number,
        ack=ack,
        flags=flags,
        window=window,
        options=options,
        payload=payload,
        eth_src=syn.eth_src,
        eth_dst=attempt.mac,
        vlan=syn.vlan,
        ttl=syn.ttl,
        tos=syn.tos,
    )


def _send(world: World, connection: Connection, attempt: Attempt, segment: Segment) -> None:
    """Send a segment to the target."""
    world.send(connection, segment, attempt.port)


def _synack(world: World, connection: Connection, attempt: Attempt, event: Segment) -> None:
    """The target's SYN-ACK: if it agrees to all that the origin agreed to, finish the handshake and ask for proof."""
    if event.ack != seq.add(attempt.syn_seq, 1):
        return
    attempt.target_isn = event.seq
    attempt.target_next = seq.add(event.seq, 1)
    attempt.agreement = agree(_syn(connection, attempt), event)
    _hear_clock(attempt, event)
    assert connection.agreement is not None
    try:
        check_target(connection.agreement, attempt.agreement)
    except NotMigratableError as error:
        fail(world, connection, error.reason, str(error))
        return
    attempt.phase = Phase.PROBING
    ack = _acknowledgement(connection, attempt)
    _send(world, connection, attempt, ack)
    _probe(world, connection, attempt)


def _acknowledgement(connection: Connection, attempt: Attempt) -> Segment:
    """Return a bare ACK of all that the target has said."""
    number = seq.add(attempt.syn_seq, 1)
    window, options = connection.client.window, _stamped(connection, attempt)
    return _as_client(connection, attempt, number, attempt.target_next, ACK, window, options)


def _stamped(connection: Connection, attempt: Attempt) -> TcpOptions:
    """Return the options of an ordinary segment to the target."""
    if connection.agreement is None or not connection.agreement.timestamps:
        return NO_OPTIONS
    return TcpOptions(timestamps=Timestamps(_client_clock(connection), attempt.tsval))


def _probe(world: World, connection: Connection, attempt: Attempt) -> None:
    """Ask for the exact numbers: one byte that the target has had (here: the SYN's own)."""
    window, options = connection.client.window, _stamped(connection, attempt)
    flags = ACK | PSH
    probe = _as_client(connection, attempt, attempt.syn_seq, attempt.target_next, flags, window, options, PROBE_BYTE)
    _send(world, connection, attempt, probe)


def _hear_clock(attempt: Attempt, segment: Segment) -> None:
    """Keep the target's newest TSval."""
    if segment.options.timestamps is not None:
        attempt.tsval = segment.options.timestamps.value


def _proof(world: World, connection: Connection, attempt: Attempt, event: Segment) -> None:
    """Something the target said after its handshake: its banner, or the answer to the probe."""
    if seq.is_before(event.seq, attempt.target_next) or event.ack != seq.add(attempt.syn_seq, 1):
        if event.has(SYN):  # our ACK was lost or not taken: the retry asks again
            _hear_clock(attempt, event)
        return
    _hear_clock(attempt, event)
    if event.has(FIN):
        fail(world, connection, "closed", "the target closed the connection at once")
        return
    if event.payload:
        if not attempt.target.discards_banner:
            fail(world, connection, "banner", 'the target speaks first; set `banner = "discard"` if that may be lost')
        elif event.seq == attempt.target_next:
            attempt.target_next = seq.add(event.seq, len(event.payload))
            attempt.banner += len(event.payload)
            _send(world, connection, attempt, _acknowledgement(connection, attempt))
            _probe(world, connection, attempt)
        return
    if attempt.agreement is not None and attempt.agreement.sack and not event.options.sack:
        return
    if event.seq != attempt.target_next:
        return
    _established(world, connection, attempt)


def _established(world: World, connection: Connection, attempt: Attempt) -> None:
    """The target stands: compute how its numbers differ from the origin's, and wait for the client to be up to date."""
    agreement, mine = connection.agreement, attempt.agreement
    assert agreement is not None
    assert mine is not None
    shift = 0
    if agreement.timestamps and connection.origin.timestamps is not None:
        # The client must never see the server's clock go back: the target continues from the newest TSval shown.
        shift = seq.distance(attempt.tsval, connection.origin.timestamps.value)
    attempt.path = Path(
        server=attempt.target,
        port=attempt.port,
        mac=attempt.mac,
        client_delta=0,
        server_delta=seq.distance(connection.origin.next, attempt.target_next),
        tsval_shift=shift,
        window_shift=(mine.window_scale or 0) - (agreement.window_scale or 0),
    )
    world.publish(
        TargetEstablished(world.now, connection.key, attempt.version, attempt.target.name, 0, attempt.path.server_delta)
    )
    attempt.phase = Phase.COMMITTING
    advance(world, connection)


def advance(world: World, connection: Connection) -> None:
    """Install the final flows once the client has acknowledged all that the origin said (the server's cut)."""
    attempt = connection.attempt
    if attempt is None or attempt.phase is not Phase.COMMITTING or attempt.token:
        return
    if connection.client.acked != connection.origin.next:
        return
    path, old = attempt.path, connection.path
    assert path is not None
    attempt.token = world.token(connection)
    world.do(
        pipeline.silence_flow(connection, old.server, old.port),
        *pipeline.path_flows(connection, path, attempt.token),
        Barrier(connection.switch, attempt.token),
    )


def _commit(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """The final flows stand: the held data goes to the target, the origin's half is reset."""
    held_bytes = connection.held_bytes
    assert attempt.path is not None
    reset_origin(world, connection)
    connection.path, connection.attempt = attempt.path, None
    connection.origin.finished = False
    _release_held(world, connection)
    world.settle(connection, State.SERVED)
    world.publish(
        MigrationCompleted(
            world.now,
            connection.key,
            attempt.version,
            connection.service.origin.name,
            attempt.target.name,
            client_cut=seq.add(connection.client.isn, 1),
            server_cut=connection.origin.next,
            held_bytes=held_bytes,
        )
    )


def _release_held(world: World, connection: Connection) -> None:
    """Send the held packets, in the order of their bytes, through the flows that stand now."""
    start = seq.add(connection.client.isn, 1)
    held, connection.held, connection.held_bytes = connection.held, {}, 0
    for number in sorted(held, key=lambda number: seq.distance(start, number)):
        world.release(connection, connection.client_port, held[number][1])


def serve(world: World, connection: Connection) -> None:
    """Let the server of the present path serve the connection, in the fast path alone; the held data goes there."""
    path = connection.path
    world.settle(connection, State.SERVED)
    world.do(*pipeline.path_flows(connection, path))
    _release_held(world, connection)


def reset_origin(world: World, connection: Connection) -> None:
    """Reset the origin's half with an in-window RST (RFC 5961 section 3: exactly its next byte due)."""
    path, syn = connection.path, connection.syn
    reset = Segment(
        src=connection.key.client,
        dst=path.server.endpoint,
        seq=seq.add(connection.client.isn, 1),
        ack=connection.origin.next,
        flags=RST | ACK,
        window=0,
        eth_src=syn.eth_src,
        eth_dst=path.mac,
        vlan=syn.vlan,
        ttl=syn.ttl,
    )
    world.send(connection, reset, path.port)


def abandon(world: World, connection: Connection) -> None:
    """Give up a migration under way, if there is one: the target's half is reset and kept from the client."""
    attempt, connection.attempt = connection.attempt, None
    if attempt is None:
        return
    world.tokens.pop(attempt.token, None)
    if attempt.phase is Phase.LOCATING:
        waiting = world.locating.get(attempt.target.endpoint.address, [])
        if connection.key in waiting:
            waiting.remove(connection.key)
        return
    if attempt.agreement is not None:
        number = seq.add(attempt.syn_seq, 1)
        reset = _as_client(connection, attempt, number, attempt.target_next, RST | ACK, 0)
        _send(world, connection, attempt, reset)
    world.unaim(connection, attempt.target.endpoint)
    world.do(pipeline.silence_flow(connection, attempt.target, attempt.port))


def fail(world: World, connection: Connection, reason: str, detail: str) -> None:
    """Give up: the origin serves the connection as if nothing had been tried."""
    attempt = connection.attempt
    assert attempt is not None
    abandon(world, connection)
    world.publish(MigrationFailed(world.now, connection.key, attempt.version, attempt.target.name, reason, detail))
    serve(world, connection)


def _deadline(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """Time is up."""
    detail = {
        Phase.LOCATING: "nobody answered for its address",
        Phase.CONNECTING: "no SYN-ACK",
        Phase.PROBING: "it answers the handshake but never proved to be established (accept queue full?)",
        Phase.COMMITTING: "the client or the switch did not get there in time",
    }[attempt.phase]
    fail(world, connection, "timeout", detail)


def _refused(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """The target answered with a RST."""
    if event.ack == seq.add(attempt.syn_seq, 1) or attempt.phase is not Phase.CONNECTING:  # type: ignore[attr-defined]
        fail(world, connection, "refused", "the target reset the connection")


def _switch_refused(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """The switch would not take a flow."""
    fail(world, connection, "switch", f"the switch refused a flow: {event}")


def _ignore(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """Nothing to do: stale or already done."""


def _misplaced(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """A late packet of the target while the final flows are being put in: send it through them."""
    assert isinstance(event, Segment)
    if event.length and not event.has(SYN):
        world.release(connection, attempt.port, event.frame or event)


Handler = Callable[[World, Connection, Attempt, "object"], None]

_ORDER = (Phase.LOCATING, Phase.CONNECTING, Phase.PROBING, Phase.COMMITTING)
_ROWS: dict[Input, tuple[Callable[..., None], ...]] = {
    Input.LOCATED: (_connect, _ignore, _ignore, _ignore),
    Input.SYNACK: (_ignore, _synack, _proof, _ignore),
    Input.SEGMENT: (_ignore, _ignore, _proof, _misplaced),
    Input.RESET: (_ignore, _refused, _refused, _refused),
    Input.RETRY: (_ignore, _retry, _retry, _ignore),
    Input.DEADLINE: (_deadline, _deadline, _deadline, _deadline),
    Input.DONE: (_ignore, _ignore, _ignore, _commit),
    Input.REFUSED: (_ignore, _switch_refused, _switch_refused, _switch_refused),
}
TABLE: dict[tuple[Phase, Input], Callable[..., None]] = {
    (phase, row): handler for row, handlers in _ROWS.items() for phase, handler in zip(_ORDER, handlers, strict=True)
}


def handle(world: World, connection: Connection, what: Input, event: object) -> None:
    """Do what the table says for the migration under way; without one, nothing (its news is stale)."""
    attempt = connection.attempt
    if attempt is None:
        return
    handler = TABLE.get((attempt.phase, what))
    if handler is None:
        raise TransitionError(attempt.phase, what)
    handler(world, connection, attempt, event)

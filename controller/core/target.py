# SPDX-License-Identifier: Apache-2.0
"""Making a connection stand at the target, before anything is taken from the server that serves.

The target is given a handshake with the client's own options, cut down to what the origin agreed to. It counts as
established when it has answered the exact probe, an old byte (RFC 9293 section 3.10.7.4). A full accept queue or
TCP_DEFER_ACCEPT answers for a half-open connection too, but without the D-SACK (RFC 2883) of a real one.
"""

from __future__ import annotations

from dataclasses import replace

from controller.core import pipeline, seq, stand_in
from controller.core.ahead import begin
from controller.core.connection import Attempt, Connection, Phase
from controller.core.errors import NotMigratableError
from controller.core.events import TargetEstablished
from controller.core.options import agree, check_target, offer
from controller.core.rollback import fail, shifted
from controller.core.segment import ACK, CWR, ECE, FIN, SYN, Segment, Timestamps
from controller.core.world import World

NO_PORT = "the target has connections of all ports that could stand for the client's own"
RETRIES = 3
"""A SYN or probe is sent up to this many times, spread evenly over the service's handshake timeout."""


def connect(world: World, connection: Connection, attempt: Attempt, place: tuple[int, str]) -> None:
    """The target's place is known: listen for its answer, then send it the client's SYN."""
    attempt.port, attempt.mac = place
    endpoint = attempt.target.endpoint
    if world.is_taken(connection, connection.key.client, endpoint):
        attempt.alias = world.elsewhere(connection, endpoint)
        if attempt.alias is None:
            fail(world, connection, "in use", NO_PORT)
            return
    attempt.phase = Phase.CONNECTING
    _listen(world, connection, attempt)
    retry(world, connection, attempt, None)


def _listen(world: World, connection: Connection, attempt: Attempt) -> None:
    """Have what the target says handed over."""
    world.aim(connection, attempt.target.endpoint, attempt.alias)
    world.do(pipeline.handshake_flow(connection, attempt))


def retry(world: World, connection: Connection, attempt: Attempt, event: object) -> None:
    """Send what the target owes an answer to, and come back if it stays silent."""
    if attempt.phase is Phase.CONNECTING:
        stand_in.to_target(world, connection, attempt, _syn(connection, attempt))
    else:
        stand_in.probe_target(world, connection, attempt)
    world.wake(connection, connection.service.handshake_timeout / RETRIES, "retry")


def _syn(connection: Connection, attempt: Attempt) -> Segment:
    """Return the SYN to the target: the client's own, cut down to what the origin agreed to."""
    agreement = connection.agreement
    assert agreement is not None
    options = offer(agreement)
    if agreement.timestamps:
        options = replace(options, timestamps=Timestamps(stand_in.clock_of(connection.client), 0))
    flags = SYN | (ECE | CWR if agreement.ecn else 0)
    window = connection.syn.window
    return stand_in.as_client_at(connection, attempt, attempt.syn_seq, 0, flags, window, options)


def synack(world: World, connection: Connection, attempt: Attempt, event: Segment) -> None:
    """The target's SYN-ACK: if it agrees to all that the origin agreed to, finish the handshake and ask for proof."""
    if event.ack != seq.add(attempt.syn_seq, 1):
        return
    attempt.target_isn = event.seq
    attempt.target_next = seq.add(event.seq, 1)
    attempt.agreement = agree(_syn(connection, attempt), event)
    _hear(attempt, event)
    assert connection.agreement is not None
    try:
        check_target(connection.agreement, attempt.agreement)
    except NotMigratableError as error:
        fail(world, connection, error.reason, str(error))
        return
    attempt.phase = Phase.PROBING
    _acknowledge(world, connection, attempt)
    stand_in.probe_target(world, connection, attempt)


def clear(world: World, connection: Connection, attempt: Attempt, event: Segment) -> None:
    """The target has another connection of this client's port: it challenges our SYN (RFC 5961 section 4), or speaks.

    It may be one that the client has made itself, so it is not ours to reset: what was handed over of it is given back,
    and the target gets its SYN from another port.
    """
    if not event.has(ACK) or event.ack == seq.add(attempt.syn_seq, 1):
        return
    endpoint = attempt.target.endpoint
    world.unaim(connection, endpoint, attempt.alias)
    world.do(pipeline.removal(connection, pipeline.from_target(connection, attempt)))
    world.release(connection, attempt.port, event.frame or event)
    client = world.elsewhere(connection, endpoint, attempt.alias)
    if client is None:
        attempt.phase = Phase.LOCATING  # nothing there is ours, to be reset or silenced
        fail(world, connection, "in use", NO_PORT)
        return
    attempt.alias = client
    _listen(world, connection, attempt)
    stand_in.to_target(world, connection, attempt, _syn(connection, attempt))


def _acknowledge(world: World, connection: Connection, attempt: Attempt) -> None:
    """Acknowledge all that the target has said."""
    ack = stand_in.as_client_at(connection, attempt, seq.add(attempt.syn_seq, 1), attempt.target_next)
    stand_in.to_target(world, connection, attempt, ack)


def _hear(attempt: Attempt, segment: Segment) -> None:
    """Keep the target's newest TSval, identification and window."""
    if segment.options.timestamps is not None:
        attempt.tsval = segment.options.timestamps.value
    if not segment.has(SYN):
        attempt.window, attempt.ip_id = segment.window, segment.ip_id


def prove(world: World, connection: Connection, attempt: Attempt, event: Segment) -> None:
    """Something the target said after its handshake: its banner, or the answer to the probe."""
    if event.ack != seq.add(attempt.syn_seq, 1):
        return
    _hear(attempt, event)
    if event.has(SYN) or seq.is_before(event.seq, attempt.target_next):
        return  # our ACK was lost or not taken: the retry asks again
    if event.has(FIN):
        fail(world, connection, "closed", "the target closed the connection at once")
    elif event.payload:
        _banner(world, connection, attempt, event)
    elif attempt.agreement is not None and attempt.agreement.sack and not event.options.sack:
        return
    elif not _shown_window(connection, attempt):
        fail(world, connection, "window", "its window is too small to be told in the origin's window scale")
    elif event.seq == attempt.target_next:
        facts = (connection.key, attempt.version, attempt.target.name)
        world.publish(TargetEstablished(world.now, *facts))
        begin(world, connection, attempt)


def _shown_window(connection: Connection, attempt: Attempt) -> int:
    """Return the target's window field as the client will be shown it, in the origin's scale."""
    assert connection.agreement is not None
    assert attempt.agreement is not None
    return shifted(attempt.window, (attempt.agreement.window_scale or 0) - (connection.agreement.window_scale or 0))


def _banner(world: World, connection: Connection, attempt: Attempt, event: Segment) -> None:
    """The target speaks first: refuse it, or take what it says and throw it away, by the operator's choice."""
    if not attempt.target.discards_banner:
        fail(world, connection, "banner", 'the target speaks first; set `banner = "discard"` if that may be lost')
    elif event.seq == attempt.target_next:
        attempt.target_next = seq.add(event.seq, len(event.payload))
        attempt.banner += len(event.payload)
        _acknowledge(world, connection, attempt)
        stand_in.probe_target(world, connection, attempt)


def speak(world: World, connection: Connection, attempt: Attempt, event: Segment) -> None:
    """The target stands, and says something before the connection is its own: a late banner, its end, or its clock."""
    if event.has(FIN):
        fail(world, connection, "closed", "the target closed the connection before it was moved")
    elif event.payload:
        _banner(world, connection, attempt, event)
    elif event.ack == seq.add(attempt.syn_seq, 1) and not event.has(SYN):
        _hear(attempt, event)


def reset(world: World, connection: Connection, attempt: Attempt, event: Segment) -> None:
    """The target answered with a RST; during the handshake it must acknowledge our SYN (RFC 9293 3.10.7.3)."""
    if event.ack == seq.add(attempt.syn_seq, 1) or attempt.phase is not Phase.CONNECTING:
        fail(world, connection, "refused", "the target reset the connection")

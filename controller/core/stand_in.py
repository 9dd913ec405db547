# SPDX-License-Identifier: Apache-2.0
"""Segments that the controller sends in the name of one end to the other: probes, acknowledgements, resets.

All are written in the client's view of the numbers; the switch translates them on the way to the server that serves
the connection (``to_server``), as it does with the client's own.
"""

from __future__ import annotations

from controller.core import pipeline, seq
from controller.core.commands import Action, Output, PacketOut, Rewrite
from controller.core.connection import Attempt, Connection, Kept, Path, Side
from controller.core.segment import ACK, NO_OPTIONS, PSH, RST, Segment, TcpOptions, Timestamps
from controller.core.world import World

DSCP = 0xFC
"""The part of the traffic class that is not ECN's."""
PROBE_BYTE = b"\0"
"""What a probe carries in place of a byte that was delivered long ago; nobody reads it."""


def clock_of(side: Side) -> int:
    """Return the newest TSval heard from a side: never ahead of its clock (RFC 7323 section 5, PAWS)."""
    return side.timestamps.value if side.timestamps is not None else 0


def renewed(side: Side, kept: Kept) -> tuple[Action, ...]:
    """Return the edit of a packet that was kept for a while: its side has said something newer since.

    An older timestamp may be refused (PAWS), and so may be an older acknowledgement: one of bytes that the next server
    has never sent is nothing to it, with all the data behind it (RFC 5961 section 5; Linux 6.7 and later).
    """
    clock = 0 if kept.clock is None else seq.distance(kept.clock, clock_of(side))
    is_older = kept.ack is not None and side.acked is not None and seq.is_after(side.acked, kept.ack)
    ack = seq.distance(kept.ack or 0, side.acked or 0) if is_older else 0
    return (Rewrite(tsval=clock, ack=ack),) if clock or ack else ()


def _stamps(connection: Connection, value: int, echo: int) -> TcpOptions:
    """Return the options of an ordinary segment."""
    if connection.agreement is None or not connection.agreement.timestamps:
        return NO_OPTIONS
    return TcpOptions(timestamps=Timestamps(value, echo))


def as_client(
    connection: Connection,
    number: int,
    ack: int,
    flags: int = ACK,
    window: int | None = None,
    payload: bytes = b"",
) -> Segment:
    """Return a segment that claims to be the client's, addressed as the client would."""
    syn = connection.syn
    return Segment(
        src=connection.key.client,
        dst=connection.key.service,
        seq=number,
        ack=ack,
        flags=flags,
        window=connection.client.window if window is None else window,
        options=_stamps(connection, clock_of(connection.client), clock_of(connection.origin)),
        payload=payload,
        eth_src=syn.eth_src,
        eth_dst=syn.eth_dst,
        vlan=syn.vlan,
        ttl=syn.ttl,
    )


def as_server(connection: Connection, number: int, ack: int, window: int, payload: bytes = b"") -> Segment:
    """Return a segment that claims to be the server's, as the client knows it; it takes the next identification."""
    syn, server = connection.syn, connection.origin
    if server.ip_id:
        server.ip_id = (server.ip_id + 1) & 0xFFFF
    return Segment(
        src=connection.key.service,
        dst=connection.key.client,
        seq=number,
        ack=ack,
        flags=ACK | PSH if payload else ACK,
        window=window,
        options=_stamps(connection, clock_of(connection.origin), clock_of(connection.client)),
        payload=payload,
        eth_src=syn.eth_dst,
        eth_dst=syn.eth_src,
        vlan=syn.vlan,
        ttl=server.ttl or connection.path.ttl or syn.ttl,
        tos=server.tos & DSCP,
        ip_id=server.ip_id or 0,
    )


def as_client_at(
    connection: Connection,
    attempt: Attempt,
    number: int,
    ack: int,
    flags: int = ACK,
    window: int | None = None,
    options: TcpOptions | None = None,
    payload: bytes = b"",
) -> Segment:
    """Return a segment to a migration's target, in the target's own numbers."""
    syn = connection.syn
    return Segment(
        src=attempt.alias or connection.key.client,
        dst=attempt.target.endpoint,
        seq=number,
        ack=ack,
        flags=flags,
        window=connection.client.window if window is None else window,
        options=_stamps(connection, clock_of(connection.client), attempt.tsval) if options is None else options,
        payload=payload,
        eth_src=syn.eth_src,
        eth_dst=attempt.mac,
        vlan=syn.vlan,
        ttl=syn.ttl,
        tos=syn.tos,
    )


def to_server(world: World, connection: Connection, path: Path, segment: Segment) -> None:
    """Send a segment along a path; the switch translates it."""
    actions = pipeline.to_server_actions(connection, path)
    world.do(PacketOut(connection.switch, segment, actions, connection.client_port, connection.mss))


def to_client(world: World, connection: Connection, segment: Segment) -> None:
    """Send a segment to the client as it is."""
    world.do(PacketOut(connection.switch, segment, (Output(connection.client_port),), mss=connection.mss))


def to_target(world: World, connection: Connection, attempt: Attempt, segment: Segment) -> None:
    """Send a segment to a migration's target as it is."""
    world.do(PacketOut(connection.switch, segment, (Output(attempt.port),), mss=connection.mss))


def reset_server(world: World, connection: Connection, path: Path, number: int) -> None:
    """Reset a server's half with an in-window RST (RFC 5961 section 3: exactly its next byte due)."""
    reset = as_client(connection, number, connection.origin.next, RST | ACK, 0)
    to_server(world, connection, path, reset)


def probe_target(world: World, connection: Connection, attempt: Attempt) -> None:
    """Ask a migration's target for its exact numbers with a byte that it has had (here: the SYN's own place)."""
    number, payload = old_byte(seq.add(attempt.syn_seq, 1))
    probe = as_client_at(connection, attempt, number, attempt.target_next, ACK | PSH, payload=payload)
    to_target(world, connection, attempt, probe)


def old_byte(number: int) -> tuple[int, bytes]:
    """Return sequence number and payload of a probe to a peer whose next byte due is ``number``.

    One byte that it has had: unacceptable, so it answers at once with an ACK of its exact numbers, however often it is
    asked, and delivers nothing (RFC 9293 section 3.10.7.4).
    """
    return seq.add(number, -1), PROBE_BYTE

# SPDX-License-Identifier: Apache-2.0
"""Data in: runs of slices opened, checked and handed to the tunnel as inner packets, each once.

Data in clear (`Kind.DATA_PLAIN`) is never a step of the flow machine and marks nothing: it cannot move an address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from controller.eccp import peer_step, peer_timers
from controller.eccp.batch import NUMBER_AT, headers, heads_apart, nonces
from controller.eccp.connection import FlowEntry
from controller.eccp.errors import RefusedError
from controller.eccp.flow import Step
from controller.eccp.names import Action, Message
from controller.eccp.outputs import Buffer, Delivery, FirstData
from controller.eccp.slices import WIRE, inner_source, join, parse_head
from controller.wire.eccp import (
    COUNT_MASK,
    HEADER_SIZE,
    INDEX_ONE,
    RESENT,
    TAG_SIZE,
    Address,
    Header,
    Kind,
)

if TYPE_CHECKING:
    from controller.eccp.peer import Peer

_NONCE_HEAD = b"\0\0\0\0"
MAX_NUMBER = 2**64 - 1


def receive_run(
    peer: Peer, header: Header, view: memoryview, at: int, step: int, source: Address, own: Address, now: float
) -> int:
    """Handle the run of consecutive slices of one frame that begins at ``at``; returns where it ends.

    A refused slice is counted and skipped; the ones before and after it are delivered.
    """
    size = len(view)
    aux = header.aux
    count = aux & COUNT_MASK
    index = (aux & ~RESENT) >> 7
    length = _run_length(header, view, at, step, min(count - index, -(-(size - at) // step)))
    end = min(at + length * step, size)
    try:
        entry = peer.flow(header.flow)
        if not count or index + length > count or end - (at + (length - 1) * step) < HEADER_SIZE + WIRE.size:
            raise RefusedError("slice-head", f"slice {index} of {count}")
        if entry.keys_in is None or not entry.is_open:
            raise RefusedError("no-keys", "data before the handshake")
        _OPENERS[header.kind](peer, entry, header, view[at:end], step, length, source, own, now)
    except RefusedError as error:
        peer.refused[error.reason] += length
    return end


def _run_length(header: Header, view: memoryview, at: int, step: int, most: int) -> int:
    """How many datagrams from ``at`` on are consecutive slices of one frame; at least 1."""
    if most <= 1 or step <= HEADER_SIZE:
        return 1
    if at + (most - 1) * step + HEADER_SIZE > len(view):
        most -= 1
    if header.number + most > MAX_NUMBER or header.aux + most * INDEX_ONE > 0xFFFF:
        return 1  # no run that this protocol sends; judged one by one
    found = heads_apart(step, most).unpack_from(view, at)
    wanted = headers(header.kind, header.aux, header.flow, header.number, most)
    if found == wanted:
        return most
    return next(index for index in range(1, most) if found[index] != wanted[index])


def _open_plain(
    peer: Peer, entry: FlowEntry, header: Header, run: memoryview, step: int, length: int, source: Address,
    own: Address, now: float,
) -> None:  # fmt: skip
    if entry.connection.sealed_data:
        raise RefusedError("unsealed", "this connection's data is sealed")
    if header.aux & RESENT:
        raise RefusedError("slice-head", "data sent again is never in clear")
    _deliver(peer, entry, header, 0, run, HEADER_SIZE + 8, step, length)


def _open_sealed(
    peer: Peer, entry: FlowEntry, header: Header, run: memoryview, step: int, length: int, source: Address,
    own: Address, now: float,
) -> None:  # fmt: skip
    window = entry.window
    assert entry.keys_in is not None
    unseal_run = _unseal_run if header.kind is Kind.DATA else _check_run
    if window.is_fresh_run(header.number, length):
        try:
            bodies = unseal_run(entry.keys_in.at(header.number), run, step)
        except (InvalidTag, ValueError):
            pass
        else:
            _accept_run(peer, entry, header, bodies, 0, source, own, now, len(run))
            return
    for offset in range(length):  # something is wrong with the run: judge slice by slice
        piece = run[offset * step : (offset + 1) * step]
        if not window.is_fresh(header.number + offset):
            peer.refused["replayed"] += 1
            continue
        try:
            bodies = unseal_run(entry.keys_in.at(header.number + offset), piece, step)
        except (InvalidTag, ValueError):
            peer.refused["forged"] += 1
            continue
        _accept_run(peer, entry, header, bodies, offset, source, own, now, len(piece))


def _unseal_run(cipher: AESGCM, run: memoryview, step: int) -> list[Buffer]:
    """Open slices that lie ``step`` bytes apart.  Raises `InvalidTag` or `ValueError` if one is not genuine."""
    starts = range(0, len(run), step)
    heads = heads_apart(step, len(starts)).unpack_from(run)
    numbers = nonces(int.from_bytes(run[NUMBER_AT:HEADER_SIZE], "big"), len(starts))
    sealed = [run[at + HEADER_SIZE : at + step] for at in starts]
    return list(map(cipher.decrypt, numbers, sealed, heads))


def _check_run(cipher: AESGCM, run: memoryview, step: int) -> list[Buffer]:
    """Check the MACs of clear slices.  Raises `InvalidTag` or `ValueError` if one is not genuine."""
    bodies: list[Buffer] = []
    for at in range(0, len(run), step):
        piece = run[at : at + step]
        cipher.decrypt(_NONCE_HEAD + piece[12:20], piece[-TAG_SIZE:], piece[:-TAG_SIZE])
        bodies.append(piece[HEADER_SIZE:-TAG_SIZE])
    return bodies


def _accept_run(
    peer: Peer,
    entry: FlowEntry,
    header: Header,
    bodies: list[Buffer],
    offset: int,
    source: Address,
    own: Address,
    now: float,
    size: int,
) -> None:
    """Authentic slices: note them, let them speak for their source, deliver what was not delivered before."""
    first = bodies[0]
    number = header.number + offset
    if min(map(len, bodies)) < (16 if header.aux & RESENT else 8):
        raise RefusedError("slice-short")
    version = int.from_bytes(first[:8], "big")
    entry.window.mark(number, len(bodies))
    newest = number + len(bodies) - 1
    flow = entry.flow
    if source != flow.peer_addr:
        entry.budget.received(source, size)
        if source == flow.cand_addr:
            peer_timers.heard_candidate(peer, entry, now)
    if own == flow.own_addr:
        entry.own_heard_at = now
        if entry.awaits_data:
            entry.awaits_data = False
            connection = entry.connection.number
            peer.notify(FirstData(connection, entry.local_id, flow.own_version, now - entry.began_at))
    if entry.heard_at != now or entry.lost:
        peer_timers.heard(peer, entry, now)
    entry.unheard_since = None
    entry.connection.key_confirmed = True
    if (version, source) != (flow.peer_version, flow.peer_addr) or flow.cand_addr is not None or peer.trace:
        event = Step(Action.RECV_DATA, source=source, own=own, version=version, pn=newest, challenge=peer.draw_nonce())
        peer_step.apply(peer, entry, event, now, received=Message.DATA)
    else:
        entry.seen_pn = max(entry.seen_pn, newest)
    if header.aux & RESENT:
        for at, body in enumerate(bodies):
            was = int.from_bytes(body[8:16], "big")
            if was < number and entry.window.is_fresh(was):
                entry.window.mark(was)
                _deliver_bodies(peer, entry, header, offset + at, [body], 16)
            else:
                peer.refused["delivered-before"] += 1
        return
    _deliver_bodies(peer, entry, header, offset, bodies, 8)


def _deliver_bodies(peer: Peer, entry: FlowEntry, header: Header, offset: int, bodies: list[Buffer], skip: int) -> None:
    """Hand a run of opened slices of one frame to the tunnel; ``skip`` bytes stand before the head."""
    head_size = parse_head(memoryview(bodies[0])[skip:])
    start = skip + head_size
    pieces: list[Buffer] = [memoryview(body)[start:] for body in bodies]
    _hand_over(peer, entry, header, offset, memoryview(bodies[0])[skip:start], pieces)


def _deliver(
    peer: Peer, entry: FlowEntry, header: Header, offset: int, run: memoryview, skip: int, step: int, length: int
) -> None:
    """Hand a run of clear slices that lie ``step`` bytes apart to the tunnel."""
    head_size = parse_head(run[skip:step])
    start = skip + head_size
    pieces: list[Buffer] = [run[at + start : at + step] for at in range(0, length * step, step)]
    _hand_over(peer, entry, header, offset, run[skip:start], pieces)


def _hand_over(
    peer: Peer, entry: FlowEntry, header: Header, offset: int, head: memoryview, pieces: list[Buffer]
) -> None:
    """Check a run's shape and where it says it comes from; then it is an inner packet for the tunnel."""
    index = ((header.aux & ~RESENT) >> 7) + offset
    count = header.aux & COUNT_MASK
    if len(head) == WIRE.size:
        if len(pieces) > 1:
            raise RefusedError("slice-head", "slices of a packet that is not segmented")
    else:
        gso_size = int.from_bytes(head[4:6], "big")
        full = pieces if index + len(pieces) < count else pieces[:-1]
        if set(map(len, full)) - {gso_size} or not 0 < len(pieces[-1]) <= gso_size:
            raise RefusedError("slice-size", "a slice is not one inner segment")
    allowed = entry.connection.allowed_inner
    if allowed is not None and inner_source(pieces[0] if len(head) == WIRE.size else head[WIRE.size :]) not in allowed:
        raise RefusedError("inner-source", "the peer may not send from this inner address")
    peer.deliver(Delivery(entry.connection.number, join(head, index, pieces, count)))


_OPENERS = {Kind.DATA: _open_sealed, Kind.DATA_MAC: _open_sealed, Kind.DATA_PLAIN: _open_plain}

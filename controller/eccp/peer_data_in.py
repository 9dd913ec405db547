# SPDX-License-Identifier: Apache-2.0
"""Data in: runs of slices opened, checked and handed to the tunnel as inner packets, each once.

Data in clear (`Kind.DATA_PLAIN`) is never a step of the flow machine and marks nothing: it cannot move an address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.eccp import peer_step, peer_timers
from controller.eccp.connection import FlowEntry
from controller.eccp.errors import RefusedError
from controller.eccp.flow import Step
from controller.eccp.keys import left_of_epoch
from controller.eccp.names import Action, Message
from controller.eccp.outputs import Delivery, FirstData
from controller.eccp.slices import WIRE, inner_source, parse_head, prefix
from controller.wire.eccp import (
    COUNT_MASK,
    HEADER_SIZE,
    RESENT,
    TAG_SIZE,
    Address,
    Header,
    Kind,
)

if TYPE_CHECKING:
    from controller.eccp.peer import Peer

VERSION_SIZE = 8


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
    length = 1
    if count - index > 1 and size - at > step >= HEADER_SIZE:
        length = peer.datapath.count_run(view[at : at + (count - index) * step], step)
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


def _open_plain(
    peer: Peer, entry: FlowEntry, header: Header, run: memoryview, step: int, length: int, source: Address,
    own: Address, now: float,
) -> None:  # fmt: skip
    if entry.connection.sealed_data:
        raise RefusedError("unsealed", "this connection's data is sealed")
    if header.aux & RESENT:
        raise RefusedError("slice-head", "data sent again is never in clear")
    _deliver(peer, entry, header, 0, run, step, length, HEADER_SIZE + VERSION_SIZE, 0)


def _open_sealed(
    peer: Peer, entry: FlowEntry, header: Header, run: memoryview, step: int, length: int, source: Address,
    own: Address, now: float,
) -> None:  # fmt: skip
    window, keys = entry.window, entry.keys_in
    assert keys is not None
    offset = 0
    while offset < length:
        number = header.number + offset
        here = min(length - offset, left_of_epoch(number))
        if not window.is_fresh_run(number, here):  # something is wrong with the run: judge slice by slice
            here = 1
            if not window.is_fresh(number):
                peer.refused["replayed"] += 1
                offset += 1
                continue
        piece = run[offset * step : (offset + here) * step]
        opened = peer.datapath.open(keys.at(number), header.kind, piece, step)
        if opened:
            _accept_run(peer, entry, header, piece[: opened * step], step, opened, offset, source, own, now)
        if opened < here:
            peer.refused["forged"] += 1
            opened += 1
        offset += opened


def _accept_run(
    peer: Peer,
    entry: FlowEntry,
    header: Header,
    run: memoryview,
    step: int,
    length: int,
    offset: int,
    source: Address,
    own: Address,
    now: float,
) -> None:
    """Authentic slices: note them, let them speak for their source, deliver what was not delivered before."""
    size = len(run)
    number = header.number + offset
    is_resent = header.aux & RESENT
    skip = HEADER_SIZE + VERSION_SIZE + (8 if is_resent else 0)
    if size - (length - 1) * step < skip + TAG_SIZE:
        raise RefusedError("slice-short")
    version = int.from_bytes(run[HEADER_SIZE : HEADER_SIZE + VERSION_SIZE], "big")
    entry.window.mark(number, length)
    newest = number + length - 1
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
    elif newest > entry.seen_pn:
        entry.seen_pn = newest
    if not is_resent:
        _deliver(peer, entry, header, offset, run, step, length, skip, TAG_SIZE)
        return
    for at in range(length):
        piece = run[at * step : (at + 1) * step]
        was = int.from_bytes(piece[skip - 8 : skip], "big")
        if was < number and entry.window.is_fresh(was):
            entry.window.mark(was)
            _deliver(peer, entry, header, offset + at, piece, step, 1, skip, TAG_SIZE)
        else:
            peer.refused["delivered-before"] += 1


def _deliver(
    peer: Peer,
    entry: FlowEntry,
    header: Header,
    offset: int,
    run: memoryview,
    step: int,
    length: int,
    skip: int,
    tail: int,
) -> None:
    """Check the shape of ``length`` opened slices and where they say they come from; make one inner packet of them.

    In each slice ``skip`` bytes stand before the head of the frame, ``tail`` after its piece.
    """
    index = ((header.aux & ~RESENT) >> 7) + offset
    count = header.aux & COUNT_MASK
    last = len(run) - (length - 1) * step
    head_size = parse_head(run[skip : (step if length > 1 else last) - tail])
    start = skip + head_size
    last -= start + tail
    if head_size == WIRE.size:
        if length > 1:
            raise RefusedError("slice-head", "slices of a packet that is not segmented")
        inner = run[start : start + last]
    else:
        gso_size = int.from_bytes(run[skip + 4 : skip + 6], "big")
        is_full = length == 1 or step - start - tail == gso_size
        if not is_full or not 0 < last <= gso_size or (index + length < count and last != gso_size):
            raise RefusedError("slice-size", "a slice is not one inner segment")
        inner = run[skip + WIRE.size : start]
    allowed = entry.connection.allowed_inner
    if allowed is not None and inner_source(inner) not in allowed:
        raise RefusedError("inner-source", "the peer may not send from this inner address")
    size = peer.datapath.compact(run, step, start, tail) if length > 1 else last
    before = prefix(run[skip:start], index, length, size, count)
    at = start - len(before)
    run[at:start] = before
    peer.deliver(Delivery(entry.connection.number, (run[at : start + size],)))


_OPENERS = {Kind.DATA: _open_sealed, Kind.DATA_MAC: _open_sealed, Kind.DATA_PLAIN: _open_plain}

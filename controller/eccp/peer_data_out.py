# SPDX-License-Identifier: Apache-2.0
"""Data out: inner packets in slices, early data to a place not validated yet, and sending again after a move.

A slice's body is ``version:8 [first number:8] head piece``; the bracketed field, the packet number under which the
slice went out first, is there if ``aux`` has the bit `RESENT`, so that what arrives twice is delivered once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.eccp import peer_timers
from controller.eccp.connection import Connection, FlowEntry
from controller.eccp.datapath.interface import Labels
from controller.eccp.errors import RefusedError
from controller.eccp.flow import Step
from controller.eccp.names import Action, FlowState, Message
from controller.eccp.outputs import Datagram, SentRecord, TraceRow
from controller.eccp.ring import SentFrame
from controller.eccp.scheduler import choose
from controller.eccp.slices import VNET_SIZE, cut, join
from controller.wire.eccp import HEADER_SIZE, INDEX_ONE, RESENT, TAG_SIZE, Address, Kind

if TYPE_CHECKING:
    from controller.eccp.peer import Peer

MAX_GSO_BYTES = 65000  # one UDP send: IP's length field leaves 65,507
MAX_GSO_SEGMENTS = 64
CHALLENGE_RESERVE = 300  # bytes of the limit that early data leaves for repeating a challenge
OWN_RESEND_BYTES = 256 << 10


def send_frame(peer: Peer, connection: Connection, frame: bytes, now: float) -> bool:
    """Slice one tunnel frame and queue it on the flow that the scheduler chooses."""
    entry = choose(peer.settings.policy, connection.flows, memoryview(frame)[VNET_SIZE:])
    if entry is None:
        return False
    try:
        cuts = cut(frame)
    except RefusedError as error:
        peer.refused[error.reason] += 1
        return False
    for piece in cuts:
        number = entry.next_number
        sent = SentFrame(number, piece, len(frame), now, entry.generation)
        entry.ring.push(sent)
        _send_cut(peer, entry, sent, resent=False)
    if entry.unheard_since is None:
        peer_timers.sent_data(peer, entry, now)
    return True


def _kind(entry: FlowEntry) -> Kind:
    """Sealed, or in clear; in clear under a MAC while either end's address is in question."""
    if entry.connection.sealed_data:
        return Kind.DATA
    unsettled = entry.flow.state is FlowState.MOVING or entry.flow.cand_addr is not None
    return Kind.DATA_MAC if unsettled else Kind.DATA_PLAIN


def _send_cut(peer: Peer, entry: FlowEntry, sent: SentFrame, *, resent: bool, to: Address | None = None) -> None:
    """Seal the slices of one frame under fresh numbers and queue them in batches of equal size."""
    kind = _kind(entry)
    if resent and kind is Kind.DATA_PLAIN:
        kind = Kind.DATA_MAC
    flow = entry.flow
    own = flow.own_addr
    target = to or flow.peer_addr
    assert isinstance(own, Address)
    assert isinstance(target, Address)
    head, frame, start, piece, count = sent.cut
    lead = flow.own_version.to_bytes(8, "big") + head
    size = HEADER_SIZE + len(lead) + (8 if resent else 0) + piece + (0 if kind is Kind.DATA_PLAIN else TAG_SIZE)
    batch = max(1, min(MAX_GSO_SEGMENTS, MAX_GSO_BYTES // size))
    number = entry.take_number(count)
    if not resent:
        sent.number = number
    aux = count | (RESENT if resent else 0)
    key = None
    if kind is not Kind.DATA_PLAIN:
        assert entry.keys_out is not None
        key = entry.keys_out.at(number)  # one for all of them: take_number has seen to it
    for first in range(0, count, batch):
        labels = Labels(kind, aux + first * INDEX_ONE, entry.remote_id, number + first, sent.number + first)
        begin = start + first * piece
        end = min(begin + batch * piece, len(frame))
        datagrams = peer.datapath.seal(key, labels, lead, frame, begin, end, piece)
        peer.emit(Datagram(own, target, (datagrams,), size if end - begin > piece else 0))
    if peer.trace is not None:
        records = (SentRecord(Message.DATA, flow.own_version, number + at, own, target) for at in range(count))
        event = Step(Action.SEND_DATA, everywhere=to is not None)
        peer.trace(TraceRow(entry.name, Action.SEND_DATA, event, None, False, tuple(records), flow))


def resend_own(peer: Peer, entry: FlowEntry, now: float) -> None:
    """After a move of our own: send again what may have left from the dead address during the last round trip."""
    entry.generation += 1
    _resend(peer, entry, now - 1.5 * entry.rtt.guess(), OWN_RESEND_BYTES)


def resend_lost(peer: Peer, entry: FlowEntry, now: float) -> None:
    """The peer's new address is validated: send again all that went elsewhere since about two round trips."""
    _resend(peer, entry, now - 2.5 * entry.rtt.guess(), None)


def _resend(peer: Peer, entry: FlowEntry, since: float, limit: int | None) -> None:
    if entry.keys_out is None or not entry.carries_data:
        return
    for frame in entry.ring.since(since, entry.generation):
        if limit is not None:
            limit -= frame.size
            if limit < 0:
                break
        frame.epoch = entry.generation
        _send_cut(peer, entry, frame, resent=True)


def send_early(peer: Peer, entry: FlowEntry, now: float) -> None:
    """The peer says that it has moved: data goes to the new address at once, within the amplification limit.

    Only for an announced move (a higher version): after a mere change of source (NAT, or a copy sent from elsewhere)
    the address in use keeps the data until the new one has answered (RFC 9000 section 9.3).
    """
    flow = entry.flow
    place = flow.cand_addr
    if not peer.settings.early_data or not isinstance(place, Address) or flow.cand_version <= flow.peer_version:
        return
    if entry.keys_out is None or not entry.carries_data or flow.peer_addr is None:
        return
    for frame in entry.ring.since(now - 1.5 * entry.rtt.guess(), entry.generation + 1):
        pieces = frame.cut.pieces
        taken = 0
        for piece in pieces:
            size = HEADER_SIZE + 16 + len(frame.cut.head) + len(piece) + TAG_SIZE
            if entry.budget.left(place) < size + CHALLENGE_RESERVE:
                break
            entry.budget.spend(place, size)
            taken += 1
        if taken:
            _send_part(peer, entry, frame, taken, place)
        if taken < len(pieces):
            return
        frame.epoch = entry.generation + 1


def _send_part(peer: Peer, entry: FlowEntry, frame: SentFrame, taken: int, place: Address) -> None:
    """The first slices of a frame, as a frame of their own numbers but with the old ones named."""
    if taken == frame.cut.total:
        _send_cut(peer, entry, frame, resent=True, to=place)
        return
    parts = join(frame.cut.head, 0, frame.cut.pieces[:taken], frame.cut.total)
    for piece in cut(b"".join(parts)):
        part = SentFrame(frame.number, piece, 0, frame.sent_at)
        _send_cut(peer, entry, part, resent=True, to=place)

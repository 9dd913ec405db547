# SPDX-License-Identifier: Apache-2.0
"""The data plane: inner packets out in slices, slices in to inner packets, early data and sending again after a move.

A slice's body is ``version:8 [first number:8] head piece``; the bracketed field, the packet number under which the
slice went out first, is there if ``aux`` has the bit `RESENT`, so that what arrives twice is delivered once.
Data in clear (`Kind.DATA_PLAIN`) is never a step of the flow machine and marks nothing: it cannot move an address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.eccp import peer_control, peer_timers
from controller.eccp.connection import Connection, FlowEntry
from controller.eccp.errors import RefusedError
from controller.eccp.flow import Step
from controller.eccp.keys import Cipher, unseal
from controller.eccp.names import Action, FlowState, Message
from controller.eccp.outputs import Buffer, Datagram, Delivery
from controller.eccp.ring import SentFrame
from controller.eccp.scheduler import choose
from controller.eccp.slices import VNET_SIZE, WIRE, cut, inner_source, join, parse_head
from controller.wire.eccp import HEADER, HEADER_SIZE, MAGIC, TAG_SIZE, Address, Header, Kind

if TYPE_CHECKING:
    from controller.eccp.peer import Peer

RESENT = 0x8000
COUNT_MASK = 0x7F
INDEX_ONE = 0x80
MAX_GSO_BYTES = 65000  # one UDP send: IP's length field leaves 65,507
MAX_GSO_SEGMENTS = 64
OWN_RESEND_BYTES = 256 << 10


# ---- out ------------------------------------------------------------------------------------------------------------


def send_frame(peer: Peer, connection: Connection, frame: Buffer, now: float) -> bool:
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
    head, pieces = sent.cut
    count = len(pieces)
    lead = flow.own_version.to_bytes(8, "big")
    extra = 8 if resent else 0
    size = HEADER_SIZE + 8 + extra + len(head) + len(pieces[0]) + (0 if kind is Kind.DATA_PLAIN else TAG_SIZE)
    batch = max(1, min(MAX_GSO_SEGMENTS, MAX_GSO_BYTES // size))
    number = entry.take_number(count)
    if not resent:
        sent.number = number
    aux = count | (RESENT if resent else 0)
    pack = HEADER.pack
    remote = entry.remote_id
    for first in range(0, count, batch):
        group = pieces[first : first + batch]
        parts: list[Buffer] = []
        if kind is Kind.DATA_PLAIN:
            prefix = lead + head
            for index, piece in enumerate(group, first):
                parts.append(pack(MAGIC, kind, aux + index * INDEX_ONE, remote, number + index) + prefix)
                parts.append(piece)
        else:
            assert entry.cipher_out is not None
            encrypt = entry.cipher_out.encrypt
            for index, piece in enumerate(group, first):
                header = pack(MAGIC, kind, aux + index * INDEX_ONE, remote, number + index)
                was = (sent.number + index).to_bytes(8, "big") if resent else b""
                body = b"".join((lead, was, head, piece))
                nonce = b"\0\0\0\0" + header[12:20]
                parts.append(header)
                if kind is Kind.DATA:
                    parts.append(encrypt(nonce, body, header))
                else:
                    parts.append(body)
                    parts.append(encrypt(nonce, b"", header + body))
        peer.emit(Datagram(own, target, parts, size if len(group) > 1 else 0))


def resend_own(peer: Peer, entry: FlowEntry, now: float) -> None:
    """After a move of our own: send again what may have left from the dead address during the last round trip."""
    entry.generation += 1
    _resend(peer, entry, now - 1.5 * entry.rtt.guess(), OWN_RESEND_BYTES)


def resend_lost(peer: Peer, entry: FlowEntry, now: float) -> None:
    """The peer's new address is validated: send again all that went elsewhere since about two round trips."""
    _resend(peer, entry, now - 2.5 * entry.rtt.guess(), None)


def _resend(peer: Peer, entry: FlowEntry, since: float, limit: int | None) -> None:
    if entry.cipher_out is None or not entry.carries_data:
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
    if entry.cipher_out is None or not entry.carries_data or flow.peer_addr is None:
        return
    for frame in entry.ring.since(now - 1.5 * entry.rtt.guess(), entry.generation + 1):
        head, pieces = frame.cut
        taken = 0
        for piece in pieces:
            size = HEADER_SIZE + 16 + len(head) + len(piece) + TAG_SIZE
            if not entry.budget.spend(place, size):
                break
            taken += 1
        if taken:
            _send_part(peer, entry, frame, taken, place)
        if taken < len(pieces):
            return
        frame.epoch = entry.generation + 1


def _send_part(peer: Peer, entry: FlowEntry, frame: SentFrame, taken: int, place: Address) -> None:
    """The first slices of a frame, as a frame of their own numbers but with the old ones named."""
    head, pieces = frame.cut
    if taken == len(pieces):
        _send_cut(peer, entry, frame, resent=True, to=place)
        return
    parts = join(head, 0, pieces[:taken], len(pieces))
    for piece in cut(b"".join(parts)):
        part = SentFrame(frame.number, piece, 0, frame.sent_at)
        _send_cut(peer, entry, part, resent=True, to=place)


# ---- in -------------------------------------------------------------------------------------------------------------


def receive_run(
    peer: Peer, header: Header, view: memoryview, at: int, step: int, source: Address, own: Address, now: float
) -> int:
    """Handle the run of consecutive slices of one frame that begins at ``at``; returns where it ends.

    A refused slice is counted and skipped; the ones before and after it are delivered.
    """
    size = len(view)
    kind, aux, flow_id, number = header
    unpack = HEADER.unpack_from
    end = at + step
    following = 1
    count = aux & COUNT_MASK
    index = (aux & ~RESENT) >> 7
    while end < size and index + following < count and end + HEADER_SIZE <= size:
        if unpack(view, end) != (MAGIC, kind, aux + following * INDEX_ONE, flow_id, number + following):
            break
        following += 1
        end += step
    end = min(end, size)
    try:
        entry = peer.flow(flow_id)
        if not count or index + following > count:
            raise RefusedError("slice-head", f"slice {index} of {count}")
        if entry.cipher_in is None or not entry.is_open:
            raise RefusedError("no-keys", "data before the handshake")
        slices = [view[p : min(p + step, size)] for p in range(at, end, step)]
        _OPENERS[kind](peer, entry, header, slices, source, own, now)
    except RefusedError as error:
        peer.refused[error.reason] += following
    return end


def _open_plain(
    peer: Peer, entry: FlowEntry, header: Header, slices: list[memoryview], source: Address, own: Address, now: float
) -> None:
    if entry.connection.sealed_data:
        raise RefusedError("unsealed", "this connection's data is sealed")
    if header.aux & RESENT:
        raise RefusedError("slice-head", "data sent again is never in clear")
    bodies: list[Buffer] = [piece[HEADER_SIZE + 8 :] for piece in slices]
    _deliver(peer, entry, header, 0, bodies)


def _open_sealed(
    peer: Peer, entry: FlowEntry, header: Header, slices: list[memoryview], source: Address, own: Address, now: float
) -> None:
    number = header.number
    count = len(slices)
    extra = 16 if header.aux & RESENT else 8
    window = entry.window
    assert entry.cipher_in is not None
    if window.is_fresh_run(number, count):
        bodies = _unseal_run(entry.cipher_in, header, slices)
        opened = [body for body in bodies if body is not None]
        if len(opened) == count:
            _accept_run(peer, entry, header, opened, 0, extra, source, own, now, sum(map(len, slices)))
            return
    for offset, piece in enumerate(slices):  # something is wrong with the run: judge slice by slice
        if not window.is_fresh(number + offset):
            peer.refused["replayed"] += 1
            continue
        body = _unseal_run(entry.cipher_in, header, [piece], offset)[0]
        if body is None:
            peer.refused["forged"] += 1
            continue
        _accept_run(peer, entry, header, [body], offset, extra, source, own, now, len(piece))


def _unseal_run(
    cipher: Cipher, header: Header, slices: list[memoryview], offset: int = 0
) -> list[Buffer | None]:
    bodies: list[Buffer | None] = []
    for at, piece in enumerate(slices, offset):
        try:
            if header.kind is Kind.DATA:
                clear = piece[:HEADER_SIZE]
                bodies.append(unseal(cipher, header.number + at, piece[HEADER_SIZE:], clear))  # type: ignore[arg-type]
            else:
                unseal(cipher, header.number + at, bytes(piece[-TAG_SIZE:]), bytes(piece[:-TAG_SIZE]))
                bodies.append(piece[HEADER_SIZE:-TAG_SIZE])
        except RefusedError:
            bodies.append(None)
    return bodies


def _accept_run(
    peer: Peer,
    entry: FlowEntry,
    header: Header,
    bodies: list[Buffer],
    offset: int,
    extra: int,
    source: Address,
    own: Address,
    now: float,
    size: int,
) -> None:
    """Authentic slices: note them, let them speak for their source, deliver what was not delivered before."""
    first = bodies[0]
    number = header.number + offset
    if len(first) < extra:
        raise RefusedError("slice-short")
    version = int.from_bytes(first[:8], "big")
    entry.window.mark(number, len(bodies))
    newest = number + len(bodies) - 1
    flow = entry.flow
    if source != flow.peer_addr:
        entry.budget.received(source, size)
    if own == flow.own_addr:
        entry.own_heard_at = now
    if entry.heard_at != now or entry.lost:
        peer_timers.heard(peer, entry, now)
    entry.unheard_since = None
    if (version, source) != (flow.peer_version, flow.peer_addr) or flow.cand_addr is not None or peer.trace:
        event = Step(
            Action.RECV_DATA, source=source, own=own, version=version, pn=newest, challenge=peer.draw_nonce()
        )
        peer_control.apply(peer, entry, event, now, received=Message.DATA)
    else:
        entry.seen_pn = max(entry.seen_pn, newest)
    if header.aux & RESENT:
        for at, body in enumerate(bodies):
            was = int.from_bytes(body[8:16], "big")
            if was < number and entry.window.is_fresh(was):
                entry.window.mark(was)
                _deliver(peer, entry, header, offset + at, [body[16:]])
            else:
                peer.refused["delivered-before"] += 1
        return
    _deliver(peer, entry, header, offset, [memoryview(body)[8:] for body in bodies])


def _deliver(peer: Peer, entry: FlowEntry, header: Header, offset: int, bodies: list[Buffer]) -> None:
    """Hand a run of slices of one frame to the tunnel."""
    first = bodies[0]
    head_size = parse_head(first)
    head = first[:head_size]
    index = ((header.aux & ~RESENT) >> 7) + offset
    count = header.aux & COUNT_MASK
    if head_size == WIRE.size and len(bodies) > 1:
        raise RefusedError("slice-head", "slices of a packet that is not segmented")
    pieces: list[Buffer] = [body[head_size:] for body in bodies]
    if head_size > WIRE.size:
        gso_size = int.from_bytes(head[4:6], "big")
        full = pieces if index + len(pieces) < count else pieces[:-1]
        if any(len(piece) != gso_size for piece in full) or not 0 < len(pieces[-1]) <= gso_size:
            raise RefusedError("slice-size", "a slice is not one inner segment")
    allowed = entry.connection.allowed_inner
    if allowed is not None and inner_source(pieces[0] if head_size == WIRE.size else head[WIRE.size :]) not in allowed:
        raise RefusedError("inner-source", "the peer may not send from this inner address")
    peer.deliver(Delivery(entry.connection.number, join(head, index, pieces, count)))


_OPENERS = {Kind.DATA: _open_sealed, Kind.DATA_MAC: _open_sealed, Kind.DATA_PLAIN: _open_plain}


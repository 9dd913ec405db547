# SPDX-License-Identifier: Apache-2.0
"""Control packets of a flow: opened, handed to the flow machine as a `Step`, and its answers sealed and limited."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from controller.eccp import peer_data, peer_open, peer_relay, peer_timers
from controller.eccp.connection import FlowEntry
from controller.eccp.errors import RefusedError
from controller.eccp.flow import Flow, Outcome, Send, Step
from controller.eccp.flow import step as flow_step
from controller.eccp.keys import Cipher, seal, unseal
from controller.eccp.names import Action, FlowState, Message
from controller.eccp.outputs import (
    ConnectionEnded,
    Datagram,
    FlowClosed,
    OwnMoveConfirmed,
    PeerAddressValidated,
    SentRecord,
    TraceRow,
)
from controller.eccp.table import OPEN_STATES
from controller.wire import eccp as wire
from controller.wire.eccp import HEADER_SIZE, TAG_SIZE, WITH_KEY_EXCHANGE, Address, Header, Kind

if TYPE_CHECKING:
    from controller.eccp.peer import Peer

RENDEZVOUS = "rendezvous"  # stands for the rendezvous among a flow's destinations


# ---- datagrams in ---------------------------------------------------------------------------------------------------


def receive(
    peer: Peer,
    entry: FlowEntry,
    header: Header,
    body: bytes,
    source: Address,
    own: Address,
    now: float,
    size: int,
    *,
    relayed: bool = False,
) -> None:
    """Open one sealed control packet and act on it.  Raises `RefusedError` or `MalformedMessageError`."""
    if relayed and header.kind is not Kind.RSYN:
        raise RefusedError("relay-kind", f"a rendezvous passes on RSYNs only, not {header.kind.name}")
    if header.kind is Kind.FLOW_SYN:
        peer_open.receive_flow_syn(peer, entry, header, body, source, own, now, size)
        return
    if header.kind is Kind.SYN_ACK:
        peer_open.receive_syn_ack(peer, entry, header, body, source, own, now, size)
        return
    block, sealed = split_block(header, body)
    staged = peer_open.stage_third(entry, block) if block and entry.cipher_in is None else None
    cipher = staged.cipher if staged else entry.cipher_in
    if cipher is None:
        raise RefusedError("no-keys", f"{header.kind.name} before the handshake")
    version, message = open_sealed(entry, header, block, sealed, cipher)
    if staged:
        peer_open.commit_third(peer, entry, staged)
    mark_heard(peer, entry, header.number, source, own, now, size)
    entry.connection.key_confirmed = True
    _ROUTES[header.kind](peer, entry, header, version, message, source, own, now, relayed)


def split_block(header: Header, body: bytes) -> tuple[bytes, bytes]:
    """The clear block (with its length bytes) before the sealed part, or nothing, and the sealed part."""
    if header.aux & ~WITH_KEY_EXCHANGE or (header.aux and header.kind not in _WITH_BLOCK):
        raise RefusedError("malformed", f"aux {header.aux:#x} in {header.kind.name}")
    if not header.aux:
        return b"", body
    end = 2 + int.from_bytes(body[:2], "big")
    if len(body) < end + TAG_SIZE:
        raise RefusedError("malformed", "key exchange longer than the datagram")
    return body[:end], body[end:]


def open_sealed(
    entry: FlowEntry, header: Header, block: bytes, sealed: bytes, cipher: Cipher
) -> tuple[int, wire.Message]:
    """Version and message of a sealed part; refuses what is replayed or forged.  Changes nothing."""
    if not entry.window.is_fresh(header.number):
        raise RefusedError("replayed")
    clear = wire.encode_header(header.kind, header.flow, header.number, header.aux) + block
    plain = unseal(cipher, header.number, sealed, clear)
    version = int.from_bytes(plain[:8], "big")
    if len(plain) < 8 or version == 0:
        raise RefusedError("malformed", "no version")
    return version, wire.decode_body(header.kind, plain[8:])


def mark_heard(peer: Peer, entry: FlowEntry, number: int, source: Address, own: Address, now: float, size: int) -> None:
    """Note an authentic packet: not to be accepted again, the peer lives, and its source earns a budget."""
    entry.window.mark(number)
    if source != entry.flow.peer_addr:
        entry.budget.received(source, size)
    if own == entry.flow.own_addr:
        entry.own_heard_at = now
    peer_timers.heard(peer, entry, now)
    if source == entry.flow.cand_addr:
        peer_timers.heard_candidate(peer, entry, now)


# ---- the flow machine -----------------------------------------------------------------------------------------------


def apply(
    peer: Peer,
    entry: FlowEntry,
    event: Step,
    now: float,
    *,
    received: Message | None = None,
    relayed: bool = False,
) -> Outcome:
    """Take one step of the flow machine; send, time and report what follows from it."""
    before = entry.flow
    if entry.seen_pn > before.highest_pn:
        before = replace(before, highest_pn=entry.seen_pn)
    outcome = flow_step(before, event)
    entry.flow = outcome.flow
    if outcome.peer_moved:
        entry.generation += 1
        entry.budget.clear()
    reply_own = event.own if received is not None else None
    sent = [
        record
        for send in outcome.sends
        for record in _transmit(peer, entry, send, reply_own if send.to == event.source else None)
    ]
    if peer.trace is not None:
        peer.trace(TraceRow(entry.name, event.action, event, received, relayed, tuple(sent), entry.flow))
    _report(peer, entry, before, outcome, now)
    peer_timers.after_step(peer, entry, before, now)
    return outcome


def _report(peer: Peer, entry: FlowEntry, before: Flow, outcome: Outcome, now: float) -> None:
    after = outcome.flow
    number = entry.connection.number
    if before.state not in OPEN_STATES and after.state in OPEN_STATES:
        peer_open.opened(peer, entry, now)
    elif outcome.peer_moved:
        address = after.peer_addr
        assert isinstance(address, Address)
        peer.notify(PeerAddressValidated(number, entry.local_id, after.peer_version, address))
        peer_data.resend_lost(peer, entry, now)
    elif after.cand_addr is not None and (before.cand_addr, before.cand_version) != (
        after.cand_addr,
        after.cand_version,
    ):
        peer_data.send_early(peer, entry, now)
    if outcome.confirmed and before.state is FlowState.MOVING:
        elapsed = now - entry.began_at
        if entry.attempt == 0:  # Karn: an answer to a repeated RSYN says nothing about the RTT
            entry.rtt = entry.rtt.with_sample(elapsed)
        own = after.own_addr
        assert isinstance(own, Address)
        peer.notify(OwnMoveConfirmed(number, entry.local_id, after.own_version, own, elapsed))
    if before.state is not FlowState.CLOSED and after.state is FlowState.CLOSED:
        peer.notify(FlowClosed(number, entry.local_id))
        if not entry.connection.ended and all(e.flow.state is FlowState.CLOSED for e in entry.connection.flows):
            entry.connection.ended = True
            peer.notify(ConnectionEnded(number))


def close(peer: Peer, entry: FlowEntry, now: float, *, whole: bool) -> None:
    """CLOSE one flow; ``whole`` says so for all of the connection."""
    if entry.flow.state in {FlowState.CLOSED, FlowState.CLOSING}:
        return
    entry.closing_whole = whole
    entry.attempt = 0
    entry.began_at = now
    apply(peer, entry, Step(Action.CLOSE), now)


# ---- packets out ----------------------------------------------------------------------------------------------------


def _transmit(peer: Peer, entry: FlowEntry, send: Send, own: object) -> Iterator[SentRecord]:
    """Seal and queue one packet for each destination that the amplification limit allows."""
    if own is None:
        own = entry.flow.own_addr
    for place in _places(peer, entry, send):
        if not _is_allowed(entry, send.message, place):
            continue
        number = entry.take_number()
        datagram = build(peer, entry, send, number)
        if place is RENDEZVOUS:
            if not peer_relay.forward(peer, entry, datagram):
                continue
        else:
            assert isinstance(place, Address)
            assert isinstance(own, Address)
            if place != entry.flow.peer_addr and place not in entry.connection.peer_listed:
                entry.budget.spend(place, len(datagram))
            peer.emit(Datagram(own, place, (datagram,)))
        yield SentRecord(send.message, send.version, number, own, place, send.echo, send.nonce)


def _places(peer: Peer, entry: FlowEntry, send: Send) -> list[object]:
    if not send.everywhere:
        return [send.to]
    flow = entry.flow
    places: list[object] = [flow.peer_addr, flow.cand_addr]
    if entry.attempt > 0 or entry.lost:  # first ask where the peer was; then wherever it may be
        places += entry.connection.peer_listed
    if peer.rendezvous is not None and peer.rendezvous is not entry.connection:
        places.append(RENDEZVOUS)
    return [place for place in dict.fromkeys(places) if place is not None]


# Upper bounds of what a message takes; used to ask the budget before a number is spent.
_SIZES: dict[Message, int] = {Message.SYN: wire.PADDED_SIZE, Message.RSYN: wire.PADDED_SIZE}


def _is_allowed(entry: FlowEntry, message: Message, place: object) -> bool:
    if place is RENDEZVOUS or place == entry.flow.peer_addr or place in entry.connection.peer_listed:
        return True
    has_block = message is Message.SYN_ACK or (message is Message.ACK and _is_key_exchange_due(entry))
    block = len(entry.connection.key_exchange) + 2 if has_block else 0
    return entry.budget.left(place) >= _SIZES.get(message, HEADER_SIZE + 32 + TAG_SIZE + block)


def build(peer: Peer, entry: FlowEntry, send: Send, number: int) -> bytes:
    """The bytes of one control packet."""
    message = send.message
    if message in {Message.SYN, Message.SYN_ACK}:
        return peer_open.build(peer, entry, send, number)
    body = _BODIES[message](peer, entry, send)
    block = b""
    if message in {Message.ACK, Message.RSYN} and _is_key_exchange_due(entry):
        exchange = entry.connection.key_exchange
        block = len(exchange).to_bytes(2, "big") + exchange
    assert entry.cipher_out is not None
    return sealed_datagram(entry, Kind[message.value], number, send.version, body, block, entry.cipher_out)


def _is_key_exchange_due(entry: FlowEntry) -> bool:
    connection = entry.connection
    return connection.initiator and not entry.added and not connection.key_confirmed


def sealed_datagram(
    entry: FlowEntry, kind: Kind, number: int, version: int, message: wire.Message, block: bytes, cipher: Cipher
) -> bytes:
    """Header, clear block and sealed (version, message)."""
    aux = WITH_KEY_EXCHANGE if block and kind is not Kind.FLOW_SYN else 0
    clear = wire.encode_header(kind, entry.remote_id, number, aux) + block
    body = wire.encode_body(message, len(clear) + 8 + TAG_SIZE)
    return clear + seal(cipher, number, version.to_bytes(8, "big") + body, clear)


_BODIES: dict[Message, Callable[[Peer, FlowEntry, Send], wire.Message]] = {
    Message.ACK: lambda peer, entry, send: wire.Ack(send.echo, send.nonce),
    Message.RSYN: lambda peer, entry, send: wire.Rsyn(peer.generation, peer.listed),
    Message.RSYN_ACK: lambda peer, entry, send: wire.RsynAck(send.echo, send.nonce),
    Message.PING: lambda peer, entry, send: wire.Ping(send.nonce),
    Message.PONG: lambda peer, entry, send: wire.Pong(send.nonce),
    Message.FIN: lambda peer, entry, send: wire.Fin(entry.closing_whole),
    Message.FIN_ACK: lambda peer, entry, send: wire.FinAck(entry.closing_whole),
}


# ---- one function a kind --------------------------------------------------------------------------------------------


def _received(
    peer: Peer, entry: FlowEntry, header: Header, version: int, message: wire.Message, source: Address, own: Address,
    now: float, relayed: bool,
) -> None:  # fmt: skip
    action, name = ACTIONS[header.kind]
    event = Step(
        action,
        source=source,
        own=own,
        version=version,
        pn=header.number,
        echo=getattr(message, "echo", 0),
        nonce=getattr(message, "nonce", 0),
        challenge=peer.draw_nonce(),
    )
    apply(peer, entry, event, now, received=name, relayed=relayed)


def _received_rsyn(
    peer: Peer, entry: FlowEntry, header: Header, version: int, message: wire.Message, source: Address, own: Address,
    now: float, relayed: bool,
) -> None:  # fmt: skip
    assert isinstance(message, wire.Rsyn)
    if message.generation > entry.connection.peer_generation:
        entry.connection.peer_generation = message.generation
        entry.connection.peer_listed = message.addresses
    _received(peer, entry, header, version, message, source, own, now, relayed)
    deaf = now - entry.own_heard_at > peer.settings.probe_after
    if not relayed and own != entry.flow.own_addr and entry.is_open and deaf:
        peer.move(entry, own, now)  # the peer could not reach us where we thought we were


def _received_pong(
    peer: Peer, entry: FlowEntry, header: Header, version: int, message: wire.Message, source: Address, own: Address,
    now: float, relayed: bool,
) -> None:  # fmt: skip
    assert isinstance(message, wire.Pong)
    if message.nonce == entry.ping_nonce:
        entry.rtt = entry.rtt.with_sample(now - entry.ping_sent_at)
        entry.ping_nonce = 0
    _received(peer, entry, header, version, message, source, own, now, relayed)


def _received_fin(
    peer: Peer, entry: FlowEntry, header: Header, version: int, message: wire.Message, source: Address, own: Address,
    now: float, relayed: bool,
) -> None:  # fmt: skip
    assert isinstance(message, wire.Fin)
    entry.closing_whole = message.whole
    _received(peer, entry, header, version, message, source, own, now, relayed)
    if message.whole:
        for other in list(entry.connection.flows):
            if other.flow.state is not FlowState.CLOSED:
                apply(peer, other, Step(Action.EXPIRE), now)


def _received_flow_syn_ack(
    peer: Peer, entry: FlowEntry, header: Header, version: int, message: wire.Message, source: Address, own: Address,
    now: float, relayed: bool,
) -> None:  # fmt: skip
    assert isinstance(message, wire.FlowSynAck)
    if not entry.added or entry.remote_id not in {0, message.flow}:
        raise RefusedError("flow-id", "the peer's id of a flow cannot change")
    if entry.remote_id == 0:
        assert entry.connection.secrets is not None
        entry.remote_id = message.flow
        entry.cipher_out = entry.connection.secrets.sender(message.flow)
    _received(peer, entry, header, version, message, source, own, now, relayed)


def _received_forward(
    peer: Peer, entry: FlowEntry, header: Header, version: int, message: wire.Message, source: Address, own: Address,
    now: float, relayed: bool,
) -> None:  # fmt: skip
    assert isinstance(message, wire.Forward)
    peer_relay.receive_forward(peer, entry, message, source)


def _received_relay(
    peer: Peer, entry: FlowEntry, header: Header, version: int, message: wire.Message, source: Address, own: Address,
    now: float, relayed: bool,
) -> None:  # fmt: skip
    assert isinstance(message, wire.Relay)
    peer_relay.receive_relay(peer, entry, message, now)


_Route = Callable[["Peer", FlowEntry, Header, int, wire.Message, Address, Address, float, bool], None]
ACTIONS: dict[Kind, tuple[Action, Message]] = {
    Kind.SYN: (Action.RECV_SYN, Message.SYN),
    Kind.FLOW_SYN: (Action.RECV_SYN, Message.SYN),
    Kind.SYN_ACK: (Action.RECV_SYN_ACK, Message.SYN_ACK),
    Kind.FLOW_SYN_ACK: (Action.RECV_SYN_ACK, Message.SYN_ACK),
    Kind.ACK: (Action.RECV_ACK, Message.ACK),
    Kind.RSYN: (Action.RECV_RSYN, Message.RSYN),
    Kind.RSYN_ACK: (Action.RECV_RSYN_ACK, Message.RSYN_ACK),
    Kind.PING: (Action.RECV_PING, Message.PING),
    Kind.PONG: (Action.RECV_PONG, Message.PONG),
    Kind.FIN: (Action.RECV_FIN, Message.FIN),
    Kind.FIN_ACK: (Action.RECV_FIN_ACK, Message.FIN_ACK),
    Kind.DATA: (Action.RECV_DATA, Message.DATA),
    Kind.DATA_MAC: (Action.RECV_DATA, Message.DATA),
}
_WITH_BLOCK = frozenset({Kind.SYN_ACK, Kind.ACK, Kind.RSYN})
_ROUTES: dict[Kind, _Route] = {
    Kind.ACK: _received,
    Kind.RSYN: _received_rsyn,
    Kind.RSYN_ACK: _received,
    Kind.PING: _received,
    Kind.PONG: _received_pong,
    Kind.FLOW_SYN_ACK: _received_flow_syn_ack,
    Kind.FIN: _received_fin,
    Kind.FIN_ACK: _received,
    Kind.FORWARD: _received_forward,
    Kind.RELAY: _received_relay,
}

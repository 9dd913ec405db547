# SPDX-License-Identifier: Apache-2.0
"""Control packets out: built, sealed, and held back where the amplification limit says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from controller.eccp import peer_open, peer_relay
from controller.eccp.connection import FlowEntry
from controller.eccp.flow import Send
from controller.eccp.keys import KeySchedule, seal
from controller.eccp.names import Message
from controller.eccp.outputs import Datagram, SentRecord
from controller.wire import eccp as wire
from controller.wire.eccp import HEADER_SIZE, TAG_SIZE, WITH_KEY_EXCHANGE, Address, Kind

if TYPE_CHECKING:
    from controller.eccp.peer import Peer

RENDEZVOUS = "rendezvous"  # stands for the rendezvous among a flow's destinations


def transmit(peer: Peer, entry: FlowEntry, send: Send, own: object) -> Iterator[SentRecord]:
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
    if entry.keys_out is None and message not in {Message.SYN, Message.SYN_ACK}:
        return False  # an opening that ends early: there is no key yet to say so with
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
    assert entry.keys_out is not None
    return sealed_datagram(entry, Kind[message.value], number, send.version, body, block, entry.keys_out)


def _is_key_exchange_due(entry: FlowEntry) -> bool:
    connection = entry.connection
    return connection.initiator and not entry.added and not connection.key_confirmed


def sealed_datagram(
    entry: FlowEntry, kind: Kind, number: int, version: int, message: wire.Message, block: bytes, keys: KeySchedule
) -> bytes:
    """Header, clear block and sealed (version, message)."""
    aux = WITH_KEY_EXCHANGE if block and kind is not Kind.FLOW_SYN else 0
    clear = wire.encode_header(kind, entry.remote_id, number, aux) + block
    body = wire.encode_body(message, len(clear) + 8 + TAG_SIZE)
    return clear + seal(keys, number, version.to_bytes(8, "big") + body, clear)


_BODIES: dict[Message, Callable[[Peer, FlowEntry, Send], wire.Message]] = {
    Message.ACK: lambda peer, entry, send: wire.Ack(send.echo, send.nonce),
    Message.RSYN: lambda peer, entry, send: wire.Rsyn(peer.generation, peer.listed),
    Message.RSYN_ACK: lambda peer, entry, send: wire.RsynAck(send.echo, send.nonce),
    Message.PING: lambda peer, entry, send: wire.Ping(send.nonce),
    Message.PONG: lambda peer, entry, send: wire.Pong(send.nonce),
    Message.FIN: lambda peer, entry, send: wire.Fin(entry.closing_whole),
    Message.FIN_ACK: lambda peer, entry, send: wire.FinAck(entry.closing_whole),
}

# SPDX-License-Identifier: Apache-2.0
"""Control packets in: opened, checked, and handed to the flow machine as a `Step`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from controller.eccp import peer_accept, peer_relay, peer_timers
from controller.eccp.connection import FlowEntry
from controller.eccp.errors import RefusedError
from controller.eccp.flow import Step
from controller.eccp.keys import KeySchedule, unseal
from controller.eccp.names import Action, FlowState, Message
from controller.eccp.peer_step import apply
from controller.wire import eccp as wire
from controller.wire.eccp import TAG_SIZE, WITH_KEY_EXCHANGE, Address, Header, Kind

if TYPE_CHECKING:
    from controller.eccp.peer import Peer


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
        peer_accept.receive_flow_syn(peer, entry, header, body, source, own, now, size)
        return
    if header.kind is Kind.SYN_ACK:
        peer_accept.receive_syn_ack(peer, entry, header, body, source, own, now, size)
        return
    block, sealed = split_block(header, body)
    staged = peer_accept.stage_third(entry, block) if block and entry.keys_in is None else None
    keys = staged.keys if staged else entry.keys_in
    if keys is None:
        raise RefusedError("no-keys", f"{header.kind.name} before the handshake")
    version, message = open_sealed(entry, header, block, sealed, keys)
    if staged:
        peer_accept.commit_third(peer, entry, staged)
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
    entry: FlowEntry, header: Header, block: bytes, sealed: bytes, keys: KeySchedule
) -> tuple[int, wire.Message]:
    """Version and message of a sealed part; refuses what is replayed or forged.  Changes nothing."""
    if not entry.window.is_fresh(header.number):
        raise RefusedError("replayed")
    clear = wire.encode_header(header.kind, header.flow, header.number, header.aux) + block
    plain = unseal(keys, header.number, sealed, clear)
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


# ---- one function a kind ------------------------------------------------------------------------------------------


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
        entry.keys_out = entry.connection.secrets.sender(message.flow)
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

# SPDX-License-Identifier: Apache-2.0
"""Handshakes in: SYN, COOKIE, FLOW_SYN, SYN-ACK, and the third Noise message.

What cannot be authenticated yet never changes what is established: a handshake works on a copy of its state until the
message at hand has proved genuine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from controller.eccp import peer_control, peer_open, peer_step
from controller.eccp.connection import FlowEntry
from controller.eccp.errors import RefusedError
from controller.eccp.flow import Step
from controller.eccp.handshake import Handshake, ephemeral_key
from controller.eccp.keys import KeySchedule, Secrets, syn_ack_keys
from controller.eccp.names import Action, Message
from controller.eccp.outputs import Datagram
from controller.wire import eccp as wire
from controller.wire.eccp import Address, Header, Hello, Kind

if TYPE_CHECKING:
    from controller.eccp.peer import Peer

SYN_LIMIT = 1024  # bound on number and version of a SYN: nothing authenticates them, so they may not run away


def receive_syn(peer: Peer, header: Header, body: bytes, source: Address, own: Address, now: float, size: int) -> None:
    """A stranger's first packet, or its repetition.  Raises `RefusedError`."""
    if size < wire.PADDED_SIZE or header.flow or header.aux:
        raise RefusedError("malformed", "a SYN has 1,200 bytes, flow 0 and aux 0")
    syn = wire.decode_body(Kind.SYN, body)
    assert isinstance(syn, wire.Syn)
    if header.number >= SYN_LIMIT or syn.version >= SYN_LIMIT:
        raise RefusedError("syn-limit")
    if syn.flow in peer.flows:
        raise RefusedError("reflected", "a SYN of our own came back")
    settings = peer.settings
    if not settings.accepts or syn.service != settings.service:
        raise RefusedError("unknown-service")
    entry = peer.half_open.get(syn.noise)
    if entry is None:
        if len(peer.half_open) >= settings.cookie_above and not peer.cookies.is_good(syn, source, now):
            cookie = wire.encode_body(wire.Cookie(peer.cookies.bake(syn, source, now)))
            datagram = wire.encode_header(Kind.COOKIE, syn.flow, 0) + cookie
            peer.emit(Datagram(own, source, (datagram,)))
            raise RefusedError("cookie-demanded")
        entry = _accept_syn(peer, syn, now)
    if not entry.syn_window.is_fresh(header.number):
        raise RefusedError("replayed")
    entry.syn_window.mark(header.number)
    entry.budget.received(source, size)
    event = Step(
        Action.RECV_SYN,
        source=source,
        own=own,
        version=syn.version,
        pn=header.number,
        challenge=peer.draw_nonce(),
    )
    peer_step.apply(peer, entry, event, now, received=Message.SYN)


def _accept_syn(peer: Peer, syn: wire.Syn, now: float) -> FlowEntry:
    settings = peer.settings
    if len(peer.half_open) >= settings.max_half_open:
        oldest = next(iter(peer.half_open.values()))
        peer_step.apply(peer, oldest, Step(Action.EXPIRE), now)
        peer.drop_flow(oldest)
    if len(peer.connections) >= settings.max_connections:
        raise RefusedError("too-many-connections")
    handshake = Handshake(
        settings.credentials,
        initiator=False,
        ephemeral=ephemeral_key(settings.random),
        service=syn.service,
        flow=syn.flow,
    )
    handshake.read_first(syn.noise)
    connection = peer.new_connection(initiator=False, service=syn.service)
    entry = peer.new_flow(connection)
    entry.remote_id = syn.flow
    entry.began_at = now
    connection.peer_key_exchange = syn.noise
    connection.key_exchange = handshake.write_hello(peer_open.hello_of(peer, entry))
    connection.handshake = handshake
    connection.syn_ack_keys = syn_ack_keys(handshake.chaining_key, syn.flow)
    peer.half_open[syn.noise] = entry
    return entry


def receive_cookie(peer: Peer, entry: FlowEntry, body: bytes, now: float) -> None:
    """Send the SYN again with the cookie; once, since nothing authenticates it."""
    cookie = wire.decode_body(Kind.COOKIE, body)
    assert isinstance(cookie, wire.Cookie)
    connection = entry.connection
    if not connection.initiator or connection.secrets is not None or entry.added or connection.cookie == cookie.cookie:
        raise RefusedError("cookie-unwanted")
    if entry.cookies_taken >= 3:
        raise RefusedError("cookie-unwanted")
    entry.cookies_taken += 1
    connection.cookie = cookie.cookie
    peer_step.apply(peer, entry, Step(Action.RETRANSMIT), now)


def receive_flow_syn(
    peer: Peer, carrier: FlowEntry, header: Header, body: bytes, source: Address, own: Address, now: float, size: int
) -> None:
    """The peer opens another flow of the connection that ``carrier`` belongs to."""
    connection = carrier.connection
    if connection.secrets is None or header.aux or size < wire.PADDED_SIZE:
        raise RefusedError("malformed", "FLOW_SYN out of place")
    block, sealed = body[:8], body[8:]
    remote_id = int.from_bytes(block, "big")
    entry = next((e for e in connection.flows if e.added and e.remote_id == remote_id), None)
    keys = connection.secrets.opener_receiver(remote_id)
    version, message = peer_control.open_sealed(entry or FlowEntry(0, connection), header, block, sealed, keys)
    if not isinstance(message, wire.FlowSyn) or message.flow != remote_id:
        raise RefusedError("malformed", "FLOW_SYN names two ids")
    if entry is None:
        if len(connection.flows) >= peer.settings.max_flows or remote_id in {e.remote_id for e in connection.flows}:
            raise RefusedError("too-many-flows")
        entry = peer.new_flow(connection)
        entry.added = True
        entry.remote_id = remote_id
        entry.keys_in = connection.secrets.receiver(entry.local_id)
        entry.keys_out = connection.secrets.sender(remote_id)
        entry.began_at = now
    peer_control.mark_heard(peer, entry, header.number, source, own, now, size)
    event = Step(
        Action.RECV_SYN, source=source, own=own, version=version, pn=header.number, challenge=peer.draw_nonce()
    )
    peer_step.apply(peer, entry, event, now, received=Message.SYN)


# ---- SYN-ACK and the third message ----------------------------------------------------------------------------------


def receive_syn_ack(
    peer: Peer, entry: FlowEntry, header: Header, body: bytes, source: Address, own: Address, now: float, size: int
) -> None:
    """The responder's answer; the first genuine one gives the connection its keys."""
    connection = entry.connection
    if not connection.initiator or entry.added or connection.handshake is None:
        raise RefusedError("syn-ack-unwanted")
    block, sealed = peer_control.split_block(header, body)
    if not block:
        raise RefusedError("malformed", "a SYN-ACK carries a key exchange")
    keys = connection.syn_ack_keys
    hello = None
    handshake = connection.handshake
    if keys is None:
        handshake = handshake.copy()
        hello = handshake.read_hello(block[2:])
        keys = syn_ack_keys(handshake.chaining_key, entry.local_id)
    version, message = peer_control.open_sealed(entry, header, block, sealed, keys)
    assert isinstance(message, wire.SynAck)
    if hello is not None:
        connection.handshake = handshake
        connection.syn_ack_keys = keys
        entry.remote_id = hello.flow
        connection.key_exchange = handshake.write_hello(peer_open.hello_of(peer, entry))
        peer_open.adopt(peer, entry, hello, handshake, handshake.secrets())
    peer_control.mark_heard(peer, entry, header.number, source, own, now, size)
    connection.key_confirmed = False  # a SYN-ACK says that the responder still lacks the third message
    event = Step(
        Action.RECV_SYN_ACK,
        source=source,
        own=own,
        version=version,
        pn=header.number,
        echo=message.echo,
        nonce=message.nonce,
        challenge=peer.draw_nonce(),
    )
    peer_step.apply(peer, entry, event, now, received=Message.SYN_ACK)


class StagedThird(NamedTuple):
    """The third Noise message, read but not believed yet: the sealed part must open under ``keys`` first."""

    hello: Hello
    handshake: Handshake
    secrets: Secrets
    keys: KeySchedule


def stage_third(entry: FlowEntry, block: bytes) -> StagedThird:
    """Read the initiator's key exchange 3 on a copy of the handshake.  Raises `RefusedError`."""
    connection = entry.connection
    if connection.initiator or connection.handshake is None:
        raise RefusedError("handshake-order")
    handshake = connection.handshake.copy()
    hello = handshake.read_hello(block[2:])
    if hello.flow != entry.remote_id:
        raise RefusedError("flow-id", "the hello names another flow than the SYN")
    secrets = handshake.secrets()
    return StagedThird(hello, handshake, secrets, secrets.receiver(entry.local_id))


def commit_third(peer: Peer, entry: FlowEntry, staged: StagedThird) -> None:
    """The initiator has proved who it is."""
    peer_open.adopt(peer, entry, staged.hello, staged.handshake, staged.secrets)

# SPDX-License-Identifier: Apache-2.0
"""Opening connections and flows: the calls, the bytes of SYN and SYN-ACK, and the keys that both ends agree on."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from controller.eccp import peer_step, peer_timers, peer_transmit
from controller.eccp.connection import Connection, FlowEntry
from controller.eccp.errors import LocalError
from controller.eccp.flow import Send, Step
from controller.eccp.handshake import Handshake, ephemeral_key
from controller.eccp.keys import Secrets, seal
from controller.eccp.names import Action, Message
from controller.eccp.outputs import ConnectionEstablished, FlowOpened
from controller.wire import eccp as wire
from controller.wire.eccp import Address, Hello, Kind

if TYPE_CHECKING:
    from controller.eccp.peer import Peer


def connect(
    peer: Peer, remote: Address, own: Address, now: float, *, service: int, expected: bytes | None
) -> Connection:
    """Send the first SYN of a new connection."""
    connection = peer.new_connection(initiator=True, service=service)
    entry = peer.new_flow(connection)
    entry.opened_here = True
    connection.handshake = Handshake(
        peer.settings.credentials,
        initiator=True,
        ephemeral=ephemeral_key(peer.settings.random),
        service=service,
        flow=entry.local_id,
        expected=expected,
    )
    connection.key_exchange = connection.handshake.write_first()
    entry.began_at = now
    peer_step.apply(peer, entry, Step(Action.OPEN, source=remote, own=own), now)
    return connection


def add_flow(
    peer: Peer, connection: Connection, remote: Address, own: Address, now: float, *, backup: bool
) -> FlowEntry:
    """Send the SYN of a further flow."""
    if connection.secrets is None or connection.open_flow() is None:
        raise LocalError("flows are added to an established connection")
    if len(connection.flows) >= peer.settings.max_flows:
        raise LocalError(f"a connection has at most {peer.settings.max_flows} flows")
    entry = peer.new_flow(connection)
    entry.added = entry.opened_here = True
    entry.is_backup = backup
    entry.keys_in = connection.secrets.receiver(entry.local_id)
    entry.began_at = now
    peer_step.apply(peer, entry, Step(Action.OPEN, source=remote, own=own), now)
    return entry


# ---- packets out ----------------------------------------------------------------------------------------------------


def build(peer: Peer, entry: FlowEntry, send: Send, number: int) -> bytes:
    """The bytes of a SYN or SYN-ACK, of a connection or of a further flow."""
    connection = entry.connection
    if send.message is Message.SYN:
        if entry.added:
            return _build_flow_syn(entry, send, number)
        syn = wire.Syn(connection.service, entry.local_id, send.version, connection.cookie, connection.key_exchange)
        return wire.encode_header(Kind.SYN, 0, number) + wire.encode_body(syn)
    if entry.added:
        assert entry.keys_out is not None
        answer = wire.FlowSynAck(entry.local_id, send.echo, send.nonce)
        return peer_transmit.sealed_datagram(
            entry, Kind.FLOW_SYN_ACK, number, send.version, answer, b"", entry.keys_out
        )
    assert connection.syn_ack_keys is not None
    block = len(connection.key_exchange).to_bytes(2, "big") + connection.key_exchange
    syn_ack = wire.SynAck(send.echo, send.nonce)
    return peer_transmit.sealed_datagram(
        entry, Kind.SYN_ACK, number, send.version, syn_ack, block, connection.syn_ack_keys
    )


def _build_flow_syn(entry: FlowEntry, send: Send, number: int) -> bytes:
    """A FLOW_SYN travels to an id that the peer already has; the new id stands before the sealed part."""
    connection = entry.connection
    carrier = next((e for e in connection.flows if e.remote_id and e is not entry), None)
    assert connection.secrets is not None
    own_id = entry.local_id.to_bytes(8, "big")
    clear = wire.encode_header(Kind.FLOW_SYN, carrier.remote_id if carrier else 0, number) + own_id
    body = wire.encode_body(wire.FlowSyn(entry.local_id), len(clear) + 8 + wire.TAG_SIZE)
    keys = connection.secrets.opener_sender(entry.local_id)
    plain = send.version.to_bytes(8, "big") + body
    return clear + seal(keys, number, plain, clear)


def hello_of(peer: Peer, entry: FlowEntry) -> Hello:
    return Hello(
        flow=entry.local_id,
        sealed_data=peer.settings.sealed_data,
        generation=peer.generation,
        addresses=peer.listed,
        inner=peer.settings.inner,
    )


def adopt(peer: Peer, entry: FlowEntry, hello: Hello, handshake: Handshake, secrets: Secrets) -> None:
    connection = entry.connection
    connection.secrets = secrets
    connection.handshake = handshake
    connection.hello = hello
    connection.identity = hello.identity or hashlib.sha256(handshake.remote_static).digest()
    connection.sealed_data = hello.sealed_data or peer.settings.sealed_data
    connection.peer_generation = hello.generation
    connection.peer_listed = hello.addresses
    if peer.settings.inner:  # there is a tunnel
        connection.allowed_inner = frozenset(address.packed for address in hello.inner)
    entry.keys_in = secrets.receiver(entry.local_id)
    entry.keys_out = secrets.sender(entry.remote_id)


def opened(peer: Peer, entry: FlowEntry, now: float) -> None:
    """A flow has become established: report it."""
    connection = entry.connection
    if entry.attempt == 0:
        entry.rtt = entry.rtt.with_sample(now - entry.began_at)
    if not connection.established:
        connection.established = True
        peer.half_open.pop(connection.peer_key_exchange, None)
        peer.by_identity[connection.identity] = connection
        peer.notify(ConnectionEstablished(connection.number, connection.identity, connection.initiator))
    peer.notify(FlowOpened(connection.number, entry.local_id))
    peer_timers.heard(peer, entry, now)
    peer_timers.measure(peer, connection, now)

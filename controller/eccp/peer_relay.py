# SPDX-License-Identifier: Apache-2.0
"""Rendezvous: when both ends moved at once and no known address is alive, a host at a stable address passes RSYNs on.

A host registers by holding an ordinary ECCP connection to the rendezvous, which follows its moves like any other.
The rendezvous is trusted for nothing: the RSYN inside is sealed end to end, its source is validated by a challenge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.eccp import peer_transmit
from controller.eccp.connection import Connection, FlowEntry
from controller.eccp.errors import RefusedError
from controller.eccp.outputs import Datagram
from controller.wire import eccp as wire
from controller.wire.eccp import Address, Kind

if TYPE_CHECKING:
    from controller.eccp.peer import Peer


def forward(peer: Peer, entry: FlowEntry, datagram: bytes) -> bool:
    """Ask the rendezvous to pass an RSYN of ``entry`` on to its peer; False if there is no way to ask."""
    if peer.rendezvous is None or not entry.connection.identity:
        return False
    return _send(peer, peer.rendezvous, Kind.FORWARD, wire.Forward(entry.connection.identity, datagram))


def receive_forward(peer: Peer, entry: FlowEntry, message: wire.Forward, source: Address) -> None:
    """At the rendezvous: pass the RSYN on, with the address that the asker was seen at."""
    if not peer.settings.is_rendezvous:
        raise RefusedError("relay-unwanted", "this host is no rendezvous")
    if wire.decode_header(message.datagram).kind is not Kind.RSYN:
        raise RefusedError("relay-kind", "only RSYNs are passed on")
    target = peer.by_identity.get(message.identity)
    if target is None or not entry.is_open:
        raise RefusedError("relay-unknown")
    _send(peer, target, Kind.RELAY, wire.Relay(source, message.datagram))


def receive_relay(peer: Peer, entry: FlowEntry, message: wire.Relay, now: float) -> None:
    """At a host: handle the RSYN inside as if it had come from the address that the rendezvous saw."""
    if entry.connection is not peer.rendezvous:
        raise RefusedError("relay-unwanted", "relayed by a host that is not our rendezvous")
    view = memoryview(message.datagram)
    inner = wire.decode_header(view)
    flow = peer.flow(inner.flow)
    reply_from = flow.flow.own_addr
    if flow.connection is peer.rendezvous or not isinstance(reply_from, Address):
        raise RefusedError("relay-unknown")
    peer.receive_control(inner, view, message.source, reply_from, now, relayed=True)


def _send(peer: Peer, connection: Connection, kind: Kind, message: wire.Message) -> bool:
    carrier = connection.open_flow()
    if carrier is None or carrier.keys_out is None:
        return False
    flow = carrier.flow
    assert isinstance(flow.own_addr, Address)
    assert isinstance(flow.peer_addr, Address)
    number = carrier.take_number()
    sealed = peer_transmit.sealed_datagram(carrier, kind, number, flow.own_version, message, b"", carrier.keys_out)
    peer.emit(Datagram(flow.own_addr, flow.peer_addr, (sealed,)))
    return True

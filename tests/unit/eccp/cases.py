# SPDX-License-Identifier: Apache-2.0
"""Hosts, frames and moves that the tests of the peer share."""

from __future__ import annotations

import struct

from controller.eccp.connection import Connection, FlowEntry
from controller.eccp.outputs import ConnectionEstablished
from controller.eccp.simulation import Host, Link, Network, pair
from controller.eccp.slices import VNET
from controller.wire.eccp import Address

A1, A2, A3 = (Address(f"10.0.{n}.1", 4500) for n in (0, 1, 2))
B1, B2 = (Address(f"10.0.{n}.2", 4500) for n in (0, 1))
R = Address("10.9.9.9", 4500)


def frame(payload: bytes = b"x" * 50, source: str = "10.77.0.1", to: str = "10.77.0.2") -> bytes:
    """A tunnel frame with a UDP packet; checksums do not matter here."""
    packed = [bytes(map(int, address.split("."))) for address in (source, to)]
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, 17, 0, *packed)
    return VNET.pack(0, 0, 0, 0, 0, 0) + header + payload


def established(seed: int = 1, link: Link | None = None, **changes: object) -> tuple[Network, Host, Host, Connection]:
    network, a, b = pair(seed, link, **changes)
    connection = a.peer.connect(B1, A1, network.now)
    assert network.run_until(lambda: has(a, ConnectionEstablished) and has(b, ConnectionEstablished), 120)
    return network, a, b, connection


def has(host: Host, kind: type, since: float = -1.0) -> bool:
    return any(isinstance(notice, kind) and at >= since for at, notice in host.notices)


def move(network: Network, host: Host, entry: FlowEntry, place: Address) -> float:
    """The host's only place is ``place`` from now on."""
    host.places = {place}
    host.peer.move(entry, place, network.now)
    return network.now


def only_flow(host: Host) -> FlowEntry:
    return next(iter(host.peer.flows.values()))

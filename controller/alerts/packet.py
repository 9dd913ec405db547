# SPDX-License-Identifier: Apache-2.0
"""The packet behind an alert, in whatever link layer the analyser captured it.

dpkt parses it, and not `controller.wire.segment`: an analyser may listen on any kind of interface, and what it reports
may be cut short or made up from a stream. The packet-in path needs speed instead and knows Ethernet only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import dpkt  # type: ignore[import-untyped]

from controller.core.segment import Endpoint
from controller.wire.address import decode_ip

ETHERNET = 1
HEADERS = 1_024
"""Bytes given to dpkt, all headers and more: its time grows with the square of the headers nested in a packet, and an
attacker chooses those."""


class AlertPacket(NamedTuple):
    """Ends, sequence number and payload of a TCP packet."""

    src: Endpoint
    dst: Endpoint
    seq: int
    payload: bytes


def _raw_ip(data: bytes) -> Any:
    return dpkt.ip6.IP6(data) if data[:1] and data[0] >> 4 == 6 else dpkt.ip.IP(data)


_LINKS: dict[int, Callable[[bytes], Any]] = {
    ETHERNET: dpkt.ethernet.Ethernet,
    0: dpkt.loopback.Loopback,
    12: _raw_ip,
    101: _raw_ip,
    113: dpkt.sll.SLL,
    228: _raw_ip,
    229: _raw_ip,
    276: dpkt.sll2.SLL2,
}
"""Parsers by link type, as pcap numbers them."""


def decode_packet(data: bytes, link: int = ETHERNET) -> AlertPacket | None:
    """The TCP packet in ``data``, or None if there is none that can be read (fragments, tunnels, other protocols)."""
    parse = _LINKS.get(link)
    if parse is None:
        return None
    try:
        ip = parse(data[:HEADERS])
        while not isinstance(ip, dpkt.ip.IP | dpkt.ip6.IP6):
            ip = ip.data  # past VLAN tags and link headers
        tcp = ip.data
    except Exception:  # whatever a foreign parser raises on hostile bytes, it means that it cannot read them
        return None
    if not isinstance(tcp, dpkt.tcp.TCP):
        return None
    payload = bytes(tcp.data)
    if len(data) > HEADERS:
        payload = data[HEADERS - len(payload) :]
    return AlertPacket(Endpoint(decode_ip(ip.src), tcp.sport), Endpoint(decode_ip(ip.dst), tcp.dport), tcp.seq, payload)

# SPDX-License-Identifier: Apache-2.0
"""The one door for a frame of unknown content: TCP, ARP, neighbour discovery, ICMP errors, told apart by headers."""

from __future__ import annotations

from controller.core.errors import RemoteError
from controller.core.segment import IcmpError, Segment
from controller.wire.arp import ArpMessage, decode_arp
from controller.wire.ethernet import ARP, pull_ethernet
from controller.wire.icmp_error import ICMPV4, decode_icmp_error
from controller.wire.ip import ICMPV6, TCP, pull_ip
from controller.wire.neighbour import NeighbourMessage, decode_neighbour
from controller.wire.segment import segment_in

INFORMATIONAL = b"\x80"
"""The first type of ICMPv6 that is no error (RFC 4443 section 2.1)."""


def decode_frame(frame: bytes) -> Segment | ArpMessage | NeighbourMessage | IcmpError:
    """Parse a frame of one of the kinds the controller speaks; raises RemoteError for every other frame."""
    ether_type, offset, vlan = pull_ethernet(frame)
    if ether_type == ARP:
        return decode_arp(frame)
    ip = pull_ip(frame, offset, ether_type)
    if ip.protocol == TCP:
        return segment_in(frame, vlan, ip)
    if ip.protocol == ICMPV4 or (ip.protocol == ICMPV6 and frame[ip.start : ip.start + 1] < INFORMATIONAL):
        return decode_icmp_error(frame)
    if ip.protocol == ICMPV6:
        return decode_neighbour(frame)
    raise RemoteError(f"IP protocol {ip.protocol} is not for the controller")

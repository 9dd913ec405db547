# SPDX-License-Identifier: Apache-2.0
"""The one door for a frame of unknown content: TCP, ARP or neighbour discovery, told apart by its headers."""

from __future__ import annotations

from controller.core.errors import RemoteError
from controller.core.segment import Segment
from controller.wire.arp import ArpMessage, decode_arp
from controller.wire.ethernet import ARP, pull_ethernet
from controller.wire.ip import ICMPV6, TCP, pull_ip
from controller.wire.neighbour import NeighbourMessage, decode_neighbour
from controller.wire.segment import segment_in


def decode_frame(frame: bytes) -> Segment | ArpMessage | NeighbourMessage:
    """Parse a frame of one of the three kinds the controller speaks; raises RemoteError for every other frame."""
    ether_type, offset, vlan = pull_ethernet(frame)
    if ether_type == ARP:
        return decode_arp(frame)
    ip = pull_ip(frame, offset, ether_type)
    if ip.protocol == TCP:
        return segment_in(frame, vlan, ip)
    if ip.protocol == ICMPV6:
        return decode_neighbour(frame)
    raise RemoteError(f"IP protocol {ip.protocol} is not for the controller")

# SPDX-License-Identifier: Apache-2.0
"""What packets mean at the seam: packet-in -> event of the core, command -> frames to send out."""

from __future__ import annotations

from controller.core.commands import AnswerHost, PacketOut, ResolveHost
from controller.core.errors import RemoteError
from controller.core.events import HostLocated, IcmpErrorReceived, SegmentReceived
from controller.core.pipeline import RESOLVER_MAC
from controller.core.segment import IcmpError, Segment
from controller.wire.arp import REQUEST, ArpMessage, arp_reply, arp_request, encode_arp
from controller.wire.frame import decode_frame
from controller.wire.icmp_error import encode_icmp_error
from controller.wire.neighbour import (
    SOLICITATION,
    NeighbourMessage,
    encode_neighbour,
    neighbour_reply,
    neighbour_request,
)
from controller.wire.resegment import resegment
from controller.wire.segment import decode_segment, encode_segment


def decode_packet(frame: bytes, total: int) -> Segment | ArpMessage | NeighbourMessage | IcmpError | None:
    """Return what a packet-in carried, or None for what is not for us.

    ``total`` is the packet's length on the wire: of one too long for a packet-in, the segment holds the first bytes.
    """
    try:
        return decode_segment(frame, partial=True) if total > len(frame) else decode_frame(frame)
    except RemoteError:
        return None


def event_of(
    switch: int, port: int, cookie: int, packet: object
) -> SegmentReceived | HostLocated | IcmpErrorReceived | None:
    """Return what the core is told of a decoded packet, or None when it says nothing new (an address probe)."""
    if isinstance(packet, Segment):
        return SegmentReceived(switch, port, packet, cookie)
    if isinstance(packet, IcmpError):
        return IcmpErrorReceived(switch, packet)
    if isinstance(packet, ArpMessage) and not packet.is_probe:
        asks = packet.target if packet.operation == REQUEST else None
        return HostLocated(switch, port, packet.sender, packet.sender_mac, asks, packet.vlan)
    if isinstance(packet, NeighbourMessage) and not packet.is_probe and packet.mac is not None:
        # The link-layer option of a solicitation is the sender's, that of an advertisement the target's.
        if packet.kind == SOLICITATION:
            return HostLocated(switch, port, packet.src, packet.mac, packet.target, packet.vlan)
        return HostLocated(switch, port, packet.target, packet.mac, vlan=packet.vlan)
    return None


def frames_of(command: PacketOut) -> list[bytes]:
    """Return the frames of a packet-out: segments encoded, payloads above ``mss`` cut; raises LocalError."""
    packet = command.packet
    if isinstance(packet, IcmpError):
        return [encode_icmp_error(packet)]
    frame = encode_segment(packet) if isinstance(packet, Segment) else packet
    if not command.mss or (isinstance(packet, Segment) and len(packet.payload) <= command.mss - 40):
        return [frame]
    return resegment(frame, command.mss)


def encode_question(command: ResolveHost) -> bytes:
    """Return the ARP or neighbour discovery frame that asks who has the address."""
    if ":" in command.address:
        return encode_neighbour(neighbour_request(RESOLVER_MAC, command.address, vlan=command.vlan))
    return encode_arp(arp_request(RESOLVER_MAC, command.address, vlan=command.vlan))


def encode_answer(command: AnswerHost) -> bytes:
    """Return the ARP or neighbour discovery frame that tells where an address is, as if its host had said so."""
    asked = (command.asker_mac, command.address, command.asker, command.vlan)
    if ":" in command.address:
        return encode_neighbour(neighbour_reply(neighbour_request(*asked), command.mac))
    return encode_arp(arp_reply(arp_request(*asked), command.mac))

# SPDX-License-Identifier: Apache-2.0
"""ARP for IPv4 over Ethernet: RFC 826; probes and announcements of RFC 5227."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from controller.core.errors import LocalError, RemoteError
from controller.wire.address import decode_ip, decode_mac, encode_ip, encode_mac
from controller.wire.ethernet import ARP, pull_ethernet, push_ethernet

REQUEST, REPLY = 1, 2
BROADCAST = "ff:ff:ff:ff:ff:ff"
NO_MAC = "00:00:00:00:00:00"
NO_ADDRESS = "0.0.0.0"

_FIXED = Struct("!HHBBH")
_BODY = Struct("!6s4s6s4s")
_ETHERNET_IPV4 = (1, 0x0800, 6, 4)
_SMALLEST = 60
"""Bytes of the smallest Ethernet frame without its check sequence."""


@dataclass(frozen=True, slots=True)
class ArpMessage:
    """An ARP message and the Ethernet addresses around it; ``operation`` is REQUEST or REPLY."""

    operation: int
    sender_mac: str
    sender: str
    target_mac: str
    target: str
    eth_src: str
    eth_dst: str
    vlan: int | None = None

    @property
    def is_probe(self) -> bool:
        """Whether the sender asks without having an address of its own yet."""
        return self.operation == REQUEST and self.sender == NO_ADDRESS


def decode_arp(frame: bytes) -> ArpMessage:
    """Parse an ARP frame; raises RemoteError for any other, other address kinds and other operations."""
    ether_type, offset, vlan = pull_ethernet(frame)
    if ether_type != ARP:
        raise RemoteError(f"EtherType 0x{ether_type:04x} is not ARP")
    if len(frame) < offset + 28:
        raise RemoteError("a frame ends inside its ARP message")
    *kinds, operation = _FIXED.unpack_from(frame, offset)
    if tuple(kinds) != _ETHERNET_IPV4:
        raise RemoteError("an ARP message for other addresses than IPv4 over Ethernet")
    if operation not in (REQUEST, REPLY):
        raise RemoteError(f"ARP operation {operation} is neither request nor reply")
    sender_mac, sender, target_mac, target = _BODY.unpack_from(frame, offset + 8)
    return ArpMessage(
        operation,
        decode_mac(sender_mac),
        decode_ip(sender),
        decode_mac(target_mac),
        decode_ip(target),
        decode_mac(frame[6:12]),
        decode_mac(frame[:6]),
        vlan,
    )


def encode_arp(message: ArpMessage) -> bytes:
    """The frame of a message, padded to Ethernet's minimum; raises LocalError for a field that cannot be."""
    sender, target = encode_ip(message.sender), encode_ip(message.target)
    if len(sender) != 4 or len(target) != 4:
        raise LocalError(f"ARP is for IPv4, not for {message.sender} and {message.target}")
    if message.operation not in (REQUEST, REPLY):
        raise LocalError(f"ARP operation {message.operation} is neither request nor reply")
    header = push_ethernet(message.eth_dst, message.eth_src, ARP, message.vlan)
    body = _BODY.pack(encode_mac(message.sender_mac), sender, encode_mac(message.target_mac), target)
    return (header + _FIXED.pack(*_ETHERNET_IPV4, message.operation) + body).ljust(_SMALLEST, b"\0")


def arp_request(mac: str, target: str, sender: str = NO_ADDRESS, vlan: int | None = None) -> ArpMessage:
    """Ask everybody for ``target``; without ``sender`` it is a probe, which changes nobody's neighbour table."""
    return ArpMessage(REQUEST, mac, sender, NO_MAC, target, mac, BROADCAST, vlan)


def arp_reply(request: ArpMessage, mac: str) -> ArpMessage:
    """Answer ``request``: what it asked for is at ``mac``."""
    asker = request.sender_mac
    return ArpMessage(REPLY, mac, request.target, asker, request.sender, mac, asker, request.vlan)

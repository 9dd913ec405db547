# SPDX-License-Identifier: Apache-2.0
"""Neighbour discovery, IPv6's ARP: solicitations and advertisements of RFC 4861 (duplicate detection: RFC 4862)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from controller.core.errors import LocalError, RemoteError
from controller.wire.address import decode_ip, decode_mac, encode_ip, encode_mac
from controller.wire.checksum import finish, ones_sum, pseudo_header
from controller.wire.ethernet import IPV6, pull_ethernet, push_ethernet
from controller.wire.ip import ICMPV6, IPV6_HEADER, pull_ip

SOLICITATION, ADVERTISEMENT = 135, 136
ROUTER, SOLICITED, OVERRIDE = 0x80, 0x40, 0x20
UNSPECIFIED = "::"
ALL_NODES = "ff02::1"

_HOP_LIMIT = 255
_SOURCE_MAC, _TARGET_MAC = 1, 2
_FIXED = Struct("!BBHI16s")


@dataclass(frozen=True, slots=True)
class NeighbourMessage:
    """A solicitation (who has ``target``?) or an advertisement (``target`` is at ``mac``).

    ``mac`` is the address option: of the sender in a solicitation (None in a probe), of the target in an
    advertisement. ``flags`` (ROUTER, SOLICITED, OVERRIDE) are an advertisement's.
    """

    kind: int
    src: str
    dst: str
    target: str
    mac: str | None
    eth_src: str
    eth_dst: str
    flags: int = 0
    vlan: int | None = None

    @property
    def is_probe(self) -> bool:
        """Whether the sender only looks for duplicates of an address it does not use yet."""
        return self.kind == SOLICITATION and self.src == UNSPECIFIED


def decode_neighbour(frame: bytes) -> NeighbourMessage:
    """Parse a solicitation or advertisement, checked as RFC 4861 section 7.1 asks; raises RemoteError otherwise."""
    ether_type, offset, vlan = pull_ethernet(frame)
    ip = pull_ip(frame, offset, ether_type)
    if ether_type != IPV6 or ip.protocol != ICMPV6 or ip.end < ip.start + 24:
        raise RemoteError("not a neighbour discovery message")
    kind, code, _, reserved, target = _FIXED.unpack_from(frame, ip.start)
    if kind not in (SOLICITATION, ADVERTISEMENT) or code:
        raise RemoteError(f"ICMPv6 type {kind} code {code} is not neighbour discovery")
    message = frame[ip.start : ip.end]
    if ip.ttl != _HOP_LIMIT:
        raise RemoteError(f"a neighbour message from beyond the link (hop limit {ip.ttl})")
    if finish(pseudo_header(ip.src, ip.dst, ICMPV6, len(message)) + ones_sum(message)):
        raise RemoteError("a neighbour message with a wrong checksum")
    if target[0] == 0xFF:
        raise RemoteError("a neighbour message about a multicast address")
    return NeighbourMessage(
        kind,
        decode_ip(ip.src),
        decode_ip(ip.dst),
        decode_ip(target),
        _find_mac(message[24:], _SOURCE_MAC if kind == SOLICITATION else _TARGET_MAC),
        decode_mac(frame[6:12]),
        decode_mac(frame[:6]),
        reserved >> 24 if kind == ADVERTISEMENT else 0,
        vlan,
    )


def encode_neighbour(message: NeighbourMessage) -> bytes:
    """The frame of a message with its checksum; raises LocalError for a field that cannot be."""
    src, dst, target = encode_ip(message.src), encode_ip(message.dst), encode_ip(message.target)
    if not len(src) == len(dst) == len(target) == 16:
        raise LocalError(f"neighbour discovery is for IPv6, not for {message.target}")
    if message.kind not in (SOLICITATION, ADVERTISEMENT) or message.flags & ~0xFF:
        raise LocalError(f"no neighbour message has kind {message.kind} and flags {message.flags}")
    option = b""
    if message.mac is not None:
        which = _SOURCE_MAC if message.kind == SOLICITATION else _TARGET_MAC
        option = bytes((which, 1)) + encode_mac(message.mac)
    size = 24 + len(option)
    flags = message.flags << 24 if message.kind == ADVERTISEMENT else 0
    blank = _FIXED.pack(message.kind, 0, 0, flags, target) + option
    checksum = finish(pseudo_header(src, dst, ICMPV6, size) + ones_sum(blank))
    return b"".join(
        (
            push_ethernet(message.eth_dst, message.eth_src, IPV6, message.vlan),
            IPV6_HEADER.pack(6 << 28, size, ICMPV6, _HOP_LIMIT, src, dst),
            _FIXED.pack(message.kind, 0, checksum, flags, target),
            option,
        )
    )


def neighbour_request(mac: str, target: str, sender: str = UNSPECIFIED, vlan: int | None = None) -> NeighbourMessage:
    """Ask the target's solicited-node group who has ``target``; without ``sender`` it is a probe."""
    low = encode_ip(target)[-3:]
    group = decode_ip(encode_ip("ff02::1:ff00:0")[:13] + low)
    own = None if sender == UNSPECIFIED else mac
    return NeighbourMessage(SOLICITATION, sender, group, target, own, mac, decode_mac(b"\x33\x33\xff" + low), vlan=vlan)


def neighbour_reply(request: NeighbourMessage, mac: str) -> NeighbourMessage:
    """Answer ``request``: what it asked for is at ``mac``. A probe is answered to all nodes (RFC 4861, 7.2.4)."""
    if request.is_probe:
        to, eth_dst, flags = ALL_NODES, "33:33:00:00:00:01", OVERRIDE
    else:
        to, eth_dst, flags = request.src, request.mac or request.eth_src, SOLICITED | OVERRIDE
    return NeighbourMessage(ADVERTISEMENT, request.target, to, request.target, mac, mac, eth_dst, flags, request.vlan)


def _find_mac(options: bytes, wanted: int) -> str | None:
    found = None
    at = 0
    while at < len(options):
        size = options[at + 1] * 8 if at + 1 < len(options) else 0
        if not size or at + size > len(options):
            raise RemoteError("a neighbour message with an option that overruns it")
        if options[at] == wanted and size == 8:
            found = decode_mac(options[at + 2 : at + 8])
        at += size
    return found

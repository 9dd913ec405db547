# SPDX-License-Identifier: Apache-2.0
"""ICMP errors about TCP segments: RFC 792, RFC 1191 (too big), RFC 4443. At least eight bytes of it are quoted."""

from __future__ import annotations

from struct import pack_into, unpack_from

from controller.core.errors import LocalError, RemoteError
from controller.core.segment import Endpoint, IcmpError
from controller.wire.address import decode_ip, decode_mac, encode_ip, encode_mac
from controller.wire.checksum import finish, ones_sum, pseudo_header
from controller.wire.ethernet import IPV4, pull_ethernet
from controller.wire.ip import ICMPV6, TCP, pull_ip

ICMPV4 = 1
ERRORS_4, ERRORS_6 = (3, 11), (1, 2, 3)
"""Destination unreachable (too big among them) and time exceeded; too big has a type of its own in IPv6."""
HEADER = 8
"""Bytes of an error before the packet that it quotes."""
QUOTED = 8
"""Bytes of the segment that are needed: ports and sequence number."""


def decode_icmp_error(frame: bytes) -> IcmpError:
    """Parse an error about a TCP segment; raises RemoteError for every other frame."""
    ether_type, offset, _ = pull_ethernet(frame)
    ip = pull_ip(frame, offset, ether_type)
    kinds = ERRORS_4 if ether_type == IPV4 else ERRORS_6
    if ip.protocol != (ICMPV4 if ether_type == IPV4 else ICMPV6) or ip.end < ip.start + HEADER:
        raise RemoteError("not an ICMP message")
    if frame[ip.start] not in kinds:
        raise RemoteError(f"ICMP type {frame[ip.start]} tells of no lost segment")
    src, dst, tcp = _quoted(frame, ip.start + HEADER, ip.end, ether_type)
    size = 4 if ether_type == IPV4 else 16
    sport, dport, seq = unpack_from("!HHI", frame, tcp)
    return IcmpError(
        decode_ip(ip.src),
        decode_ip(ip.dst),
        Endpoint(decode_ip(frame[src : src + size]), sport),
        Endpoint(decode_ip(frame[dst : dst + size]), dport),
        seq,
        decode_mac(frame[6:12]),
        decode_mac(frame[:6]),
        frame,
    )


def _quoted(frame: bytes, start: int, end: int, ether_type: int) -> tuple[int, int, int]:
    """Return where the quoted packet has its source, its destination and its TCP header."""
    if ether_type == IPV4:
        header = (frame[start] & 15) * 4 if start < end else 0
        if header < 20 or end < start + header + QUOTED or frame[start] >> 4 != 4:
            raise RemoteError("an ICMP error that quotes too little")
        if frame[start + 9] != TCP or int.from_bytes(frame[start + 6 : start + 8]) & 0x1FFF:
            raise RemoteError("an ICMP error about something else than a TCP segment")
        return start + 12, start + 16, start + header
    if end < start + 40 + QUOTED or frame[start] >> 4 != 6:
        raise RemoteError("an ICMPv6 error that quotes too little")
    if frame[start + 6] != TCP:
        raise RemoteError("an ICMPv6 error about something else than a TCP segment")
    return start + 8, start + 24, start + 40


def encode_icmp_error(error: IcmpError) -> bytes:
    """Return the frame of an error: that which it was decoded from, with its fields as they are now.

    All checksums but that of the quoted segment, which no receiver can check, are computed anew. Raises LocalError for
    addresses of another IP version than the frame's.
    """
    frame = bytearray(error.frame)
    ether_type, offset, _ = pull_ethernet(error.frame)
    ip = pull_ip(error.frame, offset, ether_type)
    src, dst, tcp = _quoted(error.frame, ip.start + HEADER, ip.end, ether_type)
    outer = offset + (12 if ether_type == IPV4 else 8)
    size = 4 if ether_type == IPV4 else 16
    ends = (error.src, error.dst, error.about_src.address, error.about_dst.address)
    for place, address in zip((outer, outer + size, src, dst), ends, strict=True):
        packed = encode_ip(address)
        if len(packed) != size:
            raise LocalError(f"{address} is of another IP version than the error that it shall stand in")
        frame[place : place + size] = packed
    frame[:12] = encode_mac(error.eth_dst) + encode_mac(error.eth_src)
    pack_into("!HHI", frame, tcp, error.about_src.port, error.about_dst.port, error.seq)
    first = 0
    if ether_type == IPV4:
        for start, end in ((offset, ip.start), (ip.start + HEADER, tcp)):
            pack_into("!H", frame, start + 10, 0)
            pack_into("!H", frame, start + 10, finish(ones_sum(frame[start:end])))
    else:
        first = pseudo_header(encode_ip(error.src), encode_ip(error.dst), ICMPV6, ip.end - ip.start)
    pack_into("!H", frame, ip.start + 2, 0)
    pack_into("!H", frame, ip.start + 2, finish(first + ones_sum(frame[ip.start : ip.end])))
    return bytes(frame)

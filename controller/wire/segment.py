# SPDX-License-Identifier: Apache-2.0
"""TCP segments (RFC 9293 section 3.1) between frames and `core.segment.Segment`: the packet-in path, so made for speed.

Checksums are not verified on the way in: a frame from a virtual port carries a partial one until its hardware would
have completed it, and the receiving host verifies anyway. On the way out they are always complete.
The reserved bits of the TCP header are not kept, so a SYN of AccECN becomes one of classic ECN.
"""

from __future__ import annotations

from struct import Struct, error

from controller.core.errors import LocalError, RemoteError
from controller.core.segment import NO_OPTIONS, Endpoint, Segment
from controller.wire.address import decode_ip, decode_mac, encode_ip
from controller.wire.checksum import ones_sum
from controller.wire.ethernet import IPV4, IPV6, pull_ethernet, push_ethernet
from controller.wire.ip import DONT_FRAGMENT, TCP, IpFacts, pull_ip
from controller.wire.tcp_options import decode_options, encode_options

TCP_HEADER = Struct("!HHIIBBHHH")
_IPV4_TCP = Struct("!HHHHHH4s4sHHIIHHHH")
_IPV6_TCP = Struct("!IHH16s16sHHIIHHHH")


def decode_segment(frame: bytes, partial: bool = False) -> Segment:
    """The TCP segment in an Ethernet frame; ``frame`` is kept in it.

    With ``partial`` the payload may have been cut off by the capture. Raises RemoteError for everything that is not
    one whole TCP segment over IPv4 or IPv6.
    """
    ether_type, offset, vlan = pull_ethernet(frame)
    return segment_in(frame, vlan, pull_ip(frame, offset, ether_type, partial))


def segment_in(frame: bytes, vlan: int | None, ip: IpFacts) -> Segment:
    """`decode_segment` for a caller that has read the headers in front of the TCP header already."""
    src, dst, protocol, start, end, ttl, tos, ident = ip
    if protocol != TCP:
        raise RemoteError(f"IP protocol {protocol} is not TCP")
    if start + 20 > end:
        raise RemoteError("a packet ends inside its TCP header")
    sport, dport, seq, ack, size, flags, window, _, urgent = TCP_HEADER.unpack_from(frame, start)
    data = start + (size >> 4) * 4
    if data < start + 20 or data > end:
        raise RemoteError(f"a TCP header of {data - start} bytes in a packet of {end - start}")
    return Segment(
        Endpoint(decode_ip(src), sport),
        Endpoint(decode_ip(dst), dport),
        seq,
        ack,
        flags,
        window,
        NO_OPTIONS if data == start + 20 else decode_options(frame[start + 20 : data]),
        frame[data:end],
        decode_mac(frame[6:12]),
        decode_mac(frame[:6]),
        vlan,
        ttl,
        tos,
        ident,
        urgent,
        frame,
    )


def encode_segment(segment: Segment) -> bytes:
    """The frame of a segment, from its fields alone but for inner VLAN tags and priorities (see `push_ethernet`).

    IPv4 has DF set and no options, IPv6 no extension headers. Raises LocalError for fields that no header can hold.
    """
    src, dst = encode_ip(segment.src.address), encode_ip(segment.dst.address)
    options = b"" if segment.options is NO_OPTIONS else encode_options(segment.options)
    length = 20 + len(options) + len(segment.payload)
    (_, sport), (_, dport), seq, ack = segment.src, segment.dst, segment.seq, segment.ack
    head = (20 + len(options)) << 10 | segment.flags
    window, urgent = segment.window, segment.urgent
    if (segment.flags | segment.tos | segment.ttl) & ~0xFF:
        raise LocalError(f"flags {segment.flags}, tos {segment.tos} and ttl {segment.ttl} have eight bits each")
    addresses = ones_sum(src + dst)
    # 2^16 is 1 modulo 65,535: a 32-bit number counts as its two words do (see checksum.ones_sum)
    total = addresses + TCP + length + sport + dport + seq + ack + head + window + urgent
    total += ones_sum(options + segment.payload)
    checksum = 65_535 - (total % 65_535 or 65_535)
    try:
        if len(src) == len(dst) == 4:
            first, life = 0x4500 | segment.tos, segment.ttl << 8 | TCP
            header = addresses + first + length + 20 + segment.ip_id + DONT_FRAGMENT + life
            packet = _IPV4_TCP.pack(
                first,
                length + 20,
                segment.ip_id,
                DONT_FRAGMENT,
                life,
                65_535 - (header % 65_535 or 65_535),
                src,
                dst,
                sport,
                dport,
                seq,
                ack,
                head,
                window,
                checksum,
                urgent,
            )
            ethernet = push_ethernet(segment.eth_dst, segment.eth_src, IPV4, segment.vlan, segment.frame)
        elif len(src) == len(dst) == 16:
            first, life = 6 << 28 | segment.tos << 20, TCP << 8 | segment.ttl
            packet = _IPV6_TCP.pack(
                first, length, life, src, dst, sport, dport, seq, ack, head, window, checksum, urgent
            )
            ethernet = push_ethernet(segment.eth_dst, segment.eth_src, IPV6, segment.vlan, segment.frame)
        else:
            raise LocalError(f"a segment from {segment.src} to {segment.dst} mixes IPv4 and IPv6")
    except error as reason:
        raise LocalError(f"a segment field is out of range: {reason}") from reason
    return ethernet + packet + options + segment.payload

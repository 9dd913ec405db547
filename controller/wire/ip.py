# SPDX-License-Identifier: Apache-2.0
"""IPv4 (RFC 791) and IPv6 (RFC 8200) headers in front of a payload that is all there.

Fragments are refused here once for all: nothing of the project edits, answers or holds a part of a packet.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from controller.core.errors import RemoteError
from controller.wire.ethernet import IPV4, IPV6

TCP, ICMPV6 = 6, 58

IPV4_HEADER = Struct("!BBHHHBBH4s4s")
IPV6_HEADER = Struct("!IHBB16s16s")
DONT_FRAGMENT = 0x4000
_FRAGMENT = 0x3FFF  # more fragments, or an offset
_HOP_BY_HOP, _ROUTING, _FRAGMENT_HEADER, _AUTHENTICATION, _DESTINATION = 0, 43, 44, 51, 60
_EXTENSIONS = frozenset({_HOP_BY_HOP, _ROUTING, _FRAGMENT_HEADER, _AUTHENTICATION, _DESTINATION})


class IpFacts(NamedTuple):
    """What an IP header says: addresses as bytes, and from where to where in the frame its payload stands."""

    src: bytes
    dst: bytes
    protocol: int
    start: int
    end: int
    ttl: int
    tos: int
    ident: int


def pull_ip(frame: bytes, offset: int, ether_type: int, partial: bool = False) -> IpFacts:
    """Read the IP header at ``offset`` and every extension header behind it.

    Bytes after the packet (Ethernet padding) are left out. With ``partial`` a packet whose end was not captured is
    taken as far as it goes. Raises RemoteError for another EtherType, a header that cannot be, and any fragment.
    """
    size = len(frame)
    if ether_type == IPV4:
        if size < offset + 20:
            raise RemoteError("a frame ends inside its IPv4 header")
        version, tos, total, ident, fragment, ttl, protocol, _, src, dst = IPV4_HEADER.unpack_from(frame, offset)
        header = (version & 0x0F) * 4
        if version >> 4 != 4 or header < 20 or total < header:
            raise RemoteError(f"an IPv4 header of version {version >> 4}, {header} bytes, packet of {total} bytes")
        if fragment & _FRAGMENT:
            raise RemoteError("an IPv4 fragment")
        start, end = offset + header, offset + total
    elif ether_type == IPV6:
        if size < offset + 40:
            raise RemoteError("a frame ends inside its IPv6 header")
        first, length, protocol, ttl, src, dst = IPV6_HEADER.unpack_from(frame, offset)
        if first >> 28 != 6:
            raise RemoteError(f"an IPv6 header of version {first >> 28}")
        tos, ident = first >> 20 & 0xFF, 0
        start, end = offset + 40, offset + 40 + length
        if protocol in _EXTENSIONS:
            protocol, start = _skip_extensions(frame, protocol, start, min(end, size))
    else:
        raise RemoteError(f"EtherType 0x{ether_type:04x} is not IP")
    if end > size:
        if not partial:
            raise RemoteError(f"an IP packet of {end - offset} bytes of which {size - offset} are there")
        end = size
    if start > end:
        raise RemoteError("an IP packet ends inside its own headers")
    return IpFacts(src, dst, protocol, start, end, ttl, tos, ident)


def _skip_extensions(frame: bytes, protocol: int, start: int, end: int) -> tuple[int, int]:
    """Return (protocol behind all extension headers, its offset)."""
    while protocol in _EXTENSIONS:
        if start + 8 > end:
            raise RemoteError("an IPv6 packet ends inside an extension header")
        kind, protocol, units = protocol, frame[start], frame[start + 1]
        if kind == _FRAGMENT_HEADER:
            if int.from_bytes(frame[start + 2 : start + 4], "big") & 0xFFF9:
                raise RemoteError("an IPv6 fragment")
            start += 8  # an atomic fragment is a whole packet (RFC 6946)
        elif kind == _AUTHENTICATION:
            start += (units + 2) * 4
        else:
            if kind == _ROUTING and frame[start + 3]:
                raise RemoteError("an IPv6 packet that is still being source-routed")
            start += (units + 1) * 8
    return protocol, start

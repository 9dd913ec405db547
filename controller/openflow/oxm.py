# SPDX-License-Identifier: Apache-2.0
"""Match fields on the wire: OXM TLVs as OpenFlow 1.4 (section 7.2.3) lays them out.

Encoding by hand is what keeps a migration's few flows from costing a millisecond: the framework's generic encoder
takes more than 100 us for one flow-mod. The unit tests compare every result with the framework's own.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from controller.core.commands import Match
from controller.core.errors import LocalError
from controller.wire.address import REMEMBERED, encode_ip, encode_mac

ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
IP_PROTO_TCP = 6
VLAN_PRESENT = 0x1000


def _header(field: int, length: int) -> bytes:
    """Return the header of an unmasked field of the basic class (0x8000)."""
    return struct.pack("!HBB", 0x8000, field << 1, length)


IN_PORT = _header(0, 4)
ETH_DST = _header(3, 6)
ETH_SRC = _header(4, 6)
ETH_TYPE = _header(5, 2)
VLAN_VID = _header(6, 2)
IP_PROTO = _header(10, 1)
IPV4_SRC = _header(11, 4)
IPV4_DST = _header(12, 4)
TCP_SRC = _header(13, 2)
TCP_DST = _header(14, 2)
IPV6_SRC = _header(26, 16)
IPV6_DST = _header(27, 16)
ICMPV6_TYPE = _header(29, 1)
ICMPV4_TYPE = _header(19, 1)
# OpenFlow 1.4 has no field for the TCP flags; Nicira's (class 1, field 34, masked, 2 + 2 bytes) works in any version.
NX_TCP_FLAGS = struct.pack("!HBB", 0x0001, 34 << 1 | 1, 4)


def encode_match(match: Match) -> bytes:
    """Return an ``ofp_match`` structure, padded to 8 bytes.

    What a field presupposes is filled in: TCP fields imply protocol 6, an address implies its Ethernet type.
    Raises LocalError for a match that no packet can meet, and for one whose Ethernet type cannot be told.
    """
    try:
        fields = b"".join(_fields(match))
    except OverflowError as error:
        raise LocalError(f"{match}: {error}") from error
    length = 4 + len(fields)
    return struct.pack("!HH", 1, length) + fields + bytes(-length % 8)


def _fields(match: Match) -> list[bytes]:
    """Return the TLVs, by field number: that is also the order that prerequisites ask for."""
    fields: list[bytes] = []
    if match.in_port is not None:
        fields += IN_PORT, match.in_port.to_bytes(4)
    if match.eth_dst is not None:
        fields += ETH_DST, encode_mac(match.eth_dst)
    if match.eth_src is not None:
        fields += ETH_SRC, encode_mac(match.eth_src)
    ether_type = _ether_type(match)
    if ether_type is not None:
        fields += ETH_TYPE, ether_type.to_bytes(2)
    if match.vlan is not None:
        fields += VLAN_VID, (match.vlan | VLAN_PRESENT).to_bytes(2)
    is_tcp = match.tcp_src is not None or match.tcp_dst is not None or match.tcp_flags is not None
    proto = IP_PROTO_TCP if match.ip_proto is None and is_tcp else match.ip_proto
    if is_tcp and proto != IP_PROTO_TCP:
        raise LocalError(f"a match on TCP fields cannot ask for IP protocol {proto}")
    if proto is not None:
        fields += IP_PROTO, proto.to_bytes(1)
    addresses = b"".join(
        encode_address(address, *headers)
        for address, headers in ((match.ip_src, (IPV4_SRC, IPV6_SRC)), (match.ip_dst, (IPV4_DST, IPV6_DST)))
        if address is not None
    )
    if ether_type == ETHERTYPE_IPV4:
        fields.append(addresses)
    if match.tcp_src is not None:
        fields += TCP_SRC, match.tcp_src.to_bytes(2)
    if match.tcp_dst is not None:
        fields += TCP_DST, match.tcp_dst.to_bytes(2)
    if ether_type == ETHERTYPE_IPV6:
        fields.append(addresses)
    if match.icmpv4_type is not None:
        fields += ICMPV4_TYPE, match.icmpv4_type.to_bytes(1)
    if match.icmpv6_type is not None:
        fields += ICMPV6_TYPE, match.icmpv6_type.to_bytes(1)
    if match.tcp_flags is not None:
        value, mask = match.tcp_flags
        fields += NX_TCP_FLAGS, (value & mask).to_bytes(2), mask.to_bytes(2)
    return fields


def _ether_type(match: Match) -> int | None:
    """Return the Ethernet type that the match asks for or implies; raises LocalError when it cannot be told."""
    addresses = [address for address in (match.ip_src, match.ip_dst) if address is not None]
    implied = {ETHERTYPE_IPV6 if ":" in address else ETHERTYPE_IPV4 for address in addresses}
    if match.ether_type is not None:
        implied.add(match.ether_type)
    if len(implied) > 1:
        raise LocalError(f"a match cannot mix address families: {match}")
    if implied:
        return implied.pop()
    if match.ip_proto is not None or match.tcp_src is not None or match.tcp_dst is not None or match.tcp_flags:
        raise LocalError(f"a match on IP or TCP fields needs an address or an Ethernet type: {match}")
    return None


@lru_cache(REMEMBERED)
def encode_address(text: str, header4: bytes, header6: bytes) -> bytes:
    """Return the TLV of an IPv4 or IPv6 address; raises LocalError for text that is neither."""
    packed = encode_ip(text)
    return (header4 if len(packed) == 4 else header6) + packed

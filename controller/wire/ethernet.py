# SPDX-License-Identifier: Apache-2.0
"""Ethernet II frames with any number of VLAN tags: IEEE 802.3, 802.1Q, 802.1ad."""

from __future__ import annotations

from struct import Struct

from controller.core.errors import LocalError, RemoteError
from controller.wire.address import encode_mac

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
TAGS = frozenset({0x8100, 0x88A8, 0x9100})
"""EtherTypes that announce a tag of four bytes: customer, service, and service before it was standardised."""

HEADER = 14
_WORD = Struct("!H")
_TAG = Struct("!HH")


def pull_ethernet(frame: bytes) -> tuple[int, int, int | None]:
    """Return (EtherType behind all tags, offset of what follows it, id of the outermost VLAN or None).

    Raises RemoteError for a frame that ends before that.
    """
    size = len(frame)
    if size < HEADER:
        raise RemoteError(f"a frame of {size} bytes has no Ethernet header")
    ether_type = _WORD.unpack_from(frame, 12)[0]
    offset = HEADER
    vlan = None
    while ether_type in TAGS:
        if size < offset + 4:
            raise RemoteError("a frame ends inside its VLAN tag")
        if vlan is None:
            vlan = _WORD.unpack_from(frame, offset)[0] & 0x0FFF
        ether_type = _WORD.unpack_from(frame, offset + 2)[0]
        offset += 4
    return ether_type, offset, vlan


def push_ethernet(dst: str, src: str, ether_type: int, vlan: int | None, like: bytes | None = None) -> bytes:
    """An Ethernet header, tagged when ``vlan`` (0 to 4095) is given.

    What an id cannot say (priority bits, inner tags, the tag's own type) is copied from the frame ``like`` if that one
    is in the same VLAN. Raises LocalError for an id or an address out of range.
    """
    addresses = encode_mac(dst) + encode_mac(src)
    if vlan is None:
        return addresses + _WORD.pack(ether_type)
    if not 0 <= vlan <= 0x0FFF:
        raise LocalError(f"{vlan} is not a VLAN id (0 to 4095)")
    if like is not None:
        _, end, same = pull_ethernet(like)
        if same == vlan:
            return addresses + like[12 : end - 2] + _WORD.pack(ether_type)
    return addresses + _TAG.pack(0x8100, vlan) + _WORD.pack(ether_type)

# SPDX-License-Identifier: Apache-2.0
"""Large inner packets in slices: one datagram carries one inner segment, so that losing it costs that one only.

A tunnel frame is a ``virtio_net_hdr`` (10 bytes) and an IP packet of up to 64 KB that the kernel has left unsegmented
(TSO).  `cut` splits it at the inner segment size; every slice carries the headers of the whole frame and its index.
`join` makes of any run of consecutive slices a frame again, as if that run alone had been sent: sequence number, IP
id, lengths, flags and the partial checksum are those the sender's own segmentation would have given.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from controller.eccp.errors import RefusedError
from controller.eccp.outputs import Buffer

VNET = struct.Struct("=BBHHHH")  # as the kernel has it: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
WIRE = struct.Struct("!BBHHHH")  # the same fields in network byte order
VNET_SIZE = VNET.size
NEEDS_CSUM = 1
GSO_NONE, GSO_TCPV4, GSO_TCPV6 = 0, 1, 4
GSO_ECN = 0x80
TCP_CHECKSUM_OFFSET = 16
FIN, PSH, CWR = 0x01, 0x08, 0x80
MAX_SLICES = 120  # fits the 7-bit index of the header


class Cut(NamedTuple):
    """A frame ready to send: ``head`` (wire vnet header and inner headers) goes before each piece."""

    head: bytes
    pieces: list[memoryview]


def cut(frame: Buffer) -> list[Cut]:
    """Split a tunnel frame into slices, at most `MAX_SLICES` to a `Cut`.  Raises `RefusedError` on a broken frame."""
    view = memoryview(frame)
    if len(view) < VNET_SIZE + 20:
        raise RefusedError("tunnel-frame", f"{len(view)} bytes are no IP packet")
    flags, gso_type, _, gso_size, csum_start, csum_offset = VNET.unpack_from(view)
    packet = view[VNET_SIZE:]
    if gso_type == GSO_NONE or not gso_size:
        return [Cut(WIRE.pack(flags & NEEDS_CSUM, GSO_NONE, 0, 0, csum_start, csum_offset), [packet])]
    if csum_start + 20 > len(packet):
        raise RefusedError("tunnel-frame", "the transport header is outside the packet")
    header = csum_start + (packet[csum_start + 12] >> 4) * 4
    payload = len(packet) - header
    count = -(-payload // gso_size)
    if payload <= 0 or count == 1:
        return [Cut(WIRE.pack(flags & NEEDS_CSUM, GSO_NONE, 0, 0, csum_start, csum_offset), [packet])]
    if count > MAX_SLICES:
        return _cut_long(frame, packet, header, gso_size)
    head = WIRE.pack(flags & NEEDS_CSUM, gso_type, header, gso_size, csum_start, csum_offset) + packet[:header]
    ends = range(header, len(packet), gso_size)
    return [Cut(head, [packet[at : at + gso_size] for at in ends])]


def _cut_long(frame: Buffer, packet: memoryview, header: int, gso_size: int) -> list[Cut]:
    """A frame of very small segments: first split it into frames of `MAX_SLICES` segments."""
    flags, gso_type, _, _, csum_start, csum_offset = VNET.unpack_from(frame)
    head = WIRE.pack(flags & NEEDS_CSUM, gso_type, header, gso_size, csum_start, csum_offset) + packet[:header]
    pieces = [packet[at : at + gso_size] for at in range(header, len(packet), gso_size)]
    result: list[Cut] = []
    for first in range(0, len(pieces), MAX_SLICES):
        group = pieces[first : first + MAX_SLICES]
        parts = join(head, first, group, len(pieces))
        result.extend(cut(b"".join(parts)))
    return result


def parse_head(body: Buffer) -> int:
    """Check a slice's head and return its length with the inner headers.  Raises `RefusedError`."""
    if len(body) < WIRE.size + 20:
        raise RefusedError("slice-short")
    flags, gso_type, header, gso_size, csum_start, csum_offset = WIRE.unpack_from(body)
    kind = gso_type & ~GSO_ECN
    if flags & ~NEEDS_CSUM or kind not in {GSO_NONE, GSO_TCPV4, GSO_TCPV6}:
        raise RefusedError("slice-head", f"flags {flags}, gso type {gso_type}")
    if kind == GSO_NONE:
        size = len(body) - WIRE.size
        if header or gso_size or (flags and csum_start + csum_offset + 2 > size):
            raise RefusedError("slice-head", "a single packet's header fields are out of place")
        return WIRE.size
    if not (flags and gso_size and csum_offset == TCP_CHECKSUM_OFFSET and csum_start + 20 <= header <= 320):
        raise RefusedError("slice-head", "segmentation fields contradict each other")
    if WIRE.size + header >= len(body):
        raise RefusedError("slice-short", "no payload after the inner headers")
    version: int = body[WIRE.size] >> 4
    if (version, kind) not in {(4, GSO_TCPV4), (6, GSO_TCPV6)} or csum_start < (20 if version == 4 else 40):
        raise RefusedError("slice-head", f"IP version {version} with gso type {gso_type}")
    if csum_start + (body[WIRE.size + csum_start + 12] >> 4) * 4 != header:
        raise RefusedError("slice-head", "TCP data offset and header length differ")
    return int(WIRE.size + header)


def join(head: Buffer, index: int, pieces: list[Buffer] | list[memoryview], count: int) -> list[Buffer]:
    """Buffers of one tunnel frame from the consecutive slices ``index`` ... of a frame that had ``count``."""
    flags, gso_type, header, gso_size, csum_start, csum_offset = WIRE.unpack_from(head)
    if gso_type == GSO_NONE:
        return [VNET.pack(flags, 0, 0, 0, csum_start, csum_offset), pieces[0]]
    whole = len(pieces) == count
    payload = sum(map(len, pieces)) if not whole else (count - 1) * gso_size + len(pieces[-1])
    single = len(pieces) == 1
    vnet = VNET.pack(
        flags, GSO_NONE if single else gso_type, header, 0 if single else gso_size, csum_start, csum_offset
    )
    if whole:
        return [vnet, bytes(head[WIRE.size :]), *pieces]
    inner = bytearray(head[WIRE.size :])
    _narrow(inner, csum_start, index, gso_size, payload, is_last=index + len(pieces) == count)
    if index and gso_type & GSO_ECN and not single:  # CWR stood on the first segment only
        vnet = VNET.pack(flags, gso_type & ~GSO_ECN, header, gso_size, csum_start, csum_offset)
    return [vnet, bytes(inner), *pieces]


def _narrow(inner: bytearray, tcp: int, index: int, gso_size: int, payload: int, *, is_last: bool) -> None:
    """Edit inner IP and TCP headers in place to describe a part of the frame."""
    sequence = (int.from_bytes(inner[tcp + 4 : tcp + 8], "big") + index * gso_size) & 0xFFFFFFFF
    inner[tcp + 4 : tcp + 8] = sequence.to_bytes(4, "big")
    if not is_last:
        inner[tcp + 13] &= ~(FIN | PSH) & 0xFF
    if index:
        inner[tcp + 13] &= ~CWR & 0xFF
    length = len(inner) - tcp + payload
    if inner[0] >> 4 == 4:
        inner[2:4] = (tcp + length).to_bytes(2, "big")
        identification = (int.from_bytes(inner[4:6], "big") + index) & 0xFFFF
        inner[4:6] = identification.to_bytes(2, "big")
        inner[10:12] = b"\0\0"
        inner[10:12] = (_sum16(bytes(inner[:tcp])) ^ 0xFFFF).to_bytes(2, "big")
        addresses = bytes(inner[12:20])
    else:
        inner[4:6] = (tcp - 40 + length).to_bytes(2, "big")
        addresses = bytes(inner[8:40])
    pseudo = _sum16(addresses + struct.pack("!IHH", length, 0, 6))
    inner[tcp + 16 : tcp + 18] = pseudo.to_bytes(2, "big")


def _sum16(data: bytes) -> int:
    """One's complement sum (RFC 1071), not complemented; ``data`` has an even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


def inner_source(packet: Buffer) -> bytes:
    """Packed source address of an IP packet (4 or 16 bytes), or nothing if it is neither IPv4 nor IPv6."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        return bytes(packet[12:16])
    if len(packet) >= 40 and packet[0] >> 4 == 6:
        return bytes(packet[8:24])
    return b""


def inner_destination(packet: Buffer) -> bytes:
    """Packed destination address of an IP packet (4 or 16 bytes), or nothing."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        return bytes(packet[16:20])
    if len(packet) >= 40 and packet[0] >> 4 == 6:
        return bytes(packet[24:40])
    return b""

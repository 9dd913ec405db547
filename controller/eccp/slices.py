# SPDX-License-Identifier: Apache-2.0
"""Large inner packets in slices: one datagram carries one inner segment, so that losing it costs that one only.

A tunnel frame is a ``virtio_net_hdr`` (10 bytes) and an IP packet of up to 64 KB that the kernel has left unsegmented
(TSO).  `cut` splits it at the inner segment size; every slice carries the headers of the whole frame and its index.
`join` makes of any run of consecutive slices a frame again, as if that run alone had been sent: sequence number, IP
id, lengths, flags and the partial checksum are those the sender's own segmentation would have given.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
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
    """A frame ready to send: ``head`` (wire vnet header and inner headers) goes before each slice.

    The slices are ``frame``'s bytes from ``start`` on, ``piece`` bytes each, the last may be shorter.
    """

    head: bytes
    frame: bytes
    start: int
    piece: int
    total: int

    @property
    def pieces(self) -> list[memoryview]:
        """The slices one by one."""
        view = memoryview(self.frame)
        return [view[at : at + self.piece] for at in range(self.start, len(view), self.piece)]


def cut(frame: bytes) -> list[Cut]:
    """Split a tunnel frame into slices, at most `MAX_SLICES` to a `Cut`.  Raises `RefusedError` on a broken frame."""
    size = len(frame)
    if size < VNET_SIZE + 20:
        raise RefusedError("tunnel-frame", f"{size} bytes are no IP packet")
    flags, gso_type, _, gso_size, csum_start, csum_offset = VNET.unpack_from(frame)
    if gso_type != GSO_NONE and gso_size:
        transport = VNET_SIZE + csum_start
        if transport + 20 > size:
            raise RefusedError("tunnel-frame", "the transport header is outside the packet")
        start = transport + (frame[transport + 12] >> 4) * 4
        count = -(-(size - start) // gso_size)
        if count > 1:
            label = WIRE.pack(flags & NEEDS_CSUM, gso_type, start - VNET_SIZE, gso_size, csum_start, csum_offset)
            whole = Cut(label + frame[VNET_SIZE:start], frame, start, gso_size, count)
            return [whole] if count <= MAX_SLICES else _cut_long(whole)
    label = WIRE.pack(flags & NEEDS_CSUM, GSO_NONE, 0, 0, csum_start, csum_offset)
    return [Cut(label, frame, VNET_SIZE, size - VNET_SIZE, 1)]


def _cut_long(whole: Cut) -> list[Cut]:
    """A frame of very small segments: first split it into frames of `MAX_SLICES` segments."""
    pieces = whole.pieces
    result: list[Cut] = []
    for first in range(0, whole.total, MAX_SLICES):
        parts = join(whole.head, first, pieces[first : first + MAX_SLICES], whole.total)
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


def join(head: Buffer, index: int, pieces: Sequence[Buffer], count: int) -> list[Buffer]:
    """Buffers of one tunnel frame from the consecutive slices ``index`` ... of a frame that had ``count``."""
    return [prefix(head, index, len(pieces), sum(map(len, pieces)), count), *pieces]


def prefix(head: Buffer, index: int, here: int, payload: int, count: int) -> bytes:
    """What stands before the ``payload`` bytes of the ``here`` consecutive slices from ``index`` on: a frame's
    virtio_net_hdr and inner headers, exactly as long as ``head``.
    """
    flags, gso_type, header, gso_size, csum_start, csum_offset = WIRE.unpack_from(head)
    if gso_type == GSO_NONE:
        return VNET.pack(flags, 0, 0, 0, csum_start, csum_offset)
    if here == 1:
        gso_type = gso_size = 0
    elif index:
        gso_type &= ~GSO_ECN  # CWR stood on the first segment only
    vnet = VNET.pack(flags, gso_type, header, gso_size, csum_start, csum_offset)
    if here == count:
        return vnet + head[WIRE.size :]
    inner = bytearray(head[WIRE.size :])
    size = int.from_bytes(head[4:6], "big")
    _narrow(inner, csum_start, index, size, payload, is_last=index + here == count)
    return vnet + inner


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


def inner_destination(buffer: Buffer, start: int = 0) -> bytes:
    """Packed destination address of the IP packet that begins at ``start`` (4 or 16 bytes), or nothing."""
    size = len(buffer) - start
    if size >= 20 and buffer[start] >> 4 == 4:
        return bytes(buffer[start + 16 : start + 20])
    if size >= 40 and buffer[start] >> 4 == 6:
        return bytes(buffer[start + 24 : start + 40])
    return b""

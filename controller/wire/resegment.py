# SPDX-License-Identifier: Apache-2.0
"""Cut an oversized (GSO) frame into segments that a wire can carry, as a network card's segmentation does.

A frame that was handed to the controller has lost its offload marks: what goes back has to be of wire size and to
carry complete checksums.
"""

from __future__ import annotations

from struct import pack_into

from controller.core import seq as serial
from controller.core.errors import LocalError, RemoteError
from controller.core.segment import CWR, FIN, PSH, RST, SYN, URG
from controller.wire.checksum import finish, ones_sum, pseudo_header
from controller.wire.ethernet import IPV4, pull_ethernet
from controller.wire.ip import TCP, pull_ip
from controller.wire.segment import TCP_HEADER

_LAST_ONLY = FIN | PSH | RST
_FIRST_ONLY = SYN | CWR


def resegment(frame: bytes, mss: int) -> list[bytes]:
    """Frames that carry the same TCP data in order, none with more than a peer with this MSS takes.

    ``mss`` is the peer's option value: TCP options, IPv4 options and IPv6 extension headers are taken off it (RFC
    6691). All headers are copied; sequence number, IP ID and lengths advance; FIN, PSH and RST stay on the last frame,
    SYN and CWR on the first, the urgent pointer on those before its end. All checksums are computed anew, so a frame
    that needs no cutting comes back completed. Raises RemoteError for what is not a TCP segment, LocalError for an MSS
    that leaves no room for data.
    """
    ether_type, offset, _ = pull_ethernet(frame)
    ip = pull_ip(frame, offset, ether_type)
    if ip.protocol != TCP or ip.start + 20 > ip.end:
        raise RemoteError("not a TCP segment")
    _, _, number, _, size, flags, _, _, urgent = TCP_HEADER.unpack_from(frame, ip.start)
    data = ip.start + (size >> 4) * 4
    if data < ip.start + 20 or data > ip.end:
        raise RemoteError(f"a TCP header of {data - ip.start} bytes in a packet of {ip.end - ip.start}")
    fixed = 20 if ether_type == IPV4 else 40
    room = mss - (data - ip.start - 20) - (ip.start - offset - fixed)
    if room < 1:
        raise LocalError(f"an MSS of {mss} leaves no room for data beside this segment's options")

    addresses = pseudo_header(ip.src, ip.dst, TCP, 0)
    frames: list[bytes] = []
    position = data
    while True:
        end = min(position + room, ip.end)
        is_first, is_last = position == data, end == ip.end
        done = position - data
        piece = bytearray(frame[:data])
        kept = flags & ~(0 if is_first else _FIRST_ONLY) & ~(0 if is_last else _LAST_ONLY)
        pointer = urgent
        if not is_first:
            pointer = max(urgent - done, 0) if flags & URG else 0
            kept &= 0xFF if pointer else ~URG
        length = end - position + data - ip.start
        advance = done + (1 if flags & SYN and done else 0)
        pack_into("!I", piece, ip.start + 4, serial.add(number, advance))
        piece[ip.start + 13] = kept
        pack_into("!HH", piece, ip.start + 16, 0, pointer)
        if ether_type == IPV4:
            pack_into("!HH", piece, offset + 2, ip.start - offset + length, (ip.ident + len(frames)) & 0xFFFF)
            pack_into("!H", piece, offset + 10, 0)
            pack_into("!H", piece, offset + 10, finish(ones_sum(piece[offset : ip.start])))
        else:
            pack_into("!H", piece, offset + 4, ip.start - offset - 40 + length)
        piece += frame[position:end]
        pack_into("!H", piece, ip.start + 16, finish(addresses + length + ones_sum(piece[ip.start :])))
        frames.append(bytes(piece))
        if is_last:
            return frames
        position = end

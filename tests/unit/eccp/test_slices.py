# SPDX-License-Identifier: Apache-2.0
"""Cutting and joining large inner packets."""

import struct

import pytest

from controller.eccp.errors import RefusedError
from controller.eccp.slices import (
    GSO_ECN,
    GSO_TCPV4,
    GSO_TCPV6,
    MAX_SLICES,
    NEEDS_CSUM,
    VNET,
    WIRE,
    cut,
    inner_destination,
    inner_source,
    join,
    parse_head,
)


def tcp_frame(payload: bytes, mss: int, *, v6: bool = False, flags: int = 0x18, ecn: bool = False) -> bytes:
    """A TSO frame as the kernel hands it over: partial checksum, lengths of the whole."""
    tcp_size = 32
    length = tcp_size + len(payload)
    addresses = bytes(range(32)) if v6 else bytes(range(8))
    if v6:
        ip = struct.pack("!IHBB", 6 << 28, length, 6, 64) + addresses
    else:
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0xFFFE, 0x4000, 64, 6, 0) + addresses
        ip = ip[:10] + struct.pack("!H", checksum(ip) ^ 0xFFFF) + ip[12:]
    pseudo = checksum(addresses + struct.pack("!IHH", length, 0, 6))
    tcp = struct.pack("!HHIIBBHHH", 1, 2, 2**32 - 100, 5, 8 << 4, flags, 1000, pseudo, 0) + bytes(12)
    kind = (GSO_TCPV6 if v6 else GSO_TCPV4) | (GSO_ECN if ecn else 0)
    if len(payload) <= mss:
        return VNET.pack(NEEDS_CSUM, 0, 0, 0, len(ip), 16) + ip + tcp + payload
    return VNET.pack(NEEDS_CSUM, kind, len(ip) + tcp_size, mss, len(ip), 16) + ip + tcp + payload


def checksum(data: bytes) -> int:
    """One's complement sum."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def software_segments(frame: bytes) -> list[dict[str, object]]:
    """What a NIC would make of a frame: independent of the code under test."""
    _, gso, _, size, tcp, _ = VNET.unpack_from(frame)
    packet = frame[VNET.size :]
    header = tcp + (packet[tcp + 12] >> 4) * 4
    payload = packet[header:]
    mss = size if gso else max(len(payload), 1)
    starts = list(range(0, len(payload), mss))
    found = []
    for number, at in enumerate(starts):
        flags = packet[tcp + 13]
        if number < len(starts) - 1:
            flags &= ~0x09
        if number:
            flags &= ~0x80
        identification = None
        if packet[0] >> 4 == 4:
            identification = (int.from_bytes(packet[4:6], "big") + number) & 0xFFFF
        found.append(
            {
                "seq": (int.from_bytes(packet[tcp + 4 : tcp + 8], "big") + at) % 2**32,
                "flags": flags,
                "id": identification,
                "data": payload[at : at + mss],
                "rest": packet[tcp + 8 : tcp + 13] + packet[tcp + 18 : header],
            }
        )
    return found


def check_headers(frame: bytes) -> None:
    """Lengths and checksums of a frame are consistent."""
    _, _, _, _, tcp, _ = VNET.unpack_from(frame)
    packet = frame[VNET.size :]
    length = len(packet) - tcp
    if packet[0] >> 4 == 4:
        assert int.from_bytes(packet[2:4], "big") == len(packet)
        assert checksum(packet[:tcp]) == 0xFFFF
        addresses = packet[12:20]
    else:
        assert int.from_bytes(packet[4:6], "big") == len(packet) - 40
        addresses = packet[8:40]
    assert int.from_bytes(packet[tcp + 16 : tcp + 18], "big") == checksum(addresses + struct.pack("!IHH", length, 0, 6))


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("flags", [0x10, 0x18, 0x19, 0x90])
def test_any_run_of_slices_is_what_segmentation_would_have_given(v6: bool, flags: int) -> None:
    frame = tcp_frame(bytes(range(250)) * 40, 999, v6=v6, flags=flags, ecn=bool(flags & 0x80))
    wanted = software_segments(frame)
    (whole,) = cut(frame)
    count = len(whole.pieces)
    assert count == len(wanted) == 11
    for first in range(count):
        for last in range(first + 1, count + 1):
            body = whole.head + whole.pieces[first]
            assert parse_head(body) == len(whole.head)
            joined = b"".join(join(whole.head, first, whole.pieces[first:last], count))
            check_headers(joined)
            assert software_segments(joined) == wanted[first:last]


def test_a_whole_frame_comes_back_unchanged() -> None:
    frame = tcp_frame(b"z" * 60000, 1348)
    (whole,) = cut(frame)
    joined = b"".join(join(whole.head, 0, whole.pieces, len(whole.pieces)))
    assert joined[10:] == frame[10:]
    assert VNET.unpack_from(joined) == VNET.unpack_from(frame)


def test_frames_of_tiny_segments_become_several() -> None:
    frame = tcp_frame(bytes(range(256)) * 100, 88)
    parts = cut(frame)
    assert len(parts) == -(-25600 // 88 // MAX_SLICES) or len(parts) > 1
    joined = [b"".join(join(part.head, 0, part.pieces, len(part.pieces))) for part in parts]
    assert [s for f in joined for s in software_segments(f)] == software_segments(frame)
    for each in joined:
        check_headers(each)


def test_small_packets_pass_whole() -> None:
    packet = tcp_frame(b"abc", 1000)
    (small,) = cut(packet)
    assert b"".join(join(small.head, 0, small.pieces, 1)) == packet


@pytest.mark.parametrize("size", range(0, 30))
def test_short_frames_are_refused(size: int) -> None:
    with pytest.raises(RefusedError):
        cut(bytes(size))


@pytest.mark.parametrize(
    "head",
    [
        (2, 0, 0, 0, 0, 0),  # unknown flag
        (0, 5, 0, 0, 0, 0),  # UDP segmentation
        (1, 0, 0, 0, 5000, 16),  # checksum outside the packet
        (0, 0, 40, 0, 0, 0),  # header length without segmentation
        (1, 1, 52, 0, 20, 16),  # no segment size
        (0, 1, 52, 1000, 20, 16),  # segmentation without checksum
        (1, 1, 52, 1000, 20, 6),  # UDP's checksum offset
        (1, 1, 30, 1000, 20, 16),  # header shorter than TCP's
        (1, 1, 400, 1000, 20, 16),  # header longer than any
        (1, 4, 52, 1000, 20, 16),  # IPv6 segmentation of an IPv4 packet
        (1, 1, 56, 1000, 20, 16),  # TCP says another length
        (1, 1, 52, 1000, 12, 16),  # TCP inside the IP header
    ],
)
def test_contradictory_heads_are_refused(head: tuple[int, ...]) -> None:
    body = WIRE.pack(*head) + tcp_frame(b"q" * 500, 1000)[10:]
    with pytest.raises(RefusedError):
        parse_head(body)


def test_inner_addresses() -> None:
    v4, v6 = tcp_frame(b"x", 9)[10:], tcp_frame(b"x", 9, v6=True)[10:]
    assert (inner_source(v4), inner_destination(v4)) == (bytes(range(4)), bytes(range(4, 8)))
    assert (inner_source(v6), inner_destination(v6)) == (bytes(range(16)), bytes(range(16, 32)))
    assert inner_source(b"\x45") == inner_destination(b"") == b""

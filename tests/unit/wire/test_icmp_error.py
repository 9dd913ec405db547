# SPDX-License-Identifier: Apache-2.0
"""ICMP errors keep all but what is changed in them, and their checksums hold."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.errors import LocalError, RemoteError
from controller.core.segment import ACK, Endpoint, Segment
from controller.wire.address import encode_ip
from controller.wire.checksum import finish, ones_sum, pseudo_header
from controller.wire.ethernet import IPV4, IPV6, push_ethernet
from controller.wire.frame import decode_frame
from controller.wire.icmp_error import decode_icmp_error, encode_icmp_error
from controller.wire.segment import encode_segment

CLIENT_MAC, ROUTER_MAC = "02:00:00:00:00:03", "02:00:00:00:00:99"
ENDS = {
    4: (Endpoint("10.0.0.3", 40_000), Endpoint("10.0.0.2", 22_222), "10.0.0.99"),
    6: (Endpoint("fd00::3", 40_000), Endpoint("fd00::2", 22_222), "fd00::99"),
}


def too_big(version: int, quoted: int = 28, vlan: int | None = None, mtu: int = 1_200) -> bytes:
    """Return the frame of a router's "too big", which quotes so many bytes of a segment."""
    src, dst, router = ENDS[version]
    packet = encode_segment(Segment(src, dst, 7_000, 8_000, ACK, 500, payload=bytes(1_000)))[14:][:quoted]
    outer = (encode_ip(router), encode_ip(src.address))
    kind = (3, 4) if version == 4 else (2, 0)
    blank = struct.pack("!BBHI", *kind, 0, mtu) + packet
    if version == 4:
        message = blank[:2] + struct.pack("!H", finish(ones_sum(blank))) + blank[4:]
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(message), 1, 0, 64, 1, 0, *outer)
        head = head[:10] + struct.pack("!H", finish(ones_sum(head))) + head[12:]
        ethernet = push_ethernet(CLIENT_MAC, ROUTER_MAC, IPV4, vlan)
    else:
        total = pseudo_header(*outer, 58, len(blank)) + ones_sum(blank)
        message = blank[:2] + struct.pack("!H", finish(total)) + blank[4:]
        head = struct.pack("!IHBB16s16s", 6 << 28, len(message), 58, 64, *outer)
        ethernet = push_ethernet(CLIENT_MAC, ROUTER_MAC, IPV6, vlan)
    return ethernet + head + message


def holds(frame: bytes, version: int) -> bool:
    """Return whether the checksums of an untagged error are right."""
    if version == 4:
        return not any(finish(ones_sum(part)) for part in (frame[14:34], frame[34:], frame[42:62]))
    total = pseudo_header(frame[22:38], frame[38:54], 58, len(frame) - 54) + ones_sum(frame[54:])
    return not finish(total)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("vlan", [None, 42])
def test_what_it_says(version: int, vlan: int | None) -> None:
    """Who, to whom, about which segment; and unchanged it comes back as it was."""
    frame = too_big(version, 28 if version == 4 else 48, vlan)
    error = decode_icmp_error(frame)
    src, dst, router = ENDS[version]
    assert (error.src, error.dst, error.about_src, error.about_dst) == (router, src.address, src, dst)
    assert (error.seq, error.eth_src, error.eth_dst) == (7_000, ROUTER_MAC, CLIENT_MAC)
    assert decode_frame(frame) == error
    assert encode_icmp_error(error) == frame


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("more", [0, 1, 333])
def test_a_change_is_all_that_changes(version: int, more: int) -> None:
    """However much is quoted."""
    error = decode_icmp_error(too_big(version, (28 if version == 4 else 48) + more))
    service = ENDS[version][1]._replace(port=80)
    changed = replace(error, about_dst=service, seq=2**32 - 1, src=service.address, eth_src=CLIENT_MAC)
    frame = encode_icmp_error(changed)
    assert replace(decode_icmp_error(frame), frame=error.frame) == changed
    assert holds(too_big(version), version)
    assert holds(frame, version)
    rest = len(frame) - more
    assert frame[rest:] == error.frame[rest:]


@pytest.mark.parametrize("size", [0, 14, 33, 41, 42, 61, 69])
def test_too_little(size: int) -> None:
    """Of every header."""
    with pytest.raises(RemoteError):
        decode_icmp_error(too_big(4)[:size])


@pytest.mark.parametrize(("place", "value"), [(34, 8), (51, 17), (49, 1), (42, 0x60)])
def test_other_errors(place: int, value: int) -> None:
    """An echo, a quoted datagram, a quoted fragment, another version within."""
    frame = bytearray(too_big(4))
    frame[place] = value
    with pytest.raises(RemoteError):
        decode_icmp_error(bytes(frame))


@pytest.mark.parametrize(("quoted", "place", "value"), [(47, 62, 0x60), (48, 62, 0x45), (48, 68, 17)])
def test_other_errors_of_version_6(quoted: int, place: int, value: int) -> None:
    """Too little is quoted, another version, a datagram."""
    frame = bytearray(too_big(6, quoted))
    frame[place] = value
    with pytest.raises(RemoteError):
        decode_icmp_error(bytes(frame))


def test_addresses_of_the_other_version() -> None:
    """They do not fit."""
    with pytest.raises(LocalError):
        encode_icmp_error(replace(decode_icmp_error(too_big(4)), dst="fd00::1"))


@given(st.sampled_from([4, 6]), st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=6))
def test_whatever_comes(version: int, edits: list[tuple[int, int]]) -> None:
    """Accept, or raise RemoteError, nothing else; what was accepted can be written."""
    frame = bytearray(too_big(version, 60))
    for place, value in edits:
        frame[place % len(frame)] = value
    try:
        error = decode_icmp_error(bytes(frame))
    except RemoteError:
        return
    assert len(encode_icmp_error(error)) == len(frame)

# SPDX-License-Identifier: Apache-2.0
"""Small frames to feed a switch with."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

TCP, UDP = 6, 17


def address(text: str) -> int:
    return int(IPv4Address(text))


def ipv4(
    source: str,
    source_port: int,
    destination: str,
    destination_port: int,
    *,
    protocol: int = TCP,
    payload: bytes = b"",
    options: bytes = b"",
    fragment: int = 0,
    target: bytes = b"\x02\0\0\0\0\x02",
) -> bytes:
    """An Ethernet frame with an IPv4 packet; `fragment` is the fragment offset, `options` a multiple of 4 bytes.

    Checksums are 0: the programs neither check nor write them.
    """
    tail = bytes(16) if protocol == TCP else struct.pack(">HH", 8 + len(payload), 0)
    transport = struct.pack(">HH", source_port, destination_port) + tail + payload
    length = 20 + len(options) + len(transport)
    header = struct.pack(
        ">BBHHHBBHII",
        0x45 + len(options) // 4,
        0,
        length,
        1,
        fragment,
        64,
        protocol,
        0,
        address(source),
        address(destination),
    )
    return target + b"\x02\0\0\0\0\x01\x08\0" + header + options + transport


def marker(session: int, token: int) -> bytes:
    return bytes(6) + b"\x02\0\0\0\0\x01\x88\xb6" + struct.pack(">IQ", session, token)


def siphash_check(key0: int, key1: int, words: list[int], last: int) -> bytes:
    """A frame for siphash_check.p4."""
    return (
        b"\x02" * 12
        + b"\x88\xb7"
        + struct.pack(">3Q7Q2Q", key0, key1, len(words), *words, *[0] * (7 - len(words)), last, 0)
    )

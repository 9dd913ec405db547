# SPDX-License-Identifier: Apache-2.0
"""The hash functions that P4 programs name, over bytes, as bmv2 computes them."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable

CRC16_REFLECTED = 0xA001


@functools.cache
def _crc16_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (CRC16_REFLECTED if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    return tuple(table)


def crc16(data: bytes) -> int:
    """CRC-16/ARC: polynomial 0x8005, reflected, from 0."""
    table, crc = _crc16_table(), 0
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


def csum16(data: bytes) -> int:
    """The Internet checksum (RFC 1071); an odd last byte is the upper half of a word."""
    if len(data) % 2:
        data += b"\0"
    number = int.from_bytes(data, "big")
    folded = number % 0xFFFF  # the ones' complement sum, but for all ones, which this writes as 0
    return 0xFFFF - folded if folded or not number else 0


def xor16(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    result = 0
    for index in range(0, len(data), 2):
        result ^= data[index] << 8 | data[index + 1]
    return result


def identity(data: bytes) -> int:
    """The first 8 bytes as a number."""
    return int.from_bytes(data[:8], "big")


HASHES: dict[str, Callable[[bytes], int]] = {
    "crc32": zlib.crc32,
    "crc16": crc16,
    "csum16": csum16,
    "xor16": xor16,
    "identity": identity,
}
BITS = {"crc32": 32, "crc16": 16, "csum16": 16, "xor16": 16, "identity": 64}

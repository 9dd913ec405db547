# SPDX-License-Identifier: Apache-2.0
"""The Internet checksum: RFC 1071, and the pseudo-headers of RFC 9293 section 3.1 and RFC 8200 section 8.1."""

from __future__ import annotations


def ones_sum(data: bytes | bytearray) -> int:
    """The number whose residue modulo 65,535 is the ones' complement sum of 16-bit words (odd data is zero-padded).

    2^16 leaves 1 when divided by 65,535, so the whole data, read as one number, has the residue of its words' sum:
    one division in C instead of a loop here. Sums may be added before they are finished.
    """
    number = int.from_bytes(data, "big")
    return (number << 8 if len(data) & 1 else number) % 65_535


def finish(total: int) -> int:
    """The checksum field for a sum of which at least one word is not zero (as with any IP or pseudo-header)."""
    return 65_535 - (total % 65_535 or 65_535)


def pseudo_header(src: bytes, dst: bytes, protocol: int, length: int) -> int:
    """The sum over the pseudo-header of a payload of ``length`` bytes; addresses of 4 or of 16 bytes."""
    return ones_sum(src + dst) + protocol + (length & 0xFFFF) + (length >> 16)

# SPDX-License-Identifier: Apache-2.0
"""The headers of a run of slices at once: as cheap as a few, since Python's own loops stay out of it.

All headers of a run are alike but for two fields that count up, ``aux`` (by `INDEX_ONE`) and the packet number (by 1):
one header is repeated, and the few columns of bytes that differ are written by strides.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from controller.wire.eccp import HEADER, HEADER_SIZE, INDEX_ONE, MAGIC

AUX_AT, NUMBER_AT = 2, 12  # offsets of the two fields in a header
_COUNTING = bytes(range(256)) * 2


@lru_cache(maxsize=1024)
def _aux_columns(aux: int, count: int) -> tuple[bytes, bytes]:
    """High and low bytes of ``count`` successive values of ``aux``."""
    values = range(aux, aux + count * INDEX_ONE, INDEX_ONE)
    return bytes(value >> 8 for value in values), bytes(value & 255 for value in values)


@lru_cache(maxsize=1024)
def pieces_of(size: int, count: int) -> struct.Struct:
    """Unpacks ``count`` adjoining pieces of ``size`` bytes."""
    return struct.Struct(f"{size}s" * count)


@lru_cache(maxsize=1024)
def heads_apart(step: int, count: int) -> struct.Struct:
    """Unpacks the headers of ``count`` datagrams that lie ``step`` bytes apart; the last one's body is left out."""
    return struct.Struct(f"{HEADER_SIZE}s{step - HEADER_SIZE}x" * (count - 1) + f"{HEADER_SIZE}s")


def headers(kind: int, aux: int, flow: int, number: int, count: int, rest: bytes = b"") -> tuple[bytes, ...]:
    """``count`` headers from ``aux`` and ``number`` on, each followed by the same ``rest``."""
    low = number & 255
    here = min(count, 256 - low)  # until the number's last byte wraps
    first = HEADER.pack(MAGIC, kind, aux, flow, number) + rest
    size = len(first)
    run = bytearray(first * here)
    run[AUX_AT::size], run[AUX_AT + 1 :: size] = _aux_columns(aux, here)
    run[NUMBER_AT + 7 :: size] = _COUNTING[low : low + here]
    found: tuple[bytes, ...] = pieces_of(size, here).unpack(run)
    if here == count:
        return found
    return found + headers(kind, aux + here * INDEX_ONE, flow, number + here, count - here, rest)


def nonces(number: int, count: int) -> tuple[bytes, ...]:
    """The 12-byte AEAD nonces of ``count`` packet numbers: four zero bytes and the number."""
    low = number & 255
    here = min(count, 256 - low)
    run = bytearray(number.to_bytes(12, "big") * here)
    run[11::12] = _COUNTING[low : low + here]
    found: tuple[bytes, ...] = pieces_of(12, here).unpack(run)
    return found if here == count else found + nonces(number + here, count - here)

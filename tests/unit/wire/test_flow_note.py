# SPDX-License-Identifier: Apache-2.0
"""Notes survive the way through a flow; what is no note is told as such."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.errors import RemoteError
from controller.core.facts import Facts
from controller.core.options import Agreement
from controller.wire.flow_note import SIZE, VERSION, decode_note, encode_note

uint8, uint16, uint32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))
macs = st.binary(min_size=6, max_size=6).map(lambda octets: octets.hex(":"))
scales = st.none() | st.integers(0, 14)
agreements = st.builds(Agreement, uint16, uint16, scales, scales, st.booleans(), st.booleans(), st.booleans())
facts = st.builds(
    Facts,
    client_isn=uint32,
    origin_isn=uint32,
    client_mac=macs,
    service_mac=macs,
    client_port=uint32,
    syn_window=uint16,
    ttl=uint8,
    tos=uint8,
    opened=st.floats(0, 1e12),
    client_clock=uint32,
    server_clock=uint32,
    client_window=uint16,
    server_window=uint16,
    window_shift=st.integers(-14, 14),
    agreement=st.none() | agreements,
    server_ttl=uint8,
)


@given(facts, st.integers(0, 8))
def test_round_trip(told: Facts, padding: int) -> None:
    """Whatever stands in it, and however far the action pads it."""
    note = encode_note(told)
    assert len(note) == SIZE
    assert decode_note(note + bytes(padding)) == told


def test_a_note_fills_its_action() -> None:
    """Nicira's action has 6 bytes of note, and 8 more as often as need be: nothing is wasted."""
    assert (SIZE - 6) % 8 == 0


GOOD = encode_note(Facts(1, 2, "02:00:00:00:00:01", "02:00:00:00:00:02", 3, 4, 64, 0, 5.0))


@pytest.mark.parametrize(
    "note",
    [
        b"",
        GOOD[:-1],
        bytes([VERSION + 1]) + GOOD[1:],
        GOOD + b"\1",
        GOOD[:30] + struct.pack("!d", float("nan")) + GOOD[38:],
        GOOD[:30] + struct.pack("!d", float("inf")) + GOOD[38:],
    ],
    ids=["empty", "short", "another layout", "more behind it", "no time", "an infinite time"],
)
def test_no_note(note: bytes) -> None:
    """Refused, not guessed."""
    with pytest.raises(RemoteError):
        decode_note(note)


@given(
    st.binary(max_size=100) | st.binary(min_size=SIZE - 1, max_size=SIZE - 1).map(lambda rest: bytes([VERSION]) + rest)
)
def test_random_bytes(note: bytes) -> None:
    """Accept, or say that it is none; nothing else."""
    try:
        told = decode_note(note)
    except RemoteError:
        return
    assert decode_note(encode_note(told)) == told

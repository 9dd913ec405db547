# SPDX-License-Identifier: Apache-2.0
"""Entries and packet metadata come back from P4Runtime's form as they went in."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from p4src.target import entries, packetio, schema
from p4src.target.errors import RefusedError
from p4src.target.messages import P4Info, StreamRequest, TableEntry
from p4src.target.tables import Entry

from .common import PROGRAMS, pipeline

MADE = pipeline()
INFO = text_format.Parse((PROGRAMS / "features.p4info.txtpb").read_text(), P4Info())
SCHEMA = schema.bind(INFO, MADE.program, MADE.tables)
CLASSIFY = next(t for t in SCHEMA.tables.values() if t.table.name.endswith("classify"))
ROUTE = next(t for t in SCHEMA.tables.values() if t.table.name.endswith("route"))
SET_KIND = CLASSIFY.table.actions.index("FeaturesIngress.set_kind")

RANGES = st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)).map(lambda pair: (min(pair), max(pair)))
TERNARIES = st.tuples(st.integers(0, 255), st.integers(0, 255)).map(lambda pair: (pair[0] & pair[1], pair[1]))


@given(RANGES, st.integers(0, 1), TERNARIES, st.integers(1, 1 << 30), st.integers(0, 255))
def test_range_exact_ternary(span: tuple[int, int], valid: int, tos: tuple[int, int], priority: int, kind: int) -> None:
    entry = Entry((span, (valid, 0), tos), priority, (SET_KIND, True, kind))
    message = TableEntry()
    entries.encode(SCHEMA, CLASSIFY, entry, message)
    assert entries.decode_match(CLASSIFY, message) == (entry.match, priority)
    assert entries.decode_action(SCHEMA, CLASSIFY, message.action, False) == entry.action


@given(st.integers(0, 32), st.integers(0, (1 << 32) - 1))
def test_prefix(length: int, address: int) -> None:
    prefix = address >> (32 - length) << (32 - length)
    entry = Entry(((prefix, length), (0x800, 0)), 0, (ROUTE.table.actions.index("FeaturesIngress.drop"), True))
    message = TableEntry()
    entries.encode(SCHEMA, ROUTE, entry, message)
    assert entries.decode_match(ROUTE, message) == (entry.match, 0)


@given(st.integers(0, 1 << 200))
def test_canonical_byte_strings(value: int) -> None:
    encoded = entries.canonical(value)
    assert int.from_bytes(encoded, "big") == value
    assert len(encoded) == 1 or encoded[0]


@given(st.lists(st.tuples(st.integers(1, 70), st.integers(0)), max_size=6), st.binary(max_size=40))
def test_packet_metadata(fields: list[tuple[int, int]], payload: bytes) -> None:
    described = tuple((number, width) for number, (width, _) in enumerate(fields, start=1))
    request = StreamRequest()
    request.packet.payload = payload
    for number, (width, value) in enumerate(fields, start=1):
        request.packet.metadata.add(metadata_id=number, value=entries.canonical(value % (1 << width)))
    answer = packetio.packet_in(packetio.frame_of(request.packet, described), described)
    assert answer.packet == type(answer.packet).FromString(request.packet.SerializeToString())


def test_packet_out_that_does_not_fit() -> None:
    request = StreamRequest()
    request.packet.metadata.add(metadata_id=1, value=b"\2")
    with pytest.raises(RefusedError, match="does not fit within 1 bits"):
        packetio.frame_of(request.packet, ((1, 1),))
    with pytest.raises(RefusedError, match="each once"):
        packetio.frame_of(request.packet, ((1, 8), (2, 8)))
    assert packetio.packet_in(b"x", ((1, 16),)) is None

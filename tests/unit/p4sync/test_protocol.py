# SPDX-License-Identifier: Apache-2.0
"""Numbers and names of the protocol: against its own text, its P4 source and the independent reference."""

from __future__ import annotations

import itertools
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vectors.p4 import reference as ref

from controller.p4sync import protocol
from controller.p4sync.protocol import Answer, Array, Mode, Token

ROOT = Path(__file__).resolve().parents[3]
HEADERS = (ROOT / "p4src" / "include" / "headers.p4").read_text()


def constants(prefix: str) -> dict[str, int]:
    """Numbers that the P4 source gives to names with a prefix."""
    found = re.findall(rf"(?:const bit<\d+>|#define) {prefix}_(\w+)\s*(?:=\s*)?(\d+)", HEADERS)
    return {name: int(number) for name, number in found}


@pytest.mark.parametrize(("prefix", "kind"), [("TOKEN", Token), ("STATE", Answer), ("ARRAY", Array)])
def test_numbers_are_those_of_the_programs(prefix: str, kind: type) -> None:
    given_there = constants(prefix)
    assert given_there
    assert given_there == {name: kind[name].value for name in given_there}


@given(st.sets(st.integers(0, 8191)))
def test_missing_packets_are_found(staged: set[int]) -> None:
    for first in (0, protocol.HALF_BITMAP):
        words = [0] * 64
        for number in staged:
            if first <= number < first + protocol.HALF_BITMAP:
                words[(number - first) // 64] |= 1 << number % 64
        for count in (0, 1, 4096, 5000, 8192):
            expected = [n for n in range(first, min(count, first + protocol.HALF_BITMAP)) if n not in staged]
            assert protocol.missing_of(tuple(words), first, count) == expected


@given(st.sets(st.integers(0, 300)))
def test_runs_cover_the_same_numbers(numbers: set[int]) -> None:
    runs = protocol.runs_of(sorted(numbers))
    assert [first + offset for first, length in runs for offset in range(length)] == sorted(numbers)
    assert all(a + length < b for (a, length), (b, _) in itertools.pairwise(runs))


@given(st.integers(1, (1 << 64) - 1), st.integers(0, (1 << 32) - 1))
def test_entries_are_where_the_switch_hashes(key: int, address: int) -> None:
    assert protocol.entry_of(key) == ref.index_of(key)
    assert protocol.client_entry_of(address) == ref.index_of(address, 4)


def test_flow_keys() -> None:
    key = protocol.flow_key("10.1.2.3", 40000, 7)
    assert key == ref.flow_key("10.1.2.3", 40000, 7)
    assert protocol.describe_key(key) == "10.1.2.3:40000/7"


@pytest.mark.parametrize(
    ("client", "port", "service"), [("10.0.0.256", 1, 1), ("::1", 1, 1), ("10.0.0.1", 65536, 1), ("10.0.0.1", 1, 0)]
)
def test_keys_out_of_range(client: str, port: int, service: int) -> None:
    with pytest.raises(ValueError, match=r".+"):
        protocol.flow_key(client, port, service)


def test_bodies() -> None:
    records = [ref.Record(11, 2, 3, 4, 1), ref.Record(0, 0, 0), ref.Record(12, 5, 6, 7, 2)]
    found = protocol.records_of(ref.records_words(records))
    assert [(r.key, r.packets, r.bytes, r.age, r.verdict) for r in found] == [(11, 2, 3, 4, 1), (12, 5, 6, 7, 2)]
    assert protocol.clients_of(ref.clients_words(list(range(128)))) == list(range(128))


def test_reports() -> None:
    names = ("kind", "state", "round", "session", "count", "links", "detail", "digest")
    report = protocol.report_of(
        dict(zip(names, (8, 0, 1, 2, 3, 4, 5 << 32 | 6, 7), strict=True)), struct.pack(">2Q", 1, 2)
    )
    assert (report.cursor, report.undone, report.words) == (5, 6, (1, 2))
    with pytest.raises(KeyError):
        protocol.report_of({"kind": 1}, b"")


def test_arguments() -> None:
    assert protocol.round_argument(Array.FLOWS, Mode.CHANGED, 128, 255) == 0x01_02_000080_0000FF
    assert protocol.block_argument(Array.FLOWS, 16) == 1 << 56 | 16


def test_a_marker_is_a_whole_frame() -> None:
    frame = protocol.marker_frame(5, 6)
    assert len(frame) == 60
    assert frame[12:26] == struct.pack(">HIQ", 0x88B6, 5, 6)

# SPDX-License-Identifier: Apache-2.0
"""Packets through the program `features`: what the integration test beside this sees on bmv2, too."""

from __future__ import annotations

import pytest

from p4src.target.replication import Replica

from .common import Bench, ipv4, pipeline

ROUTE, CLASSIFY = "FeaturesIngress.route", "FeaturesIngress.classify"
TO_PORT, TO_GROUP = "FeaturesIngress.to_port", "FeaturesIngress.to_group"
EVERY = (0, 0xFFFF)
HASH = 0x0024
"""CRC-16 of 10.0.0.1, 10.1.0.5, modulo 1000, plus 5; recorded from bmv2."""


def ethernet(kind: int) -> bytes:
    return b"\2" * 6 + b"\4" * 6 + kind.to_bytes(2, "big") + b"x" * 30


def marked(kind: int = 0, passes: int = 0, hashed: int = 0, rid: int = 0, instance: int = 0) -> bytes:
    """The source address that egress writes."""
    return bytes([kind, passes]) + hashed.to_bytes(2, "big") + bytes([rid, instance])


@pytest.fixture
def bench() -> Bench:
    made = Bench(pipeline())
    made.insert(ROUTE, ((0x0A000000, 8), (0x800, 0)), TO_PORT, 2)
    made.insert(ROUTE, ((0x0A010000, 16), (0x800, 0)), TO_PORT, 3)
    made.insert(ROUTE, ((0x0B000000, 8), (0x800, 0)), TO_GROUP, 7)
    made.insert(CLASSIFY, (EVERY, (1, 0), (1, 0xFF)), "FeaturesIngress.set_hash", priority=5)
    made.insert(CLASSIFY, (EVERY, (1, 0), (2, 2)), "FeaturesIngress.set_kind", 2, priority=4)
    made.insert(CLASSIFY, ((100, 200), (1, 0), (0, 0)), "FeaturesIngress.send_copy", priority=9)
    made.insert(CLASSIFY, (EVERY, (1, 0), (64, 0xFF)), "FeaturesIngress.set_kind", 200, priority=3)
    made.replication.groups[7] = (Replica(1, 1), Replica(2, 5), Replica(3, 6))
    made.replication.sessions[5] = (Replica(3, 4),)
    return made


def test_longest_prefix_and_checksum(bench: Bench) -> None:
    out = bench.send(1, ipv4(0x0A000005))
    expected = b"\0\0\0\x2a\0\0" + marked() + b"\x08\0" + ipv4(0x0A000005, ttl=63)[14:]
    assert out == {2: [expected]}
    assert list(bench.send(1, ipv4(0x0A010005))) == [3]


def test_wrong_checksum_short_header_and_no_route(bench: Bench) -> None:
    assert bench.send(1, ipv4(0x0A000005, wrong=1)) == {}
    assert bench.send(1, ipv4(0x0A000005)[:30]) == {}
    assert bench.send(1, ipv4(0x0C000005)) == {}
    assert bench.pipeline.counters["FeaturesIngress.seen"] == ([0, 0, 1, 2], [0, 0, 42, 72])


def test_multicast_makes_copies_with_their_instance(bench: Bench) -> None:
    out = bench.send(1, ipv4(0x0B000005))
    assert {port: [frame[6:12] for frame in frames] for port, frames in out.items()} == {
        1: [marked(rid=1, instance=5)],
        2: [marked(rid=5, instance=5)],
        3: [marked(rid=6, instance=5)],
    }


def test_resubmission_keeps_its_field_list(bench: Bench) -> None:
    out = bench.send(1, ipv4(0x0A010005, tos=1))
    assert [frame[6:12] for frame in out[3]] == [marked(passes=2, hashed=HASH)]
    assert out[3][0][12:] == b"\x08\0" + ipv4(0x0A010005, tos=1, ttl=63)[14:]
    assert bench.pipeline.counters["FeaturesIngress.seen"][0][1] == 3


def test_a_clone_is_the_packet_as_it_came_in(bench: Bench) -> None:
    out = bench.send(1, ipv4(0x0A000005, length=150))
    assert [frame[6:12] for frame in out[2]] == [marked(kind=9)]
    assert [frame[6:12] for frame in out[3]] == [marked(kind=9, rid=4, instance=1)]
    assert out[3][0][12:] == ipv4(0x0A000005, length=150)[12:]
    del bench.replication.sessions[5]
    assert list(bench.send(1, ipv4(0x0A000005, length=150))) == [2]


def test_registers_and_indices_out_of_range(bench: Bench) -> None:
    out = bench.send(1, ipv4(0x0A010005, tos=2))
    assert bench.pipeline.registers["FeaturesIngress.last"] == [0, 0, 7]
    assert out[3][0][:12] == b"\0\0\0\x2a\0\x07" + marked(kind=2)
    out = bench.send(1, ipv4(0x0A010005, tos=64))
    assert bench.pipeline.registers["FeaturesIngress.last"] == [0, 0, 7]
    assert out[3][0][:12] == b"\0\0\0\x2a\0\0" + marked(kind=200)


def test_constant_entries_and_parser_ranges(bench: Bench) -> None:
    assert bench.send(1, ethernet(0x9001)) == {2: [b"\0\0\0\x2c\x12\x34" + marked() + ethernet(0x9001)[12:]]}
    assert list(bench.send(1, ethernet(0x9002))) == [3]
    assert bench.send(1, ethernet(0x1111)) == {}
    assert bench.send(1, ethernet(0x9001)[:14])[2][0][:6] == b"\0\0\0\x0e\x12\x34"


def test_a_port_that_is_not_there_drops(bench: Bench) -> None:
    bench.insert(ROUTE, ((0x0A020000, 16), (0x800, 0)), TO_PORT, 77)
    assert bench.send(1, ipv4(0x0A020005)) == {}
    assert bench.switch.dropped == 1

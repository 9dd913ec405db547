# SPDX-License-Identifier: Apache-2.0
"""The program `features` on every target that is here: the same frames come out of each."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from vectors.p4.messages import message
from vectors.p4.targets import TARGETS

from .lab import Lab, Lpm, Range, Ternary, running

INGRESS = "FeaturesIngress."
DESTINATION, ETHERTYPE = "hdr.ipv4.destination", "hdr.ethernet.ethertype"
LENGTH, VALID, TOS = "hdr.ipv4.total_length", "hdr.ipv4.$valid$", "hdr.ipv4.tos"
HASH = 0x0024


def ipv4(destination: int, *, tos: int = 0, length: int = 40, wrong: int = 0, ttl: int = 64) -> bytes:
    header = struct.pack(">BBHHHBBHII", 0x45, tos, length, 1, 0x4000, ttl, 17, 0, 0x0A000001, destination)
    total = sum(struct.unpack(">10H", header))
    summed = (0xFFFF - (total % 0xFFFF) + wrong) & 0xFFFF
    return b"\x02" * 6 + b"\x04" * 6 + b"\x08\0" + header[:10] + struct.pack(">H", summed) + header[12:] + b"payload!"


def ethernet(kind: int) -> bytes:
    return b"\2" * 6 + b"\4" * 6 + kind.to_bytes(2, "big") + b"x" * 30


def marked(kind: int = 0, passes: int = 0, hashed: int = 0, rid: int = 0, instance: int = 0) -> bytes:
    return bytes([kind, passes]) + hashed.to_bytes(2, "big") + bytes([rid, instance])


def replication(which: str, number: int, *replicas: tuple[int, int]) -> Any:
    entity = message("p4.v1.Entity")()
    entry = getattr(entity.packet_replication_engine_entry, which)
    setattr(entry, "multicast_group_id" if which == "multicast_group_entry" else "session_id", number)
    for port, instance in replicas:
        entry.replicas.add(egress_port=port, instance=instance)
    return entity


@pytest.fixture(scope="module", params=TARGETS)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with running(request.param) as made:
        insert = made.controller.insert
        route, classify = INGRESS + "route", INGRESS + "classify"
        insert(route, {DESTINATION: Lpm(0x0A000000, 8), ETHERTYPE: 0x800}, INGRESS + "to_port", {"port": 2})
        insert(route, {DESTINATION: Lpm(0x0A010000, 16), ETHERTYPE: 0x800}, INGRESS + "to_port", {"port": 3})
        insert(route, {DESTINATION: Lpm(0x0B000000, 8), ETHERTYPE: 0x800}, INGRESS + "to_group", {"group": 7})
        insert(classify, {VALID: 1, TOS: Ternary(1, 255)}, INGRESS + "set_hash", priority=5)
        insert(classify, {VALID: 1, TOS: Ternary(2, 2)}, INGRESS + "set_kind", {"kind": 2}, priority=4)
        insert(classify, {VALID: 1, LENGTH: Range(100, 200)}, INGRESS + "send_copy", priority=9)
        group = replication("multicast_group_entry", 7, (1, 1), (2, 5), (3, 6))
        session = replication("clone_session_entry", 5, (3, 4))
        assert made.controller.update(group, session) == [0, 0]
        yield made


def test_longest_prefix_and_checksum(lab: Lab) -> None:
    expected = b"\0\0\0\x2a\0\0" + marked() + b"\x08\0" + ipv4(0x0A000005, ttl=63)[14:]
    assert lab.send(1, ipv4(0x0A000005), 1) == {2: [expected]}
    assert list(lab.send(1, ipv4(0x0A010005), 1)) == [3]


def test_dropped(lab: Lab) -> None:
    for frame in (ipv4(0x0A000005, wrong=1), ipv4(0x0A000005)[:30], ipv4(0x0C000005), ethernet(0x1111)):
        assert lab.send(1, frame, 0) == {}


def test_multicast(lab: Lab) -> None:
    out = lab.send(1, ipv4(0x0B000005), 3)
    assert {port: [frame[6:12] for frame in frames] for port, frames in out.items()} == {
        1: [marked(rid=1, instance=5)],
        2: [marked(rid=5, instance=5)],
        3: [marked(rid=6, instance=5)],
    }


def test_resubmission(lab: Lab) -> None:
    out = lab.send(1, ipv4(0x0A010005, tos=1), 1)
    assert [frame[6:12] for frame in out[3]] == [marked(passes=2, hashed=HASH)]


def test_clone(lab: Lab) -> None:
    out = lab.send(1, ipv4(0x0A000005, length=150), 2)
    assert [frame[6:12] for frame in out[2]] == [marked(kind=9)]
    assert [frame[6:12] for frame in out[3]] == [marked(kind=9, rid=4, instance=1)]
    assert out[3][0][12:] == ipv4(0x0A000005, length=150)[12:]


def test_register(lab: Lab) -> None:
    out = lab.send(1, ipv4(0x0A010005, tos=2), 1)
    assert out[3][0][:12] == b"\0\0\0\x2a\0\x07" + marked(kind=2)


def test_constant_entries(lab: Lab) -> None:
    assert lab.send(1, ethernet(0x9001), 1) == {2: [b"\0\0\0\x2c\x12\x34" + marked() + ethernet(0x9001)[12:]]}
    assert list(lab.send(1, ethernet(0x9002), 1)) == [3]


def test_default_action_and_its_reset(lab: Lab) -> None:
    entity = lab.controller.entry(INGRESS + "route", {}, INGRESS + "to_port", {"port": 1})
    entity.table_entry.is_default_action = True
    assert lab.controller.update(entity, kind=2) == [0]
    assert list(lab.send(2, ipv4(0x0C000005), 1)) == [1]
    entity.table_entry.ClearField("action")
    assert lab.controller.update(entity, kind=2) == [0]
    assert lab.send(2, ipv4(0x0C000005), 0) == {}


def test_counter(lab: Lab) -> None:
    before = lab.controller.counters(INGRESS + "seen")
    lab.send(1, ipv4(0x0A000005), 1)
    after = lab.controller.counters(INGRESS + "seen")
    assert [b - a for a, b in zip(before, after, strict=True)] == [0, 1, 0, 0]

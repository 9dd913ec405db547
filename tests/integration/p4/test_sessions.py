# SPDX-License-Identifier: Apache-2.0
"""Whole sessions between two switches: complete under loss and traffic, refused when forged, undone when aborted."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from integration.p4.lab import Lab, Shipment, Traffic, Weather, key_of
from vectors.p4 import reference as ref
from vectors.p4 import scenarios as sc
from vectors.p4.frames import address
from vectors.p4.targets import TARGETS

RANGE = 1023  # 1,024 entries
FLOWS = 64
STORM = {"loss": 0.1, "duplication": 0.1, "reordering": 0.1}


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.01)


def everybody(lab: Lab, switch: str, flows: int = FLOWS) -> None:
    """One packet of each flow, sent until it has been seen."""
    for flow in range(flows):
        lab.count(switch, flow)
        until(lambda flow=flow: lab.forwarded(switch)[flow] == 1, "forwarded")
    lab.settle()


def packets(lab: Lab, switch: str, flows: int = FLOWS) -> dict[int, int]:
    return {flow: record.packets for flow in range(flows) if (record := lab.flow(switch, flow))}


def clients(lab: Lab, switch: str) -> dict[int, int]:
    return {index: value for index, value in enumerate(lab.clients(switch)) if value}


def clients_of(flows: Counter[int]) -> dict[int, int]:
    """What the client array holds when these packets were counted."""
    found: Counter[int] = Counter()
    for flow, number in flows.items():
        found[ref.index_of(key_of(flow) >> 32, 4)] += number
    return dict(found)


@pytest.mark.parametrize("suite", [ref.SIPHASH, ref.POLY_SIPHASH])
@pytest.mark.parametrize("target", TARGETS)
def test_exactly_once_in_a_storm_under_traffic(target: str, suite: int) -> None:
    """Traffic at the source before, during and after the copy, then at the destination: every packet counted once."""
    with Lab(target, Weather(**STORM, seed=suite)) as lab:
        first = Shipment(lab, "a", "b", replace(ref.Session(), number=10, suite=suite))
        with Traffic(partial(lab.count, "a"), FLOWS, 300):
            until(lambda: len(lab.forwarded("a")) == FLOWS, "traffic")
            first.open()
            first.copy(ref.FLOWS, sc.OCCUPIED)
            first.copy(ref.CLIENTS, sc.OCCUPIED)
            first.copy(ref.FLOWS, sc.DIRTY)
            first.repair()
            first.commit(release=False)
        with Traffic(partial(lab.count, "b"), FLOWS, 300):  # the cutover
            until(lambda: lab.forwarded("b").total() > 50, "traffic")
            second = Shipment(lab, "a", "b", replace(ref.Session(), number=11, suite=suite))
            second.open()
            second.copy(ref.FLOWS, sc.DIRTY)
            second.copy(ref.CLIENTS, sc.DIRTY)
            second.repair()
            second.commit()
        seen = lab.settle()
        sent = seen["a"] + seen["b"]
        assert lab.events("a")[7] + lab.events("b")[7] == 0, "these flows have an entry each"
        assert set(packets(lab, "a").values()) <= {0}, (
            "what did not count again keeps its key there until it is released"
        )
        assert packets(lab, "b") == sent
        assert clients(lab, "b") == clients_of(sent)
        assert clients(lab, "a") == {}
        assert lab.events("b")[6] == lab.events("a")[12], "each packet was staged once"


@pytest.mark.parametrize("target", TARGETS)
def test_an_aborted_session_leaves_everything_as_it_was(target: str) -> None:
    with Lab(target, Weather(**STORM, seed=3)) as lab:
        with Traffic(partial(lab.count, "a"), FLOWS, 300):
            until(lambda: len(lab.forwarded("a")) == FLOWS, "traffic")
            shipment = Shipment(lab, "a", "b", replace(ref.Session(), number=20))
            shipment.open()
            shipment.copy(ref.FLOWS, sc.OCCUPIED)
            shipment.copy(ref.CLIENTS, sc.OCCUPIED)
            shipment.repair()
            shipment.abort()
        sent = lab.settle()["a"]
        assert packets(lab, "a") == sent
        assert packets(lab, "b") == {}
        assert clients(lab, "a") == clients_of(sent)
        assert clients(lab, "b") == {}


@pytest.mark.parametrize("target", TARGETS)
def test_there_and_back_again(target: str) -> None:
    with Lab(target, Weather(loss=0.05, seed=4)) as lab:
        everybody(lab, "a")
        for trip in range(4):
            source, destination = ("a", "b") if trip % 2 == 0 else ("b", "a")
            shipment = Shipment(lab, source, destination, replace(ref.Session(), number=30 + trip))
            shipment.open()
            shipment.copy(ref.FLOWS, sc.OCCUPIED)
            shipment.copy(ref.CLIENTS, sc.ALL_BLOCKS, RANGE)
            shipment.repair()
            shipment.commit()
            assert packets(lab, source) == {}
            assert packets(lab, destination) == dict.fromkeys(range(FLOWS), 1)


@pytest.mark.parametrize("suite", [ref.SIPHASH, ref.POLY_SIPHASH])
@pytest.mark.parametrize("target", TARGETS)
def test_what_an_attacker_changes_or_repeats_is_refused(target: str, suite: int) -> None:
    """A man in the middle: every frame seen is sent again with one bit of what the MAC covers turned, and whole."""
    mutations = 500
    generator = random.Random(suite)
    with Lab(target, Weather(seed=5)) as lab:
        everybody(lab, "a")
        shipment = Shipment(lab, "a", "b", replace(ref.Session(), number=40, suite=suite))
        shipment.open()
        shipment.copy(ref.CLIENTS, sc.ALL_BLOCKS, RANGE)
        count = shipment.copy(ref.FLOWS, sc.OCCUPIED)
        shipment.repair()
        assert lab.fabric is not None
        seen = [frame for frame in lab.fabric.weather.seen if frame[12:14] == b"\x88\xb5"]
        before = lab.events("b")
        mutated = []
        for _ in range(mutations):
            frame = bytearray(generator.choice(seen))
            bit = generator.randrange(14 * 8, len(frame) * 8)
            frame[bit // 8] ^= 1 << bit % 8
            mutated.append(bytes(frame))
        inject(lab, mutated)
        after = lab.events("b")
        assert after[6] == before[6] == count, "nothing new is staged"
        assert after[5] == before[5], "none is taken for the packet that it was"
        inject(lab, seen)
        assert lab.events("b")[5] == after[5] + len(seen), "the packets themselves are known"
        assert not any(lab.clients("b", RANGE))
        shipment.commit()
        after = lab.events("b")
        inject(lab, seen)  # replayed after the session
        assert lab.events("b")[0] == after[0] + len(seen)
        assert packets(lab, "b") == dict.fromkeys(range(FLOWS), 1)


OTHERS = {
    "another session's number": (0, {"number": 61}),
    "another nonce": (2, {"nonce": 1}),
    "another source": (2, {"source": 9}),
    "another destination": (2, {"destination": 9}),
    "another suite": (2, None),
    "another first key": (3, {"key0": 1}),
    "another second key": (3, {"key1": 1}),
    "another polynomial": (3, {"poly": 1}),
}
"""What a packet may be made with that is not this session's, and which counter of `events` says so."""


@pytest.mark.parametrize("suite", [ref.SIPHASH, ref.POLY_SIPHASH])
@pytest.mark.parametrize("target", TARGETS)
def test_packets_of_anything_else_than_this_session_are_refused(target: str, suite: int) -> None:
    """Each well made: of another session, another key, at another port; and the right ones once it is over."""
    with Lab(target, Weather()) as lab:
        everybody(lab, "a")
        own = replace(ref.Session(), number=60, suite=suite)
        shipment = Shipment(lab, "a", "b", own)
        shipment.open()
        body = [ref.clients_words([1] * 128)]
        for name, (counter, change) in OTHERS.items():
            if "poly" in name and suite != ref.POLY_SIPHASH:
                continue
            other = replace(own, **(change or {"suite": 3 - suite}))
            before = lab.events("b")
            inject(lab, [packet.encode() for packet in sc.chain(other, body)])
            after = lab.events("b")
            assert [a - b for a, b in zip(after[:7], before[:7], strict=True)] == [
                int(cell == counter) for cell in range(7)
            ], name
        shipment.copy(ref.FLOWS, sc.OCCUPIED)
        shipment.repair()
        assert lab.fabric is not None
        seen = [frame for frame in lab.fabric.weather.seen if frame[12:14] == b"\x88\xb5"]
        shipment.commit()
        before, held = lab.events("b"), packets(lab, "b")
        inject(lab, seen)
        assert lab.events("b")[0] == before[0] + len(seen), "replayed after the session"
        assert packets(lab, "b") == held == dict.fromkeys(range(FLOWS), 1)
        assert not any(lab.clients("b", RANGE))


def inject(lab: Lab, frames: list[bytes], burst: int = 8) -> None:
    """Frames from the fabric into `b`, no more at a time than bmv2's capture ring holds, until each was seen."""
    assert lab.fabric is not None
    for start in range(0, len(frames), burst):
        part = frames[start : start + burst]
        expected = sum(lab.events("b")[:7]) + len(part)
        for frame in part:
            lab.fabric.inject("b", frame)
        until(lambda expected=expected: sum(lab.events("b")[:7]) == expected, "all were seen")


@pytest.mark.parametrize("target", TARGETS)
def test_a_host_cannot_start_a_session(target: str) -> None:
    with Lab(target) as lab:
        keys = replace(ref.Session(), number=50)
        packet = sc.chain(keys, [ref.clients_words([1] * 128)])[0].encode()
        lab.sockets["b"].send(packet)
        Shipment(lab, "a", "b", keys).open()
        lab.sockets["b"].send(packet)  # a good packet, on a port that is not the fabric's
        until(lambda: lab.events("b")[0] == 2, "both were seen")
        assert lab.events("b")[6] == 0
        assert lab.ask("b", kind=sc.REPORT_IN, session=50).fields["count"] == 0


@pytest.mark.parametrize("target", TARGETS)
def test_a_client_entry_is_where_its_address_hashes(target: str) -> None:
    with Lab(target) as lab:
        lab.count("a", 3)
        until(lambda: lab.forwarded("a")[3] == 1, "forwarded")
        assert lab.clients("a")[ref.index_of(address("10.10.0.3"), 4)] == 1

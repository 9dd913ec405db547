# SPDX-License-Identifier: Apache-2.0
"""Many seeded sessions and many mutated packets: zero lost or doubled updates, nothing forged gets in.

BATON_P4_RUNS and BATON_P4_MUTATIONS say how many of each a target gets (1,000 and 50,000 take a long coffee break);
BATON_P4_FIRST is the first seed, so that the runs can be taken in slices.
"""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from integration.p4.lab import SERVERS, Lab, Shipment, Traffic, Weather
from integration.p4.test_sessions import inject
from vectors.p4 import reference as ref
from vectors.p4 import scenarios as sc
from vectors.p4.frames import address, ipv4
from vectors.p4.targets import TARGETS

FIRST = int(os.environ.get("BATON_P4_FIRST", "0"))
RUNS = int(os.environ.get("BATON_P4_RUNS", "20"))
MUTATIONS = int(os.environ.get("BATON_P4_MUTATIONS", "2000"))
RANGE = 1023
FLOWS = 32
RATE = 250
"""Packets a second at each of the two switches."""
STORM = {"loss": 0.1, "duplication": 0.1, "reordering": 0.1}


def clients_in_range() -> Iterator[str]:
    """Client addresses whose counter is among the first 1,024."""
    for n in itertools.count():
        client = f"10.{16 + (n >> 16)}.{n >> 8 & 255}.{n & 255}"
        if ref.index_of(address(client), 4) <= RANGE:
            yield client


CLIENTS = list(itertools.islice(clients_in_range(), FLOWS))


class Ledger:
    """What two switches have counted, and what came out of them: the truth that it is compared with."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def send(self, switch: str, flow: int) -> None:
        """One packet of a flow at a switch."""
        self.lab.sockets[switch].send(ipv4(CLIENTS[flow], 1024 + flow, SERVERS[switch], 80))

    def packets(self) -> Counter[int]:
        """By flow, at whichever switch; no more traffic comes."""
        seen = self.lab.settle()
        return seen["a"] + seen["b"]

    def flows(self) -> Counter[int]:
        found: Counter[int] = Counter()
        for switch in SERVERS:
            for flow in range(FLOWS):
                record = self.lab.record(switch, ref.flow_key(CLIENTS[flow], 1024 + flow, sc.SERVICE))
                found[flow] += record.packets if record else 0
        return found

    def clients(self) -> Counter[int]:
        found: Counter[int] = Counter()
        for switch in SERVERS:
            found.update({i: v for i, v in enumerate(self.lab.clients(switch, RANGE)) if v})
        return found


def clients_of(packets: Counter[int]) -> Counter[int]:
    """What the client array holds when these were counted."""
    found: Counter[int] = Counter()
    for flow, number in packets.items():
        found[ref.index_of(address(CLIENTS[flow]), 4)] += number
    return found


def one_session(lab: Lab, seed: int) -> None:
    """A session either way, with either suite, that is committed or aborted."""
    chance = random.Random(seed)
    source, destination = chance.choice(["ab", "ba"])
    keys = replace(
        ref.Session(),
        number=1000 + seed,
        suite=chance.choice([ref.SIPHASH, ref.POLY_SIPHASH]),
        key0=chance.getrandbits(64),
        nonce=chance.getrandbits(64),
    )
    shipment = Shipment(lab, source, destination, keys)
    shipment.open()
    for array, mode in (
        (ref.FLOWS, sc.OCCUPIED),
        (ref.CLIENTS, sc.ALL_BLOCKS),
        (ref.FLOWS, sc.DIRTY),
        (ref.CLIENTS, sc.DIRTY),
    ):
        shipment.copy(array, mode, RANGE if array == ref.CLIENTS else ref.ENTRIES - 1)
    if chance.random() < 0.3:
        shipment.abort()
    else:
        shipment.repair()
        shipment.commit(release=chance.random() < 0.5)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target", TARGETS)
def test_seeded_storms(target: str) -> None:
    weather = Weather(**STORM, seed=FIRST)
    with Lab(target, weather) as lab:
        ledger = Ledger(lab)
        for run in range(FIRST, FIRST + RUNS):
            with (
                Traffic(partial(ledger.send, "a"), FLOWS, RATE, run),
                Traffic(partial(ledger.send, "b"), FLOWS, RATE, run + 1),
            ):
                one_session(lab, run)
            packets = ledger.packets()
            assert ledger.flows() == packets, f"run {run}"
            assert ledger.clients() == clients_of(packets), f"run {run}"
        assert weather.dropped > 0


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("suite", [ref.SIPHASH, ref.POLY_SIPHASH])
@pytest.mark.parametrize("target", TARGETS)
def test_mutated_packets(target: str, suite: int) -> None:
    chance = random.Random(suite)
    with Lab(target, Weather()) as lab:
        keys = replace(ref.Session(), number=7, suite=suite)
        Shipment(lab, "a", "b", keys).open()
        good = sc.chain(keys, [ref.clients_words([chance.getrandbits(32) for _ in range(128)]) for _ in range(8)])
        inject(lab, [packet.encode() for packet in good[:4]])  # half of them are staged, half are not
        before = lab.events("b")
        for start in range(0, MUTATIONS, 1000):
            mutated = []
            for _ in range(min(1000, MUTATIONS - start)):
                frame = bytearray(chance.choice(good).encode())
                for _ in range(chance.choice([1, 1, 2, 8])):
                    frame[chance.randrange(14, len(frame))] ^= chance.randrange(1, 256)
                if chance.random() < 0.05:
                    del frame[chance.randrange(14, len(frame)) :]
                if chance.random() < 0.05:
                    frame += bytes(chance.randrange(1, 100))
                if bytes(frame) not in {packet.encode() for packet in good}:
                    mutated.append(bytes(frame))
            inject(lab, mutated)
        after = lab.events("b")
        assert after[5:7] == before[5:7], "none was staged or taken for one that was"
        inject(lab, [packet.encode() for packet in good[4:]])
        assert lab.events("b")[6] == len(good)
        assert not any(lab.clients("b", RANGE))

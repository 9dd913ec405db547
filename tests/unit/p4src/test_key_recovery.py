# SPDX-License-Identifier: Apache-2.0
"""The published P4Sync's MAC gives its key away to whoever sees 8 packets; ours does not fall to the same attack.

Its rounds are SipHash's with shifts in place of the rotations. Addition, exclusive or and left shift only carry
information upwards: bit i of the MAC depends on bits 0 to i of the key and the message, and on nothing else. So the
key is found bit by bit from below, 4 guesses a bit, each checked against bit i of the MACs seen. A rotation brings
high bits down, and then no guess of low bits can be checked alone.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest
from vectors.p4.reference import siphash24

Mac = Callable[[int, int, int, int, int], int]
CONSTANTS = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
SEEN = 8
MAXIMUM_GUESSES = 200_000


def published(key0: int, key1: int, previous: int, entry: int, bits: int = 64) -> int:
    """The MAC of one entry as published (1 and 2 rounds, shifts), its lower `bits`."""
    mask = (1 << bits) - 1
    v0, v1, v2, v3 = (constant ^ key for constant, key in zip(CONSTANTS, (key0, key1, key0, key1), strict=True))

    def shift_round() -> None:
        nonlocal v0, v1, v2, v3
        v0, v2 = v0 + v1 & mask, v2 + v3 & mask
        v1, v3 = v1 << 13 & mask ^ v0, v3 << 16 & mask ^ v2
        v0, v2 = (v0 << 32) + v3 & mask, v2 + v1 & mask
        v1, v3 = v1 << 17 & mask ^ v2, v3 << 21 & mask ^ v0
        v2 = v2 << 32 & mask

    for word in (previous, entry):
        v3 ^= word
        shift_round()
        v0 ^= word
    v2 ^= 0xFF
    shift_round()
    shift_round()
    return (v0 ^ v1 ^ v2 ^ v3) & mask


def ours(key0: int, key1: int, previous: int, entry: int, bits: int = 64) -> int:
    """SipHash-2-4 of the same two words, its lower `bits`."""
    return siphash24(struct.pack("<QQ", key0, key1), struct.pack("<QQ", previous, entry)) & ((1 << bits) - 1)


def sniff(mac: Mac, key0: int, key1: int, count: int) -> list[tuple[int, int, int]]:
    """(previous MAC, entry, MAC) of consecutive packets of a session."""
    chance, previous, seen = random.Random(1), 0, []
    for index in range(count):
        entry = 1 << 56 | 6 << 48 | index << 32 | chance.getrandbits(20)
        tag = mac(key0, key1, previous, entry, 64)
        seen.append((previous, entry, tag))
        previous = tag
    return seen


def recover(mac: Mac, seen: list[tuple[int, int, int]]) -> tuple[int, int] | None:
    """A key that explains all that was seen, bit by bit from below; None when there is none or the guesses run out."""
    guesses = 0
    todo = [(0, 0, 0)]
    while todo:
        bit, key0, key1 = todo.pop()
        if bit == 64:
            return key0, key1
        for low0, low1 in ((0, 0), (0, 1), (1, 0), (1, 1)):
            guesses += 1
            if guesses > MAXIMUM_GUESSES:
                return None
            guess0, guess1 = key0 | low0 << bit, key1 | low1 << bit
            mask = (1 << bit + 1) - 1
            if all(mac(guess0, guess1, previous, entry, bit + 1) == tag & mask for previous, entry, tag in seen):
                todo.append((bit + 1, guess0, guess1))
    return None


@pytest.mark.parametrize("seed", range(5))
def test_the_published_rounds_fall_to_eight_packets(seed: int) -> None:
    chance = random.Random(seed)
    key0, key1 = chance.getrandbits(64), chance.getrandbits(64)
    packets = sniff(published, key0, key1, 2 * SEEN)
    found = recover(published, packets[:SEEN])
    assert found is not None
    assert [published(*found, previous, entry) for previous, entry, _ in packets[SEEN:]] == [
        tag for *_, tag in packets[SEEN:]
    ]


@pytest.mark.parametrize("seed", range(5))
def test_ours_does_not(seed: int) -> None:
    chance = random.Random(seed)
    assert recover(ours, sniff(ours, chance.getrandbits(64), chance.getrandbits(64), SEEN)) is None

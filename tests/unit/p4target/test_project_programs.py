# SPDX-License-Identifier: Apache-2.0
"""The project's own programs translate, stay small where it counts, and survive any frame."""

from __future__ import annotations

import functools
import random

import pytest

from p4src.target import program
from p4src.target.replication import Replica
from p4src.target.translate import Pipeline, translate

from .common import BUILD, Bench, text

PROGRAMS = ("flow_state", "baseline", "siphash_check")
LOCALS = 1000
"""A frame with more locals than this no longer fits Python's stack chunk of 16 KiB: each call would map memory."""


@functools.cache
def made(name: str) -> Pipeline:
    return translate(program.load(text(BUILD / f"{name}.json")))


@pytest.mark.parametrize("name", PROGRAMS)
def test_temporaries_share_names(name: str) -> None:
    for function in (made(name).ingress, made(name).reparse, made(name).egress):
        assert function.__code__.co_nlocals < LOCALS


@pytest.mark.parametrize("name", PROGRAMS)
def test_tables_and_state(name: str) -> None:
    read = program.load(text(BUILD / f"{name}.json"))
    pipeline = made(name)
    assert set(pipeline.tables) == set(read.tables)
    assert {n: len(cells) for n, cells in pipeline.registers.items()} == {n: s for n, (s, _) in read.registers.items()}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("port", [1, 255])
def test_any_frame_leaves_the_switch_running(name: str, port: int) -> None:
    bench = Bench(made(name))
    bench.replication.sessions[1] = (Replica(509, 0),)
    chance = random.Random(f"{name} {port}")
    kinds = (b"\x08\0", b"\x88\xb5", b"\x88\xb6", b"\x88\xb7", b"\x86\xdd")
    for _ in range(2000):
        body = chance.randbytes(chance.choice((0, 3, 20, 44, 80, 560, 600)))
        if port == 255:
            head = bytes([chance.randrange(20), chance.randrange(4), 0, chance.randrange(5)]) + chance.randbytes(14)
            frame = head + bytes(64) * chance.randrange(2) + body
        else:
            frame = chance.randbytes(12) + chance.choice(kinds) + chance.choice((b"", b"E\0\0(")) + body
        bench.send(port, frame)
    for registers, (_, bits) in zip(
        bench.pipeline.registers.values(), bench.pipeline.program.registers.values(), strict=True
    ):
        assert all(0 <= cell < 1 << bits for cell in registers)

# SPDX-License-Identifier: Apache-2.0
"""Both data paths on the same random runs, genuine and damaged: the same bytes, counts and refusals.

As a script it runs a library of one's choice, such as one with sanitizers: ``compare_datapaths.py LIBRARY ROUNDS``;
with ``overrun`` for ROUNDS it does what no caller may, to show that a sanitizer would see it.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from controller.eccp.datapath.in_c import InC, address_of
from controller.eccp.datapath.in_python import InPython
from controller.eccp.datapath.interface import Datapath, Labels
from controller.eccp.errors import LocalError
from controller.eccp.keys import Key
from controller.wire.eccp import COUNT_MASK, HEADER_SIZE, RESENT, TAG_SIZE, Kind

KINDS = (Kind.DATA, Kind.DATA_MAC, Kind.DATA_PLAIN)
REFERENCE = InPython()


def _number(rng: random.Random, bits: int) -> int:
    """A number of any size, often near the end of its range or where a byte wraps."""
    return rng.choice(
        (
            rng.getrandbits(bits),
            rng.getrandbits(8),
            (1 << bits) - 1 - rng.randrange(70),
            (rng.getrandbits(bits - 8) << 8) + rng.randrange(200, 256),
        )
    ) & ((1 << bits) - 1)


def _seal(datapath: Datapath, raw: bytes | None, labels: Labels, *rest: object) -> bytes | None:
    try:
        return bytes(datapath.seal(None if raw is None else Key(raw), labels, *rest))  # type: ignore[arg-type]
    except LocalError:
        return None


def _compact(datapath: Datapath, run: bytearray, step: int, skip: int, tail: int) -> int | None:
    try:
        return datapath.compact(memoryview(run), step, skip, tail)
    except LocalError:
        return None


def compare_seal(other: Datapath, rng: random.Random) -> tuple[bytes, Kind, bytes, int] | None:
    """One call of `seal`, sensible or not; returns the run made, its kind, key and step."""
    raw = rng.randbytes(32)
    kind = rng.choice(KINDS)
    # one in ten is asked to seal without a key, or to leave in clear with one
    keyed = (kind is not Kind.DATA_PLAIN) ^ (rng.random() < 0.1)
    aux = _number(rng, 16) if rng.random() < 0.3 else rng.randrange(1, COUNT_MASK) | rng.choice((0, RESENT))
    labels = Labels(kind, aux, _number(rng, 64), _number(rng, 64), _number(rng, 64))
    frame = rng.randbytes(rng.choice((0, 1, 40, 600, 5000)))
    start = rng.randrange(0, len(frame) + 3)
    end = len(frame) if rng.random() < 0.7 else rng.randrange(0, len(frame) + 3)
    piece = rng.choice((0, 1, 17, 90, 700, 1348, 70000))
    lead = rng.randbytes(rng.choice((0, 7, 8, 9, 70, 300)))
    results = [
        _seal(datapath, raw if keyed else None, labels, lead, frame, start, end, piece)
        for datapath in (REFERENCE, other)
    ]
    assert results[0] == results[1], (kind, keyed, labels, len(lead), len(frame), start, end, piece)
    if results[0] is None:
        return None
    step = HEADER_SIZE + len(lead) + (8 if aux & RESENT else 0) + piece + (TAG_SIZE if keyed else 0)
    return results[0], kind, raw, step


def damage(rng: random.Random, run: bytes) -> bytes:
    """Bytes changed, cut off, put in or taken out; or nothing."""
    changed = bytearray(run)
    for _ in range(rng.choice((0, 0, 1, 1, 3))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                del changed[at:]
            case 2:
                changed[at:at] = rng.randbytes(rng.randrange(1, 40))
            case 3:
                del changed[at : at + rng.randrange(1, 40)]
    return bytes(changed)


def compare_receive(other: Datapath, rng: random.Random, run: bytes, kind: Kind, raw: bytes, step: int) -> None:
    """`count_run`, `open` and `compact` on a run as the network may bring it."""
    step = step if rng.random() < 0.8 else rng.choice((0, 1, 19, 20, 35, 36, 37, step + 1, len(run), 1 << 40))
    counts = [datapath.count_run(memoryview(bytearray(run)), step) for datapath in (REFERENCE, other)]
    assert counts[0] == counts[1] >= 1, (len(run), step, counts)
    copies = [bytearray(run), bytearray(run)]
    if kind is not Kind.DATA_PLAIN:
        opened = [
            datapath.open(Key(raw), kind, memoryview(copy), step)
            for datapath, copy in zip((REFERENCE, other), copies, strict=True)
        ]
        assert opened[0] == opened[1] >= 0, (len(run), step, opened)
        good = opened[0] * step
        assert copies[0][:good] == copies[1][:good]
        assert copies[0][good + step :] == copies[1][good + step :] == run[good + step :], "beyond the spoilt one"
        copies[1][:] = copies[0]
    skip, tail = rng.choice((0, 28, 36, 60, 88, 400, 1 << 40)), rng.choice((0, TAG_SIZE))
    sizes = [
        _compact(datapath, copy, step, skip, tail) for datapath, copy in zip((REFERENCE, other), copies, strict=True)
    ]
    assert sizes[0] == sizes[1], (len(run), step, skip, tail, sizes)
    end = skip + (sizes[0] or 0)
    assert copies[0][:end] == copies[1][:end]


def compare(other: Datapath, seed: int, rounds: int) -> int:
    """Compare for so many rounds; returns how many runs were made and looked at."""
    rng = random.Random(seed)
    made = 0
    for _ in range(rounds):
        sealed = compare_seal(other, rng)
        if sealed is None:
            continue
        made += 1
        run, kind, raw, step = sealed
        compare_receive(other, rng, damage(rng, run), kind, raw, step)
        noise = rng.randbytes(rng.choice((0, 1, 19, 20, 36, 500)))
        compare_receive(other, rng, noise, kind, raw, step)
    return made


def overrun(library: Path) -> None:
    """Tell the library of more bytes than there are."""
    run = bytearray(b"\xec" * 2000)
    InC(library)._compact(address_of(run), len(run) + 4000, 2000, HEADER_SIZE, 0)


if __name__ == "__main__":
    if sys.argv[2] == "overrun":
        overrun(Path(sys.argv[1]))
    else:
        print(compare(InC(Path(sys.argv[1])), 1, int(sys.argv[2])))

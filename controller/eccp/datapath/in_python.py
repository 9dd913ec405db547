# SPDX-License-Identifier: Apache-2.0
"""The data path in Python: what `runs.c` does, for hosts without it and as its reference in tests."""

from __future__ import annotations

from cryptography.exceptions import InvalidTag

from controller.eccp.batch import headers, heads_apart, nonces
from controller.eccp.datapath.interface import Labels
from controller.eccp.errors import LocalError
from controller.eccp.keys import Key
from controller.eccp.outputs import Buffer
from controller.wire.eccp import HEADER_SIZE, INDEX_ONE, RESENT, TAG_SIZE, Kind

MAX_NUMBER = 2**64 - 1
VERSION_SIZE = 8


class InPython:
    """Implements `Datapath`."""

    name = "python"

    def seal(
        self, key: Key | None, labels: Labels, lead: bytes, frame: bytes, start: int, end: int, piece: int
    ) -> Buffer:
        """See `Datapath.seal`."""
        kind, aux, flow, number, was = labels
        fits = 0 <= start < end <= len(frame) and piece > 0 and len(lead) >= VERSION_SIZE
        if not fits or (key is None) is not (kind is Kind.DATA_PLAIN):
            raise LocalError("this data cannot be sealed")
        more = -(-(end - start) // piece) - 1
        if aux + more * INDEX_ONE > 0xFFFF or max(number, was if aux & RESENT else 0) + more > MAX_NUMBER:
            raise LocalError("no header counts that far")
        view = memoryview(frame)
        pieces = [view[at : min(at + piece, end)] for at in range(start, end, piece)]
        heads = headers(kind, aux, flow, number, len(pieces))
        leads = [lead] * len(pieces)
        if aux & RESENT:
            version, head = lead[:VERSION_SIZE], lead[VERSION_SIZE:]
            leads = [version + (was + at).to_bytes(8, "big") + head for at in range(len(pieces))]
        bodies = [before + part for before, part in zip(leads, pieces, strict=True)]
        if key is None:
            return b"".join(part for pair in zip(heads, bodies, strict=True) for part in pair)
        encrypt = key.aead.encrypt
        numbers = nonces(number, len(pieces))
        if kind is Kind.DATA:
            sealed = map(encrypt, numbers, bodies, heads)
            return b"".join(part for pair in zip(heads, sealed, strict=True) for part in pair)
        clear = [head + body for head, body in zip(heads, bodies, strict=True)]
        tags = [encrypt(nonce, b"", text) for nonce, text in zip(numbers, clear, strict=True)]
        return b"".join(part for pair in zip(clear, tags, strict=True) for part in pair)

    def count_run(self, run: memoryview, step: int) -> int:
        """See `Datapath.count_run`."""
        if len(run) < HEADER_SIZE or step < HEADER_SIZE:
            return 1
        most = -(-len(run) // step)
        if (most - 1) * step + HEADER_SIZE > len(run):
            most -= 1
        aux = int.from_bytes(run[2:4], "big")
        flow = int.from_bytes(run[4:12], "big")
        number = int.from_bytes(run[12:20], "big")
        most = min(most, MAX_NUMBER - number + 1, (0xFFFF - aux) // INDEX_ONE + 1)
        if most <= 1:
            return 1
        found = heads_apart(step, most).unpack_from(run)
        wanted = headers(run[1], aux, flow, number, most)
        if found[0] != wanted[0]:
            return 1
        return next((index for index in range(1, most) if found[index] != wanted[index]), most)

    def open(self, key: Key, kind: Kind, run: memoryview, step: int) -> int:
        """See `Datapath.open`."""
        decrypt = key.aead.decrypt
        if step < HEADER_SIZE + TAG_SIZE:
            return 0
        for count, at in enumerate(range(0, len(run), step)):
            piece = run[at : at + step]
            if len(piece) < HEADER_SIZE + TAG_SIZE:
                return count
            nonce = bytes(4) + piece[12:20]
            try:
                if kind is Kind.DATA:
                    piece[HEADER_SIZE:-TAG_SIZE] = decrypt(nonce, piece[HEADER_SIZE:], piece[:HEADER_SIZE])
                else:
                    decrypt(nonce, piece[-TAG_SIZE:], piece[:-TAG_SIZE])
            except InvalidTag:
                return count
        return -(-len(run) // step)

    def compact(self, run: memoryview, step: int, skip: int, tail: int) -> int:
        """See `Datapath.compact`."""
        last = (len(run) - 1) % step + 1 if run and step else 0
        if min(step, last) <= skip + tail:
            raise LocalError(f"a run of {len(run)} bytes in steps of {step} has nothing between {skip} and {tail}")
        whole = b"".join([run[at + skip : min(at + step, len(run)) - tail] for at in range(0, len(run), step)])
        run[skip : skip + len(whole)] = whole
        return len(whole)

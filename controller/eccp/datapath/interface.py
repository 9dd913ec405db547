# SPDX-License-Identifier: Apache-2.0
"""What a data path does: four loops over the slices of a run.  Two classes do it, byte for byte alike.

A *run* is memory with datagrams of ``step`` bytes back to back, the last of which may be shorter.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from controller.eccp.keys import Key
from controller.eccp.outputs import Buffer
from controller.wire.eccp import Kind


class Labels(NamedTuple):
    """What the headers of a run say: ``aux`` and ``number`` are the first slice's, and count up.

    ``was`` is the number under which the first slice went out before, if ``aux`` has the bit `RESENT`.
    """

    kind: Kind
    aux: int
    flow: int
    number: int
    was: int = 0


class Datapath(Protocol):
    """`open` and `compact` work in place: their runs must be writable."""

    name: str

    def seal(
        self, key: Key | None, labels: Labels, lead: bytes, frame: bytes, start: int, end: int, piece: int
    ) -> Buffer:
        """The datagrams that carry a frame's bytes from ``start`` to ``end`` in slices of ``piece`` bytes.

        ``lead`` (version and head) stands before each slice.  ``key`` is None exactly for data in clear without a
        MAC.  Raises `LocalError` on numbers that contradict each other.
        """

    def count_run(self, run: memoryview, step: int) -> int:
        """How many datagrams from the first on have headers that count up as slices of one frame do: at least 1.

        The first header is whole, and ``step`` is not less.
        """

    def open(self, key: Key, kind: Kind, run: memoryview, step: int) -> int:
        """Open the datagrams in place; returns how many from the first on are genuine, the one after them is spoilt.

        Tags stay behind the bodies.  Of `Kind.DATA_MAC`, whose bodies are in clear, only the tags are checked.
        """

    def compact(self, run: memoryview, step: int, skip: int, tail: int) -> int:
        """Move together what stands after the first ``skip`` and before the last ``tail`` bytes of each datagram, to
        the run's byte ``skip``; returns how many bytes that is.  Every datagram is longer than ``skip + tail``.
        """

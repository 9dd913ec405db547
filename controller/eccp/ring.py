# SPDX-License-Identifier: Apache-2.0
"""The bounded ring of recently sent inner packets: what was on its way to an address that died is sent again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from controller.eccp.slices import Cut

RING_BYTES = 4 << 20


@dataclass(slots=True)
class SentFrame:
    """One frame: packet number of its first slice when it was first sent, the slices, when and how often it went."""

    number: int
    cut: Cut
    size: int
    sent_at: float
    epoch: int = 0  # validation epoch of the address it last went to


class Ring:
    """Keeps at most ``limit`` bytes of the newest frames."""

    __slots__ = ("_bytes", "_frames", "_limit")

    def __init__(self, limit: int = RING_BYTES) -> None:
        self._frames: deque[SentFrame] = deque()
        self._bytes = 0
        self._limit = limit

    def push(self, frame: SentFrame) -> None:
        """Add the newest frame; the oldest leave."""
        self._frames.append(frame)
        self._bytes += frame.size
        while self._bytes > self._limit:
            self._bytes -= self._frames.popleft().size

    def since(self, moment: float, epoch: int) -> list[SentFrame]:
        """Frames sent at ``moment`` or later that have not gone out in ``epoch`` yet, oldest first."""
        found: list[SentFrame] = []
        for frame in reversed(self._frames):
            if frame.sent_at < moment:
                break
            if frame.epoch < epoch:
                found.append(frame)
        found.reverse()
        return found

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def bytes(self) -> int:
        """Bytes held."""
        return self._bytes

# SPDX-License-Identifier: Apache-2.0
"""Anti-replay: which packet numbers of one direction were seen (the sliding window of RFC 4303 section 3.4.3)."""

from __future__ import annotations

WINDOW = 1 << 15  # packets; wide enough for what a move has sent again while the newest went on


class ReplayWindow:
    """Remembers the last `WINDOW` packet numbers; a number is fresh once.  Numbers below the window count as seen."""

    __slots__ = ("_seen", "highest")

    def __init__(self) -> None:
        self.highest = -1
        self._seen = 0  # bit i: packet number highest - i was seen

    def is_fresh(self, number: int) -> bool:
        """Whether this number was never marked and is not too old to tell."""
        age = self.highest - number
        if age < 0:
            return True
        return age < WINDOW and not (self._seen >> age) & 1

    def mark(self, number: int, count: int = 1) -> None:
        """Mark ``count`` consecutive numbers from ``number`` up."""
        last = number + count - 1
        bits = (1 << count) - 1
        ahead = last - self.highest
        if ahead > 0:
            self._seen = (self._seen << min(ahead, WINDOW)) & _MASK
            self._seen |= bits & _MASK
            self.highest = last
        else:
            self._seen |= (bits << -ahead) & _MASK

    def is_fresh_run(self, number: int, count: int) -> bool:
        """Whether all of ``count`` consecutive numbers from ``number`` up are fresh."""
        last = number + count - 1
        if number > self.highest:
            return True
        age = self.highest - last
        if age < 0:
            return all(self.is_fresh(n) for n in range(number, last + 1))
        if age + count > WINDOW:
            return False
        return not (self._seen >> age) & ((1 << count) - 1)


_MASK = (1 << WINDOW) - 1

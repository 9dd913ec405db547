# SPDX-License-Identifier: Apache-2.0
"""How fast a session goes, how long it waits, and which packets are sent again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from controller.p4sync.protocol import runs_of


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds.

    ``window``: packets on their way at once; a destination's capture ring may hold as few as 30.
    """

    window: int = 48
    look_interval: float = 0.004
    """Between two looks at what was made and what has arrived."""
    retry: float = 0.25
    """After which an unanswered request or token is repeated."""
    stall: float = 0.03
    """After which a walk that does not move is taken for lost."""
    busy_retry: float = 0.02
    """Between two offers to a destination that is busy."""
    patience: float = 15.0
    """After which a session without any headway is given up (before it is submitted)."""
    idle: float = 60.0
    """After which a destination discards a session that its source does not ask about any more."""


@dataclass(slots=True)
class Repair:
    """Decides what to resend from what the destination lacks, look by look.

    A gap is resent when two looks in a row show it (packets may be reordered), and again after ``every`` looks.
    """

    window: int
    every: int = 4
    look: int = 0
    resent: int = 0
    _seen: dict[int, int] = field(default_factory=dict)
    _highest: int = -1
    _still: int = 0

    def runs(
        self, gaps: Iterable[tuple[int, int]], highest: int, made: int, is_all_made: bool
    ) -> list[tuple[int, int]]:
        """Return (first, length) of what to resend now.

        The tail, behind the highest number that arrived, counts as missing when all is made and nothing more comes.
        """
        self.look += 1
        self._still = self._still + 1 if highest == self._highest else 0
        self._highest = highest
        missing = [first + offset for first, length in gaps for offset in range(length)]
        if is_all_made and self._still >= 2:
            missing += range(highest + 1, made)
        due = []
        for number in missing:
            since = self._seen.setdefault(number, self.look)
            if self.look > since and (self.look - since == 1 or (self.look - since) % self.every == 0):
                due.append(number)
        known = set(missing)
        self._seen = {number: since for number, since in self._seen.items() if number in known}
        due = due[: self.window]
        self.resent += len(due)
        return runs_of(due)

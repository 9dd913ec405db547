# SPDX-License-Identifier: Apache-2.0
"""The amplification limit: to an address not yet validated at most 3x the bytes received from it (RFC 9000, 8.1)."""

from __future__ import annotations

FACTOR = 3
MAX_PLACES = 8


class Budget:
    """Bytes received from and sent to the few addresses of one flow that are not validated."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: dict[object, int] = {}

    def received(self, place: object, size: int) -> None:
        """Credit an authentic datagram of ``size`` bytes; the oldest place is forgotten when there are too many."""
        if place not in self._left and len(self._left) >= MAX_PLACES:
            del self._left[next(iter(self._left))]
        self._left[place] = self._left.get(place, 0) + FACTOR * size

    def spend(self, place: object, size: int) -> bool:
        """Take ``size`` bytes if the place still has them."""
        left = self._left.get(place, 0)
        if size > left:
            return False
        self._left[place] = left - size
        return True

    def left(self, place: object) -> int:
        """Bytes that may still go there."""
        return self._left.get(place, 0)

    def clear(self) -> None:
        """Forget all places: a validation is over."""
        self._left.clear()

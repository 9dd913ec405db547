# SPDX-License-Identifier: Apache-2.0
"""Digest lists: batching, acknowledgement, and bmv2's rule that a digest under way is not sent again.

A digest equal to one not yet acknowledged is suppressed, also past the acknowledgement timeout: that is what bmv2
does, and why clients must acknowledge.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

UNACKNOWLEDGED = 65_536
"""Digests remembered for each list; further ones are dropped until the client acknowledges."""

Values = tuple[int, ...]
Send = Callable[[int, int, list[Values]], None]
"""Digest number, list number, its digests."""


@dataclass
class Config:
    """A DigestEntry: nanoseconds, and how many digests make a list (0: one)."""

    max_timeout_ns: int
    max_list_size: int
    ack_timeout_ns: int


@dataclass
class _List:
    config: Config
    waiting: list[Values] = field(default_factory=list)
    deadline_ns: int = 0
    under_way: dict[int, list[Values]] = field(default_factory=dict)
    known: set[Values] = field(default_factory=set)


class Digests:
    """All digests of a device. Packets add, clients acknowledge, `tick` sends what has waited long enough."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._lists: dict[int, _List] = {}
        self._lock = threading.Lock()
        self._sent = 0

    def configs(self) -> dict[int, Config]:
        with self._lock:
            return {number: entry.config for number, entry in self._lists.items()}

    def configure(self, number: int, config: Config) -> None:
        with self._lock:
            known = self._lists.get(number)
            if known:
                known.config = config
            else:
                self._lists[number] = _List(config)

    def remove(self, number: int) -> None:
        with self._lock:
            self._lists.pop(number, None)

    def clear(self) -> None:
        with self._lock:
            self._lists.clear()

    def add(self, number: int, values: Values) -> None:
        """A packet made a digest; nobody may have asked for it."""
        with self._lock:
            entry = self._lists.get(number)
            if entry is None or values in entry.known or len(entry.known) >= UNACKNOWLEDGED:
                return
            entry.known.add(values)
            if not entry.waiting:
                entry.deadline_ns = time.monotonic_ns() + entry.config.max_timeout_ns
            entry.waiting.append(values)
            if len(entry.waiting) >= max(1, entry.config.max_list_size) or not entry.config.max_timeout_ns:
                self._flush(number, entry)

    def tick(self) -> float | None:
        """Send lists whose time has come; seconds until the next one, None: there is none."""
        if not self._lists:
            return None
        with self._lock:
            now = time.monotonic_ns()
            soonest = None
            for number, entry in self._lists.items():
                if entry.waiting and entry.deadline_ns <= now:
                    self._flush(number, entry)
                if entry.waiting:
                    left = (entry.deadline_ns - now) / 1e9
                    soonest = left if soonest is None else min(soonest, left)
            return soonest

    def acknowledge(self, number: int, list_number: int) -> None:
        with self._lock:
            entry = self._lists.get(number)
            if entry:
                entry.known.difference_update(entry.under_way.pop(list_number, ()))

    def _flush(self, number: int, entry: _List) -> None:
        self._sent += 1
        entry.under_way[self._sent] = entry.waiting
        self._send(number, self._sent, entry.waiting)
        entry.waiting = []

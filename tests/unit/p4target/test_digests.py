# SPDX-License-Identifier: Apache-2.0
"""Digest lists: when they are sent, and what an acknowledgement changes."""

from __future__ import annotations

import time

from p4src.target.digests import Config, Digests, Values

HOUR = 3600 * 10**9


class Log:
    def __init__(self) -> None:
        self.lists: list[tuple[int, int, list[Values]]] = []
        self.digests = Digests(lambda number, serial, values: self.lists.append((number, serial, values)))


def test_nobody_asked() -> None:
    log = Log()
    log.digests.add(1, (1,))
    assert log.lists == []
    assert log.digests.tick() is None


def test_lists_of_a_size() -> None:
    log = Log()
    log.digests.configure(1, Config(HOUR, 3, 0))
    for value in range(7):
        log.digests.add(1, (value,))
    assert log.lists == [(1, 1, [(0,), (1,), (2,)]), (1, 2, [(3,), (4,), (5,)])]


def test_without_a_timeout_each_is_sent_at_once() -> None:
    log = Log()
    log.digests.configure(1, Config(0, 100, 0))
    log.digests.add(1, (1, 2))
    assert log.lists == [(1, 1, [(1, 2)])]


def test_a_list_does_not_wait_longer_than_its_timeout() -> None:
    log = Log()
    log.digests.configure(1, Config(1000, 100, 0))
    log.digests.add(1, (1,))
    deadline = time.monotonic() + 5
    while not log.lists and time.monotonic() < deadline:
        log.digests.tick()
    assert log.lists == [(1, 1, [(1,)])]
    log.digests.configure(1, Config(HOUR, 100, 0))
    log.digests.add(1, (2,))
    left = log.digests.tick()
    assert left is not None
    assert 3500 < left <= 3600


def test_equal_digests_are_suppressed_until_acknowledged() -> None:
    log = Log()
    log.digests.configure(1, Config(0, 1, 1))
    for _ in range(3):
        log.digests.add(1, (5,))
    assert len(log.lists) == 1
    log.digests.acknowledge(1, 99)
    log.digests.add(1, (5,))
    assert len(log.lists) == 1
    log.digests.acknowledge(1, 1)
    log.digests.add(1, (5,))
    assert log.lists == [(1, 1, [(5,)]), (1, 2, [(5,)])]


def test_removed() -> None:
    log = Log()
    log.digests.configure(1, Config(0, 1, 0))
    log.digests.remove(1)
    log.digests.add(1, (5,))
    assert log.lists == []
    assert log.digests.configs() == {}

# SPDX-License-Identifier: Apache-2.0
"""Stands in for apps/p4sync.py in the simulated demo: tells what became of the state that went ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from controller.core.events import MigrationStarted, StateFollowed, StateRejected, StateShipped
from controller.core.policy import Hold, Policy

from .demo import POLICY, Demo

Fate = tuple[float, bool] | None
"""After how many seconds the state has arrived (True) or is refused (False); None: nobody says anything."""
SERVERS = ("server1", "server2", "server3")


class _Heard(list):
    """A list that tells of what is appended."""

    def __init__(self, told: Callable[[object], None]) -> None:
        super().__init__()
        self._told = told

    def append(self, event: object) -> None:
        super().append(event)
        self._told(event)


def holding(hold: Hold = Hold.STAY, policy: Policy = POLICY, timeout: float = 0.3) -> Policy:
    """Return a policy whose service treats the state that goes ahead like this."""
    return replace(policy, services=(replace(policy.services[0], hold_for_state=hold, state_timeout=timeout),))


def told(event: MigrationStarted, now: float, arrived: bool) -> StateShipped | StateRejected:
    """Return what is told of a migration's state."""
    label = {"connection": event.connection, "version": event.version, "ahead": True}
    if arrived:
        return StateShipped(now, "p1", "p2", 1, 0, 0.01, **label)
    return StateRejected(now, "p1", "p2", "forged", **label)


def follow(demo: Demo, fate: Callable[[MigrationStarted], Fate] = lambda event: None) -> list[tuple[float, object]]:
    """Let state follow the demo's connections; returns when which state was told to have arrived, as it happens."""
    arrivals: list[tuple[float, object]] = []

    def hear(event: object) -> None:
        if isinstance(event, MigrationStarted) and (what := fate(event)) is not None:
            after, arrived = what
            demo.at(after, lambda: tell(event, arrived))

    def tell(event: MigrationStarted, arrived: bool) -> None:
        if arrived:
            arrivals.append((demo.now, event))
        demo.tell(told(event, demo.now, arrived))

    demo.events = _Heard(hear)
    demo.tell(StateFollowed(demo.now, ("echo",), SERVERS))
    return arrivals

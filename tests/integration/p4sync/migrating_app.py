# SPDX-License-Identifier: Apache-2.0
"""Plays the part of apps/tcp_migration.py: when asked over the bus, says that one connection migrates."""

from __future__ import annotations

from time import monotonic
from typing import ClassVar

from controller.core import events
from controller.core.segment import ConnectionKey, Endpoint
from controller.openflow.framework import App, set_ev_cls

_REQUIRED_APP = ["apps.p4sync"]
CONNECTION = ConnectionKey(Endpoint("10.10.0.5", 1029), Endpoint("10.0.0.1", 80))


class MigratingApp(App):
    """A migration from server `one` to `two`, told step by step."""

    _EVENTS: ClassVar[list[type]] = [
        events.VerdictReached,
        events.MigrationStarted,
        events.MigrationCompleted,
        events.MigrationFailed,
    ]

    @set_ev_cls(events.StateShipRequested)
    def _on_request(self, event):
        now = monotonic()
        told = {
            "verdict": events.VerdictReached(now, CONNECTION, 1, events.Verdict.MIGRATE, "sid 1", "two"),
            "started": events.MigrationStarted(now, CONNECTION, 1, "one", "two"),
            "completed": events.MigrationCompleted(now, CONNECTION, 1, "one", "two", 0, 0, 0, 0),
            "failed": events.MigrationFailed(now, CONNECTION, 1, "two", "refused", ""),
        }
        for word in event.request.split():
            if word in told:
                self.send_event_to_observers(told[word])

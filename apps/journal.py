# SPDX-License-Identifier: Apache-2.0
"""Writes every event of the bus to the journal in the run directory."""

from __future__ import annotations

from typing import Any

from controller.config import make_run_dir
from controller.core import events
from controller.journal import Journal
from controller.openflow.framework import App, set_ev_cls
from controller.wire.event_record import EVENTS

INTERNAL = (
    events.SegmentReceived,
    events.HostLocated,
    events.TimerExpired,
    events.BarrierReplied,
    events.CommandRefused,
    events.FlowRemoved,
)
"""What adapters tell the core: too much, and nobody else's business."""

CROSSING = [kind for kind in EVENTS.values() if kind not in INTERNAL]


class JournalApp(App):  # type: ignore[misc]
    """Observes all that crosses rooms."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Open the journal."""
        super().__init__(*args, **kwargs)
        self.journal = Journal(make_run_dir())

    @set_ev_cls(CROSSING)
    def _on_event(self, event: object) -> None:
        """Append it."""
        self.journal.append(event)

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()

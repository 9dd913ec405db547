# SPDX-License-Identifier: Apache-2.0
"""Writes every event of the bus to the journal in the run directory."""

from __future__ import annotations

from typing import Any

from controller.config import make_run_dir
from controller.core import events
from controller.journal import Journal
from controller.openflow.framework import App, hub, set_ev_cls
from controller.openflow.threads import spawn
from controller.wire.event_record import CROSSING

DELAY = 0.005
"""Seconds until an event is in the file."""

QUESTIONS = (events.StatusRequested, events.ConnectionReported, events.StatusReported)
"""Looking is no event worth keeping."""

KEPT = [kind for kind in CROSSING if kind not in QUESTIONS]


class JournalApp(App):  # type: ignore[misc]
    """Observes all that crosses rooms."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Open the journal."""
        super().__init__(*args, **kwargs)
        self.journal = Journal(make_run_dir())
        self._waiting: list[object] = []

    @set_ev_cls(KEPT)
    def _on_event(self, event: object) -> None:
        """Keep it for a moment: whoever waits for a packet comes first."""
        self._waiting.append(event)
        if len(self._waiting) == 1:
            spawn(self._write_soon)

    def _write_soon(self) -> None:
        """Write what has come by then."""
        hub.sleep(DELAY)
        waiting, self._waiting = self._waiting, []
        self.journal.append(*waiting)

    def close(self) -> None:
        """Write the last events and close the journal."""
        self.journal.append(*self._waiting)
        self.journal.close()

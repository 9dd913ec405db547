# SPDX-License-Identifier: Apache-2.0
"""The app that `alerts.py` measures with: notes when each alert's event reaches a handler.

On an alert of rule `LAST` it writes what it has noted, as JSON rows [sid, sequence number, monotonic ns], to the file
named by `BATON_NOTES`, and begins anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from time import monotonic_ns
from typing import Any

from controller.core.events import AlertRaised
from controller.openflow.framework import App, set_ev_cls

_REQUIRED_APP = ["apps.alerts"]

LAST = 4_294_967_295
"""The sid that ends a round."""


class Observer(App):  # type: ignore[misc]
    """Observes alerts as any app of the project does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Begin with nothing noted."""
        super().__init__(*args, **kwargs)
        self._notes: list[tuple[int, int | None, int]] = []

    @set_ev_cls(AlertRaised)
    def _on_alert(self, event: AlertRaised) -> None:
        """Note the time first."""
        now = monotonic_ns()
        if event.sid != LAST:
            self._notes.append((event.sid, event.seq, now))
            return
        if self._notes:
            path = Path(os.environ["BATON_NOTES"])
            part = path.with_suffix(".part")
            part.write_text(json.dumps(self._notes), encoding="utf-8")
            part.rename(path)
            self._notes = []

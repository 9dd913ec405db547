# SPDX-License-Identifier: Apache-2.0
"""Opens the bus to other processes: `bus.sock` in the run directory, for `baton`, benchmarks and further programs.

An app whose events they are to hear, or whose requests they may send, names this one in `_REQUIRED_APP`.
"""

from __future__ import annotations

import atexit
import sys
from typing import Any, ClassVar

from controller import config
from controller.bus_client import NAME
from controller.bus_server import BusServer
from controller.core import events
from controller.core.errors import ConfigError
from controller.openflow.framework import App, hub, set_ev_cls
from controller.openflow.threads import spawn
from controller.wire.event_record import CROSSING

HEARD = [kind for kind in CROSSING if kind is not events.StatusRequested]
"""What other processes hear; who looks at the table is nobody else's business."""


class Bus(App):  # type: ignore[misc]
    """The bus server as an app."""

    _EVENTS: ClassVar[list[type]] = [
        events.MigrationRequested,
        events.DrainRequested,
        events.StatusRequested,
        events.FlowMoved,
        events.StateShipRequested,
    ]
    """What other processes may send."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Open the socket; a fault in it ends the process with its mend."""
        super().__init__(*args, **kwargs)
        try:
            self.server = BusServer(
                hub, spawn, config.make_run_dir() / NAME, self._EVENTS, self.send_event_to_observers, self.logger
            )
        except ConfigError as error:
            print(f"baton: {error}", file=sys.stderr)
            raise SystemExit(2) from error
        atexit.register(self.server.stop)  # the framework does not close its apps when it is interrupted early

    def start(self) -> Any:
        """Begin to broadcast, then to accept clients."""
        thread = super().start()
        self.server.start()
        return thread

    @set_ev_cls(HEARD)
    def _on_event(self, event: object) -> None:
        """Tell the others."""
        self.server.publish(event)

    def close(self) -> None:
        """Disconnect everybody and remove the socket."""
        self.server.stop()

# SPDX-License-Identifier: Apache-2.0
"""Where an ECCP daemon's moves go: to the bus of a running controller, else straight into the journal.

The daemon's loop must not wait for anybody, so a thread of its own does the talking.
"""

from __future__ import annotations

import logging
import queue
import threading
from pathlib import Path
from typing import Any

from controller.bus_client import NAME, BusClient, BusError
from controller.core.events import FlowMoved
from controller.journal import Journal
from controller.wire.event_record import decode_endpoint

logger = logging.getLogger(__name__)
WAITING = 1000


class Reporter:
    """Call it with a notice's name and facts; only moves leave the daemon."""

    def __init__(self, directory: Path) -> None:
        """Report to the bus or the journal in this run directory."""
        self._directory = directory
        self._queue: queue.Queue[FlowMoved | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name="eccp-events", daemon=True)
        self._thread.start()

    def __call__(self, name: str, facts: dict[str, Any]) -> None:
        """Take a notice; if nobody has listened for a thousand moves, the newest are dropped."""
        if name != "FlowMoved" or "peer" not in facts:
            return
        try:
            self._queue.put_nowait(move_of(facts))
        except queue.Full:
            logger.warning("a move was not reported: nobody takes the earlier ones")

    def close(self) -> None:
        """Report what waits, then end (after five seconds in any case)."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(5.0)

    def _work(self) -> None:
        while (event := self._queue.get()) is not None:
            try:
                self._report(event)
            except OSError as error:
                logger.warning("a move was not reported: %s", error.strerror)

    def _report(self, event: FlowMoved) -> None:
        try:
            with BusClient(self._directory / NAME) as bus:
                bus.send(event)
        except BusError:  # no controller runs: `baton events` reads the journal
            journal = Journal(self._directory)
            try:
                journal.append(event)
            finally:
                journal.close()


def move_of(facts: dict[str, Any]) -> FlowMoved:
    """The event that a daemon's facts about a move amount to."""
    own, peer = (decode_endpoint(facts[end]) for end in ("own", "peer"))
    kept = {field: facts[field] for field in ("time", "host", "identity", "flow", "version", "who")}
    return FlowMoved(own=own, peer=peer, **kept)

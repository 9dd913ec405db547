# SPDX-License-Identifier: Apache-2.0
"""Timers and blocking readers that behave the same on Ryu's green threads and on OS-Ken's native ones.

Whatever happens in the background is posted to the app's own event queue, so an app's handlers never run at once.
Never block in a handler by other means than the framework's hub: on Ryu that stops every app.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import time
from collections.abc import Callable
from typing import Any

from controller.openflow.framework import hub

LOG = logging.getLogger("baton.threads")

clock = time.monotonic
"""The clock of all deadlines: monotonic seconds."""


def spawn(task: Callable[..., object], *arguments: object) -> Any:
    """Run ``task`` beside the app; on OS-Ken in a daemon thread, so that it never keeps the process alive."""
    if hasattr(hub, "HubThread"):
        thread = hub.HubThread(task, arguments, {})
        thread.daemon = True
        thread.start()
        return thread
    return hub.spawn(task, *arguments)


class Alarms:
    """Calls ``post(fact)`` at its time, for any number of deadlines, from one thread.

    ``post`` is called outside the app's thread and must only enqueue (``App.send_event``).
    """

    def __init__(self, post: Callable[[Any], None]) -> None:
        """Start the thread; it sleeps until the earliest deadline."""
        self._post = post
        self._heap: list[tuple[float, int, Any]] = []
        self._order = itertools.count()
        self._changed = hub.Queue()
        self._stopped = False
        self._thread = spawn(self._run)

    def wake_at(self, when: float, fact: Any) -> None:
        """Post ``fact`` at (monotonic) ``when``, at once if that has passed. Equal times keep their order."""
        entry = (when, next(self._order), fact)
        # One heap operation is atomic: it runs in C and compares only numbers. The thread is woken by an earlier
        # deadline than the one that it sleeps for, which is rare; a switch of threads for each would cost more than it.
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._changed.put(None)

    def stop(self) -> None:
        """End the thread; what has not been posted is forgotten."""
        self._stopped = True
        self._changed.put(None)

    def _run(self) -> None:
        """Take new deadlines until the earliest one, post what is due, repeat."""
        while not self._stopped:
            wait = self._heap[0][0] - clock() if self._heap else None
            if wait is None or wait > 0:
                with contextlib.suppress(hub.QueueEmpty):
                    self._changed.get(timeout=wait)
                continue
            _, _, fact = heapq.heappop(self._heap)
            try:
                self._post(fact)
            except Exception:
                LOG.exception("a timer's fact could not be posted: %s", fact)

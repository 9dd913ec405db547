# SPDX-License-Identifier: Apache-2.0
"""One alarm of a machine on the event loop; setting it again moves it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic


class Timer:
    """Calls back once at a time of the monotonic clock."""

    def __init__(self, callback: Callable[[], None]) -> None:
        """Begin without an alarm."""
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None

    def set(self, when: float) -> None:
        """Call back then instead of whenever it was."""
        self.cancel()
        self._handle = asyncio.get_running_loop().call_later(max(0.0, when - monotonic()), self._callback)

    def cancel(self) -> None:
        """Do not call back."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

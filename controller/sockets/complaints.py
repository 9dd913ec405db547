# SPDX-License-Identifier: Apache-2.0
"""Warnings about strangers' doings, so few that nobody can fill the log with them."""

from __future__ import annotations

import logging
from time import monotonic

INTERVAL = 5.0
"""Seconds between two log lines about the same kind of trouble."""


class Complaints:
    """Logs warnings that begin with ``name``, one of a kind in ``INTERVAL`` seconds."""

    def __init__(self, logger: logging.Logger, name: str) -> None:
        self._log, self._name = logger, name
        self._last: dict[str, float] = {}

    def __call__(self, kind: str, text: str, *facts: object) -> None:
        """Warn, unless that was done of this kind a moment ago; ``text`` has a ``%`` format for each fact."""
        now = monotonic()
        if now - self._last.get(kind, -INTERVAL) >= INTERVAL:
            self._last[kind] = now
            self._log.warning("%s: " + text, self._name, *facts)

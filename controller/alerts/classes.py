# SPDX-License-Identifier: Apache-2.0
"""The names of alert classes, from the file that the analyser works with, as it is now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from controller.wire.classification import Classifications, decode_classifications

LOOK_INTERVAL = 0.5
"""Seconds between two looks whether the file has changed."""


class ClassFile:
    """The classifications of the first of ``places`` that exists; read again when it changes, while alerts come in."""

    def __init__(self, places: Sequence[Path]) -> None:
        """Read nothing yet: the analyser may start later than the controller."""
        self._places = places
        self._read_from: tuple[Path, int, int] | None = None
        self._looked = float("-inf")
        self._classes = Classifications()

    def current(self) -> Classifications:
        """The classes as of at most `LOOK_INTERVAL` seconds ago; none where no file can be read."""
        now = monotonic()
        if now - self._looked < LOOK_INTERVAL:
            return self._classes
        self._looked = now
        for path in self._places:
            try:
                status = path.stat()
                version = (path, status.st_ino, status.st_mtime_ns)
                if version != self._read_from:
                    self._classes = decode_classifications(path.read_text("utf-8", "replace"))
                    self._read_from = version
            except OSError:
                continue
            return self._classes
        return self._classes

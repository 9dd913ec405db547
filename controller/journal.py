# SPDX-License-Identifier: Apache-2.0
"""The journal: each bus event as a line of JSON in the run directory, for ``baton events``, the demo and recovery."""

from __future__ import annotations

import os
import time
from pathlib import Path

from controller.wire.event_record import encode_record, record_of

NAME = "events.jsonl"
LIMIT = 64 << 20
"""Bytes after which the journal is put aside as ``events.jsonl.1`` and a new one begun."""


class Journal:
    """Appends events to a file of mode 0600; a reader never sees part of a line."""

    def __init__(self, directory: Path, limit: int = LIMIT) -> None:
        """Open (or create) the journal of a run directory; raises OSError."""
        self.path = directory / NAME
        self._limit = limit
        self._open()

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._file).st_size

    def append(self, *events: object) -> None:
        """Write events, with the wall time beside their own monotonic one."""
        wall = time.time()
        lines = "".join([encode_record(record_of(event) | {"wall": wall}) + "\n" for event in events]).encode()
        os.write(self._file, lines)
        self._size += len(lines)
        if self._size > self._limit:
            self.close()
            self.path.replace(self.path.with_suffix(".jsonl.1"))
            self._open()

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

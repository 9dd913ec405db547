# SPDX-License-Identifier: Apache-2.0
"""What the journal remembers for a controller that takes over: how connections were opened that are not closed yet.

Flows carry all other facts. Only the newest journal and the one put aside before it are read; a gate that has been shut
for longer is released by its service's default verdict.
"""

from __future__ import annotations

from pathlib import Path

from controller.core.errors import RemoteError
from controller.core.events import ConnectionClosed, ConnectionOpened
from controller.core.facts import Opened, opened_of
from controller.core.segment import ConnectionKey
from controller.journal import NAME
from controller.wire.event_record import decode_event

MARKS = {f'{{"event":"{kind.__name__}"'.encode(): kind for kind in (ConnectionOpened, ConnectionClosed)}
"""How the lines begin that matter: the others, most by far, are not decoded."""


def read_opened(directory: Path) -> dict[tuple[ConnectionKey, int], Opened]:
    """Return what is known of open connections by name and number; a journal that is not there tells nothing."""
    known: dict[ConnectionKey, tuple[int, Opened]] = {}
    path = directory / NAME
    for part in (path.with_suffix(".jsonl.1"), path):
        try:
            with part.open("rb") as lines:
                for line in lines:
                    if any(line.startswith(mark) for mark in MARKS):
                        _take(line, known)
        except OSError:
            continue
    return {(key, number): opened for key, (number, opened) in known.items()}


def _take(line: bytes, known: dict[ConnectionKey, tuple[int, Opened]]) -> None:
    """Take one record; what is none (half a line that a crash left) says nothing."""
    try:
        # The journal adds the wall time, which is no field of the event.
        event = decode_event(line.rsplit(b',"wall":', 1)[0] + b"}")
    except RemoteError:
        return
    if isinstance(event, ConnectionClosed):
        known.pop(event.connection, None)
        return
    opened = opened_of(event.agreed)
    if opened is not None:
        known[event.connection] = (event.number, opened)

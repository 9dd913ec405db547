# SPDX-License-Identifier: Apache-2.0
"""What the journal remembers for a controller that takes over: how connections were opened, which moves are complete.

Flows carry all other facts. Only the newest journal and the one put aside before it are read; a gate that has been shut
for longer is released by its service's default verdict.
"""

from __future__ import annotations

from pathlib import Path

from controller.core.errors import RemoteError
from controller.core.events import ConnectionClosed, ConnectionOpened, MigrationCompleted
from controller.core.facts import Opened, Recollection, opened_of
from controller.core.segment import ConnectionKey
from controller.journal import NAME
from controller.wire.event_record import decode_event

MARKS = {
    f'{{"event":"{kind.__name__}"'.encode(): kind for kind in (ConnectionOpened, ConnectionClosed, MigrationCompleted)
}
"""How the lines begin that matter: the others, most by far, are not decoded."""


def recollect(directory: Path) -> Recollection:
    """Return what is known of connections that are not closed; a journal that is not there tells nothing."""
    known: dict[ConnectionKey, tuple[int, Opened]] = {}
    moved: dict[ConnectionKey, int] = {}
    path = directory / NAME
    for part in (path.with_suffix(".jsonl.1"), path):
        try:
            with part.open("rb") as lines:
                for line in lines:
                    if any(line.startswith(mark) for mark in MARKS):
                        _take(line, known, moved)
        except OSError:
            continue
    return Recollection({(key, number): opened for key, (number, opened) in known.items()}, moved)


def _take(line: bytes, known: dict[ConnectionKey, tuple[int, Opened]], moved: dict[ConnectionKey, int]) -> None:
    """Take one record; what is none (half a line that a crash left) says nothing."""
    try:
        # The journal adds the wall time, which is no field of the event.
        event = decode_event(line.rsplit(b',"wall":', 1)[0] + b"}")
    except RemoteError:
        return
    if isinstance(event, MigrationCompleted):
        moved[event.connection] = event.version
        return
    known.pop(event.connection, None)
    moved.pop(event.connection, None)
    if isinstance(event, ConnectionOpened):
        opened = opened_of(event.agreed)
        if opened is not None:
            known[event.connection] = (event.number, opened)

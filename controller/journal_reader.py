# SPDX-License-Identifier: Apache-2.0
"""Reads the journal back: its last records, and new ones as they are written, over the change to a new file."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from controller.core.errors import ConfigError


def read_journal(path: Path, last: int = 0) -> list[dict[str, Any]]:
    """Return the last records of a journal (0: all); what is no record is left out.

    Raises ConfigError, with the mend, where there is no journal.
    """
    with _open(path) as file:
        lines = deque(file, maxlen=last or None)
    return [record for line in lines if (record := _record(line)) is not None]


def follow_journal(path: Path, pause: Callable[[], object], last: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the last records, then new ones for ever; ``pause`` is called where there is nothing new yet.

    Raises ConfigError, with the mend, where there is no journal.
    """
    file = _open(path)
    try:
        lines: Iterator[bytes] = iter(deque(file, maxlen=last)) if last else iter(file)
        pending = b""
        while True:
            for line in lines:
                pending += line
                if not pending.endswith(b"\n"):
                    continue  # the rest of the line is still to be written
                record = _record(pending)
                pending = b""
                if record is not None:
                    yield record
            if _is_replaced(path, file):
                rest = file.read()  # written between the last look and the change
                lines = iter(rest.splitlines(keepends=True))
                if not rest:
                    file.close()
                    file = _open(path)
                    lines, pending = iter(file), b""
                continue
            pause()
            lines = iter(file)
    finally:
        file.close()


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no journal {path}: no controller has run there; start one with"
            f" 'ryu-manager apps/tcp_migration.py', or set BATON_RUN_DIR to its run directory"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}; run this as the one who runs the controller"
        ) from error


def _is_replaced(path: Path, file: BinaryIO) -> bool:
    """Return whether the journal's name belongs to another file by now."""
    try:
        return path.stat().st_ino != os.fstat(file.fileno()).st_ino
    except OSError:
        return False


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "event" in record else None

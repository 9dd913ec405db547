# SPDX-License-Identifier: Apache-2.0
"""Reads the controller's journal (RUN/events.jsonl) while it grows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class JournalReader:
    """Returns each record once, as soon as its line is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []
        self._position = 0

    def read(self) -> list[dict[str, Any]]:
        """Return the records written since the last call; all of them stay in ``records``."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        fresh = [json.loads(line) for line in whole.splitlines()]
        self.records += fresh
        return fresh

    def of_client(self, client: str) -> list[dict[str, Any]]:
        """Return the records read so far that speak of the connection of ``client`` (``address:port``)."""
        return [record for record in self.records if belongs_to(record, client)]


def belongs_to(record: dict[str, Any], client: str) -> bool:
    """Tell whether a record speaks of this client's connection; alerts name it by what the client sent."""
    return str(record.get("connection", "")).startswith(f"{client}>") or record.get("src") == client

# SPDX-License-Identifier: Apache-2.0
"""The journal keeps every event, privately, and does not grow for ever."""

from __future__ import annotations

import json
from pathlib import Path

from controller.core.events import SwitchLost
from controller.journal import Journal


def test_append(tmp_path: Path) -> None:
    """One line an event, readable by the owner alone, across restarts."""
    for number in range(2):
        journal = Journal(tmp_path)
        journal.append(SwitchLost(1.0, number))
        journal.close()
    records = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(record["event"], record["switch"]) for record in records] == [("SwitchLost", 0), ("SwitchLost", 1)]
    assert all(record["wall"] > 1e9 for record in records)
    assert (tmp_path / "events.jsonl").stat().st_mode & 0o777 == 0o600


def test_rotation(tmp_path: Path) -> None:
    """A full journal is put aside; nothing is lost until the next one is full too."""
    journal = Journal(tmp_path, limit=500)
    for number in range(12):
        journal.append(SwitchLost(1.0, number))
    journal.close()
    old = (tmp_path / "events.jsonl.1").read_text().splitlines()
    new = (tmp_path / "events.jsonl").read_text().splitlines()
    numbers = [json.loads(line)["switch"] for line in old + new]
    assert numbers == list(range(numbers[0], 12))
    assert len(old) > 1

# SPDX-License-Identifier: Apache-2.0
"""An agent's memory of its sessions: lines of JSON, written before what they speak of is done.

What is written survives the agent's death. It is on the disk, too, before anything depends on it that may outlive the
machine: a number before it is used, a decision before the switch's own mark of it is removed (`flush`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.p4sync.errors import SettingsError

KEPT = 4_096
"""Decisions that are remembered."""
REWRITE = 1 << 20
"""Bytes after which the file is written anew with what still matters."""
AHEAD = 64
"""Session numbers that are taken at once, so that not every session has to wait for the disk."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a session that ended here, and whose it was."""

    committed: bool
    reason: str
    nonce: int
    peer: int


@dataclass(slots=True)
class Memory:
    """What a journal adds up to.

    ``number``: no session of a higher number was ever begun here; ``outgoing``, ``incoming``: the sessions that are not
    closed, by number; ``decisions``: of sessions that ended here; ``jobs``: what was asked for and is not done.
    """

    number: int = 0
    outgoing: dict[int, dict[str, Any]] = field(default_factory=dict)
    incoming: dict[int, dict[str, Any]] = field(default_factory=dict)
    decisions: dict[int, Decision] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def apply(self, record: dict[str, Any]) -> None:
        """Take one line; raises KeyError, TypeError or ValueError for one that cannot be."""
        _APPLY[record["what"]](self, record)

    def _number(self, record: dict[str, Any]) -> None:
        self.number = max(self.number, int(record["number"]))

    def _opened(self, record: dict[str, Any]) -> None:
        self.outgoing[int(record["session"])] = {**record, "submitted": False}

    def _submitted(self, record: dict[str, Any]) -> None:
        if record["session"] in self.outgoing:
            self.outgoing[record["session"]]["submitted"] = True

    def _opening(self, record: dict[str, Any]) -> None:
        self.incoming[int(record["session"])] = record

    def _decided(self, record: dict[str, Any]) -> None:
        if record.get("side") == "in":
            session = int(record["session"])
            opening = {**self.incoming.get(session, {}), **record}
            self.decisions[session] = Decision(
                record["what"] == "committed",
                str(opening.get("reason", "")),
                int(opening.get("nonce", 0)),
                int(opening.get("peer", 0)),
            )
            while len(self.decisions) > KEPT:
                del self.decisions[next(iter(self.decisions))]

    def _closed(self, record: dict[str, Any]) -> None:
        side = self.incoming if record.get("side") == "in" else self.outgoing
        side.pop(int(record["session"]), None)

    def _job(self, record: dict[str, Any]) -> None:
        self.jobs[str(record["job"])] = record

    def _job_done(self, record: dict[str, Any]) -> None:
        self.jobs.pop(str(record["job"]), None)

    def _nothing(self, record: dict[str, Any]) -> None:
        """Say nothing that outlives it."""

    def records(self) -> list[dict[str, Any]]:
        """Return lines that add up to the same."""
        found: list[dict[str, Any]] = [{"what": "number", "number": self.number}]
        for session, one in self.decisions.items():
            what = "committed" if one.committed else "discarded"
            facts = {"session": session, "reason": one.reason, "nonce": one.nonce, "peer": one.peer}
            found.append({"what": what, "side": "in", **facts})
        for record in self.outgoing.values():
            found.append(record)
            if record["submitted"]:
                found.append({"what": "submitted", "session": record["session"]})
        return [*found, *self.incoming.values(), *self.jobs.values()]


_APPLY: dict[str, Callable[[Memory, dict[str, Any]], None]] = {
    "number": Memory._number,
    "opened": Memory._opened,
    "submitted": Memory._submitted,
    "opening": Memory._opening,
    "committing": Memory._nothing,
    "committed": Memory._decided,
    "discarded": Memory._decided,
    "closed": Memory._closed,
    "job": Memory._job,
    "job done": Memory._job_done,
}
LASTING = ("number",)


class Journal:
    """The file: locked, so that one agent alone writes it."""

    def __init__(self, path: Path) -> None:
        """Open it and read what is there; raises SettingsError. A last line cut short by a crash is left out."""
        self.path = path
        self.memory = Memory()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}; the agent keeps its journal there") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise SettingsError(f"{path} is in use: this agent is running already; stop it first") from error
        self._size = 0
        self._reserved = 0
        self._read()

    def _read(self) -> None:
        data = self.path.read_bytes()
        *lines, cut = data.split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                self.memory.apply(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise SettingsError(
                    f"{self.path}, line {number}: not a line of a journal ({error}); move the file away only if"
                    " no session of this switch is open"
                ) from error
        if cut:
            os.ftruncate(self._file, len(data) - len(cut))
        self._size = len(data) - len(cut)
        self._reserved = self.memory.number

    def write(self, record: dict[str, Any]) -> None:
        """Add a line."""
        self.memory.apply(record)
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        os.write(self._file, line)
        self._size += len(line)
        if record["what"] in LASTING:
            os.fdatasync(self._file)
        if self._size > REWRITE:
            self._rewrite()

    def flush(self) -> None:
        """Wait until all that was written is on the disk; may be called from another thread."""
        with contextlib.suppress(OSError):  # replaced meanwhile by a file that is on the disk already
            os.fdatasync(self._file)

    def take_number(self, at_least: int = 1) -> int:
        """Return a session number that was never used here, and never will be again. Raises OverflowError."""
        number = max(self.memory.number + 1, at_least)
        if number >= 1 << 32:
            raise OverflowError("all session numbers are used up: restart both switches and remove the journals")
        if number > self._reserved:
            self._reserved = number + AHEAD
            self.write({"what": "number", "number": self._reserved})
        self.memory.number = number
        return number

    def _rewrite(self) -> None:
        """Replace the file by a shorter one that adds up to the same."""
        temporary = self.path.with_suffix(".new")
        self.memory.number, kept = max(self.memory.number, self._reserved), self.memory.number
        data = b"".join(json.dumps(record).encode() + b"\n" for record in self.memory.records())
        self.memory.number = kept
        file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        os.write(file, data)
        os.fdatasync(file)
        temporary.replace(self.path)
        os.close(self._file)
        self._file, self._size = file, len(data)

    def close(self) -> None:
        """Close the file, which unlocks it."""
        with contextlib.suppress(OSError):
            os.close(self._file)

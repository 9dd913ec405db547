# SPDX-License-Identifier: Apache-2.0
"""Which of two controllers of one machine is master: whoever holds a file's lock, and says often that it is awake.

A directory that both name in their settings holds ``master.lock`` (the lock of a process that dies is free at once) and
``master.json``: the newest generation, who was elected with it, and when it was last heard of. A master that holds the
lock but has not been heard of for the *lease* (it is stopped, or hangs) is deposed: the next one takes a newer
generation, which the switches hold against the old one; that one sees it in the file when it wakes up, and gives way.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from controller.core.errors import BatonError

LOCK, STATE, GUARD = "master.lock", "master.json", "master.guard"
RENEWALS = 4
"""How often in a lease the master says that it is awake."""


class ElectionError(BatonError):
    """The directory cannot be used; the text says why and the mend."""


@dataclass(frozen=True, slots=True)
class Term:
    """What ``master.json`` says: generation 0 is before the first election; ``renewed`` is monotonic seconds.

    ``locked`` says that the master held the lock then: one that has deposed a hanging one gets it later.
    """

    generation: int = 0
    run_dir: str = ""
    pid: int = 0
    renewed: float = 0.0
    locked: bool = True


@dataclass(frozen=True, slots=True)
class Elected:
    """We are master from now on; ``before`` is the term that ended."""

    generation: int
    before: Term


@dataclass(frozen=True, slots=True)
class Deposed:
    """Another controller has taken our place."""

    by: Term


class Election:
    """One controller's part in it; to be asked often by one thread. It never waits."""

    def __init__(self, directory: Path, run_dir: Path, lease: float) -> None:
        """Open the directory, or make it; raises ElectionError. Nothing is claimed yet."""
        self.lease = lease
        self.generation: int | None = None
        self._directory, self._run_dir = directory, run_dir
        self._not_before = 0.0
        self._renewed = 0.0
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = directory.stat()
            if status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise ElectionError(f"{directory} (of [standby]) must be yours alone: `chmod 700` it, or name another")
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._lock = os.open(directory / LOCK, flags, 0o600)
            self._guard = os.open(directory / GUARD, flags, 0o600)
        except OSError as error:
            raise ElectionError(
                f"cannot use the directory {directory} of [standby]: {error.strerror}; name one that both controllers "
                "can write to"
            ) from error

    def poll(self, now: float) -> Elected | Deposed | None:
        """Run for master, or say that we still are; return what has changed."""
        if self.generation is None:
            return self._run(now) if now >= self._not_before else None
        if now - self._renewed < self.lease / RENEWALS:
            return None
        with self._guarded() as is_ours:
            if is_ours:
                term = self.read()
                if term.generation != self.generation:
                    self._give_up()
                    return Deposed(term)
                self._write(self.generation, now)
        return None

    def raise_above(self, generation: int, now: float) -> int | None:
        """Take a generation above one that a switch has heard; None where that cannot be done (now)."""
        with self._guarded() as is_ours:
            if not is_ours or self.generation is None or self.read().generation != self.generation:
                return None
            self._write(max(self.generation, generation) + 1, now)
        return self.generation

    def stand_back(self, now: float) -> None:
        """Give way, and do not run again for the time of a lease."""
        self._not_before = now + self.lease
        self._give_up()

    def close(self) -> None:
        """Take no part any more: the other one may be elected at once."""
        self.generation = None
        os.close(self._lock)
        os.close(self._guard)

    def read(self) -> Term:
        """Return what is written; what cannot be read was never finished, or is not there yet."""
        try:
            term = Term(**json.loads((self._directory / STATE).read_text()))
            return term if isinstance(term.generation, int) and term.renewed >= 0 else Term()
        except (OSError, ValueError, TypeError):
            return Term()

    def _run(self, now: float) -> Elected | None:
        is_free = self._take_lock()
        with self._guarded() as is_ours:
            before = self.read()
            # A lease from the future was written before the machine started anew.
            is_awake = before.renewed <= now < before.renewed + self.lease
            if is_ours and self._may_run(is_free, is_awake, before):
                self._write(before.generation + 1, now)
                return Elected(before.generation + 1, before)
        if is_free:
            self._give_up()  # a master that is awake has still to take it
        return None

    @staticmethod
    def _may_run(is_free: bool, is_awake: bool, before: Term) -> bool:
        """Tell whether the master's place is free: it died, or it has not been heard of for its lease."""
        if is_free:
            return before.locked or not is_awake
        return before.generation > 0 and not is_awake  # else it has the lock, and is about to write its first word

    def _take_lock(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _give_up(self) -> None:
        self.generation = None
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[bool]:
        """Let nobody else write meanwhile; false where somebody does just now: another time, then."""
        try:
            fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(self._guard, fcntl.LOCK_UN)

    def _write(self, generation: int, now: float) -> None:
        """Replace what is written, as a whole."""
        draft = self._directory / f"{STATE}.{os.getpid()}"
        term = Term(generation, str(self._run_dir), os.getpid(), now, self._take_lock())
        draft.write_text(json.dumps(asdict(term)))
        draft.replace(self._directory / STATE)
        self.generation, self._renewed = generation, now

# SPDX-License-Identifier: Apache-2.0
"""The files that an analyser works from: where users edit them, and the accepted copy that the engine reads.

The engine never reads the users' files: what it has loaded is a directory of copies, replaced as a whole and only once
the engine itself has accepted the replacement. So a broken edit changes nothing, not even across a restart.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from controller.analyser.errors import AnalyserError

CLASSIFICATION = "classification.config"

Contents = Mapping[str, bytes]
"""File names and what is in them."""


def read_rules(directory: Path) -> Contents:
    """All ``*.rules`` of a directory and its classification file; raises AnalyserError where there are none."""
    try:
        paths = [*sorted(directory.glob("*.rules")), directory / CLASSIFICATION]
        found = {path.name: path.read_bytes() for path in paths if path.is_file()}
    except OSError as error:
        raise AnalyserError(f"cannot read {error.filename}: {error.strerror}") from error
    if not any(name.endswith(".rules") for name in found):
        raise AnalyserError(f"there is no *.rules file in {directory}; name the directory that has them with --rules")
    return found


class RuleStore:
    """The copies of rules under ``work``: ``current`` (a symbolic link) is what the engine has accepted."""

    def __init__(self, work: Path) -> None:
        """Use a directory that exists and is ours alone."""
        self._work = work
        self.current = work / "rules"

    def stage(self, contents: Contents) -> Path:
        """Write a candidate beside the current copy and return its directory."""
        used = self.current.readlink().name if self.current.is_symlink() else ""
        candidate = self._work / ("rules.b" if used == "rules.a" else "rules.a")
        shutil.rmtree(candidate, ignore_errors=True)
        candidate.mkdir(mode=0o700)
        for name, data in contents.items():
            (candidate / name).write_bytes(data)
        return candidate

    def accept(self, candidate: Path) -> None:
        """Make a staged candidate the current copy, in one step."""
        link = self._work / "rules.new"
        link.unlink(missing_ok=True)
        link.symlink_to(candidate.name)
        os.replace(link, self.current)


class Watcher:
    """Tells when the files of a directory have changed and come to rest.

    Editors write in several steps, so a change counts once two looks in a row saw the same.
    """

    def __init__(self, directory: Path) -> None:
        """Take the present state as known."""
        self._directory = directory
        self._known = self._last = self._look()

    def has_changed(self) -> bool:
        """Whether there is a change since the last time this was true; to be called a few times a second."""
        now = self._look()
        is_settled, self._last = now == self._last, now
        if not is_settled or now == self._known:
            return False
        self._known = now
        return True

    def _look(self) -> frozenset[tuple[str, int, int, int]]:
        seen = set()
        for path in (*self._directory.glob("*.rules"), self._directory / CLASSIFICATION):
            try:
                status = path.stat()
            except OSError:
                continue  # gone between the two calls
            seen.add((path.name, status.st_ino, status.st_size, status.st_mtime_ns))
        return frozenset(seen)

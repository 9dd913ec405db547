# SPDX-License-Identifier: Apache-2.0
"""Python source being written, with the variables that are certainly set at the point reached.

A variable that is read where it may not have been set goes to `unset`: it has to be zero at the start of the function
(P4 metadata is), or be handed over by the one before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .program import UnsupportedError

MAX_LINES = 200_000
MAX_DEPTH = 90
"""Python's own limit is 100 levels of indentation."""


class Writer:
    """Lines of one function body."""

    def __init__(self, depth: int = 1) -> None:
        self.lines: list[str] = []
        self.depth = depth
        self.assigned: set[str] = set()
        self.unset: set[str] = set()

    def line(self, text: str) -> None:
        if len(self.lines) > MAX_LINES or self.depth > MAX_DEPTH:
            raise UnsupportedError("the program's control flow is too tangled for this target")
        self.lines.append("    " * self.depth + text)

    def read(self, variable: str) -> str:
        if variable not in self.assigned:
            self.unset.add(variable)
        return variable

    def write(self, variable: str) -> str:
        self.assigned.add(variable)
        return variable

    @contextlib.contextmanager
    def block(self, head: str) -> Iterator[None]:
        """What is written inside is indented under `head`."""
        self.line(head)
        before = len(self.lines)
        self.depth += 1
        yield
        if len(self.lines) == before:
            self.line("pass")
        self.depth -= 1

    def branches(self, conditions: list[str]) -> Iterator[str]:
        """Go through the arms of an if; the last condition "" is the else.

        What all of them set is set afterwards. Without an else, nothing they set is.
        """
        before = self.assigned
        ends: list[set[str]] = []
        for number, condition in enumerate(conditions):
            head = ("if" if number == 0 else "elif") + f" {condition}:" if condition else "else:"
            self.assigned = set(before)
            with self.block(head):
                yield condition
            ends.append(self.assigned)
        if conditions[-1]:
            ends.append(before)
        self.assigned = set.intersection(*ends)

# SPDX-License-Identifier: Apache-2.0
"""The `classification.config` that Snort and Suricata share: what names the classes of their alerts.

A line reads `config classification: SHORT-NAME,Description,PRIORITY`. Snort's alerts carry a class's number, which
is its place in the file from 1; Suricata's carry its description. Rules and our settings use the short name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_LINE = re.compile(r"\s*config\s+classification:\s*([^,\s]+)\s*,\s*([^,]+?)\s*,\s*(\d+)\s*")


@dataclass(frozen=True, slots=True)
class Classifications:
    """The classes' short names in the file's order, and by description."""

    names: tuple[str, ...] = ()
    by_description: Mapping[str, str] = field(default_factory=dict)

    def by_number(self, number: int) -> str:
        """The short name of Snort's class ``number``; empty for 0 (none) and for one beyond the file."""
        return self.names[number - 1] if 0 < number <= len(self.names) else ""

    def described(self, description: str) -> str:
        """The short name behind a description; the description itself where no line has it."""
        return self.by_description.get(description, description)


def decode_classifications(text: str) -> Classifications:
    """Read a file's lines; others than classification lines are left out, of a name given twice the first counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        parts = _LINE.fullmatch(line)
        if parts:
            found.setdefault(parts[1], parts[2])
    described: dict[str, str] = {}
    for name, description in found.items():
        described.setdefault(description, name)
    return Classifications(tuple(found), described)

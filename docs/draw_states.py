# SPDX-License-Identifier: Apache-2.0
"""Draws the state diagrams of the documentation from the machines' own tables: ``python -m docs.draw_states``.

Writes ``docs/images/*.dot``, and with Graphviz installed the ``*.svg`` beside them.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from controller.core import life, migration
from controller.core.connection import Phase, State

IMAGES = Path(__file__).resolve().parent / "images"
STYLE = (
    'rankdir=TB; bgcolor="transparent"; node [shape=box, style="rounded,filled", fillcolor="#eef4fb", '
    'color="#5b7ea6", fontname="sans-serif", fontsize=12]; edge [color="#666666", fontname="sans-serif", fontsize=10];'
)


def diagram(states: type[Enum], moves: Mapping[Any, tuple[Any, ...]], begin: Enum, end: str, other: str) -> str:
    """Return a machine in Graphviz's language; ``other`` labels moves that no input of the table makes."""
    edges: dict[tuple[str, str], list[str]] = {}
    for (state, what), following in moves.items():
        for after in following:
            ends = (state.value, end if after is None else after.value)
            edges.setdefault(ends, []).append(other if what is None else what.value)
    lines = [f'  "{state.value}";' for state in states]
    lines += [f'  "{end}" [shape=plaintext, style=""];', f'  "" [shape=point]; "" -> "{begin.value}";']
    for (before, after), labels in edges.items():
        colour = ', color="#bbbbbb", fontcolor="#999999"' if after == end else ""
        text = "\\n".join(sorted(set(labels)))
        lines.append(f'  "{before}" -> "{after}" [label="{text}"{colour}];')
    return "\n".join(["digraph {", f"  {STYLE}", *lines, "}", ""])


def diagrams() -> dict[str, str]:
    """Return each picture's name and its text."""
    verdict = "verdict, or end of the migration"
    return {
        "connection-states": diagram(State, life.MOVES, State.OPENING, "forgotten", verdict),
        "migration-phases": diagram(Phase, migration.MOVES, Phase.LOCATING, "over", ""),
    }


def main() -> None:
    """Write the pictures."""
    IMAGES.mkdir(exist_ok=True)
    for name, text in diagrams().items():
        source = IMAGES / f"{name}.dot"
        source.write_text(text, encoding="utf-8")
        if shutil.which("dot"):
            subprocess.run(["dot", "-Tsvg", str(source), "-o", str(source.with_suffix(".svg"))], check=True)


if __name__ == "__main__":
    main()

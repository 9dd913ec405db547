# SPDX-License-Identifier: Apache-2.0
"""Draw a counterexample as a message sequence diagram (SVG) from the MSC lines that a model prints.

Lines: `MSC move HOST 0 PLACE 0`, `MSC send HOST KIND A B`, `MSC recv HOST KIND A B`, `MSC quiesce ...`, `MSC broken ...`,
and SPIN's `START OF CYCLE`.  KIND is a number or a name of the model's mtype `message`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

LEFT, RIGHT, ROW, TOP, MAX_ROWS = 170, 570, 34, 90, 60
_STYLE = (
    "text{font:13px sans-serif}.t{font:bold 15px sans-serif}.s{fill:#555;font-size:12px}line{stroke:#333;stroke-width:1.4}"
    ".life{stroke:#999;stroke-dasharray:3 4}.lost{stroke:#b3261e}.again{stroke:#888;stroke-dasharray:6 4}rect{fill:#eef3fb;stroke:#4a6fa5}"
    ".cycle{stroke:#b3261e;stroke-dasharray:8 4}.end{fill:#b3261e;font-weight:bold}"
)  # fmt: skip


@dataclass
class _Event:
    what: str
    host: int
    kind: str
    first: int
    second: int
    partner: int | None = None  # row of the send that a receipt belongs to


def message_names(model: Path) -> dict[int, str]:
    """Numbers SPIN gives the names of `mtype:message`: counted from the last one upwards."""
    found = re.search(r"mtype:message = \{([^}]*)\}", model.read_text(encoding="utf-8"))
    names = [name.strip() for name in found.group(1).split(",")] if found else []
    return {len(names) - i: name for i, name in enumerate(names)}


def parse(lines: Sequence[str], names: dict[int, str]) -> list[_Event]:
    """The events of a run, each receipt tied to the latest equal message sent before it."""
    events: list[_Event] = []
    for line in lines:
        if "START OF CYCLE" in line:
            events.append(_Event("cycle", 0, "", 0, 0))
            continue
        found = re.search(r"MSC (\w+) (\d+) (\w+) (\d+) (\d+)", line)
        if not found:
            continue
        what, host, kind, first, second = found.groups()
        name = names.get(int(kind), kind) if kind.isdigit() else kind
        event = _Event(what, int(host), name, int(first), int(second))
        if what == "recv":
            for row in range(len(events) - 1, -1, -1):
                sent = events[row]
                if (
                    sent.what == "send"
                    and sent.host != event.host
                    and (sent.kind, sent.first) == (event.kind, event.first)
                ):
                    event.partner = row
                    break
        events.append(event)
    return events


def _label(event: _Event) -> str:
    values = [str(v) for v in (event.first, event.second) if v]
    return f"{event.kind} {', '.join(values)}" if values else event.kind


def draw(events: Sequence[_Event], title: str, hosts: tuple[str, str], note: str) -> str:
    """The SVG text."""
    shown = list(events[:MAX_ROWS])
    taken: set[int] = set()
    height = TOP + ROW * (len(shown) + 2) + 30
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" width="760" height="{height}" role="img">',
           f"<title>{escape(title)}</title><style>{_STYLE}</style>",
           '<defs><marker id="a" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto"><path d="M0,0 L9,4 L0,8 z" fill="#333"/></marker></defs>',
           '<rect x="0" y="0" width="760" height="100%" style="fill:#fff;stroke:none"/>',
           f'<text class="t" x="20" y="26">{escape(title)}</text><text class="s" x="20" y="46">{escape(note)}</text>']  # fmt: skip
    for x, name in ((LEFT, hosts[0]), (RIGHT, hosts[1])):
        out.append(f'<text text-anchor="middle" x="{x}" y="{TOP - 16}">{escape(name)}</text>'
                   f'<line class="life" x1="{x}" y1="{TOP - 8}" x2="{x}" y2="{height - 20}"/>')  # fmt: skip
    for row, event in enumerate(shown):
        y = TOP + ROW * row + 14
        x = LEFT if event.host == 0 else RIGHT
        far = RIGHT if event.host == 0 else LEFT
        if event.what == "move":
            out.append(f'<rect x="{x - 62}" y="{y - 12}" width="124" height="20" rx="4"/>'
                       f'<text text-anchor="middle" x="{x}" y="{y + 3}">moves to place {event.first}</text>')  # fmt: skip
        elif event.what == "recv" and event.partner is not None and event.partner < len(shown):
            start = TOP + ROW * event.partner + 14
            repeat = event.partner in taken
            taken.add(event.partner)
            out.append(
                f'<line class="{"again" if repeat else ""}" x1="{far}" y1="{start}" x2="{x}" y2="{y}" marker-end="url(#a)"/>'
            )
            if not repeat:
                side, near = ("end", RIGHT - 8) if event.host == 0 else ("start", LEFT + 8)
                out.append(f'<text text-anchor="{side}" x="{near}" y="{start - 4}">{escape(_label(event))}</text>')
        elif event.what in ("cycle", "quiesce", "broken"):
            text = {"cycle": "from here on the run repeats for ever", "quiesce": "moves stop; nothing is lost from here on",
                    "broken": "the association is given up"}[event.what]  # fmt: skip
            out.append(f'<line class="cycle" x1="40" y1="{y}" x2="720" y2="{y}"/>'
                       f'<text class="{"s" if event.what == "quiesce" else "end"}" x="{(LEFT + RIGHT) // 2}" text-anchor="middle" y="{y - 4}">{text}</text>')  # fmt: skip
    for row, event in enumerate(shown):
        if event.what == "send" and row not in taken:
            y = TOP + ROW * row + 14
            x, end = (LEFT, LEFT + 110) if event.host == 0 else (RIGHT, RIGHT - 110)
            side = "start" if event.host == 0 else "end"
            out.append(f'<line class="lost" x1="{x}" y1="{y}" x2="{end}" y2="{y + 10}"/>'
                       f'<text class="end" x="{end}" y="{y + 14}" text-anchor="middle">x</text>'
                       f'<text class="s" text-anchor="{side}" x="{x + (8 if event.host == 0 else -8)}" y="{y - 4}">{escape(_label(event))}</text>')  # fmt: skip
    if len(events) > MAX_ROWS:
        out.append(f'<text class="s" x="20" y="{height - 8}">{len(events) - MAX_ROWS} more steps are left out.</text>')
    out.append("</svg>\n")
    return "\n".join(out)

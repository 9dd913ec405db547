# SPDX-License-Identifier: Apache-2.0
"""Draws steps as a sequence diagram in SVG: lifelines from left to right, time from top to bottom. Pure.

Rows stand close whatever time lies between them; the time is at the left, in milliseconds. A segment's arrow runs
through the switch (a dot) or back from it; dashed arrows are copies; grey numbers are of sequence and acknowledgement.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from xml.sax.saxutils import escape

from demo.steps import LIFELINES, Step

TITLES = {
    "client": ("client", "h3 10.0.0.3"),
    "switch": ("switch", "s1 Open vSwitch"),
    "server1": ("server 1", "h1 10.0.0.1:11111"),
    "server2": ("server 2", "h2 10.0.0.2:22222"),
    "controller": ("controller", "c0 Ryu"),
    "analyser": ("analyser", "ids Suricata / Snort"),
}
COLOURS = {"segment": "#1f5fa8", "made": "#b25a00", "flows": "#7a3fa0", "alert": "#b3261e", "note": "#5b4a00"}
LEGEND = (
    ("segment", "segment of a host"),
    ("made", "sent by the controller"),
    ("flows", "flow changes"),
    ("alert", "alert"),
)
NUMBERS = "dashed: a copy.  seq and ack are counted from each direction's SYN, as seen at that end"
PHASES = (
    ("1  the client connects", "#f3f7fc", lambda step: True),
    ("2  the verdict", "#fff7e0", lambda step: step.bytes > 0 and step.path[0] == "client"),
    ("3  the hand-off", "#ffece6", lambda step: step.kind == "note" and step.label.startswith("migration to")),
    ("server 2 serves", "#e9f6ec", lambda step: step.kind == "note" and step.label.startswith("cutover")),
)
"""What a phase is called, the colour behind it, and which step begins it."""

LEFT, COLUMN, TOP, BOTTOM = 90, 215, 92, 46
TURN = 9
"""Pixels between a line and the one below it in the same row (the way back from the switch, or a copy's)."""


def draw(steps: Sequence[Step], title: str) -> str:
    """Return the SVG text; ``steps`` in the order of time, their times in seconds since the first."""
    places = {name: LEFT + COLUMN // 2 + COLUMN * index for index, name in enumerate(LIFELINES)}
    tops = [TOP, *(TOP + top for top in accumulate(_height(step, places) for step in steps))]
    width, height = LEFT + COLUMN * len(LIFELINES) + 60, tops[-1] + BOTTOM + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        ' font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="12">',
        "<defs>",
        *(_arrow_head(kind, colour) for kind, colour in COLOURS.items()),
        "</defs>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(LEFT, 24, title, size=16, weight="bold"),
        *_phases(steps, tops, width),
    ]
    for name, x in places.items():
        parts += _lifeline(x, height, *TITLES[name])
    for step, top in zip(steps, tops, strict=False):
        parts.append(_text(LEFT - 12, top + 22, f"{step.time * 1000:.2f} ms", anchor="end", colour="#666", size=11))
        parts += _note(step, top + 18, places) if step.kind == "note" else _arrows(step, top + 18, places)
    parts += _legend(height)
    return "\n".join([*parts, "</svg>", ""])


def _height(step: Step, places: dict[str, int]) -> int:
    """Return how many pixels a row needs."""
    return 28 + (TURN if step.copies or _turns(_points(step, places)) else 0)


def _points(step: Step, places: dict[str, int]) -> list[int]:
    return [places[name] for name in step.path]


def _turns(points: Sequence[int]) -> bool:
    """Tell whether a path goes back at the switch instead of through it."""
    return len(points) == 3 and (points[1] - points[0]) * (points[2] - points[1]) < 0


def _phases(steps: Sequence[Step], tops: Sequence[int], width: int) -> list[str]:
    """Colour the background of each phase and write its name at the right."""
    begins: list[tuple[int, int]] = []  # (row, phase)
    for row, step in enumerate(steps):
        coming = begins[-1][1] + 1 if begins else 0
        if coming < len(PHASES) and PHASES[coming][2](step):
            begins.append((row, coming))
    drawn = []
    for (row, phase), (following, _) in pairwise([*begins, (len(steps), 0)]):
        name, colour, _ = PHASES[phase]
        y, height = tops[row], tops[following] - tops[row]
        drawn.append(f'<rect x="{LEFT}" y="{y}" width="{width - LEFT}" height="{height}" fill="{colour}"/>')
        drawn.append(_text(width - 10, y + 16, name, anchor="end", colour="#777", size=12, weight="bold"))
    return drawn


def _lifeline(x: int, height: int, name: str, where: str) -> list[str]:
    return [
        f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{height - BOTTOM + 6}" stroke="#9aa4af" stroke-dasharray="4 4"/>',
        f'<rect x="{x - 78}" y="{TOP - 50}" width="156" height="44" rx="6" fill="#eef2f6" stroke="#6b7785"/>',
        _text(x, TOP - 31, name, anchor="middle", weight="bold"),
        _text(x, TOP - 15, where, anchor="middle", colour="#555", size=10),
    ]


def _note(step: Step, y: int, places: dict[str, int]) -> list[str]:
    """Draw a box on a lifeline."""
    x, colour, half = places[step.path[0]], COLOURS[step.kind], 7 + len(step.label) * 3.4
    return [
        f'<rect x="{x - half:.0f}" y="{y - 10}" width="{2 * half:.0f}" height="20" rx="9" fill="#fff3c4"'
        f' stroke="{colour}" stroke-width="0.7"/>',
        _text(x, y + 4, step.label, anchor="middle", colour=colour, size=11),
    ]


def _arrows(step: Step, y: int, places: dict[str, int]) -> list[str]:
    """Draw the way of a segment (through the switch, or back from it), its copies, its label and numbers."""
    colour, points = COLOURS[step.kind], _points(step, places)
    first, last = points[0], points[-1]
    switch, below = places["switch"], y + TURN
    if _turns(points):
        way = f"M{first} {y}H{switch}V{below}H{last + (-3 if last > switch else 3)}"
    else:
        way = f"M{first} {y}H{last + (-3 if last > first else 3)}"
    drawn = [_line(way, step.kind, colour)]
    for name in step.copies:
        x = places[name]
        drawn.append(_line(f"M{switch} {y}V{below}H{x + (-3 if x > switch else 3)}", step.kind, colour, dashed=True))
    if switch in points[1:-1]:
        drawn.append(f'<circle cx="{switch}" cy="{y}" r="3.6" fill="{colour}"/>')
    rightwards = points[1] > first
    anchor, offset = ("start", 8) if rightwards else ("end", -8)
    label = f'{escape(step.label)} <tspan fill="#777" font-size="9">{escape(step.numbers[0])}</tspan>'
    drawn.append(_text(first + offset, y - 5, label, anchor=anchor, colour=colour, size=11, halo=True, escaped=True))
    if step.numbers[1]:
        anchor, offset = ("end", -8) if rightwards else ("start", 8)
        drawn.append(_text(last + offset, y - 5, step.numbers[1], anchor=anchor, colour="#777", size=9, halo=True))
    return drawn


def _line(way: str, kind: str, colour: str, dashed: bool = False) -> str:
    style = 'stroke-width="1" stroke-dasharray="3 3"' if dashed else 'stroke-width="1.6"'
    return f'<path d="{way}" fill="none" stroke="{colour}" {style} marker-end="url(#head-{kind})"/>'


def _arrow_head(kind: str, colour: str) -> str:
    return (
        f'<marker id="head-{kind}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"'
        f' orient="auto"><path d="M0 0L10 5L0 10z" fill="{colour}"/></marker>'
    )


def _legend(height: int) -> list[str]:
    drawn, x, y = [], LEFT, height - 16
    for kind, meaning in LEGEND:
        drawn.append(
            f'<line x1="{x}" y1="{y - 4}" x2="{x + 28}" y2="{y - 4}" stroke="{COLOURS[kind]}" stroke-width="2"/>'
        )
        drawn.append(_text(x + 34, y, meaning, colour="#444", size=11))
        x += 52 + len(meaning) * 7
    return [*drawn, _text(x, y, NUMBERS, colour="#777", size=11)]


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    colour: str = "#222",
    size: int = 12,
    weight: str = "normal",
    halo: bool = False,
    escaped: bool = False,
) -> str:
    outline = ' stroke="white" stroke-width="3" paint-order="stroke"' if halo else ""
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}" font-size="{size}" font-weight="{weight}"'
        f"{outline}>{text if escaped else escape(text)}</text>"
    )

# SPDX-License-Identifier: Apache-2.0
"""How connections and events look on a terminal, and as JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from controller.core.events import ConnectionReported
from controller.wire.event_record import record_of

WIDTH = 160
"""Columns where the output is no terminal."""
COLUMNS = ("client", "service", "origin", "now at", "state", "version", "bytes", "age")
OWN_PLACE = ("event", "schema", "time", "wall", "connection", "version")
"""Fields of a record that are not printed as ``name=value``."""
LONGEST = 60
"""Characters of a value in a line of text: an alert may carry 64 KiB."""


def console() -> Console:
    """Return where text goes; a table keeps its columns in a pipe too."""
    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)


def row_record(row: ConnectionReported) -> dict[str, Any]:
    """Return a row as a JSON object."""
    record = record_of(row)
    return {name: value for name, value in record.items() if name not in ("event", "schema", "time", "request")}


def connections_table(rows: Iterable[ConnectionReported]) -> Table:
    """Return the table that people read."""
    table = Table(*COLUMNS, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        away = row.server != row.origin
        state = row.state if row.phase is None else f"{row.phase} -> {row.target}"
        table.add_row(
            Text(str(row.connection.client)),
            Text(f"{row.service} ({row.connection.service})"),
            Text(row.origin),
            Text(row.server, style="yellow" if away else ""),
            Text(state, style="cyan" if row.phase else ""),
            Text(str(row.version)),
            Text("" if row.bytes is None else size(row.bytes), justify="right"),
            Text(duration(row.age)),
        )
    return table


def size(count: int) -> str:
    """Return a number of bytes as people read it: ``312 B``, ``4.2 kB``, ``1.5 GB``."""
    if count < 1_000:
        return f"{count} B"
    amount, units = count / 1_000, iter(("kB", "MB", "GB", "TB"))
    unit = next(units)
    while amount >= 999.95 and unit != "TB":
        amount, unit = amount / 1_000, next(units)
    return f"{amount:.1f} {unit}"


def servers_line(servers: Iterable[tuple[str, int]], role: str = "") -> str:
    """Return how many connections each server has, as one line; with the role of one of two controllers."""
    line = ", ".join(f"{name}: {count}" for name, count in servers)
    return {"master": f"{line} (master)", "standby": "this controller stands by: the master has the connections"}.get(
        role, line
    )


def duration(seconds: float) -> str:
    """Return a time span in its two largest units."""
    whole = int(seconds)
    for size, unit, smaller, small in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller:02}{small}"
    return f"{seconds:.1f}s"


def event_line(record: Mapping[str, Any]) -> str:
    """Return a record of the journal as a line for people."""
    wall = record.get("wall")
    when = datetime.fromtimestamp(wall).strftime("%H:%M:%S.%f")[:-3] if isinstance(wall, (int, float)) else "-"
    words = [when, f"{record['event']:<20}"]
    if record.get("connection"):
        words.append(f"{record['connection']} v{record['version']}" if "version" in record else record["connection"])
    for name, value in record.items():
        if name not in OWN_PLACE and value not in (None, "", []):
            words.append(f"{name}={_shortened(value)}")
    return " ".join(words)


def _shortened(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    if not text.isprintable():
        text = repr(text)  # an attacker's words must not steer the terminal
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."

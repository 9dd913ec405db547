# SPDX-License-Identifier: Apache-2.0
"""Tells one connection's story in milliseconds: the controller's journal and the client's own clock together. Pure.

Both use CLOCK_MONOTONIC, which all network namespaces of a machine share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One line of the timeline: seconds of the monotonic clock, who says so, what happened."""

    time: float
    who: str
    what: str


Record = Mapping[str, Any]

TELL: dict[str, tuple[str, Callable[[Record], str]]] = {
    "ConnectionOpened": ("controller", lambda r: f"handshake with {r['origin']} done"),
    "RequestHeld": ("controller", lambda r: f"first request held ({r['bytes']} bytes) and shown to the analyser"),
    "AlertRaised": ("analyser", lambda r: f"alert {r['message']} (sid {r['sid']}, {r['engine']})"),
    "VerdictReached": ("controller", lambda r: f"verdict: {r['verdict']}{_to(r)}, because of {r['cause']}"),
    "MigrationStarted": ("controller", lambda r: f"handshake with the target {r['target']} begins"),
    "TargetEstablished": ("controller", lambda r: f"{r['target']} is established: it has answered the exact probe"),
    "MigrationCompleted": ("controller", lambda r: f"cutover from {r['origin']} to {r['target']}: {_deltas(r)}"),
    "MigrationFailed": ("controller", lambda r: f"migration given up: {r['reason']} {r['detail']}"),
    "MigrationRolledBack": ("controller", lambda r: f"migration undone: {r['reason']}"),
    "ConnectionClosed": ("controller", lambda r: f"connection over ({r['reason']}), its state is freed"),
}


def _to(record: Record) -> str:
    return f" to {record['target']}" if record.get("target") else ""


def _deltas(record: Record) -> str:
    return f"client's numbers {_signed(record['client_delta'])}, server's {_signed(record['server_delta'])}"


def _signed(delta: int) -> str:
    """Write a shift of 32-bit numbers as the shorter way round."""
    return f"{(delta + (1 << 31)) % (1 << 32) - (1 << 31):+d}"


def of_record(record: Record) -> Row | None:
    """Return the row for a record of the journal; None for events that the story does not need."""
    told = TELL.get(record["event"])
    return Row(record["time"], told[0], told[1](record)) if told else None


def of_client(report: Record) -> list[Row]:
    """Return the rows that the client's report (client.py --json) tells."""
    rows = [
        Row(report["connecting"], "client", f"connects to {report['address']}:{report['port']}"),
        Row(report["connected"], "client", f"is connected, from port {report['local_port']}"),
    ]
    for exchange in report["exchanges"]:
        rows.append(Row(exchange["sent"], "client", f"sends {exchange['request'][:40]!r}"))
        if exchange["server"]:
            took = (exchange["first_byte"] - exchange["sent"]) * 1000
            what = f"first byte from {exchange['server']}, {took:.1f} ms after the request"
            rows.append(Row(exchange["first_byte"], "client", what))
    return rows


def tell(report: Record, records: Iterable[Record]) -> list[Row]:
    """Return all rows of the connection in the order of time, in seconds since the client began to connect."""
    rows = of_client(report) + [row for record in records if (row := of_record(record))]
    begin = report["connecting"]
    return [row._replace(time=row.time - begin) for row in sorted(rows, key=lambda row: row.time)]


def handoff(report: Record, records: Iterable[Record]) -> dict[str, float]:
    """Return how long the parts of the hand-off took, in milliseconds; what did not happen is left out."""
    times = {record["event"]: record["time"] for record in records}
    first = next((e["first_byte"] for e in report["exchanges"] if e["server"]), None)
    marks = {"sent": report["exchanges"][0]["sent"] if report["exchanges"] else None, "first byte": first, **times}
    parts = (
        ("request to alert (the analyser's part)", "sent", "AlertRaised"),
        ("alert to established target", "AlertRaised", "TargetEstablished"),
        ("alert to cutover", "AlertRaised", "MigrationCompleted"),
        ("alert to the target's first byte at the client", "AlertRaised", "first byte"),
        ("request to first byte", "sent", "first byte"),
    )
    return {
        name: (marks[end] - marks[begin]) * 1000
        for name, begin, end in parts
        if marks.get(begin) is not None and marks.get(end) is not None
    }

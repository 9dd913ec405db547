# SPDX-License-Identifier: Apache-2.0
"""What `baton migrate`, `return` and `drain` do on the bus: ask, then wait for the outcome. Nothing is printed here."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from controller.bus_client import BusClient
from controller.core.errors import LocalError
from controller.core.events import (
    ConnectionClosed,
    ConnectionReported,
    DrainCompleted,
    DrainFailed,
    DrainProgressed,
    DrainRequested,
    MigrationCompleted,
    MigrationFailed,
    MigrationRequested,
    MigrationRolledBack,
    MigrationStarted,
)
from controller.core.segment import ConnectionKey
from controller.wire.event_record import record_of

NAMED = 4
"""Candidates that are named when a few words mean several connections."""


class RequestError(LocalError):
    """Something that cannot be asked for; the text says what to do instead."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request: for the exit code, for people, for programs."""

    ok: bool
    text: str
    facts: dict[str, Any]


def servers_of(client: BusClient) -> list[str]:
    """Return the names of the servers that the controller knows; raises RequestError for one that stands by."""
    _, end = next(client.pages("-"))  # no connection is called so: only the end of the page is wanted
    if end.role == "standby":
        raise RequestError("this controller stands by: set BATON_RUN_DIR to the master's run directory")
    return [name for name, _ in end.servers]


def find_connection(client: BusClient, text: str) -> ConnectionReported:
    """Return the one connection that is meant; raises RequestError for none or several."""
    rows = client.connections(text)
    if not rows:
        servers_of(client)  # one that stands by says so
    exact = [row for row in rows if text in (str(row.connection), str(row.connection.client))]
    for candidates in (rows, exact):
        if len(candidates) == 1:
            return candidates[0]
    if not rows:
        raise RequestError(f"no connection matches {text!r}; 'baton connections' lists them")
    names = ", ".join(str(row.connection) for row in rows[:NAMED])
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    raise RequestError(f"{text!r} means several connections: {names}{more}; write more of the name")


def move_connection(
    client: BusClient, row: ConnectionReported, target: str, deadline: float, cut: str | None = None
) -> Outcome:
    """Ask for a migration, cut at the moment that a policy names (None: the service's), and wait for its end."""
    key = row.connection
    if row.server == target and row.phase is None:
        facts = {"result": "unchanged", "connection": str(key), "target": target}
        return Outcome(True, f"{key} is at {target} already", facts)
    client.send(MigrationRequested(monotonic(), key, target, cut))
    end = _end_of_migration(client, key, target, deadline)
    if end is None:
        facts = {"result": "timeout", "connection": str(key), "target": target}
        return Outcome(False, f"{key}: nothing was heard of the migration for {deadline:g} s", facts)
    record = record_of(end)
    facts = {"result": record.pop("event"), **record}
    if isinstance(end, MigrationCompleted):
        frozen = f", frozen for {1000 * end.frozen:.1f} ms" if end.frozen else ""
        return Outcome(True, f"{key} moved from {end.origin} to {target} (version {end.version}{frozen})", facts)
    if isinstance(end, ConnectionClosed):
        return Outcome(False, f"{key} ended ({end.reason}) before it was moved", facts)
    detail = f": {end.detail}" if isinstance(end, MigrationFailed) else ""
    return Outcome(False, f"{key} stays at {row.server}: {end.reason}{detail}", facts)


def _end_of_migration(client: BusClient, key: ConnectionKey, target: str, deadline: float) -> Any:
    """Return the event that ends the migration to ``target``; those of other versions are none of ours."""
    version = None

    def is_end(event: Any) -> bool:
        nonlocal version
        if getattr(event, "connection", None) != key:
            return False
        if isinstance(event, ConnectionClosed):
            return True
        if getattr(event, "target", None) != target:
            return False
        if isinstance(event, MigrationStarted):
            version = event.version
        if isinstance(event, MigrationFailed) and event.reason == "request":
            return True
        is_ours = version is not None and getattr(event, "version", None) == version
        if isinstance(event, MigrationCompleted):
            return True
        return isinstance(event, (MigrationFailed, MigrationRolledBack)) and is_ours

    return client.wait_for(is_end, deadline)


def drain_server(
    client: BusClient, server: str, target: str | None, patience: float, step: Callable[[int, int], object]
) -> Outcome:
    """Ask for a drain and wait for its end; ``step`` hears how many of how many connections are dealt with.

    Raises RequestError when the controller refuses, or says nothing for ``patience`` seconds.
    """
    request = secrets.token_hex(8)
    reasons: Counter[str] = Counter()
    client.send(DrainRequested(monotonic(), request, server, target))
    last = monotonic()
    while (left := last + patience - monotonic()) > 0:
        event = client.receive(left)
        if isinstance(event, (MigrationFailed, MigrationRolledBack)):
            reasons[event.reason] += 1
        if getattr(event, "request", None) != request:
            continue
        last = monotonic()
        if isinstance(event, DrainFailed):
            raise RequestError(event.reason)
        if isinstance(event, DrainProgressed):
            done = event.moved + event.failed
            step(done, done + event.left)
        elif isinstance(event, DrainCompleted):
            return _drained(event, reasons)
    raise RequestError(f"nothing was heard of the drain for {patience:g} s; 'baton connections' shows how far it is")


def _drained(event: DrainCompleted, reasons: Counter[str]) -> Outcome:
    words = [f"{event.server}: {event.moved} moved"]
    if event.failed:
        why = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        words.append(f"{event.failed} stayed" + (f" ({why})" if why else ": no other server may take them; see --to"))
    if event.skipped:
        words.append(f"{event.skipped} ended or have no verdict yet")
    facts = {"server": event.server, "moved": event.moved, "failed": event.failed, "skipped": event.skipped}
    return Outcome(event.failed == 0, ", ".join(words), {**facts, "reasons": dict(reasons)})

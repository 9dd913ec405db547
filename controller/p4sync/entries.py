# SPDX-License-Identifier: Apache-2.0
"""Table entries by name, and those that the protocol needs: a session's keys, marks, markers, services, forwarding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from controller.p4sync import protocol
from controller.p4sync.protocol import Mark, Suite


class Change(IntEnum):
    """p4.v1.Update.Type."""

    INSERT = 1
    MODIFY = 2
    DELETE = 3


@dataclass(frozen=True, slots=True)
class TableEntry:
    """An entry: match values are a number (exact) or (value, mask) (ternary; a wildcard is left out)."""

    table: str
    match: Mapping[str, int | tuple[int, int]]
    action: str = ""
    parameters: Mapping[str, int] = field(default_factory=dict)
    priority: int = 0


@dataclass(frozen=True, slots=True)
class TableWrite:
    """One change of a batch."""

    change: Change
    entry: TableEntry


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """What a session's packets are made and checked with; never printed."""

    key0: int = field(repr=False)
    key1: int = field(repr=False)
    poly: int = field(repr=False)
    nonce: int


def _use_session(keys: SessionKeys, suite: Suite, source: int, destination: int, port: int) -> dict[str, int]:
    return {
        "key0": keys.key0,
        "key1": keys.key1,
        "poly": keys.poly,
        "suite": suite,
        "nonce": keys.nonce,
        "source": source,
        "destination": destination,
        "port": port,
    }


def sync_out(session: int, keys: SessionKeys, suite: Suite, source: int, destination: int, port: int) -> TableEntry:
    """Return the entry that lets this switch send a session's packets by a port."""
    values = _use_session(keys, suite, source, destination, port)
    return TableEntry(protocol.SYNC_OUT, {"session": session}, protocol.USE_SESSION, values)


def sync_in(session: int, keys: SessionKeys, suite: Suite, source: int, destination: int, port: int) -> TableEntry:
    """Return the entry that lets this switch hear a session's packets on a port."""
    values = _use_session(keys, suite, source, destination, port)
    return TableEntry(protocol.SYNC_IN, {"port": port, "session": session}, protocol.USE_SESSION, values)


def staging_mark(session: int, mark: Mark) -> TableEntry:
    """Return the entry that decides what becomes of what a session has staged."""
    return TableEntry(protocol.STAGING_MARK, {"session": session}, protocol.SET_MARK, {"mark": mark})


def marker(session: int, token: int) -> TableEntry:
    """Return the entry by which a marker frame is believed."""
    return TableEntry(protocol.MARKERS, {"session": session, "token": token}, protocol.EXPECT_MARKER)


def service(address: int, transport: int, port: int, number: int) -> list[TableEntry]:
    """Return the two entries (towards the server, from it) that make a server's address and port a service."""
    match = {"address": address, "protocol": transport, "port": port}
    values = {"service": number}
    return [
        TableEntry(protocol.SERVICE_BY_DESTINATION, match, protocol.CLIENT_TO_SERVER, values),
        TableEntry(protocol.SERVICE_BY_SOURCE, match, protocol.SERVER_TO_CLIENT, values),
    ]


def forward(in_port: int | None, address: int | None, out_port: int, priority: int) -> TableEntry:
    """Return a forwarding entry; None is a wildcard."""
    match: dict[str, int | tuple[int, int]] = {}
    if in_port is not None:
        match["port"] = (in_port, 0x1FF)
    if address is not None:
        match["address"] = (address, (1 << 48) - 1)
    return TableEntry(protocol.FORWARD, match, protocol.TO_PORT, {"port": out_port}, priority)

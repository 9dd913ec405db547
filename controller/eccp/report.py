# SPDX-License-Identifier: Apache-2.0
"""Connections and notices in plain JSON types, for the control socket, the log and the bus."""

from __future__ import annotations

from typing import Any

from controller.eccp.connection import Connection
from controller.eccp.outputs import (
    ConnectionEnded,
    ConnectionEstablished,
    ConnectionFailed,
    FirstData,
    FlowClosed,
    FlowOpened,
    Notice,
    OwnMoveConfirmed,
    PathLost,
    PeerAddressValidated,
)
from controller.wire.eccp import Address

_NAMES: dict[type, str] = {
    OwnMoveConfirmed: "FlowMoved",
    PeerAddressValidated: "FlowMoved",
    FirstData: "FirstData",
    FlowOpened: "FlowOpened",
    FlowClosed: "FlowClosed",
    PathLost: "PathLost",
    ConnectionEstablished: "ConnectionOpened",
    ConnectionEnded: "ConnectionClosed",
    ConnectionFailed: "ConnectionFailed",
}


def describe_notice(notice: Notice) -> tuple[str, dict[str, Any]]:
    """A notice's name on the bus and its facts in plain JSON types."""
    facts: dict[str, Any] = {}
    for name in notice.__slots__:
        value = getattr(notice, name)
        if isinstance(value, bytes):
            value = value.hex()
        elif isinstance(value, Address):
            value = str(value)
        elif name == "flow":
            value = f"{value:016x}"
        facts[name] = value
    if isinstance(notice, OwnMoveConfirmed):
        facts["who"] = "own"
        facts["address"] = facts.pop("own")
    elif isinstance(notice, PeerAddressValidated):
        facts["who"] = "peer"
    return _NAMES[type(notice)], facts


def describe_connection(connection: Connection) -> dict[str, Any]:
    """A connection and its flows as `baton eccp status` shows them."""
    return {
        "connection": connection.number,
        "identity": connection.identity.hex(),
        "established": connection.established,
        "inner": [str(a) for a in (connection.hello.inner if connection.hello else ())],
        "listed": [str(address) for address in connection.peer_listed],
        "sealed": connection.sealed_data,
        "flows": [
            {
                "flow": f"{entry.local_id:016x}",
                "state": entry.flow.state.value,
                "peer_state": entry.flow.peer_state.value,
                "own": str(entry.flow.own_addr),
                "peer": str(entry.flow.peer_addr),
                "own_version": entry.flow.own_version,
                "peer_version": entry.flow.peer_version,
                "rtt_ms": None if entry.rtt.smoothed is None else round(entry.rtt.smoothed * 1000, 3),
                "lost": entry.lost,
                "backup": entry.is_backup,
            }
            for entry in connection.flows
        ],
    }

# SPDX-License-Identifier: Apache-2.0
"""Runs as JSON lines in the format of docs/eccp-protocol.md section 7, for ``python -m models.conformance``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from controller.eccp.flow import Flow, Step
from controller.eccp.names import Message
from controller.eccp.outputs import SentRecord

_WITH_ECHO = frozenset({Message.SYN_ACK, Message.RSYN_ACK, Message.ACK})
_WITH_NONCE = _WITH_ECHO | {Message.PING, Message.PONG}


class TraceWriter:
    """Hands a trace to ``sink`` row by row, the head first; every call of `step` is a row."""

    def __init__(
        self,
        sink: Callable[[dict[str, Any]], None],
        hosts: tuple[str, str],
        listed: dict[str, list[str]] | None = None,
        rendezvous: str | None = None,
    ) -> None:
        """``listed`` holds the addresses that each host has listed, ``rendezvous`` the name of one or None."""
        self._line = sink
        self._step = 0
        head = {"trace": "eccp", "format": 1, "hosts": list(hosts), "listed": listed or {h: [] for h in hosts}}
        self._line({**head, "rendezvous": rendezvous})

    def step(
        self,
        host: str,
        flow: str,
        event: Step,
        received: Message | None,
        sent: Iterable[SentRecord],
        after: Flow,
        *,
        relayed: bool = False,
    ) -> None:
        """One step of one host."""
        self._step += 1
        row: dict[str, Any] = {"step": self._step, "host": host, "flow": flow, "action": event.action.value}
        row["in"] = None if received is None else _received(event, received, relayed=relayed)
        row["out"] = [_sent(record) for record in sent]
        row["after"] = describe_flow(after)
        self._line(row)


def write_lines(out: TextIO) -> Callable[[dict[str, Any]], None]:
    """A sink that writes rows as JSON lines."""
    return lambda row: print(json.dumps(row, separators=(",", ":")), file=out)


def _received(event: Step, message: Message, *, relayed: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kind": message.value, "version": event.version, "pn": event.pn, "src": _place(event.source)
    }  # fmt: skip
    if message in _WITH_ECHO:
        row["echo"] = event.echo
    if message in _WITH_NONCE:
        row["nonce"] = event.nonce
    if relayed:
        row["via"] = "relay"
    return row


def _sent(record: SentRecord) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kind": record.message.value,
        "version": record.version,
        "pn": record.number,
        "src": _place(record.own),
        "dst": _place(record.to),
    }
    if record.message in _WITH_ECHO:
        row["echo"] = record.echo
    if record.message in _WITH_NONCE:
        row["nonce"] = record.nonce
    return row


def describe_flow(flow: Flow) -> dict[str, Any]:
    """The whole state of section 3; absent records are null."""
    none = flow.cand_addr is None
    return {
        "flow_state": flow.state.value,
        "peer_state": flow.peer_state.value,
        "own_version": flow.own_version,
        "own_addr": _place(flow.own_addr),
        "confirmed_version": flow.confirmed_version,
        "peer_version": flow.peer_version,
        "peer_addr": _place(flow.peer_addr),
        "peer_nonce": flow.peer_nonce,
        "cand_version": None if none else flow.cand_version,
        "cand_addr": None if none else _place(flow.cand_addr),
        "cand_nonce": None if none else flow.cand_nonce,
        "highest_pn": flow.highest_pn,
    }


def _place(place: object) -> str | None:
    return None if place is None else str(place)

# SPDX-License-Identifier: Apache-2.0
"""Judge a run of the code by the model: `python -m models.conformance FILE...` accepts or names the step and rule broken.

Trace format: docs/eccp-protocol.md section 7.  Beside the table of `models.transcription` it checks what ties the two
hosts together: packet numbers grow, no packet is taken that the peer did not send, none is taken twice, nonces are
fresh, versions of a move grow and never wrap.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from controller.eccp.names import Action, FlowState, Message
from models.transcription import TABLE, Arrival, Choice, Packet, Record, Row, successor

FORMAT = 1
MAX_VERSION = 2**64 - 1


class TraceRefused(Exception):
    """The model does not allow this step."""

    def __init__(self, step: object, rule: str) -> None:
        super().__init__(step, rule)
        self.step, self.rule = step, rule

    def __str__(self) -> str:
        return f"step {self.step}: {self.rule}"


@dataclass(slots=True)
class _End:
    """What the acceptor remembers of one flow at one host."""

    record: Record = field(default_factory=Record)
    last_pn: int = -1
    sent: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    nonces: set[int] = field(default_factory=set)


def _identity(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["kind"], row["version"], row.get("echo"), row.get("nonce"))


def record_of(after: dict[str, Any], known: bool) -> Record:
    """The state that a trace line reports.  Raises KeyError, ValueError or TypeError if it is none."""
    names = {f.name for f in fields(Record)} - {"known", "flow_state"}
    values = {name: after.get(name) for name in names}
    for name in ("cand_version", "cand_nonce", "peer_nonce", "peer_version"):
        values[name] = values[name] or 0
    return Record(flow_state=FlowState(after["flow_state"]), known=known, **values)


class Acceptor:
    """Takes the lines of one trace in order; `line` raises `TraceRefused` at the first that the model forbids."""

    def __init__(self, head: dict[str, Any], table: tuple[Row, ...] = TABLE) -> None:
        if head.get("trace") != "eccp" or head.get("format") != FORMAT:
            raise TraceRefused("head", f"not an ECCP trace of format {FORMAT}")
        self.hosts: list[str] = head["hosts"]
        self.everywhere: dict[str, set[str]] = {}
        for host in self.hosts:
            listed = {a for other in self.hosts if other != host for a in head.get("listed", {}).get(other, [])}
            self.everywhere[host] = listed | ({head["rendezvous"]} if head.get("rendezvous") else set())
        self.table = table
        self.ends: dict[tuple[str, str], _End] = {}
        self.steps = 0

    def line(self, row: dict[str, Any]) -> None:
        step = row.get("step", self.steps + 1)
        try:
            self._judge(row, step)
        except (KeyError, ValueError, TypeError) as fault:
            raise TraceRefused(step, f"not a step: {fault!r}") from fault
        self.steps += 1

    def _judge(self, row: dict[str, Any], step: object) -> None:
        host, flow, action = row["host"], row["flow"], Action(row["action"])
        if host not in self.hosts:
            raise TraceRefused(step, f"host {host!r} is not in the head line")
        end = self.ends.setdefault((host, flow), _End())
        arrival = self._arrival(row, host, flow, end, step)
        if action.value.startswith("RECV_") != (arrival is not None):
            raise TraceRefused(step, f"{action.value} {'needs' if arrival is None else 'has no'} a message")
        if arrival is not None and action.value != f"RECV_{arrival.kind.value}":
            raise TraceRefused(step, f"{action.value} took a {arrival.kind.value}")
        opens = action in (Action.OPEN, Action.RECV_SYN)
        reported = record_of(row["after"], end.record.known or opens)
        ping = next((p.get("nonce") or 0 for p in row["out"] if p["kind"] == Message.PING.value), 0)
        nonce = ping if action is Action.SEND_PING else reported.cand_nonce
        choice = Choice(nonce, reported.own_version, reported.own_addr, reported.peer_addr)
        allowed = successor(end.record, action, arrival, choice, self.table)
        if allowed is None:
            raise TraceRefused(step, f"{action.value} is not allowed in {end.record.flow_state.value}")
        expected, packets = allowed
        self._compare(expected, reported, row["after"], step, action)
        self._choices(end, reported, action, step)
        self._sends(row["out"], packets, host, end, expected, step)
        end.record = expected

    def _arrival(self, row: dict[str, Any], host: str, flow: str, end: _End, step: object) -> Arrival | None:
        got = row.get("in")
        if got is None:
            return None
        peer = next(h for h in self.hosts if h != host)
        sent = self.ends.get((peer, flow))
        if sent is None or sent.sent.get(got["pn"]) != _identity(got):
            raise TraceRefused(step, f"{host} took a {got['kind']} (pn {got['pn']}) that {peer} did not send")
        if got["pn"] in end.taken:
            raise TraceRefused(step, f"{host} took packet {got['pn']} twice")
        end.taken.add(got["pn"])
        return Arrival(
            Message(got["kind"]), got["version"], got["pn"], got["src"], got.get("echo") or 0, got.get("nonce") or 0
        )

    def _compare(self, expected: Record, reported: Record, after: dict[str, Any], step: object, action: Action) -> None:
        if expected != reported:
            wrong = [f"{f.name} is {getattr(reported, f.name)!r}, the model says {getattr(expected, f.name)!r}"
                     for f in fields(Record) if f.name != "known" and getattr(expected, f.name) != getattr(reported, f.name)]  # fmt: skip
            if wrong:
                raise TraceRefused(step, f"after {action.value}: " + "; ".join(wrong))
        if after["peer_state"] != expected.peer_state.value:
            raise TraceRefused(step, f"peer_state is {after['peer_state']}, the model says {expected.peer_state.value}")

    def _choices(self, end: _End, reported: Record, action: Action, step: object) -> None:
        if action is Action.MOVE and not end.record.own_version < reported.own_version <= MAX_VERSION:
            raise TraceRefused(step, f"a move from version {end.record.own_version} to {reported.own_version}")
        if reported.cand_version and reported.cand_nonce != end.record.cand_nonce:
            if reported.cand_nonce == 0 or reported.cand_nonce in end.nonces:
                raise TraceRefused(step, "the nonce of a new candidate is not fresh")
            end.nonces.add(reported.cand_nonce)

    def _sends(
        self, out: list[dict[str, Any]], packets: list[Packet], host: str, end: _End, r: Record, step: object
    ) -> None:
        known = self.everywhere[host] | {a for a in (r.peer_addr, r.cand_addr) if a is not None}
        for packet in out:
            if packet["pn"] <= end.last_pn:
                raise TraceRefused(step, f"packet number {packet['pn']} after {end.last_pn}")
            end.last_pn = packet["pn"]
            if packet["src"] != r.own_addr and r.flow_state is not FlowState.CLOSED:
                raise TraceRefused(step, f"{packet['kind']} sent from {packet['src']}, not from {r.own_addr}")
            if not any(_fits(packet, p, known) for p in packets):
                raise TraceRefused(step, f"the step may not send {packet}")
            end.sent[packet["pn"]] = _identity(packet)


def _fits(packet: dict[str, Any], allowed: Packet, known: set[str]) -> bool:
    return (
        packet["kind"] == allowed.kind.value
        and packet["version"] == allowed.version
        and (packet["dst"] in known if allowed.dst is None else packet["dst"] == allowed.dst)
        and (packet.get("echo") or 0) == allowed.echo
        and (packet.get("nonce") or 0) == allowed.nonce
    )


class Judge:
    """A sink for rows (the machine's TraceWriter takes it as such): a head row begins a trace, every other is judged."""

    def __init__(self, table: tuple[Row, ...] = TABLE) -> None:
        self.table = table
        self.steps = 0
        self._acceptor: Acceptor | None = None

    def __call__(self, row: dict[str, Any]) -> None:
        if "trace" in row:
            self._acceptor = Acceptor(row, self.table)
        elif self._acceptor is None:
            raise TraceRefused("head", "the head line is missing")
        else:
            self._acceptor.line(row)
            self.steps += 1


def accept(lines: Iterable[str]) -> int:
    """Judge JSON lines; the number of steps.  Raises TraceRefused."""
    judge = Judge()
    for number, text in enumerate(lines, 1):
        try:
            row = json.loads(text)
        except ValueError as fault:
            raise TraceRefused(f"line {number}", "not JSON: was the file cut short?") from fault
        if not isinstance(row, dict):
            raise TraceRefused(f"line {number}", "not an object")
        judge(row)
    return judge.steps


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m models.conformance", description="Judge traces of the ECCP machine by the model."
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="JSON lines (docs/eccp-protocol.md section 7)"
    )
    status = 0
    for path in parser.parse_args(argv).files:
        try:
            with path.open(encoding="utf-8") as lines:
                print(f"{path}: accepted, {accept(lines)} steps")
        except TraceRefused as refused:
            print(f"{path}: refused at {refused}", file=sys.stderr)
            status = 1
        except OSError as fault:
            print(f"{path}: cannot be read: {fault.strerror}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())

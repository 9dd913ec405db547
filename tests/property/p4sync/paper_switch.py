# SPDX-License-Identifier: Apache-2.0
"""A switch on paper: what `docs/p4sync-protocol.md` says of tokens, tables and sync packets, without bytes or MACs.

Written from the page, not from the program, so that the machines are held against the protocol. A MAC is a number that
nobody else would come to.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from controller.p4sync.protocol import (
    BLOCK,
    HALF_BITMAP,
    SEQUENCES,
    Answer,
    Array,
    Mark,
    Mode,
    Phase,
    Report,
    Token,
    entry_of,
)


@dataclass(frozen=True)
class SyncPacket:
    """A sync packet; `content` maps entries of clients, or keys of flows, to counts."""

    session: int
    sequence: int
    previous: int
    mac: int
    array: Array
    content: tuple[tuple[int, int], ...]


@dataclass
class Outgoing:
    """The source half's registers."""

    session: int = 0
    phase: Phase = Phase.IDLE
    round: int = 0
    walk: tuple[Array, Mode] = (Array.CLIENTS, Mode.ALL)
    cursor: int = 1
    last: int = 0
    undo: int = 0
    finished: int = 0
    outbox: list[SyncPacket] = field(default_factory=list)


@dataclass
class Incoming:
    """The destination half's registers."""

    session: int = 0
    finished: int = 0
    swept: int = 0
    conflicts: int = 0
    staged: dict[int, SyncPacket] = field(default_factory=dict)
    cells: dict[tuple[Array, int], int] = field(default_factory=dict)


class PaperSwitch:
    """Counts clients (by entry) and flows (by key); a restart empties it."""

    def __init__(self, send: Callable[[SyncPacket], None], report: Callable[[Report], None]) -> None:
        self._send, self._report = send, report
        self.boot = 0
        self._restarted()

    def _restarted(self) -> None:
        self.clients: dict[int, int] = {}
        self.flows: dict[int, int] = {}
        self.changed: set[tuple[Array, int]] = set()
        self.used: set[tuple[Array, int]] = set()
        self.out, self.into = Outgoing(), Incoming()
        self.sync_out: set[int] = set()
        self.sync_in: set[int] = set()
        self.marks: dict[int, Mark] = {}

    def restart(self) -> None:
        self.boot += 1
        self._restarted()

    # ---- traffic ----

    def count(self, client: int, key: int) -> None:
        self._touch(client, key)
        self._add(Array.CLIENTS, client, 1)
        self._add(Array.FLOWS, key, 1)

    def _add(self, array: Array, where: int, number: int) -> None:
        live = self.clients if array is Array.CLIENTS else self.flows
        live[where] = live.get(where, 0) + number
        self._dirty(array, where)

    def _dirty(self, array: Array, where: int) -> None:
        entry = where if array is Array.CLIENTS else entry_of(where)
        self.changed.add((array, entry // BLOCK[array]))
        self.used.add((array, entry // BLOCK[array]))

    def _touch(self, client: int, key: int) -> None:
        if self.marks.get(self.into.session) is Mark.COMMITTED:
            for array, where in ((Array.CLIENTS, client), (Array.FLOWS, key)):
                staged = self.into.cells.pop((array, where), None)
                if staged is not None:
                    self._add(array, where, staged)

    # ---- sync packets ----

    def hear(self, packet: SyncPacket) -> None:
        into = self.into
        if packet.session not in self.sync_in or packet.session != into.session:
            return
        if self.marks.get(into.session) is not Mark.OPEN or packet.sequence in into.staged:
            return
        into.staged[packet.sequence] = packet
        for where, number in packet.content:
            cell = (packet.array, where)
            into.cells[cell] = into.cells.get(cell, 0) + number
            if packet.array is Array.FLOWS and any(
                key != where and entry_of(key) == entry_of(where) for key in self.flows
            ):
                into.conflicts += 1

    # ---- tokens ----

    def token(self, kind: Token, session: int, credit: int, argument: int, flags: int) -> None:
        {
            Token.OPEN_OUT: self._open_out,
            Token.ROUND: self._round,
            Token.WALK: self._walk,
            Token.FLOW: self._flow,
            Token.RESEND: self._resend,
            Token.RESTORE: self._restore,
            Token.RELEASE: self._release,
            Token.REPORT_OUT: lambda *_: self._tell_out(Token.REPORT_OUT, Answer.OK),
            Token.OPEN_IN: self._open_in,
            Token.REPORT_IN: self._report_in,
            Token.SWEEP: self._sweep,
            Token.READ_FLOW: self._read_flow,
        }[kind](session, credit, argument, flags)

    def _tell_out(self, kind: Token, state: Answer) -> None:
        out = self.out
        detail = out.cursor << 32 | out.undo
        digest = out.outbox[-1].mac if out.outbox else 0
        self._report(Report(kind, state, out.round, out.session, len(out.outbox), out.phase, detail, digest))

    def _open_out(self, session: int, *_: int) -> None:
        out = self.out
        if session not in self.sync_out:
            state = Answer.UNKNOWN
        elif session in (0, out.finished):
            state = Answer.REFUSED
        elif out.session == session:
            state = Answer.OK
        elif out.phase is not Phase.IDLE or self.marks.get(self.into.session) is Mark.COMMITTED:
            state = Answer.BUSY
        else:
            self.out = Outgoing(session, Phase.OPEN, finished=out.finished)
            state = Answer.OK
        self._tell_out(Token.OPEN_OUT, state)

    def _knows(self, kind: Token, session: int, phase: Phase | None = Phase.OPEN) -> bool:
        out = self.out
        if out.phase is Phase.IDLE or out.session != session:
            self._tell_out(kind, Answer.UNKNOWN)
        elif (phase is not None and out.phase is not phase) or (phase is Phase.OPEN and session not in self.sync_out):
            self._tell_out(kind, Answer.REFUSED)
        else:
            return True
        return False

    def _round(self, session: int, credit: int, argument: int, _flags: int) -> None:
        out = self.out
        if not self._knows(Token.ROUND, session):
            return
        if credit == out.round:
            self._tell_out(Token.ROUND, Answer.OK)
        elif out.cursor <= out.last or credit != out.round + 1:
            self._tell_out(Token.ROUND, Answer.REFUSED)
        else:
            out.round = credit
            out.walk = (Array(argument >> 56), Mode(argument >> 48 & 0xFF))
            out.cursor, out.last = argument >> 24 & 0xFFFFFF, argument & 0xFFFFFF
            self._tell_out(Token.ROUND, Answer.OK)

    def _walk(self, session: int, credit: int, _argument: int, _flags: int) -> None:
        out = self.out
        if not self._knows(Token.WALK, session):
            return
        for _ in range(credit):
            if out.cursor > out.last:
                self._tell_out(Token.WALK, Answer.DONE)
                return
            if len(out.outbox) >= SEQUENCES:
                self._tell_out(Token.WALK, Answer.FULL)
                return
            array, mode = out.walk
            size = BLOCK[array]
            first = out.cursor // size
            wanted = [b for b in range(first, first + 8) if self._wants(array, mode, b)]
            block = wanted[0] if wanted else first + 7
            out.cursor = (block + 1) * size
            if wanted and block * size <= out.last:
                self._ship_block(array, block)

    def _wants(self, array: Array, mode: Mode, block: int) -> bool:
        marks = {Mode.OCCUPIED: self.used, Mode.CHANGED: self.changed}.get(mode)
        return marks is None or (array, block) in marks

    def _ship_block(self, array: Array, block: int) -> None:
        self.changed.discard((array, block))
        live = self.clients if array is Array.CLIENTS else self.flows
        here = [
            where
            for where in sorted(live)
            if (where if array is Array.CLIENTS else entry_of(where)) // BLOCK[array] == block
        ]
        content = tuple((where, live[where]) for where in here)
        for where in here:
            live[where] = 0
        self._make(array, content)

    def _make(self, array: Array, content: tuple[tuple[int, int], ...]) -> None:
        out = self.out
        sequence = len(out.outbox)
        previous = out.outbox[-1].mac if out.outbox else 0
        mac = hash((out.session, self.boot, sequence, previous, array, content)) & ((1 << 64) - 1)
        packet = SyncPacket(out.session, sequence, previous, mac, array, content)
        out.outbox.append(packet)
        self._send(packet)

    def _flow(self, session: int, _credit: int, key: int, _flags: int) -> None:
        if not self._knows(Token.FLOW, session):
            return
        self._touch(-1, key)
        if len(self.out.outbox) >= SEQUENCES:
            self._tell_out(Token.FLOW, Answer.FULL)
        elif key not in self.flows:
            self._tell_out(Token.FLOW, Answer.ABSENT)
        else:
            number, self.flows[key] = self.flows[key], 0
            self._make(Array.FLOWS, ((key, number),))

    def _resend(self, session: int, credit: int, first: int, _flags: int) -> None:
        if not self._knows(Token.RESEND, session, None):
            return
        if session not in self.sync_out or first >= len(self.out.outbox):
            self._tell_out(Token.RESEND, Answer.REFUSED)
        for packet in self.out.outbox[first : first + credit]:
            self._send(packet)

    def _undo(self, kind: Token, phase: Phase, session: int, credit: int, at_once: bool) -> None:
        out = self.out
        if not self._knows(kind, session, None):
            return
        if out.phase is Phase.OPEN:
            out.phase = phase
        if out.phase is not phase:
            self._tell_out(kind, Answer.REFUSED)
            return
        for _ in range(credit):
            if out.undo >= len(out.outbox) or at_once:
                made, last = len(out.outbox), out.outbox[-1].mac if out.outbox else 0
                self._report(Report(kind, Answer.DONE, out.round, session, made, Phase.IDLE, out.undo, last))
                self.out = Outgoing(finished=session)
                return
            packet = out.outbox[out.undo]
            out.undo += 1
            for where, number in packet.content:
                if kind is Token.RESTORE:
                    self._add(packet.array, where, number)
                elif packet.array is Array.FLOWS and self.flows.get(where) == 0:
                    del self.flows[where]

    def _restore(self, session: int, credit: int, _argument: int, _flags: int) -> None:
        self._undo(Token.RESTORE, Phase.RESTORING, session, credit, at_once=False)

    def _release(self, session: int, credit: int, _argument: int, flags: int) -> None:
        self._undo(Token.RELEASE, Phase.RELEASING, session, credit, at_once=flags == 1)

    def _open_in(self, session: int, *_: int) -> None:
        into = self.into
        mark = self.marks.get(into.session, Mark.NONE)
        if session in (0, into.finished):
            state = Answer.REFUSED
        elif session == into.session:
            state = Answer.OK
        elif mark in (Mark.OPEN, Mark.COMMITTED):
            state = Answer.BUSY
        else:
            self.into = Incoming(session, into.finished)
            state = Answer.OK
        self._tell_in(Token.OPEN_IN, state)

    def _tell_in(self, kind: Token, state: Answer, digest: int = 0, body: bytes = b"") -> None:
        into = self.into
        links = sum(
            packet.previous == (into.staged[number - 1].mac if number else 0)
            for number, packet in into.staged.items()
            if number == 0 or number - 1 in into.staged
        )
        detail = into.conflicts << 32 | into.swept
        mark = self.marks.get(into.session, Mark.NONE)
        self._report(Report(kind, state, mark, into.session, len(into.staged), links, detail, digest, body))

    def _report_in(self, _session: int, _credit: int, argument: int, _flags: int) -> None:
        half, wanted = argument >> 32, argument & 0xFFFFFFFF
        base = HALF_BITMAP if half else 0
        words = [0] * 64
        for number in self.into.staged:
            if base <= number < base + HALF_BITMAP:
                words[(number - base) // 64] |= 1 << number % 64
        packet = self.into.staged.get(wanted)
        self._tell_in(Token.REPORT_IN, Answer.OK, packet.mac if packet else 77, struct.pack(">64Q", *words))

    def _sweep(self, session: int, credit: int, *_: int) -> None:
        into = self.into
        if session == into.finished:
            self._tell_in(Token.SWEEP, Answer.DONE)
        elif session != into.session:
            self._tell_in(Token.SWEEP, Answer.UNKNOWN)
        elif self.marks.get(session) is not Mark.COMMITTED:
            self._tell_in(Token.SWEEP, Answer.REFUSED)
        else:
            for _ in range(credit):
                if into.swept >= len(into.staged):
                    into.finished, into.session = session, 0
                    self._tell_in(Token.SWEEP, Answer.DONE)
                    return
                packet = into.staged[into.swept]
                into.swept += 1
                for where, _number in packet.content:
                    staged = into.cells.pop((packet.array, where), None)
                    if staged is not None:
                        self._add(packet.array, where, staged)

    def _read_flow(self, session: int, _credit: int, key: int, _flags: int) -> None:
        state = Answer.OK if key in self.flows else Answer.ABSENT
        self._report(Report(Token.READ_FLOW, state, 0, session, 0, 0, key, 0, bytes(512)))

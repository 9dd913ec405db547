# SPDX-License-Identifier: Apache-2.0
"""A host's end of ECCP, sans I/O: datagrams, calls and timer ticks in; datagrams, inner packets and notices out.

Randomness and keys are injected, time is the caller's ``now`` (monotonic seconds).  The parts around this facade:
`peer_open`, `peer_accept` (handshakes), `peer_control`, `peer_transmit` (control packets in and out), `peer_step` (the
flow machine), `peer_timers`, `peer_data_in`, `peer_data_out`, `peer_relay`.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from controller.eccp import (
    peer_accept,
    peer_control,
    peer_data_in,
    peer_data_out,
    peer_open,
    peer_step,
    peer_timers,
)
from controller.eccp.connection import Connection, FlowEntry
from controller.eccp.cookie import CookieJar
from controller.eccp.errors import LocalError, MalformedMessageError, RefusedError
from controller.eccp.flow import Step
from controller.eccp.names import Action, FlowState
from controller.eccp.outputs import Buffer, Datagram, Delivery, Notice, TraceRow
from controller.eccp.peer_settings import PeerSettings
from controller.wire.eccp import DATA_KINDS, HEADER_SIZE, MAX_ADDRESSES, Address, Header, Kind, decode_header


class Peer:
    """All connections and flows of one host.

    Input methods never raise because of what a remote sent: refused datagrams are counted in ``refused`` by reason.
    """

    def __init__(self, settings: PeerSettings, trace: Callable[[TraceRow], None] | None = None) -> None:
        """``trace`` is told every step of every flow."""
        self.settings = settings
        self.trace = trace
        self.datapath = settings.datapath
        self.connections: dict[int, Connection] = {}
        self.flows: dict[int, FlowEntry] = {}
        self.half_open: dict[bytes, FlowEntry] = {}
        self.by_identity: dict[bytes, Connection] = {}
        self.refused: Counter[str] = Counter()
        self.listed: tuple[Address, ...] = ()
        self.generation: int = 0
        self.rendezvous: Connection | None = None
        self.cookies = CookieJar(settings.random(32))
        self.timers: list[tuple[float, int, FlowEntry]] = []
        self._datagrams: list[Datagram] = []
        self._deliveries: list[Delivery] = []
        self._notices: list[Notice] = []
        self._last_connection = 0

    # ---- calls --------------------------------------------------------------------------------------------------

    def connect(
        self, remote: Address, own: Address, now: float, *, service: int = 0, expected: bytes | None = None
    ) -> Connection:
        """Open a connection to ``remote`` from socket ``own``; ``expected`` is the peer's identity if it is known."""
        return peer_open.connect(self, remote, own, now, service=service, expected=expected)

    def add_flow(
        self, connection: Connection, remote: Address, own: Address, now: float, *, backup: bool = False
    ) -> FlowEntry:
        """Open another flow of an established connection, between these two addresses."""
        return peer_open.add_flow(self, connection, remote, own, now, backup=backup)

    def move(self, entry: FlowEntry, own: Address, now: float) -> None:
        """The flow's own address is ``own`` from now on; a move in progress is superseded."""
        entry.began_at = now
        entry.attempt = 0
        entry.awaits_data = True
        peer_step.apply(self, entry, Step(Action.MOVE, own=own), now)
        peer_data_out.resend_own(self, entry, now)

    def move_all(self, old: Address, own: Address, now: float) -> int:
        """Move every flow whose own address is ``old``; returns how many."""
        moved = 0
        for entry in list(self.flows.values()):
            if entry.flow.own_addr == old and entry.flow.state is not FlowState.CLOSED:
                self.move(entry, own, now)
                moved += 1
        return moved

    def close(self, connection: Connection, now: float) -> None:
        """Close all flows of a connection."""
        for entry in list(connection.flows):
            self.close_flow(entry, now, whole=True)

    def close_flow(self, entry: FlowEntry, now: float, *, whole: bool = False) -> None:
        """Remove one flow; the connection lives on as long as it has another."""
        peer_step.close(self, entry, now, whole=whole)

    def set_addresses(self, addresses: Iterable[Address]) -> None:
        """Further addresses of this host, told to peers in the next handshake or RSYN."""
        listed = tuple(addresses)
        if len(listed) > MAX_ADDRESSES:
            raise LocalError(f"{len(listed)} addresses; at most {MAX_ADDRESSES} can be listed")
        if listed != self.listed:
            self.listed = listed
            self.generation += 1

    def announce(self, now: float) -> None:
        """Tell every peer the present address list at once, by an RSYN with an unchanged version."""
        for entry in list(self.flows.values()):
            if entry.is_open:
                peer_step.apply(self, entry, Step(Action.RETRANSMIT, everywhere=True), now)

    def send_frame(self, connection: Connection, frame: bytes, now: float) -> bool:
        """Send one tunnel frame (virtio_net_hdr and IP packet); False if no flow can carry it now."""
        return peer_data_out.send_frame(self, connection, frame, now)

    # ---- datagrams in -------------------------------------------------------------------------------------------

    def receive(self, buffer: Buffer, source: Address, own: Address, now: float, segment: int = 0) -> None:
        """Handle what one UDP receive gave: one datagram, or (UDP GRO) many of ``segment`` bytes each.

        A writable ``buffer`` is worked on in place: deliveries are parts of it, to be taken before it is filled anew.
        """
        view = memoryview(buffer)
        if view.readonly:
            view = memoryview(bytearray(buffer))
        size = len(view)
        step = segment or size or 1
        at = 0
        while at < size:
            end = min(at + step, size)
            try:
                header = decode_header(view[at:end])
                if header.kind in DATA_KINDS:
                    at = peer_data_in.receive_run(self, header, view, at, step, source, own, now)
                    continue
                self.receive_control(header, view[at:end], source, own, now)
            except RefusedError as error:
                self.refused[error.reason] += 1
            except MalformedMessageError:
                self.refused["malformed"] += 1
            at = end

    def receive_control(
        self, header: Header, datagram: memoryview, source: Address, own: Address, now: float, *, relayed: bool = False
    ) -> None:
        """Handle one datagram that is not data.  Raises `RefusedError` or `MalformedMessageError`."""
        body = bytes(datagram[HEADER_SIZE:])
        if header.kind is Kind.SYN:
            peer_accept.receive_syn(self, header, body, source, own, now, len(datagram))
            return
        entry = self.flow(header.flow)
        if header.kind is Kind.COOKIE:
            peer_accept.receive_cookie(self, entry, body, now)
        else:
            peer_control.receive(self, entry, header, body, source, own, now, len(datagram), relayed=relayed)

    def flow(self, local_id: int) -> FlowEntry:
        """The flow with this local id: the only way datagrams are told apart.  Raises `RefusedError`."""
        entry = self.flows.get(local_id)
        if entry is None:
            raise RefusedError("unknown-flow")
        return entry

    # ---- time ---------------------------------------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """When `handle_timer` wants to be called, or None."""
        while self.timers and self.timers[0][2].armed != self.timers[0][0]:
            heapq.heappop(self.timers)
        return self.timers[0][0] if self.timers else None

    def handle_timer(self, now: float) -> None:
        """Do all that is due."""
        while (due := self.next_timer()) is not None and due <= now:
            entry = heapq.heappop(self.timers)[2]
            entry.armed = None
            peer_timers.fire(self, entry, now)

    # ---- outputs ------------------------------------------------------------------------------------------------

    def take_datagrams(self) -> Sequence[Datagram]:
        """What is to be sent, in order; each is handed out once."""
        taken, self._datagrams = self._datagrams, []
        return taken

    def take_deliveries(self) -> Sequence[Delivery]:
        """Inner packets for the tunnel; each is handed out once."""
        taken, self._deliveries = self._deliveries, []
        return taken

    def take_notices(self) -> Sequence[Notice]:
        """What happened; each is handed out once."""
        taken, self._notices = self._notices, []
        return taken

    # ---- for the parts ------------------------------------------------------------------------------------------

    def emit(self, datagram: Datagram) -> None:
        """Queue a datagram."""
        self._datagrams.append(datagram)

    def deliver(self, delivery: Delivery) -> None:
        """Queue an inner packet for the tunnel."""
        self._deliveries.append(delivery)

    def notify(self, notice: Notice) -> None:
        """Queue a notice."""
        self._notices.append(notice)

    def draw_flow_id(self) -> int:
        """A random 64-bit flow id that is not in use."""
        while True:
            candidate = int.from_bytes(self.settings.random(8), "big")
            if candidate and candidate not in self.flows:
                return candidate

    def draw_nonce(self) -> int:
        """64 random bits, not 0."""
        return int.from_bytes(self.settings.random(8), "big") or 1

    def new_connection(self, *, initiator: bool, service: int) -> Connection:
        """Register a connection without flows.  Raises `LocalError` when there are too many."""
        if len(self.connections) >= self.settings.max_connections:
            raise LocalError(f"{len(self.connections)} connections are open, the most that settings allow")
        self._last_connection += 1
        connection = Connection(self._last_connection, initiator, service)
        self.connections[connection.number] = connection
        return connection

    def new_flow(self, connection: Connection) -> FlowEntry:
        """Register a flow under a fresh id."""
        entry = FlowEntry(self.draw_flow_id(), connection)
        self.flows[entry.local_id] = entry
        connection.flows.append(entry)
        return entry

    def drop_flow(self, entry: FlowEntry) -> None:
        """Forget a flow, and its connection with the last one."""
        self.flows.pop(entry.local_id, None)
        entry.armed = None
        connection = entry.connection
        if entry in connection.flows:
            connection.flows.remove(entry)
        if self.half_open.get(connection.peer_key_exchange) is entry:
            del self.half_open[connection.peer_key_exchange]
        if not connection.flows:
            self.connections.pop(connection.number, None)
            if self.by_identity.get(connection.identity) is connection:
                del self.by_identity[connection.identity]
            if self.rendezvous is connection:
                self.rendezvous = None

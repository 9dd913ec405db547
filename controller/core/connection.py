# SPDX-License-Identifier: Apache-2.0
"""What is remembered of one connection, and the states of its life.

The record is plain data; who changes it, and when, stands in the tables of ``life`` and ``migration``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple

from controller.core import seq
from controller.core.commands import Rewrite
from controller.core.events import SegmentReceived, StateRejected, StateShipped
from controller.core.facts import Facts
from controller.core.options import Agreement
from controller.core.policy import CutPolicy, Server, Service
from controller.core.segment import ACK, SYN, ConnectionKey, Endpoint, Segment, Timestamps


class State(Enum):
    """Where a connection is in its life."""

    OPENING = "opening"
    """The client's SYN went to the origin; no answer yet."""
    GATED = "gated"
    """Handshake done; the client's first data will be held."""
    HELD = "held"
    """The client's first data is held; the verdict is awaited."""
    MOVING = "moving"
    """Data is held while a migration to a target is under way."""
    SERVED = "served"
    """A server serves it through the switch alone."""
    CLOSING = "closing"
    """Finished or reset; flows linger for retransmissions."""


class Phase(Enum):
    """How far a migration has come."""

    LOCATING = "locating"
    """The target's MAC address and port are being asked for."""
    CONNECTING = "connecting"
    """A SYN went to the target."""
    PROBING = "probing"
    """The target's handshake is finished; it has to prove that it is established."""
    AWAITING = "awaiting"
    """The target stands; word is awaited that the connection's state is in the P4 switch before it."""
    WATCHING = "watching"
    """The target stands; a moment is awaited at which nothing is under way."""
    BRAKING = "braking"
    """The client is shown zero windows; what it has under way drains through the fast path."""
    STOPPING = "stopping"
    """The client is overheard, and asked whether it stands still; then the server is shown zero windows, too."""
    MEASURING = "measuring"
    """Both ends are asked for their exact numbers; what they say reaches the controller alone."""
    COMMITTING = "committing"
    """The final flows are on their way into the switch."""
    UNDOING = "undoing"
    """It has failed in the freeze; both ends are asked for their numbers once more, so that both can go on."""


@dataclass(frozen=True, slots=True)
class Path:
    """How packets of a connection reach a server and come back.

    ``client_delta`` is added to the client's sequence numbers, ``server_delta`` to its acknowledgements, both modulo
    2^32; ``tsval_shift`` is added to the server's TSval; ``window_shift`` is the server's scale minus the origin's.
    ``ttl`` is what the server's packets show the client (None: their own), ``ip_id_shift`` is added to their
    identifications: both continue what the client has seen. ``alias`` is the client's end as the server knows it,
    where that is another than its own (``world.elsewhere``).
    """

    server: Server
    port: int
    mac: str
    client_delta: int = 0
    server_delta: int = 0
    tsval_shift: int = 0
    window_shift: int = 0
    ttl: int | None = None
    ip_id_shift: int = 0
    alias: Endpoint | None = None


class Kept(NamedTuple):
    """A packet that is kept back: its port, how much sequence space it takes; TSval and ACK in the client's view."""

    port: int
    packet: bytes | Segment
    size: int
    clock: int | None
    ack: int | None = None


def kept(event: SegmentReceived, seen: Segment) -> Kept:
    """Return what to keep of a packet that the client would see as ``seen``.

    Its SACK blocks are left out: what they speak of is out of date by the time that the packet goes on.
    """
    stamps, segment = seen.options.timestamps, event.segment
    if segment.options.sack:
        segment = replace(segment, options=replace(segment.options, sack=()), frame=None)
    ack = seen.ack if seen.has(ACK) else None
    return Kept(event.port, segment.frame or segment, seen.length, stamps and stamps.value, ack)


@dataclass(slots=True)
class Answers:
    """What one end has answered since it was stopped (``question``)."""

    base: int | None = None
    """This end has had every byte below; question number n asks with the one n places below the last of them."""
    void: int = 0
    """Answers to questions up to this one were given too early: more has been sent to the end since."""
    known: bool = False
    """Whether it has told how far it is, with nothing on the way to it any more."""
    gap: int | None = None
    """One above the newest byte that it has out of order; None while it has none."""
    words: tuple[int, int] | None = None
    same: int = 0
    counted: int = 0
    """The last answer's numbers, how often it came again, and after which question: for ends that name no byte."""


@dataclass(slots=True)
class Attempt:
    """A migration in progress: the half-made connection with the target, in the target's own numbers."""

    target: Server
    version: int
    phase: Phase
    cut_policy: CutPolicy
    started: float
    deadline: float
    syn_seq: int
    """Sequence number of our SYN; the target's next byte due is one above."""
    port: int = 0
    mac: str = ""
    alias: Endpoint | None = None
    """The client's end as the target knows it, if its own is taken there."""
    target_isn: int = 0
    target_next: int = 0
    """The target's next sequence number as we know it."""
    agreement: Agreement | None = None
    tsval: int = 0
    """Newest TSval heard from the target."""
    ip_id: int | None = None
    """Newest identification heard from the target."""
    path: Path | None = None
    token: int = 0
    banner: int = 0
    """Bytes that the target said unasked and that were discarded."""
    window: int = 0
    """The target's window field (in its own scale) as last heard."""
    frozen_at: float = 0.0
    is_told: bool = False
    """Whether the server has been shown a window of zero."""
    watched: int = 0
    """Packets that were overheard while a quiet moment was awaited."""
    owed: bool = False
    """Whether the client was the last to speak: an answer is to be expected."""
    spoken: bool = False
    """Whether the server has been overheard to say something."""
    stirred_at: float = 0.0
    """When either end was last overheard."""
    measured_at: float = 0.0
    """Since when the controller alone hears both ends."""
    installed_at: float = 0.0
    """When the final flows were sent to the switch."""
    round: int = 0
    asked_at: float = 0.0
    """How many questions were asked, and when the last one was."""
    client: Answers = field(default_factory=Answers)
    server: Answers = field(default_factory=Answers)
    kept: list[Kept] = field(default_factory=list)
    """Packets of the server that were not passed on: they are, if the freeze is undone."""
    handed: set[int] = field(default_factory=set)
    """Numbers of the client's held segments that have been sent behind the final flows already."""
    filled: int = 0
    """After which question the old server was last given bytes that it lacked."""
    client_had: int = 0
    """How much of the client's stream the old server has had: the cut, but for a request that both get."""
    client_cut: int = 0
    server_cut: int = 0
    """The cut, in the client's view, once it is chosen."""
    failure: str = ""
    """Why it is being undone."""
    state: StateShipped | StateRejected | None = None
    """What has become of the state that went ahead, if that was told before the target stood."""
    held_until: float | None = None
    """When the wait for it ended, if there was one."""


@dataclass(slots=True)
class Side:
    """What one end of the connection was last seen to say, in the client's view of the numbers."""

    isn: int = 0
    next: int = 0
    """One above the newest byte seen from this side."""
    acked: int | None = None
    """Newest acknowledgement seen from this side."""
    window: int = 0
    timestamps: Timestamps | None = None
    ttl: int | None = None
    tos: int = 0
    ip_id: int | None = None
    """Identification of its newest packet, SYNs apart: Linux counts those in another way."""
    finished: bool = False
    heard: bool = False
    exact_at: float = -1e9
    """When this side last told its numbers in answer to a question."""

    def hear(self, segment: Segment) -> None:
        """Take over what a segment of this side says, ignoring older news; the first one begins with its SYN."""
        end = seq.add(segment.seq, segment.length)
        if not self.heard:
            self.heard, self.isn, self.next = True, segment.seq, end
        elif seq.is_after(end, self.next):
            self.next = end
        if segment.has(ACK) and (self.acked is None or not seq.is_before(segment.ack, self.acked)):
            self.acked = segment.ack
            self.window = segment.window
        stamps = segment.options.timestamps
        if stamps is not None and (self.timestamps is None or seq.is_after(stamps.value, self.timestamps.value)):
            self.timestamps = stamps
        self.ttl, self.tos = segment.ttl, segment.tos
        if not segment.flags & SYN and (self.ip_id is None or (segment.ip_id - self.ip_id) & 0xFFFF < 0x8000):
            self.ip_id = segment.ip_id


@dataclass(slots=True)
class Tap:
    """The client's last request as it was overheard, and what is to be sent of it until the target has it (``tap``)."""

    start: int | None = None
    """Where it begins in the client's stream; None before the first one."""
    packets: dict[int, Kept] = field(default_factory=dict)
    size: int = 0
    is_whole: bool = True
    """Whether nothing of it had to be left out."""
    is_answered: bool = False
    """Whether the server has said something since."""
    owed_until: int | None = None
    """The target has to acknowledge so far, or is given the request again."""
    tries: int = 0


@dataclass(slots=True)
class Connection:
    """One connection of a service."""

    key: ConnectionKey
    number: int
    service: Service
    switch: int
    syn: Segment
    client_port: int
    path: Path
    """Where the connection is served now."""
    opened: float
    state: State = State.OPENING
    version: int = 0
    flow_version: int = 0
    """The version that its flows carry: a migration that failed has left them as they were."""
    client: Side = field(default_factory=Side)
    origin: Side = field(default_factory=Side)
    """The server that serves now, in the client's view of its numbers."""
    agreement: Agreement | None = None
    held: dict[int, Kept] = field(default_factory=dict)
    """Client segments kept back, by sequence number."""
    held_bytes: int = 0
    pending: tuple[str, str | None, str] | None = None
    """Verdict, target and cause that came before the data they speak of."""
    attempt: Attempt | None = None
    tap: Tap | None = None
    cut_at: int = 0
    """Where the server that serves now began in the client's stream."""
    wish: tuple[Server, CutPolicy] | None = None
    """Where to go next, and when to cut, once the migration under way is through."""

    @property
    def is_open(self) -> bool:
        """Return whether its packets pass the switch, or did until a freeze: no gate holds them."""
        return self.state in (State.SERVED, State.CLOSING)

    @property
    def is_overheard(self) -> bool:
        """Return whether flows that let the controller overhear both ends may stand."""
        return self.tap is not None or (self.attempt is not None and self.attempt.cut_policy is CutPolicy.QUIET)

    @property
    def service_mac(self) -> str:
        """Return the MAC address that the client sends to: the origin's, as the client knows it."""
        return self.syn.eth_dst

    @property
    def mss(self) -> int:
        """Return how many payload bytes fit into one of the client's segments (timestamps take 12)."""
        if self.agreement is None:
            return 536
        return self.agreement.mss - (12 if self.agreement.timestamps else 0)


@dataclass(slots=True)
class Drain:
    """A server that is being emptied: who is still to be asked, who is on the way, how it went so far."""

    request: str
    server: str
    target: str | None
    queue: deque[Connection]
    deadline: float = 0.0
    """Until when those that failed are tried again."""
    again: deque[tuple[float, Connection]] = field(default_factory=deque)
    """Who is to be tried again, and when."""
    moving: list[Connection] = field(default_factory=list)
    moved: int = 0
    failed: int = 0
    skipped: int = 0
    told_at: float = -1e9
    """When progress was last published."""
    turn: int = 0
    """Counts whom the next connection is given to."""


def rewrite_to_server(path: Path) -> Rewrite:
    """Return the edits that turn the client's packets into ones for the path's server."""
    return Rewrite(
        eth_dst=path.mac,
        ip_dst=path.server.endpoint.address,
        tcp_src=path.alias.port if path.alias is not None else None,
        tcp_dst=path.server.endpoint.port,
        seq=path.client_delta,
        ack=path.server_delta,
        tsecr=seq.add(0, -path.tsval_shift),
    )


def rewrite_to_client(connection: Connection, path: Path) -> Rewrite:
    """Return the edits that give the server's packets the origin's face."""
    return Rewrite(
        eth_src=connection.service_mac,
        ip_src=connection.key.service.address,
        tcp_src=connection.key.service.port,
        tcp_dst=connection.key.client.port if path.alias is not None else None,
        seq=seq.add(0, -path.server_delta),
        ack=seq.add(0, -path.client_delta),
        tsval=path.tsval_shift,
        window_shift=path.window_shift,
        ttl=path.ttl,
        ip_id=path.ip_id_shift,
    )


def facts_of(connection: Connection, path: Path) -> Facts:
    """Return what a controller that takes the connection over will have to know besides its flows."""
    syn, client, origin = connection.syn, connection.client, connection.origin
    return Facts(
        client_isn=client.isn,
        origin_isn=origin.isn,
        client_mac=syn.eth_src,
        service_mac=syn.eth_dst,
        client_port=connection.client_port,
        syn_window=syn.window,
        ttl=syn.ttl,
        tos=syn.tos,
        opened=connection.opened,
        client_clock=client.timestamps.value if client.timestamps is not None else 0,
        server_clock=origin.timestamps.value if origin.timestamps is not None else 0,
        client_window=client.window,
        server_window=origin.window,
        window_shift=path.window_shift,
        agreement=connection.agreement,
        server_ttl=origin.ttl or path.ttl or 0,
    )

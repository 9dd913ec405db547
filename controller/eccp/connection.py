# SPDX-License-Identifier: Apache-2.0
"""What a host holds of a connection and of each of its flows, around the pure `Flow`."""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.eccp.budget import Budget
from controller.eccp.flow import Flow
from controller.eccp.handshake import Handshake
from controller.eccp.keys import KeySchedule, Secrets, run_of_numbers
from controller.eccp.names import FlowState
from controller.eccp.replay import ReplayWindow
from controller.eccp.ring import Ring
from controller.eccp.rtt import Rtt
from controller.eccp.table import OPEN_STATES
from controller.wire.eccp import Address, Hello

CARRIES_DATA = frozenset({FlowState.ESTABLISHED, FlowState.MOVING})


@dataclass(slots=True, eq=False)
class FlowEntry:
    """One flow at this host: the protocol's state, and its keys, numbers and timers.

    ``generation`` counts validations of the peer's address (the ring's epoch); times are the caller's ``now``.
    """

    local_id: int
    connection: Connection
    flow: Flow = field(default_factory=Flow)
    remote_id: int = 0
    keys_out: KeySchedule | None = None
    keys_in: KeySchedule | None = None
    next_number: int = 0
    window: ReplayWindow = field(default_factory=ReplayWindow)
    rtt: Rtt = field(default_factory=Rtt)
    budget: Budget = field(default_factory=Budget)
    ring: Ring = field(default_factory=Ring)
    generation: int = 0
    weight: float = 1.0
    is_backup: bool = False
    closing_whole: bool = False
    opened_here: bool = False
    added: bool = False  # opened inside a connection that had its keys already
    seen_pn: int = -1  # newest number of data from the active address; merged into the flow before its next step
    cookies_taken: int = 0
    last_tried: Address | None = None  # own address tried last when the path was lost
    syn_window: ReplayWindow = field(default_factory=ReplayWindow)  # numbers of SYNs, which nothing authenticates
    # timers
    attempt: int = 0
    retransmit_at: float | None = None
    ping_at: float | None = None
    expire_at: float | None = None
    armed: float | None = None
    began_at: float = 0.0  # when the opening or the newest own move began
    awaits_data: bool = False  # moved, and no data has come to the new address yet
    heard_at: float = 0.0  # newest authenticated packet
    own_heard_at: float = 0.0  # ... that came to the flow's own address
    unheard_since: float | None = None  # first data sent since then
    ping_nonce: int = 0
    ping_sent_at: float = 0.0
    pings_unanswered: int = 0
    lost: bool = False

    @property
    def carries_data(self) -> bool:
        """Whether the flow may be chosen for data now."""
        return self.flow.state in CARRIES_DATA and not self.lost and self.keys_out is not None

    @property
    def is_open(self) -> bool:
        """Whether the flow is established, moving or closing."""
        return self.flow.state in OPEN_STATES

    @property
    def name(self) -> int:
        """The opener's flow id: the same at both ends."""
        return self.local_id if self.opened_here else self.remote_id

    def take_number(self, count: int = 1) -> int:
        """The next packet number; ``count`` consecutive ones, all under one key, are taken."""
        number = run_of_numbers(self.next_number, count)
        self.next_number = number + count
        return number


@dataclass(slots=True, eq=False)
class Connection:
    """Two hosts' association: keys, who the peer is, where else it lives, and its flows in order of opening."""

    number: int
    initiator: bool
    service: int
    flows: list[FlowEntry] = field(default_factory=list)
    handshake: Handshake | None = None
    secrets: Secrets | None = None
    syn_ack_keys: KeySchedule | None = None
    key_exchange: bytes = b""  # our newest Noise message; the first and third are sent again
    peer_key_exchange: bytes = b""  # the peer's first Noise message, by which a repeated SYN is known
    cookie: bytes = b""
    key_confirmed: bool = False  # the peer has proved that it holds the keys
    identity: bytes = b""
    sealed_data: bool = True
    peer_listed: tuple[Address, ...] = ()
    peer_generation: int = -1
    hello: Hello | None = None
    allowed_inner: frozenset[bytes] | None = None  # packed inner addresses the peer may send from; None: any
    established: bool = False
    ended: bool = False

    def open_flow(self) -> FlowEntry | None:
        """The first flow over which control messages can go."""
        return next((entry for entry in self.flows if entry.is_open), None)

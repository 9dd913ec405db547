# SPDX-License-Identifier: Apache-2.0
"""Everything that the core can ask for, as frozen values in the imperative, carried out in the order given.

A ``token`` above 0 on a barrier or bundle is answered by ``BarrierReplied``; on any command ``CommandRefused``
brings it back when the switch said no.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from controller.core.facts import Facts
from controller.core.segment import ConnectionKey, IcmpError, Segment


class Port(Enum):
    """OpenFlow's reserved ports, by name."""

    NORMAL = "normal"
    TABLE = "table"
    FLOOD = "flood"
    CONTROLLER = "controller"
    IN_PORT = "in_port"


@dataclass(frozen=True, slots=True)
class Match:
    """What a flow matches; None is a wildcard.

    Addresses in text form decide IPv4 or IPv6; ``vlan`` is a VLAN id; ``tcp_flags`` is (value, mask).
    """

    ether_type: int | None = None
    in_port: int | None = None
    eth_src: str | None = None
    eth_dst: str | None = None
    vlan: int | None = None
    ip_src: str | None = None
    ip_dst: str | None = None
    ip_proto: int | None = None
    tcp_src: int | None = None
    tcp_dst: int | None = None
    tcp_flags: tuple[int, int] | None = None
    icmpv6_type: int | None = None
    icmpv4_type: int | None = None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Header edits, in this order: addresses and ports, then numbers.

    Amounts are added modulo 2^32; 0 and None leave alone. ``ack`` moves the SACK edges too. ``window_shift`` shifts
    left when positive; ``window`` overrides the field. ``ttl`` sets TTL or hop limit, ``ip_id`` is added modulo 2^16
    to an IPv4 packet's identification.
    """

    eth_src: str | None = None
    eth_dst: str | None = None
    ip_src: str | None = None
    ip_dst: str | None = None
    tcp_src: int | None = None
    tcp_dst: int | None = None
    ttl: int | None = None
    seq: int = 0
    ack: int = 0
    tsval: int = 0
    tsecr: int = 0
    window_shift: int = 0
    window: int | None = None
    ip_id: int = 0


@dataclass(frozen=True, slots=True)
class Output:
    """Send out of a port; ``max_len`` bounds what the controller gets of a packet (65535: all of it)."""

    port: int | Port
    max_len: int = 65535


@dataclass(frozen=True, slots=True)
class FinTimeout:
    """Shorten the flow's idle timeout (seconds) once it has carried FIN or RST (Nicira ``fin_timeout``)."""

    idle: int
    hard: int = 0


Action = Rewrite | Output | FinTimeout


@dataclass(frozen=True, slots=True)
class FlowAdd:
    """Install or replace a flow; no actions and no ``goto`` means drop. Timeouts in whole seconds, 0 for none.

    ``facts`` are kept with the flow, for the controller that reads it one day.
    """

    switch: int
    table: int
    priority: int
    match: Match
    actions: tuple[Action, ...] = ()
    goto: int | None = None
    meter: int | None = None
    cookie: int = 0
    idle_timeout: int = 0
    hard_timeout: int = 0
    notify_removed: bool = False
    token: int = 0
    facts: Facts | None = None


@dataclass(frozen=True, slots=True)
class FlowDelete:
    """Delete flows by cookie (under ``cookie_mask``) and by match.

    ``priority`` makes the match strict; table None is all of them.
    """

    switch: int
    table: int | None = None
    match: Match | None = None
    priority: int | None = None
    cookie: int = 0
    cookie_mask: int = 0
    token: int = 0


@dataclass(frozen=True, slots=True)
class ReadFlows:
    """Ask which flows of a table carry a cookie (under ``cookie_mask``); ``FlowsReported`` brings the answer."""

    switch: int
    table: int
    cookie: int
    cookie_mask: int
    token: int


@dataclass(frozen=True, slots=True)
class MeterAdd:
    """Install or replace a meter that drops what exceeds ``rate`` packets/s (bursts of ``burst`` packets allowed)."""

    switch: int
    meter: int
    rate: int
    burst: int
    token: int = 0


@dataclass(frozen=True, slots=True)
class Bundle:
    """Apply flow changes as one atomic and ordered transaction (OpenFlow 1.4 bundles)."""

    switch: int
    changes: tuple[FlowAdd | FlowDelete, ...]
    token: int = 0


@dataclass(frozen=True, slots=True)
class Barrier:
    """Ask to be told when everything sent before has been done."""

    switch: int
    token: int


@dataclass(frozen=True, slots=True)
class PacketOut:
    """Send a packet: a frame as it is, or a segment that the adapter encodes with full checksums.

    ``in_port`` is where the packet claims to have entered (None: from the controller). A TCP payload longer than
    ``mss`` bytes is cut into several frames: a punted GSO packet has lost its offload flags.
    """

    switch: int
    packet: bytes | Segment | IcmpError
    actions: tuple[Action, ...]
    in_port: int | None = None
    mss: int = 0


@dataclass(frozen=True, slots=True)
class ResolveHost:
    """Ask by ARP or neighbour discovery, out of every port of the switch, who has this address (on a VLAN)."""

    switch: int
    address: str
    vlan: int | None = None


@dataclass(frozen=True, slots=True)
class AnswerHost:
    """Tell ``asker``, behind ``port``, by ARP or neighbour discovery, that ``address`` is at ``mac``."""

    switch: int
    port: int
    address: str
    mac: str
    asker: str
    asker_mac: str
    vlan: int | None = None


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Hand back ``TimerExpired`` with these facts at (monotonic) ``when``."""

    when: float
    connection: ConnectionKey | None
    version: int
    kind: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Put an event on the bus and into the journal."""

    event: object


Command = (
    FlowAdd
    | FlowDelete
    | ReadFlows
    | MeterAdd
    | Bundle
    | Barrier
    | PacketOut
    | ResolveHost
    | AnswerHost
    | WakeAt
    | Publish
)

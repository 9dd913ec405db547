# SPDX-License-Identifier: Apache-2.0
"""Everything that can have happened, as frozen values in the past tense.

The first group is what adapters tell the core; the second crosses rooms on the bus and is kept in the journal.
Dispatch on the bus is by exact class. ``time`` is monotonic seconds of the machine that saw the event.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from controller.core.commands import FlowAdd
from controller.core.segment import ConnectionKey, Endpoint, IcmpError, Segment


class Verdict(Enum):
    """What a rule asks for when it fires."""

    FORWARD = "forward"
    MIGRATE = "migrate"
    RETURN = "return"
    DROP = "drop"


# ---- what adapters tell the core ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SegmentReceived:
    """A switch handed over a TCP segment that entered at ``port``; ``cookie`` is of the flow that punted it."""

    switch: int
    port: int
    segment: Segment
    cookie: int = 0


@dataclass(frozen=True, slots=True)
class HostLocated:
    """A host with this address and MAC was heard (ARP or ND) behind ``port``; perhaps it ``asks`` for another's MAC."""

    switch: int
    port: int
    address: str
    mac: str
    asks: str | None = None
    vlan: int | None = None


@dataclass(frozen=True, slots=True)
class IcmpErrorReceived:
    """Somebody has told a sender of TCP segments that one of them did not get through; the switch has passed it on."""

    switch: int
    error: IcmpError


@dataclass(frozen=True, slots=True)
class TimerExpired:
    """The time of a ``WakeAt`` command has come."""

    connection: ConnectionKey | None
    version: int
    kind: str


@dataclass(frozen=True, slots=True)
class BarrierReplied:
    """The switch has done all that was sent before the barrier (or bundle commit) with this token."""

    switch: int
    token: int


@dataclass(frozen=True, slots=True)
class CommandRefused:
    """The switch refused a command; ``token`` is the command's, ``reason`` OpenFlow's words."""

    switch: int
    token: int
    reason: str


@dataclass(frozen=True, slots=True)
class FlowRemoved:
    """A flow that asked for it has left the switch; ``reason`` is ``idle``, ``hard``, ``delete`` or ``other``."""

    switch: int
    cookie: int
    reason: str
    packets: int
    bytes: int


class FoundFlow(NamedTuple):
    """A flow as the switch tells it, as the command that would make it, and what it has carried."""

    flow: FlowAdd
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class FlowsReported:
    """The switch answers ``ReadFlows``; ``more`` says that another part of the answer follows."""

    switch: int
    token: int
    flows: tuple[FoundFlow, ...]
    more: bool


# ---- what crosses rooms -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SwitchConnected:
    """A switch is ready and has every action that we need; ``ports`` maps names to numbers."""

    time: float
    switch: int
    ports: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class SwitchLost:
    """The OpenFlow channel of a switch is gone; its flows go on working."""

    time: float
    switch: int


@dataclass(frozen=True, slots=True)
class ConnectionsTakenOver:
    """A controller has found connections of an earlier one in a switch, and has them in its table now.

    ``served`` go on untouched; ``gated`` await their verdict; ``released`` were held when the earlier controller died,
    too early to know them: their service's default verdict applies; ``undone`` had a migration under way.
    """

    time: float
    switch: int
    served: int
    gated: int
    released: int
    undone: int


@dataclass(frozen=True, slots=True)
class AlertRaised:
    """An intrusion-detection system reported a packet.

    ``engine`` is ``snort2``, ``snort3`` or ``suricata``; ``src`` and ``dst`` are None where the alert has no TCP
    packet; ``seq`` and ``payload`` are of the packet, as far as the engine gave them; ``raised_at`` is the engine's
    own wall time.
    """

    time: float
    engine: str
    sid: int
    gid: int
    rev: int
    message: str
    classtype: str
    priority: int
    src: Endpoint | None
    dst: Endpoint | None
    seq: int | None = None
    payload: bytes = field(default=b"", repr=False)
    raised_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ConnectionOpened:
    """A connection of a service has finished its handshake with its origin.

    ``agreed`` is what its SYN-ACK said (``facts.pairs_of``): a controller that takes over needs it.
    """

    time: float
    connection: ConnectionKey
    version: int
    origin: str
    number: int
    agreed: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """A connection is over and its state freed; ``reason`` is ``fin``, ``rst``, ``idle``, ``reused`` or ``dropped``."""

    time: float
    connection: ConnectionKey
    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class RequestHeld:
    """The first data of a gated connection is held until the verdict."""

    time: float
    connection: ConnectionKey
    version: int
    bytes: int


@dataclass(frozen=True, slots=True)
class VerdictReached:
    """It is decided what happens to a connection; ``cause`` is ``sid N``, ``default``, ``operator`` or ``failure``."""

    time: float
    connection: ConnectionKey
    version: int
    verdict: Verdict
    cause: str
    target: str | None = None


@dataclass(frozen=True, slots=True)
class MigrationRequested:
    """Somebody (an operator, another app) asks to move a connection to the named server."""

    time: float
    connection: ConnectionKey
    target: str
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class MigrationStarted:
    """The handshake with the target has begun."""

    time: float
    connection: ConnectionKey
    version: int
    origin: str
    target: str


@dataclass(frozen=True, slots=True)
class TargetEstablished:
    """The target has answered the exact probe: the connection stands there too."""

    time: float
    connection: ConnectionKey
    version: int
    target: str


@dataclass(frozen=True, slots=True)
class MigrationCompleted:
    """The cut is behind: the client's bytes go to the target, and back.

    The cuts are positions in the client's view; the deltas (modulo 2^32) lead from there to the target's numbers.
    ``frozen`` is for how many seconds an end could not send: ``stopping`` until both stood still, ``measuring`` until
    both had told their numbers, ``installing`` until the switch had confirmed the final flows.
    """

    time: float
    connection: ConnectionKey
    version: int
    origin: str
    target: str
    client_cut: int
    server_cut: int
    client_delta: int
    server_delta: int
    held_bytes: int = 0
    frozen: float = 0.0
    stopping: float = 0.0
    measuring: float = 0.0
    installing: float = 0.0


@dataclass(frozen=True, slots=True)
class MigrationFailed:
    """A migration was given up before the cut; the connection is where it was."""

    time: float
    connection: ConnectionKey
    version: int
    target: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class MigrationRolledBack:
    """A migration that had already stopped the origin has been undone; the origin serves again."""

    time: float
    connection: ConnectionKey
    version: int
    target: str
    reason: str


@dataclass(frozen=True, slots=True)
class StatusRequested:
    """Somebody asks for a page of the table of connections; the answer carries the same ``request``.

    ``match`` is a client's port, or how the connection's name begins (empty: all); ``after`` is the number of the last
    connection of the page before.
    """

    time: float
    request: str
    match: str = ""
    after: int = 0
    limit: int = 256


@dataclass(frozen=True, slots=True)
class ConnectionReported:
    """A row of the table: ``server`` has the connection now; ``phase`` and ``target`` are of a migration under way.

    ``state`` and ``phase`` are the words of ``connection.State`` and ``Phase``; ``age`` is in seconds. ``bytes`` is
    what the switch has carried both ways, headers included, since the connection came where it is (None: not known).
    """

    time: float
    request: str
    connection: ConnectionKey
    version: int
    number: int
    service: str
    origin: str
    server: str
    state: str
    age: float
    phase: str | None = None
    target: str | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class StatusReported:
    """The page is complete; ``more`` says whether another follows, which begins after the connection ``last``.

    ``servers`` counts, for every server that the settings name, the connections that this page has looked at. ``role``
    is this controller's, ``master`` or ``standby``, where two share the switches.
    """

    time: float
    request: str
    more: bool
    last: int
    servers: tuple[tuple[str, int], ...] = ()
    role: str = ""


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """Somebody asks to move every connection away from a server: to ``target``, or to where each may go."""

    time: float
    request: str
    server: str
    target: str | None = None


@dataclass(frozen=True, slots=True)
class DrainProgressed:
    """A server is being drained: how many of its connections are elsewhere, stayed, and are still to come."""

    time: float
    request: str
    server: str
    moved: int
    failed: int
    left: int


@dataclass(frozen=True, slots=True)
class DrainCompleted:
    """Every connection that was at the server has been tried; ``skipped`` ended, or had no verdict yet."""

    time: float
    request: str
    server: str
    moved: int
    failed: int
    skipped: int


@dataclass(frozen=True, slots=True)
class DrainFailed:
    """A server cannot be drained as asked; nothing was moved."""

    time: float
    request: str
    server: str
    reason: str


@dataclass(frozen=True, slots=True)
class SwitchAssigned:
    """It was settled what a switch does: take connections in hand, or only forward."""

    time: float
    switch: int
    rewrites: bool


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """From now on this controller is ``master``, or ``standby``, of two that share their switches."""

    time: float
    role: str
    generation: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class BackendFailed:
    """A server does not answer any more."""

    time: float
    server: str
    detail: str


@dataclass(frozen=True, slots=True)
class BackendRecovered:
    """A server that had failed answers again."""

    time: float
    server: str


@dataclass(frozen=True, slots=True)
class FlowMoved:
    """One end of an ECCP flow is reached elsewhere from ``version`` on; ``host`` names the daemon that says so.

    ``who`` is ``own`` (that host moved) or ``peer``; ``own`` and ``peer`` are the path's two outer UDP ends now.
    ``identity`` (of the peer) and ``flow`` (the host's own id) are hexadecimal.
    """

    time: float
    host: str
    identity: str
    flow: str
    version: int
    who: str
    own: Endpoint
    peer: Endpoint


@dataclass(frozen=True, slots=True)
class StateFollowed:
    """From now on, the state in P4 switches of these services' connections follows them between these servers.

    For every migration between two of them, `StateShipped` or `StateRejected` with ``ahead`` tells what became of it.
    """

    time: float
    services: tuple[str, ...]
    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StateShipRequested:
    """Somebody asks to ship a P4 switch's state to another one: ``all`` of it, or only the ``changes``."""

    time: float
    request: str
    source: str
    destination: str
    what: str = "all"


@dataclass(frozen=True, slots=True)
class StateShipped:
    """State has been shipped, verified and committed; ``connection`` is None where it was not for a single one.

    ``left`` flows had to stay: their entries at the destination belong to others. ``request`` is of who asked.
    ``ahead`` is a connection's state before its cutover; the rest follows.
    """

    time: float
    source: str
    destination: str
    packets: int
    left: int
    seconds: float
    connection: ConnectionKey | None = None
    version: int = 0
    request: str = ""
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class StateRejected:
    """State was not shipped, and ``reason`` says why: both switches are as before, unless it says ``lost``."""

    time: float
    source: str
    destination: str
    reason: str
    connection: ConnectionKey | None = None
    version: int = 0
    request: str = ""
    ahead: bool = False

# SPDX-License-Identifier: Apache-2.0
"""What the state machines share: the policy, what was learned, the connections, and the commands being gathered."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from controller.core.commands import Action, Command, FlowAdd, Output, PacketOut, Port, Publish, WakeAt
from controller.core.connection import Connection, Drain, State
from controller.core.events import StatusReported
from controller.core.facts import Opened
from controller.core.locations import Locations
from controller.core.policy import Policy
from controller.core.segment import ConnectionKey, Endpoint, Segment

FIRST_OTHER_PORT, OTHER_PORTS, PORT_STEP = 61_000, 4_536, 1_009
RELEASE: tuple[Action, ...] = (Output(Port.TABLE),)
"""Send a packet through the flow tables as they are now."""


@dataclass(slots=True)
class Reading:
    """A switch is being asked for its flows: those that have come so far, and the events that wait for the rest."""

    token: int
    flows: list[FlowAdd] = field(default_factory=list)
    waiting: list[object] = field(default_factory=list)


@dataclass(slots=True)
class Look:
    """A question how much of a connection was copied by the flows of this version."""

    connection: Connection
    version: int


@dataclass(slots=True)
class Answer:
    """A page of the table of connections that waits for the counters of ``missing`` switches."""

    rows: list[Connection]
    end: StatusReported
    bytes: Counter[int] = field(default_factory=Counter)
    """By connection number."""
    missing: int = 0


class World:
    """The mutable whole; one for each controller."""

    def __init__(self, policy: Policy, now: float = 0.0) -> None:
        """Begin with no switch and no connection."""
        self.policy = policy
        self.now = now
        self.out: list[Command] = []
        self.locations = Locations()
        self.ports: dict[int, dict[str, int]] = {}
        self.services = {service.origin.endpoint: service for service in policy.services}
        self.connections: dict[ConnectionKey, Connection] = {}
        self.numbers: dict[int, Connection] = {}
        self.opening: OrderedDict[ConnectionKey, None] = OrderedDict()
        """Half-open connections, oldest first."""
        self.targets: dict[ConnectionKey, Connection] = {}
        """(client as known there, target's endpoint) of connections that are at a target, or on their way."""
        self.away: dict[tuple[str, str], dict[int, Connection]] = {}
        """Connections that are, or were, at a target, by the addresses of client and service, and by number."""
        self.tokens: dict[int, Connection] = {}
        self.locating: dict[str, list[ConnectionKey]] = {}
        """Connections that wait for the location of a target, by its address."""
        self.drains: dict[str, Drain] = {}
        """Servers that are being drained, by name."""
        self.rewriting: dict[int, int] = {}
        """The switches that rewrite, where the settings name none, with their claims (core/assignment.py).

        One, unless several held connections already.
        """
        self.spare: dict[int, int] = {}
        """Switches that forward only because another one does what they could, with their claims."""
        self.readings: dict[int, Reading] = {}
        """Switches that have not told their flows yet."""
        self.looks: dict[int, Look] = {}
        """Questions how much has been copied to the analyser, by token."""
        self.remembered: dict[tuple[ConnectionKey, int], Opened] = {}
        """What the journal tells of connections by name and number, should one turn up in a switch."""
        self.completed: dict[ConnectionKey, int] = {}
        """The newest version whose move the journal calls complete."""
        self.followed: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
        """Services, and servers, with whose connections state in P4 switches goes along."""
        self.answers: dict[int, tuple[int, Answer]] = {}
        """Pages that wait for a switch's counters, by the token of the question."""
        self._number = 0
        self._token = 0

    def number(self) -> int:
        """Return a connection number that is free (32 bits, never 0)."""
        while True:
            self._number = (self._number + 1) & 0xFFFFFFFF or 1
            if self._number not in self.numbers:
                return self._number

    def token(self, connection: Connection) -> int:
        """Return a fresh token whose answer will find the connection."""
        token = self.fresh_token()
        self.tokens[token] = connection
        return token

    def fresh_token(self) -> int:
        """Return a token that no command has had."""
        self._token += 1
        return self._token

    def mirror(self, switch: int) -> tuple[Output, ...]:
        """Return where copies for the analyser go on this switch: nowhere, if it has no such port."""
        name = self.policy.analyser_port
        port = self.ports.get(switch, {}).get(name) if name else None
        return () if port is None else (Output(port),)

    def do(self, *commands: Command) -> None:
        """Append commands to what the adapter will carry out."""
        self.out.extend(commands)

    def publish(self, event: object) -> None:
        """Append an event for the bus."""
        self.out.append(Publish(event))

    def wake(self, connection: Connection, after: float, kind: str) -> None:
        """Ask for a timer that belongs to the connection's present version."""
        self.out.append(WakeAt(self.now + after, connection.key, connection.version, kind))

    def release(
        self, connection: Connection, port: int, packet: bytes | Segment, edits: tuple[Action, ...] = ()
    ) -> None:
        """Send a packet of the connection, edited, through the flow tables, as if it entered at ``port`` now."""
        self.out.append(PacketOut(connection.switch, packet, edits + RELEASE, in_port=port, mss=connection.mss))

    def send(self, connection: Connection, segment: Segment, port: int) -> None:
        """Send a segment of our own making out of a port."""
        self.out.append(PacketOut(connection.switch, segment, (Output(port),), mss=connection.mss))

    def aim(self, connection: Connection, endpoint: Endpoint, client: Endpoint | None = None) -> None:
        """From now on, what ``endpoint`` sends to the client (as known there) belongs to this connection."""
        self.targets[ConnectionKey(client or connection.key.client, endpoint)] = connection
        self.away.setdefault(_addresses(connection), {})[connection.number] = connection

    def unaim(self, connection: Connection, endpoint: Endpoint, client: Endpoint | None = None) -> None:
        """What ``endpoint`` sends to the client belongs to nobody any more."""
        key = ConnectionKey(client or connection.key.client, endpoint)
        if self.targets.get(key) is connection:
            del self.targets[key]

    def is_taken(self, connection: Connection, client: Endpoint, endpoint: Endpoint) -> bool:
        """Return whether another connection goes from this end to that one."""
        key = ConnectionKey(client, endpoint)
        return any(known.get(key, connection) is not connection for known in (self.targets, self.connections))

    def elsewhere(self, connection: Connection, endpoint: Endpoint, last: Endpoint | None = None) -> Endpoint | None:
        """Return an end of the client's, with another port, that no connection to this server has, if there is one.

        ``last`` is the one that was tried in vain. The ports are above those that clients choose by themselves.
        """
        own = connection.key.client
        begin = own.port if last is None else last.port - FIRST_OTHER_PORT + PORT_STEP
        for number in range(OTHER_PORTS):
            client = own._replace(port=FIRST_OTHER_PORT + (begin + number * PORT_STEP) % OTHER_PORTS)
            if client not in (own, last) and not self.is_taken(connection, client, endpoint):
                return client
        return None

    def add(self, connection: Connection) -> None:
        """Remember a new connection; numbers that come later are greater, so that no flow of an older one has them."""
        self._number = max(self._number, connection.number)
        self.connections[connection.key] = connection
        self.numbers[connection.number] = connection
        self.opening[connection.key] = None

    def settle(self, connection: Connection, state: State) -> None:
        """Move a connection to a state; it is half-open no more."""
        connection.state = state
        self.opening.pop(connection.key, None)

    def forget(self, connection: Connection) -> None:
        """Drop every trace of a connection, which has no migration under way, but its flows."""
        del self.connections[connection.key]
        del self.numbers[connection.number]
        self.opening.pop(connection.key, None)
        self.unaim(connection, connection.path.server.endpoint, connection.path.alias)
        fellows = self.away.get(_addresses(connection), {})
        fellows.pop(connection.number, None)
        if not fellows:
            self.away.pop(_addresses(connection), None)


def _addresses(connection: Connection) -> tuple[str, str]:
    """Return the addresses of client and service."""
    return connection.key.client.address, connection.key.service.address

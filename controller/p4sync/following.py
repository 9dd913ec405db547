# SPDX-License-Identifier: Apache-2.0
"""What migrations mean for switches: which flow's state goes where, and when. Pure: events in, wishes out.

Before the cutover a connection's verdict and counts go ahead, and its flow stays known at the source; after it the rest
follows and the source forgets the flow. What went ahead of a migration that comes to nothing is brought back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.core import events
from controller.core.segment import ConnectionKey, Endpoint
from controller.p4sync.protocol import Verdict, flow_key

VERDICTS = {
    events.Verdict.FORWARD: Verdict.FORWARD,
    events.Verdict.MIGRATE: Verdict.FORWARD,
    events.Verdict.RETURN: Verdict.FORWARD,
    events.Verdict.DROP: Verdict.DROP,
}


@dataclass(frozen=True, slots=True)
class SetVerdict:
    """Tell a switch what to do with a flow's packets."""

    switch: str
    key: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class ShipFlow:
    """Ship a flow's state; ``release``: the source forgets it, once its last packets have passed."""

    source: str
    destination: str
    key: int
    release: bool
    connection: ConnectionKey
    version: int

    @property
    def is_ahead(self) -> bool:
        """Return whether a cutover may wait for it."""
        return not self.release


Wish = SetVerdict | ShipFlow


@dataclass(slots=True)
class _Ahead:
    """What went ahead of a migration: it may still be on its way, and it may not be wanted any more."""

    event: events.MigrationStarted
    key: int
    is_there: bool = False
    is_unwanted: bool = False


class Following:
    """Follows connections from server to server."""

    def __init__(self, switches: Mapping[str, str], services: Mapping[Endpoint, tuple[str, int]]) -> None:
        """Take which switch is before a server (by name), and each service's origin and number by its address."""
        self._switches, self._services = switches, services
        self._places: dict[ConnectionKey, str] = {}
        self._ahead: dict[tuple[ConnectionKey, int], _Ahead] = {}

    def handle(self, event: Any) -> list[Wish]:
        """Take an event of the bus; returns what is to be done, in order."""
        key = self._key_of(getattr(event, "connection", None))
        if key is None:
            return []
        match event:
            case events.VerdictReached():
                return self._verdict(event, key)
            case events.MigrationStarted():
                return self._started(event, key)
            case events.MigrationCompleted():
                self._ahead.pop((event.connection, event.version), None)
                self._places[event.connection] = event.target
                return self._ship(event, key, event.origin, event.target, release=True)
            case events.MigrationFailed() | events.MigrationRolledBack():
                return self._unwanted((event.connection, event.version))
            case events.StateShipped(ahead=True) | events.StateRejected(ahead=True):
                return self._arrived(event, (event.connection, event.version))
            case events.ConnectionClosed():
                self._places.pop(event.connection, None)
                ended = [name for name in self._ahead if name[0] == event.connection]
                return [wish for name in ended for wish in self._unwanted(name)]
        return []

    def _key_of(self, connection: ConnectionKey | None) -> int | None:
        """Return a connection's flow key; None for one that no switch counts (IPv6, or no service with a number)."""
        if connection is None or connection.service not in self._services or ":" in connection.client.address:
            return None
        return flow_key(connection.client.address, connection.client.port, self._services[connection.service][1])

    def _verdict(self, event: events.VerdictReached, key: int) -> list[Wish]:
        server = self._places.get(event.connection, self._services[event.connection.service][0])
        switch = self._switches.get(server)
        return [SetVerdict(switch, key, VERDICTS[event.verdict])] if switch else []

    def _started(self, event: events.MigrationStarted, key: int) -> list[Wish]:
        wishes = self._ship(event, key, event.origin, event.target, release=False)
        if wishes:
            self._ahead[event.connection, event.version] = _Ahead(event, key)
        return wishes

    def _arrived(
        self, event: events.StateShipped | events.StateRejected, name: tuple[ConnectionKey, int]
    ) -> list[Wish]:
        """Bring back at once what is there when nobody wants it there any more; what was rejected is not there."""
        ahead = self._ahead.get(name)
        if ahead is None:
            return []
        if isinstance(event, events.StateRejected):
            del self._ahead[name]
            return []
        ahead.is_there = True
        return self._unwanted(name) if ahead.is_unwanted else []

    def _unwanted(self, name: tuple[ConnectionKey, int]) -> list[Wish]:
        """Bring back what went ahead: now, or once it is there."""
        ahead = self._ahead.get(name)
        if ahead is None:
            return []
        ahead.is_unwanted = True
        if not ahead.is_there:
            return []
        del self._ahead[name]
        return self._ship(ahead.event, ahead.key, ahead.event.target, ahead.event.origin, release=True)

    def _ship(self, event: Any, key: int, origin: str, target: str, release: bool) -> list[Wish]:
        source, destination = self._switches.get(origin), self._switches.get(target)
        if source is None or destination is None or source == destination:
            return []
        return [ShipFlow(source, destination, key, release, event.connection, event.version)]

# SPDX-License-Identifier: Apache-2.0
"""Which of the connected clients is primary (specification, section 5): the one with the highest election id.

As in bmv2's server, the next highest takes over when the primary goes away.
"""

from __future__ import annotations

import queue
import threading
from typing import Any

from .errors import Code, RefusedError, invalid, number
from .messages import StreamResponse

BACKLOG = 16_384
"""Messages that may wait for a client that does not read; further ones are dropped."""

Election = tuple[int, int]


class Connection:
    """One client's stream."""

    def __init__(self) -> None:
        self.election: Election | None = None
        self.outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def send(self, message: Any) -> bool:
        """Queue a message; False: dropped."""
        if self.outgoing.qsize() >= BACKLOG:
            return False
        self.outgoing.put(message)
        return True

    def end(self) -> None:
        """Nothing more will come."""
        self.outgoing.put(None)


class Arbitration:
    """The connections of one device, default role only."""

    def __init__(self, device: int) -> None:
        self.device = device
        self._connections: list[Connection] = []
        self._lock = threading.Lock()
        self.primary: Connection | None = None

    def update(self, connection: Connection, request: Any) -> None:
        """A MasterArbitrationUpdate from a client. Raises RefusedError: the stream ends with it."""
        if request.device_id != self.device:
            raise RefusedError(Code.NOT_FOUND, f"this is device {self.device}, not {request.device_id}")
        if request.HasField("role") and (request.role.id or request.role.name):
            raise RefusedError(Code.UNIMPLEMENTED, "roles are not supported by this target")
        election = (request.election_id.high, request.election_id.low)
        with self._lock:
            if any(other is not connection and other.election == election for other in self._connections):
                raise invalid(f"election id {election[1]} belongs to another client: choose another one")
            if connection not in self._connections:
                self._connections.append(connection)
            elif connection.election == election:
                return
            connection.election = election
            self._elect(connection)

    def remove(self, connection: Connection) -> None:
        """The client is gone."""
        with self._lock:
            if connection in self._connections:
                self._connections.remove(connection)
                self._elect(None)

    def check(self, device: int, election: Any) -> None:
        """May a request with these ids write? Raises RefusedError."""
        if device != self.device:
            raise RefusedError(Code.NOT_FOUND, f"this is device {self.device}, not {device}")
        primary = self.primary
        if primary is not None and primary.election != (election.high, election.low):
            raise RefusedError(Code.PERMISSION_DENIED, "Not primary")

    def _elect(self, changed: Connection | None) -> None:
        """Tell everybody when there is another primary, else only the one that changed."""
        before = self.primary
        self.primary = max(self._connections, key=lambda c: c.election or (0, 0), default=None)
        if self.primary is not before or changed is self.primary:
            for connection in self._connections:
                self._notify(connection)
        elif changed is not None:
            self._notify(changed)

    def _notify(self, connection: Connection) -> None:
        message = StreamResponse()
        update = message.arbitration
        update.device_id = self.device
        if self.primary is not None and self.primary.election is not None:
            update.election_id.high, update.election_id.low = self.primary.election
        if connection is self.primary:
            update.status.code, update.status.message = number(Code.OK), "Is primary"
        else:
            update.status.code, update.status.message = number(Code.ALREADY_EXISTS), "Is backup"
        connection.send(message)

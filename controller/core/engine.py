# SPDX-License-Identifier: Apache-2.0
"""The one entry to the core: ``Engine.handle(event, now)`` returns the commands to carry out, in order.

It finds the connection that an event speaks of and hands it to the state machines; it decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from controller.core import ahead, assignment, cut, drain, life, migration, mirror, status, takeover, tap, unreachable
from controller.core.commands import AnswerHost, Command
from controller.core.connection import Connection, State
from controller.core.cookie import Kind, decode_cookie
from controller.core.events import (
    AlertRaised,
    BarrierReplied,
    CommandRefused,
    DrainRequested,
    FlowRemoved,
    FlowsReported,
    HostLocated,
    IcmpErrorReceived,
    MigrationFailed,
    MigrationRequested,
    SegmentReceived,
    StateFollowed,
    StateRejected,
    StateShipped,
    StatusRequested,
    SwitchConnected,
    SwitchLost,
    TimerExpired,
)
from controller.core.facts import Recollection
from controller.core.policy import CutPolicy, Policy
from controller.core.segment import ACK, FIN, RST, SYN, ConnectionKey
from controller.core.world import World


class Engine:
    """All connections of all services behind one function without side effects on the outside."""

    def __init__(self, policy: Policy, remembered: Recollection | None = None) -> None:
        """Begin with no switch and no connection; ``remembered`` is what an earlier controller has left written."""
        self.world = World(policy)
        if remembered is not None:
            self.world.remembered.update(remembered.opened)
            self.world.completed.update(remembered.completed)
        self._handlers: dict[type, Callable[[Any], None]] = {
            SegmentReceived: self._segment,
            HostLocated: self._located,
            IcmpErrorReceived: lambda event: unreachable.translate(self.world, event),
            TimerExpired: self._timer,
            BarrierReplied: self._done,
            CommandRefused: self._refused,
            FlowRemoved: self._removed,
            FlowsReported: self._flows,
            SwitchConnected: self._connected,
            SwitchLost: self._lost,
            AlertRaised: self._alert,
            MigrationRequested: self._requested,
            DrainRequested: lambda event: drain.start(self.world, event),
            StateFollowed: lambda event: ahead.follow(self.world, event),
            StateShipped: self._state_told,
            StateRejected: self._state_told,
            StatusRequested: lambda event: status.report(self.world, event),
        }

    def handle(self, event: object, now: float) -> list[Command]:
        """Return what has to be done because of ``event`` at the monotonic time ``now``.

        Raises KeyError for a class that is no input of the core, TransitionError for a fault of the tables.
        """
        world = self.world
        world.now = now
        if not (world.readings and takeover.defers(world, event)):
            self._handlers[type(event)](event)
        if world.drains:
            drain.advance(world)
        commands, world.out = world.out, []
        return commands

    def _segment(self, event: SegmentReceived) -> None:
        segment, world = event.segment, self.world
        if assignment.passed_on(world, event):
            return
        service = world.services.get(segment.dst)
        if service is not None:
            cookie = decode_cookie(event.cookie)
            copied = cookie is not None and cookie.kind is Kind.COPY
            if segment.flags & (SYN | ACK | RST) == SYN:
                known = world.connections.get(ConnectionKey(segment.src, segment.dst))
                # Two switches in a row that both rewrite (the settings say so): it would go round and round.
                if not copied and (known is None or known.switch == event.switch):
                    life.open_connection(world, event, service)
                return
            connection = world.connections.get(ConnectionKey(segment.src, segment.dst))
            if connection is not None:
                if connection.switch == event.switch:
                    self._from_client(connection, event, copied)
                return
        key = ConnectionKey(segment.dst, segment.src)
        connection = world.targets.get(key)
        if connection is not None:
            if connection.switch == event.switch:
                self._from_target(connection, event)
            return
        connection = world.connections.get(key)
        if connection is not None and connection.switch == event.switch:
            self._from_origin(connection, event)

    def _from_client(self, connection: Connection, event: SegmentReceived, copied: bool) -> None:
        flags = event.segment.flags
        if copied and flags & RST:
            life.handle(self.world, connection, life.Input.RST, event)
        elif event.port != connection.client_port:
            return  # in the client's name, from elsewhere: numbers that nobody may go by
        elif copied:
            if flags & FIN:
                life.handle(self.world, connection, life.Input.FIN, event)
            else:
                tap.client_heard(self.world, connection, event)
                migration.handle(self.world, connection, migration.Input.CLIENT_HEARD, event)
        elif not flags & (RST | SYN):
            # A RST was copied by the watching table already; what is punted besides is the same packet.
            if connection.is_open and connection.attempt is not None:
                migration.handle(self.world, connection, migration.Input.FROM_CLIENT, event)
                return
            what = life.Input.CLIENT_DATA if event.segment.length else life.Input.CLIENT_ACK
            life.handle(self.world, connection, what, event)

    def _from_origin(self, connection: Connection, event: SegmentReceived) -> None:
        path = connection.path
        if path.server is not connection.service.origin or event.port != path.port:
            return
        if self._is_measured(connection, event):
            migration.handle(self.world, connection, migration.Input.FROM_SERVER, event)
            return
        flags = event.segment.flags
        if flags & RST:
            what = life.Input.RST
        elif flags & SYN:
            what = life.Input.ORIGIN_SYNACK
        elif flags & FIN:
            what = life.Input.FIN
        elif connection.is_open:
            tap.server_heard(self.world, connection, event)
            migration.handle(self.world, connection, migration.Input.SERVER_HEARD, event)
            return
        else:
            what = life.Input.ORIGIN_SEGMENT
        life.handle(self.world, connection, what, event)

    @staticmethod
    def _is_measured(connection: Connection, event: SegmentReceived) -> bool:
        """Return whether a packet of the serving server was handed over because its connection is being moved."""
        cookie = decode_cookie(event.cookie)
        copied = cookie is not None and cookie.kind is Kind.COPY
        return connection.is_open and connection.attempt is not None and not copied

    def _from_target(self, connection: Connection, event: SegmentReceived) -> None:
        attempt, segment = connection.attempt, event.segment
        if attempt is not None and attempt.target.endpoint == segment.src:
            if event.port != attempt.port:
                return
            if segment.flags & RST:
                what = migration.Input.RESET
            elif segment.flags & SYN:
                what = migration.Input.SYNACK
            else:
                what = migration.Input.SEGMENT
            migration.handle(self.world, connection, what, segment)
            return
        if event.port != connection.path.port:
            return
        if self._is_measured(connection, event):
            migration.handle(self.world, connection, migration.Input.FROM_SERVER, event)
            return
        cookie = decode_cookie(event.cookie)
        if cookie is None or cookie.kind is not Kind.COPY:
            self.world.release(connection, event.port, segment.frame or segment)
        elif segment.flags & RST:
            life.handle(self.world, connection, life.Input.RST, event)
        elif segment.flags & FIN:
            life.handle(self.world, connection, life.Input.FIN, event)
        else:
            tap.server_heard(self.world, connection, event)
            migration.handle(self.world, connection, migration.Input.SERVER_HEARD, event)

    def _located(self, event: HostLocated) -> None:
        world = self.world
        world.locations.learn(event.switch, event.address, event.port, event.mac)
        if event.asks is not None:
            self._asked(event, event.asks)
        for key in world.locating.pop(event.address, []):
            connection = world.connections.get(key)
            if connection is not None and connection.attempt is not None and connection.switch == event.switch:
                place = (event.port, connection.attempt.target.mac or event.mac)
                migration.handle(world, connection, migration.Input.LOCATED, place)

    def _asked(self, event: HostLocated, address: str) -> None:
        """A client asks where an origin is that has lost connections of its: it is where it was, be it dead.

        An origin that lives says the same. Without an answer the client would stop sending, though the target serves.
        """
        fellows = self.world.away.get((event.address, address), {}).values()
        connection = next((known for known in fellows if known.switch == event.switch), None)
        if connection is not None:
            place = self.world.locations.find(event.switch, address)
            mac = place.mac if place is not None else connection.service_mac
            asker = (event.address, event.mac, event.vlan)
            self.world.do(AnswerHost(event.switch, event.port, address, mac, *asker))

    def _timer(self, event: TimerExpired) -> None:
        connection = self.world.connections.get(event.connection) if event.connection is not None else None
        if connection is not None and event.kind == mirror.TIMER:
            mirror.look(self.world, connection, event.version)
            return
        if connection is None or connection.version != event.version:
            return
        if event.kind == cut.REMINDER:
            cut.remind(self.world, connection)
            return
        if event.kind == tap.TIMER:
            tap.deliver(self.world, connection)
            return
        of_life = {"verdict": life.Input.VERDICT_LATE, "half-open": life.Input.HALF_OPEN_OVER}.get(event.kind)
        if of_life is not None:
            life.handle(self.world, connection, of_life, event)  # type: ignore[arg-type]
            return
        migration.handle(self.world, connection, migration.TIMERS[event.kind], event)

    def _state_told(self, event: StateShipped | StateRejected) -> None:
        connection = self.world.connections.get(event.connection) if event.connection is not None else None
        if connection is not None and event.ahead and event.version == connection.version:
            migration.handle(self.world, connection, migration.Input.STATE, event)

    def _answered(self, token: int) -> Connection | None:
        """Return the connection whose migration waits for this token, if it still does."""
        connection = self.world.tokens.pop(token, None)
        if connection is None or connection.attempt is None or connection.attempt.token != token:
            return None
        return connection

    def _done(self, event: BarrierReplied) -> None:
        status.done(self.world, event.token)
        connection = self._answered(event.token)
        if connection is not None:
            migration.handle(self.world, connection, migration.Input.DONE, event)

    def _flows(self, event: FlowsReported) -> None:
        if not mirror.told(self.world, event) and not status.told(self.world, event):
            self._replay(takeover.reported(self.world, event))

    def _replay(self, waiting: list[object]) -> None:
        """Handle what had to wait for a switch's flows."""
        for event in waiting:
            self._handlers[type(event)](event)

    def _refused(self, event: CommandRefused) -> None:
        status.done(self.world, event.token)
        waiting = takeover.refused(self.world, event.switch, event.token)
        if waiting is not None:
            self._replay(waiting)
            return
        connection = self._answered(event.token)
        if connection is not None:
            migration.handle(self.world, connection, migration.Input.REFUSED, event.reason)

    def _removed(self, event: FlowRemoved) -> None:
        cookie = decode_cookie(event.cookie)
        connection = self.world.numbers.get(cookie.number) if cookie is not None and cookie.number else None
        if connection is not None and event.reason == "idle":
            life.handle(self.world, connection, life.Input.IDLE, event)  # type: ignore[arg-type]

    def _connected(self, event: SwitchConnected) -> None:
        world = self.world
        world.ports[event.switch] = dict(event.ports)
        assignment.connected(world, event.switch)
        takeover.begin(world, event.switch)

    def _lost(self, event: SwitchLost) -> None:
        world = self.world
        world.ports.pop(event.switch, None)
        world.readings.pop(event.switch, None)
        assignment.lost(world, event.switch)
        mirror.lost(world, event.switch)
        status.lost(world, event.switch)
        world.locations.forget_switch(event.switch)
        world.tokens = {
            token: connection for token, connection in world.tokens.items() if connection.switch != event.switch
        }

    def _requested(self, event: MigrationRequested) -> None:
        connection, server = self.world.connections.get(event.connection), self.world.policy.servers.get(event.target)
        is_policy = event.policy is None or event.policy in {policy.value for policy in CutPolicy}
        if connection is None or server is None or not is_policy or connection.state is not State.SERVED:
            what = "no such server" if server is None else "no such connection, or its verdict is still awaited"
            if not is_policy:
                what = f"there is no cut policy {event.policy!r}"
            version = 0 if connection is None else connection.version
            facts = (self.world.now, event.connection, version, event.target)
            self.world.publish(MigrationFailed(*facts, "request", what))
            return
        migration.request(self.world, connection, server, CutPolicy(event.policy) if event.policy else None)

    def _alert(self, event: AlertRaised) -> None:
        world = self.world
        if event.src is None or event.dst is None:
            return
        connection = world.connections.get(ConnectionKey(event.src, event.dst)) or world.connections.get(
            ConnectionKey(event.dst, event.src)
        )
        rule = world.policy.judge(event) if connection is not None else None
        if connection is None or rule is None:
            return
        life.judge(world, connection, rule, f"sid {event.sid}")

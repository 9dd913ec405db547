# SPDX-License-Identifier: Apache-2.0
"""Peers, a switch and the core joined by links that delay, lose, double and reorder, all in virtual time."""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from controller.core.commands import Bundle, Command, FlowAdd, Publish, WakeAt
from controller.core.engine import Engine
from controller.core.events import (
    ConnectionOpened,
    HostLocated,
    MigrationCompleted,
    SwitchConnected,
    SwitchLost,
    TimerExpired,
)
from controller.core.facts import Recollection, opened_of
from controller.core.policy import Policy
from controller.core.segment import SYN, Endpoint, Segment

from .peer import Capabilities, Peer
from .switch import SimulatedSwitch

JOURNAL_DELAY = 0.005
"""Seconds until an event is in the journal."""


@dataclass
class Faults:
    """How bad the links are: probabilities for each packet, and delays in seconds."""

    loss: float = 0.0
    duplication: float = 0.0
    delay: float = 0.000_05
    jitter: float = 0.0


class Network:
    """One switch with hosts on its ports; ``events`` keeps what the core published."""

    CONTROL_DELAY = 0.000_3

    def __init__(self, policy: Policy, random: Random, faults: Faults | None = None) -> None:
        """Begin with the switch connected and every server located."""
        self.now = 0.0
        self.random = random
        self.faults = faults or Faults()
        self.engine = Engine(policy)
        self.events: list[object] = []
        self.reports: list[object] = []
        self.peers: dict[tuple[Endpoint, Endpoint], Peer] = {}
        self.listeners: dict[Endpoint, Callable[[Endpoint], Peer]] = {}
        self.ports: dict[str, int] = {}
        self.trace: list[tuple[float, str, Segment]] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.macs: dict[str, int] = {}
        self.switch = SimulatedSwitch(1, self.macs, self._leave, self._report)
        self.control_alive = True
        self.killed_at = 0.0
        self.life = self.channel = 0
        """Count controllers and their connections with the switch: what an earlier one had on its way is lost."""
        self.located: list[tuple[str, str, int]] = []

    # ---- time -----------------------------------------------------------------------------------------------------

    def at(self, delay: float, action: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._queue, (self.now + delay, next(self._order), action))

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end

    # ---- control --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect the switch."""
        self.tell(SwitchConnected(self.now, 1, (("ids0", 99),)))

    def tell(self, event: object) -> None:
        """Give an event to the core, if it is alive, and carry its commands out."""
        if not self.control_alive:
            return
        if isinstance(event, SwitchLost):
            self.channel += 1
        for command in self.engine.handle(event, self.now):
            if isinstance(command, Publish):
                self.events.append(command.event)
            elif isinstance(command, WakeAt):
                fact = TimerExpired(command.connection, command.version, command.kind)
                self._soon(command.when - self.now, lambda fact=fact: self.tell(fact), self.life)
            else:
                do = functools.partial(self._carry_out, command)
                self._soon(self.CONTROL_DELAY, do, channel=self.channel)

    def _carry_out(self, command: Command) -> None:
        """Let the switch do it; a flow with a hard timeout leaves in time."""
        self.switch.carry_out(command)
        for change in command.changes if isinstance(command, Bundle) else (command,):
            if isinstance(change, FlowAdd) and change.hard_timeout:
                self.at(change.hard_timeout, functools.partial(self.switch.expire, change))

    def _soon(
        self, delay: float, action: Callable[[], object], life: int | None = None, channel: int | None = None
    ) -> None:
        """Do something of the controller's later, unless it has died by then, or the channel is another one."""

        def do() -> None:
            if life in (None, self.life) and channel in (None, self.channel):
                action()

        self.at(delay, do)

    def _report(self, event: object) -> None:
        self.reports.append(event)
        if self.control_alive:
            self._soon(self.CONTROL_DELAY, lambda: self.tell(event), self.life, self.channel)

    def kill(self, sent: bool = True) -> None:
        """Kill the controller: timers and memory are lost, and what is on its way, unless it counts as ``sent``."""
        self.control_alive = False
        self.killed_at = self.now
        self.life += 1
        self.channel += not sent

    def restart(self) -> None:
        """Start another controller, which knows of the first what the journal has kept."""
        self.control_alive = True
        told = [(e.connection, e.number, opened_of(e.agreed)) for e in self.events if isinstance(e, ConnectionOpened)]
        remembered = {(key, number): opened for key, number, opened in told if opened is not None}
        moves = [event for event in self.events if isinstance(event, MigrationCompleted)]
        kept = {move.connection: move.version for move in moves if move.time < self.killed_at - JOURNAL_DELAY}
        self.engine = Engine(self.engine.world.policy, Recollection(remembered, kept))
        self.life += 1
        self.channel += 1
        self.start()
        for address, mac, port in self.located:
            self.tell(HostLocated(1, port, address, mac))

    def complaints(self, *peers: Peer) -> list[str]:
        """Return what peers complained of and a network that reorders does not bring about by itself.

        A fast retransmission carries a later time than the segments before it that it overtakes: PAWS refuses these.
        """
        told = [one for peer in peers for one in peer.complaints]
        return [one for one in told if not (self.faults.jitter and one.startswith("PAWS"))]

    # ---- hosts ----------------------------------------------------------------------------------------------------

    def add_host(self, address: str, mac: str, port: int, located: bool = True) -> None:
        """Join a host to a port."""
        self.ports[address] = port
        self.macs[mac] = port
        if located:
            self.located.append((address, mac, port))
            self.tell(HostLocated(1, port, address, mac))

    def listen(self, endpoint: Endpoint, mac: str, can: Capabilities, greet: bytes = b"") -> list[Peer]:
        """Let a server accept connections; returns the list of those it gets."""
        accepted: list[Peer] = []

        def accept(client: Endpoint) -> Peer:
            peer = Peer(endpoint, client, mac, "", can, self.random.getrandbits(32), sending=greet)
            accepted.append(peer)
            return peer

        self.listeners[endpoint] = accept
        return accepted

    def dial(
        self, client: Endpoint, mac: str, server: Endpoint, server_mac: str, can: Capabilities, isn: int | None = None
    ) -> Peer:
        """Let a client connect."""
        peer = Peer(client, server, mac, server_mac, can, self.random.getrandbits(32) if isn is None else isn)
        self.peers[client, server] = peer
        peer.connect(self.now)
        self._flush(peer)
        return peer

    def act(self, peer: Peer, action: Callable[[Peer], None]) -> None:
        """Let a peer do something now."""
        action(peer)
        self._flush(peer)

    def _flush(self, peer: Peer) -> None:
        port = self.ports[peer.local.address]
        for segment in peer.drain():
            self.trace.append((self.now, "from", segment))
            self._carry(lambda segment=segment: self.switch.receive(port, segment))
        if peer.timer is not None:
            self.at(max(0.0, peer.timer - self.now), lambda: self._tick(peer))

    def _tick(self, peer: Peer) -> None:
        if peer.timer is not None and self.now >= peer.timer:
            peer.tick(self.now)
            self._flush(peer)

    def _carry(self, deliver: Callable[[], None]) -> None:
        faults = self.faults
        if self.random.random() < faults.loss:
            return
        copies = 2 if self.random.random() < faults.duplication else 1
        for _ in range(copies):
            self.at(faults.delay + self.random.random() * faults.jitter, deliver)

    def _leave(self, port: int, segment: Segment) -> None:
        self._carry(lambda: self._arrive(port, segment))

    def _arrive(self, port: int, segment: Segment) -> None:
        self.trace.append((self.now, f"port {port}", segment))
        if self.ports.get(segment.dst.address) != port:
            return
        peer = self.peers.get((segment.dst, segment.src))
        if peer is None:
            accept = self.listeners.get(segment.dst)
            if accept is None or not segment.flags & SYN:
                return
            peer = self.peers[segment.dst, segment.src] = accept(segment.src)
        peer.receive(self.now, replace(segment, frame=None))
        self._flush(peer)

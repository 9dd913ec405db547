# SPDX-License-Identifier: Apache-2.0
"""Two or more peers on a simulated network: no sockets, no clock, everything from one seed.

Used by tests, the conformance runs and the benchmark of the protocol alone.  Addresses that no host has swallow what
is sent to them, as a network does; a NAT rewrites sources.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from controller.eccp.handshake import Credentials
from controller.eccp.outputs import Datagram, Delivery, Notice, TraceRow
from controller.eccp.peer import Peer
from controller.eccp.peer_settings import PeerSettings
from controller.wire.eccp import Address


@dataclass(slots=True)
class Link:
    """What the network does to a datagram: one-way delay in seconds, and probabilities."""

    delay: float = 0.005
    loss: float = 0.0
    duplicate: float = 0.0
    jitter: float = 0.0


@dataclass(slots=True)
class Host:
    """A peer with its places on the network and what came out of it."""

    name: str
    peer: Peer
    places: set[Address] = field(default_factory=set)
    delivered: list[bytes] = field(default_factory=list)
    notices: list[tuple[float, Notice]] = field(default_factory=list)


def identity_key(seed: int) -> Ed25519PrivateKey:
    """A fixed identity for tests and simulations."""
    return Ed25519PrivateKey.from_private_bytes(random.Random(seed).randbytes(32))


def make_settings(seed: int, others: Iterable[int], **changes: object) -> PeerSettings:
    """Settings of simulated host ``seed``, which trusts the hosts ``others``; everything random comes from the seed."""
    source = random.Random(seed * 7919 + 1)
    authorized = frozenset(identity_key(other).public_key().public_bytes_raw() for other in others)
    static = X25519PrivateKey.from_private_bytes(random.Random(seed + 1000).randbytes(32))
    credentials = Credentials(static=static, identity=identity_key(seed), authorized=authorized)
    return PeerSettings(credentials=credentials, random=source.randbytes, **changes)  # type: ignore[arg-type]


class Network:
    """Delivers datagrams between hosts in simulated time."""

    def __init__(self, seed: int = 0, link: Link | None = None) -> None:
        self.now = 0.0
        self.hosts: dict[str, Host] = {}
        self.link = link or Link()
        self.nat: dict[Address, Address] = {}  # inner place -> outer place
        self.sent: list[Datagram] = []
        self.tap: Callable[[Datagram, bytes], bool] | None = None  # False: the datagram is lost
        self._random = random.Random(seed)
        self._queue: list[tuple[float, int, Address, Address, bytes]] = []
        self._order = 0

    def add(
        self,
        name: str,
        settings: PeerSettings,
        places: Iterable[Address],
        trace: Callable[[TraceRow], None] | None = None,
    ) -> Host:
        """A new host at these places."""
        host = Host(name, Peer(settings, trace), set(places))
        self.hosts[name] = host
        return host

    def send(self, datagram: Datagram) -> None:
        """Put a datagram (or each segment of a batch) on its way."""
        payload = b"".join(bytes(part) for part in datagram.parts)
        step = datagram.segment or len(payload)
        for at in range(0, len(payload), step):
            self.inject(payload[at : at + step], datagram.own, datagram.to, datagram)

    def inject(self, payload: bytes, own: Address, to: Address, datagram: Datagram | None = None) -> None:
        """Put raw bytes on their way, as from ``own``."""
        record = datagram or Datagram(own, to, (payload,))
        self.sent.append(record)
        if self.tap is not None and not self.tap(record, payload):
            return
        if datagram is not None and not any(own in host.places for host in self.hosts.values()):
            return  # the interface is gone
        copies = 1 + (self._random.random() < self.link.duplicate)
        for _ in range(copies):
            if self._random.random() < self.link.loss:
                continue
            at = self.now + self.link.delay + self._random.random() * self.link.jitter
            self._order += 1
            heapq.heappush(self._queue, (at, self._order, self.nat.get(own, own), to, payload))

    def flush(self, host: Host) -> None:
        """Collect a peer's outputs."""
        for datagram in host.peer.take_datagrams():
            self.send(datagram)
        host.delivered += [_join(delivery) for delivery in host.peer.take_deliveries()]
        host.notices += [(self.now, notice) for notice in host.peer.take_notices()]

    def run(self, seconds: float) -> None:
        """Let simulated time pass."""
        self.run_until(lambda: False, seconds)

    def run_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until the condition holds, at most ``seconds``; returns whether it does."""
        end = self.now + seconds
        for host in self.hosts.values():
            self.flush(host)
        while not condition():
            timers = [at for host in self.hosts.values() if (at := host.peer.next_timer()) is not None]
            due = min([*timers, *(entry[0] for entry in self._queue[:1]), end])
            if due >= end:
                self.now = end
                return condition()
            self.now = max(self.now, due)
            if self._queue and self._queue[0][0] <= self.now:
                _, _, source, to, payload = heapq.heappop(self._queue)
                self._arrive(source, to, payload)
            for host in self.hosts.values():
                host.peer.handle_timer(self.now)
                self.flush(host)
        return True

    def _arrive(self, source: Address, to: Address, payload: bytes) -> None:
        inner = next((a for a, outer in self.nat.items() if outer == to), to)
        for host in self.hosts.values():
            if inner in host.places:
                host.peer.receive(payload, source, inner, self.now)


def _join(delivery: Delivery) -> bytes:
    return b"".join(bytes(part) for part in delivery.parts)


def pair(seed: int = 1, link: Link | None = None, **changes: object) -> tuple[Network, Host, Host]:
    """Two hosts a (10.0.0.1) and b (10.0.0.2) that trust each other, not connected yet."""
    network = Network(seed, link)
    host_a = network.add("a", make_settings(1, [2, 3], **changes), [Address("10.0.0.1", 4500)])
    host_b = network.add("b", make_settings(2, [1, 3], **changes), [Address("10.0.0.2", 4500)])
    return network, host_a, host_b

# SPDX-License-Identifier: Apache-2.0
"""The event loop's edge: moves bytes between the peer, its UDP sockets and the TUN device, as fast as Python can."""

from __future__ import annotations

import heapq
import select
import time
from collections import Counter
from collections.abc import Callable

from controller.eccp.connection import Connection
from controller.eccp.outputs import Datagram
from controller.eccp.peer import Peer
from controller.eccp.slices import VNET_SIZE, inner_destination
from controller.eccp.transport.tun import Tun
from controller.eccp.transport.udp import SendResult, UdpSocket
from controller.wire.eccp import Address

BURST = 16  # reads from one descriptor before the others get their turn
LONGEST_WAIT = 1.0


class Loop:
    """Runs one `Peer` over real descriptors; further descriptors (netlink, control) have callbacks."""

    def __init__(self, peer: Peer, tun: Tun | None, delay: float = 0.0) -> None:
        """``delay`` seconds are added to every datagram sent: a test hook in place of a slow network."""
        self.peer = peer
        self.tun = tun
        self.sockets: dict[Address, UdpSocket] = {}
        self.routes: dict[bytes, Connection] = {}
        self.counters: Counter[str] = Counter()
        self.on_notices: Callable[[], None] = lambda: None
        self.on_too_big: Callable[[], None] = lambda: None
        self.running = True
        self._delay = delay
        self._delayed: list[tuple[float, int, Datagram]] = []
        self._order = 0
        self._epoll = select.epoll()
        self._by_fd: dict[int, UdpSocket] = {}
        self._callbacks: dict[int, Callable[[], None]] = {}
        if tun is not None:
            self._epoll.register(tun.fd, select.EPOLLIN)

    def add_socket(self, udp: UdpSocket) -> None:
        """Send from and listen at one more address."""
        self.sockets[udp.own] = udp
        self._by_fd[udp.fileno()] = udp
        self._epoll.register(udp.fileno(), select.EPOLLIN)

    def remove_socket(self, udp: UdpSocket) -> None:
        """Stop listening there."""
        self._epoll.unregister(udp.fileno())
        del self._by_fd[udp.fileno()]
        del self.sockets[udp.own]
        udp.close()

    def add_callback(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call back when the descriptor is readable."""
        self._callbacks[descriptor] = callback
        self._epoll.register(descriptor, select.EPOLLIN)

    def run(self) -> None:
        """Until ``running`` is false."""
        while self.running:
            self.run_once()

    def run_once(self, longest: float = LONGEST_WAIT) -> None:
        """Wait for something to do, and do it."""
        for descriptor, _ in self._epoll.poll(self._wait(longest)):
            if self.tun is not None and descriptor == self.tun.fd:
                self._read_tun()
            elif descriptor in self._by_fd:
                self._read_socket(self._by_fd[descriptor])
            elif descriptor in self._callbacks:
                self._callbacks[descriptor]()
        now = time.monotonic()
        self.peer.handle_timer(now)
        self.flush()
        while self._delayed and self._delayed[0][0] <= now:
            self._send(heapq.heappop(self._delayed)[2])

    def flush(self) -> None:
        """Carry out everything the peer wants."""
        for delivery in self.peer.take_deliveries():
            if self.tun is not None and not self.tun.write(delivery.parts):
                self.counters["tunnel-refused"] += 1
        for datagram in self.peer.take_datagrams():
            if self._delay:
                self._hold(datagram)
            else:
                self._send(datagram)
        self.on_notices()

    def _wait(self, longest: float) -> float:
        deadlines = [at for at in (self.peer.next_timer(),) if at is not None]
        if self._delayed:
            deadlines.append(self._delayed[0][0])
        if not deadlines:
            return longest
        return min(max(min(deadlines) - time.monotonic(), 0.0), longest)

    def _read_tun(self) -> None:
        assert self.tun is not None
        peer = self.peer
        for _ in range(BURST):
            frame = self.tun.read()
            if frame is None:
                return
            connection = self.routes.get(inner_destination(frame, VNET_SIZE))
            if connection is None or not peer.send_frame(connection, frame, time.monotonic()):
                self.counters["tunnel-unrouted"] += 1
                continue
            for datagram in peer.take_datagrams():
                if self._delay:
                    self._hold(datagram)
                else:
                    self._send(datagram)

    def _read_socket(self, udp: UdpSocket) -> None:
        peer = self.peer
        for _ in range(BURST):
            received = udp.receive()
            if received is None:
                break
            buffer, segment, source = received
            if buffer:
                peer.receive(buffer, source, udp.own, time.monotonic(), segment)
                self.flush()
            if udp.fileno() < 0:
                return
        if self.tun is not None:  # what was just delivered is usually answered at once: no need to be told so
            self._read_tun()

    def _hold(self, datagram: Datagram) -> None:
        self._order += 1
        kept = datagram._replace(parts=[bytes(part) for part in datagram.parts])
        heapq.heappush(self._delayed, (time.monotonic() + self._delay, self._order, kept))

    def _send(self, datagram: Datagram) -> None:
        udp = self.sockets.get(datagram.own)
        if udp is None:
            self.counters["send-no-socket"] += 1
            return
        result = udp.send(datagram)
        if result is not SendResult.SENT:
            self.counters[f"send-{result.value}"] += 1
            if result is SendResult.TOO_BIG:
                self.on_too_big()

    def close(self) -> None:
        """Close every descriptor."""
        for udp in list(self.sockets.values()):
            self.remove_socket(udp)
        if self.tun is not None:
            self.tun.close()
        self._epoll.close()

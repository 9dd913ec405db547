# SPDX-License-Identifier: Apache-2.0
"""An ECCP daemon: one peer, its tunnel, its sockets at every address of the host, and what to do when those change."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from controller.eccp.connection import Connection, FlowEntry
from controller.eccp.daemon_settings import DaemonSettings, Target
from controller.eccp.errors import ConfigError, LocalError
from controller.eccp.outputs import (
    ConnectionEnded,
    ConnectionEstablished,
    ConnectionFailed,
    FlowOpened,
    Notice,
    OwnMoveConfirmed,
    PathLost,
    PeerAddressValidated,
)
from controller.eccp.peer import Peer
from controller.eccp.peer_settings import PeerSettings
from controller.eccp.report import describe_connection, describe_notice
from controller.eccp.transport.loop import Loop
from controller.eccp.transport.places import Place, PlaceWatch
from controller.eccp.transport.tun import Tun
from controller.eccp.transport.udp import UdpSocket
from controller.wire.eccp import Address

logger = logging.getLogger(__name__)
RETRY_AFTER = 1.0
LOWEST_MTU = 576
HISTORY = 20_000


class Daemon:
    """Owns the loop; `emit` is told every notice as (name, facts), for the bus and for the journal."""

    def __init__(self, settings: DaemonSettings, emit: Callable[[str, dict[str, Any]], None] | None = None) -> None:
        """Open the tunnel and the sockets.  Raises `ConfigError`."""
        self.settings = settings
        self.peer = Peer(
            PeerSettings(
                credentials=settings.credentials,
                random=os.urandom,
                service=settings.service,
                sealed_data=settings.sealed_data,
                early_data=settings.early_data,
                policy=settings.policy,
                inner=tuple(address.ip for address in settings.inner),
                is_rendezvous=settings.is_rendezvous,
                keepalive=settings.keepalive,
                probe_after=settings.probe_after,
            )
        )
        self._emit = emit or (lambda name, facts: None)
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY)
        self.mtu = settings.mtu
        self._shrunk_at = 0.0
        tun = None
        if settings.inner:
            tun = Tun(f"eccp-{settings.name}"[:15])
            tun.configure(list(settings.inner), self.mtu)
        self.loop = Loop(self.peer, tun, settings.test_delay)
        self.loop.on_notices = self._take_notices
        self.loop.on_too_big = self._shrink
        self.watch = PlaceWatch(settings.interfaces, {tun.name} if tun else (), loopback=settings.loopback)
        self.loop.add_callback(self.watch.fileno(), self._places_changed)
        self.places: list[Place] = []
        self._ports: dict[Place, Address] = {}
        self._targets: dict[int, Target] = {}
        self._retry_at: dict[Target, float] = {}
        self._update_places()
        wanted = (*settings.targets, *((settings.rendezvous,) if settings.rendezvous else ()))
        self._retry_at = dict.fromkeys(wanted, 0.0)

    # ---- running ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until `stop`; then close every connection cleanly."""
        while self.loop.running:
            if self._retry_at:
                self._connect_due()
            self.loop.run_once(0.5)
        self._say_goodbye()

    def stop(self) -> None:
        """End `run` soon."""
        self.loop.running = False

    def close(self) -> None:
        """Release everything."""
        self.watch.close()
        self.loop.close()

    def _say_goodbye(self) -> None:
        now = time.monotonic()
        for connection in list(self.peer.connections.values()):
            self.peer.close(connection, now)
        self.loop.flush()
        deadline = now + 1.0
        connections = self.peer.connections
        while time.monotonic() < deadline and any(c.established and not c.ended for c in connections.values()):
            self.loop.run_once(0.1)

    def _connect_due(self) -> None:
        now = time.monotonic()
        for target, at in list(self._retry_at.items()):
            own = self._preferred(target.address)
            if at > now or own is None:
                continue
            del self._retry_at[target]
            connection = self.peer.connect(
                target.address, own, now, service=self.settings.service, expected=target.identity or None
            )
            self._targets[connection.number] = target
            if target == self.settings.rendezvous:
                self.peer.rendezvous = connection
        self.loop.flush()

    # ---- places -------------------------------------------------------------------------------------------------

    def _places_changed(self) -> None:
        self.watch.drain()
        self._update_places()

    def _update_places(self) -> None:
        """Follow the host's addresses: sockets for the new ones, moves away from the old ones."""
        places = self.watch.places()
        if places == self.places:
            return
        now = time.monotonic()
        gone = [place for place in self.places if place not in places]
        fresh = [place for place in places if place not in self._ports]
        self.places = places
        for place in fresh:
            self._open_socket(place)
        lost = [(place, own) for place in gone if (own := self._ports.pop(place, None)) is not None]
        for place, old in lost:
            for entry in [e for e in self.peer.flows.values() if e.flow.own_addr == old]:
                self._move_away(entry, place, now)
            self.loop.remove_socket(self.loop.sockets[old])
        self._homeless(now)
        self.peer.set_addresses(self._ports[place] for place in places if place in self._ports)
        self.loop.flush()

    def _open_socket(self, place: Place) -> None:
        interface = None if place.interface == "lo" else place.interface
        try:
            udp = UdpSocket(place.host, self.settings.port, interface)
        except ConfigError as error:
            logger.warning("%s", error)
            return
        self._ports[place] = udp.own
        self.loop.add_socket(udp)

    def _preferred(self, remote: Address, interface: str | None = None) -> Address | None:
        """The own address to use towards ``remote``: same IP version, on ``interface`` if it can be."""
        is_v6 = ":" in remote.host
        usable = [p for p in self.places if (":" in p.host) == is_v6 and p in self._ports]
        usable.sort(key=lambda place: place.interface != interface)
        return self._ports[usable[0]] if usable else None

    def _move_away(self, entry: FlowEntry, place: Place, now: float) -> None:
        remote = entry.flow.peer_addr or entry.flow.cand_addr
        if not isinstance(remote, Address):
            return
        own = self._preferred(remote, place.interface)
        if own is not None:
            self._move(entry, own, now)

    def _homeless(self, now: float) -> None:
        """Flows whose own address is gone and that found no other then, or that may go back to a better interface."""
        for entry in list(self.peer.flows.values()):
            remote = entry.flow.peer_addr
            if not isinstance(remote, Address) or entry.flow.own_addr in self.loop.sockets:
                continue
            own = self._preferred(remote)
            if own is not None:
                self._move(entry, own, now)

    def _move(self, entry: FlowEntry, own: Address, now: float) -> None:
        try:
            self.peer.move(entry, own, now)
        except LocalError:
            return
        self._weigh(entry)

    def _shrink(self) -> None:
        """A datagram did not fit the path: let the kernel make smaller inner packets."""
        now = time.monotonic()
        if self.loop.tun is None or self.mtu <= LOWEST_MTU or now < self._shrunk_at + 1.0:
            return  # what was cut for the larger size is still on its way
        self._shrunk_at = now
        self.mtu = max(LOWEST_MTU, self.mtu - 40)
        self.loop.tun.set_mtu(self.mtu)
        logger.warning("a datagram was larger than the path allows; the inner MTU is now %d", self.mtu)

    # ---- notices ------------------------------------------------------------------------------------------------

    def _take_notices(self) -> None:
        for notice in self.peer.take_notices():
            name, facts = describe_notice(notice)
            facts["time"] = time.monotonic()
            self._add_path(notice, facts)
            self.history.append({"event": name, **facts})
            logger.info("%s %s", name, facts)
            self._emit(name, facts)
            self._act_on(notice)

    def _add_path(self, notice: Notice, facts: dict[str, Any]) -> None:
        """A move is told with the path's two ends and the peer's identity."""
        if not isinstance(notice, OwnMoveConfirmed | PeerAddressValidated):
            return
        entry = self.peer.flows.get(notice.flow)
        facts["host"] = self.settings.name
        if entry is not None:
            facts["identity"] = entry.connection.identity.hex()
            facts["own"], facts["peer"] = str(entry.flow.own_addr), str(entry.flow.peer_addr)

    def _weigh(self, entry: FlowEntry) -> None:
        """A flow has the weight of the interface it leaves by."""
        place = next((place for place, own in self._ports.items() if own == entry.flow.own_addr), None)
        if place is not None:
            entry.weight = self.settings.weights.get(place.interface, 1.0)

    def _act_on(self, notice: Notice) -> None:
        connection = self.peer.connections.get(notice.connection)
        target = self._targets.get(notice.connection)
        if isinstance(notice, ConnectionEstablished) and connection is not None:
            self._adopt_routes(connection)
            self._add_flows(connection)
        elif isinstance(notice, ConnectionFailed | ConnectionEnded):
            if connection is not None:
                self.loop.routes = {inner: c for inner, c in self.loop.routes.items() if c is not connection}
            if target is not None and self.loop.running:
                self._retry_at[target] = time.monotonic() + RETRY_AFTER
        elif isinstance(notice, FlowOpened) and notice.flow in self.peer.flows:
            self._weigh(self.peer.flows[notice.flow])
        elif isinstance(notice, PathLost) and connection is not None:
            self._try_another_interface(connection, notice.flow)

    def _adopt_routes(self, connection: Connection) -> None:
        """Which inner addresses lead to this peer: those it claims, unless settings or another identity forbid."""
        hello = connection.hello
        configured = self.settings.peer_inner.get(connection.identity)
        claimed = configured if configured is not None else (hello.inner if hello else ())
        allowed: set[bytes] = set()
        for address in claimed:
            holder = self.loop.routes.get(address.packed)
            ours = any(address == own.ip for own in self.settings.inner)
            inside = any(address in own.network for own in self.settings.inner)
            foreign = holder is not None and holder.identity != connection.identity and not holder.ended
            if ours or foreign or not inside:
                logger.warning("the peer's inner address %s is not ours to route to it", address)
                continue
            allowed.add(address.packed)
            self.loop.routes[address.packed] = connection
        connection.allowed_inner = frozenset(allowed)

    def _add_flows(self, connection: Connection) -> None:
        """With ``multipath``: one flow more for every further interface."""
        if not self.settings.multipath or not connection.initiator:
            return
        first = connection.flows[0]
        remote = first.flow.peer_addr
        now = time.monotonic()
        for place, own in list(self._ports.items()):
            if own == first.flow.own_addr or not isinstance(remote, Address):
                continue
            if (":" in own.host) == (":" in remote.host) and place in self.places:
                self.peer.add_flow(connection, remote, own, now, backup=True)

    def _try_another_interface(self, connection: Connection, flow: int) -> None:
        entry = self.peer.flows.get(flow)
        remote = entry.flow.peer_addr if entry else None
        if entry is None or not isinstance(remote, Address):
            return
        others = [
            own
            for own in self._ports.values()
            if own != entry.flow.own_addr and (":" in own.host) == (":" in remote.host)
        ]
        if others:
            at = others.index(entry.last_tried) + 1 if entry.last_tried in others else 0
            entry.last_tried = others[at % len(others)]
            self._move(entry, entry.last_tried, time.monotonic())

    # ---- control ------------------------------------------------------------------------------------------------

    def handle_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request of the control socket; what cannot be done is answered as ``{"error": sentence}``."""
        command = request.get("command")
        if command == "status":
            return self.status()
        if command == "count":
            return {"established": sum(c.established for c in self.peer.connections.values())}
        if command == "events":
            return {"events": list(self.history)}
        if command == "down":
            self.stop()
            return {"stopping": self.settings.name}
        if command == "move":
            return self._request_move(request)
        return {"error": f"unknown command {command!r}; known: status, count, events, move, down"}

    def _request_move(self, request: dict[str, Any]) -> dict[str, Any]:
        to, flow = request.get("to"), request.get("flow")
        if not isinstance(to, str) or not isinstance(flow, str | None):
            return {"error": "a move names an interface or address (to) and may name a flow"}
        own = next((own for place, own in self._ports.items() if to in {place.interface, place.host}), None)
        if own is None:
            known = ", ".join(f"{place.interface} ({place.host})" for place in self.places)
            return {"error": f"{to} is neither an interface nor an address of this host; known: {known}"}
        entries = [e for e in self.peer.flows.values() if e.is_open and flow in {None, f"{e.local_id:016x}"}]
        if not entries:
            return {"error": f"no open flow {flow}" if flow else "no flow is open"}
        now = time.monotonic()
        for entry in entries:
            self._move(entry, own, now)
        self.loop.flush()
        return {"moved": [f"{entry.local_id:016x}" for entry in entries], "to": str(own)}

    def status(self) -> dict[str, Any]:
        """What `baton eccp status` shows."""
        return {
            "name": self.settings.name,
            "identity": self.settings.credentials.public_identity.hex(),
            "inner": [str(address) for address in self.settings.inner],
            "places": [{"interface": p.interface, "address": str(self._ports.get(p, p.host))} for p in self.places],
            "mtu": self.mtu,
            "datapath": self.peer.datapath.name,
            "connections": [describe_connection(c) for c in self.peer.connections.values()],
            "refused": dict(self.peer.refused),
            "counters": dict(self.loop.counters),
        }
